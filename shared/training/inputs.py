"""Keep what a network reads on one device; images as uint8, augmented where they lie."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shared.training.augmentation import Augmentation

WIDENED = 2**25  # numbers in half precision, at most, that are held in single precision: 128 MiB


class Inputs:
    """Hold N inputs on one device.

    Images, (N, H, W, C) uint8, become standardised (n, C, H, W) float32 in channels-last memory; anything else is
    cast to float32 as it is.

    Parameters
    ----------
    array : the inputs, a NumPy array (memory-mapped or not) or a tensor; moved to `device` once.
    standardise : (mean, std) of the channels, in pixel units; see `channel_statistics`.
    augment : what happens to images, anew in every batch that asks for it; nothing unless told.
    """

    def __init__(self, array, device: torch.device, standardise=None, augment: Augmentation | None = None):
        if isinstance(array, np.ndarray):
            array = _as_tensor(array)
        self.images = array.dtype == torch.uint8 and array.ndim == 4
        self.augment = (augment or Augmentation()) if self.images else Augmentation()
        self.device = device
        if array.dtype == torch.float16 and array.numel() <= WIDENED:
            array = array.float()  # once, not in every batch
        self.array = array.to(device)
        if self.images:
            mean, std = standardise or channel_statistics(self.array)
            self.mean, self.std = (torch.as_tensor(v, dtype=torch.float32, device=device) for v in (mean, std))
            # A black border, so that shifting is one gather.
            self.array = torch.nn.functional.pad(self.array, (0, 0, *[self.augment.shift] * 4))

    def __len__(self) -> int:
        return len(self.array)

    def batch(self, indices: np.ndarray, seed: int | None = None) -> Tensor:
        """Return the inputs numbered `indices`; augmented, where that is on, when a `seed` is given."""
        index = torch.from_numpy(np.ascontiguousarray(indices)).to(self.device, non_blocking=True)
        if not self.images:
            return self.array.index_select(0, index).float()
        border = self.augment.shift
        height, width = self.array.shape[1] - 2 * border, self.array.shape[2] - 2 * border
        rng = None if seed is None else torch.Generator().manual_seed(seed)
        rows, columns = self.augment.places(len(index), height, width, rng, self.device)
        x = self.array[index[:, None, None], rows[:, :, None], columns[:, None, :]].float()
        if rng and (self.augment.blur or self.augment.colour):
            x = self.augment.pixels(x.permute(0, 3, 1, 2), rng).permute(0, 2, 3, 1)
        return ((x - self.mean) / self.std).permute(0, 3, 1, 2)


def _as_tensor(array: np.ndarray) -> Tensor:
    """A tensor over the same memory; read-only maps are shared, for nothing here writes to them."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(array))


def channel_statistics(images) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel of (N, H, W, C) uint8 images, in pixel units.

    They come from the histogram of the values: exact, and without a float copy of the images.
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
