"""The column `timed` of every table: which code was timed, of which commit and day, and whether that code is old.

A table is old when the code that its benchmark times has changed since. It then says so itself, in every row:
``python -m benchmarks --mark`` writes ``OLD:`` before the stamp, in a second, where making it again takes minutes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from benchmarks.command import About
from shared.files import write_text
from shared.runs.code import code_hash
from shared.runs.provenance import commit, origin

COLUMN, OLD = "timed", "OLD: "


def hash_of(modules: Iterable[str], root: Path | None = None) -> str:
    """Return a hash of what some modules compute with, 16 digits; comments do not change it."""
    return hashlib.sha256("\n".join(code_hash(module, root) for module in modules).encode()).hexdigest()[:16]


def stamp(about: About) -> str:
    """Return what a table of today says of the code it timed."""
    return f"code {hash_of(about.code)}, {origin(commit())}, {date.today().isoformat()}"


def owner(path: Path, benchmarks: Iterable[About]) -> About | None:
    """The benchmark that makes a table: that of its name, or of what its name begins with (``transport_stress``)."""
    fits = [about for about in benchmarks if f"{path.stem}_".startswith(f"{about.name}_")]
    return max(fits, key=lambda about: len(about.name), default=None)


def said(path: Path) -> str:
    """Return the stamp of a table; an empty one where its rows have none, or not the same."""
    with path.open(encoding="utf-8", newline="") as lines:
        found = {row.get(COLUMN) or "" for row in csv.DictReader(lines)}
    return found.pop() if len(found) == 1 else ""


def is_old(path: Path, about: About) -> bool:
    """Whether a table timed other code than there is now, whatever it says."""
    return f"code {hash_of(about.code)}," not in said(path)


def says_so(path: Path) -> bool:
    return said(path).startswith(OLD)


def sentence(path: Path, about: About) -> str:
    """Return that a table is old, and what makes it again."""
    when = re.sub(r"^(OLD: )?(code \w+, )?", "", said(path)) or "a commit that it does not name"
    return (
        f"{path.name} is old: it timed {', '.join(about.code)} of {when}, and that code has changed; "
        f"`python -m benchmarks --only {about.name} --overwrite` makes it again"
    )


def mark(path: Path, about: About) -> bool:
    """Let a table say whether it is old; returns whether it is."""
    old = is_old(path, about)
    if says_so(path) != old:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        for row in rows:
            now = (row.get(COLUMN) or "").removeprefix(OLD)
            row[COLUMN] = OLD + (now or "code that it does not name") if old else now
        write_rows(path, rows)
    return old


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows of equal keys as one CSV file, which appears complete or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
