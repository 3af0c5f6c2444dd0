"""Which images train, validate and test, and nested subsets of annotations (paper, Section 4).

Every smaller subset lies in every larger one, for an object enters at its own fraction: the subset of the fraction f
is all objects with entry <= f. In an image with n objects the entries are (rank + u) / n in a seeded order, so f keeps
f n of them, rounded up or down; the u of the images are spread evenly over (0, 1], so the roundings even out: each
object is in with the probability f, and so is about this share of all, even where images hold one object each.
"""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import TextIO

import numpy as np

from shared.datasets.localised.localised import SPLITS, Localised, keys
from shared.datasets.catalogue import DatasetError
from shared.training.seeds import axis_seed

TRAIN, VALIDATION, TEST = range(len(SPLITS))
FOLDS = 5
TOLERANCE = 1e-9
COLUMNS = ("image", "number", "row", "column", "class", "entry")


def splits(data: Localised, number: int) -> np.ndarray:
    """The split of each image, (n,) int64: 0 train, 1 validation, 2 test; no group is in two.

    The groups are dealt to `FOLDS` folds, or one each if they are fewer, of about as many images. Fold ``number mod
    FOLDS`` is for test, the next for validation: the first `FOLDS` numbers have no test image in common, then the
    groups are dealt anew.

    Where the release says which images are for test (and validation), it is obeyed; the folds are of what it leaves.

    Raises
    ------
    DatasetError
        If a group is in two official splits, or too few groups leave a split empty.
    """
    groups, of = np.unique(data.groups, return_inverse=True)
    official = data.official or ("train",) * len(data.names)
    result = np.array([SPLITS.index(split) for split in official], np.int64)
    for group, name in enumerate(groups.tolist()):
        if len(set(result[of == group])) > 1:
            said = ", ".join(sorted({official[i] for i in np.flatnonzero(of == group)}))
            raise DatasetError(f"{data.name}: group {name!r} is in the official splits {said}; a group must be in one")
    open_to_choice = np.flatnonzero(result == TRAIN)
    count = max(1, min(FOLDS, len(set(of[open_to_choice]))))
    deal, fold = divmod(number, count)
    folds = _dealt(of, open_to_choice, count, deal)
    given = set(result.tolist())
    for split in (TEST, VALIDATION):
        if split not in given:
            result[folds == fold] = split
            fold = (fold + 1) % count
    for split, name in enumerate(SPLITS):
        if not (result == split).any():
            raise DatasetError(
                f"{data.name}: {len(data.names)} images in {len(groups)} groups leave none for {name}; add groups"
            )
    return result


def entry(offsets: np.ndarray, wanted: np.ndarray, seed: int) -> np.ndarray:
    """The smallest fraction at which each object is annotated.

    Parameters
    ----------
    offsets : (n + 1,) int64, as of `Localised`. wanted : (M,) bool, the objects to be dealt with.

    Returns
    -------
    ndarray
        (M,) float64 in (0, 1], infinite for objects that are not wanted.
    """
    generator = np.random.Generator(np.random.PCG64(axis_seed(seed, "annotations")))
    image = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[wanted]
    order = np.lexsort((generator.random(len(wanted))[wanted], image))
    present, counts = np.unique(image, return_counts=True)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    spread = (generator.permutation(len(present)) + 1 - generator.random()) / max(len(present), 1)
    entries = np.empty(len(image))
    entries[order] = (np.arange(len(image)) - starts + np.repeat(spread, counts)) / np.repeat(counts, counts)
    result = np.full(len(wanted), np.inf)
    result[wanted] = entries
    return result


def annotated(entries: np.ndarray, fraction: float) -> np.ndarray:
    """(M,) bool: the objects of the subset of a fraction in (0, 1]."""
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction of annotations is {fraction} where a number in (0, 1] is needed")
    return entries <= fraction + TOLERANCE


def write_subset(file: TextIO, data: Localised, entries: np.ndarray) -> None:
    """Write a manifest: a comment with the data's sha256, then a row for each object of finite entry."""
    file.write(f"# {data.name} sha256 {data.sha256()}\n")
    table = csv.writer(file, lineterminator="\n")
    table.writerow(COLUMNS)
    for row, (image, number) in enumerate(keys(data)):
        if np.isfinite(entries[row]):
            centre = (f"{place:.2f}" for place in data.centres[row])
            class_name = data.class_names[data.classes[row]]
            table.writerow([image, number, *centre, class_name, repr(float(entries[row]))])


def read_subset(path: Path, data: Localised) -> np.ndarray:
    """Read the entries of a manifest, (M,) float64; objects without a row are never annotated (infinite).

    Only image, number and entry are read, so a person's own subset needs no more; an entry of 0 is always in.

    Raises
    ------
    DatasetError
        If the manifest is of other data, or names an unknown object, an object twice, or an entry not in [0, 1].
    """
    try:
        first, *lines = path.read_text(encoding="utf-8-sig").splitlines() or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not readable ({error}); python -m papers.ece.data subset writes one") from error
    said = re.fullmatch(r"#.*\bsha256 ([0-9a-f]{64})\s*", first)
    if not said or said[1] != data.sha256():
        found = said[1] if said else repr(first[:80])
        raise DatasetError(
            f"{path}, line 1: {found} where `# {data.name} sha256 {data.sha256()}` is expected; it is a subset of "
            f"other data: write one of these with python -m papers.ece.data subset {data.name}"
        )
    known = {key: row for row, key in enumerate(keys(data))}
    result = np.full(len(known), np.inf)
    reader = csv.DictReader(lines)
    missing = {"image", "number", "entry"} - set(reader.fieldnames or ())
    if missing:
        raise DatasetError(f"{path} has no column {', '.join(sorted(missing))}")
    for cells in reader:
        where = f"{path}, line {reader.line_num + 1}"
        number, value = _number(cells["number"]), _number(cells["entry"])
        row = known.get((cells["image"], number))
        if row is None:
            raise DatasetError(f"{where}: {data.name} has no object {cells['number']} in image {cells['image']!r}")
        if np.isfinite(result[row]):
            raise DatasetError(f"{where}: object {cells['number']} of {cells['image']!r} is there twice")
        if not 0 <= value <= 1:
            raise DatasetError(f"{where}: the entry is {cells['entry']!r} where a number in [0, 1] is needed")
        result[row] = value
    return result


def _dealt(of: np.ndarray, images: np.ndarray, count: int, deal: int) -> np.ndarray:
    """(n,) int64: the fold of each of the `images`, -1 of others; the largest groups first, each to the emptiest fold.

    of : (n,) the group of each image. Groups of one size, and folds of one size, come in an order drawn from `deal`.
    """
    generator = np.random.Generator(np.random.PCG64(axis_seed(deal, "split")))
    sizes = np.bincount(of[images], minlength=of.max(initial=-1) + 1)
    order = np.lexsort((generator.random(len(sizes)), -sizes))
    folds, filled = np.full(len(of), -1), np.zeros(count, int)
    first = generator.permutation(count)
    for group in order[sizes[order] > 0]:
        fold = first[np.argmin(filled[first])]
        folds[images[of[images] == group]] = fold
        filled[fold] += sizes[group]
    return folds


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan
