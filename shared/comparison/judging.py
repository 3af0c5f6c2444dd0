"""Give the verdict on a claim, from the samples of its grid.

HOLDS           every cell of the grid holds: the mean over seeds lies in the claimed region, one-sided
                p <= 5 % in each cell. All must pass, so no correction is due (intersection-union test)
CONTRADICTED    at least one cell lies significantly outside, after a correction for the number of cells
INCONCLUSIVE    neither, or one seed only, or nothing varies: says which cell would decide and how many more seeds it
                takes. So is what a test decides while runs behind it still move (see convergence.py), and a quantity
                that the runs give no value of: a ratio to nothing
NOT COMPARABLE  there are records, but none meets what the claim requires
NOT RUN         no records

With `aggregate: any` the two swap: one cell must hold after the correction, all must fail. With `share` as many cells
must hold, or more must fail than it leaves; `every` and `any` are its ends. With `mean` the cells are averaged per
seed and judged as one. Cells without records are named and the rest is judged; seeds that failed are counted.

Seeds that share something (a split of the data, a detector) on any side are one value, their mean: n counts these
clusters. p and intervals (90 %) are of shared/comparison/stats.py: Student's with fewer than five, which the verdict
then says, from five on the larger of Student's and the bootstrap's. What is printed as p is never below .5 ** n.
Outside a region with two ends p is of either tail at the nearer end. A deterministic claim is judged by its
values alone: every one must lie in the region.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from shared.comparison import convergence, stats, wording
from shared.comparison.claims import DECIDED, Claim
from shared.comparison.convergence import Moves
from shared.comparison.evidence import NO_START, REASONS, reasons_of, samples
from shared.comparison.selecting import matches, selected
from shared.comparison.setting import Setting
from shared.comparison.sides import AmbiguousError, Runs, Sample
from shared.tables.evidence import FAILED, NOT_RUN


@dataclass(frozen=True)
class ClaimVerdict:
    """Hold a verdict on a claim in words, with what it rests on.

    Attributes
    ----------
    estimate, low, high : mean over cells of the examined quantity (a ratio as a ratio) and its 90 % interval over
        seeds; nan where it does not exist, as where cells are of different seeds (but for `mean`, judged on those that
        all have).
    better : probability of improvement (of two sides, that a run on the left beats one on the right; of one, the share
        of runs in the region), mean over cells.
    p : of the verdict's direction, corrected for the number of cells; undecided the smaller of both directions. Never
        below .5 ** n; nan where nothing was tested.
    seeds, clusters : fewest and most of a cell.
    hold, cells : cells that hold beyond doubt, and cells judged.
    missing : cells that this tier plans and that lack values, with the reason where one is known.
    absent : cells that the claim names, by values it lists, and for which this tier has not even a planned
        run that meets what the claim requires.
    unplanned : how many more cells the paper's own tier plans.
    caveats : what keeps the records from being comparable with the paper's.
    setting : the same in few words, "on a stand-in"; empty where the records are comparable.
    behind : pairs of a cell's name and the runs of each of its sides.
    weakest : where every cell has to hold, or a share of several, the one that does so least, in words and numbers; of
        those that contradict the claim the one that does so most.
    """

    verdict: str
    why: str
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    better: float = math.nan
    p: float = math.nan
    seeds: tuple = (0, 0)
    clusters: tuple = (0, 0)
    hold: int = 0
    cells: int = 0
    missing: tuple = ()
    absent: tuple = ()
    unplanned: int = 0
    caveats: tuple = ()
    setting: str = ""
    behind: tuple = ()
    weakest: str = ""

    @property
    def comparable(self) -> bool:
        """Tell whether the records behind it are comparable with the paper's."""
        return not self.setting

    @property
    def word(self) -> str:
        """Return the verdict as it is printed: a decision says where it was made."""
        return f"{self.verdict} {self.setting}" if self.setting and self.verdict in DECIDED else self.verdict


