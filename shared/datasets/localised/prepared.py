"""Keep prepared sets on disk, one folder each, made once from what the mirror folder ``LLP_MIRROR`` holds.

``<LLP_DATA>/<name>/`` holds:

- ``images/*.png``: RGB of 8 bits;
- ``labels/*.png``: label images of 16 bits under the same names, 0 = none, each object its own number (an image
  without objects has an empty one); or
- ``objects.csv``: image, number, row, column, class and, if known, top, left, bottom, right; with label images it
  gives the classes (geometry then comes from these), without it gives all that is known;
- ``images.csv``: image, group (slide or patient), split (train, validation, test, or empty);
- ``manifest.json``: where the set comes from, its terms, counts, and the sha256 of the decoded content; ``partial``
  says "43 of 50 images" of an official set that a person wanted a part of.

Pixels count from the upper left corner of the image, so the middle of the first pixel is (.5, .5).

A folder of the mirror is read as this layout if it has ``images/`` beside ``labels/`` or ``objects.csv``; there
``images.csv`` and the manifest may be missing. A set of one's own needs no more than that. Any other folder is read
as the official release, see `releases`. Archives are not read: unpack them.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from shared.datasets.catalogue import Absent, DatasetError, say
from shared.datasets.download import ensure_space, find_in_mirror
from shared.datasets.localised import files, sound
from shared.datasets.localised.localised import Localised, keys, of_labels, offsets
from shared.datasets.localised.releases import OWN, RELEASES, Release, advice, source_of
from shared.datasets.localised.sound import check_labels
from shared.datasets.localised.tables import BOX, GEOMETRY, classes_of, read_images, read_objects
from shared.datasets.places import data_root
from shared.datasets.store import exchange, lock, recover
from shared.files import is_stray, is_there, listed, sentence_of

FORMAT = 1
NOTES = ("", ".txt", ".md", ".rst", ".pdf", ".html", ".csv", ".json", ".xml", ".yaml", ".yml")  # that are no images
PARTS = ("images", "labels", "objects.csv")  # by which the layout is known
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


def prepare(name: str, large_objects: bool = False, partial: bool = False, anew: bool = False) -> Path:
    """Make a set from the mirror unless it is there; return its folder.

    Parameters
    ----------
    large_objects : whether an object may cover more than a quarter of its image, as in crops of one cell; the manifest
        then says so.
    partial : whether an official set may have fewer images than it has; the manifest then says so.
    anew : make it although it is there; what was there stays until the new one is complete.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise DatasetError(f"{name!r} is no name of a set; the known ones are {', '.join(RELEASES)}")
    root = data_root()
    folder = root / name
    if (folder / "manifest.json").is_file() and not anew:
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with lock(root, name):
            recover(root, name)
            if anew or not (folder / "manifest.json").is_file():
                ensure_space(root, SPACE, name)
                _make(name, root, large_objects, partial)
    except OSError as error:
        raise DatasetError(f"{name}: {sentence_of(error, root)}") from error
    return folder


def renew(name: str, large_objects: bool = False, partial: bool = False) -> bool:
    """Prepare a set as `prepare` does, and make one anew of which the mirror has more images by now; return if made.

    Of an official set that is there whole, the mirror is not looked at.

    Raises
    ------
    DatasetError
        If it cannot be had, or is there in part though nobody said it may be.
    """
    folder = data_root() / name
    if not (folder / "manifest.json").is_file():
        prepare(name, large_objects, partial)
        return True
    found, images = manifest(folder), RELEASES.get(name, OWN).images
    in_part, known = missing(name, found), bool(found.get("partial"))
    try:
        more = (bool(in_part) or not images) and _count(name) > found["images"]
    except DatasetError as error:
        if in_part and not isinstance(error, Absent):
            raise
        more = False
        if not isinstance(error, Absent):
            say(f"{name}: what is prepared stays, the mirror cannot be read: {error}")
    if more or (in_part and partial and not known):
        say(f"{name}: made again from the mirror, for {in_part or found['images']} images are in {folder}")
        prepare(name, large_objects or found.get("large_objects") is True, partial or known, anew=True)
        return True
    check_whole(name, found)
    return False


def check_whole(name: str, found: dict) -> None:
    """Refuse the manifest of a set that was made from a part of the official one though nobody said it may be."""
    if missing(name, found) and found.get("made_from") and not found.get("partial"):
        raise DatasetError(f"{data_root() / name} has {missing(name, found)}; {_remedy(name)}")


def missing(name: str, found: dict) -> str:
    """Return "43 of 50 images" for the manifest of a set that has fewer than the official one; else nothing."""
    images = RELEASES.get(name, OWN).images
    return f"{found['images']} of {images} images" if found["images"] < images else ""


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
    paths = {path.stem: path for path in listed(folder, "images/*.png", DatasetError)}
    for path in listed(folder / "images", "**/*", DatasetError):
        if path.parent != folder / "images" and path.suffix.lower() not in NOTES:
            raise DatasetError(f"{path} is not read, what lies in images/ itself is; move it there, or out of the set")
        if path.suffix != ".png" and path.suffix.lower() not in NOTES:
            raise DatasetError(f"{path} is not read, *.png alone are; convert it, or move it out of the set")
    if not paths:
        raise DatasetError(f"{folder / 'images'} has no *.png; complete the set")
    forms: dict[str, str] = {}
    for which in paths:
        if not which.isprintable() or which != which.strip():
            raise DatasetError(f"{folder}: the name of image {which!a} has signs that no table can hold; rename it")
        if (first := forms.setdefault(unicodedata.normalize("NFC", which), which)) != which:
            both = f"{first!a} and {which!a}"
            raise DatasetError(
                f"{folder} has the images {both}, one name in two forms of Unicode; rename one or remove it"
            )
    if is_folder := next((path for path in (folder / "images.csv", folder / "objects.csv") if path.is_dir()), None):
        raise DatasetError(f"{is_folder} is a folder where a table is read; move it out of the set")
    names, groups, official = list(paths), list(map(release.group, paths)), None
    if is_there(folder / "images.csv", DatasetError):
        names, groups, official = read_images(folder / "images.csv", paths)
    images = [files.read_image(paths[which]) for which in names]
    table = folder / "objects.csv"
    rows = read_objects(table, names, images) if is_there(table, DatasetError) else None
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
    if rows is not None:
        classes = classes_of(table, names, labels, rows, places)
    return of_labels(
        name, names, images, labels, groups=groups, official=official, classes=classes, class_names=class_names
    )


