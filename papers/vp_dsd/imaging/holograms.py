"""Read sets of holograms of blood, simulated or recorded, with the proportions of white cells of each subject.

A recorded set is a folder in a mirror, `wbc_holograms` (33 donors) or `wbc_holograms_synthetic` (the authors' own), or
among prepared data:

- ``optics.json``: ``{"wavelength_um": .., "pitch_um": .., "distance_um": ..}``;
- ``subjects.csv``: subject, split (train, validation or test), lymphocyte, monocyte, granulocyte, in shares of one, and
  optionally concentration, of white cells in the blood, in any one unit;
- ``images.csv``: image, subject, and optionally wavelength_um and pitch_um where each image knows its own;
- the images it names, square and of one size, holding intensities: ``.npy``, or grey PNG or TIFF of 8 or 16 bits;
- ``cells.csv``, if known: image, row, column, class; centres in pixels, (0, 0) the centre of the first pixel;
- ``purified.csv``, if there are any: image, class; further images, of purified cells of one class, of the same optics.

The optics are those of the folder: nothing in ``config.yaml`` speaks of them. Every run records what it used.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from papers.vp_dsd.imaging.optics import Optics
from papers.vp_dsd.names import CLASSES, SPLITS
from shared.datasets.catalogue import Absent, DatasetError, Source
from shared.datasets.download import find_in_mirror
from shared.datasets.places import data_root

SETS = {
    "wbc_holograms": "the holograms of 33 donors are not public; ask the authors of Yellin et al. 2018",
    "wbc_holograms_synthetic": "github.com/carolina-pacheco/LLP_multiclass_cell_detection links to the authors' set",
}
TOLERANCE = 0.01  # proportions come rounded, so their sum may be this far from one
PIXELS = 2**24  # that an image may have


@dataclass(frozen=True)
class Cells:
    """Hold the cells of n images, image after image.

    Attributes
    ----------
    offsets : (n + 1,) int64, rising from 0 to M.
    centres : (M, 2) float32, row and column in pixels, (0, 0) the centre of the first pixel.
    labels : (M,) int64, places in `CLASSES`.
    """

    offsets: np.ndarray
    centres: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Holograms:
    """Hold holograms of subjects with known proportions of cells.

    Attributes
    ----------
    images : (n, L, L) float32, as of `normalised`.
    subjects : (n,) int64, whose image it is.
    proportions : (S, K) float64, rows sum to 1.
    splits : (S,) int64, places in `SPLITS`.
    concentrations : (S,) float64, of white cells, in any unit; None where not known.
    purified : for each class (n, L, L) float32 images of its cells alone; None where there are none.
    """

    images: np.ndarray
    subjects: np.ndarray
    proportions: np.ndarray
    splits: np.ndarray
    optics: Optics
    cells: Cells | None
    simulated: bool
    concentrations: np.ndarray | None = None
    purified: tuple[np.ndarray, ...] | None = None

    def numbers(self, split: int) -> np.ndarray:
        """Return the numbers of a split's images, (k,) int64: 0 training, 1 validation, 2 test."""
        return np.flatnonzero(self.splits[self.subjects] == split)

    def sha256(self) -> str:
        """Return the hexadecimal digest of all arrays and of the optics."""
        arrays = [self.images, self.subjects, self.proportions, self.splits]
        if self.cells is not None:
            arrays += [self.cells.offsets, self.cells.centres, self.cells.labels]
        arrays += [] if self.concentrations is None else [self.concentrations]
        arrays += self.purified or ()
        digest = hashlib.sha256(repr(self.optics).encode())
        for array in arrays:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def normalised(intensities: np.ndarray) -> np.ndarray:
    """Return holograms of intensities (..., L, L): amplitude over its mean, less one; float32.

    The root makes an object wave o much weaker than the background enter linearly, |1 + o| = 1 + Re o, and without its
    mean a hologram holds no background that T would carry along.
    """
    amplitudes = np.sqrt(intensities, dtype=np.float32)
    return amplitudes / amplitudes.mean((-2, -1), keepdims=True) - 1


