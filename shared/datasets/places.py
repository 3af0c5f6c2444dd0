"""Say where data lie, the folder of prepared sets and the mirror, and how a published text names the two."""

import os
import re
from pathlib import Path

from shared.datasets.catalogue import REPO, SOURCES, DatasetError

DATA, MIRROR = "LLP_DATA", "LLP_MIRROR"
# What `download.find_in_mirror` says, and paths of two names or more in folders without a name that everybody knows.
_ABSENT = re.compile(rf"{MIRROR} names (?:no mirror folder|\S+, which (?:is not a folder|holds none of [^;:]+))")
_ELSEWHERE = re.compile(r"(?<![\w.$~/:*)}>-])(?:/[^\s/'\"`,;:()]+)+/([^\s/'\"`,;:()]+)")


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder of all sets, an absolute path: ``root``, else ``$LLP_DATA``, else ``<repository>/data``."""
    return _folder(root or os.environ.get(DATA) or REPO / "data")


def mirror_root() -> Path | None:
    """Return the folder that ``LLP_MIRROR`` names, there or not, as an absolute path; None where it names none."""
    mirror = os.environ.get(MIRROR)
    return _folder(mirror) if mirror else None


def check_tracked() -> None:
    """Refuse, where DVC runs a stage, prepared data that lie elsewhere than where DVC tracks them.

    Raises
    ------
    DatasetError
        Naming the setting and what to do.
    """
    if os.environ.get("DVC_STAGE") and data_root().resolve() != (REPO / "data").resolve():
        raise DatasetError(
            f"{DATA} is {os.environ[DATA]!r}, and DVC tracks what lies in {REPO / 'data'}; unset {DATA}, or make that "
            "folder a link to where the data lie"
        )


def says_not_mirrored(text: str) -> bool:
    """Return whether the text of an error says that there is no mirror, or that a set is not in it."""
    return bool(re.search(rf"{MIRROR} names (no mirror folder|.+?, which (is not a folder|holds none of ))", text))


def _folder(path: str | Path) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise DatasetError(f"{path} begins with a ~ that names no home; write the whole path") from None


def portable(text: object) -> str:
    """Return the text of an error in one line that is the same on every machine and for all settings.

    Files are named below ``$LLP_DATA`` and ``$LLP_MIRROR``, whether or not these are set and wherever they are, files
    of the repository below ``.``, and all others by their last part alone. That there is no mirror, that it is no
    folder, and that a set is not in it is one and the same reason.
    """
    said = " ".join(str(text).split())
    places = [(data_root(), f"${DATA}"), (mirror_root(), f"${MIRROR}"), (SOURCES, "./data/sources.csv"), (REPO, ".")]
    named: dict[str, str] = {}
    for place, name in places:
        for path in (place, place.resolve()) if place else ():
            named.setdefault(str(path), name)
    for written in sorted(named, key=len, reverse=True):
        said = named[written].join(re.split(rf"(?<![\w.]){re.escape(written)}(?![\w-]|\.\w)", said))
    return _ABSENT.sub(f"it is not in ${MIRROR}", _ELSEWHERE.sub(r"\1", said))
