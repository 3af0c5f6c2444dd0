"""Read others' files: tars by known names, pickles without running them, images of a bounded size."""

import contextlib
import gzip
import io
import pickle
import pickletools
import tarfile
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np

from shared.datasets.catalogue import DatasetError

MEMBER_LIMIT = 256_000_000
TOTAL_LIMIT = 512_000_000
COUNT_LIMIT = 1_000

_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a named pipe",
}
_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
_REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"}


def read_tar(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the wanted members of a ``.tar.gz`` in its order; nothing is extracted.

    Raises
    ------
    DatasetError
        If any member is not a plain file or folder with a plain relative name, a limit on size or number is
        passed, a wanted member is missing or there twice, or the archive is damaged.
    """
    left = set(wanted)

    def take(member: tarfile.TarInfo) -> bool:
        if member.name in wanted and member.name not in left:
            raise DatasetError(f"{path}: {member.name!r} is there twice; it is not the official file")
        left.discard(member.name)
        return member.name in wanted

    yield from members(path, take, COUNT_LIMIT, "remove it and fetch again")
    if left:
        raise DatasetError(f"{path} has no {', '.join(sorted(left))}; it is truncated or not the official file")


def members(
    path: Path, wanted: Callable[[tarfile.TarInfo], bool], most: int, remedy: str
) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the wanted members of a tar, gzipped unless its name ends in ``.tar``, in its order.

    Nothing is extracted.

    Parameters
    ----------
    wanted : asked of each member, in turn; may raise.
    most : members it may have.
    remedy : what a person is told to do where it is damaged.

    Raises
    ------
    DatasetError
        If any member is not a plain file or folder with a plain relative name, a limit on size or number is
        passed, or the archive is damaged.
    """
    try:
        with (
            path.open("rb") if path.suffix == ".tar" else gzip.open(path) as unpacked,
            tarfile.open(fileobj=cast(BinaryIO, _Bounded(cast(BinaryIO, unpacked), path)), mode="r|") as tar,
        ):
            for count, member in enumerate(tar, 1):
                _refuse_tricks(member, path)
                if count > most:
                    raise DatasetError(f"{path} holds more than {most} members; it is not the official file")
                if wanted(member):
                    if not member.isfile():
                        raise DatasetError(f"{path}: member {member.name!r} is a folder, not a file; {remedy}")
                    content = tar.extractfile(member)
                    assert content is not None  # as of any file
                    yield member.name, content.read()
            while tar.fileobj.read(tarfile.RECORDSIZE):  # to the end, where gzip keeps its checksum
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DatasetError(f"{path} is damaged or truncated ({error}); {remedy}") from error


def _refuse_tricks(member: tarfile.TarInfo, path: Path) -> None:
    """Refuse, with a DatasetError, a member that is no plain file or folder, points outside, or is too large."""
    name = PurePosixPath(member.name)
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
        kind = _KINDS.get(member.type, f"of type {member.type!r}")
        raise DatasetError(f"{path}: member {member.name!r} is {kind}, not a plain file; the archive is refused")
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        raise DatasetError(f"{path}: member {member.name!r} points outside the archive; the archive is refused")
    if not 0 <= member.size <= MEMBER_LIMIT:
        raise DatasetError(
            f"{path}: member {member.name!r} has {member.size} bytes, more than {MEMBER_LIMIT}; the archive is refused"
        )


def read_pickle(content: bytes, where: str) -> dict[str, Any]:
    """Read a pickled dictionary without calling anything that it names.

    Every global becomes an inert `_Global`, every call a `_Call` that only remembers its arguments; `pixels`
    turns such a record of an array into the array.

    Raises
    ------
    DatasetError
        If the pickle asks for any global but the few of a pickled array, uses persistent ids, extension codes
        or out-of-band buffers, is damaged, or is not a dictionary.
    """
    try:
        # The C unpickler takes cached extension codes past find_class and sizes its memo by the top index.
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name in _REFUSED_OPCODES:
                raise DatasetError(f"{where}: the pickle uses {opcode.name}, which no official file does; refused")
            if opcode.name.endswith("PUT") and not 0 <= int(argument or 0) <= len(content):
                raise DatasetError(f"{where}: the pickle asks for memo {argument}; refused")
        value = _Unpickler(content, where).load()
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(f"{where} is not a readable pickle ({type(error).__name__}: {error})") from error
    if not isinstance(value, dict):
        raise DatasetError(f"{where} holds a {type(value).__name__} where a dictionary is expected")
    return {_text(key): item for key, item in value.items()}


def pixels(value: Any, shape: tuple[int, int], where: str) -> np.ndarray:
    """Turn the record of a pickled array into that array.

    Returns
    -------
    ndarray
        uint8 of exactly ``shape``.
    """
    if not (isinstance(value, _Call) and value.name == "_reconstruct" and isinstance(value.state, tuple)):
        raise DatasetError(f"{where} is a {type(value).__name__}, not an array")
    if len(value.state) != 5:
        raise DatasetError(f"{where} is an array of an unknown pickle version")
    _, found, dtype, fortran, raw = value.state
    code = _text(dtype.args[0]) if isinstance(dtype, _Call) and dtype.name == "dtype" and dtype.args else dtype
    if code not in ("u1", "|u1"):
        raise DatasetError(f"{where} has dtype {_shown(code)} where uint8 is expected")
    if found != shape or not all(type(size) is int for size in found):
        raise DatasetError(f"{where} has shape {_shown(found)} where {shape} is expected")
    raw = _bytes(raw)
    if not isinstance(raw, bytes) or len(raw) != shape[0] * shape[1]:
        length = len(raw) if isinstance(raw, bytes) else "no"
        raise DatasetError(f"{where} has {length} bytes where {shape[0] * shape[1]} are expected")
    flat = np.frombuffer(raw, np.uint8)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def whole_numbers(value: Any, n: int, n_classes: int, where: str) -> np.ndarray:
    """Check a list of labels and return it as int64 of shape (n,)."""
    if not isinstance(value, list) or len(value) != n:
        length = f"{len(value)} values" if isinstance(value, list) else type(value).__name__
        raise DatasetError(f"{where} has {length} where {n} labels are expected")
    wrong = next((label for label in value if type(label) is not int or not 0 <= label < n_classes), None)
    if wrong is not None or None in value:
        raise DatasetError(f"{where} holds the label {_shown(wrong)} where 0 to {n_classes - 1} are expected")
    return np.array(value, np.int64)


def read_png(content: bytes, shape: tuple[int, int], where: str) -> np.ndarray:
    """Decode an RGB PNG of exactly ``shape`` = (height, width) to uint8 (height, width, 3)."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.size != shape[::-1] or image.mode != "RGB":
                raise DatasetError(f"{where} is {image.size} {image.mode} where {shape[::-1]} RGB is expected")
            return np.asarray(image)
    except DatasetError:
        raise
    except Exception as error:  # damaged files make the decoder raise almost anything
        raise DatasetError(f"{where} is not a readable PNG ({error}); replace the file") from error


def decode_image(content: bytes, kind: str, most: int, where: str) -> np.ndarray:
    """Decode an image file to uint8 RGB (height, width, 3).

    Parameters
    ----------
    kind : str
        The only format it may have, in Pillow's words: BMP, JPEG or PNG.
    most : int
        Pixels it may have; a larger one is refused before it is decoded.

    Raises
    ------
    DatasetError
        If it is of another format, larger, truncated or damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=(kind,)) as image:
                if image.width * image.height > most:
                    size = f"{image.width}x{image.height}"
                    raise DatasetError(f"{where} has {size} pixels, more than {most}; it is not the official file")
                if image.mode.startswith(("I", "F")):  # which a conversion cuts to 255
                    raise DatasetError(f"{where} has more than 8 bits a pixel (mode {image.mode}); replace the file")
                return np.asarray(image.convert("RGB"))
    except DatasetError:
        raise
    except UnidentifiedImageError:
        why = "its content is another" if content else "it is empty"
        raise DatasetError(f"{where} is not a readable {kind} ({why}); replace the file") from None
    except Exception as error:  # damaged files make the decoders raise almost anything
        raise DatasetError(f"{where} is not a readable {kind} ({error}); replace the file") from error


