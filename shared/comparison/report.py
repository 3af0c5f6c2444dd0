"""Compare one paper in one tier: records in, every verdict out. Nothing here writes."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from shared.comparison import claims, judging, reported, verdicts
from shared.comparison.evidence import matches, samples
from shared.comparison.reported import InputError
from shared.config import repository
from shared.config.plan import module_of, sources_of
from shared.runs.code import code_hash
from shared.tables.evidence import FAILED, NOT_RUN, gather

CELL = ["table", "row", "column", "metric", "selection"]


@dataclass(frozen=True)
class Comparison:
    """Hold every reported number and every claim of a paper, each with its verdict, and what they rest on.

    Attributes
    ----------
    commits : per reported number, the commits its records came from.
    assumed : per reported number that was not reproduced, {key: the reason} of what its runs assume because the paper
        does not say it.
    facts : sentences on provenance.
    """

    paper: str
    tier: str
    folder: Path
    cells: tuple
    commits: tuple
    assumed: tuple
    claims: tuple
    facts: tuple

    @property
    def contradicted(self):
        """Return the claims of the paper itself that the records contradict."""
        return [c for c, v in self.claims if v.verdict == "CONTRADICTED" and c.role == "paper"]


def compare(paper, tier, results=None, root=None):
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
    folder = (root or repository()) / "papers" / paper
    cells, asserted = reported.read_reported(folder / "reported.csv"), claims.read_claims(folder / "claims.yaml")
    evidence = gather(paper, tier, results, root)
    measures = {(c.metric, c.selection) for c in cells} | {(c.metric, c.selection) for c in asserted}
    lost = _without_value(evidence, measures)
    failed, blank = lost[lost["status"] == FAILED], lost[lost["why"] != ""]
    rows = _joined(evidence.found, failed)
    ours = _ours(paper, rows, root)
    judged = [_cell(cell, ours, rows, tier) for cell in cells]
    on_cells, commits = [verdict for verdict, _ in judged], [commits for _, commits in judged]
    on_claims = [judging.judge_claim(rows, claim, caveats) for claim in asserted]
    if len(blank):
        wanted = _ours(paper, _joined(rows, blank), root)
        reasons = dict(zip(blank["id"], blank["why"], strict=True))
        on_cells = [_because(v, _of(cell, wanted), reasons) for cell, v in zip(cells, on_cells, strict=True)]
        used = [samples(blank[matches(blank, claim.requires)], claim)[2] for claim in asserted]
        on_claims = [_because(v, rows, reasons) for v, rows in zip(on_claims, used, strict=True)]
    return Comparison(
        paper=paper,
        tier=tier,
        folder=evidence.folder,
        cells=tuple(zip(cells, on_cells, strict=True)),
        commits=tuple(commits),
        assumed=tuple(
            _assumed(_of(cell, ours), evidence, root) if verdict.verdict == "NOT REPRODUCED" else {}
            for cell, verdict in zip(cells, on_cells, strict=True)
        ),
        claims=tuple(zip(asserted, on_claims, strict=True)),
        facts=tuple(_facts(evidence, rows, cells, ours, root)),
    )


def _without_value(evidence, measures):
    """Rows without a value, for each measure, of the planned runs without a record."""
    runs = [run for run in evidence.runs if run.id not in evidence.records]
    parts = [evidence.rows(metric, runs, [selection]) for metric, selection in sorted(measures)]
    return _joined(*parts) if parts and runs else pd.DataFrame(columns=["id", "seed", "status", "why", "value"])


def _joined(*parts):
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame(columns=["id", "seed", "selection", "metric", "value", "status", "why"])
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(value=pd.to_numeric(rows["value"]))


def _because(verdict, used, reasons):
    """A verdict of NOT RUN with the reasons of the runs it would use, where these have an id."""
    said = sorted({reasons[name] for name in used["id"] if name in reasons}) if "id" in used else []
    if verdict.verdict != "NOT RUN" or not said:
        return verdict
    return replace(verdict, why=f"{verdict.why}: {'; '.join(said)}")


def caveats(rows):
    """Return what a reader must know about these rows: stand-ins and simulated data."""
    said = set()
    if "stand_in" in rows:
        texts = (text for text in rows["stand_in"].dropna().unique() if isinstance(text, str))
        said |= {f"a stand-in: {part}" for text in texts for part in text.split("; ") if part}
    if "simulated" in rows:
        simulated = rows[rows["simulated"].isin([True])]
        names = sorted(simulated["dataset"].dropna().unique()) if "dataset" in simulated else []
        if len(simulated):
            said.add(f"simulated data: {', '.join(map(str, names))}" if names else "simulated data")
    return tuple(sorted(said))


def _ours(paper, rows, root):
    """The cells of the paper's tables as its own tables.py maps them from our rows."""
    if rows.empty:
        return pd.DataFrame(columns=[*CELL, "seed", "value", "id"])
    ours = module_of(paper, "tables", root).cells(rows)
    lacking = [c for c in (*CELL, "seed", "value", "id") if c not in ours]
    if lacking:
        plural = "s" * (len(lacking) > 1)
        raise InputError(f"papers/{paper}/tables.py: cells lacks the column{plural} {', '.join(lacking)}")
    return ours.assign(**{key: ours[key].astype(str) for key in CELL})


