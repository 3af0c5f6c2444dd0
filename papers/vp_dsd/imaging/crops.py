"""Crop periodic images around cells."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def crops(images: Tensor, offsets: np.ndarray, centres: np.ndarray, size: int) -> Tensor:
    """Return (M, C, size, size) windows of periodic images (n, C, H, W), a cell's nearest pixel at ``size // 2``.

    Parameters
    ----------
    offsets : (n + 1,) image i has the cells ``offsets[i]`` to ``offsets[i + 1]``.
    centres : (M, 2) row and column of each cell, in pixels.

    Raises
    ------
    ValueError
        When a centre is not finite, naming the image, or cells and images do not fit each other.
    """
    n, _, height, width = images.shape
    if len(offsets) != n + 1 or offsets[0] != 0 or offsets[-1] != len(centres) or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets must run from 0 to the {len(centres)} centres over {n} images, got {offsets}")
    if not 1 <= size <= min(height, width):
        raise ValueError(f"crops of {size} pixels do not fit images of {height}x{width}")
    image = np.repeat(np.arange(n), np.diff(offsets))
    lost = np.flatnonzero(~np.isfinite(centres).all(1))
    if len(lost):
        raise ValueError(f"centre {centres[lost[0]]} in image {image[lost[0]]} is not finite; remove the cell")
    first = torch.from_numpy(np.rint(centres).astype(np.int64) - size // 2)
    step = torch.arange(size)
    rows, columns = (first[:, :1] + step) % height, (first[:, 1:] + step) % width
    number, rows, columns = (t.to(images.device) for t in (torch.from_numpy(image), rows, columns))
    return images.permute(0, 2, 3, 1)[number[:, None, None], rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