def find(name: str) -> Path:
    """Return the folder of a recorded set, one of `SETS`, for `read`: among prepared data, or in ``LLP_MIRROR``.

    Raises
    ------
    Absent
        If it is not there; the message says where to ask for it. A sweep then counts its runs as NOT RUN.
    """
    if (prepared := data_root() / name / "optics.json").is_file():
        return prepared.parent
    source = Source(name, "1", "mirror", "", "", "", name, {}, "", "")
    try:
        return find_in_mirror(source)
    except Absent as error:
        raise Absent(
            f"{name}: {error}; {SETS[name]}, then lay it out as papers/vp_dsd/imaging/holograms.py says"
        ) from None


def read(folder: Path, expected: Optics | None = None, size: int | None = None) -> Holograms:
    """Read a recorded set in the layout above; warn where light of its cells wraps around at the borders.

    Parameters
    ----------
    expected, size : the optics and the pixels a side that the set must have; by default those of ``optics.json`` and
        of the first image.

    Raises
    ------
    DatasetError
        If anything is missing or is not as the layout says; the message names the file and the line or the image.
    """
    optics = _optics(folder / "optics.json")
    subjects, splits, proportions, concentrations = _subjects(folder / "subjects.csv")
    names: dict[str, int] = {}
    images, whose, recorded = [], [], []
    for where, row in _rows(folder / "images.csv", ("image", "subject"), ("wavelength_um", "pitch_um")):
        name = row["image"]
        if name in names:
            raise DatasetError(f"{where}: image {name!r} is there twice; remove one row")
        if row["subject"] not in subjects:
            raise DatasetError(f"{where}: subject {row['subject']!r} is not in subjects.csv; add it there")
        names[name] = len(names)
        whose.append(subjects[row["subject"]])
        images.append(_intensity(folder, name, where))
        own = {key.removesuffix("_um"): _number(row[key], where, key) for key in row if key.endswith("_um")}
        recorded.append(_of(optics, own, where))
    if not images:
        raise DatasetError(f"{folder / 'images.csv'} names no images; add a row for each")
    side = size or len(images[0])
    check(images, expected or optics, side, recorded, list(names))
    if optics.wrapped(side) > 1:
        warnings.warn(
            f"{folder}: at {optics.distance:g} um light of the finest structures goes {optics.wrapped(side):.2g} times "
            f"half an image of {side} pixels sideways: what T makes of it wraps around at the borders",
            stacklevel=2,
        )
    centres = folder / "cells.csv"
    cells = _cells(centres, names, len(images[0])) if centres.exists() else None
    alone = folder / "purified.csv"
    purified = _purified(alone, side) if alone.exists() else None
    stack = np.stack([normalised(image) for image in images])
    owners = np.array(whose, np.int64)
    return Holograms(stack, owners, proportions, splits, optics, cells, False, concentrations, purified)