def _bytes(value: Any) -> Any:
    # Python 3 writes bytes in protocol 2 as _codecs.encode(text, "latin1").
    if isinstance(value, _Call) and value.name == "encode" and len(value.args) == 2:
        text, encoding = value.args
        if isinstance(text, str) and _text(encoding) == "latin1":
            with contextlib.suppress(UnicodeEncodeError):
                return text.encode("latin1")
    return value


def _text(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _shown(value: Any) -> str:
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):  # numbers of too many digits, tuples nested too deep
        return f"a huge {type(value).__name__}"


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than `TOTAL_LIMIT` bytes."""

    def __init__(self, stream: BinaryIO, path: Path):
        self.stream, self.path, self.given = stream, path, 0

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(size)
        self.given += len(content)
        if self.given > TOTAL_LIMIT:
            raise DatasetError(f"{self.path} unpacks to more than {TOTAL_LIMIT} bytes; the archive is refused")
        return content


class _Call:
    """What a pickle asked to be called, and was not."""

    __slots__ = ("args", "name", "state")

    def __init__(self, name: str, args: tuple):
        self.name, self.args, self.state = name, args, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Global:
    """An inert name; calling it records the call."""

    __slots__ = ("_name",)

    def __init__(self, name: str):
        self._name = name

    def __call__(self, *args: Any) -> _Call:
        return _Call(self._name, args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"sets the state of {self._name}")


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, where: str):
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.where = where

    def find_class(self, module: str, name: str) -> _Global:
        if (module, name) not in _GLOBALS:
            raise DatasetError(
                f"{self.where}: the pickle asks for {module}.{name}, which no official file does; refused"
            )
        return _Global(name)
