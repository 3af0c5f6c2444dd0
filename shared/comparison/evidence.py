"""Collect what the records say on a claim: one sample per cell of its grid, paired by seed."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shared.comparison import stats

RESERVED = ("metric", "selection", "minus", "floor")


class AmbiguousError(Exception):
    """Say that a selector matches several records of one cell and seed, and the claim does not reduce them."""


@dataclass(frozen=True)
class Sample:
    """Hold one cell: the examined quantity per seed, and what its judgement needs besides.

    Attributes
    ----------
    floor : stands in for the standard deviation where the paired values agree exactly although the sides vary: a
        coincidence of rounding, not certainty.
    guard : a p-value the claim must pass as well.
    better : the probability of improvement; nan where it means nothing.
    """

    name: str
    x: pd.Series
    floor: float = 0.0
    guard: float = 0.0
    better: float = float("nan")


def matches(rows, selector):
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
            mask &= column.isin(want)
        else:
            mask &= column.isna() if want is None else (column == want).fillna(False).astype(bool)
    return np.asarray(mask)


def samples(rows, claim):
    """Return the samples a claim is judged on, and the cells of its grid that lack records.

    Parameters
    ----------
    rows : DataFrame
        Tidy rows: spec keys, selection, metric, value; a failed run is a row whose value is nan.
    claim : Claim

    Returns
    -------
    found : list of Sample
    missing : list of str
        Names of the cells without a pair of values, "(failed)" where a run left only a log.
    used : DataFrame
        The rows any side selects.
    """
    used = _used(rows, claim)
    failed = used[used["value"].isna()]
    found, missing = [], []
    for cell in _grid(used, claim):
        for name, part, build in _parts(used, claim, cell):
            sample = build()
            if sample is not None and len(sample.x):
                found.append(sample)
            else:
                lost = any(matches(failed, _selector(claim, side, part)).any() for side in claim.sides)
                missing.append(f"{name} (failed)" if lost else name)
    return found, missing, used


def _used(rows, claim):
    mask = np.zeros(len(rows), dtype=bool)
    for side in claim.sides:
        for part in (side, side | side.get("minus", {})):
            mask |= matches(rows, _selector(claim, part, {})) & _measures(rows, claim, part)
    return rows[mask]


def _measures(rows, claim, side):
    metric, selection = side.get("metric", claim.metric), side.get("selection", claim.selection)
    return np.asarray((rows["metric"] == metric) & (rows["selection"] == selection))


def _selector(claim, side, cell):
    """A side's selector in one cell: the cell's values give way only to what the side fixes to one value."""
    fixed = {k: v for k, v in side.items() if k not in cell or not isinstance(v, list | Mapping)}
    return {**claim.where, **cell, **fixed}


def _levels(rows, claim, key, cell=None):
    """Values of a spec key on the grid: those a selector lists, else those the records have."""
    for selector in (claim.where, *claim.sides):
        if isinstance(selector.get(key), list):
            return selector[key]
    if key not in rows:
        return []
    fixing = [s for s in claim.sides if key in s and not isinstance(s[key], list | Mapping)]
    mask = np.zeros(len(rows), dtype=bool)
    for side in [s for s in claim.sides if s not in fixing] or claim.sides:
        mask |= matches(rows, _selector(claim, side, cell or {}))
    return sorted(rows[key][mask].dropna().unique().tolist(), key=lambda v: (isinstance(v, str), v))


def _grid(rows, claim):
    levels = [_levels(rows, claim, key) for key in claim.cells]
    return [dict(zip(claim.cells, values, strict=True)) for values in itertools.product(*levels)]


def name_of(cell):
    """Write a cell as text: ``dataset=digits, bag_size=4``; "all" for the empty one."""
    return ", ".join(f"{k}={_text(v)}" for k, v in cell.items()) or "all"


def _text(value):
    return f"{value:g}" if isinstance(value, float) else str(value)


def _values(rows, claim, side, cell):
    """A side's value per seed in one cell."""
    part = rows[matches(rows, _selector(claim, side, cell)) & _measures(rows, claim, side)]
    worst = {"at_most": "max", "at_least": "min"}.get(claim.kind, "") if claim.deterministic else ""
    values = _per_seed(part.dropna(subset="value"), claim.reduce or worst)
    if "minus" not in side:
        return values
    other = {k: v for k, v in side.items() if k != "minus"} | side["minus"]
    return (values - _values(rows, claim, other, cell)).dropna()


