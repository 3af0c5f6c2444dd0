"""Cut faces out of family photos, one photo one bag: Images of Groups, Gallagher & Chen (CVPR 2009), from a mirror.

Barucic & Kybic 2022, Section 3.1, take the family photos: faces of people older than 12 years, rescaled to 96x120
pixels, no photo with more than 12 faces, 1,913 bags of 3,439 male and 4,012 female faces.

Verified on copies of the release's README.txt (its beginning) and page: the folders, ``PersonData.txt``, its two kinds
of rows, six numbers in a face row, the seven ranges of age, the terms of use. Not verified, for the release could not
be had: the order of the six numbers, the codes of age and gender, an address to download from, the photos. So no sha256
is recorded; decoders of JPEG may differ by a grey level anyway. `make_faces` says the counts beside the paper's.

The paper's authors publish their own crops with their code (github.com/barucden/mlellp, data/family-faces.tar.gz).
Where the mirror holds that archive, a plain tar of it, or its folder, these crops are taken: a bag is what stands
before the first "-" in a file's name, the label is the letter before its ending. Names and labels are as their reader
takes them; the archive itself could not be had, and the size of its images is not verified.
"""

import math
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from shared.datasets import archives
from shared.datasets.catalogue import Absent, Arrays, DatasetError, Recipe, Source, say
from shared.datasets.download import find_in_mirror
from shared.files import is_there, listed

