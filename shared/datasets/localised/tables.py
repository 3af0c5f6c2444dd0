"""Read the tables of the prepared layout, images.csv and objects.csv; what is wrong is named by its line."""

from __future__ import annotations

import csv
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from shared.datasets.catalogue import DatasetError
from shared.datasets.localised.localised import SPLITS, UNKNOWN, objects

GEOMETRY = ("row", "column")
BOX = ("top", "left", "bottom", "right")
BESIDE = 2.0  # pixels that a centre may lie outside the box of its object: tools count from corners or from middles


def read_images(path: Path, paths: dict[str, Path]) -> tuple[list[str], list[str], list[str] | None]:
    """Return names, groups and, if given, the split of each image of images.csv, whose files are `paths`."""
    names, groups, official = [], [], []
    for where, row in _rows(path, ("image", "group"), ("split",)):
        if row["image"] not in paths:
            raise DatasetError(f"{where}: images/{row['image']}.png is missing; complete the set")
        if row["image"] in names:
            raise DatasetError(f"{where}: image {row['image']!r} is there twice; remove one row")
        if row.get("split", "") not in ("", *SPLITS):
            raise DatasetError(f"{where}: split {row['split']!r} is none of {', '.join(SPLITS)} and not empty")
        names.append(row["image"])
        groups.append(row["group"] or row["image"])
        official.append(row.get("split", ""))
    left = [which for which in paths if which not in set(names)]
    if left:
        raise DatasetError(f"{path} has no row for image {left[0]!r}; add it")
    if twins := _alike(groups):
        raise DatasetError(f"{path}: the groups {' and '.join(twins)} differ in case or form only; write one of them")
    if any(official) and not all(official):
        raise DatasetError(f"{path}: image {names[official.index('')]!r} has no split where others have; add it")
    split_of: dict[str, str] = {}
    for which, group, split in zip(names, groups, official, strict=True):
        if split_of.setdefault(group, split) != split:
            said = f"group {group!r} is in the splits {split_of[group]} and, by image {which!r}, {split}"
            raise DatasetError(f"{path}: {said}; a group must be in one")
    return names, groups, official if any(official) else None


def read_objects(path: Path, names: list[str], images: list[np.ndarray]) -> list[dict]:
    """Return rows of objects.csv, checked, with numbers as numbers, the place ``i`` of the image, and ``where``."""
    places, seen = {which: i for i, which in enumerate(names)}, set()
    result: list[dict] = []
    for where, row in _rows(path, ("image", "number", *GEOMETRY, "class"), BOX):
        if row["image"] not in places:
            raise DatasetError(f"{where}: image {row['image']!r} is not in images/; add it or remove the row")
        i = places[row["image"]]
        height, width = images[i].shape[:2]
        size = f"{row['image']!r} of {height}x{width} pixels"
        number = _number(row["number"], where, "number")
        if number != int(number) or not 1 <= number < 2**31 or (i, number) in seen:
            wrong = "is there twice" if (i, number) in seen else "is no whole number from 1 to 2147483647"
            raise DatasetError(f"{where}: object {row['number']} of {row['image']!r} {wrong}; correct it")
        seen.add((i, number))
        centre = [_number(row[key], where, key) for key in GEOMETRY]
        if not (0 <= centre[0] <= height and 0 <= centre[1] <= width):
            raise DatasetError(f"{where}: the centre {tuple(centre)} is outside image {size}; correct it")
        box = [_number(row[key], where, key) for key in BOX] if BOX[0] in row else centre * 2
        if not (0 <= box[0] <= box[2] <= height and 0 <= box[1] <= box[3] <= width):
            raise DatasetError(f"{where}: the box {tuple(box)} is outside image {size} or turned; correct it")
        _check_centre(centre, box, where, f"the box {tuple(box)} of its row")
        if not row["class"]:
            raise DatasetError(f"{where}: the class is empty; give it, or write {UNKNOWN!r} where nobody knows it")
        kept = {"i": i, "number": int(number), "centre": centre, "box": box, "class": row["class"], "where": where}
        result.append(kept)
    if twins := _alike(row["class"] for row in result):
        raise DatasetError(f"{path}: the classes {' and '.join(twins)} differ in case or form only; write one of them")
    return result


def classes_of(
    path: Path, names: list[str], labels: list[np.ndarray], rows: list[dict], places: dict[str, int]
) -> list[np.ndarray]:
    """Return the class of each object of each label image, from rows of objects.csv that lie where the objects do."""
    of = {(row["i"], row["number"]): row for row in rows}
    result = []
    for i, label in enumerate(labels):
        numbers, _, boxes = objects(label)
        found = numbers.tolist()
        missing = next((number for number in found if (i, number) not in of), None)
        if missing is not None:
            raise DatasetError(f"{path} has no row for object {missing} of image {names[i]!r}; add it")
        mine = [of.pop((i, number)) for number in found]
        for row, box in zip(mine, boxes.tolist(), strict=True):
            said = f"object {row['number']} of image {names[i]!r}, which covers {tuple(box)} in the label image"
            _check_centre(row["centre"], box, row["where"], said)
        result.append(np.array([places[row["class"]] for row in mine], np.int64))
    if of:
        i, number = next(iter(of))
        raise DatasetError(f"{path}: object {number} of image {names[i]!r} has no pixel in the label image")
    return result


def _rows(path: Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row of a csv, with the words for its place."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or ())
            needed = [*columns, *(optional if set(header) & set(optional) else ())]
            missing = [name for name in needed if name not in header]
            if missing:
                raise DatasetError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(needed)}")
            twice = next((name for name in needed if header.count(name) > 1), None)
            if twice:
                raise DatasetError(f"{path} has the column {twice} twice; leave one")
            near = next((name for name in header if name not in (*columns, *optional) and _meant(name, optional)), None)
            if near is not None:
                raise DatasetError(f"{path} has a column {near!r}; if it is {_meant(near, optional)}, call it so")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise DatasetError(f"{where} has not as many cells as the header; correct it")
                yield where, {name: row[name].strip() for name in (*columns, *optional) if name in row}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not readable ({error}); complete the set") from error


def _meant(name: str, optional: Sequence[str]) -> str:
    """Return the column that may be missing and that a name is, but for blanks, case or a plural; else nothing."""
    return next((one for one in optional if name.strip().casefold().rstrip("s") == one.rstrip("s")), "")


def _check_centre(centre: Sequence[float], box: Sequence[float], where: str, what: str) -> None:
    top, left, bottom, right = box
    if not (top - BESIDE <= centre[0] <= bottom + BESIDE and left - BESIDE <= centre[1] <= right + BESIDE):
        raise DatasetError(
            f"{where}: the centre {tuple(centre)} (row, column) lies outside {what}; correct the row: is it the number "
            "of another object, or are row and column exchanged?"
        )


def _alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that a person would take for one: equal but for case, blanks and the form of their Unicode."""
    seen: dict[str, str] = {}
    for name in names:
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        if (first := seen.setdefault(key, name)) != name:
            same = unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", name)  # to the eye
            return (ascii(first), ascii(name)) if same else (repr(first), repr(name))
    return None


def _number(text: str, where: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DatasetError(f"{where}: {name} is {text!r} where a number is needed; correct it")
    return number
