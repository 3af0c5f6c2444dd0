"""Where we lose: the rows of tables in which a peer took less time than ours, and whether its answer was as good."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from benchmarks.timing import print_table

RATIO, ERRORS = "ratio_to_ours_median", ("error", "max_difference")
# A peer's answer is as good as ours up to this, in the units of its table, or ten times the error of ours.
EQUAL, TIMES = 1e-5, 10
# What makes a row another problem than the next one, besides the solver.
PROBLEM = ("work", "family", "labels", "bags_a_step", "bags", "B", "n", "N", "K", "threads")
SHOWN = ("table", "problem", "peer", "ratio", "answer")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def lost(path: Path) -> list[dict[str, str]]:
    """The rows of a table whose ratio is below 1, the worst first: table, problem, peer, ratio and its answer."""
    rows = rows_of(path)
    ours = {_problem(row): _error(row) for row in rows if row.get("solver") == "ours"}
    found = []
    for row in rows:
        if row.get("solver", "ours").startswith("ours") or not row.get(RATIO) or not float(row[RATIO]) < 1:
            continue
        error = _error(row)
        good = error <= max(EQUAL, TIMES * ours.get(_problem(row), 0.0))
        found.append(
            {
                "table": path.stem,
                "problem": _problem(row),
                "peer": row["solver"],
                "ratio": row[RATIO],
                "answer": "as good" if good else f"off by {error:.1e}",
            }
        )
    return sorted(found, key=lambda row: float(row["ratio"]))


def show(paths: Iterable[Path]) -> None:
    """Print where we lose, or that we lose nowhere."""
    paths = list(paths)
    compared = [row for path in paths for row in rows_of(path) if not row.get("solver", "ours").startswith("ours")]
    found = [row for path in paths for row in lost(path)]
    same = sum(row["answer"] == "as good" for row in found)
    print(f"\nWhere we lose (a peer's time over ours is below 1): {len(found)} of {len(compared)} rows", end="")
    print(f", {same} of them to an answer as good")
    if found:
        print_table(found, SHOWN)


def _problem(row: dict[str, str]) -> str:
    return ", ".join(f"{name} {row[name]}" for name in PROBLEM if row.get(name))


def _error(row: dict[str, str]) -> float:
    """What a row says of its answer; NaN, which is as good as nothing, where that is not a number."""
    return next((float(row[name]) for name in ERRORS if row.get(name)), 0.0)
