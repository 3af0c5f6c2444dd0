"""Choose which images train, validate and test, and nested subsets of annotations (paper, Section 4).

Every smaller subset lies in every larger one, for an object enters at its own fraction: the subset of the fraction f
is all objects with entry <= f. In an image with n objects the entries are (rank + u) / n in a seeded order, so f keeps
f n of them, rounded up or down; the u of the images are spread evenly over (0, 1], so the roundings even out: each
object is in with the probability f, and so is about this share of all, even where images hold one object each.

``python -m papers.ece.subsets NAME --seed 0 --out FILE`` writes the training objects of a set with their entries.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

import numpy as np

from shared.datasets.catalogue import DatasetError, say
from shared.datasets.localised import prepared
from shared.datasets.localised.localised import SPLITS, Localised, keys
from shared.training.seeds import axis_seed

TRAIN, VALIDATION, TEST = range(len(SPLITS))
FOLDS = 5
TOLERANCE = 1e-9
COLUMNS = ("image", "number", "row", "column", "class", "entry")


def splits(data: Localised, number: int) -> np.ndarray:
    """Return the split of each image, (n,) int64: 0 train, 1 validation, 2 test; no group is in two.

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
    """Return the smallest fraction at which each object is annotated.

    Parameters
    ----------
    offsets : (n + 1,) int64, as of `Localised`.
    wanted : (M,) bool, the objects to be dealt with.

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
    """Return (M,) bool: the objects of the subset of a fraction in (0, 1]."""
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
        raise DatasetError(f"{path} is not readable ({error}); python -m papers.ece.subsets writes one") from error
    said = re.fullmatch(r"#.*\bsha256 ([0-9a-f]{64})\s*", first)
    if not said or said[1] != data.sha256():
        found = said[1] if said else repr(first[:80])
        raise DatasetError(
            f"{path}, line 1: {found} where `# {data.name} sha256 {data.sha256()}` is expected; it is a subset of "
            f"other data: write one of these with python -m papers.ece.subsets {data.name}"
        )
    known: dict[tuple[str, float], int] = {key: row for row, key in enumerate(keys(data))}
    result = np.full(len(known), np.inf)
    reader = csv.DictReader(lines)
    missing = {"image", "number", "entry"} - set(reader.fieldnames or ())
    if missing:
        raise DatasetError(f"{path} has no column {', '.join(sorted(missing))}")
    for cells in _rows(reader, path):
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


def main(argv: Sequence[str] | None = None) -> int:
    """Write the entries of a set's training objects; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m papers.ece.subsets",
        description="The training objects of a set, each with the smallest fraction at which it is annotated.",
        epilog="exit status: 0 all well, 1 something failed, 2 wrong usage",
    )
    parser.add_argument("name", metavar="NAME", help="of a set with localised objects: python -m shared.datasets list")
    parser.add_argument("--seed", type=int, default=0, help="of the order of annotation (default 0)")
    parser.add_argument("--split", type=int, default=0, help="number of the split by group (default 0)")
    parser.add_argument("--target", default="", metavar="CLASS", help="only objects of this class (default all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="csv to write (default standard output)")
    args = parser.parse_args(argv)
    try:
        data = prepared.open(args.name)
        if args.target and args.target not in data.class_names:
            known = ", ".join(data.class_names)
            raise DatasetError(f"{args.name} has no class {args.target!r}; its classes are {known}")
        wanted = (splits(data, args.split) == TRAIN)[data.owners()]
        if args.target:
            wanted &= data.classes == data.class_names.index(args.target)
        entries = entry(data.offsets, wanted, args.seed)
        with args.out.open("w", encoding="utf-8") if args.out else nullcontext(sys.stdout) as file:
            write_subset(file, data, entries)
    except (DatasetError, OSError) as error:
        say(f"error: {error}")
        return 1
    say(f"{args.name}: {wanted.sum()} objects of the training images of split {args.split}, seed {args.seed}")
    return 0


def _dealt(of: np.ndarray, images: np.ndarray, count: int, deal: int) -> np.ndarray:
    """Return (n,) the fold of each of the `images`, -1 of others: the largest groups first, each to the emptiest fold.

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


def _rows(reader: csv.DictReader, path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num + 1}: {error}; correct it") from error


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan


if __name__ == "__main__":
    sys.exit(main())
