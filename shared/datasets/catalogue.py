"""Say what a dataset is here: its recipe in code and, row by row in data/sources.csv, the ways to obtain it."""

import csv
import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from shared.files import Sentence

REPO = Path(__file__).resolve().parents[2]
SOURCES = REPO / "data" / "sources.csv"
ARRAYS = ("train_x", "train_y", "test_x", "test_y")
GROUPS = ("train_g", "test_g")  # only where instances come in natural groups

Arrays = Mapping[str, np.ndarray]


def say(message: str) -> None:
    """Tell the person at the terminal; standard output stays free for answers."""
    print(message, file=sys.stderr, flush=True)


def read_sources(path: str | Path | None = None) -> dict[str, tuple["Source", ...]]:
    """Read a table of sources (default ``data/sources.csv``).

    Returns
    -------
    dict
        Dataset name -> its rows, in the order in which the ways are tried.

    Raises
    ------
    DatasetError
        If the file cannot be read, lacks a column, or two ways of one dataset disagree on what it is.
    """
    path = Path(path or SOURCES)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [_source(row, path) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read ({error}); restore it from git") from error
    table: dict[str, tuple[Source, ...]] = {}
    for row in rows:
        table[row.name] = (*table.get(row.name, ()), row)
    for name, ways in table.items():
        if len({(way.version, way.sha256, way.licence, way.size, way.simulated) for way in ways}) > 1:
            wrong = "differ in version, sha256, licence, size or simulated"
            raise DatasetError(f"{path}: the rows of {name} {wrong}; make them equal")
    return table


def is_simulated(name: str) -> bool:
    """Return whether a set is drawn from a model of somebody's making; a set that is not registered is not."""
    ways = _registered(SOURCES).get(name)
    return ways is not None and ways[0].simulated


@functools.lru_cache(maxsize=2)
def _registered(path: Path) -> dict[str, tuple["Source", ...]]:
    return read_sources(path)


def _source(row: dict[str, Any], path: Path) -> "Source":
    missing = [column.name for column in fields(Source) if row.get(column.name) is None]
    if missing:
        raise DatasetError(f"{path}: a row has no {', '.join(missing)}; restore the file from git")
    if row["simulated"] not in ("yes", "no", ""):
        raise DatasetError(f"{path}: simulated is {row['simulated']!r} of {row['name']} where yes or no is needed")
    row["simulated"] = row["simulated"] == "yes"
    row["members"] = dict(member.split(":", 1) for member in row["members"].split() if ":" in member)
    return Source(**{column.name: row[column.name] for column in fields(Source)})


class DatasetError(Sentence):
    """An error says in one sentence what a person can act on: the file, the value, what to do.

    ``not_run`` tells a sweep that a run which meets this error cannot be made here, and its text why.
    """

    not_run = True


class Absent(DatasetError):
    """This way of obtaining a dataset is not open here; another one may be."""


@dataclass(frozen=True)
class Source:
    """A row of data/sources.csv is one way to obtain one dataset; the rows register every set of every paper.

    Attributes
    ----------
    how : mirror, official, npm, generated (by a recipe, once), drawn (by each run from its seed: nothing to prepare) or
        private (whoever has a copy puts it into the mirror).
    size : in words.
    simulated : where the set is drawn from a model of somebody's making.
    url : may be any place to ask.
    md5, archive_sha256 : of the file at ``url``.
    mirror : the names looked for in a mirror folder.
    members : maps files inside the archive to their md5.
    sha256 : of the decoded arrays, equal whatever the way; empty where nobody has recorded it yet: nothing vouches for
        the photos of `images_of_groups`.
    """

    name: str
    version: str
    how: str
    url: str
    md5: str
    archive_sha256: str
    mirror: str
    members: Mapping[str, str]
    sha256: str
    licence: str
    size: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class Recipe:
    """A recipe says how a dataset is made.

    Attributes
    ----------
    make : ``make(source, work)`` returns the arrays; ``work`` is for downloads. The arrays are the four of `ARRAYS`
        and, where instances come in natural groups (a photo, a patient), the two of `GROUPS`.
    space : the disk needed while it is made, in bytes.
    parameters : recorded in the manifest.
    optional : marks what may be absent: the workflow goes on without it and its runs are NOT RUN.
    """

    classes: tuple[str, ...]
    make: Callable[[Source, Path], Arrays]
    space: int = 10_000_000
    optional: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
