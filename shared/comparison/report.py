"""Compare one paper in one tier: records in, every verdict out. Nothing here writes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from shared.comparison import claims, convergence, judging, reported, stats, verdicts
from shared.comparison.claims import Claim
from shared.comparison.evidence import planned_cells
from shared.comparison.judging import ClaimVerdict
from shared.comparison.reported import InputError, Reported
from shared.comparison.selecting import matches, measures_of, selected
from shared.comparison.setting import setting_of
from shared.comparison.verdicts import Verdict
from shared.config import plan, repository
from shared.config.plan import module_of, read_config, sources_of
from shared.runs.code import code_hash
from shared.runs.data import mixed_data
from shared.runs.provenance import origin
from shared.tables.evidence import CONVERGENCE, DONE, FAILED, NOT_RECORDED, NOT_RUN, Evidence, gather
from shared.tables.numbers import moved

CELL = ["table", "row", "column", "metric", "selection"]
SETTING = ("stand_in", "differs", "simulated", "dataset")  # columns of rows that setting_of reads
Measures = Iterable[tuple[str, str]]  # pairs of metric and selection
Elsewhere = Callable[[Claim], Iterable[str]]  # names of the cells of its grid that the paper plans
NOBODY_KNOWS = "no record follows a measure of the test set, so that nobody knows whether it had converged"


@dataclass(frozen=True)
class Behind:
    """Hold what lies behind the verdict on one reported number.

    Attributes
    ----------
    ids : the runs whose values it rests on.
    reasons : why it was not judged, in separate sentences; empty where it was.
    commits : those its records came from.
    assumed : where it was not reproduced, {key: the reason} of what its runs assume because the paper does not say it.
    """

    ids: tuple[str, ...]
    reasons: tuple[str, ...]
    commits: tuple[str, ...]
    assumed: dict[str, str]


@dataclass(frozen=True)
class Comparison:
    """Hold every reported number and every claim of a paper, each with its verdict, and what they rest on.

    Attributes
    ----------
    cells, claims : pairs of what the paper says and the verdict on it.
    behind : per reported number, its `Behind`.
    kept : per claim, whether it is decided and Benjamini-Hochberg at 5 % over all tested claims keeps it; None where it
        was not tested.
    facts : sentences on provenance and on convergence.
    """

    paper: str
    tier: str
    folder: Path
    cells: tuple[tuple[Reported, Verdict], ...]
    behind: tuple[Behind, ...]
    claims: tuple[tuple[Claim, ClaimVerdict], ...]
    kept: tuple[bool | None, ...]
    facts: tuple[str, ...]

    @property
    def contradicted(self) -> list[Claim]:
        """Return the claims of the paper itself that records comparable with the paper's contradict."""
        return [c for c, v in self.claims if v.verdict == "CONTRADICTED" and v.comparable and c.role == "paper"]

    @cached_property
    def controls(self) -> dict[str, ClaimVerdict]:
        """Return {claim: the verdict on its control}, of those that have one."""
        found = {claim.id: verdict for claim, verdict in self.claims}
        return {claim.id: found[claim.control] for claim, _ in self.claims if claim.control}


