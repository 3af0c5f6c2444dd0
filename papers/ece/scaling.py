"""Bring a set to the scale of a run: reduced by a whole factor, discs for objects known by their centres alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shared.datasets.localised.localised import Localised, keys, offsets


def scaled(data: Localised, factor: int) -> Localised:
    """Reduce every image by a whole factor: block averages, every ``factor``-th label, geometry divided.

    Rows and columns that do not fill a block are cut off, and with them the objects that leave no pixel in the label
    image (without label images: those whose centre is cut off). Numbers stay, so `origins` finds an object again.
    """
    if factor < 1 or factor != int(factor):
        raise ValueError(f"the scale is {factor} where a whole number from 1 is needed")
    if factor == 1:
        return data
    images = tuple(_block_means(image, factor) for image in data.images)
    sizes = np.array([image.shape[:2] for image in images], np.float32).reshape(-1, 2)
    limits = np.repeat(sizes, np.diff(data.offsets), 0)
    labels = None
    if data.labels is None:
        inside = data.centres / factor < limits
        kept = inside[:, 0] & inside[:, 1]
    else:
        pairs = zip(data.labels, images, strict=True)
        labels = tuple(_coarser(label, image.shape[:2], factor) for label, image in pairs)
        kept = np.concatenate([_present(data, i, label) for i, label in enumerate(labels)] or [np.zeros(0, bool)])
    limits = limits[kept]
    counts = [kept[start:end].sum() for start, end in zip(data.offsets[:-1], data.offsets[1:], strict=True)]
    return replace(
        data,
        images=images,
        labels=labels,
        offsets=offsets(counts),
        numbers=data.numbers[kept],
        centres=np.minimum(data.centres[kept] / np.float32(factor), limits),
        boxes=np.minimum(data.boxes[kept] / np.float32(factor), np.tile(limits, 2)),
        classes=data.classes[kept],
    )


def with_discs(data: Localised, radius: float) -> Localised:
    """Give a set known by centres discs as label images and, where it knows no box, squares of side 2 ``radius``.

    A pixel belongs to the nearest centre within ``radius``, of equally near ones to the first. An object whose centre
    is another's has no pixel, and stays.
    """
    if not radius > 0:
        raise ValueError(f"the radius of discs is {radius} where a positive number of pixels is needed")
    labels = []
    boxes = np.empty((len(data.centres), 4), np.float32)
    for i, image in enumerate(data.images):
        rows = slice(data.offsets[i], data.offsets[i + 1])
        size = np.array(image.shape[:2], np.float32)
        boxes[rows, :2] = np.maximum(data.centres[rows] - radius, 0)
        boxes[rows, 2:] = np.minimum(data.centres[rows] + radius, size)
        given = (data.boxes[rows, :2] < data.boxes[rows, 2:]).all(1, keepdims=True)
        boxes[rows] = np.where(given, data.boxes[rows], boxes[rows])
        labels.append(_discs(data.centres[rows], data.numbers[rows], radius, image.shape[:2]))
    return replace(data, labels=tuple(labels), boxes=boxes)


def origins(part: Localised, whole: Localised) -> np.ndarray:
    """Return (M,) int64: the row in ``whole`` of each object of ``part``, by image name and number (see `scaled`)."""
    known = {key: row for row, key in enumerate(keys(whole))}
    return np.array([known[key] for key in keys(part)], np.int64)


def _discs(centres: np.ndarray, numbers: np.ndarray, radius: float, size: tuple[int, int]) -> np.ndarray:
    label = np.zeros(size, np.int32)
    nearest = np.full(size, np.inf, np.float32)
    starts = np.maximum(np.floor(centres - radius), 0).astype(int)
    stops = np.ceil(centres + radius).astype(int)
    for (row, column), (top, left), (bottom, right), number in zip(centres, starts, stops, numbers, strict=True):
        window = np.s_[top:bottom, left:right]
        height, width = label[window].shape
        down = np.arange(top, top + height, dtype=np.float32)[:, None] + np.float32(0.5) - row
        across = np.arange(left, left + width, dtype=np.float32) + np.float32(0.5) - column
        distance = down**2 + across**2
        mine = (distance <= radius**2) & (distance < nearest[window])
        label[window][mine] = number
        nearest[window][mine] = distance[mine]
    return label


def _block_means(image: np.ndarray, factor: int) -> np.ndarray:
    height, width = image.shape[0] // factor, image.shape[1] // factor
    if not height or not width:
        raise ValueError(f"an image of {image.shape[0]}x{image.shape[1]} pixels cannot be reduced {factor} times")
    image = image[: height * factor, : width * factor]
    sums = np.zeros((height, width, 3), np.uint32)
    for place in np.ndindex(factor, factor):
        sums += image[place[0] :: factor, place[1] :: factor]
    return ((sums + factor**2 // 2) // factor**2).astype(np.uint8)


def _coarser(label: np.ndarray, size: tuple[int, int], factor: int) -> np.ndarray:
    height, width = size
    return np.ascontiguousarray(label[: height * factor : factor, : width * factor : factor])


def _present(data: Localised, i: int, label: np.ndarray) -> np.ndarray:
    """Return (k,) bool: which objects of image i have a pixel in ``label``."""
    numbers = data.numbers[data.offsets[i] : data.offsets[i + 1]]
    return np.bincount(label.ravel(), minlength=numbers.max(initial=0) + 1)[numbers] > 0
