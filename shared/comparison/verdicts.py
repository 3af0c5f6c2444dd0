"""Give the verdict on one cell: what the paper reports against what our seeds give.

With D = ours - reported, in order of precedence:

NOT RUN, FAILED     no value of ours; FAILED when a run left a log and no record
NOT COMPARABLE      tier, data or protocol differ from the paper, or the paper's n or spread is unknown
REPRODUCED          90 % Welch interval of D inside the margin (two one-sided tests at 5 %)
NOT REPRODUCED      95 % Welch interval of D excludes 0 and |D| > margin
SMALL DIFFERENCE    95 % Welch interval of D excludes 0 and |D| <= margin
INCONCLUSIVE        none of these; says how many more seeds would decide

Welch's interval is approximate: at two seeds of ours with unequal spreads up to 7 % instead of 5 % of results whose
true D equals the margin are called REPRODUCED (tests/unit/test_comparison_rates.py); from three seeds on about 5 %.

Where the paper gives only a bound ("> 90 %"), the bound is a known constant and the same tests are one-sided:
REPRODUCED when the 95 % one-sided limit of D does not fall below it by more than the margin, and so on.
"""

import math
from dataclasses import dataclass

import numpy as np

from shared.comparison import stats
from shared.comparison.reported import BOUNDS

VERDICTS = (
    *("REPRODUCED", "SMALL DIFFERENCE", "NOT REPRODUCED", "INCONCLUSIVE"),
    *("NOT COMPARABLE", "FAILED", "NOT RUN"),
)


@dataclass(frozen=True)
class Verdict:
    """Hold a verdict in words, with what it rests on. Numbers that do not exist are nan.

    Attributes
    ----------
    low, high : 95 % interval of `difference`.
    more : seeds to add, None if unknown or not needed.
    """

    verdict: str
    why: str
    n: int = 0
    mean: float = math.nan
    sd: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    more: int | None = None


def judge_cell(values, reported, obstacles=()):
    """Judge one reported number against our values of it, one per seed.

    Parameters
    ----------
    values : sequence of float
        One per seed; nan for a seed that left a log and no record.
    reported : Reported
    obstacles : sequence of str
        Why tier, data or protocol differ from the paper; empty when they do not.

    Returns
    -------
    Verdict
    """
    values = np.asarray(values, dtype=float)
    failed = int(np.isnan(values).sum())
    values = values[~np.isnan(values)]
    if len(values) == 0:
        if failed:
            return Verdict("FAILED", f"{_count(failed, 'run')} failed: a log and no record")
        return Verdict("NOT RUN", "no record for this cell")
    n, mean = len(values), float(values.mean())
    sd = stats.spread(values) if n > 1 else math.nan
    bound = reported.spread_kind in BOUNDS
    sd_reported, n_reported = (0.0, math.inf) if bound else (reported.sd, reported.n)
    difference = mean - reported.value
    low = high = math.nan
    se = df = None
    if n > 1 and sd_reported is not None:
        se, df = stats.welch(sd, n, sd_reported, n_reported)
        low, high = stats.interval(difference, se, df, 0.95)

    def verdict(name, why, more=None):
        lost = f"; {_count(failed, 'seed')} failed" if failed else ""
        return Verdict(name, why + lost, n, mean, sd, difference, low, high, more)

    reasons = [*obstacles, *([] if bound else _unknown(reported))]
    if reasons:
        return verdict("NOT COMPARABLE", "; ".join(reasons))
    if n == 1:
        # Only one side's spread is known; the seed count supposes that ours is the same.
        more = stats.more_seeds(difference, reported.margin, sd_reported, 1, sd_reported, n_reported)
        if bound:
            return verdict("INCONCLUSIVE", "one seed has no spread: at least 1 more is needed", 1)
        return verdict("INCONCLUSIVE", "one seed has no spread; if ours is the paper's, " + _needs(more), more)
    if bound:
        return verdict(*_against_bound(difference, se, df, low, high, reported, sd, n))
    return verdict(*_against_value(difference, se, df, low, high, reported, sd, n))


def _against_value(difference, se, df, low, high, reported, sd, n):
    margin = reported.margin
    inner = stats.interval(difference, se, df, 0.90)
    both = " (neither side varies)" if se == 0 else ""
    if -margin < inner[0] and inner[1] < margin:
        return "REPRODUCED", f"90 % interval {_range(*inner)}{both} lies inside the margin of {margin:g}"
    if low > 0 or high < 0:
        outside = f"95 % interval {_range(low, high)}{both} excludes 0"
        if abs(difference) > margin:
            return "NOT REPRODUCED", f"{outside} and the difference exceeds the margin of {margin:g}"
        return "SMALL DIFFERENCE", f"{outside}, but the difference is within the margin of {margin:g}"
    more = stats.more_seeds(difference, margin, sd, n, reported.sd, reported.n)
    return "INCONCLUSIVE", f"95 % interval {_range(low, high)} does not settle it; {_needs(more)}", more


def _against_bound(difference, se, df, low, high, reported, sd, n):
    margin = reported.margin
    name = reported.spread_kind.replace("_", " ")
    inner = stats.interval(difference, se, df, 0.90)
    if reported.spread_kind == "lower_bound":
        gap, worst, best = difference, inner[0], high
    else:
        gap, worst, best = -difference, -inner[1], -low
    if worst >= -margin:
        return "REPRODUCED", f"95 % one-sided limit of the difference keeps the {name} within {margin:g}"
    if best < 0:
        outside = f"95 % interval {_range(low, high)} is on the wrong side of the {name}"
        if gap < -margin:
            return "NOT REPRODUCED", f"{outside}, by more than the margin of {margin:g}"
        return "SMALL DIFFERENCE", f"{outside}, by no more than the margin of {margin:g}"
    more = stats.more_seeds_to_side(abs(gap + margin), sd, n)
    return "INCONCLUSIVE", f"95 % interval {_range(low, high)} does not settle it; {_needs(more)}", more


def _unknown(reported):
    """What the paper leaves unsaid that a test needs."""
    if reported.n == 1:
        return ["the paper reports one run, so its spread is unknown"]
    silent = [what for what, x in (("n", reported.n), ("spread", reported.spread)) if x is None]
    return [f"the paper's {' and '.join(silent)} {'are' if silent[1:] else 'is'} unknown"] if silent else []


def _needs(more):
    if more is None:
        return f"no number of our seeds up to {stats.MOST_SEEDS} would decide at these spreads"
    return f"about {_count(more, 'more seed')} would decide with power {stats.POWER:g}"


def _range(low, high):
    return f"[{low:.3g}, {high:.3g}]"


def _count(n, what):
    return f"{n} {what}{'' if n == 1 else 's'}"