def _per_seed(rows, reduce):
    seeds = rows["seed"].fillna(-1) if "seed" in rows else pd.Series(-1, index=rows.index)
    groups = rows["value"].groupby(seeds)
    counts = groups.size()
    if len(counts) and counts.max() > 1 and not reduce:
        one = rows[seeds == counts.idxmax()].drop(columns=["id", "value", "finished"], errors="ignore")
        keys = [c for c in one if one[c].nunique(dropna=False) > 1 and c not in ("commit", "code_hash")]
        raise AmbiguousError(
            f"{counts.max()} records share a cell and a seed and differ in {', '.join(keys) or 'nothing'}; "
            "select one value, add the key to cells, or reduce"
        )
    # A seed that lacks some of the records the others reduce over would not measure the same thing.
    return groups.agg(reduce or "mean")[counts == counts.max()]


def _parts(rows, claim, cell):
    """What one cell of the grid expands to: `(name, cell, builder of its sample or None)`."""
    if claim.kind in ("ranking", "monotone"):
        yield from _steps(rows, claim, cell)
    elif claim.kind == "same_shape":
        yield from _shapes(rows, claim, cell)
    else:
        yield name_of(cell), cell, lambda: _one(rows, claim, cell)


def _one(rows, claim, cell):
    sides = [_values(rows, claim, side, cell) for side in claim.sides]
    if len(sides) == 1:
        low, high, _ = claim.region
        x = sides[0]
        return Sample(name_of(cell), x, better=float(np.mean((x >= low) & (x <= high))) if len(x) else np.nan)
    return _pair(*sides, name_of(cell), log=claim.kind == "ratio")


def _pair(left, right, name, log=False):
    """The paired difference, or log ratio, of two sides over the seeds they share."""
    left, right = left.align(right, join="inner")
    if not len(left):
        return None
    better = stats.improvement(left, right)
    if log:
        with np.errstate(divide="ignore", invalid="ignore"):
            left, right = np.log(left), np.log(right)
    x = (left - right)[np.isfinite(left - right)]
    return Sample(name, x, floor=float(np.hypot(stats.spread(left), stats.spread(right))), better=better)


def _steps(rows, claim, cell):
    key = claim.along
    if claim.kind == "ranking":
        pairs = itertools.combinations(claim.order, 2)
    else:
        levels = sorted(_levels(rows, claim, key, cell))
        pairs = itertools.pairwise(levels if claim.direction == "decreasing" else levels[::-1])
    for first, second in pairs:
        name = ", ".join(filter(None, [name_of(cell) if cell else "", f"{key} {_text(first)} over {_text(second)}"]))

        def build(first=first, second=second, name=name):
            sides = [_values(rows, claim, {**claim.of, key: level}, cell) for level in (first, second)]
            return _pair(*sides, name)

        yield name, {**cell, key: [first, second]}, build


def _shapes(rows, claim, cell):
    key = claim.along
    levels = _levels(rows, claim, key, cell)
    curves = [
        pd.DataFrame({v: _values(rows, claim, {**side, key: v}, cell) for v in levels}).dropna(axis=1, how="all")
        for side in claim.sides
    ]
    shared = [v for v in levels if all(v in curve for curve in curves)]
    absent = [v for v in levels if v not in shared]
    left, right = (curve[shared].dropna() for curve in curves)
    left, right = left.align(right, join="inner", axis=0)
    for level in absent:
        yield name_of({**cell, key: level}), {**cell, key: level}, lambda: None
    if claim.at_least is not None:
        yield name_of(cell), cell, lambda: _tau(left, right, name_of(cell))
        return
    scaled = [_scaled(curve, side.get("floor", 0.0)) for curve, side in zip((left, right), claim.sides, strict=True)]
    for level in shared[1:]:
        name = name_of({**cell, key: level})

        def build(level=level, name=name):
            return _pair(*(curve[level] for curve in scaled), name)

        yield name, {**cell, key: level}, build


def _scaled(curve, floor):
    """(value - floor) / (first value - floor); nan where the first value is not above the floor."""
    top = curve.iloc[:, 0] - floor if curve.shape[1] else pd.Series(dtype=float)
    return (curve - floor).div(top.where(top > 0), axis=0)


def _tau(left, right, name):
    """Kendall's tau per seed. The mean curves must also agree beyond chance: few points always look alike."""
    if left.shape[1] < 2 or not len(left):
        return None
    x = pd.Series([stats.kendall(a, b) for a, b in zip(left.values, right.values, strict=True)], left.index).dropna()
    return Sample(name, x, guard=stats.concordance_p(left.mean(), right.mean()))