def _cell(cell, ours, rows, tier):
    """The verdict on one reported cell, and the commits of its records."""
    mine = _of(cell, ours)
    evidence = rows[rows["id"].isin(mine["id"])]
    obstacles = [] if tier == "paper" else [f"tier {tier} is not the paper's protocol"]
    verdict = verdicts.judge_cell(mine["value"].to_numpy(dtype=float), cell, [*obstacles, *caveats(evidence)])
    commits = sorted(evidence["commit"].dropna().unique()) if "commit" in evidence and len(mine) else []
    return verdict, tuple(commits)


def _assumed(mine, evidence, root):
    """{key: the reason} of the values of a cell's runs that config.yaml calls assumed; the seed is no assumption."""
    found, ids = {}, set(mine["id"])
    for run in (run for run in evidence.runs if run.id in ids):
        for key, source in sources_of(run, evidence.tier, root).items():
            if source.startswith("assumed") and key != "seed":
                found.setdefault(key, {})[source.removeprefix("assumed").strip(" :")] = None
    return {key: "; or ".join(reasons) for key, reasons in found.items()}


def _of(cell, ours):
    """The rows of our cells that belong to one reported cell."""
    return ours[(ours[CELL] == pd.Series(dict(zip(CELL, _key(cell), strict=True)))).all(axis=1)]


def _key(cell):
    return cell.table, cell.row, cell.column, cell.metric, cell.selection


def _facts(evidence, rows, cells, ours, root):
    """Sentences on provenance: what the records are, of which commits, made on what; what is missing, and why."""
    found = list(evidence.records.values())
    if not found:
        yield "no records"
    else:
        counts = Counter(_commit(record) for record in found)
        days = sorted(record["finished"][:10] for record in found)
        made = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
        commits = ", ".join(f"{name} ({n})" for name, n in sorted(counts.items()))
        yield f"{len(found)} records, made {made}, from {commits}"
        yield _since(evidence.paper, found, root)
        yield f"run on {', '.join(sorted({str(record['environment'].get('device', 'unknown')) for record in found}))}"
    statuses = {run_id: about["status"] for run_id, about in evidence.about.items()}
    failed = sorted(run_id for run_id, status in statuses.items() if status == FAILED)
    if failed:
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        yield f"{len(failed)} failed, with a log and no record: {', '.join(failed[:5])}{more}"
    reasons = Counter(about["why"] for about in evidence.about.values() if about["status"] == NOT_RUN)
    for why, n in sorted(reasons.items()):
        if why or evidence.records:
            yield f"{n} not run: {why or 'nobody has trained them yet'}"
    yield from caveats(rows)
    reported_tables = {cell.table for cell in cells}
    theirs = ours[ours.table.isin(reported_tables)]
    others = set(map(tuple, theirs[CELL].to_numpy())) - {_key(cell) for cell in cells}
    if others:
        yield f"{len(others)} further cells of ours in these tables have no reported number"


def _since(paper, found, root):
    """Whether the code that training runs is still the one the records came from."""
    try:
        now = code_hash(f"papers.{paper}.train", root)
    except ModuleNotFoundError:
        return f"papers.{paper}.train is missing, so whether the code has changed since is unknown"
    stale = sum(record["code"].get("hash") != now for record in found)
    return f"the code has changed since for {stale} of {len(found)}" if stale else "the code is unchanged since"


def _commit(record):
    code = record["code"]
    local = " with local changes" if code.get("dirty") else ""
    return f"commit {str(code.get('commit') or 'unknown')[:7]}{local}"
