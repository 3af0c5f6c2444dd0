"""Nobody trained these features: whitened patches against a random dictionary (after Coates, Lee & Ng 2011).

Every 5x5 patch is normalised (mean, standard deviation), whitened, and compared with patches drawn from the
training images; a two-sided soft threshold and average pooling over the four quadrants leave 8 numbers for each
filter. It is a stand-in for a trained backbone that two CPU cores can afford, and named so wherever it is used.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class PatchFeatures:
    """Compare patches with a fitted dictionary.

    Parameters
    ----------
    filters : (D, C, P, P) float32, whitened and freed of their mean: what a patch is compared with.
    shift : (D,) float32, the whitened mean patch's response.
    """

    def __init__(self, filters: Tensor, shift: Tensor, noise: float = 10.0, threshold: float = 1.0):
        self.filters, self.shift, self.noise, self.threshold = filters, shift, noise, threshold

    @classmethod
    def fit(
        cls, images: Tensor, n_filters: int = 256, patch: int = 5, n_patches: int = 20_000, seed: int = 0
    ) -> PatchFeatures:
        """Fit whitening and dictionary to random patches of `images`, (N, H, W, C) uint8."""
        rng = torch.Generator().manual_seed(seed)
        n, height, width, channels = images.shape
        i = torch.randint(n, (n_patches,), generator=rng)
        r = torch.randint(height - patch + 1, (n_patches,), generator=rng)
        c = torch.randint(width - patch + 1, (n_patches,), generator=rng)
        step = torch.arange(patch)
        rows, columns = (r[:, None] + step)[:, :, None], (c[:, None] + step)[:, None, :]
        patches = images[i[:, None, None], rows, columns].reshape(n_patches, -1).double()
        noise = 10.0
        patches = (patches - patches.mean(1, keepdim=True)) / (patches.var(1, keepdim=True) + noise).sqrt()
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        whiten = vectors @ torch.diag((values + 0.1).rsqrt()) @ vectors.T
        words = ((patches - mean) @ whiten)[torch.randperm(n_patches, generator=rng)[:n_filters]]
        response = whiten @ (words / words.norm(dim=1, keepdim=True)).T  # (P*P*C, D)
        shift = mean @ response
        filters = (response - response.mean(0)).T.reshape(-1, patch, patch, channels).permute(0, 3, 1, 2)
        return cls(filters.float().contiguous(memory_format=torch.channels_last), shift.float(), noise)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the (N, 8 D) float32 features of (N, H, W, C) uint8 images."""
        n_filters, channels, patch, _ = self.filters.shape
        n_values = channels * patch * patch
        x = images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
        area = patch * patch
        total = F.avg_pool2d(x.sum(1, keepdim=True), patch, 1) * area
        squares = F.avg_pool2d((x * x).sum(1, keepdim=True), patch, 1) * area
        variance = (squares - total * total / n_values) / (n_values - 1)
        responses = F.conv2d(x, self.filters).permute(0, 2, 3, 1)
        n, height, width, _ = responses.shape
        y = responses.reshape(n, height * width, n_filters)
        y = y.mul_((variance + self.noise).rsqrt().reshape(n, -1, 1)).sub_(self.shift)
        y = F.softshrink(y, self.threshold)
        # With s = softshrink: its positive and negative parts are (|s| + s) / 2 and (|s| - s) / 2.
        quadrants = _quadrants(height, width)
        signed, absolute = quadrants @ y, quadrants @ y.abs_()
        return torch.cat([(absolute + signed).flatten(1), (absolute - signed).flatten(1)], 1) / 2


def _quadrants(height: int, width: int) -> Tensor:
    """(4, height * width): the averages over four quadrants as a matrix, whose product is the fastest pooling."""
    rows, columns = ((torch.arange(2 * (n // 2)) // (n // 2)) for n in (height, width))
    table = torch.full((height, width), -1)
    table[: len(rows), : len(columns)] = 2 * rows[:, None] + columns
    inside = (table.flatten() == torch.arange(4)[:, None]).float()
    return inside / inside.sum(1, keepdim=True)
