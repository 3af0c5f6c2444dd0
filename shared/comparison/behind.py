"""Name the records behind a claim or a reported number: ``python -m shared.comparison PAPER --records ID``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from shared.comparison.claims import Claim
from shared.comparison.evidence import samples
from shared.comparison.report import CELL, Rows, told
from shared.comparison.reported import InputError, Reported
from shared.comparison.selecting import matches, measures_of
from shared.config.files import likeliest
from shared.records.store import record_path
from shared.tables.evidence import gather


def records_behind(
    name: str, papers: Iterable[str], tier: str, results: Path | None = None, root: Path | None = None
) -> list[str]:
    """Yield the lines that list the records behind a claim or a cell of a tier, by cell and side.

    Parameters
    ----------
    name : str
        The id of a claim, or a reported number as table/row/column, on which metric and selection may follow; upper and
        lower case are the same.
    papers : list of str
        Where to look; all that know the name are listed.
    tier, results, root : as in `report.compare`.

    Raises
    ------
    InputError
        When no paper knows the name; says which is most like it.
    """
    known: dict[str, None] = {}
    lines: list[str] = []
    for paper in papers:
        cells, claims = told(paper, root)
        asked = [claim for claim in claims if claim.id.lower() == name.lower()]
        meant = [cell for cell in cells if name.lower() in _names(cell)]
        known |= {claim.id: None for claim in claims} | {_names(cell)[0]: None for cell in cells}
        if not asked and not meant:
            continue
        rows = Rows(gather(paper, tier, results, root))
        for claim in asked:
            lines += [f"{claim.id}, {paper}, tier {tier}: {claim.says}", *_of_claim(claim, rows)]
        ours = rows.mapped({(cell.metric, cell.selection) for cell in meant}, root) if meant else pd.DataFrame()
        for cell in meant:
            mine = ours[(ours[CELL] == cell.cell).all(axis=1) & ours["value"].notna()]
            lines += [f"{'/'.join(cell.cell)}, {paper}, tier {tier}", *_listed(mine["id"], rows, "  ")]
    if not lines:
        raise InputError(
            f"there is no claim and no reported number {name!r} of {', '.join(papers)}; {_like(name, known)}"
        )
    return lines


def _names(cell: Reported) -> list[str]:
    """What a reported number may be called: table/row/column, with its metric, with its selection."""
    parts = [part.lower() for part in cell.cell]
    return ["/".join(parts[:n]) for n in (3, 4, 5)]


def _like(name: str, known: Iterable[str]) -> str:
    return likeliest(name.lower(), known, "python -m shared.comparison lists all")


def _of_claim(claim: Claim, rows: Rows) -> Iterator[str]:
    """The records of each cell and side; without a value to reduce to, all that share a cell and a seed are listed."""
    mine = rows.of(measures_of(claim))
    mine = mine[matches(mine, claim.requires)]
    found = samples(mine, replace(claim, reduce=claim.reduce or "mean")).cells
    for sample in found:
        yield f"  {sample.name}"
        for side in sample.sides:
            yield f"    {side.role}, {side.metric}, {side.selection}"
            yield from _listed(side.ids, rows, "      ")
    if not found:
        yield "  no records"


def _listed(ids: Collection[str], rows: Rows, indent: str) -> Iterator[str]:
    folder = rows.evidence.folder / "runs"
    here = Path.cwd()
    for run_id in dict.fromkeys(ids):
        path = record_path(folder, run_id)
        yield f"{indent}{run_id}  {path.relative_to(here) if path.is_relative_to(here) else path}"
    if not len(ids):
        yield f"{indent}no records"