def check(
    images: Sequence[np.ndarray],
    optics: Optics,
    size: int,
    recorded: Sequence[Optics] = (),
    names: Sequence[str] = (),
) -> None:
    """Refuse images that are not what a detector was made for.

    Parameters
    ----------
    images : (L, L) each.
    optics, size : what T and the detector expect; `size` in pixels a side.
    recorded : the optics each image was recorded with.
    names : of the images, for the message.

    Raises
    ------
    DatasetError
        Names the first image that has another shape, wavelength, pitch or distance, holds NaN, infinity or a negative
        intensity, or is constant.
    """
    for i, image in enumerate(images):
        where = f"image {i} ({names[i]})" if names else f"image {i}"
        if image.shape != (size, size):
            shape = "x".join(map(str, image.shape))
            raise DatasetError(f"{where} has {shape} pixels where {size}x{size} are expected; cut it to that size")
        for name in ("wavelength", "pitch", "distance") if recorded else ():
            found, wanted = getattr(recorded[i], name), getattr(optics, name)
            if not math.isclose(found, wanted, rel_tol=1e-6):
                raise DatasetError(
                    f"{where} has the {name} {found:g} um where {wanted:g} um is expected; leave it out, resample it, "
                    f"or expect its {name}"
                )
        if not np.isfinite(image).all():
            row, column = np.argwhere(~np.isfinite(image))[0]
            raise DatasetError(f"{where} holds {image[row, column]} at row {row}, column {column}; replace the image")
        if image.min() == image.max():
            raise DatasetError(f"{where} is constant ({image.flat[0]:g} everywhere); replace the image")
        if image.min() < 0:
            row, column = np.argwhere(image < 0)[0]
            raise DatasetError(
                f"{where} holds {image[row, column]:g} at row {row}, column {column} where intensities of 0 or more "
                "are expected; take the image as recorded, with nothing subtracted or normalised"
            )
        with np.errstate(all="ignore"):
            if not np.isfinite(normalised(image)).all():
                raise DatasetError(
                    f"{where} reaches from {image.min():g} to {image.max():g}; scale it to 32-bit floats"
                )


def _optics(path: Path) -> Optics:
    keys = ("wavelength_um", "pitch_um", "distance_um")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not readable ({error}); write it with {', '.join(keys)}") from error
    values = [content.get(key) for key in keys] if isinstance(content, dict) else []
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(keys):
        raise DatasetError(f"{path} must hold numbers for {', '.join(keys)}; it holds {content!r}"[:500])
    try:
        return Optics(*map(float, numbers))
    except (ValueError, OverflowError) as error:
        raise DatasetError(f"{path}: {error}") from None


def _of(optics: Optics, own: dict[str, float], where: str) -> Optics:
    try:
        return replace(optics, **own)
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from None


def _subjects(path: Path) -> tuple[dict[str, int], np.ndarray, np.ndarray, np.ndarray | None]:
    """Return ({subject: number}, splits (S,), proportions (S, K), concentrations (S,) or None)."""
    numbers: dict[str, int] = {}
    splits, proportions, concentrations = [], [], []
    for where, row in _rows(path, ("subject", "split", *CLASSES), ("concentration",)):
        shares = np.array([_number(row[name], where, name) for name in CLASSES])
        if row["subject"] in numbers:
            raise DatasetError(f"{where}: subject {row['subject']!r} is there twice; remove one row")
        if row["split"] not in SPLITS:
            raise DatasetError(f"{where}: split {row['split']!r} is none of {', '.join(SPLITS)}; correct it")
        if (shares < 0).any() or abs(shares.sum() - 1) > TOLERANCE:
            hint = "divide percentages by 100" if abs(shares.sum() - 100) <= 100 * TOLERANCE else "correct them"
            raise DatasetError(
                f"{where}: the proportions {shares.tolist()} of subject {row['subject']!r} sum to {shares.sum():g} "
                f"where shares of one that are not negative are expected; {hint}"
            )
        numbers[row["subject"]] = len(numbers)
        splits.append(SPLITS.index(row["split"]))
        proportions.append(shares / shares.sum())
        if "concentration" in row:
            concentrations.append(_number(row["concentration"], where, "concentration"))
            if not concentrations[-1] > 0:
                raise DatasetError(f"{where}: concentration {row['concentration']} is not above 0; correct it")
    shares = np.array(proportions, np.float64).reshape(-1, len(CLASSES))
    return numbers, np.array(splits, np.int64), shares, np.array(concentrations) if concentrations else None


