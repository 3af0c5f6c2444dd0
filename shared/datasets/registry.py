"""Keep one registry of every set of every paper: the rows of data/sources.csv, and sets of one's own beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from shared.datasets import prepare, store
from shared.datasets.catalogue import Absent, DatasetError, Source, read_sources, say
from shared.datasets.download import find_in_mirror
from shared.datasets.localised import prepared, sound
from shared.datasets.localised.releases import RELEASES, source_of
from shared.datasets.places import data_root, mirror_root
from shared.datasets.recipes import RECIPES
from shared.files import listed

ARRAYS, LOCALISED, DRAWN, READ_IN_PLACE = "arrays", "localised", "drawn", "read in place"
COLUMNS = {"set": 25, "size": 25, "had by": 22, "there": 11, "needed by papers in tiers": 37}  # 120 characters
LEGEND = """\
* is simulated. had by: mirror, from the folder LLP_MIRROR; official, from its authors' host; npm, a package; generated,
by a program, once; drawn, by each run from its seed; private, not public: whoever has a copy puts it into LLP_MIRROR.
there: yes, prepared; in part, as a person wanted; in mirror, to be prepared or read; not whole, to be fetched again;
no; -, nothing to have."""

Needs = dict[str, dict[str, list[str]]]  # {set: {paper: tiers}}


class Unknown(DatasetError):
    """No set has this name."""


@dataclass(frozen=True)
class Entry:
    """Hold a set and the ways to have it.

    Attributes
    ----------
    kind : `ARRAYS` (see `store`), `LOCALISED` (see `localised.prepared`), `DRAWN` (each run draws its own) or
        `READ_IN_PLACE` (a run reads the folder that a person has put into the mirror).
    """

    name: str
    kind: str
    ways: tuple[Source, ...]

    @property
    def about(self) -> Source:
        """Return the way that names its place in the mirror, if any; all agree in licence, size and being simulated."""
        return next((way for way in self.ways if way.mirror), self.ways[0])

    @property
    def may_be_absent(self) -> bool:
        """Return whether papers go on without it."""
        return self.kind != ARRAYS or RECIPES[self.name].optional

    def pin(self) -> str:
        """Return what is recorded of it, by which DVC tells whether its readers are out of date, there or not."""
        return f"set: {self.name}\nversion: {self.about.version}\nsha256: {self.about.sha256 or 'not recorded'}\n"

    @property
    def size(self) -> str:
        """Return its size in words; of a set of one's own, and of one in part, the counts of what is prepared."""
        state = self.state() if self.kind == LOCALISED else ""
        if state != "in part" and (self.about.size or state != "yes"):
            return self.about.size or "not known"
        found = prepared.manifest(data_root() / self.name)
        return found.get("partial") or f"{found['images']} images, {found['objects']} objects"

    def state(self, sources: str | Path | None = None) -> str:
        """Return in a word or two whether it is there."""
        if self.kind == DRAWN:
            return "-"
        try:
            if self.kind != READ_IN_PLACE and (data_root() / self.name / "manifest.json").exists():
                if self.kind == ARRAYS:
                    store.load(self.name, sources=sources)
                    return "yes"
                found = prepared.manifest(data_root() / self.name)
                prepared.check_whole(self.name, found)
                return "in part" if found.get("partial") else "yes"
            find_in_mirror(self.about)
        except Absent:
            return "no"
        except DatasetError:
            return "not whole"
        return "in mirror"


def entries(sources: str | Path | None = None) -> dict[str, Entry]:
    """Return every registered set by name, then those of one's own that are prepared."""
    found = {name: Entry(name, _kind(name, ways), ways) for name, ways in read_sources(sources).items()}
    manifests = listed(data_root(), "*/manifest.json")
    folders = sorted(path.parent for path in manifests if (path.parent / "images").is_dir())
    return found | {f.name: _own(f.name) for f in folders if f.name not in found}


def entry_of(name: str, sources: str | Path | None = None) -> Entry:
    """Return a set by its name; one that is not registered must have a folder in the mirror.

    Raises
    ------
    Unknown
        If there is no such set; the message has the likeliest name.
    """
    known, mirror = entries(sources), mirror_root()
    if name in known:
        return known[name]
    if mirror and Path(name).name == name and (mirror / name).is_dir():
        return _own(name)
    close = get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else "`list` names them;"
    raise Unknown(f"there is no set {name!r}; {hint} a set of one's own needs a folder of its name in LLP_MIRROR")


