"""Keep records on disk: one JSON file a run, written once, whole or not at all, and read back if it can be believed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.config.files import ConfigError
from shared.files import listed, read_text, write_text

SCHEMA = 2
INDEX = "index.csv"
CHECKPOINTS = ".work"  # in the repository, ignored by git: checkpoints, and the index while it is made anew
COLUMNS = ("id", "status", "sha256", "why")
DONE, MISSING, FAILED, OUTDATED, CHANGED, DAMAGED = "done", "missing", "failed", "outdated", "changed", "damaged"
LARGEST = 1 << 26  # bytes; the largest record there is has a hundredth
NUMBER, UNKNOWN = (int, float), type(None)
# What readers rely on: kinds of the parts of a record, "*" for all that a mapping holds, "?" of one that may be absent.
SHAPE = {
    **dict.fromkeys(("id", "spec_hash", "finished", "method?", "stand_in?", "differs?", "cluster?"), str),
    **{part: {} for part in ("spec", "data?", "bags?", "curves?")},
    "code": {"hash": str, "commit": (str, UNKNOWN), "dirty?": (bool, UNKNOWN)},
    "metrics": {"*": {"*": NUMBER}},
    "cost": {"*": (*NUMBER, UNKNOWN), "wall_s": NUMBER},
    "environment": {"device": str},
    "convergence?": {"*": {"gain": NUMBER, "error": (*NUMBER, UNKNOWN), "epochs": NUMBER}},
}


class OldRecord(ConfigError):
    """The record is of an earlier schema."""


@dataclass(frozen=True)
class Kept:
    """What lies on disk of a run.

    Attributes
    ----------
    state : done (then there is a `record`), failed (there is a log: training was tried since, whatever record is left
        of before), missing, outdated (of an earlier schema), damaged, or changed (its sha256 is not the index's).
    why : of a damaged or changed record, which file it is, what is wrong and what to do; else nothing.
    """

    state: str
    record: dict | None = None
    why: str = ""

    @property
    def says(self) -> str:
        """Return in few words why the record is not believed; nothing where it is, or where there is none."""
        return {CHANGED: "record changed by hand", DAMAGED: "damaged record"}.get(self.state, "")


def record_path(folder: Path, run_id: str) -> Path:
    """Return where the record of run ``paper/a/b/seed0`` lies in its paper's `runs`: ``<folder>/a/b/seed0.json``."""
    return folder.joinpath(*run_id.split("/")[1:-1], run_id.split("/")[-1] + ".json")


def write_record(folder: Path, record: dict) -> Path:
    """Write a record, atomically; NaN and infinity are refused."""
    path = record_path(folder, record["id"])
    lines = [f" {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in {"schema": SCHEMA, **record}.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
    return path


def load_record(path: Path) -> dict:
    """Return one record.

    Raises
    ------
    ConfigError
        Naming the file where it is none: cut off, too large, or with a part that is not what its readers rely on.
    """
    try:
        if path.exists() and path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size / 1e6:.0f} MB")
        whole, real = _finite(int), _finite(float)
        text = read_text(path, lambda said: ConfigError(f"{said}; delete it and train again"))
        record = json.loads(text, parse_float=real, parse_int=whole, parse_constant=real)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not a record ({error}); delete it and train again") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        old = isinstance(record, dict) and isinstance(record.get("schema"), int) and record["schema"] < SCHEMA
        raise (OldRecord if old else ConfigError)(
            f"{path} is not a record of schema {SCHEMA}; delete it and train again"
        )
    if wrong := _misfit(record, SHAPE):
        raise ConfigError(f"{path} is not a record ({wrong}); delete it and train again")
    return record


def _finite(kind: type) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not math.isfinite(float(text)):
            raise ValueError(f"{text[:20]} is no number")
        return kind(text)

    return read


def _misfit(value: object, shape: dict | type | tuple, at: str = "") -> str:
    """Return which part is not of its shape, and what it is instead; nothing where all are."""
    if not isinstance(shape, dict):
        kinds = shape if isinstance(shape, tuple) else (shape,)
        fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        return "" if fits else f"its {at} is {repr(value)[:60]}"
    if not isinstance(value, dict):
        return f"its {at} is {repr(value)[:60]}"
    for key, kind in shape.items():
        name = key.removesuffix("?")
        for part in value if key == "*" else [name] if name in value or name == key else []:
            path = f"{at}.{part}".lstrip(".")
            if wrong := _misfit(value[part], kind, path) if part in value else f"it has no {path}":
                return wrong
    return ""


def find_record(folder: Path, run_id: str, index: Mapping[str, dict] | None = None) -> Kept:
    """Return what lies on disk of a run; a record that differs from its sha256 in the `index` is not believed.

    A record that is not in the index, or newer than it, has no sha256 there and is believed.
    """
    path, row = record_path(folder, run_id), (index or {}).get(run_id, {})
    try:
        if path.with_suffix(".log").exists():
            return Kept(FAILED)
        if not path.exists():
            return Kept(MISSING)
        record = load_record(path)
        if record["id"] != run_id:
            return Kept(DAMAGED, why=f"{path} is the record of {record['id']!r}; delete it to train again")
        if row.get("sha256") and row["sha256"] != sha256(path):
            why = f"{path}: record changed by hand, its sha256 is not the one in {INDEX}"
            return Kept(CHANGED, why=f"{why}; delete it to train again, or its row there to take it as it is")
    except OldRecord:
        return Kept(OUTDATED)
    except OSError as error:  # a name in the index that no file can have
        return Kept(DAMAGED, why=f"{path} cannot be read: {error.strerror}; correct its row in {INDEX}")
    except ConfigError as error:
        return Kept(DAMAGED, why=str(error))
    return Kept(DONE, record)


def index_place(root: Path, paper: str, tier: str, folder: Path) -> Path:
    """Return the folder of the index that tells of the records in `folder`: that, or where it is kept while it is gone.

    Snakemake removes what a rule is to make before the rule begins; without the index no record could be checked.
    `root` is the repository, of whose own records alone an index is kept.
    """
    gone = folder.absolute() == root / "results" / tier / paper / "runs" and not (folder / INDEX).exists()
    return root / CHECKPOINTS / tier / paper if gone else folder


def is_as_indexed(folder: Path, run_id: str, row: Mapping[str, str]) -> bool:
    """Return whether the very record lies there that a row of the index has, and none failed since, without parsing."""
    path = record_path(folder, run_id)
    try:
        pinned = bool(row["sha256"]) and path.is_file() and not path.with_suffix(".log").exists()
    except OSError:  # a name in the index that no file can have
        return False
    return pinned and sha256(path) == row["sha256"]


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes; a ConfigError names a file that cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def read_records(folder: Path) -> list[dict]:
    """Return the records of a `runs` folder: those its index names as done, or all where it has none.

    Raises
    ------
    ConfigError
        Naming the first that cannot be believed.
    """
    index = read_index(folder)
    if index is None:
        return [load_record(path) for path in listed(folder, "**/*.json")]
    found = [find_record(folder, run_id, index) for run_id in sorted(index) if index[run_id]["status"] != OUTDATED]
    if wrong := next((one.why for one in found if one.why), None):
        raise ConfigError(wrong)
    return [one.record for one in found if one.record]


def read_index(folder: Path) -> dict[str, dict] | None:
    """Return {run id: {"status", "sha256", "why"}} of every run the plan asked for, or None where there is no index.

    Raises
    ------
    ConfigError
        If it is no such table, or names a run twice.
    """
    path = folder / INDEX
    if not path.exists():
        return None
    try:
        text = read_text(path, lambda said: ConfigError(f"{said}; {_REMEDY}"))
        reader = csv.DictReader(io.StringIO(text), strict=True)
        rows, head = list(reader), tuple(reader.fieldnames or ())
    except csv.Error as error:
        raise ConfigError(f"{path} is no table ({error}); {_REMEDY}") from None
    if head[:3] != COLUMNS[:3]:
        raise ConfigError(f"{path}, line 1: not {', '.join(COLUMNS)}; {_REMEDY}")
    index = {}
    for line, row in enumerate(rows, 2):
        if any(row.get(column) is None for column in COLUMNS[:3]) or None in row:
            raise ConfigError(f"{path}, line {line}: not a row of {', '.join(COLUMNS)}; {_REMEDY}")
        if row["id"] in index:
            raise ConfigError(f"{path}, line {line}: run {row['id']!r} is there twice; remove one row")
        index[row["id"]] = {**row, "why": row.get("why") or ""}
    return index


_REMEDY = "restore it from git, or delete it and run the sweep"


def write_index(
    folder: Path,
    run_ids: Iterable[str],
    outdated: Collection[str] = (),
    tried: Mapping[str, str] | None = None,
    todo: Collection[str] = (),
    made: Collection[str] = (),
    before: Mapping[str, dict] | None = None,
    into: Path | None = None,
) -> dict[str, str]:
    """Write ``index.csv`` (id, status, sha256, why), one row a planned run; `why` says why a run cannot be made here.

    Parameters
    ----------
    tried : {id: reason or nothing}, the runs that were tried now; `why`, of a missing or outdated run, comes from it,
        else it is as the index had it.
    made : runs whose record was written now, whatever the index had; another that differs from it was changed by hand.
    todo : runs about to be trained. Their rows get no sha256, so that what is recorded before the index is written
        again is believed; a record that was changed by hand, or that is left of before a failure, keeps its row.
    before : the index as it was; that of `folder` unless told.
    into : the folder that gets the index; `folder` unless told.

    Returns
    -------
    {id: status}: a state of `Kept`, or outdated where the record answers another spec.
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    before = (read_index(folder) if before is None else before) or {}
    known = {run_id: row for run_id, row in before.items() if run_id not in made}
    reasons = {run_id: row["why"] for run_id, row in before.items()} | dict(tried or {})
    statuses = {}
    for run_id in sorted(run_ids):
        state = find_record(folder, run_id, known).state
        statuses[run_id] = OUTDATED if state == DONE and run_id in outdated else state
        digest = ""
        if statuses[run_id] in (CHANGED, FAILED) or (statuses[run_id] == DAMAGED and run_id not in todo):
            # Of a failed run a record of before may be left, and a damaged one may be mended.
            digest = known.get(run_id, {}).get("sha256", "")
        elif statuses[run_id] in (DONE, OUTDATED) and run_id not in todo:
            digest = sha256(record_path(folder, run_id))
        why = reasons.get(run_id, "") if statuses[run_id] in (MISSING, OUTDATED) else ""
        rows.writerow([run_id, statuses[run_id], digest, why])
    write_text((into or folder) / INDEX, out.getvalue())
    return statuses
