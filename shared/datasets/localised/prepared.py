"""Keep prepared sets on disk, one folder each, made once from what the mirror folder ``LLP_MIRROR`` holds.

``<LLP_DATA>/<name>/`` holds:

- ``images/*.png``: RGB of 8 bits;
- ``labels/*.png``: label images of 16 bits under the same names, 0 = none, each object its own number (an image
  without objects has an empty one); or
- ``objects.csv``: image, number, row, column, class and, if known, top, left, bottom, right; with label images it
  gives the classes (geometry then comes from these), without it gives all that is known;
- ``images.csv``: image, group (slide or patient), split (train, validation, test, or empty);
- ``manifest.json``: where the set comes from, its terms, counts, and the sha256 of the decoded content.

Pixels count from the upper left corner of the image, so the middle of the first pixel is (.5, .5).

A folder of the mirror is read as this layout if it has ``images/`` beside ``labels/`` or ``objects.csv``; there
``images.csv`` and the manifest may be missing. A set of one's own needs no more than that. Any other folder is read
as the official release, see `releases`. Archives are not read: unpack them.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from shared.datasets.catalogue import Absent, DatasetError, say
from shared.datasets.download import ensure_space, find_in_mirror
from shared.datasets.localised import files, sound
from shared.datasets.localised.localised import SPLITS, Localised, keys, objects, of_labels, offsets
from shared.datasets.localised.releases import OWN, RELEASES, Release, advice, source_of
from shared.datasets.localised.sound import check_labels
from shared.datasets.places import data_root
from shared.datasets.store import lock, recover
from shared.files import is_stray, listed, sentence_of

FORMAT = 1
GEOMETRY = ("row", "column")
BOX = ("top", "left", "bottom", "right")
IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".npy", ".svs")  # suffixes
SPACE = 500_000_000  # bytes of disk that preparing may need


def open(name: str) -> Localised:
    """Return a prepared set; it is made first where it is not there yet. Decoded sets stay in memory.

    Raises
    ------
    DatasetError
        If it is not there and the mirror has nothing to make it from, or what is there is damaged.
    """
    folder = prepare(name)
    return _opened(folder, (folder / "manifest.json").stat().st_mtime_ns)


def prepare(name: str, large_objects: bool = False) -> Path:
    """Make a set from the mirror unless it is there; return its folder.

    Parameters
    ----------
    large_objects : whether an object may cover more than a quarter of its image, as in crops of one cell; the manifest
        then says so.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise DatasetError(f"{name!r} is no name of a set; the known ones are {', '.join(RELEASES)}")
    root = data_root()
    folder = root / name
    if (folder / "manifest.json").is_file():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with lock(root, name):
            recover(root, name)
            if not (folder / "manifest.json").is_file():
                ensure_space(root, SPACE, name)
                _make(name, root, large_objects)
    except OSError as error:
        raise DatasetError(f"{name}: {sentence_of(error, root)}") from error
    return folder


def manifest(folder: Path) -> dict:
    """Return the manifest of a prepared set.

    Raises
    ------
    DatasetError
        If it is damaged or of another version.
    """
    path = folder / "manifest.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] == FORMAT and found["classes"] and found["sha256"]:
            return found
        wrong = f"its format is {found['format']!r}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        wrong = f"{type(error).__name__}: {error}"
    raise DatasetError(f"{path} is damaged or of another version ({wrong}); remove {folder} and prepare it again")