class Rows:
    """The tidy rows of a tier, by what they measure.

    A planned run without a record, and one whose record lacks what is asked for, has a row without a value.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._places = evidence.found.groupby(["metric", "selection"], sort=False).indices
        about = list(evidence.about.values())
        runs = pd.DataFrame(about, columns=None if about else ["id", "status"]).assign(value=float("nan"))
        recorded = runs["status"] == DONE
        self._unrun, self._recorded = runs[~recorded], runs[recorded].assign(status=NOT_RECORDED, why=NOT_RECORDED)
        self.course = evidence.found[evidence.found["selection"] == CONVERGENCE]  # whole: claims select among it

    def of(self, measures: Measures) -> pd.DataFrame:
        """Return the rows of pairs of metric and selection, and what those runs still gained."""
        places = [self._places[pair] for pair in sorted(measures) if pair in self._places]
        parts = [self.evidence.found.iloc[np.concatenate(places)]] if places else []
        parts += self._empty(measures)
        parts += [self.course] if parts and len(self.course) else []
        return pd.concat(parts, ignore_index=True) if parts else self.evidence.found[:0]

    def _empty(self, measures: Measures) -> list[pd.DataFrame]:
        """The rows without a value, of runs without a record and of records that lack a measure."""
        parts = []
        for metric, selection in sorted(measures):
            known = self.evidence.found["id"].iloc[self._places.get((metric, selection), [])]
            lacking = self._recorded[~self._recorded["id"].isin(known)]
            parts += [part.assign(metric=metric, selection=selection) for part in (self._unrun, lacking) if len(part)]
        return parts

    def mapped(self, measures: Measures, root: Path | None = None) -> pd.DataFrame:
        """Return all rows, and those of `measures` without a value, as the paper's tables.py maps them to its cells."""
        found = self.evidence.found
        parts = [part for part in (found[found["selection"] != CONVERGENCE], *self._empty(measures)) if len(part)]
        if not parts:
            return pd.DataFrame(columns=[*CELL, "seed", "value", "id"])
        paper = self.evidence.paper
        ours = module_of(paper, "tables", root).cells(pd.concat(parts, ignore_index=True))
        lacking = [c for c in (*CELL, "seed", "value", "id") if c not in ours]
        if lacking:
            plural = "s" * (len(lacking) > 1)
            raise InputError(f"papers/{paper}/tables.py: cells lacks the column{plural} {', '.join(lacking)}")
        value = pd.to_numeric(ours["value"]).where(ours["id"].isin(self.evidence.records))
        return ours.assign(value=value, **{key: ours[key].astype(str) for key in CELL})


def compare(paper: str, tier: str, results: Path | None = None, root: Path | None = None) -> Comparison:
    """Hold the records of one paper in one tier against its reported numbers and claims.

    Parameters
    ----------
    paper, tier : str
    results : Path
        The folder that holds one folder per tier; the repository's unless told.
    root : Path
        The repository that holds the papers; this one unless told.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        When the paper's csv, yaml or tables.py is missing or malformed.
    """
    cells, asserted = told(paper, root)
    evidence = gather(paper, tier, results, root)
    rows = Rows(evidence)
    ours = rows.mapped({(cell.metric, cell.selection) for cell in cells}, root)
    own = dict(list(ours[[*CELL, "id", "value"]].groupby(CELL, sort=False)))  # of all columns it would take long
    judged = [_cell(cell, own.get(cell.cell, ours[:0]), rows, root) for cell in cells]
    elsewhere = _planned_in_paper(paper, tier, root)
    on_claims = _supposing(asserted, [_claim(claim, rows, elsewhere) for claim in asserted])
    return Comparison(
        paper=paper,
        tier=tier,
        folder=evidence.folder,
        cells=tuple((cell, verdict) for cell, (verdict, _) in zip(cells, judged, strict=True)),
        behind=tuple(behind for _, behind in judged),
        claims=tuple(zip(asserted, on_claims, strict=True)),
        kept=_kept(on_claims),
        facts=tuple(_facts(rows, cells, ours, root)),
    )


def told(paper: str, root: Path | None = None) -> tuple[list[Reported], list[Claim]]:
    """Return what a paper says: its reported numbers and its claims."""
    folder = (root or repository()) / "papers" / paper
    return reported.read_reported(folder / "reported.csv"), claims.read_claims(folder / "claims.yaml")


