"""Claims, controls, reported cells and costs over tiers: what a tier plans is enough to judge what it must.

Nothing is trained: each planned run is given a number for every measure that is asked of it, and the comparison's own
matching then says which sides, which cells of a claim's grid and which reported numbers there would be.
"""

import contextlib
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml

from shared.comparison import claims, convergence, reported
from shared.comparison.evidence import matches, measures_of, name_of, planned_cells, samples
from shared.comparison.report import CELL
from shared.config import load_tier, papers, plan, read_config, repository, tiers
from shared.config.plan import config_stamp, module_of
from shared.records import store
from shared.runs import status
from shared.tables.evidence import COST, Evidence

ROOT = repository()
PAPERS = papers()
each_paper = pytest.mark.parametrize("paper", PAPERS)
each_with_the_papers_protocol = pytest.mark.parametrize(
    "paper", [paper for paper in PAPERS if "paper" in read_config(paper).tiers]
)
in_each_tier = pytest.mark.parametrize(  # but smoke, which says nothing about any paper
    ("paper", "tier"), [(paper, tier) for paper in PAPERS for tier in read_config(paper).tiers if tier != "smoke"]
)
FULL = ("gpu", "paper")  # the tiers in which every claim is to be judged
in_full_tiers = pytest.mark.parametrize(
    ("paper", "tier"), [(paper, tier) for paper in PAPERS for tier in FULL if tier in read_config(paper).tiers]
)


@cache
def runs_of(paper, tier, _stamp):
    """A row for each run that the tier plans, of its first seed."""
    runs = {}
    for run in sorted(plan(paper, tier), key=lambda run: run.spec.values().get("seed", 0)):
        runs.setdefault(run.id.rsplit("/", 1)[0], run)
    return Evidence(paper, tier, Path("nowhere"), tuple(runs.values()), {}).rows(selections=["last"])


@cache
def rows_of(paper, tier, measures, stamp):
    """Tidy rows of what the tier plans, as if all had been recorded: a row for each of its runs and each measure."""
    runs = runs_of(paper, tier, stamp)
    rows = pandas.concat([runs.assign(metric=m, selection=s) for m, s in sorted(measures)], ignore_index=True)
    # All different, so that ranks exist, and far from zero, so that ratios and scaled curves do.
    return rows.assign(value=1e6 + np.arange(len(rows), dtype=float), status="done")


@cache
def claims_of(paper):
    return {claim.id: claim for claim in claims.read_claims(ROOT / "papers" / paper / "claims.yaml")}


@cache
def _planned(paper, tier, _stamp):
    return {claim.id: cells_of(claim, paper, tier) for claim in claims_of(paper).values()}


def planned(paper, tier):
    """{claim: (names of the cells with runs on all sides, names of those without)} of a tier."""
    return _planned(paper, tier, config_stamp(paper))


def cells_of(claim, paper, tier):
    """The same of one claim."""
    rows = rows_of(paper, tier, frozenset(measures_of(claim)), config_stamp(paper))
    kept = rows[matches(rows, claim.requires)]
    # Runs of which a claim asks one metric may share it with others here, where all have all; of one seed.
    sides = {role: {k: v for k, v in getattr(claim, role).items() if k != "over"} for role in ("left", "right")}
    found = samples(kept, replace(claim, reduce=claim.reduce or "mean", **sides))
    return [sample.name for sample in found.cells], [*found.missing, *found.absent]


def says_why_not(claim, tier):
    """Whether a claim's note says that a tier does not plan it: "not in gpu: ..."."""
    return bool(re.search(rf"\bnot [\w ]*\bin [^.;:]*\b{tier}\b", " ".join(claim.note.split())))


@in_each_tier
def test_a_claim_has_its_control_wherever_it_is_judged(paper, tier):
    """A claim judged without the control that the paper left out says less than it seems to."""
    cells, alone = planned(paper, tier), []
    for claim in claims_of(paper).values():
        if claim.control and cells[claim.id][0] and not cells[claim.control][0]:
            alone.append(f"{claim.id} without {claim.control}")
    assert not alone, f"papers/{paper}, tier {tier} plans no run of the controls of: {'; '.join(alone)}"


@in_full_tiers
def test_every_claim_can_be_judged(paper, tier):
    """All sides are planned, or the claim says why not: by what it requires or, of gpu or of a control, in its note."""
    cells, silent = planned(paper, tier), []
    for claim in claims_of(paper).values():
        excused = says_why_not(claim, tier) and (tier != "paper" or claim.role != "paper")
        elsewhere = tier != "paper" and "tier" in claim.requires
        if not cells[claim.id][0] and not excused and not elsewhere:
            silent.append(claim.id)
    assert not silent, f"papers/{paper}, tier {tier} cannot judge, and no note says why: {', '.join(silent)}"


