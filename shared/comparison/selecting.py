"""Select among tidy rows: which rows a side of a claim means, and which cells its grid has."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from shared.comparison.claims import RESERVED, Claim, Selector


def matches(rows: pd.DataFrame, selector: Selector) -> np.ndarray:
    """Return a boolean mask of the rows that meet a selector; a spec key no row has matches nothing."""
    mask = np.ones(len(rows), dtype=bool)
    for key, want in selector.items():
        if key in RESERVED:
            continue
        if key not in rows:
            return np.zeros(len(rows), dtype=bool)
        column = rows[key]
        if isinstance(want, Mapping):
            number = pd.to_numeric(column, errors="coerce")
            mask &= (number >= want.get("min", -np.inf)) & (number <= want.get("max", np.inf))
        elif isinstance(want, list):
            mask &= column.isin(want).to_numpy()
        elif want is None:
            mask &= column.isna().to_numpy()
        else:
            mask &= np.asarray(column.to_numpy(dtype=object) == want, dtype=bool)
    return np.asarray(mask)


def measures_of(claim: Claim) -> set[tuple[str, str]]:
    """Return the set of (metric, selection) that the sides of a claim read."""
    return {(side.get("metric", claim.metric), side.get("selection", claim.selection)) for side in all_sides(claim)}


def all_sides(claim: Claim) -> list[Selector]:
    """Return the selectors of all sides, what is subtracted from one among them."""
    return [*claim.sides, *({**without(side), **side["minus"]} for side in claim.sides if "minus" in side)]


def without(side: Selector) -> Selector:
    """Return a side without what is subtracted from it."""
    return {key: value for key, value in side.items() if key != "minus"}


def selected(rows: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    """Return the rows that any side of a claim selects."""
    mask = np.zeros(len(rows), dtype=bool)
    for side in all_sides(claim):
        mask |= of_side(rows, claim, side, {})
    return rows[mask]


def of_side(rows: pd.DataFrame, claim: Claim, side: Selector, cell: Selector) -> np.ndarray:
    """Return the mask of the rows of a side in one cell."""
    metric, selection = side.get("metric", claim.metric), side.get("selection", claim.selection)
    measured = (rows["metric"].to_numpy() == metric) & (rows["selection"].to_numpy() == selection)
    return measured & matches(rows, _selector(claim, side, cell))


def _selector(claim: Claim, side: Selector, cell: Selector) -> Selector:
    """A side's selector in one cell: the cell's values give way only to what the side fixes to one value."""
    fixed = {k: v for k, v in side.items() if k not in cell or not isinstance(v, list | Mapping)}
    return {**claim.where, **cell, **fixed}


def listed_values(claim: Claim, key: str) -> list | None:
    """Return the values of a spec key that a claim lists, if it does: the first list is that of all its selectors."""
    if claim.order and key == claim.along:
        return list(claim.order)
    lists = (selector.get(key) for selector in (claim.where, *all_sides(claim)))
    return next((values for values in lists if isinstance(values, list)), None)


def levels_of(rows: pd.DataFrame, claim: Claim, key: str, cell: Selector | None = None) -> list:
    """Return the values of a spec key on the grid: those a selector lists, else those the records have."""
    if (named := listed_values(claim, key)) is not None:
        return named
    if key not in rows:
        return []
    fixing = [s for s in claim.sides if key in s and not isinstance(s[key], list | Mapping)]
    mask = np.zeros(len(rows), dtype=bool)
    for side in [s for s in claim.sides if s not in fixing] or claim.sides:
        mask |= matches(rows, _selector(claim, side, cell or {}))
    return sorted(rows[key][mask].dropna().unique().tolist(), key=lambda v: (isinstance(v, str), v))


def cells_of(rows: pd.DataFrame, claim: Claim) -> list[Selector]:
    """Return the cells of a claim's grid: every combination of the values of its cell keys."""
    levels = [levels_of(rows, claim, key) for key in claim.cells]
    return [dict(zip(claim.cells, values, strict=True)) for values in itertools.product(*levels)]


def name_of(cell: Selector) -> str:
    """Write a cell as text: ``dataset=digits, bag_size=4``; "all" for the empty one."""
    return ", ".join(f"{k}={value_text(v)}" for k, v in cell.items()) or "all"


def value_text(value: object) -> str:
    """Write the value of a spec key."""
    return f"{value:g}" if isinstance(value, float) else str(value)
