"""Keep records on disk: one JSON file a run, written once, whole or not at all, and read back."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from shared.config.files import ConfigError

SCHEMA = 2
INDEX = "index.csv"


class OldRecord(ConfigError):
    """The record is of an earlier schema."""


def record_path(folder: Path, run_id: str) -> Path:
    """Return where the record of run ``paper/a/b/seed0`` lies in its paper's `runs`: ``<folder>/a/b/seed0.json``."""
    return folder.joinpath(*run_id.split("/")[1:-1], run_id.split("/")[-1] + ".json")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_record(folder: Path, record: dict) -> Path:
    """Write a record, atomically; NaN and infinity are refused."""
    path = record_path(folder, record["id"])
    lines = [f" {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in {"schema": SCHEMA, **record}.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
    return path


def load_record(path: Path) -> dict:
    """Return one record; an error names the file where it is none."""
    try:
        record = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not a record ({error}); delete it and train again") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        old = isinstance(record, dict) and isinstance(record.get("schema"), int) and record["schema"] < SCHEMA
        raise (OldRecord if old else ConfigError)(
            f"{path} is not a record of schema {SCHEMA}; delete it and train again"
        )
    return record


def read_records(folder: Path) -> list[dict]:
    """Return the records of a `runs` folder: those its index names as not outdated, or all where it has none."""
    listed = read_index(folder)
    if listed is None:
        paths = sorted(folder.rglob("*.json"))
    else:
        wanted = sorted(run_id for run_id, row in listed.items() if row["status"] != "outdated")
        paths = [path for run_id in wanted if (path := record_path(folder, run_id)).exists()]
    return [load_record(path) for path in paths]


def read_index(folder: Path) -> dict[str, dict] | None:
    """Return {run id: {"status", "sha256", "why"}} of every run the plan asked for, or None where there is no index."""
    try:
        with open(folder / INDEX, newline="", encoding="utf-8") as stream:
            return {row["id"]: {**row, "why": row.get("why") or ""} for row in csv.DictReader(stream)}
    except FileNotFoundError:
        return None


def write_index(
    folder: Path, run_ids: Iterable[str], outdated: Collection[str] = (), tried: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Write ``index.csv`` (id, status, sha256, why), one row a planned run; `why` says why a run cannot be made here.

    Parameters
    ----------
    tried : {id: reason or nothing}, the runs that were tried now; `why`, of a missing or outdated run, comes from it,
        else it is as the index had it.

    Returns
    -------
    {id: status}. A status is done (there is a record), failed (there is a log), missing, or outdated: the record
    answers another spec, and `read_records` leaves it out.
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["id", "status", "sha256", "why"])
    reasons = {run_id: row["why"] for run_id, row in (read_index(folder) or {}).items()} | dict(tried or {})
    statuses = {}
    for run_id in sorted(run_ids):
        path = record_path(folder, run_id)
        if path.exists():
            statuses[run_id] = "outdated" if run_id in outdated else "done"
        else:
            statuses[run_id] = "failed" if path.with_suffix(".log").exists() else "missing"
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if statuses[run_id] == "done" else ""
        why = reasons.get(run_id, "") if statuses[run_id] in ("missing", "outdated") else ""
        rows.writerow([run_id, statuses[run_id], digest, why])
    write_text(folder / INDEX, out.getvalue())
    return statuses