@each_with_the_papers_protocol
def test_no_cell_of_a_claim_is_missing_in_the_paper_tier(paper):
    """A cell that a selector lists and the paper's own protocol does not run would be named missing for ever.

    Sets that the tier has no run on at all stand in elsewhere, and are no cells of the paper's.
    """
    sets, lacking = {run.spec.values().get("dataset") for run in plan(paper, "paper")}, []
    for name, (found, missing) in planned(paper, "paper").items():
        missing = [cell for cell in missing if set(re.findall(r"\bdataset=(\w+)", cell)) <= sets]
        if found and missing and not says_why_not(claims_of(paper)[name], "paper"):
            lacking.append(f"{name} ({'; '.join(missing[:4])}{' ...' * (len(missing) > 4)})")
    assert not lacking, f"papers/{paper}, tier paper lacks cells of the grid of: {', '.join(lacking)}"


@each_paper
def test_what_a_claim_of_the_paper_lists_some_tier_plans(paper):
    """A cell that no plan can have is no cell of the paper's: its claims do not list it."""
    plans = [tier for tier in read_config(paper).tiers if tier != "smoke"]
    runs = {tier: runs_of(paper, tier, config_stamp(paper)) for tier in plans}
    idle = []
    for claim in claims_of(paper).values():
        planned = [cell for tier in plans for cell in planned_cells(runs[tier], claim)]
        for key, value in listed(claim):
            here = f"{name_of({key: value})},"
            if planned and claim.role == "paper" and not any(here in f"{cell}," for cell in planned):
                idle.append(f"{claim.id}: {key} {value}")
    assert not idle, f"papers/{paper}: no tier plans {'; '.join(idle)}"


def listed(claim):
    """(key, value) of what the selectors of a claim list along its grid."""
    for selector in (claim.where, *claim.sides):
        yield from (
            (key, value) for key in claim.cells if isinstance(selector.get(key), list) for value in selector[key]
        )


@each_paper
def test_a_claim_says_when_its_sides_have_converged(paper):
    """Accuracy may move by a point; of another measure only the claim can say how much is little."""
    silent = []
    for claim in claims_of(paper).values():
        measures = {metric for metric, selection in measures_of(claim) if selection != COST}
        if claim.converged:
            measures = {claim.converged["metric"]}
        excused = claim.deterministic or claim.converged is False
        if not excused and any(convergence.tolerance_of(claim, metric) is None for metric in measures):
            silent.append(f"{claim.id} ({', '.join(sorted(measures))})")
    assert not silent, f"papers/{paper}/claims.yaml: give still, or converged: {'; '.join(silent)}"


NUMBER = r"\d*\.?\d+(?:e-?\d+)?"
TRIED = re.compile(rf"\bof (?:[a-z' ]+ )?({NUMBER}(?:(?:, | and | or ){NUMBER})+)\b")  # "of .001, .003 and .01"


def with_source(node):
    """All {value:, source:} of a configuration."""
    if isinstance(node, dict) and {"value", "source"} <= node.keys():
        yield node["value"], " ".join(str(node["source"]).split())
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from with_source(child)


@each_paper
def test_what_won_a_search_is_no_end_of_what_was_tried(paper):
    """Beyond the end may lie a better one, unless the source says what bounds it."""
    ends = []
    for value, source in with_source(yaml.safe_load((ROOT / "papers" / paper / "config.yaml").read_text())):
        for tried in TRIED.findall(source):
            numbers = [float(number) for number in re.findall(NUMBER, tried)]
            if value in (min(numbers), max(numbers)) and "bounded" not in source:
                ends.append(f"{value} ({source})")
    assert not ends, f"papers/{paper}/config.yaml: try more, or say what it is bounded by: {'; '.join(set(ends))}"


@cache
def recorded_measures(paper):
    """(metric, selection) of the committed records, since a table may derive one metric from another."""
    found = set()
    for path in sorted((ROOT / "results").glob(f"*/{paper}/runs/**/seed0.json")):
        with contextlib.suppress(store.OldRecord):
            record = store.load_record(path)
            for selection, values in {**record["metrics"], COST: record["cost"]}.items():
                found |= {(name, selection) for name in values}
    return found