@lru_cache(maxsize=4)
def _opened(folder: Path, _made: int) -> Localised:
    recorded = manifest(folder)
    check_whole(folder.name, recorded)
    if recorded.get("partial"):
        say(f"{folder.name}: in part, {recorded['partial']}")
    data = read_set(folder, folder.name, class_names=tuple(recorded["classes"]))
    if data.sha256() != recorded["sha256"]:
        raise DatasetError(
            f"{folder} has the sha256 {data.sha256()} where its manifest has {recorded['sha256']}; remove the folder "
            f"and run: python -m shared.datasets fetch {folder.name}"
        )
    return data


def _make(name: str, root: Path, large_objects: bool, partial: bool) -> None:
    manifested = (root / name / "manifest.json").is_file()
    if (root / name).is_dir() and all(is_stray(path, root / name) for path in (root / name).rglob("*")):
        shutil.rmtree(root / name)  # nothing but what a system left there
    if (root / name).exists() and not manifested:
        raise DatasetError(f"{root / name} is there without a manifest.json; move it to LLP_MIRROR to have it prepared")
    source, (place, layout) = source_of(name), _in_mirror(name)
    say(f"{name}: reading {place}")
    data = _read(name, place, layout)
    check_labels(data, place, large_objects)
    count, part = len(data.names), missing(name, {"images": len(data.names)})
    if part and not partial:
        raise DatasetError(f"{place} has {part}; {_remedy(name)}")
    if layout and not partial:
        _hold_against_manifest(place, count, len(data.classes))
    about: dict[str, str | bool] = {
        "page": source.url,
        "terms": source.licence,
        "made_from": f"{place.name}, {'as the prepared layout' if layout else 'as the official release'}",
    }
    if large_objects:
        about["large_objects"] = True
    if part:
        about["partial"] = part
    new = root / f".{name}.new"
    try:
        write_set(new, data, about)
        if read_set(new, name, class_names=data.class_names).sha256() != data.sha256():
            raise DatasetError(f"{name}: what was written to {new} reads back as something else; nothing was kept")
        exchange(root, name)
    finally:
        recover(root, name)
    say(f"{name}: {part or f'{count} images'}, {len(data.classes)} objects in {root / name} (sha256 {data.sha256()})")
    say(f"{name}: {'; '.join(sound.about(data))}")
    if layout and data.official is None:
        say(f"{name}: no split is given, for want of images.csv with a column split; runs split it by group")


def _hold_against_manifest(place: Path, images: int, objects: int) -> None:
    """Refuse a copy of a prepared set of which less or more is there than its manifest says; it may have none."""
    path = place / "manifest.json"
    if not is_there(path, DatasetError):
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        said = found["images"], found["objects"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged ({type(error).__name__}: {error}); replace or remove it") from error
    if said != (images, objects):
        raise DatasetError(
            f"{path} says {said[0]} images and {said[1]} objects where {images} and {objects} are there; complete the "
            "set, or remove the manifest where that is meant"
        )


def _in_mirror(name: str) -> tuple[Path, bool]:
    """Return where the mirror has a set, and whether in the prepared layout."""
    try:
        place = find_in_mirror(source_of(name))
    except Absent as error:
        raise Absent(f"{name}: {error}; {advice(name)}") from None
    there = {part: is_there(place / part, DatasetError) or (place / part).is_dir() for part in PARTS}
    layout = there["images"] and (there["labels"] or there["objects.csv"])
    if not layout and RELEASES.get(name, OWN).read is None:
        raise DatasetError(f"{place} has no images/ with labels/ or objects.csv; {advice(name)}")
    return place, layout


def _read(name: str, place: Path, layout: bool) -> Localised:
    release = RELEASES.get(name, OWN)
    read = read_set if layout else release.read
    assert read is not None  # as `_in_mirror` found
    return release.finish(read(place, name, release))


def _count(name: str) -> int:
    """Return how many images of a set the mirror has."""
    place, layout = _in_mirror(name)
    return len(listed(place, "images/*.png", DatasetError) if layout else _read(name, place, layout).names)


def _remedy(name: str) -> str:
    return f"complete the mirror, or, if a part is meant, run: python -m shared.datasets fetch {name} --partial"


def _labels(folder: Path, names: list[str]) -> list[np.ndarray]:
    alone = sorted({path.stem for path in listed(folder, "*.png", DatasetError)} - set(names))
    if alone:
        raise DatasetError(f"{folder / alone[0]}.png has no image; remove it or add images/{alone[0]}.png")
    missing = next((which for which in names if not (folder / f"{which}.png").is_file()), None)
    if missing:
        raise DatasetError(f"{folder / missing}.png is missing; an image without objects needs an empty label image")
    return [files.read_label_image(folder / f"{which}.png") for which in names]


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