def obtain(
    entry: Entry,
    sources: str | Path | None = None,
    way: str | None = None,
    large_objects: bool = False,
    partial: bool = False,
) -> str:
    """Have a set prepared, unless it is there and whole; return what to tell a person.

    Raises
    ------
    DatasetError
        If it cannot be had; the message says why and where to ask. If large objects, or a part, are allowed of a set
        that has none.
    """
    name, folder = entry.name, data_root() / entry.name
    for option, given in (("--large-objects", large_objects), ("--partial", partial)):
        if given and entry.kind != LOCALISED:
            raise DatasetError(f"{name} has no localised objects; {option} is not for it")
    if entry.kind == ARRAYS:
        taken = prepare.fetch(name, sources=sources, way=way)
        return f"{name}: already in {folder}, whole" if taken is None else ""
    if entry.kind == DRAWN:
        return f"{name} is drawn by each run from its seed: there is nothing to fetch"
    if way not in (None, *(source.how for source in entry.ways)):
        raise DatasetError(f"{name} has no way {way!r} in the table of sources")
    if entry.kind == READ_IN_PLACE:
        return f"{name} is in {_in_place(entry)}: runs read it there, there is nothing to prepare"
    if prepared.renew(name, large_objects, partial):  # which has read it back
        return ""
    prepared.open(name)
    return f"{name}: already in {folder}, {_share(folder)}"


def examine(entry: Entry, sources: str | Path | None = None) -> str:
    """Hold all that is there of a set against what is recorded of it; return what to tell a person.

    Raises
    ------
    DatasetError
        If it is not there, or not as recorded; the message says what to do.
    """
    name, folder = entry.name, data_root() / entry.name
    if entry.kind == ARRAYS:
        return f"{name}: whole, sha256 {store.verify(name, sources=sources)}"
    if entry.kind == DRAWN:
        return f"{name} is drawn by each run from its seed: there is nothing to verify"
    if entry.kind == READ_IN_PLACE:
        return f"{name} is in {_in_place(entry)}: no checksum is recorded, the run that reads it checks its layout"
    if not (folder / "manifest.json").exists():
        raise DatasetError(f"{name} is not prepared in {folder}; run: python -m shared.datasets fetch {name}")
    data = prepared.open(name)
    sound.check_labels(data, folder, prepared.manifest(folder).get("large_objects") is True)
    return f"{name}: {_share(folder)}, {len(data.names)} images, {len(data.classes)} objects, sha256 {data.sha256()}"


def needs() -> Needs:
    """Return which papers need a set in which tiers, from the plans of all; a plan that cannot be made is told."""
    from shared.config import ConfigError, papers_of, plan, tiers

    found: Needs = {}
    for tier in tiers():
        for paper in papers_of(tier):
            try:
                names = {str(run.spec.values().get("dataset", "")) for run in plan(paper, tier)}
            except ConfigError as error:
                say(f"{paper}, tier {tier}: {error}")
                continue
            for name in names - {""}:
                found.setdefault(name, {}).setdefault(paper, []).append(tier)
    return found


def listing(needed: Needs, sources: str | Path | None = None) -> Iterator[str]:
    """Yield the lines of a table of all sets, at most 120 characters wide."""
    yield _row(list(COLUMNS))
    for entry in entries(sources).values():
        about, of = entry.about, needed.get(entry.name, {})
        name = entry.name + "*" * about.simulated
        by = "; ".join(f"{paper}: {' '.join(of[paper])}" for paper in sorted(of)) or "no run"
        how = ", ".join(way.how for way in entry.ways)
        yield _row([name, entry.size, how, entry.state(sources), by])
        page = next((way.url for way in entry.ways if way.url), "")
        terms = f"licence: {about.licence or 'not known'}" + f"; from {page}" * bool(page)
        yield from textwrap.wrap(terms, 120, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    yield ""
    yield LEGEND


def _kind(name: str, ways: tuple[Source, ...]) -> str:
    if name in RECIPES:
        return ARRAYS
    if name in RELEASES:
        return LOCALISED
    return DRAWN if all(way.how == "drawn" for way in ways) else READ_IN_PLACE


def _own(name: str) -> Entry:
    return Entry(name, LOCALISED, (source_of(name),))


def _in_place(entry: Entry) -> Path:
    try:
        return find_in_mirror(entry.about)
    except Absent as error:
        known = f"get it from {entry.about.url}" if entry.about.url else f"it is {entry.about.licence}"
        todo = "a copy goes into LLP_MIRROR under its name, laid out as the paper says that reads it"
        raise Absent(f"{entry.name}: {error}; {known}; {todo}") from None


def _share(folder: Path) -> str:
    part = prepared.manifest(folder).get("partial")
    return f"in part ({part})" if part else "whole"


def _row(cells: list[str]) -> str:
    columns = [textwrap.wrap(cell, width - 1) or [""] for cell, width in zip(cells, COLUMNS.values(), strict=True)]
    height = max(map(len, columns))
    padded = [column + [""] * (height - len(column)) for column in columns]
    lines = zip(*padded, strict=True)
    return "\n".join("".join(map(str.ljust, line, COLUMNS.values())).rstrip() for line in lines)
