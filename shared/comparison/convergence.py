"""Say which sides of a claim still move, and against which verdict that counts.

A record has, of each course of a measure on the test set, what the last quarter of training gained on the quarter
before. A side *moves* when the mean of this gain over its seeds (clusters) exceeds both two standard errors and a
tolerance: a gain is then neither noise nor small. The tolerance is what the claim says (`still`), else its margin or,
without one, a point of accuracy; and half of what is between the estimate and the bound where that is less, of any
measure: a difference of one point is not settled while a side gains .7 in a quarter, nor is one of 4.3 within a margin
of 5 while a side gains 4.5. Training on would go on in that direction for a while, so that

- against HOLDS counts what leads out of the region that the claim names: the right side of `greater` rises, its left
  side falls, a side goes towards a threshold;
- against CONTRADICTED counts what leads into it;
- against either counts any movement whose effect nobody knows: of both ends of a region, of ratios, of shapes, of
  differences of differences, of another measure than the claim's and of an earlier stage of training;
- no gain counts where the estimate is farther from the bound than FAR times as much: as many quarters more at the
  present pace would not bring it there. Of a measure in another unit nobody can say so.

A movement that would only make the verdict stronger never takes it away: a method that wins and still gains has won.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from shared.comparison import stats
from shared.comparison.claims import Claim
from shared.tables.evidence import CONVERGENCE

if TYPE_CHECKING:
    from shared.comparison.sides import Sample

READ = ("id", "metric", "value", "gain_error", "gain_epochs", "method", "seed", "cluster")  # of a course
ERRORS = 2  # standard errors that a gain must exceed
FAR = 4  # quarters of training: as long again as the whole of it
POINT = 1.0  # of accuracy, the tolerance of a claim that names none
HALF = 0.5  # the share of the distance from the bound that a tolerance is at most


@dataclass(frozen=True)
class Move:
    """Hold a course that has not come to rest: whose, of which measure, and by how much in a quarter of `epochs`."""

    who: str
    name: str
    gain: float
    epochs: float
    tolerance: float

    def __str__(self) -> str:
        verb = "gains" if self.gain > 0 else "loses"
        quarter = f"{abs(self.gain):.2g} in its last quarter, tolerance {self.tolerance:.2g}"
        return f"{self.who} {verb} {abs(self.gain / self.epochs):.2g} of {self.name} an epoch ({quarter})"


Moves = tuple[Move, ...]


def courses(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of courses among tidy rows, with no more columns than are read here."""
    return rows.loc[rows["selection"] == CONVERGENCE, [column for column in READ if column in rows]]


def moving(course: pd.DataFrame, metric: str, tolerance: float) -> tuple[Move, ...]:
    """Return what still moves of the runs of one side, or of one cell.

    Parameters
    ----------
    course : DataFrame
        As `courses` returns it, of these runs.
    metric : str
        Of courses of the last stage; those of an earlier stage are named "<stage> <metric>".
    tolerance : float
        In the unit of the measure.

    Returns
    -------
    tuple of Move
    """
    if "gain_error" not in course:
        return ()
    names = course["metric"].astype(str)
    course = course[(names == metric) | names.str.endswith(f" {metric}")]
    found = []
    for name, one in course.groupby("metric"):
        gain, error = _gain(one)
        if abs(gain) > max(tolerance, ERRORS * error):
            who = "/".join(sorted(one["method"].astype(str).unique())) if "method" in one else "it"
            found.append(Move(who, name, gain, float(one["gain_epochs"].mean()), tolerance))
    return tuple(found)


def _gain(course: pd.DataFrame) -> tuple[float, float]:
    """The mean gain over clusters and its standard error: of one cluster, its runs' own."""
    seeds = course["seed"].fillna(-1) if "seed" in course else course["value"] * 0
    clusters = stats.clusters_of(course, seeds) if "cluster" in course else None
    gains = stats.cluster_means(stats.seed_means(course["value"].astype(float), seeds), clusters)
    if len(gains) > 1:
        return gains.mean(), stats.spread(gains) / np.sqrt(len(gains))
    errors = course["gain_error"].astype(float).fillna(math.inf)  # too short a course to tell it from noise
    return gains.mean(), np.sqrt((errors**2).sum()) / len(errors)


def unsettled(course: pd.DataFrame, claim: Claim, sample: Sample) -> tuple[Moves, Moves]:
    """Return what counts against either verdict on one cell of a claim.

    Parameters
    ----------
    course : DataFrame
        As `courses` returns it, of any runs.
    claim : Claim
    sample : Sample

    Returns
    -------
    against_holds, against_contradicted : tuples of Move
    """
    bounds = [bound for bound in claim.region[:2] if math.isfinite(bound)]
    distance = min(abs(sample.x.mean() - bound) for bound in bounds)
    against: tuple[list[Move], list[Move]] = ([], [])
    for runs in sample.sides:
        metric = claim.converged["metric"] if isinstance(claim.converged, Mapping) else runs.metric
        unit = metric == runs.metric and claim.kind not in ("ratio", "same_shape")
        tolerance = tolerance_of(claim, metric, distance if unit else math.inf)
        if tolerance is None or (runs.selection == "cost" and not claim.converged):
            continue
        for move in moving(course[course["id"].isin(runs.ids)], metric, tolerance):
            if unit and distance > FAR * abs(move.gain):
                continue
            sign = _inward(claim) * runs.sign * np.sign(move.gain) if unit and move.name == metric else 0
            for moves, wrong in zip(against, (-1, 1), strict=True):
                moves += [move] if sign in (0, wrong) else []
    return tuple(against[0]), tuple(against[1])


def _inward(claim: Claim) -> int:
    """Whether a rising quantity goes into the claim's region (1), out of it (-1), or either (0)."""
    low, high, _ = claim.region
    return 0 if math.isfinite(low) and math.isfinite(high) else 1 if math.isfinite(low) else -1


def tolerance_of(claim: Claim, metric: str, distance: float = math.inf) -> float | None:
    """Return by how much a side may still move where the estimate is at a `distance` from the claim's bound.

    None where the claim's convergence is not checked, or nothing says how much is little.
    """
    if claim.deterministic or claim.converged is False:
        return None
    if claim.still is not None:
        return claim.still
    same = metric == claim.metric or any(metric == side.get("metric") for side in claim.sides)
    little = math.inf
    if claim.margin and same and claim.kind != "same_shape":
        little = abs(claim.margin)
    elif "accuracy" in metric:
        little = POINT
    tolerance = min(little, HALF * distance)
    return tolerance if math.isfinite(tolerance) else None