def write_set(folder: Path, data: Localised, about: dict[str, str | bool]) -> None:
    """Write a set in the prepared layout into a new folder; ``about`` enters the manifest."""
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    for name, image in zip(data.names, data.images, strict=True):
        Image.fromarray(image).save(folder / "images" / f"{name}.png", compress_level=1)
    if data.labels is not None:
        (folder / "labels").mkdir()
        for name, label in zip(data.names, data.labels, strict=True):
            if label.max(initial=0) > 65535:
                raise DatasetError(f"{data.name}: {name} numbers objects up to {label.max()}, more than 16 bits hold")
            Image.fromarray(label.astype(np.uint16)).save(folder / "labels" / f"{name}.png", compress_level=1)
    if data.labels is None or len(data.class_names) > 1:
        with (folder / "objects.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            boxes = data.boxes if (data.boxes[:, 2:] > data.boxes[:, :2]).any() else data.boxes[:, :0]
            table.writerow(("image", "number", *GEOMETRY, "class", *BOX[: boxes.shape[1]]))
            geometry = zip(data.centres.tolist(), boxes.tolist(), strict=True)
            for (of_image, number), (centre, box), of in zip(keys(data), geometry, data.classes, strict=True):
                table.writerow([of_image, number, *centre, data.class_names[of], *box])
    with (folder / "images.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("image", "group", "split"))
        table.writerows(zip(data.names, data.groups, data.official or ("",) * len(data.names), strict=True))
    counts = np.bincount(data.classes, minlength=len(data.class_names)).tolist()
    found = {
        "format": FORMAT,
        "name": data.name,
        **about,
        "images": len(data.names),
        "objects": len(data.classes),
        "classes": dict(zip(data.class_names, counts, strict=True)),
        "sha256": data.sha256(),
    }
    (folder / "manifest.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read_set(folder: Path, name: str, release: Release = OWN, class_names: Sequence[str] | None = None) -> Localised:
    """Read a folder in the layout above, without its manifest.

    Parameters
    ----------
    release : gives the groups where ``images.csv`` does not, and the class where there is no ``objects.csv``.
    class_names : by default those in ``objects.csv``, in alphabetical order.

    Raises
    ------
    DatasetError
        If anything is missing or not as the layout says; the message names the file and the line or the image.
    """
    paths = {path.stem: path for path in listed(folder, "images/*.png")}
    for path in listed(folder, "images/*"):
        if path.suffix != ".png" and path.suffix.lower() in IMAGES:
            raise DatasetError(f"{path} is not read, *.png alone are; convert it, or move it out of the set")
    if not paths:
        raise DatasetError(f"{folder / 'images'} has no *.png; complete the set")
    names, groups, official = list(paths), list(map(release.group, paths)), None
    if (folder / "images.csv").is_file():
        names, groups, official = _images(folder / "images.csv", paths)
    images = [files.read_image(paths[which]) for which in names]
    table = folder / "objects.csv"
    rows = _objects(table, names, images) if table.is_file() else None
    if class_names is None:
        class_names = sorted({row["class"] for row in rows}) if rows else (release.what,)
    places = {which: i for i, which in enumerate(class_names)}
    unknown = next((row for row in rows or () if row["class"] not in places), None)
    if unknown:
        raise DatasetError(f"{table}: class {unknown['class']!r} is none of {', '.join(class_names)}")
    if not (folder / "labels").is_dir():
        if rows is None:
            raise DatasetError(f"{folder} has neither labels/ nor objects.csv; complete the set")
        return _of_rows(name, names, groups, official, images, rows, places)
    labels = _labels(folder / "labels", names)
    classes = None
    if rows is not None and len(class_names) > 1:
        classes = _classes(table, names, labels, rows, places)
    return of_labels(
        name, names, images, labels, groups=groups, official=official, classes=classes, class_names=class_names
    )


@lru_cache(maxsize=4)
def _opened(folder: Path, _made: int) -> Localised:
    recorded = manifest(folder)
    data = read_set(folder, folder.name, class_names=tuple(recorded["classes"]))
    if data.sha256() != recorded["sha256"]:
        raise DatasetError(
            f"{folder} has the sha256 {data.sha256()} where its manifest has {recorded['sha256']}; remove the folder "
            f"and run: python -m shared.datasets fetch {folder.name}"
        )
    return data


def _make(name: str, root: Path, large_objects: bool) -> None:
    if (root / name).is_dir() and all(is_stray(path, root / name) for path in (root / name).rglob("*")):
        shutil.rmtree(root / name)  # nothing but what a system left there
    if (root / name).exists():
        raise DatasetError(f"{root / name} is there without a manifest.json; move it to LLP_MIRROR to have it prepared")
    release, source = RELEASES.get(name, OWN), source_of(name)
    try:
        place = find_in_mirror(source)
    except Absent as error:
        raise Absent(f"{name}: {error}; {advice(name)}") from None
    layout = (place / "images").is_dir() and any((place / part).exists() for part in ("labels", "objects.csv"))
    read = read_set if layout else release.read
    if read is None:
        raise DatasetError(f"{place} has no images/ with labels/ or objects.csv; {advice(name)}")
    say(f"{name}: reading {place}")
    data = read(place, name, release)
    data = release.finish(data)
    check_labels(data, place, large_objects)
    about: dict[str, str | bool] = {
        "page": source.url,
        "terms": source.licence,
        "made_from": f"{place.name}, {'as the prepared layout' if layout else 'as the official release'}",
    }
    if large_objects:
        about["large_objects"] = True
    new = root / f".{name}.new"
    try:
        write_set(new, data, about)
        os.rename(new, root / name)
    finally:
        recover(root, name)
    say(f"{name}: {len(data.names)} images, {len(data.classes)} objects in {root / name} (sha256 {data.sha256()})")
    say(f"{name}: {'; '.join(sound.about(data))}")
    if layout and data.official is None:
        say(f"{name}: no split is given, for want of images.csv with a column split; runs split it by group")


def _images(path: Path, paths: dict[str, Path]) -> tuple[list[str], list[str], list[str] | None]:
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
    if any(official) and not all(official):
        raise DatasetError(f"{path}: image {names[official.index('')]!r} has no split where others have; add it")
    return names, groups, official if any(official) else None


def _labels(folder: Path, names: list[str]) -> list[np.ndarray]:
    alone = sorted({path.stem for path in listed(folder, "*.png")} - set(names))
    if alone:
        raise DatasetError(f"{folder / alone[0]}.png has no image; remove it or add images/{alone[0]}.png")
    missing = next((which for which in names if not (folder / f"{which}.png").is_file()), None)
    if missing:
        raise DatasetError(f"{folder / missing}.png is missing; an image without objects needs an empty label image")
    return [files.read_label_image(folder / f"{which}.png") for which in names]


def _objects(path: Path, names: list[str], images: list[np.ndarray]) -> list[dict]:
    """Return rows of objects.csv, checked, with numbers as numbers and the place ``i`` of the image."""
    places, seen, result = {which: i for i, which in enumerate(names)}, set(), []
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
        result.append({"i": i, "number": int(number), "centre": centre, "box": box, "class": row["class"]})
    return result


def _of_rows(
    name: str,
    names: list[str],
    groups: list[str],
    official: list[str] | None,
    images: list[np.ndarray],
    rows: list[dict],
    places: dict[str, int],
) -> Localised:
    rows = sorted(rows, key=lambda row: row["i"])
    return Localised(
        name=name,
        names=tuple(names),
        groups=tuple(groups),
        official=None if official is None else tuple(official),
        images=tuple(images),
        labels=None,
        offsets=offsets(np.bincount([row["i"] for row in rows], minlength=len(names))),
        numbers=np.array([row["number"] for row in rows], np.int64),
        centres=np.array([row["centre"] for row in rows], np.float32).reshape(-1, 2),
        boxes=np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
        classes=np.array([places[row["class"]] for row in rows], np.int64),
        class_names=tuple(places),
    )


def _classes(path: Path, names: list[str], labels: list[np.ndarray], rows: list[dict], places: dict) -> list:
    of = {(row["i"], row["number"]): places[row["class"]] for row in rows}
    result = []
    for i, label in enumerate(labels):
        found = objects(label)[0].tolist()
        missing = next((number for number in found if (i, number) not in of), None)
        if missing is not None:
            raise DatasetError(f"{path} has no row for object {missing} of image {names[i]!r}; add it")
        result.append(np.array([of.pop((i, number)) for number in found], np.int64))
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
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise DatasetError(f"{where} has not as many cells as the header; correct it")
                yield where, {name: row[name].strip() for name in (*columns, *optional) if name in row}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not readable ({error}); complete the set") from error


def _number(text: str, where: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DatasetError(f"{where}: {name} is {text!r} where a number is needed; correct it")
    return number
