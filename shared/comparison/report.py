"""One paper in one tier: records in, every verdict out. Nothing here writes."""

import importlib
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from shared import records
from shared.comparison import claims, judging, reported, verdicts
from shared.comparison.evidence import matches, samples
from shared.comparison.reported import InputError
from shared.records import record_path

ROOT = Path(__file__).parents[2]
PAPERS = ROOT / "papers"
CELL = ["table", "row", "column", "metric", "selection"]


@dataclass(frozen=True)
class Comparison:
    """Every reported number and every claim of a paper, each with its verdict, and what they rest on.

    `commits`: per reported number, the commits its records came from. `facts`: sentences on provenance.
    """

    paper: str
    tier: str
    folder: Path
    cells: tuple
    commits: tuple
    claims: tuple
    facts: tuple

    @property
    def contradicted(self):
        """Claims of the paper itself that the records contradict."""
        return [c for c, v in self.claims if v.verdict == "CONTRADICTED" and c.role == "paper"]


def compare(paper, tier, results, papers=PAPERS):
    """Hold the records of one paper in one tier against its reported numbers and claims.

    Parameters
    ----------
    paper, tier : str
    results : Path
        The folder that holds one folder per tier.
    papers : Path
        The importable package with one folder per paper.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        When the paper's csv, yaml or tables.py is missing or malformed.
    """
    folder = Path(results) / tier / paper
    cells = reported.read(papers / paper / "reported.csv")
    asserted = claims.read(papers / paper / "claims.yaml")
    found = records.read(folder / "runs") if (folder / "runs").is_dir() else []
    failed = failures(folder / "runs", paper)
    measures = {(c.metric, c.selection) for c in cells} | {(c.metric, c.selection) for c in asserted}
    rows = tidy(found, failed, measures, tier)
    ours = _ours(paper, rows, papers)
    judged = [_cell(cell, ours, rows, tier) for cell in cells]
    on_cells, commits = [verdict for verdict, _ in judged], [commits for _, commits in judged]
    on_claims = [judging.judge(rows, claim, caveats) for claim in asserted]
    reasons = not_made(folder / "runs")
    if reasons:
        blank = _blank(paper, tier, reasons, measures, papers)
        wanted = _ours(paper, pd.concat([rows, blank], ignore_index=True), papers)
        on_cells = [_because(v, _of(cell, wanted), reasons) for cell, v in zip(cells, on_cells, strict=True)]
        used = [samples(blank[matches(blank, claim.requires)], claim)[2] for claim in asserted]
        on_claims = [_because(v, rows, reasons) for v, rows in zip(on_claims, used, strict=True)]
    return Comparison(
        paper=paper,
        tier=tier,
        folder=folder,
        cells=tuple(zip(cells, on_cells, strict=True)),
        commits=tuple(commits),
        claims=tuple(zip(asserted, on_claims, strict=True)),
        facts=tuple(_facts(paper, found, failed, reasons, rows, cells, ours)),
    )


def tidy(found, failed, measures, tier):
    """`records.tidy` with three additions: the tier, the costs (selection `cost`), and failed runs as nan."""
    if not found and not failed:
        return pd.DataFrame(columns=["id", "seed", "selection", "metric", "value"])
    rows = records.tidy(found) if found else pd.DataFrame()
    extra = []
    for record in found:
        spec = rows[rows["id"] == record["id"]].iloc[:1].to_dict("records")
        costs = {k: v for k, v in record.get("cost", {}).items() if isinstance(v, int | float)}
        extra += [{**s, "selection": "cost", "metric": k, "value": v} for s in spec for k, v in costs.items()]
    for name, spec in failed.items():
        extra += [{**spec, "id": name, "metric": m, "selection": s, "value": None} for m, s in sorted(measures)]
    rows = pd.concat([rows, pd.DataFrame(extra)], ignore_index=True) if extra else rows
    return rows.assign(tier=tier, value=pd.to_numeric(rows["value"]))


def failures(runs, paper):
    """Planned runs that left a log and no record: id -> spec.

    Where there is no index of the plan, every log counts. The spec is the JSON object on the log's first
    line, where it has one; else what the id says by convention, `paper/dataset/method/bag64/seed0`.
    """
    planned = records.read_index(runs)
    logs = sorted(log for log in runs.rglob("*.log") if not log.with_suffix(".json").exists())
    named = {f"{paper}/{log.relative_to(runs).with_suffix('').as_posix()}": log for log in logs}
    return {name: _spec(log, runs, paper) for name, log in named.items() if planned is None or name in planned}


def not_made(runs):
    """Planned runs that have no record for a reason the index knows: id -> reason."""
    index = {name: row for name, row in (records.read_index(runs) or {}).items() if row["why"]}
    since = {name for name, row in index.items() if row["status"] == "missing" and record_path(runs, name).exists()}
    return {name: row["why"] for name, row in index.items() if name not in since}


def _blank(paper, tier, names, measures, papers):
    """Rows without values of planned runs, so that cells and claims can tell which of them they would use."""
    planned = importlib.import_module(f"{papers.name}.{paper}.plan").plan(tier)
    specs = {run.id: run.spec for run in planned if run.id in names}
    plain = {name: {k: v for k, v in spec.items() if isinstance(v, str | int | float)} for name, spec in specs.items()}
    return tidy([], plain, measures, tier)


