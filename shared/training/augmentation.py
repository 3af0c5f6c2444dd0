"""Augment images by draws on the host, so that every device sees the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Say what may happen to an image in a batch; the defaults change nothing.

    Attributes
    ----------
    shift : by -shift..shift pixels along both axes; zeros come in.
    flip : left to right, with probability 1/2.
    blur : Gaussian, its standard deviation uniform on 0..blur pixels, 5x5 pixels at most; for half of the images.
    colour : brightness, contrast and saturation, each times a number uniform on 1 - colour..1 + colour.
    """

    shift: int = 0
    flip: bool = False
    blur: float = 0.0
    colour: float = 0.0

    def places(
        self, n: int, height: int, width: int, rng: torch.Generator | None, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """Draw rows (n, height) and columns (n, width) to read from images with a border of `shift` pixels.

        They are on `device`, to which only what was drawn is sent; without a generator nothing is moved or flipped.
        """
        rows = torch.arange(self.shift, self.shift + height, device=device).expand(n, height)
        columns = torch.arange(self.shift, self.shift + width, device=device).expand(n, width)
        if rng is None:
            return rows, columns
        if self.shift:
            moves = torch.randint(-self.shift, self.shift + 1, (2, n, 1), generator=rng)
            moves = moves.to(device, non_blocking=True)
            rows = rows + moves[0]
        if self.flip:
            flips = torch.randint(2, (n, 1), generator=rng).bool().to(device, non_blocking=True)
            columns = torch.where(flips, columns.flip(1), columns)
        return rows, columns + moves[1] if self.shift else columns

    def pixels(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Blur and colour (n, C, H, W) float images in 0..255."""
        n = len(x)
        if self.colour:
            factors = 1 + self.colour * (2 * torch.rand(3, n, 1, 1, 1, generator=rng) - 1)
            brightness, contrast, saturation = factors.to(x.device, non_blocking=True)
            x = (x * brightness).clamp(0, 255)
            mean = x.mean((1, 2, 3), keepdim=True)
            x = (mean + (x - mean) * contrast).clamp(0, 255)
            grey = x.mean(1, keepdim=True)
            x = (grey + (x - grey) * saturation).clamp(0, 255)
        if self.blur:
            width = self.blur * torch.rand(n, generator=rng) * torch.randint(2, (n,), generator=rng)
            x = _blurred(x, width)
        return x


def _blurred(x: Tensor, width: Tensor) -> Tensor:
    """(n, C, H, W) images under Gaussians of standard deviations (n,), cut off at two pixels; 0 changes nothing."""
    steps = torch.arange(-2.0, 3.0)
    weights = torch.exp(-(steps**2) / (2 * width[:, None].clamp_min(1e-3) ** 2))
    weights = weights / weights.sum(1, keepdim=True)
    weights = weights.to(x.device, non_blocking=True)[..., None, None, None]
    height, length = x.shape[2:]
    padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
    zero = x.new_zeros(())
    across = sum((weights[:, k] * padded[..., k : k + length] for k in range(5)), zero)
    return sum((weights[:, k] * across[..., k : k + height, :] for k in range(5)), zero)
