"""Compute the intervals, p-values and seed counts behind the verdicts on cells and on claims."""

from functools import cache

import numpy as np
from scipy import stats

ALPHA = 0.05
POWER = 0.80
RESAMPLES = 4999
MOST_SEEDS = 1000


def welch(sd_ours, n_ours, sd_reported, n_reported):
    """Return the standard error of a difference of two means, with Satterthwaite's degrees of freedom.

    Parameters
    ----------
    sd_ours, sd_reported : float
        Standard deviations over seeds; either may be zero.
    n_ours, n_reported : int or array
        Numbers of seeds, at least 2; `inf` makes that side a known constant.

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


def interval(centre, se, df, level):
    """Return the two-sided Student interval of a mean or of a difference of means."""
    half = 0.0 if se == 0 else stats.t.ppf(0.5 + level / 2, df) * se
    return float(centre - half), float(centre + half)


@cache
def _resamples(n):
    """Indices of the bootstrap samples of n seeds: always the same ones, so verdicts are repeatable."""
    return np.random.default_rng(n).integers(n, size=(RESAMPLES, n))


def spread(x, floor=0.0):
    """Return the standard deviation over seeds, or `floor` when the seeds agree to rounding."""
    sd = float(np.std(x, ddof=1)) if len(x) > 1 else 0.0
    return sd if sd > 1e-12 * max(1.0, float(np.abs(x).max())) else floor


def paired_interval(x, level=1 - 2 * ALPHA, floor=0.0):
    """Return the interval of the mean of per-seed values: the wider, at each end, of bootstrap and Student.

    A percentile bootstrap over 2 to 5 seeds never leaves the range of the seeds and is far too narrow;
    Student's interval assumes symmetry. One seed gives no interval: `(nan, nan)`.
    """
    n = len(x)
    if n < 2:
        return np.nan, np.nan
    low, high = interval(np.mean(x), spread(x, floor) / np.sqrt(n), n - 1, level)
    means = np.asarray(x)[_resamples(n)].mean(axis=1)
    tail = 0.5 - level / 2
    return min(low, float(np.quantile(means, tail))), max(high, float(np.quantile(means, 1 - tail)))


def p_above(x, bound, closed=False, floor=0.0):
    """Return the one-sided p-value that the mean over seeds lies above `bound`: the larger of bootstrap and Student.

    `closed` counts a mean equal to the bound, with no spread at all, as above it. One seed gives 1; two that
    agree exactly give 0.25, as on a small test set they agree by chance; more that agree give 0.
    """
    n = len(x)
    if np.isinf(bound):
        return 0.0 if bound < 0 else 1.0
    if n < 2:
        return 1.0
    mean, sd = float(np.mean(x)), spread(x, floor)
    if sd == 0:
        above = mean > bound or (closed and np.isclose(mean, bound, rtol=1e-12, atol=1e-12))
        return (0.25 if n == 2 else 0.0) if above else 1.0
    student = stats.t.sf((mean - bound) / (sd / np.sqrt(n)), n - 1)
    means = np.asarray(x)[_resamples(n)].mean(axis=1)
    return max(float(student), float(1 + np.sum(means <= bound)) / (RESAMPLES + 1))


def p_below(x, bound, closed=False, floor=0.0):
    """Mirror `p_above`."""
    return p_above(-np.asarray(x), -bound, closed, floor)


def holm(p, alpha=ALPHA):
    """Tell which hypotheses Holm's step-down procedure rejects: a boolean array shaped as `p`."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, kind="stable")
    passed = p[order] <= alpha / np.arange(len(p), 0, -1)
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order] = np.logical_and.accumulate(passed)
    return rejected


def improvement(left, right):
    """Return the probability that a run on the left beats a run on the right, over all pairs; ties count a half."""
    difference = np.subtract.outer(np.asarray(left, dtype=float), np.asarray(right, dtype=float))
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def kendall(a, b):
    """Return Kendall's tau-b of two sequences; nan when either is constant or shorter than two."""
    return float(stats.kendalltau(a, b).statistic) if len(a) > 1 else float("nan")


def concordance_p(a, b):
    """Return the p-value that two curves agree in order no better than chance (Kendall, one-sided)."""
    p = float(stats.kendalltau(a, b, alternative="greater").pvalue) if len(a) > 1 else 1.0
    return 1.0 if np.isnan(p) else p


def more_seeds(difference, margin, sd, n, sd_reported=0.0, n_reported=np.inf):
    """Return how many seeds to add before a difference would be decided, at the present estimates.

    They lead to the smallest n' > n for which one of these holds, with se and df from `welch` at n':

        |D| + (t[.95, df] + t[.90, df]) se <= margin      equivalence shown with power 0.80
        (t[.975, df] + t[.80, df]) se <= |D|              difference from zero shown with power 0.80

    Equivalence takes the .90 quantile because both of its one-sided tests must pass.

    Returns
    -------
    int or None
        None when no number up to 1000 does: the reported side's own spread is then the limit.
    """
    more = np.arange(n + 1, MOST_SEEDS + 1)
    se, df = welch(sd, np.maximum(more, 2), sd_reported, n_reported)
    equivalent = (stats.t.ppf(0.95, df) + stats.t.ppf(0.90, df)) * se <= margin - abs(difference)
    separate = (stats.t.ppf(0.975, df) + stats.t.ppf(POWER, df)) * se <= abs(difference)
    decided = (more >= 2) & (equivalent | (separate & (difference != 0)))
    return int(more[decided][0] - n) if decided.any() else None


def more_seeds_to_side(distance, sd, n):
    """Return the seeds to add before a mean at `distance` from a bound is shown to lie on its side of it.

    They lead to the smallest n' > n with (t[.95, n'-1] + t[.80, n'-1]) sd / sqrt(n') <= distance; None beyond 1000.
    """
    more = np.arange(max(n + 1, 2), MOST_SEEDS + 1)
    need = (stats.t.ppf(1 - ALPHA, more - 1) + stats.t.ppf(POWER, more - 1)) * sd / np.sqrt(more)
    decided = (need <= distance) & (distance > 0)
    return int(more[decided][0] - n) if decided.any() else None
