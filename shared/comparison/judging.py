"""Give the verdict on a claim, from the samples of its grid.

HOLDS           every cell of the grid holds: the mean over seeds lies in the claimed region, one-sided
                p <= 5 % in each cell. All must pass, so no correction is due (intersection-union test)
CONTRADICTED    at least one cell lies significantly outside, after Holm's correction over the cells
INCONCLUSIVE    neither, or one seed only; says which cell is weakest and how many more seeds would decide it
NOT COMPARABLE  there are records, but none meets what the claim requires
NOT RUN         no records

With `aggregate: any` the two swap: one cell must hold after Holm, all must fail. With `mean` the cells are
averaged per seed and judged as one. Cells without records are named and the rest is judged.

A p-value is the larger of a paired Student test's and a paired bootstrap's, an interval (90 %) the wider of
the two. A deterministic claim is judged by its values alone: every one must lie in the region.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shared.comparison import stats
from shared.comparison.evidence import AmbiguousError, Sample, matches, samples

EXAMINED = {
    **dict.fromkeys(("greater", "within"), "the difference"),
    **dict.fromkeys(("ranking", "monotone"), "each step"),
    "ratio": "the ratio",
}
VERDICTS = ("HOLDS", "CONTRADICTED", "INCONCLUSIVE", "NOT COMPARABLE", "NOT RUN")


@dataclass(frozen=True)
class ClaimVerdict:
    """Hold a verdict on a claim in words, with what it rests on.

    Attributes
    ----------
    estimate, low, high : mean over cells of the examined quantity (a ratio as a ratio) and its 90 % interval over
        seeds; nan where it does not exist.
    better : probability of improvement (of two sides, that a run on the left beats one on the right; of one, the share
        of runs in the region), mean over cells.
    seeds : fewest and most seeds of a cell.
    missing : cells of the grid without records.
    caveats : stand-ins and simulations.
    """

    verdict: str
    why: str
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    better: float = math.nan
    seeds: tuple = (0, 0)
    hold: int = 0
    cells: int = 0
    missing: tuple = ()
    caveats: tuple = ()


def judge_claim(rows, claim, caveats=lambda rows: ()):
    """Judge a claim on tidy rows.

    Parameters
    ----------
    rows : DataFrame
        One row per record, selection and metric; a failed run is a row whose value is nan.
    claim : Claim
    caveats : callable
        Rows -> the sentences a reader must know about them.

    Returns
    -------
    ClaimVerdict
    """
    if rows.empty:
        return _nothing(rows, claim, (), rows)
    kept = rows[matches(rows, claim.requires)]
    try:
        found, missing, used = samples(kept, claim)
        if not found:
            return _nothing(rows, claim, missing, used)
    except AmbiguousError as error:
        return ClaimVerdict("INCONCLUSIVE", str(error))
    return decide(found, claim, missing, caveats(used))


def decide(found, claim, missing=(), caveats=()):
    """Return the verdict on a claim from one sample per cell; `judge_claim` says how the samples come from records."""
    better = [s.better for s in found if not math.isnan(s.better)]
    shared = {
        **_summary(found, claim),
        "better": float(np.mean(better)) if better and claim.kind != "same_shape" else math.nan,
        "missing": tuple(missing),
        "caveats": tuple(caveats),
    }
    if claim.deterministic:
        return _by_value(found, claim, shared)
    if claim.aggregate == "mean":
        found = [_averaged(found)]
        if not len(found[0].x):
            return ClaimVerdict("INCONCLUSIVE", "no seed has every cell of the mean", **shared)
    return _by_test(found, claim, shared)


def _nothing(rows, claim, missing, used):
    """The verdict when no cell has a sample; `used` are the rows that any side selects."""
    if claim.requires and len(rows):
        unmet = samples(rows, claim)[2]
        if len(unmet) and not len(used):
            have = "; ".join(f"{key} {_listed(unmet, key)}" for key in claim.requires)
            return ClaimVerdict("NOT COMPARABLE", f"needs {_worded(claim.requires)}; these records have {have}")
    needs = f"needs {_worded(claim.requires)}; " if claim.requires else ""
    why = "no seed has records of both sides" if len(used) else "no records"
    if len(used) and used["value"].isna().all():
        why = "every run failed: a log and no record"
    return ClaimVerdict("NOT RUN", needs + why, missing=tuple(missing))


def _by_value(found, claim, shared):
    low, high, _ = claim.region
    extremes = [(float(s.x.min()), float(s.x.max())) for s in found]
    hold = [low <= a and b <= high for a, b in extremes]
    shared |= {"hold": sum(hold), "cells": len(found)}
    n = sum(len(s.x) for s in found)
    span = f"[{min(a for a, _ in extremes):.3g}, {max(b for _, b in extremes):.3g}]"
    if all(hold):
        return ClaimVerdict("HOLDS", f"{_region(claim)} in {n} of {n} deterministic values, {span}", **shared)
    outside = "; ".join(s.name for s, ok in zip(found, hold, strict=True) if not ok)
    return ClaimVerdict("CONTRADICTED", f"deterministic values not all with {_region(claim)}: {outside}", **shared)


def _by_test(found, claim, shared):
    inside = np.array([_p_inside(s, claim) for s in found])
    outside = np.array([_p_outside(s, claim) for s in found])
    some = claim.aggregate == "any"
    hold = stats.holm(inside) if some else inside <= stats.ALPHA
    against = outside <= stats.ALPHA if some else stats.holm(outside)
    cells = f"in {'any of ' if some else ''}{len(found)} cell{'s' if len(found) > 1 else ''}"
    if claim.aggregate == "mean":
        cells = "in the mean over cells"
    shared |= {"hold": int(hold.sum()), "cells": len(found)}
    if hold.any() if some else hold.all():
        return ClaimVerdict("HOLDS", f"{_region(claim)} {cells}", **shared)
    if against.all() if some else against.any():
        worst = "; ".join(_shown(s, claim) for s, bad in zip(found, against, strict=True) if bad)
        return ClaimVerdict("CONTRADICTED", f"significantly against {_region(claim)}: {worst}", **shared)
    weakest = found[int(np.argmax(inside))]
    why = f"{_region(claim)} shown in {hold.sum()} of {len(found)}; weakest {_shown(weakest, claim)}"
    why = f"{why}; {_needs(weakest, claim)}"
    return ClaimVerdict("INCONCLUSIVE", why, **shared)


def _p_inside(sample, claim):
    low, high, closed = claim.region
    x = sample.x.to_numpy()
    tests = (stats.p_above(x, low, closed, sample.floor), stats.p_below(x, high, closed, sample.floor))
    return max(*tests, sample.guard)


def _p_outside(sample, claim):
    """Two bounds give two ways to be outside, hence the factor 2. An exact tie is not outside."""
    low, high, _ = claim.region
    x = sample.x.to_numpy()
    below = stats.p_below(x, low, floor=sample.floor) if np.isfinite(low) else 1.0
    above = stats.p_above(x, high, floor=sample.floor) if np.isfinite(high) else 1.0
    return min(1.0, min(below, above) * (2 if np.isfinite(low) and np.isfinite(high) else 1))


def _averaged(found):
    """Per-seed mean over the cells, on the seeds that have them all."""
    table = pd.concat([s.x for s in found], axis=1, join="inner")
    return Sample("mean over cells", table.mean(axis=1), floor=max(s.floor for s in found))


def _summary(found, claim):
    back = math.exp if claim.kind == "ratio" else float
    sizes = [len(s.x) for s in found]
    mean = _averaged(found)
    if not len(mean.x):
        return {"estimate": back(np.mean([s.x.mean() for s in found])), "seeds": (min(sizes), max(sizes))}
    low, high = stats.paired_interval(mean.x.to_numpy(), floor=mean.floor)
    return {
        "estimate": back(mean.x.mean()),
        "low": back(low),
        "high": back(high),
        "seeds": (min(sizes), max(sizes)),
    }


def _shown(sample, claim):
    back = math.exp if claim.kind == "ratio" else float
    mean = back(sample.x.mean())
    low, high = stats.paired_interval(sample.x.to_numpy(), floor=sample.floor)
    return f"{sample.name}: {mean:.3g}" + ("" if math.isnan(low) else f" [{back(low):.3g}, {back(high):.3g}]")


def _needs(sample, claim):
    n = len(sample.x)
    if n < 2:
        return "one seed has no spread, at least 1 more is needed"
    if sample.guard > stats.ALPHA:
        return f"too few points to tell likeness from chance (p = {sample.guard:.2g})"
    mean = sample.x.mean()
    distance = min(abs(mean - bound) for bound in claim.region[:2])
    more = stats.more_seeds_to_side(distance, stats.spread(sample.x.to_numpy(), sample.floor), n)
    if more is None:
        return f"no number of seeds up to {stats.MOST_SEEDS} would decide it at this spread"
    return f"about {more} more seed{'s' if more > 1 else ''} would decide it with power {stats.POWER:g}"


def _region(claim):
    """What is examined, and where the claim puts it."""
    examined = EXAMINED.get(claim.kind, claim.metric)
    if claim.kind == "same_shape":
        examined = "the gap of the scaled curves" if claim.at_least is None else "Kendall's tau"
    low, high, closed = claim.region
    if claim.kind == "ratio":
        low, high = math.exp(low), math.inf if high == math.inf else math.exp(high)
        low = low or -math.inf
    if math.isinf(high):
        return f"{examined} {'at least' if closed else 'above'} {low:g}"
    if math.isinf(low):
        return f"{examined} at most {high:g}"
    return f"{examined} within [{low:g}, {high:g}]"


def _worded(selector):
    return ", ".join(f"{key} {_one_of(value)}" for key, value in selector.items())


def _one_of(value):
    if isinstance(value, list):
        return " or ".join(map(str, value))
    if isinstance(value, dict):
        return " and ".join(f"{'at least' if k == 'min' else 'at most'} {v}" for k, v in value.items())
    return str(value)


def _listed(rows, key):
    return "/".join(map(str, sorted(rows[key].dropna().astype(str).unique()))) or "none" if key in rows else "none"
