"""Word what a verdict on a claim rests on: its region, its cells, what moves, how many more seeds would decide it."""

from __future__ import annotations

import math

import pandas as pd

from shared.comparison import stats
from shared.comparison.claims import Claim, Selector
from shared.comparison.convergence import Moves
from shared.comparison.sides import Sample
from shared.tables.bounds import bounds_in_words

EXAMINED = {
    **dict.fromkeys(("greater", "within"), "the difference"),
    **dict.fromkeys(("ranking", "monotone"), "each step"),
    "ratio": "the ratio",
}
SHOWN = 4  # cells, or moves, that a reason lists before it counts the rest


def moves_in_words(by: list[tuple[Sample, Moves]], n: int) -> str:
    """Return the moves that take a verdict away, each once, with the cell where there are several."""
    texts = {str(move): s.name for s, moves in reversed(by) for move in moves}
    return some([f"{name}: {text}" if n > 1 else text for text, name in reversed(texts.items())])


def some(texts: list[str]) -> str:
    """Return the first of several texts, and how many more there are."""
    more = len(texts) - SHOWN
    return "; ".join(texts[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def each(said: list[tuple[str, str]], n: int) -> str:
    """Return what is said of cells, pairs of name and text: once where it is the same of all n, else cell by cell."""
    alike = len(said) == n and len({text for _, text in said}) == 1
    return said[0][1] if alike else some([f"{cell}: {text}" for cell, text in said])


def shown(sample: Sample, claim: Claim) -> str:
    """Return a cell's estimate with its interval."""
    back = math.exp if claim.kind == "ratio" else float
    mean = back(sample.x.mean())
    low, high = stats.paired_interval(sample.x.to_numpy(), floor=sample.floor)
    return f"{sample.name}: {mean:.3g}" + ("" if math.isnan(low) else f" [{back(low):.3g}, {back(high):.3g}]")


def seeds_needed(sample: Sample, claim: Claim, tests: tuple[int, int] = (1, 1)) -> str:
    """Return how many more seeds would decide a cell; of so many tests each p is one, inside the region and outside."""
    n = len(sample.x)
    if n < 2:
        return f"one {_unit(sample)} has no spread, at least 1 more is needed"
    if not (stats.varies(sample.x) or sample.floor):
        return nothing_varies(sample)
    if sample.guard > stats.ALPHA:
        return f"too few points to tell likeness from chance (p = {sample.guard:.2g})"
    mean, (low, high, _) = sample.x.mean(), claim.region
    distance, times = min(abs(mean - low), abs(mean - high)), tests[not low <= mean <= high]
    more = stats.more_seeds_to_side(distance, stats.spread(sample.x.to_numpy(), sample.floor), n, times)
    if more is None:
        return f"no number of {_unit(sample)}s up to {stats.MOST_SEEDS} would decide it at this spread"
    return f"about {more} more {_unit(sample)}{'s' if more > 1 else ''} would decide it with power {stats.POWER:g}"


def _unit(sample: Sample) -> str:
    """What n counts."""
    return "seed" if len(sample.x) == len(sample.values) else "cluster"


def nothing_varies(sample: Sample) -> str:
    """Return why values that agree decide nothing."""
    return f"nothing varies over {len(sample.values)} seeds, so that no test can tell them from a coincidence"


def region(claim: Claim) -> str:
    """Return what is examined, and where the claim puts it."""
    examined = EXAMINED.get(claim.kind, claim.metric)
    if "over" in claim.left:
        examined = "the ratio of standard deviations over seeds"
    if claim.kind == "same_shape":
        examined = "the gap of the scaled curves" if claim.at_least is None else "Kendall's tau"
    low, high, _ = claim.region
    if claim.kind == "ratio":
        low, high = math.exp(low), math.exp(high)
    return f"{examined} {bounds_in_words(claim.kind, low, high)}"


def worded(selector: Selector) -> str:
    """Write a selector as text."""
    return ", ".join(f"{key} {_one_of(value)}" for key, value in selector.items())


def _one_of(value: object) -> str:
    if isinstance(value, list):
        return " or ".join(map(str, value))
    if isinstance(value, dict):
        return " and ".join(f"{'at least' if k == 'min' else 'at most'} {v}" for k, v in value.items())
    return str(value)


def values_of(rows: pd.DataFrame, key: str) -> str:
    """Return the values that rows have of a spec key."""
    return "/".join(map(str, sorted(rows[key].dropna().astype(str).unique()))) or "none" if key in rows else "none"
