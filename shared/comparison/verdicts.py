"""Give the verdict on one cell: what the paper reports against what our seeds give.

With D = ours - reported, in order of precedence:

NOT RUN, FAILED     no value of ours; FAILED when a run left a log and no record
NOT COMPARABLE      data or protocol differ from the paper
INCONCLUSIVE        one value; values that do not vary; runs that still move by more than the margin, unless away from
                    the other verdict
REPRODUCED          90 % Welch interval of D inside the margin (two one-sided tests at 5 %)
NOT REPRODUCED      90 % Welch interval of D wholly outside the margin
SMALL DIFFERENCE    95 % Welch interval of D excludes 0 and |D| <= margin
INCONCLUSIVE        none of these; says how many more seeds would decide

Where the paper gives only a bound ("> 90 %"), the bound is a known constant and the margin has one side. Where it gives
no n or no spread, its number is taken as one run with our spread, and said so:

CONSISTENT          it lies in our 95 % prediction interval, mean -+ t s sqrt(1 + 1/n), widened by the margin
INCONSISTENT        it does not

Seeds that share something (a split) are averaged first: means, spreads and n are those of clusters. What each verdict
risks is in docs/verdicts.md, measured by shared/comparison/rates.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from shared.comparison import stats
from shared.comparison.reported import VERDICTS, Reported

if TYPE_CHECKING:
    from shared.comparison.convergence import Move

DECIDED = VERDICTS[:5]
Decision = tuple[str, str, int | None]  # a verdict, why, and how many units to add


@dataclass(frozen=True)
class Verdict:
    """Hold a verdict in words, with what it rests on. Numbers that do not exist are nan.

    Attributes
    ----------
    n, seeds : clusters (seeds, where they share nothing), and the seeds in them.
    mean, sd : over the n.
    low, high : 95 % interval of `difference`; for a number without n or spread, of where one run of the paper puts it.
    more : seeds (clusters) to add, None if unknown or not needed.
    """

    verdict: str
    why: str
    n: int = 0
    seeds: int = 0
    mean: float = math.nan
    sd: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    more: int | None = None


@dataclass(frozen=True)
class _Ours:
    """Our side of a cell: mean and spread over n units, seeds or clusters, and the number they are held against."""

    mean: float
    sd: float
    n: int
    unit: str
    reported: Reported

    @property
    def difference(self) -> float:
        return self.mean - self.reported.value

    @property
    def theirs(self) -> tuple[float, float]:
        """The paper's standard deviation and n; a bound is a known constant."""
        sd, n = self.reported.sd, self.reported.n
        return (0.0, math.inf) if self.reported.is_bound else (sd or 0.0, n or math.nan)

    @property
    def region(self) -> tuple[float, float]:
        """Where D has to lie."""
        margin, kind = self.reported.margin, self.reported.spread_kind
        return -math.inf if kind == "upper_bound" else -margin, math.inf if kind == "lower_bound" else margin

    def interval(self, level: float) -> tuple[float, float]:
        """The interval of D, if there is one."""
        if self.n < 2 or not self.sd:
            return math.nan, math.nan
        if self.reported.unknown:
            return stats.prediction_interval(self.difference, self.sd, self.n, level)
        return stats.interval(self.difference, *stats.welch(self.sd, self.n, *self.theirs), level)


def judge_cell(
    values: ArrayLike,
    reported: Reported,
    obstacles: Collection[str] = (),
    clusters: Iterable[str] | None = None,
    moving: Collection[Move] = (),
) -> Verdict:
    """Judge one reported number against our values of it, one per seed.

    Parameters
    ----------
    values : sequence of float
        One per seed; nan for a seed that left a log and no record.
    reported : Reported
    obstacles : sequence of str
        How data or protocol differ from the paper; empty when they do not.
    clusters : sequence of str, optional
        What each seed shares with others, as long as `values`; "" where it stands alone.
    moving : sequence of Move
        What of its runs still moves by more than the margin where training ends.

    Returns
    -------
    Verdict
    """
    values = np.asarray(values, dtype=float)
    lost = np.isnan(values)
    failed, seeds = int(lost.sum()), int((~lost).sum())
    if not seeds:
        if failed:
            return Verdict("FAILED", f"{number_of(failed, 'run')} failed: a log and no record")
        return Verdict("NOT RUN", "no record for this cell")
    units = values[~lost]
    if clusters is not None:
        shared = pd.Series(list(clusters), dtype=object)[~lost]
        units = stats.cluster_means(pd.Series(units, shared.index), shared).to_numpy()
    n, unit = len(units), "seed" if len(units) == seeds else "cluster"
    ours = _Ours(float(units.mean()), stats.spread(units) if n > 1 else math.nan, n, unit, reported)
    if obstacles:
        name, why, more = "NOT COMPARABLE", "; ".join(obstacles), None
    else:
        name, why, more = _judged(ours)
    if name in DECIDED and (against := [str(move) for move in moving if _undoes(move, name, ours)]):
        name, why = "INCONCLUSIVE", f"not converged: {'; '.join(against)}"
    if failed:
        why += f"; {number_of(failed, 'seed')} failed"
    if name in DECIDED and n < stats.NORMAL_THEORY:
        why += f"; normal theory, n = {n}"
    return Verdict(name, why, n, seeds, ours.mean, ours.sd, ours.difference, *ours.interval(0.95), more)