def produced(paper, tier):
    """What tables.py makes of a tier's runs: (table, row, column, metric, selection, seed, id)."""
    cells = reported.read_reported(ROOT / "papers" / paper / "reported.csv")
    measures = recorded_measures(paper).union(*map(measures_of, claims_of(paper).values()))
    measures |= {(cell.metric, cell.selection) for cell in cells}
    rows = rows_of(paper, tier, frozenset(measures), config_stamp(paper))
    if "task" in rows:
        rows = rows[rows["task"] != "check"]  # which measures nothing that a paper reports
    ours = module_of(paper, "tables").cells(rows)
    return cells, ours.assign(**{key: ours[key].astype(str) for key in CELL})


@each_with_the_papers_protocol
def test_every_reported_number_is_made_in_the_paper_tier(paper):
    """A number that no planned run could give is NOT RUN whatever anyone trains."""
    cells, ours = produced(paper, "paper")
    made = set(map(tuple, ours[CELL].to_numpy()))
    idle = [" ".join(cell.cell) for cell in cells if cell.cell not in made]
    assert not idle, f"papers/{paper}, tier paper makes none of {len(idle)} reported numbers: {'; '.join(idle[:20])}"


@each_with_the_papers_protocol
def test_a_reported_number_has_one_run_a_seed(paper):
    """Two runs of one seed in a cell would count as two seeds, and their method would be a mixture."""
    cells, ours = produced(paper, "paper")
    ours = ours[[tuple(key) in {cell.cell for cell in cells} for key in ours[CELL].to_numpy()]]
    ours = ours.drop_duplicates([*CELL, "id"])
    several = ours[ours.duplicated([*CELL, "seed"], keep=False)]
    shown = [" ".join(key) for key in dict.fromkeys(map(tuple, several[CELL].to_numpy()))]
    example = "; ".join(several["id"].head(2)) if len(several) else ""
    assert not shown, f"papers/{paper}, tier paper: {'; '.join(shown[:8])} have several runs of a seed, e.g. {example}"


HOURS = {"minutes": 1 / 60, "min": 1 / 60, "hour": 1, "hours": 1, "h": 1, "day": 24, "days": 24}
LOOSE = {"half an hour": (1 / 3, 0.8), "minutes": (0, 1), "hours": (0.5, 60), "days": (20, 60 * 24)}  # in hours


def said_hours(text):
    """The range of hours that a text may mean: "about 3 days" within a factor of 1.5, bare words widely; or None."""
    if found := re.search(r"\b(about|under) ([\d.,]+) (\w+)", text):
        hours = float(found[2].replace(",", "")) * HOURS[found[3]]
        return hours / 1.5, hours * (1.5 if found[1] == "about" else 1)
    return next((bounds for word, bounds in LOOSE.items() if re.search(rf"\b{word}\b", text)), None)


def row_of(tier, path):
    """The cells of a README's row on a tier."""
    found = re.search(rf"^\| `{tier}` \|(.*)\|$", path.read_text(), re.M)
    return found and [cell.strip() for cell in found[1].split("|")]


@pytest.mark.parametrize("tier", [tier for tier in tiers() if tier != "smoke"])
def test_the_length_of_a_tier_follows_from_its_runs(tier):
    """Whoever begins a tier on a rented accelerator must not find a month behind the word days.

    python -m shared.runs.status prints the sums.
    """
    hours = sum(seconds for _, seconds in status.planned(tier).values()) / 3600
    for at, text in (("config", load_tier(tier).says), ("README.md", row_of(tier, ROOT / "README.md")[-1])):
        low, high = said_hours(text)
        own = hours / 2 if "two CPU cores" in text else hours
        assert low <= own <= high, f"{at} says {text!r} of {tier}; its runs take {own:.1f} h, {own / 24:.1f} days"


@in_full_tiers
def test_a_papers_cost_follows_from_its_runs(paper, tier):
    """The same of the table of costs in a paper's README, and of the number of runs there."""
    if not (row := row_of(tier, ROOT / "papers" / paper / "README.md")):
        pytest.skip("no row on this tier")
    n, seconds = status.planned(tier)[paper]
    assert n == int(row[0].replace(",", "")), f"papers/{paper}/README.md says {row[0]} runs of {tier}, there are {n}"
    if bounds := said_hours(" ".join(row[1:])):
        assert bounds[0] <= seconds / 3600 <= bounds[1], f"{row[-1]!r} of {tier}, whose runs are {seconds / 3600:.1f} h"


@each_with_the_papers_protocol
def test_what_must_be_judged_would_be_noticed(paper):
    """The rows this file makes are of the plan: a tier without runs of a claim's sides is found out."""
    claim = next(claim for claim in claims_of(paper).values() if not claim.requires)
    nobody = replace(claim, where={**claim.where, "seed": -1})
    assert cells_of(nobody, paper, "paper")[0] == []