def _cell(cell: Reported, mine: pd.DataFrame, rows: Rows, root: Path | None) -> tuple[Verdict, Behind]:
    """The verdict on one reported number, from our rows of its cell, and its `Behind`."""
    evidence = rows.evidence
    about = pd.DataFrame([evidence.about[run_id] for run_id in mine["id"]], columns=["id", "status", "why", *SETTING])
    mine = mine[["id", "value"]].reset_index(drop=True).join(about.drop(columns="id"))
    lacks = mine["value"].isna() & (mine["status"] == DONE)
    n = len(set(mine["id"][lacks]) - set(mine["id"][~lacks]))
    lacking = (f"{NOT_RECORDED} in {verdicts.number_of(n, 'record')}",) * bool(n)
    mine = mine[~lacks]
    tried = mine[mine["status"] != NOT_RUN]
    setting = setting_of(mine)
    course = rows.course[rows.course["id"].isin(tried["id"])]
    verdict = verdicts.judge_cell(
        tried["value"].to_numpy(dtype=float),
        cell,
        setting.reasons,
        [evidence.records.get(run_id, {}).get("cluster", "") for run_id in tried["id"]],
        convergence.moving(course, cell.metric, cell.margin),
    )
    if shared := _differing([evidence.about[run_id] for run_id in tried["id"][tried["value"].notna()]]):
        why = "; ".join([*setting.reasons, f"several records share a seed and differ in {shared}"])
        verdict = Verdict("NOT COMPARABLE" if setting.reasons else "INCONCLUSIVE", why)
    reasons = {"NOT COMPARABLE": setting.reasons, "FAILED": (verdict.why,)}.get(verdict.verdict, ())
    if verdict.verdict == "NOT RUN":
        unplanned = f"not in the plan of the tier {evidence.tier}"
        said = sorted({why for why in mine["why"] if why})
        reasons = (*said, *lacking) or ("not trained yet" if len(mine) else unplanned,)
    verdict = replace(verdict, why="; ".join(reasons if verdict.verdict == "NOT RUN" else [verdict.why, *lacking]))
    ids = tuple(run_id for run_id in tried["id"] if run_id in evidence.records)
    commits = {evidence.records[run_id]["code"]["commit"] for run_id in ids} - {None}
    assumed = _assumed(ids, evidence, root) if verdict.verdict in ("NOT REPRODUCED", "INCONSISTENT") else {}
    return verdict, Behind(ids, reasons, tuple(sorted(commits)), assumed)


def _differing(runs: list[dict]) -> str:
    """What the runs of one reported number differ in, where some share a seed; nothing where each has its own."""
    by_seed: dict[object, list[dict]] = {}
    for about in runs:
        by_seed.setdefault(about.get("seed"), []).append(about)
    first, *rest = max(by_seed.values(), key=len, default=[{}])
    known = dict.fromkeys(key for one in (first, *rest) for key in one if key != "id")
    keys = [key for key in known if any(one.get(key) != first.get(key) for one in rest)]
    return (", ".join(keys) or "nothing") if rest else ""


def _claim(claim: Claim, rows: Rows, elsewhere: Elsewhere) -> ClaimVerdict:
    """The verdict on one claim; of one that was not run, with the reasons that the index knows."""
    mine = rows.of(measures_of(claim))
    verdict = judging.judge_claim(mine, claim, setting_of, elsewhere)
    if verdict.verdict != "NOT RUN" or mine.empty:
        return verdict
    said = sorted({why for why in selected(mine[matches(mine, claim.requires)], claim)["why"] if why})
    return replace(verdict, why=f"{verdict.why}: {'; '.join(said)}") if said else verdict


def _supposing(asserted: list[Claim], found: list[ClaimVerdict]) -> list[ClaimVerdict]:
    """The verdicts; what a claim supposes and does not hold here leaves nothing to be judged."""
    known = {claim.id: verdict for claim, verdict in zip(asserted, found, strict=True)}
    judged = []
    for claim, verdict in zip(asserted, found, strict=True):
        premise = known[claim.premise] if claim.premise else None
        if premise and premise.verdict != "HOLDS" and verdict.verdict in judging.DECIDED:
            kind = "NOT COMPARABLE" if premise.verdict == "CONTRADICTED" else "INCONCLUSIVE"
            why = f"supposes {claim.premise}, which is {premise.word}"
            verdict = replace(verdict, verdict=kind, p=math.nan, why=why)
        judged.append(verdict)
    return judged


