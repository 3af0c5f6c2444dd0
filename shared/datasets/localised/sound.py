"""Refuse label images whose numbers are no objects: binary masks, class maps, inverted masks, at any bit depth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from shared.datasets.catalogue import DatasetError
from shared.datasets.localised.localised import Localised

# Of 95 images of TNBC, MoNuSeg and CPM15 none has more than 1.03 parts a number, or an object above .012 of its area.
PARTS = 1.5  # connected parts for each number, in an image or in the whole set
SHARE = 0.25  # of an image that an object may cover
TOUCHING = np.ones((3, 3), int)  # pixels that share a corner are connected


def parts_of(label: np.ndarray) -> int:
    """Return how many connected parts the objects of a label image (H, W) have, all together."""
    places = enumerate(ndimage.find_objects(label), 1)
    return sum(ndimage.label(label[place] == number, TOUCHING)[1] for number, place in places if place)


def check_labels(data: Localised, place: Path, large: bool = False) -> None:
    """Refuse a set, read from `place`, that has no object, or whose label images do not number its objects.

    Parameters
    ----------
    large : whether an object may cover more than `SHARE` of its image.

    Raises
    ------
    DatasetError
        Naming the place, the image, the number or how many there are, and what to do.
    """
    if not len(data.classes):
        what = "their label images hold 0 alone" if data.labels is not None else "objects.csv has no row"
        raise DatasetError(f"{place}: its {len(data.names)} images have not one object, {what}; complete the set")
    if data.labels is None:
        return
    remedy = "a label image holds 0 where no object is, and for each object a number of its own"
    found = []
    for which, label, start, end in zip(data.names, data.labels, data.offsets[:-1], data.offsets[1:], strict=True):
        areas = np.bincount(label.ravel(), minlength=2)[1:]
        if areas.max() > SHARE * label.size and not large:
            raise DatasetError(
                f"{place}: the label image of {which}: number {areas.argmax() + 1} covers "
                f"{areas.max() / label.size:.0%} of it, as in an inverted mask, a map of classes or of tissue; "
                f"{remedy}; if it is one object, as in a crop of one cell, run: python -m shared.datasets fetch "
                f"{data.name} --large-objects"
            )
        found.append((parts_of(label), int(end - start), which))
        parts, numbers, _ = found[-1]
        if parts > PARTS * numbers and parts > numbers + 1:
            raise DatasetError(_of_parts(parts, numbers, f"{place}: the label image of {which}", remedy))
    parts, numbers = sum(one[0] for one in found), sum(one[1] for one in found)
    if parts > PARTS * numbers:
        worst = max(found, key=lambda one: one[0] - one[1])[2]
        raise DatasetError(_of_parts(parts, numbers, f"{place}: the label images, as that of {worst}", remedy))


def _of_parts(parts: int, numbers: int, where: str, remedy: str) -> str:
    return (
        f"{where}: {parts} separate parts have {numbers} numbers, as in a binary mask or a map of classes; {remedy} "
        "(scipy.ndimage.label numbers the parts of a binary mask)"
    )


def about(data: Localised) -> Iterator[str]:
    """Yield what a person can see at a glance whether a set was read as it is."""
    counts = np.diff(data.offsets)
    yield f"objects an image {_spread(counts)}"
    if data.labels is not None:
        areas = np.concatenate([np.bincount(label[label > 0]) for label in data.labels] or [np.zeros(0, int)])
        shares = [np.count_nonzero(label) / label.size for label in data.labels]
        if len(areas[areas > 0]):
            yield f"median area {np.median(areas[areas > 0]):g} pixels"
        yield f"foreground {_spread(100 * np.array(shares), '.1f')} % of an image"
    if data.official is not None:
        yield ", ".join(f"{data.official.count(split)} {split}" for split in dict.fromkeys(data.official))


def _spread(values: np.ndarray, form: str = "g") -> str:
    if not len(values):
        return "none"
    return f"{values.min():{form}} to {values.max():{form}} (median {np.median(values):{form}})"