def _undoes(move: Move, verdict: str, ours: _Ours) -> bool:
    """Tell whether a movement could take a verdict away, not only strengthen it; of an earlier stage nobody knows."""
    if move.name != ours.reported.metric:
        return True
    if verdict in ("NOT REPRODUCED", "INCONSISTENT"):
        return move.gain * ours.difference < 0
    if verdict == "REPRODUCED" and ours.reported.is_bound:
        return (move.gain < 0) == (ours.reported.spread_kind == "lower_bound")
    return True


def _judged(ours: _Ours) -> Decision:
    """The verdict on a comparable cell, why, and how many units to add."""
    if ours.n == 1:
        return "INCONCLUSIVE", *_alone(ours)
    if not ours.sd:
        constant = f"our {ours.n} {ours.unit}s agree to rounding"
        return "INCONCLUSIVE", f"nothing varies: {constant}, which no test can use", None
    return _predicted(ours) if ours.reported.unknown else _tested(ours)


def _alone(ours: _Ours) -> tuple[str, int | None]:
    """Why one unit decides nothing, and how many more would: its spread is unknown, so it is supposed the paper's."""
    one, theirs = f"one {ours.unit} has no spread", ours.theirs
    if not theirs[0]:
        return f"{one}: at least 1 more is needed", 1
    more = stats.more_seeds(ours.difference, ours.reported.margin, theirs[0], 1, *theirs)
    return f"{one}; if ours is the paper's, {_needs(more, ours.unit)}", more


def _tested(ours: _Ours) -> Decision:
    """Two one-sided tests each for inside and outside, then whether there is a difference at all."""
    low, high = ours.region
    inner, outer = ours.interval(0.90), ours.interval(0.95)
    margin, difference = ours.reported.margin, ours.difference
    of = f"the margin of {margin:g}" + f" ({ours.reported.spread_kind.replace('_', ' ')})" * ours.reported.is_bound
    if low < inner[0] and inner[1] < high:
        return "REPRODUCED", f"90 % interval {_range(*inner)} lies inside {of}", None
    if inner[1] < low or high < inner[0]:
        return "NOT REPRODUCED", f"90 % interval {_range(*inner)} lies outside {of}", None
    tie = stats.rounding(ours.reported.value, margin)
    wrong = (outer[1] < 0 and math.isfinite(low)) or (outer[0] > 0 and math.isfinite(high))
    if wrong and low - tie <= difference <= high + tie:
        return "SMALL DIFFERENCE", f"95 % interval {_range(*outer)} excludes 0, but the difference is within {of}", None
    if ours.reported.is_bound:
        more = stats.more_seeds_to_side(min(abs(difference - low), abs(difference - high)), ours.sd, ours.n)
    else:
        more = stats.more_seeds(difference, margin, ours.sd, ours.n, *ours.theirs)
    return "INCONCLUSIVE", f"95 % interval {_range(*outer)} does not settle it; {_needs(more, ours.unit)}", more


def _predicted(ours: _Ours) -> Decision:
    """Whether the paper's number, as one run with our spread, is one that ours lead us to expect."""
    reported = ours.reported
    low, high = stats.prediction_interval(ours.mean, ours.sd, ours.n)
    low, high = low - reported.margin, high + reported.margin
    inside = low <= reported.value <= high
    why = (
        f"{reported.value:g} lies {'in' if inside else 'outside'} {_range(low, high, '.4g')}, our 95 % prediction "
        f"interval widened by the margin of {reported.margin:g}; conditional on one run and our spread, since "
        f"{reported.unknown}"
    )
    return "CONSISTENT" if inside else "INCONSISTENT", why, None


def _needs(more: int | None, unit: str) -> str:
    if more is None:
        return f"no number of our {unit}s up to {stats.MOST_SEEDS} would decide at these spreads"
    return f"about {number_of(more, f'more {unit}')} would decide with power {stats.POWER:g}"


def _range(low: float, high: float, form: str = ".3g") -> str:
    return f"[{low:{form}}, {high:{form}}]"


def number_of(n: int, what: str) -> str:
    """Write a number of things."""
    return f"{n} {what}{'' if n == 1 else 's'}"
