"""What verifications found, kept beside the records: results/<tier>/verified.csv, a line for each paper."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from shared.config import ConfigError
from shared.files import read_text, write_text
from shared.records import store
from shared.runs.provenance import environment, origin

FILE = "verified.csv"
COUNTS = ("same", "differs", "elsewhere", "failed")
COLUMNS = ("paper", "records", *COUNTS, "index", "code", "by", "date", "cpu", "torch")


def index_digest(runs: Path) -> str:
    """Return what changes with any record of a folder: the start of the SHA-256 of its index, "" without one."""
    index = runs / store.INDEX
    return hashlib.sha256(index.read_bytes()).hexdigest()[:16] if index.exists() else ""


def read_verified(folder: Path) -> dict[str, dict[str, str]]:
    """Return {paper: its line} of a tier's folder of results; `outdated` says that the records have changed since."""
    path = folder / FILE
    if not path.exists():
        return {}
    lines = list(csv.DictReader(read_text(path, ConfigError).splitlines()))
    for line in lines:
        if missing := [name for name in COLUMNS if line.get(name) is None]:
            raise ConfigError(f"{path}: a line lacks {', '.join(missing)}; remove the file and verify again")
        line["outdated"] = "yes" if line["index"] != index_digest(folder / line["paper"] / "runs") else ""
    return {line["paper"]: line for line in lines}


def write_verified(folder: Path, found: Mapping[str, Mapping], code: Mapping) -> Path:
    """Write what came of papers' records; lines of papers that were not trained again now stay as they are.

    `found` has for each paper the number of its `records`, the hash of the `code` that trained them again, and how
    many of those came out how; `code` is the commit, as `shared.runs.provenance.commit` returns it.
    """
    lines, here = read_verified(folder), environment()
    for paper, row in found.items():
        lines[paper] = {name: str(row[name]) for name in ("records", *COUNTS, "code")} | {
            "paper": paper,
            "index": index_digest(folder / paper / "runs"),
            "by": origin(code),
            "date": datetime.now(UTC).date().isoformat(),
            "cpu": here["cpu"],
            "torch": str(here["torch"]),
        }
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    table.writeheader()
    table.writerows(lines[paper] for paper in sorted(lines))
    write_text(folder / FILE, text.getvalue())
    return folder / FILE