def judge_claim(
    rows: pd.DataFrame,
    claim: Claim,
    setting: Callable[[pd.DataFrame], Setting] = lambda rows: Setting(),
    elsewhere: Callable[[Claim], Iterable[str]] = lambda claim: (),
) -> ClaimVerdict:
    """Judge a claim on tidy rows.

    Parameters
    ----------
    rows : DataFrame
        One row per record, selection and metric, gains of the last quarter of training under `convergence`. A run
        without a value is a row whose value is nan; it failed, unless its `status` is NOT RUN or another reason.
    claim : Claim
    setting : callable
        Rows -> their `Setting`.
    elsewhere : callable
        Claim -> names of the cells that the paper's own tier plans (evidence.planned_cells).

    Returns
    -------
    ClaimVerdict
    """
    if rows.empty:
        return _nothing(rows, claim, rows)
    kept = rows[matches(rows, claim.requires)]
    used = selected(kept, claim)
    # An identity is of no protocol.
    where = Setting() if claim.deterministic else setting(used.dropna(subset="value"))
    about: dict[str, Any] = {"caveats": where.reasons, "setting": where.word}
    try:
        found = samples(kept, claim)
    except AmbiguousError as error:
        return ClaimVerdict("INCONCLUSIVE", str(error), **about)
    here = {sample.name for sample in found.cells} | {name.split(" (")[0] for name in found.missing}
    beside: dict[str, Any] = {"missing": tuple(found.missing), "absent": tuple(found.absent)}
    beside["unplanned"] = len(set(elsewhere(claim)) - here)
    if found.cells:
        beside["behind"] = tuple((sample.name, sample.sides) for sample in found.cells)
        return decide(found.cells, claim, kept, **about, **beside)
    if found.undefined:
        return ClaimVerdict("INCONCLUSIVE", wording.each(found.undefined, len(found.missing)), **about, **beside)
    verdict = replace(_nothing(rows, claim, used), **beside)
    begun = any(NO_START in name for name in found.missing)
    return replace(verdict, why=f"of each curve {NO_START}") if begun else verdict


def decide(found: list[Sample], claim: Claim, rows: pd.DataFrame | None = None, **beside: Any) -> ClaimVerdict:
    """Return the verdict on a claim from one sample per cell; `judge_claim` says how the samples come from records.

    Parameters
    ----------
    found : list of Sample
    claim : Claim
    rows : DataFrame
        Whose convergence counts; none unless told.
    beside : further fields of the verdict
    """
    better = [s.better for s in found if not math.isnan(s.better)]
    shared = {
        **_summary(found, claim),
        "better": float(np.mean(better)) if better and claim.kind != "same_shape" else math.nan,
        **beside,
    }
    lost = [(s.name, text) for s in found for text in s.lost]
    lacking = [wording.each(lost, len(found))] if lost else []
    if claim.aggregate == "mean":
        n = len(set().union(*(s.values.index for s in found)))
        found = [_averaged(found)]
        if not len(found[0].x):
            return ClaimVerdict("INCONCLUSIVE", "no seed has every cell of the mean", **shared)
        if short := n - len(found[0].values):
            lacking.append(f"{short} of {n} seeds lack a cell of the mean")
    if claim.deterministic:
        verdict = _by_value(found, claim, shared)
    else:
        course = None if rows is None else convergence.courses(rows)
        moves = [((), ()) if course is None else convergence.unsettled(course, claim, sample) for sample in found]
        verdict = _by_test(found, claim, moves, shared)
    return replace(verdict, why="; ".join([verdict.why, *lacking]))


def _nothing(rows: pd.DataFrame, claim: Claim, used: pd.DataFrame) -> ClaimVerdict:
    """The verdict when no cell has a sample; `used` are the rows that any side selects."""
    if claim.requires and len(rows):
        unmet = selected(rows, claim)
        if unmet["value"].notna().any() and not used["value"].notna().any():
            have = "; ".join(f"{key} {wording.values_of(unmet.dropna(subset='value'), key)}" for key in claim.requires)
            return ClaimVerdict("NOT COMPARABLE", f"needs {wording.worded(claim.requires)}; these records have {have}")
    needs = f"needs {wording.worded(claim.requires)}; " if claim.requires else ""
    reasons = set(reasons_of(used)) if len(used) else {NOT_RUN}
    why = "no records"
    if len(used) and used["value"].notna().any():
        why = "no seed has records of both sides"
    elif reasons == {REASONS[FAILED]}:
        why = "every run failed: a log and no record"
    elif NOT_RUN not in reasons:
        why = ", ".join(sorted(reasons))
    return ClaimVerdict("NOT RUN", needs + why)


