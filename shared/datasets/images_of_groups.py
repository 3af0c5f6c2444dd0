"""Cut faces out of family photos, one photo one bag: Images of Groups, Gallagher & Chen (CVPR 2009), from a mirror.

Barucic & Kybic 2022, Section 3.1, take the family photos: faces of people older than 12 years, rescaled to 96x120
pixels, no photo with more than 12 faces, 1,913 bags of 3,439 male and 4,012 female faces.

Verified on copies of the release's README.txt (its beginning) and page: the folders, ``PersonData.txt``, its two kinds
of rows, six numbers in a face row, the seven ranges of age, the terms of use. Not verified, for the release could not
be had: the order of the six numbers, the codes of age and gender, an address to download from, the photos. So no sha256
is recorded; decoders of JPEG may differ by a grey level anyway. `make_faces` says the counts beside the paper's.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.datasets import archives
from shared.datasets.catalogue import Absent, Arrays, DatasetError, Recipe, Source, say
from shared.datasets.download import find_in_mirror

# Ours where the paper is silent: it does not say how a region comes from the eyes that the release gives, nor whether
# 12 counts children. The crop is upright, not turned with the eyes; what lies beyond the photo repeats its border.
PARAMETERS = {
    "folders": ["Fam2a", "Fam4a", "Fam5a", "Fam8a"],
    "youngest": 16,  # code of 13 to 19 years
    "most_faces": 12,
    "most_faces_counts": "faces that are kept, not children",
    "width": 96,
    "height": 120,
    "crop_width": 2.5,  # times the distance of the eyes
    "eyes_at": [0.5, 0.4],  # where the middle of the eyes lies, in parts of the crop's width and height
    "filter": "bilinear",
    "test_share": 0.2,
    "split_seed": 0,
}
CLASSES = ("male", "female")
AGES = (1, 5, 10, 16, 28, 51, 75)  # middle years of 0-2, 3-7, 8-12, 13-19, 20-36, 37-65, 66 and more
GENDERS = {1: 1, 2: 0}  # the release says 1 for female and 2 for male
REPORTED = "the paper has 1913 bags of 3439 male and 4012 female faces"
TEXT = 10_000_000  # bytes of a PersonData.txt
BYTES = 30_000_000  # bytes of a photo
PIXELS = 25_000_000


@dataclass(frozen=True)
class Face:
    """Hold a face row.

    Attributes
    ----------
    eyes : (x, y) of each, in pixels of the photo, as stored.
    age : code of age.
    label : 1 = female.
    where : its place.
    """

    eyes: tuple[tuple[float, float], tuple[float, float]]
    age: int
    label: int
    where: str


def make_faces(source: Source, work: Path) -> Arrays:
    """Cut the faces out of the photos of the mirror, photo by photo, and deal the photos 80 to 20 (fixed seed).

    The paper deals the photos anew in each repetition: its callers pool both halves.

    Returns
    -------
    dict
        ``*_x`` uint8 (N, 120, 96, 3); ``*_y`` int64 (N,), 1 = female; ``*_g`` int64 (N,), the photo of each face,
        numbered over both halves.

    Raises
    ------
    Absent
        If the mirror does not hold the release; the message says where to get it.
    DatasetError
        If a row or a photo is not as it should be; the message names file and line.
    """
    try:
        folder = find_in_mirror(source)
    except Absent as error:
        folders = ", ".join(PARAMETERS["folders"])
        raise Absent(
            f"{error}; get the release (non-commercial research only) from its authors, {source.url}, put its folders "
            f"{folders} into a folder {source.mirror} and set LLP_MIRROR to the folder around that"
        ) from None
    say(f"{source.name}: reading {folder}")
    faces, labels, groups, photos = [], [], [], 0
    for name in PARAMETERS["folders"]:
        for photo, rows in read_rows(folder / name / "PersonData.txt"):
            kept = bag(rows)
            if kept:
                faces += crops(photo, kept)
                labels += [face.label for face in kept]
                groups += [photos] * len(kept)
                photos += 1
    if photos < 2:
        raise DatasetError(f"{folder} has {photos} photos with faces older than 12 years; complete the mirror")
    female = sum(labels)
    say(f"{source.name}: {photos} bags of {len(labels) - female} male and {female} female faces; {REPORTED}")
    return split_photos(np.stack(faces), np.array(labels, np.int64), np.array(groups, np.int64), photos)


def bag(rows: list[Face]) -> list[Face]:
    """Return the faces of a photo that make a bag: nobody of 12 years or less; none where more than 12 are left."""
    kept = [face for face in rows if face.age >= PARAMETERS["youngest"]]
    return kept if len(kept) <= PARAMETERS["most_faces"] else []


def read_rows(path: Path) -> Iterator[tuple[Path, list[Face]]]:
    """Yield each photo of a ``PersonData.txt`` with its faces, in the order of the file.

    Raises
    ------
    DatasetError
        If the file is missing or a row is neither the plain name of a photo nor a face; it names the line.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is missing; complete the mirror")
    if path.stat().st_size > TEXT:
        raise DatasetError(f"{path} has more than {TEXT} bytes; it is not the official file")
    photo, rows, seen = None, [], set()
    for number, line in enumerate(path.read_text(encoding="latin1").splitlines(), 1):
        where, text = f"{path}, line {number}", line.strip()
        if text.lower().endswith((".jpg", ".jpeg")):
            if photo is not None:
                yield photo, rows
            if "/" in text or "\\" in text or "\0" in text or text in seen:
                wrong = "there twice" if text in seen else "no plain file name"
                raise DatasetError(f"{where}: photo {text[:80]!r} is {wrong}; replace the file")
            photo, rows = path.parent / text, []
            seen.add(text)
        elif text:
            if photo is None:
                raise DatasetError(f"{where}: {text[:80]!r} stands before any photo; replace the file")
            rows.append(_face(text, where))
    if photo is not None:
        yield photo, rows


