"""Hold images whose objects are localised by a label image, or by their centres alone.

All geometry is in pixels with (0, 0) the upper left corner of the first pixel, whose middle is (.5, .5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import find_objects

from shared.datasets.catalogue import DatasetError

UNKNOWN = "unknown"  # class of objects whose class nobody gave
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Localised:
    """Hold n images with M objects.

    Attributes
    ----------
    name : of the set.
    names : of the images.
    groups : slide or patient of each image; no group is in two splits.
    official : "train", "validation" or "test" of each image where the release says so, else None.
    images : (H, W, 3) uint8 each; sizes may differ.
    labels : (H, W) int32 each, the number of the object at a pixel, from 1 within the image, 0 = none; None where
        only centres or boxes are known.
    offsets : (n + 1,) int64; the objects of image i are rows offsets[i]:offsets[i + 1] of what follows.
    numbers : (M,) int64, the object's number in its label image.
    centres : (M, 2) float32, row and column.
    boxes : (M, 4) float32, top, left, bottom and right (half-open) within the image; of no area where unknown.
    classes : (M,) int64, places in class_names.
    simulated : stands in for real images.
    """

    name: str
    names: tuple[str, ...]
    groups: tuple[str, ...]
    official: tuple[str, ...] | None
    images: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...] | None
    offsets: np.ndarray
    numbers: np.ndarray
    centres: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    simulated: bool = False

    def sha256(self) -> str:
        """Return the hexadecimal digest of all content; hashed once."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        said = (self.name, self.names, self.groups, self.official, self.class_names, self.simulated)
        digest = hashlib.sha256(repr(said).encode())
        tables = (self.offsets, self.numbers, self.centres, self.boxes, self.classes)
        for array in (*self.images, *(self.labels or ()), *tables):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def owners(self) -> np.ndarray:
        """Return (M,) int64: the image of each object."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.offsets))

    def masks(self, i: int, wanted: np.ndarray) -> np.ndarray:
        """Return (H, W) bool: the union of those objects of image i that ``wanted`` (M,) bool marks."""
        assert self.labels is not None, "objects known by their centres have no pixels"
        rows = slice(self.offsets[i], self.offsets[i + 1])
        # Not every object has a pixel: of two at one place, the second has none.
        most = max(self.labels[i].max(initial=0), self.numbers[rows].max(initial=0))
        table = np.zeros(int(most) + 1, bool)
        table[self.numbers[rows]] = wanted[rows]
        return table[self.labels[i]]


def of_labels(
    name: str,
    names: Sequence[str],
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    *,
    groups: Sequence[str] | None = None,
    official: Sequence[str] | None = None,
    classes: Sequence[np.ndarray] | None = None,
    class_names: Sequence[str] = ("object",),
    simulated: bool = False,
) -> Localised:
    """Return images with their label images; centres are centroids, boxes are tight.

    Parameters
    ----------
    images, labels : (H, W, 3) uint8 and (H, W) of whole numbers each.
    groups : by default each image is a group of its own.
    classes : the class of each object of each image, (k,) each, by rising number; by default all are of the first.

    Raises
    ------
    DatasetError
        If an image and its label image differ in size, or a label image has negative numbers; it names the image.
    """
    labels = [np.asarray(label, np.int32) for label in labels]
    for image, label, which in zip(images, labels, names, strict=True):
        if image.shape[:2] != label.shape:
            raise DatasetError(
                f"{name}: {which}: the label image has {label.shape} pixels, the image {image.shape[:2]}; "
                "they must be of one size"
            )
        if label.min(initial=0) < 0:
            raise DatasetError(f"{name}: {which}: the label image holds {label.min()}; number objects from 1")
    numbers, centres, boxes = zip(*map(objects, labels), strict=True) if len(labels) else ((), (), ())
    of_image = [np.zeros(len(found), np.int64) for found in numbers] if classes is None else classes
    for which, found, given in zip(names, numbers, of_image, strict=True):
        if len(found) != len(given):
            raise DatasetError(f"{name}: {which} has {len(found)} objects but {len(given)} classes")
    return Localised(
        name=name,
        names=tuple(names),
        groups=tuple(names if groups is None else groups),
        official=None if official is None else tuple(official),
        images=tuple(images),
        labels=tuple(labels),
        offsets=offsets([len(found) for found in numbers]),
        numbers=_joined(numbers, (), np.int64),
        centres=_joined(centres, (2,), np.float32),
        boxes=_joined(boxes, (4,), np.float32),
        classes=_joined(of_image, (), np.int64),
        class_names=tuple(class_names),
        simulated=simulated,
    )


def objects(label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rising numbers (k,) int64, centroids (k, 2) and boxes (k, 4) float32 of a label image's objects."""
    found = [(number, place) for number, place in enumerate(find_objects(label), 1) if place]
    numbers = np.array([number for number, _ in found], np.int64)
    boxes = np.array([(r.start, c.start, r.stop, c.stop) for _, (r, c) in found], np.float32).reshape(-1, 4)
    flat = label.ravel()
    foreground = np.flatnonzero(flat != 0)
    at, (rows, columns) = flat[foreground], np.divmod(foreground, label.shape[1])
    areas = np.bincount(at)[numbers]
    centres = [np.bincount(at, places + 0.5)[numbers] / areas for places in (rows, columns)]
    return numbers, np.stack(centres, 1).astype(np.float32), boxes


def keys(data: Localised) -> list[tuple[str, int]]:
    """Return (image name, number) of each of the M objects."""
    return [(data.names[i], number) for i, number in zip(data.owners().tolist(), data.numbers.tolist(), strict=True)]


def offsets(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return (n + 1,) int64 of the counts of n images."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _joined(parts: Sequence[np.ndarray], shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros((0, *shape), dtype), *parts]).astype(dtype)