def _by_value(found: list[Sample], claim: Claim, shared: dict[str, Any]) -> ClaimVerdict:
    low, high, _ = claim.region
    extremes = [(float(s.values.min()), float(s.values.max())) for s in found]
    hold = [low <= a and b <= high for a, b in extremes]
    shared |= {"hold": sum(hold), "cells": len(found)}
    n = sum(len(s.values) for s in found)
    span = f"[{min(a for a, _ in extremes):.3g}, {max(b for _, b in extremes):.3g}]"
    if all(hold):
        return ClaimVerdict("HOLDS", f"{wording.region(claim)} in {n} of {n} deterministic values, {span}", **shared)
    outside = "; ".join(s.name for s, ok in zip(found, hold, strict=True) if not ok)
    return ClaimVerdict(
        "CONTRADICTED", f"deterministic values not all with {wording.region(claim)}: {outside}", **shared
    )


def _by_test(
    found: list[Sample], claim: Claim, moves: list[tuple[Moves, Moves]], shared: dict[str, Any]
) -> ClaimVerdict:
    n = len(found)
    wanted = {"any": 1, "share": math.ceil((claim.share or 1) * n - 1e-9)}.get(claim.aggregate, n)
    inside = np.array([_p_inside(s, claim) for s in found])
    outside = np.array([_p_outside(s, claim) for s in found])
    # That `wanted` cells hold, and that so many fail that they cannot: for each how many, p, and what moves against it.
    ways = {
        "HOLDS": (wanted, inside, [against for against, _ in moves]),
        "CONTRADICTED": (n - wanted + 1, outside, [against for _, against in moves]),
    }
    if any(len(s.x) > 1 and (stats.varies(s.x) or s.floor) for s in found):
        shared["p"] = stats.printed(min(_at_least(k, p) for k, p, _ in ways.values()), _fewest(found))
    k, p, against = ways["HOLDS"]
    hold = [q * (n - k + 1) <= stats.ALPHA and not moved for q, moved in zip(p.tolist(), against, strict=True)]
    ranked = [found[i] for i in np.lexsort((-outside, inside))]
    shared |= {"hold": sum(hold), "cells": n}
    if wanted > 1:
        shared["weakest"] = wording.shown(ranked[-1], claim)
    for verdict, (k, p, against) in ways.items():
        steady = np.where([bool(moved) for moved in against], 1.0, p)
        if _at_least(k, steady) <= stats.ALPHA:
            by = [s for s, q in zip(found, steady, strict=True) if q * (n - k + 1) <= stats.ALPHA]
            shared["p"] = stats.printed(_at_least(k, p), _fewest(by))
            if verdict == "CONTRADICTED" and wanted > 1:
                shared["weakest"] = wording.shown(
                    next(s for s in reversed(ranked) if any(s is one for one in by)), claim
                )
            return ClaimVerdict(verdict, _supported(verdict, by, found, claim) + _theory(by, n - k + 1), **shared)
        if _at_least(k, p) <= stats.ALPHA:
            late = [(s, moved) for s, q, moved in zip(found, p, against, strict=True) if moved and q <= stats.ALPHA]
            return ClaimVerdict("INCONCLUSIVE", f"not converged: {wording.moves_in_words(late, n)}", **shared)
    if not any(stats.varies(s.x) or s.floor for s in found) and all(len(s.x) > 1 for s in found):
        why = f"{wording.nothing_varies(found[0])}: {wording.shown(found[0], claim)}"
        return ClaimVerdict("INCONCLUSIVE", why, **shared)
    # The claim is decided with the cell that is the last of those wanted.
    last, place = ranked[wanted - 1], "weakest" if wanted == n else "the next" if wanted > 1 else "nearest"
    why = f"{wording.region(claim)} shown in {shared['hold']} of {n}; {place} {wording.shown(last, claim)}"
    why += f"; {wording.seeds_needed(last, claim, (n - wanted + 1, wanted))}"
    return ClaimVerdict("INCONCLUSIVE", why, **shared)