def crops(photo: Path, faces: list[Face]) -> list[np.ndarray]:
    """Cut faces out of a photo: uint8 (120, 96, 3) each. Turns noted in the file (EXIF) are not applied."""
    where = faces[0].where
    if not photo.is_file():
        raise DatasetError(f"{photo} is missing ({where}); complete the mirror")
    if photo.stat().st_size > BYTES:
        raise DatasetError(f"{photo} has more than {BYTES} bytes ({where}); it is not the official file")
    image = archives.decode_image(photo.read_bytes(), "JPEG", PIXELS, str(photo))
    height, width, _ = image.shape
    for face in faces:
        outside = [eye for eye in face.eyes if not (0 <= eye[0] <= width and 0 <= eye[1] <= height)]
        if outside:
            raise DatasetError(f"{face.where}: the eye {outside[0]} lies outside {photo.name}, {width}x{height} pixels")
    return [crop(image, face) for face in faces]


def box(face: Face) -> tuple[float, float, float, float]:
    """Return the region of a face in the photo (left, top, right, bottom), by the rule in `PARAMETERS`."""
    (x, y), (x2, y2) = face.eyes
    width = PARAMETERS["crop_width"] * math.hypot(x2 - x, y2 - y)
    height = width * PARAMETERS["height"] / PARAMETERS["width"]
    left = (x + x2) / 2 - PARAMETERS["eyes_at"][0] * width
    top = (y + y2) / 2 - PARAMETERS["eyes_at"][1] * height
    return left, top, left + width, top + height


def crop(image: np.ndarray, face: Face) -> np.ndarray:
    """Cut one face out of (H, W, 3) uint8 and rescale it to (120, 96, 3)."""
    from PIL import Image

    left, top, right, bottom = box(face)
    x, y = math.floor(left), math.floor(top)
    # Repeating the border by index pads without a copy of the photo.
    rows = np.clip(np.arange(y, math.ceil(bottom)), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(x, math.ceil(right)), 0, image.shape[1] - 1)
    region = Image.fromarray(image[rows[:, None], columns])
    size = PARAMETERS["width"], PARAMETERS["height"]
    return np.asarray(region.resize(size, Image.Resampling.BILINEAR, box=(left - x, top - y, right - x, bottom - y)))


def split_photos(faces: np.ndarray, labels: np.ndarray, groups: np.ndarray, photos: int) -> Arrays:
    """Deal whole photos into training and test."""
    order = np.random.RandomState(PARAMETERS["split_seed"]).permutation(photos)
    test = np.isin(groups, order[: round(PARAMETERS["test_share"] * photos)])
    parts = {"train": ~test, "test": test}
    arrays = {"x": faces, "y": labels, "g": groups}
    return {f"{part}_{kind}": array[mine] for part, mine in parts.items() for kind, array in arrays.items()}


def _face(text: str, where: str) -> Face:
    try:
        x, y, x2, y2, age, gender = (float(number) for number in text.split())
    except ValueError:
        raise DatasetError(f"{where}: {text[:80]!r} is neither a photo nor six numbers; replace the file") from None
    if age not in AGES or gender not in GENDERS:
        raise DatasetError(
            f"{where}: age {age:g} and gender {gender:g} where one of {AGES} and 1 or 2 are expected; replace the file"
        )
    if not math.hypot(x2 - x, y2 - y) >= 1:  # NaN too
        eyes = f"({x:g}, {y:g}) and ({x2:g}, {y2:g})"
        raise DatasetError(f"{where}: the eyes {eyes} are not a pixel apart; replace the file")
    return Face(((x, y), (x2, y2)), int(age), GENDERS[int(gender)], where)


RECIPES = {
    "images_of_groups": Recipe(CLASSES, make_faces, space=600_000_000, optional=True, parameters=PARAMETERS),
}
