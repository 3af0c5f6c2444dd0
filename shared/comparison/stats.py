"""Compute the intervals, p-values and seed counts behind the verdicts on cells and on claims.

The unit is a seed, or a cluster of seeds that share something (`cluster_means`): n is the number of units throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

Values: TypeAlias = Sequence[float] | np.ndarray | pd.Series
Count: TypeAlias = float | np.ndarray

ALPHA = 0.05
POWER = 0.80
RESAMPLES = 4999
MOST_SEEDS = 1000
NORMAL_THEORY = 5  # with fewer units any verdict rests on normal theory alone: .5**4 > ALPHA
ROUNDING = 1e-12  # relative to the largest number at hand, at least to 1


def seed_means(values: pd.Series, seeds: pd.Series) -> pd.Series:
    """Return the mean of values by seed, in order of seeds; a grouping takes long, and most have one value each."""
    if seeds.is_unique:
        return values.set_axis(pd.Index(seeds)).sort_index()
    return values.groupby(seeds).mean()


def clusters_of(rows: pd.DataFrame, seeds: pd.Series) -> pd.Series:
    """Return what each seed shares with others, as `joined` does, from the names in the column `cluster`."""
    return joined(seeds.unique(), rows["cluster"].set_axis(pd.Index(seeds)))


def joined(seeds: Iterable, *groupings: pd.Series) -> pd.Series:
    """Return what seeds share where any of several groupings says so, in whatever order these come.

    Parameters
    ----------
    seeds : those that count.
    groupings : Series
        Seed -> name of what it shares; "" and whatever is no text means nothing. A seed may be there several times.

    Returns
    -------
    Series
        Seed -> the least of the names that hang together with its own; seeds that share nothing are left out.
    """
    names: dict[Any, set[str]] = {}
    wanted = set(seeds)
    for grouping in groupings:
        for seed, name in zip(grouping.index, grouping.to_numpy(), strict=True):
            if isinstance(name, str) and name and seed in wanted:
                names.setdefault(seed, set()).add(name)
    together: list[set[str]] = []
    for found in names.values():
        touched = [one for one in together if one & found]
        together = [one for one in together if not one & found] + [found.union(*touched)]
    least = {name: min(one) for one in together for name in one}
    return pd.Series({seed: least[min(found)] for seed, found in names.items()}, dtype=object)


def cluster_means(x: pd.Series, clusters: pd.Series | Mapping | None) -> pd.Series:
    """Return the means of values over what they share.

    Parameters
    ----------
    x : Series
        One value per seed.
    clusters : Series, mapping or None
        Seed -> name of its cluster; a seed that has none, or "", stands alone. See `joined`.

    Returns
    -------
    Series
        One mean per cluster, in the order of first appearance; a lone seed keeps its own label.
    """
    if clusters is None:
        return x
    names = pd.Series(clusters, dtype=object).reindex(x.index)
    keys = [name if isinstance(name, str) and name else seed for name, seed in zip(names, x.index, strict=True)]
    return x.groupby(keys, sort=False).mean() if any(isinstance(key, str) for key in keys) else x


def welch(sd_ours: float, n_ours: Count, sd_reported: float, n_reported: Count) -> tuple[Any, Any]:
    """Return the standard error of a difference of two means, with Satterthwaite's degrees of freedom.

    Parameters
    ----------
    sd_ours, sd_reported : float
        Standard deviations over units; either may be zero.
    n_ours, n_reported : int or array
        Numbers of units, at least 2; `inf` makes that side a known constant.

    Returns
    -------
    se, df : float or array
        `df` is infinite when neither side varies.
    """
    ours = sd_ours**2 / np.asarray(n_ours, dtype=float)
    reported = sd_reported**2 / np.asarray(n_reported, dtype=float)
    spread = ours**2 / (np.asarray(n_ours) - 1) + reported**2 / (np.asarray(n_reported) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(spread > 0, (ours + reported) ** 2 / spread, np.inf)
    return np.sqrt(ours + reported)[()], df[()]


def interval(centre: float, se: float, df: float, level: float) -> tuple[float, float]:
    """Return the two-sided Student interval of a mean or of a difference of means."""
    half = 0.0 if se == 0 else special.stdtrit(df, 0.5 + level / 2) * se
    return float(centre - half), float(centre + half)


def prediction_interval(mean: float, sd: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval in which one more value lies: mean -+ t sd sqrt(1 + 1/n), n at least 2."""
    return interval(mean, sd * np.sqrt(1 + 1 / n), n - 1, level)


