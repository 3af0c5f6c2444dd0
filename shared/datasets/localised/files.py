"""Read the files of releases: images of a bounded size, label images, .mat, ImageScope XML, masks in plain text."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy import ndimage

from shared.datasets.catalogue import DatasetError
from shared.datasets.localised.sound import TOUCHING, parts_of

SHAPES = {"0": "outline", "1": "rectangle", "2": "ellipse", "3": "arrow", "4": "ruler", "5": "ruler"}  # ImageScope's
ELLIPSE = 90  # corners of an ellipse
OPEN = 0.25  # of the length of a line, and three of its edges: ends farther apart close no outline, it is a stroke
LAST = 65535  # number of an object
PIXELS = 2**25  # that an image may have
BYTES = 2**28  # that a file may have
MATRIX, COMPRESSED, NUMBERS = 14, 15, {*range(1, 8), 9, 12, 13}  # types of the elements of a MATLAB file
NUMERIC, OPAQUE, COMPLEX = range(6, 16), 17, 1 << 11  # classes of its arrays, a flag
HEAD = 4096  # bytes, more than go before the data of an array
EXACT = ("PNG", "TIFF", "BMP")
FORMATS = (*EXACT, "JPEG")  # which changes numbers


def read_image(path: Path) -> np.ndarray:
    """Return (H, W, 3) uint8 of an RGB image; an opaque fourth channel is dropped.

    Raises
    ------
    DatasetError
        If it is not readable, too large, not RGB, transparent or of 16 bits a channel.
    """
    mode, pixels = _decoded(path)
    if mode == "RGBA" and (pixels[..., 3] == 255).all():
        mode, pixels = "RGB", np.ascontiguousarray(pixels[..., :3])
    if mode != "RGB":
        raise DatasetError(f"{path} is of mode {mode} where opaque RGB is needed; convert it")
    return pixels


def read_label_image(path: Path) -> np.ndarray:
    """Return (H, W) int32 of a label image: 0 = none, else the number of the object.

    An 8-bit file has no more than 255 numbers, so it is refused where it uses the last and some number marks several
    unconnected parts: it was cut to 8 bits, or it is a binary mask. A file of 16 bits is taken as it is.
    """
    mode, pixels = _decoded(path, EXACT)
    if mode not in ("L", "I;16", "I"):
        raise DatasetError(f"{path} is of mode {mode} where a grey label image of 16 bits is needed")
    label = numbered(pixels, path)
    if mode == "L" and label.max(initial=0) == 255:
        used = np.unique(label[label > 0]).tolist()
        parts = parts_of(label)
        if parts > len(used):
            raise DatasetError(
                f"{path} has 8 bits, and its {len(used)} numbers up to 255 mark {parts} separate parts: objects were "
                "lost in 8 bits or never numbered; save the label image with 16 bits, each object its own number"
            )
    return label


def numbered(values: np.ndarray, path: Path) -> np.ndarray:
    """Return the numbers of objects as int32; those that 16 bits do not hold are refused, not wrapped."""
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if not 0 <= low <= high <= LAST:
        raise DatasetError(f"{path} numbers objects from {low} to {high}; 0 is none, and {LAST} is the last there is")
    return values.astype(np.int32)


def read_mask(path: Path) -> np.ndarray:
    """Return (H, W) int32 of a label image, or of a binary mask, whose connected components are the objects."""
    mode, pixels = _decoded(path, EXACT)
    if mode in ("RGB", "RGBA") and (pixels[..., :3] == pixels[..., :1]).all():
        mode, pixels = "L", pixels[..., 0]
    if mode == "1" or (mode in ("L", "P", "I;16", "I") and len(np.unique(pixels[pixels > 0])) <= 1):
        return ndimage.label(pixels > 0, TOUCHING)[0].astype(np.int32)
    return read_label_image(path)


def read_mat(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """Return the named numeric arrays of a MATLAB file up to version 7; nothing in it is run.

    Raises
    ------
    DatasetError
        If it is of version 7.3, not readable, or an array is missing or not of numbers.
    """
    from scipy.io import loadmat

    content = _content(path)
    if content.startswith(b"MATLAB 7.3") or content[:8] == b"\x89HDF\r\n\x1a\n":
        raise DatasetError(f"{path} is a MATLAB file of version 7.3, which is not read; save it with -v7")
    try:
        strange = list(_strange_types(content, names))
        found = {} if strange else loadmat(io.BytesIO(content), variable_names=names)
    except Exception as error:  # damaged files make the reader raise almost anything
        raise DatasetError(f"{path} is not a readable MATLAB file ({error}); replace it") from error
    for name in strange or names:
        if name not in found or not isinstance(found[name], np.ndarray) or found[name].dtype.kind not in "biuf":
            raise DatasetError(f"{path} has no numeric array {name!r}; it is not the official file")
    return [found[name] for name in names]


def _strange_types(content: bytes, names: tuple[str, ...]) -> Iterator[str]:
    """Yield the named arrays that are not of real numbers, by the head of each.

    SciPy 1.17 looks a type of numbers that there is none of up beyond the end of its table, and crashes.
    """
    if 0 in content[:4]:  # version 4, whose reader is of Python
        return
    order, at = "<" if content[126:128] == b"IM" else ">", 128
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}2I", content, at)
        head = content[at + 8 : at + 8 + min(size, HEAD)]
        at += 8 + size
        if kind == COMPRESSED:
            head = zlib.decompressobj().decompress(head, HEAD)[8:]
        elif kind != MATRIX:
            continue
        (flags,), (_, place) = struct.unpack_from(f"{order}I", head, 8), _element(head, order, 16)
        (_, name), place = _element(head, order, place)
        if name.decode("latin-1") in names and flags & 0xFF != OPAQUE:
            (data, _), _ = _element(head, order, place)
            if flags & 0xFF not in NUMERIC or flags & COMPLEX or data not in NUMBERS:
                yield name.decode("latin-1")


def _element(head: bytes, order: str, at: int) -> tuple[tuple[int, bytes], int]:
    """Return type and content of an element of a MATLAB file, and the place of the next."""
    kind, size = struct.unpack_from(f"{order}2I", head, at)
    start = at + 8
    if kind >> 16:  # both in four bytes, the content in the next four
        kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
    return (kind, head[start : start + size]), start + size + -(start + size) % 8


def read_points(path: Path, name: str) -> np.ndarray:
    """Return (k, 2) float32 of the x, y pairs ``name`` of a MATLAB file, as row, column."""
    return pairs(read_mat(path, (name,))[0], f"{path}: {name}")


def pairs(values: np.ndarray, where: str) -> np.ndarray:
    """Return (k, 2) float32, row and column, of pairs x, y; an empty array of any shape has none.

    Raises
    ------
    DatasetError
        If they are no finite numbers of shape (k, 2).
    """
    if values.size and (values.ndim != 2 or values.shape[1] != 2):
        raise DatasetError(f"{where} has the shape {values.shape} where pairs x, y are expected, one a row; correct it")
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        row = "" if values.dtype.kind not in "iuf" else f"row {np.argwhere(~np.isfinite(values))[0, 0]} is not finite, "
        raise DatasetError(f"{where} of type {values.dtype}: {row}where pairs of numbers x, y are expected; correct it")
    return values.reshape(-1, 2)[:, ::-1].astype(np.float32)


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Return files by their names without ending; two of one name, of which one would go unread, are refused."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise DatasetError(f"{found[path.stem]} and {path} have one name; move the one that is not meant elsewhere")
        found[path.stem] = path
    return found


def read_text_mask(path: Path) -> np.ndarray:
    """Return (H, W) int32 of a mask in plain text: width and height, then the number of each pixel, row after row."""
    try:
        width, height, *numbers = map(int, _content(path).split())
    except ValueError as error:
        raise DatasetError(f"{path} is not a mask of whole numbers ({error}); replace it") from error
    if width < 1 or height < 1 or width * height != len(numbers):
        raise DatasetError(f"{path} says {width}x{height} pixels and holds {len(numbers)}; replace it")
    return numbered(np.array(numbers, dtype=object), path).reshape(height, width)


@dataclass(frozen=True)
class Outlines:
    """The regions of an Aperio ImageScope file.

    Attributes
    ----------
    regions, holes : (k, 2) float64 corners each, row and column; what lies in a hole belongs to no region.
    left_out : {what it is: how many}, of shapes without an area: arrows, rulers, strokes.
    """

    regions: list[np.ndarray]
    holes: list[np.ndarray]
    left_out: dict[str, int]


def read_outlines(path: Path) -> Outlines:
    """Return the regions of an Aperio ImageScope file: outlines, rectangles and ellipses; negative ones are holes.

    Raises
    ------
    DatasetError
        If it is not such a file, a coordinate is no number, a region is of an unknown type, or it declares a document
        type (entities could expand).
    """
    content = _content(path)
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", content, re.IGNORECASE) or b"\0" in content:  # no UTF-16 past the search
        raise DatasetError(f"{path} declares a document type or is not UTF-8; no ImageScope file does, it is refused")
    found = Outlines([], [], {})
    try:
        for region in ElementTree.fromstring(content).iter("Region"):
            points = [
                (float(vertex.get("Y", "nan")), float(vertex.get("X", "nan"))) for vertex in region.iter("Vertex")
            ]
            corners = np.array(points, np.float64).reshape(-1, 2)
            if not np.isfinite(corners).all():
                raise DatasetError(f"{path}: a Vertex has no number for X or Y; replace the file")
            kind, number = region.get("Type", "0"), region.get("Id", "?")
            if kind not in SHAPES:
                raise DatasetError(f"{path}: region {number} is of the unknown type {kind!r}; draw it as an outline")
            if (negative := region.get("NegativeROA", "0")) not in ("0", "1"):
                raise DatasetError(f"{path}: NegativeROA of region {number} is {negative!r}; 1 is a hole, 0 is none")
            outline = _outline(SHAPES[kind], corners)
            if outline is None:
                what = "stroke" if SHAPES[kind] == "outline" else SHAPES[kind]
                found.left_out[what] = found.left_out.get(what, 0) + 1
            else:
                (found.holes if negative == "1" else found.regions).append(outline)
    except (ElementTree.ParseError, ValueError) as error:
        raise DatasetError(f"{path} is not a readable ImageScope file ({error}); replace it") from error
    return found


def _outline(shape: str, corners: np.ndarray) -> np.ndarray | None:
    """Return the corners of the polygon that a shape fills; None where it fills nothing."""
    if (
        shape not in ("outline", "rectangle", "ellipse")
        or (corners.max(0, initial=0) <= corners.min(0, initial=0)).any()
    ):
        return None
    (top, left), (bottom, right) = corners.min(0), corners.max(0)
    if shape == "ellipse":  # given by the rectangle around it
        turn = np.linspace(0, 2 * np.pi, ELLIPSE, endpoint=False)
        return (
            np.stack([top + bottom + (bottom - top) * np.sin(turn), left + right + (right - left) * np.cos(turn)], 1)
            / 2
        )
    if shape == "rectangle" and len(corners) == 2:
        return np.array([(top, left), (top, right), (bottom, right), (bottom, left)])
    if len(corners) < 3:
        return None
    gap, edges = np.hypot(*(corners[0] - corners[-1])), np.hypot(*np.diff(corners, axis=0).T)
    return None if gap > max(OPEN * edges.sum(), 3 * edges.max()) else corners


def filled(regions: Sequence[np.ndarray], size: tuple[int, int], holes: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Return (H, W) int32 where region i, filled by the even-odd rule at the middles of pixels, has the number i + 1.

    A pixel in several regions belongs to the first of them, as in the release's own MATLAB code; one in a hole to none.
    """
    label = np.zeros(size, np.int32)
    for number, corners in enumerate(regions, 1):
        if len(corners) < 3:
            continue
        top, left = np.clip(np.floor(corners.min(0)), 0, size).astype(int)
        bottom, right = np.clip(np.ceil(corners.max(0)), 0, size).astype(int)
        if top >= bottom or left >= right:
            continue
        window = label[top:bottom, left:right]
        window[(window == 0) & _inside(corners, top, bottom, left, right)] = number
    if len(holes):
        label[filled(holes, size) > 0] = 0
    return label


