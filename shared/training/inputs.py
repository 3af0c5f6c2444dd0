"""Inputs: what a network reads, kept on one device; images as uint8, augmented where they lie."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Inputs:
    """N inputs on one device.

    Images, (N, H, W, C) uint8, become standardised (n, C, H, W) float32 in channels-last memory; anything else is
    cast to float32 as it is.

    Parameters
    ----------
    array : the inputs, a NumPy array (memory-mapped or not) or a tensor; moved to `device` once.
    standardise : (mean, std) of the channels, in pixel units; see `channel_statistics`.
    augment : bool
        Shift each image by -1, 0 or 1 pixel along both axes (zeros come in) and flip it left to right with
        probability 1/2, anew in every batch that asks for it. Source: Dulac-Arnold et al. 2019, Section 4.1;
        "flipped on the vertical axis" is read as the left-right flip.
    """

    def __init__(self, array, device: torch.device, standardise=None, augment: bool = False):
        if isinstance(array, np.ndarray):
            array = _as_tensor(array)
        self.images = array.dtype == torch.uint8 and array.ndim == 4
        self.augment = augment and self.images
        self.device = device
        self.array = array.to(device)
        if self.images:
            mean, std = standardise or channel_statistics(self.array)
            self.mean, self.std = (torch.as_tensor(v, dtype=torch.float32, device=device) for v in (mean, std))
            # One black pixel all around, so that shifting is one gather.
            self.array = torch.nn.functional.pad(self.array, (0, 0, 1, 1, 1, 1))

    def __len__(self) -> int:
        return len(self.array)

    def batch(self, indices: np.ndarray, seed: int | None = None) -> Tensor:
        """The inputs numbered `indices`; augmented, where that is on, when a `seed` is given."""
        index = torch.from_numpy(np.ascontiguousarray(indices))
        if not self.images:
            return self.array.index_select(0, index.to(self.device)).float()
        height, width = self.array.shape[1] - 2, self.array.shape[2] - 2
        rows = torch.arange(1, height + 1).expand(len(index), height)
        columns = torch.arange(1, width + 1).expand(len(index), width)
        if self.augment and seed is not None:
            # Drawn on the host: every device sees the same augmentation.
            rng = torch.Generator().manual_seed(seed)
            shift = torch.randint(-1, 2, (2, len(index), 1), generator=rng)
            flip = torch.randint(2, (len(index), 1), generator=rng).bool()
            rows = rows + shift[0]
            columns = torch.where(flip, columns.flip(1), columns) + shift[1]
        index, rows, columns = (t.to(self.device, non_blocking=True) for t in (index, rows, columns))
        x = self.array[index[:, None, None], rows[:, :, None], columns[:, None, :]]
        return ((x.float() - self.mean) / self.std).permute(0, 3, 1, 2)


def _as_tensor(array: np.ndarray) -> Tensor:
    """A tensor over the same memory; read-only maps are shared, for nothing here writes to them."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(array))


def channel_statistics(images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of (N, H, W, C) uint8 images, in pixel units.

    From the histogram of the values: exact, and without a float copy of the images.
    """
    images = _as_tensor(images) if isinstance(images, np.ndarray) else images
    values = torch.arange(256, dtype=torch.float64)
    mean, std = [], []
    for channel in range(images.shape[-1]):
        share = torch.bincount(images[..., channel].flatten(), minlength=256).double().cpu()
        share /= share.sum()
        centre = (share * values).sum()
        mean.append(float(centre))
        std.append(float((share * (values - centre) ** 2).sum().sqrt()) or 1.0)
    return mean, std
