"""Read, list and write files that people handle: stray ones are passed over, bad ones named, new ones written whole."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# What systems and editors leave beside files: .DS_Store, ._x, .x.swp; x~, #x#, x.bak; what archives of a Mac bring.
_STRAY = re.compile(r"\..*|.*~|#.*#|.*\.(swp|swo|orig|bak|tmp|part)|Thumbs\.db|desktop\.ini", re.IGNORECASE)
_STRAY_FOLDER = re.compile(rf"{_STRAY.pattern}|__MACOSX|__pycache__", re.IGNORECASE)
LONGEST = 1200  # characters of a sentence
FOREIGN = 86_400.0  # seconds after which a part of a process that cannot be asked counts as left behind
# What to do about a disk that takes no more (NumPy gives that no number), and one that may not be written.
REMEDIES: dict[int | None, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None), "make room and call again"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable and call again"),
}


class Sentence(Exception):
    """An error that is one sentence for a person, whatever text of a file it quotes: in one line and not endless."""

    def __str__(self) -> str:
        """Return it with control characters as escapes, and cut in its middle where it is very long."""
        said = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: ascii(found[0])[1:-1], Exception.__str__(self))
        return said if len(said) <= LONGEST else f"{said[: LONGEST * 3 // 4]} ... {said[-LONGEST // 5 :]}"


def is_stray(path: Path, folder: Path) -> bool:
    """Return whether a file below `folder` is what a system or an editor left there."""
    *folders, name = path.relative_to(folder).parts
    return bool(_STRAY.fullmatch(name)) or any(map(_STRAY_FOLDER.fullmatch, folders))


def listed(folder: Path, pattern: str, error: Callable[[str], Exception] | None = None) -> list[Path]:
    """Return the files of `folder` that a pattern of `Path.glob` matches (``**/*.json``: at any depth).

    They are in natural order. Folders and stray files are none of them; a folder that is not there has none.

    Parameters
    ----------
    error : raised, in one sentence, where a file or folder would be left out though its name is right: a link to
        nothing, a folder that cannot be read. Links to folders are then followed. Without it, all these have no files.
    """
    deep = pattern.removeprefix("**/")
    paths = _below(folder, deep, error) if error and deep != pattern else folder.glob(pattern)
    kept = [path for path in paths if not is_stray(path, folder)]
    kept.sort(key=lambda path: natural_key(path.relative_to(folder).as_posix()))
    return [path for path in kept if (is_there(path, error) if error else path.is_file())]


def is_there(path: Path, error: Callable[[str], Exception]) -> bool:
    """Return whether there is a file at `path`; a link to nothing is an error: tools leave such."""
    if path.is_symlink() and not path.exists():
        raise error(
            f"{path} is a link to nothing, {os.readlink(path)}; have what it points to fetched (`git annex get`, "
            "`dvc checkout`), or put a copy there"
        )
    return path.is_file()


def _below(folder: Path, pattern: str, error: Callable[[str], Exception]) -> Iterator[Path]:
    """Yield what a pattern without ``**`` matches in `folder` and all folders below it, links to folders included."""

    def unreadable(wrong: OSError) -> None:
        raise error(f"{wrong.filename} cannot be read: {wrong.strerror}; make it readable")

    if not folder.is_dir():
        return
    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        real = Path(place).resolve()
        named = (name for name in folders if not _STRAY_FOLDER.fullmatch(name))
        folders[:] = [name for name in named if not real.is_relative_to((real / name).resolve())]  # no way in circles
        for name in (*names, *folders):
            path = Path(place, name)
            if path.relative_to(folder).match(pattern):
                yield path


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts img2 before img10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def read_text(path: Path, error: Callable[[str], Exception]) -> str:
    """Return the text of a UTF-8 file.

    Raises
    ------
    error
        Naming the file, where it is not there, cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # a byte order mark, as of Excel, is none of the text
    except FileNotFoundError:
        raise error(f"{path} does not exist") from None
    except UnicodeDecodeError as wrong:
        raise error(f"{path} is not a text in UTF-8 (byte {wrong.start}: {wrong.reason})") from None
    except OSError as wrong:
        raise error(f"{path} cannot be read: {wrong.strerror}") from None


def remade(text: str, begin: str, inside: str, end: str) -> str:
    """Return a text with `inside` in place of what stands between two marks; without both marks, as it is."""
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    return f"{before}{begin}\n{inside}\n{end}{after}" if found and closed else text


def sentence_of(error: Exception, place: Path | str = "") -> str:
    """Return what an error says, in one sentence; of an OSError the file, the system's words and what to do.

    Parameters
    ----------
    place : what is named where the error names no file.
    """
    if not isinstance(error, OSError):
        return str(error)
    at, remedy = error.filename or place, REMEDIES.get(error.errno, "mend that and call again")
    return str(Sentence(f"{at}: {error.strerror or error}; {remedy}" if at else f"{error.strerror or error}; {remedy}"))


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to, and move it there when the block has ended well; else remove it.

    What is written may be a folder; then nothing, or an empty folder, must be at `path` when the block ends.

    An OSError of the block that names no file names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # of a disk that cannot be written, there is none
            _remove(part)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(part)):
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def remove_parts(folder: Path) -> None:
    """Remove what `whole` left below a folder when its process was killed.

    On a file system that machines share, whether a process of another one lives cannot be asked: what it left goes
    when nothing was written to it for a day.
    """
    for part in folder.rglob(".*.part"):
        owner = re.fullmatch(r"\..*\.(?:([0-9a-f]{8})-)?(\d+)\.part", part.name)
        with contextlib.suppress(FileNotFoundError):  # its process has moved it to its place
            idle = time.time() - part.stat().st_mtime
            if owner and (not _is_alive(int(owner[2])) if owner[1] == _machine() else idle > FOREIGN):
                _remove(part)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)


@functools.cache
def _machine() -> str:
    """Eight digits for where numbers of processes mean the same: this machine, or this container on it."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


# A terminal of another encoding shows "\xb1" for what it cannot, where Python would stop after the work is done.
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")
