"""Take one side of a claim in one cell, a value per seed, and hold two sides against each other, paired by seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from shared.comparison import stats
from shared.comparison.claims import Claim, Selector
from shared.comparison.selecting import of_side, without

TAKEN = ("seed", "value", "id", "cluster")  # of the rows of a side
FEWEST = 3  # values that a spread over seeds is taken of


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
    clusters : seed -> name of what it shares with others; seeds that stand alone are not in it, or all have None.
    sides : the `Runs` of each side.
    lost : which seeds have no value although they were run, in words: "2 of 5 seeds failed".
    """

    name: str
    values: pd.Series
    floor: float = 0.0
    guard: float = 0.0
    better: float = float("nan")
    clusters: pd.Series | None = None
    sides: tuple[Runs, ...] = ()
    lost: tuple[str, ...] = ()

    @cached_property
    def x(self) -> pd.Series:
        """Return what tests are made of: a Series of the means over what seeds share."""
        return stats.cluster_means(self.values, self.clusters)


Built = tuple[Sample | None, str]  # a sample of a cell, or None and why there is none


class Side(NamedTuple):
    """A side in one cell: its values and what they share, by seed, and its runs."""

    values: pd.Series
    clusters: pd.Series
    runs: tuple[Runs, ...]


def side_of(rows: pd.DataFrame, claim: Claim, side: Selector, cell: Selector, role: str) -> Side:
    """Return a side in one cell; of one `over` seeds the values that its spread is taken of.

    Raises
    ------
    AmbiguousError
    """
    worst = {"at_most": "max", "at_least": "min"}.get(claim.kind, "") if claim.deterministic else ""
    mask, there = of_side(rows, claim, side, cell), rows["value"].notna().to_numpy()
    if claim.reduce or worst:  # the best of the rivals that have run is not the best of those that will
        mask &= ~rows["seed"].isin(rows["seed"][mask & ~there]).to_numpy()
    part = rows.loc[mask & there, [column for column in TAKEN if column in rows]]  # all of them would take long
    values, part = _per_seed(part, claim.reduce or worst, rows)
    clusters = stats.clusters_of(part, part["seed"]) if "cluster" in part else pd.Series(dtype=object)
    plain = "minus" not in side and "over" not in side
    sign = 0 if not plain else -1 if role.startswith("right") else 1
    metric, selection = side.get("metric", claim.metric), side.get("selection", claim.selection)
    found = Side(values, clusters, (Runs(role, sign, metric, selection, tuple(part["id"])),))
    if "minus" in side:
        other = side_of(rows, claim, {**without(side), **side["minus"]}, cell, f"{role} minus")
        runs = *found.runs, *(replace(runs, sign=0) for runs in other.runs)
        values = (values - other.values).dropna()
        found = Side(values, stats.joined(values.index, found.clusters, other.clusters), runs)
    return found


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


def single(side: Side, claim: Claim, name: str) -> Built:
    """Return the sample of the one side that a claim has."""
    low, high, _ = claim.region
    values = side.values
    if why := _endless(values):
        return None, why
    better = float(np.mean((values >= low) & (values <= high))) if len(values) else np.nan
    return Sample(name, values, better=better, clusters=side.clusters, sides=side.runs), ""


def paired(first: Side, second: Side, name: str, logs: bool = False) -> Built:
    """Return the sample of the difference, or log ratio, of two sides over the seeds they share."""
    left, right = first.values.align(second.values, join="inner")
    if not len(left):
        return None, ""
    better = stats.improvement(left, right)
    if logs:
        if n := int(((left <= 0) | (right <= 0)).sum()):
            return None, f"no ratio: a side is 0 in {n} of {len(left)} seeds"
        left, right = np.log(left), np.log(right)
    if why := _endless(left - right):
        return None, why
    clusters = stats.joined(left.index, first.clusters, second.clusters)
    floor = _floor(*(stats.cluster_means(side, clusters) for side in (left, right)))
    return Sample(name, left - right, floor, better=better, clusters=clusters, sides=first.runs + second.runs), ""


def spreads(first: Side, second: Side, name: str) -> Built:
    """Return the sample of the log ratio of two sides' standard deviations, over the seeds they share.

    Its values are the jackknife's pseudo-values; no run has a spread of its own, so that none is better.
    """
    left, right = first.values.align(second.values, join="inner")
    if not len(left):
        return None, ""
    clusters = stats.joined(left.index, first.clusters, second.clusters)
    left, right = (stats.cluster_means(side, clusters) for side in (left, right))
    if (n := len(left)) < FEWEST:
        return None, f"no ratio: a spread is of {FEWEST} values or more, and here of {n}"
    left, right = stats.log_spreads(left), stats.log_spreads(right)
    if idle := int((~np.isfinite(left - right)).sum()):
        alone = "" if idle == n else f" without one of its seeds, {idle} of {n}"
        return None, f"no ratio: a side does not vary{alone}"
    return Sample(name, left - right, _floor(left, right), sides=first.runs + second.runs), ""


def scaled(start: tuple[Side, Side], point: tuple[Side, Side], floors: tuple[float, float], name: str) -> Built:
    """Return the sample of the difference of two curves at a point, each as (value - floor) / (first value - floor).

    Parameters
    ----------
    start, point : the two sides where the curves begin, and at the point.
    floors : of the two sides.
    """
    table = pd.concat([side.values for side in (*start, *point)], axis=1, join="inner", keys=range(4))
    tops = [table[i] - floor for i, floor in enumerate(floors)]
    if n := int(((tops[0] <= 0) | (tops[1] <= 0)).sum()):
        return None, f"no shape: a curve starts at its floor in {n} of {len(table)} seeds"
    left, right = (
        Side(
            (table[i + 2] - floors[i]) / tops[i],
            stats.joined(table.index, start[i].clusters, point[i].clusters),
            start[i].runs + point[i].runs,  # a point of a scaled curve rests on the runs of its first point as well
        )
        for i in range(2)
    )
    return paired(left, right, name)


def order(curves: tuple[list[Side], list[Side]], name: str) -> Built:
    """Return the sample of Kendall's tau of two curves, given by their points. Fewer than two points have none.

    The mean curves must also agree beyond chance: few points always look alike. Where all seeds have the same tau, one
    exchange of neighbours stands in for its spread.
    """
    points = len(curves[0])
    sides = [side for curve in curves for side in curve]
    if points < 2:
        return None, ""
    table = pd.concat([side.values for side in sides], axis=1, join="inner")
    if not len(table):
        return None, ""
    left, right = table.iloc[:, :points], table.iloc[:, points:]
    x = pd.Series([stats.kendall(a, b) for a, b in zip(left.values, right.values, strict=True)], table.index)
    if flat := int(x.isna().sum()):
        return None, f"no order: a curve is flat in {flat} of {len(x)} seeds"
    guard = stats.concordance_p(left.mean(), right.mean())
    clusters = stats.joined(table.index, *(side.clusters for side in sides))
    runs = tuple(run for side in sides for run in side.runs)
    return Sample(name, x, floor=4 / (points * (points - 1)), guard=guard, clusters=clusters, sides=runs), ""


def _floor(left: pd.Series, right: pd.Series) -> float:
    """What stands in for the spread of differences that agree: that of the sides, as if these were not paired."""
    return math.hypot(stats.spread(left), stats.spread(right))


def _endless(x: pd.Series) -> str:
    n = int((~np.isfinite(x)).sum())
    return f"no finite value in {n} of {len(x)} seeds" if n else ""
