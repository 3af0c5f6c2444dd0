"""Write ``papers/<paper>/fills.csv``: which planned runs fill which reported numbers, by the map of the paper's tables.

``python -m shared.comparison.fills`` writes it anew for all papers after a change of config.yaml, reported.csv or
tables.py. A machine that trains and has no pandas reads it with `read_fills` to know what a run is worth.
"""

import argparse
import csv
import io
import sys
from pathlib import Path

from shared.config import ConfigError, load_tier, papers, papers_of, plan, repository, tiers
from shared.files import read_text, write_text

COLUMNS = ("tier", "run", "cells")
NAME = "fills.csv"


def read_fills(paper: str, tier: str, root: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Return {id of a run without its seed: names of the reported numbers it fills}; nothing where there is no file.

    Raises
    ------
    ConfigError
        If the file is no such table.
    """
    path = (root or repository()) / "papers" / paper / NAME
    if not path.exists():
        return {}
    reader = csv.reader(io.StringIO(read_text(path, ConfigError)))
    rows = list(reader)
    if not rows or tuple(rows[0]) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise ConfigError(f"{path} is no table of {', '.join(COLUMNS)}; run: python -m shared.comparison.fills")
    return {run: tuple(cells.split("; ")) for of, run, cells in rows[1:] if of == tier}


def without_seed(run_id: str) -> str:
    """Return what all seeds of a run have in common of their ids."""
    return run_id.rpartition("/")[0]


def fills(paper: str, tier: str, root: Path | None = None) -> dict[str, list[str]]:
    """Return what `read_fills` does, made from the plan, reported.csv and the paper's own map."""
    from shared.comparison.report import CELL, Rows, told
    from shared.tables.evidence import Evidence

    folder = (root or repository()) / "results" / tier / paper
    cells, _ = told(paper, root)
    rows = Rows(Evidence(paper, tier, folder, tuple(plan(paper, tier, root)), {}))
    ours = rows.mapped({(cell.metric, cell.selection) for cell in cells}, root)
    own = dict(list(ours.groupby(CELL, sort=False)["id"]))
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        for run_id in own.get(cell.cell, ()):
            found.setdefault(without_seed(run_id), {})["/".join(cell.cell)] = None
    return {run: list(names) for run, names in found.items()}


def text_of(paper: str, root: Path | None = None) -> str:
    """Return the content of a paper's file, over all tiers that are not for a CPU."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for tier in tiers(root):
        if load_tier(tier, root).device != "cpu" and paper in papers_of(tier, root):
            table.writerows((tier, run, "; ".join(names)) for run, names in fills(paper, tier, root).items())
    return out.getvalue()


def main(argv: list[str] | None = None) -> int:
    """Write the file of every paper."""
    argparse.ArgumentParser(prog="python -m shared.comparison.fills", description=__doc__.split("\n\n")[0]).parse_args(
        argv
    )
    for paper in papers():
        write_text(repository() / "papers" / paper / NAME, text_of(paper))
    return 0


if __name__ == "__main__":
    sys.exit(main())