def _at_least(k: int, p: np.ndarray) -> float:
    """The p-value for at least k of len(p) cells: Bonferroni's partial conjunction (Benjamini & Heller 2008).

    It holds whatever ties the cells to each other. For all of them it is the largest p, for one len(p) times the least.
    """
    return float(min(1.0, (len(p) - k + 1) * np.sort(p)[k - 1]))


def _supported(verdict: str, by: list[Sample], found: list[Sample], claim: Claim) -> str:
    """What decides: the region and its cells, or the cells against it."""
    if verdict == "CONTRADICTED":
        return f"significantly against {wording.region(claim)}: {wording.some([wording.shown(s, claim) for s in by])}"
    cells = {"any": f"any of {len(found)}", "share": f"{len(by)} of {len(found)}"}.get(claim.aggregate, len(found))
    cells = "the mean over cells" if claim.aggregate == "mean" else f"{cells} cell{'s' * (len(found) > 1)}"
    return f"{wording.region(claim)} in {cells}"


def _fewest(found: list[Sample]) -> int:
    return min(len(s.x) for s in found)


def _theory(by: list[Sample], times: int) -> str:
    """What is to be known of a verdict on values that are too few, `times` corrected, unless they are normal."""
    n = _fewest(by)
    return f"; normal theory, n = {n}" if times * 0.5**n > stats.ALPHA else ""


def _p_inside(sample: Sample, claim: Claim) -> float:
    low, high, closed = claim.region
    x = sample.x.to_numpy()
    tests = (stats.p_above(x, low, closed, sample.floor), stats.p_below(x, high, closed, sample.floor))
    return max(*tests, sample.guard)


def _p_outside(sample: Sample, claim: Claim) -> float:
    """An exact tie is not outside."""
    return stats.p_beyond(sample.x.to_numpy(), *claim.region[:2], floor=sample.floor)


def _averaged(found: list[Sample]) -> Sample:
    """Per-seed mean over the cells, on the seeds that have them all; a side is that of all cells."""
    table = pd.concat([s.values for s in found], axis=1, join="inner")
    runs: dict[Runs, list[str]] = {}
    for side in (side for s in found for side in s.sides):
        runs.setdefault(replace(side, ids=()), []).extend(side.ids)
    clusters = stats.joined(table.index, *(s.clusters for s in found if s.clusters is not None))
    return Sample(
        "mean over cells",
        table.mean(axis=1),
        floor=max(s.floor for s in found),
        clusters=clusters,
        sides=tuple(replace(side, ids=tuple(ids)) for side, ids in runs.items()),
    )


def _summary(found: list[Sample], claim: Claim) -> dict[str, Any]:
    back = math.exp if claim.kind == "ratio" else float
    counts = {"seeds": [len(s.values) for s in found], "clusters": [len(s.x) for s in found]}
    mean = _averaged(found)
    if claim.aggregate != "mean" and len(mean.values) < max(counts["seeds"]):
        mean = replace(mean, values=mean.values[:0])  # what a few seeds say of all cells is not what all of them say
    low, high = stats.paired_interval(mean.x.to_numpy(), floor=mean.floor) if len(mean.x) else (math.nan, math.nan)
    tau = claim.kind == "same_shape" and claim.at_least is not None
    least, most = (-1.0, 1.0) if tau else (-math.inf, math.inf)
    return {
        "estimate": back(mean.x.mean() if len(mean.x) else np.mean([s.x.mean() for s in found])),
        "low": max(back(low), least),
        "high": min(back(high), most),
        **{key: (min(sizes), max(sizes)) for key, sizes in counts.items()},
    }