@cache
def _resamples(n: int) -> np.ndarray:
    """Weights (resamples, n) of the bootstrap means of n values: always the same, so verdicts are repeatable."""
    drawn = np.random.default_rng(n).integers(n, size=(RESAMPLES, n))
    return (drawn[:, :, None] == np.arange(n)).sum(axis=1) / n


def rounding(*numbers: float | Values) -> float:
    """Return the difference below which numbers, or arrays of them, count as equal."""
    return ROUNDING * max(1.0, *(float(np.abs(x).max()) for x in numbers))


def spread(x: Values, floor: float = 0.0) -> float:
    """Return the standard deviation, or `floor` when the values agree to rounding."""
    sd = float(np.std(x, ddof=1)) if len(x) > 1 else 0.0
    return sd if sd > rounding(x) else floor


def varies(x: Values) -> bool:
    """Tell whether values differ by more than rounding; one value, or none, does not."""
    return len(x) > 1 and spread(x) > 0


def paired_interval(x: Values, level: float = 1 - 2 * ALPHA, floor: float = 0.0) -> tuple[float, float]:
    """Return Student's interval of the mean; from five values on the wider, at each end, of it and the bootstrap's.

    A percentile bootstrap of fewer is far too narrow: it never leaves their range. Where nothing varies there is no
    interval: `(nan, nan)`, as for one value.
    """
    n, x = len(x), np.asarray(x, dtype=float)
    if n < 2 or not (sd := spread(x, floor)):
        return np.nan, np.nan
    low, high = interval(x.mean(), sd / np.sqrt(n), n - 1, level)
    if n < NORMAL_THEORY:
        return low, high
    ends = np.quantile(_resamples(n) @ x, (0.5 - level / 2, 0.5 + level / 2))
    return min(low, float(ends[0])), max(high, float(ends[1]))


def p_above(x: Values, bound: float, closed: bool = False, floor: float = 0.0) -> float:
    """Return the one-sided p-value that the mean lies above `bound`.

    Student's with fewer than five values (normal theory), from five on the larger of Student's and the bootstrap's.
    Where nothing varies there is no test: 1, as for one value.

    Parameters
    ----------
    x : sequence of float
        One value per unit.
    closed : count a resampled mean equal to the bound as above it.
    floor : stands in for the standard deviation where the values agree to rounding.
    """
    if np.isinf(bound):
        return 0.0 if bound < 0 else 1.0
    return _p(np.asarray(x, dtype=float), [bound], closed, floor)


def p_below(x: Values, bound: float, closed: bool = False, floor: float = 0.0) -> float:
    """Mirror `p_above`."""
    return p_above(-np.asarray(x, dtype=float), -bound, closed, floor)


def p_beyond(x: Values, low: float, high: float, floor: float = 0.0) -> float:
    """Return the p-value that the mean lies outside [low, high], either of which may be infinite.

    At the nearer end: P(T >= t) + P(T >= t + (high - low) / se), the chance of either tail for a mean that lies on that
    end. It is exact for normal values, between the one-sided p of a wide region and the two-sided p of a point.
    """
    x = np.asarray(x, dtype=float)
    if (len(x) and x.mean() < (low + high) / 2) or np.isinf(high):
        x, low, high = -x, -high, -low
    # Now the nearer end is `high`, and a mean beyond `low` by as much as this one has t + (high - low) / se.
    ends = [bound for bound in (high, low) if np.isfinite(bound)]
    return _p(x, ends, False, floor) if ends else 1.0


def _p(x: np.ndarray, bounds: Sequence[float], closed: bool, floor: float) -> float:
    """The chance, summed over bounds, of a mean as far above each if it were the true one."""
    n = len(x)
    if n < 2 or not (sd := spread(x, floor)):
        return 1.0
    ends = np.asarray(bounds, dtype=float)
    student = special.stdtr(n - 1, (ends - x.mean()) / (sd / np.sqrt(n))).sum()
    if n < NORMAL_THEORY:
        return float(min(1.0, student))
    tie = rounding(x, ends) * (-1 if closed else 1)
    below = sum(np.sum(_resamples(n) @ x <= bound + tie) for bound in ends)
    return float(min(1.0, max(student, (1 + below) / (RESAMPLES + 1))))


def printed(p: float, n: int) -> float:
    """Return the p-value that tables show: never below `.5 ** n`, what n values say without an assumption."""
    return max(float(p), 0.5**n)


