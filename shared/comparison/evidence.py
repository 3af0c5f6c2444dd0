"""Collect what the records say on a claim: one sample per cell of its grid, paired by seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shared.comparison import stats
from shared.comparison.claims import RESERVED, Claim, Selector
from shared.tables.evidence import NOT_RUN

TAKEN = ("seed", "value", "id", "cluster")  # of the rows of a side


class AmbiguousError(Exception):
    """Say that a selector matches several records of one cell and seed, and the claim does not reduce them."""


@dataclass(frozen=True)
class Runs:
    """Name the runs behind one side of a cell.

    Attributes
    ----------
    role : left, right or of; "left minus" of what is subtracted from it.
    sign : whether the examined quantity rises (1) or falls (-1) with the runs' measure; 0 where either may be.
    ids : of their records.
    """

    role: str
    sign: int
    metric: str
    selection: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """Hold one cell: the examined quantity, and what its judgement needs besides.

    Attributes
    ----------
    values : the quantity, a Series by seed.
    floor : stands in for the standard deviation where the paired values agree exactly although the sides vary: a
        coincidence of rounding, not certainty.
    guard : a p-value the claim must pass as well.
    better : the probability of improvement; nan where it means nothing.
    clusters : seed -> name of what it shares with others ("": nothing); None where all stand alone.
    sides : the `Runs` of each side.
    """

    name: str
    values: pd.Series
    floor: float = 0.0
    guard: float = 0.0
    better: float = float("nan")
    clusters: pd.Series | None = None
    sides: tuple[Runs, ...] = ()

    @cached_property
    def x(self) -> pd.Series:
        """Return what tests are made of: a Series of the means over what seeds share."""
        return stats.cluster_means(self.values, self.clusters)


class Samples(NamedTuple):
    """List what a claim is judged on.

    Attributes
    ----------
    cells : list of Sample
    missing : names of cells that are planned and lack values, "(failed)" or another reason behind it where known.
    used : the rows any side selects.
    absent : names of cells of the grid that nobody plans.
    """

    cells: list[Sample]
    missing: list[str]
    used: pd.DataFrame
    absent: list[str]


Built = tuple[Sample | None, str]  # a sample of a cell, or None and why there is none
Part = tuple[str, list[Selector], Callable[[], Built]]  # name, cells it needs, builder


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


def samples(rows: pd.DataFrame, claim: Claim) -> Samples:
    """Return the `Samples` a claim is judged on.

    Parameters
    ----------
    rows : DataFrame
        Tidy rows: spec keys, selection, metric, value, and `status`, `cluster` where known. A run without a record is
        a row whose value is nan; it failed, unless its status is NOT RUN.
    claim : Claim
    """
    used = _used(rows, claim).reset_index(drop=True)
    used = used.assign(seed=used["seed"].fillna(-1) if "seed" in used else -1)
    failed = used[used["value"].isna() & (used["status"] != NOT_RUN if "status" in used else True)]
    found, missing, absent = [], [], []
    for cell in _grid(used, claim):
        for name, parts, build in _parts(used, claim, cell):
            sample, why = build()
            needed = list(itertools.product(_all_sides(claim), parts))
            if sample is not None and len(sample.values):
                found.append(sample)
            elif not all(_of(used, claim, side, part).any() for side, part in needed):
                absent.append(name)
            else:
                why = "failed" if any(_of(failed, claim, side, part).any() for side, part in needed) else why
                missing.append(f"{name} ({why})" if why else name)
    return Samples(found, missing, used, absent)


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
    used = _used(rows[matches(rows, claim.requires)], claim)
    parts = [part for cell in _grid(used, claim) for part in _parts(used, claim, cell)]
    sides = _all_sides(claim)
    return [name for name, parts, _ in parts if all(_of(used, claim, s, p).any() for s in sides for p in parts)]


def measures_of(claim: Claim) -> set[tuple[str, str]]:
    """Return the set of (metric, selection) that the sides of a claim read."""
    return {(side.get("metric", claim.metric), side.get("selection", claim.selection)) for side in _all_sides(claim)}


def _all_sides(claim: Claim) -> list[Selector]:
    """The selectors of all sides, what is subtracted from one among them."""
    return [*claim.sides, *({**_without(side), **side["minus"]} for side in claim.sides if "minus" in side)]


def _without(side: Selector) -> Selector:
    return {key: value for key, value in side.items() if key != "minus"}


def _used(rows: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    mask = np.zeros(len(rows), dtype=bool)
    for side in _all_sides(claim):
        mask |= _of(rows, claim, side, {})
    return rows[mask]


def _of(rows: pd.DataFrame, claim: Claim, side: Selector, cell: Selector) -> np.ndarray:
    """The mask of the rows of a side in one cell."""
    metric, selection = side.get("metric", claim.metric), side.get("selection", claim.selection)
    measured = (rows["metric"].to_numpy() == metric) & (rows["selection"].to_numpy() == selection)
    return measured & matches(rows, _selector(claim, side, cell))


def _selector(claim: Claim, side: Selector, cell: Selector) -> Selector:
    """A side's selector in one cell: the cell's values give way only to what the side fixes to one value."""
    fixed = {k: v for k, v in side.items() if k not in cell or not isinstance(v, list | Mapping)}
    return {**claim.where, **cell, **fixed}


def _levels(rows: pd.DataFrame, claim: Claim, key: str, cell: Selector | None = None) -> list:
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


def _grid(rows: pd.DataFrame, claim: Claim) -> list[Selector]:
    levels = [_levels(rows, claim, key) for key in claim.cells]
    return [dict(zip(claim.cells, values, strict=True)) for values in itertools.product(*levels)]


def name_of(cell: Selector) -> str:
    """Write a cell as text: ``dataset=digits, bag_size=4``; "all" for the empty one."""
    return ", ".join(f"{k}={_text(v)}" for k, v in cell.items()) or "all"


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class _Side(NamedTuple):
    """A side in one cell: its values and their clusters, by seed, and its runs."""

    values: pd.Series
    clusters: pd.Series
    runs: tuple[Runs, ...]


def _side(rows: pd.DataFrame, claim: Claim, side: Selector, cell: Selector, role: str) -> _Side:
    worst = {"at_most": "max", "at_least": "min"}.get(claim.kind, "") if claim.deterministic else ""
    mask, there = _of(rows, claim, side, cell), rows["value"].notna().to_numpy()
    if claim.reduce or worst:  # the best of the rivals that have run is not the best of those that will
        mask &= ~rows["seed"].isin(rows["seed"][mask & ~there]).to_numpy()
    part = rows.loc[mask & there, [column for column in TAKEN if column in rows]]  # all of them would take long
    values, part = _per_seed(part, claim.reduce or worst, rows)
    clusters = stats.clusters_of(part, part["seed"]) if "cluster" in part else pd.Series(dtype=object)
    plain = "minus" not in side and "over" not in side
    sign = 0 if not plain else -1 if role.startswith("right") else 1
    metric, selection = side.get("metric", claim.metric), side.get("selection", claim.selection)
    found = _Side(values, clusters, (Runs(role, sign, metric, selection, tuple(part["id"])),))
    if "minus" in side:
        other = _side(rows, claim, {**_without(side), **side["minus"]}, cell, f"{role} minus")
        runs = *found.runs, *(replace(runs, sign=0) for runs in other.runs)
        found = _Side((values - other.values).dropna(), clusters.combine_first(other.clusters), runs)
    if "over" in side:
        found = found._replace(values=_log_spreads(stats.cluster_means(found.values, clusters)))
    return found


def _log_spreads(x: pd.Series) -> pd.Series:
    """The jackknife's pseudo-values of the logarithm of a standard deviation (Miller 1968), none of fewer than three.

    Their mean is its estimate, and their spread the estimate's, so that two sides are compared as two means are.
    """
    n = len(x)
    if n < 3:
        return x.iloc[:0]
    with np.errstate(divide="ignore"):
        without = np.array([np.log(np.delete(x.to_numpy(), i).std(ddof=1)) for i in range(n)])
        return pd.Series(n * np.log(x.std()) - (n - 1) * without, x.index)


def _per_seed(rows: pd.DataFrame, reduce: str, whole: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """One value per seed, and the rows these come from; `whole` has all their columns."""
    counts = rows["seed"].value_counts(sort=False)
    if len(counts) and counts.max() > 1 and not reduce:
        one = whole.loc[rows.index[rows["seed"] == counts.idxmax()]]
        one = one.drop(columns=["id", "value", "finished"], errors="ignore")
        keys = [c for c in one if one[c].nunique(dropna=False) > 1 and c not in ("commit", "code_hash")]
        raise AmbiguousError(
            f"{counts.max()} records share a cell and a seed and differ in {', '.join(keys) or 'nothing'}; "
            "select one value, add the key to cells, or reduce"
        )
    # A seed that lacks some of the records the others reduce over would not measure the same thing.
    if len(counts) and counts.min() < counts.max():
        rows = rows[rows["seed"].isin(counts.index[counts == counts.max()])]
    if reduce in ("max", "min") and len(rows):
        rows = rows.loc[rows.groupby("seed")["value"].agg(f"idx{reduce}")]
    return stats.seed_means(rows["value"], rows["seed"]), rows


def _parts(rows: pd.DataFrame, claim: Claim, cell: Selector) -> Iterator[Part]:
    """What one cell of the grid expands to: `(name, cells it needs, builder of a sample or None, and of why none)`."""
    if claim.kind in ("ranking", "monotone"):
        yield from _steps(rows, claim, cell)
    elif claim.kind == "same_shape":
        yield from _shapes(rows, claim, cell)
    else:
        yield name_of(cell), [cell], lambda: _one(rows, claim, cell)


def _one(rows: pd.DataFrame, claim: Claim, cell: Selector) -> Built:
    if len(claim.sides) == 1:
        low, high, _ = claim.region
        values, clusters, runs = _side(rows, claim, claim.sides[0], cell, "of")
        better = float(np.mean((values >= low) & (values <= high))) if len(values) else np.nan
        return Sample(name_of(cell), values, better=better, clusters=clusters, sides=runs), ""
    left, right = _side(rows, claim, claim.left, cell, "left"), _side(rows, claim, claim.right, cell, "right")
    if "over" in claim.left:  # the sides are logarithms already, and no run has a spread of its own
        sample, why = _pair(left, right, name_of(cell))
        return sample and replace(sample, better=np.nan), why
    return _pair(left, right, name_of(cell), claim.kind == "ratio")


def _pair(first: _Side, second: _Side, name: str, logs: bool = False) -> Built:
    """The paired difference, or log ratio, of two sides over the seeds they share."""
    left, right = first.values.align(second.values, join="inner")
    if not len(left):
        return None, ""
    better = stats.improvement(left, right)
    if logs:
        if (left <= 0).any() or (right <= 0).any():
            n = int(((left <= 0) | (right <= 0)).sum())
            return None, f"no ratio: a side is 0 in {n} of {len(left)} seeds"
        left, right = np.log(left), np.log(right)
    x = (left - right)[np.isfinite(left - right)]
    clusters = first.clusters.combine_first(second.clusters)
    floor = math.hypot(*(stats.spread(stats.cluster_means(side, clusters)) for side in (left, right)))
    return Sample(name, x, floor, better=better, clusters=clusters, sides=first.runs + second.runs), ""


def _steps(rows: pd.DataFrame, claim: Claim, cell: Selector) -> Iterator[Part]:
    key = claim.along
    if claim.kind == "ranking":
        pairs: Iterator[tuple[Any, Any]] = itertools.combinations(claim.order, 2)
    else:
        levels = sorted(_levels(rows, claim, key, cell))
        pairs = itertools.pairwise(levels if claim.direction == "decreasing" else levels[::-1])
    for first, second in pairs:
        name = ", ".join(filter(None, [name_of(cell) if cell else "", f"{key} {_text(first)} over {_text(second)}"]))

        def build(first: object = first, second: object = second, name: str = name) -> Built:
            left = _side(rows, claim, {**claim.of, key: first}, cell, "left")
            return _pair(left, _side(rows, claim, {**claim.of, key: second}, cell, "right"), name)

        yield name, [{**cell, key: first}, {**cell, key: second}], build


def _shapes(rows: pd.DataFrame, claim: Claim, cell: Selector) -> Iterator[Part]:
    key = claim.along
    levels = _levels(rows, claim, key, cell)
    sides = [
        {v: _side(rows, claim, {**side, key: v}, cell, role) for v in levels}
        for side, role in zip(claim.sides, ("left", "right"), strict=True)
    ]
    curves = [pd.DataFrame({v: s.values for v, s in side.items()}).dropna(axis=1, how="all") for side in sides]
    shared = [v for v in levels if all(v in curve for curve in curves)]
    for level in (v for v in levels if v not in shared):
        yield name_of({**cell, key: level}), [{**cell, key: level}], lambda: (None, "")
    left, right = (curve[shared].dropna() for curve in curves)
    left, right = left.align(right, join="inner", axis=0)
    if claim.at_least is not None:
        about = sides[0][shared[0]].clusters if shared else None
        runs = tuple(run for side in sides for v in shared for run in side[v].runs)
        yield name_of(cell), [cell], lambda: (_tau(left, right, name_of(cell), about, runs), "")
        return
    scaled = [_scaled(curve, side.get("floor", 0.0)) for curve, side in zip((left, right), claim.sides, strict=True)]
    for level in shared[1:]:
        name = name_of({**cell, key: level})

        def build(level: object = level, name: str = name) -> Built:
            # A point of a scaled curve rests on the runs of its first point as well.
            left, right = (
                _Side(curve[level], side[level].clusters, side[shared[0]].runs + side[level].runs)
                for curve, side in zip(scaled, sides, strict=True)
            )
            return _pair(left, right, name)

        yield name, [{**cell, key: level}], build


def _scaled(curve: pd.DataFrame, floor: float) -> pd.DataFrame:
    """(value - floor) / (first value - floor); nan where the first value is not above the floor."""
    top = curve.iloc[:, 0] - floor if curve.shape[1] else pd.Series(dtype=float)
    return (curve - floor).div(top.where(top > 0), axis=0)


def _tau(
    left: pd.DataFrame, right: pd.DataFrame, name: str, clusters: pd.Series | None, runs: tuple[Runs, ...]
) -> Sample | None:
    """Kendall's tau per seed. The mean curves must also agree beyond chance: few points always look alike.

    Where all seeds have the same tau, one exchange of neighbours stands in for its spread.
    """
    points = left.shape[1]
    if points < 2 or not len(left):
        return None
    x = pd.Series([stats.kendall(a, b) for a, b in zip(left.values, right.values, strict=True)], left.index).dropna()
    guard = stats.concordance_p(left.mean(), right.mean())
    return Sample(name, x, floor=4 / (points * (points - 1)), guard=guard, clusters=clusters, sides=runs)