def _purified(path: Path, size: int) -> tuple[np.ndarray, ...]:
    found: dict[str, list[np.ndarray]] = {name: [] for name in CLASSES}
    for where, row in _rows(path, ("image", "class")):
        if row["class"] not in found:
            raise DatasetError(f"{where}: class {row['class']!r} is none of {', '.join(CLASSES)}; correct it")
        image = _intensity(path.parent, row["image"], where)
        check([image], Optics(1, 1, 1), size, names=[row["image"]])
        found[row["class"]].append(normalised(image))
    for name, images in found.items():
        if not images:
            raise DatasetError(f"{path} names no image of purified {name}s; add one, or remove the file")
    return tuple(np.stack(images) for images in found.values())


def _cells(path: Path, images: dict[str, int], size: int) -> Cells:
    numbers, centres, labels = [], [], []
    for where, row in _rows(path, ("image", "row", "column", "class")):
        centre = [_number(row[name], where, name) for name in ("row", "column")]
        if row["image"] not in images:
            raise DatasetError(f"{where}: image {row['image']!r} is not in images.csv; add it there")
        if row["class"] not in CLASSES:
            raise DatasetError(f"{where}: class {row['class']!r} is none of {', '.join(CLASSES)}; correct it")
        if not all(-0.5 <= place <= size - 0.5 for place in centre):
            raise DatasetError(f"{where}: the centre {tuple(centre)} lies outside {row['image']!r}; correct it")
        numbers.append(images[row["image"]])
        centres.append(centre)
        labels.append(CLASSES.index(row["class"]))
    order = np.argsort(numbers, kind="stable")
    offsets = np.concatenate([[0], np.bincount(np.array(numbers, np.int64), minlength=len(images)).cumsum()])
    return Cells(
        offsets.astype(np.int64),
        np.array(centres, np.float32).reshape(-1, 2)[order],
        np.array(labels, np.int64)[order],
    )


def _intensity(folder: Path, name: str, where: str) -> np.ndarray:
    """Return the intensities of one image file, 2-D, in the file's own units."""
    plain = PurePosixPath(name)
    if plain.is_absolute() or ".." in plain.parts or "\\" in name or not name:
        raise DatasetError(f"{where}: {name!r} is no plain path below the folder; correct it")
    path = folder / plain
    if not os.path.isfile(path):  # also of a name that no file can have
        raise DatasetError(f"{where}: {path} is missing; complete the set")
    try:
        image = np.array(np.load(path, mmap_mode="r", allow_pickle=False)) if path.suffix == ".npy" else _decoded(path)
    except Exception as error:  # damaged files make the decoders raise almost anything
        raise DatasetError(f"{where}: {path} is not a readable image ({error}); replace it") from error
    if image.ndim != 2 or image.shape[0] != image.shape[1] or not image.size or image.dtype.kind not in "fiu":
        raise DatasetError(f"{where}: {path} is a {image.dtype} array of shape {image.shape}, not a square grey image")
    if (image < 0).any():
        raise DatasetError(f"{where}: {path} holds {image.min()}, which is no intensity; replace it")
    return image


def _decoded(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path, formats=("PNG", "TIFF")) as image:
        if image.width * image.height > PIXELS:
            raise ValueError(f"it has {image.width}x{image.height} pixels")
        if (frames := getattr(image, "n_frames", 1)) > 1:
            raise ValueError(f"it has {frames} frames")
        if image.mode not in ("L", "F") and not image.mode.startswith("I"):
            raise ValueError(f"its mode is {image.mode}, not grey")
        return np.asarray(image)


def _rows(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row of a csv, with the words for its place."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = list(reader.fieldnames or ())
            missing = [name for name in columns if name not in header]
            if missing:
                raise DatasetError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(columns)}")
            twice = next((name for name in header if header.count(name) > 1), None)
            if twice is not None:
                raise DatasetError(f"{path} has the column {twice!r} twice; leave one")
            wanted = [*columns, *(name for name in optional if name in header)]
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise DatasetError(f"{where} has not as many cells as the header; correct it")
                yield where, {name: row[name].strip() for name in wanted}
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
