"""Read, list and write files that people handle: stray ones are passed over, bad ones named, new ones written whole."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# What systems and editors leave beside files: .DS_Store, ._x, .x.swp; x~, #x#, x.bak; what archives of a Mac bring.
_STRAY = re.compile(r"\..*|.*~|#.*#|.*\.(swp|swo|orig|bak|tmp|part)|Thumbs\.db|desktop\.ini", re.IGNORECASE)
_STRAY_FOLDER = re.compile(r"\..+|__MACOSX|__pycache__")


def is_stray(path: Path, folder: Path) -> bool:
    """Return whether a file below `folder` is what a system or an editor left there."""
    *folders, name = path.relative_to(folder).parts
    return bool(_STRAY.fullmatch(name)) or any(map(_STRAY_FOLDER.fullmatch, folders))


def listed(folder: Path, pattern: str) -> list[Path]:
    """Return the files of `folder` that a pattern of `Path.glob` matches (``**/*.json``: at any depth).

    They are in natural order. Folders and stray files are none of them; a folder that is not there has none.
    """
    found = (path for path in folder.glob(pattern) if path.is_file() and not is_stray(path, folder))
    return sorted(found, key=lambda path: natural_key(path.relative_to(folder).as_posix()))


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


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to, and move it there when the block has ended well; else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def remove_parts(folder: Path) -> None:
    """Remove what `whole` left below a folder when its process was killed."""
    for part in folder.rglob(".*.part"):
        owner = re.fullmatch(r"\..*\.(\d+)\.part", part.name)
        if owner and not _is_alive(int(owner[1])):
            part.unlink(missing_ok=True)


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
