"""Draw random square crops with flips, of images of different sizes and of the boxes in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """A window crops `side` pixels from row `top` and column `left`, then turns the crop over along its axes `flips`.

    Attributes
    ----------
    flips : some of -2 (rows) and -1 (columns).
    """

    top: int
    left: int
    side: int
    flips: tuple[int, ...] = ()


def draw(sizes: Sequence[tuple[int, int]], side: int) -> list[Window]:
    """Draw one uniform window inside each image of (height, width) from torch's global generator of the host.

    Raises
    ------
    ValueError
        When an image is smaller than the crop, naming its place in `sizes`: nothing is padded.
    """
    for i, (height, width) in enumerate(sizes):
        if min(height, width) < side:
            raise ValueError(
                f"image {i} of the batch has {height} x {width} pixels, less than a crop of {side}: choose a smaller"
            )
    windows = []
    for (height, width), (row, column, *turned) in zip(sizes, torch.rand(len(sizes), 4).tolist(), strict=True):
        flips = tuple(axis for axis, turn in zip((-2, -1), turned, strict=True) if turn < 0.5)
        windows.append(Window(int(row * (height - side + 1)), int(column * (width - side + 1)), side, flips))
    return windows


def cut(array: Tensor, window: Window) -> Tensor:
    """Return (..., side, side) of (..., H, W)."""
    return _within(array, window).flip(window.flips)


def paste(array: Tensor, window: Window, values: Tensor) -> None:
    """Write (..., side, side) values back to where `cut` took them from, in place."""
    _within(array, window).copy_(values.flip(window.flips))


def shift_boxes(boxes: Tensor, window: Window) -> Tensor:
    """Return boxes in pixels of the crop, clipped to it; those whose centre is outside are dropped.

    Parameters
    ----------
    boxes : (M, 4) top, left, bottom, right in pixels of the image, half-open.

    Returns
    -------
    (m, 4), m <= M, in their order.
    """
    side = window.side
    shifted = boxes - torch.tensor([window.top, window.left] * 2, dtype=boxes.dtype, device=boxes.device)
    centres = (shifted[:, :2] + shifted[:, 2:]) / 2
    shifted = shifted[((centres >= 0) & (centres < side)).all(1)].clamp(0, side)
    top, left, bottom, right = shifted.unbind(1)
    if -2 in window.flips:
        top, bottom = side - bottom, side - top
    if -1 in window.flips:
        left, right = side - right, side - left
    return torch.stack([top, left, bottom, right], 1)


def _within(array: Tensor, window: Window) -> Tensor:
    rows, columns = (slice(start, start + window.side) for start in (window.top, window.left))
    return array[..., rows, columns]