def _inside(corners: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    rows, columns = np.arange(top, bottom) + 0.5, np.arange(left, right) + 0.5
    (y0, x0), (y1, x1) = corners.T, np.roll(corners, -1, 0).T
    crosses = (y0[:, None] <= rows) != (y1[:, None] <= rows)  # (edges, rows)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        at = x0[:, None] + (rows - y0[:, None]) * ((x1 - x0) / (y1 - y0))[:, None]
    return ((columns < at[..., None]) & crosses[..., None]).sum(0) % 2 == 1


def _decoded(path: Path, kinds: tuple[str, ...] = FORMATS) -> tuple[str, np.ndarray]:
    """Return mode and pixels of an image file of one of these kinds, whatever its name ends in."""
    from PIL import Image, UnidentifiedImageError

    content = _content(path)
    try:
        with Image.open(io.BytesIO(content), formats=kinds) as image:
            if image.width * image.height > PIXELS:
                raise DatasetError(f"{path} has {image.width}x{image.height} pixels, more than {PIXELS}; cut it")
            if image.mode in ("RGB", "RGBA") and _bits(image, content) > 8:  # which Pillow would silently cut to 8
                raise DatasetError(f"{path} has {_bits(image, content)} bits a channel where 8 are needed; convert it")
            mode, pixels = image.mode, np.array(image)
            size = image.size
            if size in _more_pages(image):  # smaller ones are previews, as of a pyramid
                raise DatasetError(
                    f"{path} has several pages of {size[0]}x{size[1]} pixels; save the one that is meant"
                )
            return mode, pixels
    except DatasetError:
        raise
    except UnidentifiedImageError:
        wrong = f"is not a readable image of the kinds {', '.join(kinds)}"
        raise DatasetError(f"{path} {wrong if content else 'is empty'}; replace it") from None
    except Exception as error:  # damaged files make the decoders raise almost anything
        raise DatasetError(f"{path} is not a readable image ({error}); replace it") from error


def _more_pages(image) -> Iterator[tuple[int, int]]:
    for page in range(1, getattr(image, "n_frames", 1)):
        image.seek(page)
        yield image.size


def _bits(image, content: bytes) -> int:
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (8,)))
    return content[24] if image.format == "PNG" else 8


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > BYTES:
            raise DatasetError(f"{path} has more than {BYTES} bytes; it is not of a release")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} is not readable ({error.strerror}); complete the set") from error