# Ours where the paper is silent: it does not say how a region comes from the eyes that the release gives, nor whether
# 12 counts children. The crop is upright, not turned with the eyes; what lies beyond the photo repeats its border.
PARAMETERS: dict[str, Any] = {
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
CROPS = ("family-faces.tar.gz", "family-faces.tar", "family-faces")  # the authors' own, whichever there is
CROPS_COUNTS = (1913, 3439, 4012)  # bags, male, female: those of the paper
CROPS_MOST = 10_000  # members of their archive
LABELS = {"m": 0, "f": 1}
PHOTOS = (".jpg", ".jpeg")
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

    The paper deals the photos anew in each repetition: its callers pool both halves. The authors' own crops come before
    Gallagher's release where the mirror holds both.

    Returns
    -------
    dict
        ``*_x`` uint8 (N, 120, 96, 3); ``*_y`` int64 (N,), 1 = female; ``*_g`` int64 (N,), the photo of each face,
        numbered over both halves.

    Raises
    ------
    Absent
        If the mirror holds neither; the message says where to get them.
    DatasetError
        If a row, a photo, or a name or an image of the crops is not as it should be, or the crops are not as many as
        the paper's; the message names file and line.
    """
    try:
        crops_at = find_in_mirror(replace(source, mirror=" ".join(CROPS)))
    except Absent:
        pass
    else:
        return split_photos(*authors_crops(crops_at, source.name))
    try:
        folder = find_in_mirror(source)
    except Absent as error:
        folders = ", ".join(PARAMETERS["folders"])
        raise Absent(
            f"{error}; get the release (non-commercial research only) from its authors, {source.url}, put its folders "
            f"{folders} into a folder {source.mirror.split()[0]} and set LLP_MIRROR to the folder around that; or put "
            f"the crops that the paper's authors publish with their code, {CROPS[0]}, into the mirror"
        ) from None
    say(f"{source.name}: reading {folder}")
    faces, labels, groups, photos = [], [], [], 0
    for name in PARAMETERS["folders"]:
        unnamed = {path.name for path in listed(folder / name, "*", DatasetError) if path.suffix.lower() in PHOTOS}
        for photo, rows in read_rows(folder / name / "PersonData.txt"):
            unnamed.discard(photo.name)
            kept = bag(rows)
            if kept:
                faces += crops(photo, kept)
                labels += [face.label for face in kept]
                groups += [photos] * len(kept)
                photos += 1
        if unnamed:
            of = f"{len(unnamed)} photos of {folder / name} are in no row of PersonData.txt, as {min(unnamed)}"
            say(f"{source.name}: {of}; if that file was cut off, replace it and fetch again")
    if photos < 2:
        raise DatasetError(f"{folder} has {photos} photos with faces older than 12 years; complete the mirror")
    female = sum(labels)
    say(f"{source.name}: {photos} bags of {len(labels) - female} male and {female} female faces; {REPORTED}")
    return split_photos(np.stack(faces), np.array(labels, np.int64), np.array(groups, np.int64), photos)


def authors_crops(path: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Read the crops that the paper's authors publish: a ``.tar.gz``, a tar, or a folder of images.

    Returns
    -------
    (faces uint8 (N, 120, 96, 3), labels (N,), photo of each (N,), number of photos), photos in the order of their
    names. Crops of another size are rescaled to 96x120.

    Raises
    ------
    DatasetError
        For a member that is no plain image by a plain name, a name without bag or label, an unreadable image, and
        counts of bags, male and female faces that are not the paper's.
    """
    say(f"{name}: reading the authors' crops, {path}")
    found: dict[tuple[str, str], tuple[int, np.ndarray]] = {}
    for member, content in _images(path):
        photo, dash, rest = member.partition("-")
        label = rest.rpartition(".")[0][-1:]
        if not (photo and dash and label in LABELS):
            raise DatasetError(f"{path}: {member!r} is not called <photo>-<...>f or m and an ending; replace it")
        if (photo, rest) in found:
            raise DatasetError(f"{path}: {member!r} is there twice; it is not the authors' archive")
        found[photo, rest] = LABELS[label], _rescaled(content, f"{path}: {member}")
    order = sorted(found)
    photos = sorted({photo for photo, _ in order})
    female = sum(found[key][0] for key in order)
    counts = (len(photos), len(order) - female, female)
    said = "{} bags of {} male and {} female faces"
    if counts != CROPS_COUNTS:
        raise DatasetError(
            f"{path} has {said.format(*counts)} where the paper has {said.format(*CROPS_COUNTS)}; it is not the whole "
            "archive of the authors, replace it"
        )
    say(f"{name}: {said.format(*counts)}, as in the paper")
    numbers = {photo: number for number, photo in enumerate(photos)}
    faces = np.stack([found[key][1] for key in order])
    labels = np.array([found[key][0] for key in order], np.int64)
    return faces, labels, np.array([numbers[photo] for photo, _ in order], np.int64), len(photos)


def _images(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name without folders, content) of each file of a folder, or of a tar, of which nothing is extracted."""
    if path.is_dir():
        for count, file in enumerate(listed(path, "**/*", DatasetError), 1):
            if count > CROPS_MOST or file.is_symlink() or file.stat().st_size > BYTES:
                raise DatasetError(f"{file} is a link, too large or one of more than {CROPS_MOST} files; remove it")
            yield file.name, file.read_bytes()
        return

    def is_image(member: tarfile.TarInfo) -> bool:
        if member.size > BYTES:
            raise DatasetError(f"{path}: {member.name!r} has more than {BYTES} bytes; it is not the authors' archive")
        return member.isfile()

    for name, content in archives.members(path, is_image, CROPS_MOST, "replace it"):
        yield PurePosixPath(name).name, content


def _rescaled(content: bytes, where: str) -> np.ndarray:
    """An image of a face as uint8 (120, 96, 3)."""
    from PIL import Image

    kind = "PNG" if content.startswith(b"\x89PNG") else "JPEG"
    image, size = archives.decode_image(content, kind, PIXELS, where), (PARAMETERS["width"], PARAMETERS["height"])
    if image.shape[1::-1] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


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
    if not is_there(path, DatasetError):
        raise DatasetError(f"{path} is missing; complete the mirror")
    if path.stat().st_size > TEXT:
        raise DatasetError(f"{path} has more than {TEXT} bytes; it is not the official file")
    photo: Path | None = None
    rows: list[Face] = []
    seen: set[str] = set()
    for number, line in enumerate(path.read_text(encoding="latin1").splitlines(), 1):
        where, text = f"{path}, line {number}", line.strip()
        if text.lower().endswith(PHOTOS):
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
    if not is_there(photo, DatasetError):
        raise DatasetError(f"{photo} is missing ({where}); complete the mirror")
    if photo.stat().st_size > BYTES:
        raise DatasetError(f"{photo} has more than {BYTES} bytes ({where}); it is not the official file")
    image = archives.decode_image(photo.read_bytes(), "JPEG", PIXELS, str(photo))
    height, width, _ = image.shape
    for face in faces:
        outside = [eye for eye in face.eyes if not (0 <= eye[0] <= width and 0 <= eye[1] <= height)]
        if outside:
            raise DatasetError(f"{face.where}: the eye {outside[0]} lies outside {photo.name}, {width}x{height} pixels")
        left, top, right, bottom = box(face)
        if (right - left) * (bottom - top) > PIXELS:
            size = f"{right - left:.0f}x{bottom - top:.0f}"
            raise DatasetError(f"{face.where}: the face has {size} pixels, more than {PIXELS}; correct its eyes")
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