def _planned_in_paper(paper: str, tier: str, root: Path | None) -> Elsewhere:
    """A callable: claim -> names of the cells of its grid that the paper's own protocol plans; none in that tier."""
    if tier == "paper" or "paper" not in read_config(paper, root).tiers:
        return lambda claim: ()
    firsts = {run.id.rsplit("/", 1)[0]: run for run in reversed(plan(paper, "paper", root))}
    planned = Evidence(paper, "paper", Path(), tuple(reversed(firsts.values())), {})
    runs = pd.DataFrame(list(planned.about.values()))
    return lambda claim: planned_cells(runs, claim)


def _kept(found: list[ClaimVerdict]) -> tuple[bool | None, ...]:
    """Which verdicts on claims stand after Benjamini-Hochberg. What is undecided counts as a test, with p = 1."""
    p = [v.p if v.verdict in judging.DECIDED or math.isnan(v.p) else 1.0 for v in found]
    kept = stats.benjamini_hochberg(p)
    return tuple(None if math.isnan(v.p) else bool(keep) for v, keep in zip(found, kept, strict=True))


def _assumed(ids: Collection[str], evidence: Evidence, root: Path | None) -> dict[str, str]:
    """{key: the reason} of the values of a cell's runs that config.yaml calls assumed; the seed is no assumption."""
    found: dict[str, dict[str, None]] = {}
    for run in (run for run in evidence.runs if run.id in set(ids)):
        for key, source in sources_of(run, evidence.tier, root).items():
            if source.startswith("assumed") and key != "seed":
                found.setdefault(key, {})[source.removeprefix("assumed").strip(" :")] = None
    return {key: "; or ".join(reasons) for key, reasons in found.items()}


def _facts(rows: Rows, cells: list[Reported], ours: pd.DataFrame, root: Path | None) -> Iterator[str]:
    """Sentences on provenance: what the records are, of which commits, made on what; what is missing, and why."""
    evidence = rows.evidence
    found = list(evidence.records.values())
    if not found:
        yield "no records"
    else:
        counts = Counter(origin(record["code"]) for record in found)
        days = sorted(record["finished"][:10] for record in found)
        made = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
        commits = ", ".join(f"{name} ({n})" for name, n in sorted(counts.items()))
        yield f"{len(found)} records, made {made}, from {commits}"
        yield _since(evidence.paper, found, root)
        yield from mixed_data(found)
        yield f"run on {', '.join(sorted({str(record['environment'].get('device', 'unknown')) for record in found}))}"
        yield moved(evidence) or NOBODY_KNOWS
    statuses = {run_id: about["status"] for run_id, about in evidence.about.items()}
    groups = {"failed, with a log and no record": [i for i, status in statuses.items() if status == FAILED]}
    for run_id, says in evidence.refused.items():
        groups.setdefault(f"left out, {says}", []).append(run_id)
    for what, ids in groups.items():
        if ids:
            more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
            yield f"{len(ids)} {what}: {', '.join(sorted(ids)[:5])}{more}"
    idle = [run_id for run_id, status in statuses.items() if status == NOT_RUN and run_id not in evidence.refused]
    reasons = Counter(evidence.about[run_id]["why"] for run_id in idle)
    for why, n in sorted(reasons.items()):
        if why or evidence.records:
            yield f"{n} not run: {why or 'nobody has trained them yet'}"
    reported_tables = {cell.table for cell in cells}
    theirs = ours[ours["table"].isin(reported_tables) & ours["value"].notna()]
    others = set(map(tuple, theirs[CELL].to_numpy())) - {cell.cell for cell in cells}
    if others:
        yield f"{len(others)} further cells of ours in these tables have no reported number"


def _since(paper: str, found: list[dict], root: Path | None) -> str:
    """Whether the code that training runs is still the one the records came from."""
    try:
        now = code_hash(f"papers.{paper}.train", root)
    except ModuleNotFoundError:
        return f"papers.{paper}.train is missing, so whether the code has changed since is unknown"
    stale = sum(record["code"].get("hash") != now for record in found)
    if stale:
        return f"the code has changed since for {stale} of {len(found)}"
    local = sum(record["code"].get("dirty") is not False for record in found)
    beside = f"; {local} of {len(found)} come from code that no commit is known to hold" if local else ""
    return f"the code is unchanged since{beside}"
