"""Obtain stained white blood cells, Dataset 1 of Zheng et al. 2018 (Micron 107), from a mirror folder or GitHub."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.datasets import archives
from shared.datasets.catalogue import Arrays, DatasetError, Recipe, Source, say
from shared.datasets.download import download, find_in_mirror
from shared.files import is_there

# Dataset 2 (100 images of another microscope and stain, 300x300) is left out: mixed in, the microscope would tell the
# classes apart. The one basophil of Dataset 1 can be in training or in test but not in both, so it is left out too.
PARAMETERS: dict[str, Any] = {
    "release": "Dataset 1",
    "left_out": ["basophil"],
    "crop": "centre square of the shorter side",
    "side": 32,
    "filter": "box",
    "test_share": 0.2,
    "split": "within each class",
    "split_seed": 0,
}
CLASSES = ("neutrophil", "lymphocyte", "monocyte", "eosinophil")  # labels 1 to 4; 5 is basophil
IMAGES = 300
BYTES = 1_000_000
PIXELS = 250_000


def make_cells(source: Source, work: Path) -> Arrays:
    """Obtain the cells in the way of ``source``.

    The images are cut to their centre square (they have 88 to 120 pixels a side) and averaged down to 32x32 by
    Pillow's BOX filter. Of each class a fifth is for test: 239 and 60 images. The labels are the authors' own; their
    README warns that experts did not check them all.

    Returns
    -------
    dict
        ``*_x`` uint8 (239 and 60, 32, 32, 3); ``*_y`` int64 (N,), 0 to 3 in the order of `CLASSES`.

    Raises
    ------
    Absent
        If the mirror does not hold it or the host does not answer.
    DatasetError
        If what was found is not the official data.
    """
    if source.how == "official":
        commit = source.url.rsplit("/", 1)[-1].removesuffix(".tar.gz")
        archive = download(source.url, work / f"{commit}.tar.gz", source.md5)
        inside = f"segmentation_WBC-{commit}/"
        content = dict(archives.read_tar(archive, {inside + name for name in OFFICIAL.names}))
        layout, place = OFFICIAL, archive
        files = {name.removeprefix(inside): data for name, data in content.items()}
    else:
        place = find_in_mirror(source)
        say(f"{source.name}: reading {place}")
        known = next((one for one in (OFFICIAL, RENAMED) if is_there(place / one.labels, DatasetError)), None)
        if known is None:
            raise DatasetError(f"{place} has neither {OFFICIAL.labels!r} nor {RENAMED.labels!r}; complete the mirror")
        layout = known
        files = {name: _read(place / name) for name in layout.names}
    labels = read_labels(files[layout.labels], f"{place}: {layout.labels}")
    return split_cells(_images(files, layout, place), labels)


def read_labels(content: bytes, where: str) -> np.ndarray:
    """Return the class of each image, (300,) int64 of 1 to 5, from the authors' csv: image ID, class label."""
    try:
        _, *rows = csv.reader(content.decode("utf-8-sig").splitlines())
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DatasetError(f"{where} is not readable ({error}); replace the file") from error
    labels = np.zeros(IMAGES, np.int64)
    for line, row in enumerate(rows, 2):
        if not row:
            continue
        number, label = (int(cell) if cell.isdecimal() and len(cell) < 4 else 0 for cell in (*row, "", "")[:2])
        if len(row) != 2 or not 1 <= number <= IMAGES or not 1 <= label <= 5 or labels[number - 1]:
            raise DatasetError(
                f"{where}, line {line} is {','.join(row)[:80]!r} where a new image of 1 to {IMAGES} "
                "and its class of 1 to 5 are expected; replace the file"
            )
        labels[number - 1] = label
    if not labels.all():
        raise DatasetError(f"{where} has no class of image {labels.argmin() + 1}; replace the file")
    return labels


def reduced(image: np.ndarray) -> np.ndarray:
    """Cut the centre square of (height, width, 3) uint8 and average it down to (32, 32, 3)."""
    from PIL import Image

    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(square.resize((PARAMETERS["side"],) * 2, Image.Resampling.BOX))


def split_cells(images: np.ndarray, labels: np.ndarray) -> Arrays:
    """Deal the images (N, ...) of classes 1 to 4 into training and test, a fifth of each class for test."""
    random = np.random.RandomState(PARAMETERS["split_seed"])
    test = np.zeros(len(labels), bool)
    for label in range(1, len(CLASSES) + 1):
        mine = random.permutation(np.flatnonzero(labels == label))
        test[mine[: round(PARAMETERS["test_share"] * len(mine))]] = True
    train = ~test & (labels <= len(CLASSES))
    return {
        "train_x": images[train],
        "train_y": labels[train] - 1,
        "test_x": images[test],
        "test_y": labels[test] - 1,
    }


def _read(path: Path) -> bytes:
    if not is_there(path, DatasetError):
        raise DatasetError(f"{path} is missing; complete the mirror or unset LLP_MIRROR")
    if path.stat().st_size > BYTES:
        raise DatasetError(f"{path} has more than {BYTES} bytes; it is not the official file")
    return path.read_bytes()


def _images(files: Mapping[str, bytes], layout: "CopyLayout", place: Path) -> np.ndarray:
    decoded = (archives.decode_image(files[name], layout.kind, PIXELS, f"{place}: {name}") for name in layout.images)
    return np.stack([reduced(image) for image in decoded])


@dataclass(frozen=True)
class CopyLayout:
    """Say where a copy keeps the csv of labels and the images; masks and Dataset 2 are not read."""

    labels: str
    image: str
    kind: str

    @property
    def images(self) -> list[str]:
        """Return the files of images 1 to 300."""
        return [self.image.format(number) for number in range(1, IMAGES + 1)]

    @property
    def names(self) -> list[str]:
        """Return all files that are read."""
        return [self.labels, *self.images]


# In the official layout 001.png is the mask of 001.bmp; a copy without blanks and bitmaps names it 001_mask.png.
OFFICIAL = CopyLayout("Class Labels of Dataset 1.csv", "Dataset 1/{:03d}.bmp", "BMP")
RENAMED = CopyLayout("Class_Labels_of_Dataset_1.csv", "Dataset_1/{:03d}.png", "PNG")
RECIPES = {"wbc_stained": Recipe(CLASSES, make_cells, space=100_000_000, optional=True, parameters=PARAMETERS)}