def _because(verdict, used, reasons):
    """A verdict of NOT RUN with the reasons of the runs it would use, where these have an id."""
    said = sorted({reasons[name] for name in used["id"] if name in reasons}) if "id" in used else []
    if verdict.verdict != "NOT RUN" or not said:
        return verdict
    return replace(verdict, why=f"{verdict.why}: {'; '.join(said)}")


def _spec(log, runs, paper):
    with log.open(encoding="utf-8", errors="replace") as lines:
        first = lines.readline()
    try:
        spec = json.loads(first)
        spec = spec.get("spec", spec)
        return {k: v for k, v in spec.items() if isinstance(v, str | int | float)}
    except (ValueError, AttributeError):
        pass
    parts = log.relative_to(runs).with_suffix("").parts
    spec = {"paper": paper, **dict(zip(("dataset", "method"), parts, strict=False))}
    for part in parts[2:]:
        if match := re.fullmatch(r"([a-z_]+?)(-?\d+(?:\.\d+)?)", part):
            key = {"bag": "bag_size"}.get(match[1], match[1])
            spec[key] = float(match[2]) if "." in match[2] else int(match[2])
    return spec


def caveats(rows):
    """What a reader must know about these rows: stand-ins, simulated data, declared deviations."""
    said = set()
    for key, words in (("stand_in", "a stand-in: {}"), ("deviation", "deviates from the paper: {}")):
        if key in rows:
            texts = (text for text in rows[key].dropna().unique() if isinstance(text, str))
            said |= {words.format(part) for text in texts for part in text.split("; ") if part}
    if "simulated" in rows:
        simulated = rows[rows["simulated"].isin([True])]
        names = sorted(simulated["dataset"].dropna().unique()) if "dataset" in simulated else []
        if len(simulated):
            said.add(f"simulated data: {', '.join(map(str, names))}" if names else "simulated data")
    return tuple(sorted(said))


def _ours(paper, rows, papers):
    """The cells of the paper's tables as its own tables.py maps them from our rows."""
    columns = [*CELL, "seed", "value", "id"]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    name = f"{papers.name}.{paper}.tables"
    if not (papers / paper / "tables.py").is_file():
        raise InputError(f"{papers / paper / 'tables.py'}: there is no such file; it must define cells(rows)")
    ours = importlib.import_module(name).cells(rows)
    lacking = [c for c in (*CELL, "seed", "value") if c not in ours]
    if lacking:
        raise InputError(f"{name}.cells: lacks the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}")
    if "id" not in ours and ours.index.isin(rows.index).all():
        # Cells that are rows of ours, renamed: the index still says which.
        origin = rows.loc[ours.index]
        if np.array_equal(origin["value"], ours["value"].astype(float), equal_nan=True):
            ours = ours.assign(id=origin["id"].to_numpy())
    return ours.assign(**{key: ours[key].astype(str) for key in CELL})


def _cell(cell, ours, rows, tier):
    """The verdict on one reported cell, and the commits of its records."""
    mine = _of(cell, ours)
    # Without ids in the cells every caveat of the paper might apply: too many beats a false REPRODUCED.
    evidence = rows[rows["id"].isin(mine["id"])] if "id" in mine else rows
    obstacles = [] if tier == "paper" else [f"tier {tier} is not the paper's protocol"]
    verdict = verdicts.judge(mine["value"].to_numpy(dtype=float), cell, [*obstacles, *caveats(evidence)])
    commits = sorted(evidence["commit"].dropna().unique()) if "commit" in evidence and len(mine) else []
    return verdict, tuple(commits)


def _of(cell, ours):
    """The rows of our cells that belong to one reported cell."""
    return ours[(ours[CELL] == pd.Series(dict(zip(CELL, _key(cell), strict=True)))).all(axis=1)]


def _key(cell):
    return cell.table, cell.row, cell.column, cell.metric, cell.selection


def _facts(paper, found, failed, reasons, rows, cells, ours):
    if not found:
        yield "no records"
    else:
        counts = Counter(_commit(record) for record in found)
        yield "records from " + ", ".join(f"{name} ({n})" for name, n in sorted(counts.items()))
        yield _since(paper, found)
        devices = sorted({str(record.get("environment", {}).get("device", "unknown")) for record in found})
        yield f"run on {', '.join(devices)}"
    if failed:
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        yield f"{len(failed)} failed, with a log and no record: {', '.join(sorted(failed)[:5])}{more}"
    for why, n in sorted(Counter(reasons.values()).items()):
        yield f"{n} not run: {why}"
    yield from caveats(rows)
    if len(ours) and "id" not in ours:
        yield "tables.py gives no id with its cells, so each caveat is held against every cell"
    others = set(map(tuple, ours[CELL].to_numpy())) - {_key(cell) for cell in cells}
    if others:
        yield f"{len(others)} further cells of ours have no reported number"


def _since(paper, found):
    """Whether the code that training runs is still the one the records came from."""
    try:
        now = records.code_hash(f"papers.{paper}.train")
    except ModuleNotFoundError:
        return f"papers.{paper}.train is missing, so whether the code has changed since is unknown"
    stale = sum(record.get("code", {}).get("hash") != now for record in found)
    return f"the code has changed since for {stale} of {len(found)}" if stale else "the code is unchanged since"


def _commit(record):
    code = record.get("code", {})
    local = " with local changes" if code.get("dirty") else ""
    return f"commit {str(code.get('commit') or 'unknown')[:7]}{local}"