def benjamini_hochberg(p: Values, alpha: float = ALPHA) -> np.ndarray:
    """Tell which hypotheses are rejected at a false discovery rate of `alpha`: a boolean array shaped as `p`.

    A p that is nan was not tested: not rejected, and not counted among the tests.
    """
    p = np.asarray(p, dtype=float)
    tested = np.sort(p[~np.isnan(p)])
    passed = tested[tested <= alpha * np.arange(1, len(tested) + 1) / max(1, len(tested))]
    return p <= passed.max() if len(passed) else np.zeros(p.shape, dtype=bool)


def log_spreads(x: pd.Series) -> pd.Series:
    """Return the jackknife's pseudo-values of the logarithm of a standard deviation (Miller 1968), of three or more.

    Their mean is its estimate, and their spread the estimate's, so that two sides are compared as two means are. Where
    the others agree to rounding without a value, its pseudo-value is not finite.
    """
    n = len(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = np.log([spread(np.delete(x.to_numpy(), i)) for i in range(n)])
        return pd.Series(n * np.log(spread(x)) - (n - 1) * without, x.index)


def improvement(left: Values, right: Values) -> float:
    """Return the probability that a run on the left beats a run on the right, over all pairs; ties count a half."""
    difference = np.subtract.outer(np.asarray(left, dtype=float), np.asarray(right, dtype=float))
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def kendall(a: Values, b: Values) -> float:
    """Return Kendall's tau-b of two sequences; nan when either is constant or shorter than two."""
    return float(_kendalltau(a, b).statistic) if len(a) > 1 else float("nan")


def concordance_p(a: Values, b: Values) -> float:
    """Return the p-value that two curves agree in order no better than chance (Kendall, one-sided)."""
    p = float(_kendalltau(a, b, alternative="greater").pvalue) if len(a) > 1 else 1.0
    return 1.0 if np.isnan(p) else p


def _kendalltau(a: Values, b: Values, **options: str) -> Any:
    from scipy import stats  # a second, which comparisons without curves need not take

    return stats.kendalltau(a, b, **options)


def more_seeds(
    difference: float, margin: float, sd: float, n: int, sd_reported: float = 0.0, n_reported: float = np.inf
) -> int | None:
    """Return how many units to add before a difference would be decided, at the present estimates.

    They lead to the smallest n' > n for which one of these holds, with se and df from `welch` at n':

        |D| + (t[.95, df] + t[.90, df]) se <= margin      equivalence shown with power 0.80
        margin + (t[.95, df] + t[.80, df]) se <= |D|      more than the margin shown with power 0.80
        (t[.975, df] + t[.80, df]) se <= |D| <= margin    difference from zero shown with power 0.80

    Equivalence takes the .90 quantile because both of its one-sided tests must pass.

    Returns
    -------
    int or None
        None when no number up to 1000 does: the reported side's own spread is then the limit.
    """
    beyond = abs(difference) - margin

    def decided(more: np.ndarray) -> np.ndarray:
        se, df = welch(sd, more, sd_reported, n_reported)
        if beyond > 0:
            return _need(0.95, POWER, df) * se <= beyond
        equivalent = (_need(0.95, 0.90, df) * se <= -beyond) & (beyond < 0)
        return equivalent | ((_need(0.975, POWER, df) * se <= abs(difference)) & (difference != 0))

    return _first(decided, n)


def more_seeds_to_side(distance: float, sd: float, n: int, tests: int = 1) -> int | None:
    """Return the units to add before a mean at `distance` from a bound is shown to lie on its side of it.

    They lead to the smallest n' > n with (t[1 - .05 / tests, n'-1] + t[.80, n'-1]) sd / sqrt(n') <= distance, where
    Bonferroni corrects for so many tests; None beyond 1000.
    """
    if distance <= 0:
        return None
    return _first(lambda more: _need(1 - ALPHA / tests, POWER, more - 1) * sd / np.sqrt(more) <= distance, n)


def _need(level: float, power: float, df: Any) -> Any:
    """How many standard errors a test at a level needs for a power."""
    return special.stdtrit(df, level) + special.stdtrit(df, power)


def _first(decided: Callable[[np.ndarray], np.ndarray], n: int) -> int | None:
    """How many more than n units decide, or None. Blocks spare the quantiles of hundreds where a few do."""
    for more in np.array_split(np.arange(max(n + 1, 2), MOST_SEEDS + 1), (10, 30, 100)):
        if (enough := more[decided(more)]).size:
            return int(enough[0] - n)
    return None
