"""Collect what the records say on a claim: one sample per cell of its grid, paired by seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shared.comparison.claims import Claim, Selector
from shared.comparison.selecting import (
    all_sides,
    cells_of,
    levels_of,
    listed_values,
    matches,
    measures_of,
    name_of,
    of_side,
    selected,
    value_text,
)
from shared.comparison.sides import Built, Sample, order, paired, scaled, side_of, single, spreads
from shared.tables.evidence import DONE, FAILED, NOT_RUN

NO_START = "its first point is missing"
REASONS = {FAILED: "failed", DONE: "not a number"}  # why a row has no value, by its status; others are in words


class Samples(NamedTuple):
    """List what a claim is judged on.

    Attributes
    ----------
    cells : list of Sample
    missing : names of cells that are planned and lack values, "(failed)" or another reason behind it where known.
    used : the rows any side selects.
    absent : names of cells of which the claim lists the values and of which nobody plans a run of each side.
    undefined : pairs of name and reason, of the missing cells whose runs are there and give no value.
    """

    cells: list[Sample]
    missing: list[str]
    used: pd.DataFrame
    absent: list[str]
    undefined: list[tuple[str, str]]


Part = tuple[str, list[Selector], Callable[[], Built]]  # name, cells it needs, builder


def samples(rows: pd.DataFrame, claim: Claim) -> Samples:
    """Return the `Samples` a claim is judged on.

    Parameters
    ----------
    rows : DataFrame
        Tidy rows: spec keys, selection, metric, value, and `status`, `cluster` where known. A run without a value is a
        row whose value is nan; it failed, unless its status is NOT RUN or another reason in words.
    claim : Claim

    Raises
    ------
    AmbiguousError
    """
    used = selected(rows, claim).reset_index(drop=True)
    used = used.assign(seed=used["seed"].fillna(-1) if "seed" in used else -1)
    lost = used[used["value"].isna() & (reasons_of(used) != NOT_RUN)]
    found, missing, undefined = [], [], []
    absent: dict[str, tuple[Selector, list[Selector]]] = {}
    planned: set[frozenset] = set()
    for cell in cells_of(used, claim):
        for name, parts, build in _parts(used, claim, cell):
            sample, why = build()
            needed = list(itertools.product(all_sides(claim), parts))
            ran = sample is not None and len(sample.values) > 0
            if not ran and not why and not all(of_side(used, claim, side, part).any() for side, part in needed):
                absent[name] = cell, parts
                continue
            planned |= {_named(claim, [cell]), _named(claim, parts)}
            without = lost
            if len(lost):  # most tiers have none, and masks take long
                without = lost[np.any([of_side(lost, claim, side, part) for side, part in needed], axis=0)]
            if sample is not None and ran:
                found.append(replace(sample, lost=_lost(without, sample.values.index)))
                continue
            if why and why != NO_START:
                undefined.append((name, why))
            why = why or ", ".join(sorted(set(reasons_of(without))))
            missing.append(f"{name} ({why})" if why else name)
    return Samples(found, missing, used, list(dict.fromkeys(_absent(claim, absent, planned))), undefined)


def reasons_of(rows: pd.DataFrame) -> pd.Series:
    """Return why rows without a value have none: NOT RUN, failed, or another reason in words."""
    status = rows["status"].fillna(FAILED) if "status" in rows else pd.Series(FAILED, rows.index, dtype=object)
    return status.replace(REASONS)


def _lost(rows: pd.DataFrame, seeds: Collection) -> tuple[str, ...]:
    """How many of the seeds that ran have no value, by the reason; `seeds` are those that have one."""
    found = []
    for reason, seed in rows["seed"].groupby(reasons_of(rows)) if len(rows) else ():
        n, of = seed.nunique(), len({*seed, *seeds})
        found.append(f"{n} of {of} seeds{' ' if reason == REASONS[FAILED] else ': '}{reason}")
    return tuple(found)


def _absent(claim: Claim, unplanned: dict[str, tuple], planned: set[frozenset]) -> Iterator[str]:
    """The names of what nobody plans of the values that a claim lists; what it does not list is no loss."""
    keys = [key for key in claim.cells if listed_values(claim, key) is not None]
    for name, (cell, parts) in unplanned.items():
        if keys and _named(claim, [cell]) not in planned:
            yield name_of({key: cell[key] for key in keys})
        elif _named(claim, parts) not in planned and listed_values(claim, claim.along) is not None:
            yield name


def _named(claim: Claim, cells: list[Selector]) -> frozenset[tuple]:
    """What cells have of the keys whose values a claim lists."""
    keys = [key for key in (*claim.cells, claim.along) if listed_values(claim, key) is not None]
    return frozenset(tuple(cell.get(key) for key in keys) for cell in cells)


def planned_cells(runs: pd.DataFrame, claim: Claim) -> list[str]:
    """Return the names of the cells of a claim's grid whose sides all have runs.

    Parameters
    ----------
    runs : DataFrame
        One row for each planned run, or for each of a first seed; what they measure does not matter.
    claim : Claim
    """
    rows = [runs.assign(metric=metric, selection=selection) for metric, selection in sorted(measures_of(claim))]
    rows = pd.concat(rows, ignore_index=True).assign(value=np.nan, seed=-1)
    used = selected(rows[matches(rows, claim.requires)], claim)
    parts = [part for cell in cells_of(used, claim) for part in _parts(used, claim, cell)]
    sides = all_sides(claim)
    return [name for name, parts, _ in parts if all(of_side(used, claim, s, p).any() for s in sides for p in parts)]


def _parts(rows: pd.DataFrame, claim: Claim, cell: Selector) -> Iterator[Part]:
    """What one cell of the grid expands to: `(name, cells it needs, builder of a sample or None, and of why none)`."""
    if claim.kind in ("ranking", "monotone"):
        yield from _steps(rows, claim, cell)
    elif claim.kind == "same_shape":
        yield from _shapes(rows, claim, cell)
    else:
        yield name_of(cell), [cell], lambda: _one(rows, claim, cell)


def _one(rows: pd.DataFrame, claim: Claim, cell: Selector) -> Built:
    name = name_of(cell)
    if len(claim.sides) == 1:
        return single(side_of(rows, claim, claim.sides[0], cell, "of"), claim, name)
    left, right = side_of(rows, claim, claim.left, cell, "left"), side_of(rows, claim, claim.right, cell, "right")
    return spreads(left, right, name) if "over" in claim.left else paired(left, right, name, claim.kind == "ratio")


def _steps(rows: pd.DataFrame, claim: Claim, cell: Selector) -> Iterator[Part]:
    key = claim.along
    if claim.kind == "ranking":
        pairs: Iterator[tuple[Any, Any]] = itertools.combinations(claim.order, 2)
    else:
        levels = sorted(levels_of(rows, claim, key, cell))
        pairs = itertools.pairwise(levels if claim.direction == "decreasing" else levels[::-1])
    for first, second in pairs:
        step = f"{key} {value_text(first)} over {value_text(second)}"
        name = ", ".join(filter(None, [name_of(cell) if cell else "", step]))

        def build(first: object = first, second: object = second, name: str = name) -> Built:
            left = side_of(rows, claim, {**claim.of, key: first}, cell, "left")
            return paired(left, side_of(rows, claim, {**claim.of, key: second}, cell, "right"), name)

        yield name, [{**cell, key: first}, {**cell, key: second}], build


def _shapes(rows: pd.DataFrame, claim: Claim, cell: Selector) -> Iterator[Part]:
    key = claim.along
    levels = levels_of(rows, claim, key, cell)
    left, right = (
        {v: side_of(rows, claim, {**side, key: v}, cell, role) for v in levels}
        for side, role in zip(claim.sides, ("left", "right"), strict=True)
    )
    shared = [v for v in levels if len(left[v].values) and len(right[v].values)]
    for level in (v for v in levels if v not in shared):
        yield name_of({**cell, key: level}), [{**cell, key: level}], lambda: (None, "")
    if claim.at_least is not None:
        curves = [left[v] for v in shared], [right[v] for v in shared]
        yield name_of(cell), [cell], lambda: order(curves, name_of(cell))
        return
    floors = claim.left.get("floor", 0.0), claim.right.get("floor", 0.0)
    for level in (v for v in shared if v != levels[0]):
        name = name_of({**cell, key: level})

        def build(level: object = level, name: str = name) -> Built:
            if levels[0] not in shared:
                return None, NO_START
            return scaled((left[levels[0]], right[levels[0]]), (left[level], right[level]), floors, name)

        yield name, [{**cell, key: levels[0]}, {**cell, key: level}], build
