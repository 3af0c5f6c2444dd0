"""Every paper, whichever there are: its four places, its files, its configuration, its plan and its claims."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import yaml

from shared.comparison import claims, reported
from shared.comparison.evidence import RESERVED, matches
from shared.records.config import load_tier, papers_of, read_config
from shared.records.sweep import plan

ROOT = Path(__file__).parents[2]
FILES = (
    "__init__.py",
    "README.md",
    "config.yaml",
    "reported.csv",
    "claims.yaml",
    "plan.py",
    "train.py",
    "tables.py",
    "figures.py",
)
COMMON_RULES = {"common", "data", "papers", "report"}  # rule files that belong to no paper
INCLUDE = re.compile(r'^include: "workflows/(\w+)\.smk"', re.MULTILINE)


def stages(root):
    return yaml.safe_load((root / "dvc.yaml").read_text())["stages"]


def papers(root):
    """Every paper that at least one of the four places knows of."""
    return sorted(
        {path.parent.name for path in (root / "papers").glob("*/__init__.py")}
        | {path.stem for path in (root / "workflows").glob("*.smk")} - COMMON_RULES
        | set(INCLUDE.findall((root / "Snakefile").read_text())) - COMMON_RULES
        | set(stages(root))
    )


def forgotten(root, paper):
    """What adding a paper takes and this one lacks, one sentence each."""
    folder = root / "papers" / paper
    without = [name for name in FILES if not (folder / name).is_file()]
    places = {
        f"papers/{paper}/ lacks {', '.join(without)}": not without,
        f"workflows/{paper}.smk does not exist": (root / "workflows" / f"{paper}.smk").is_file(),
        f'Snakefile lacks the line include: "workflows/{paper}.smk"': paper
        in INCLUDE.findall((root / "Snakefile").read_text()),
        f"dvc.yaml lacks the stage {paper}": paper in stages(root),
    }
    return [sentence for sentence, there in places.items() if not there]


PAPERS = papers(ROOT)
TIERS = sorted(path.stem for path in (ROOT / "config").glob("*.yaml") if path.stem != "schema")
each_paper = pytest.mark.parametrize("paper", PAPERS)


def tiers_of(paper):
    """The tiers that a paper is in."""
    return [tier for tier in TIERS if paper in papers_of(load_tier(tier))]


@pytest.fixture
def house(tmp_path):
    """A repository with two whole papers: one that is there and a sixth."""
    (tmp_path / "workflows").mkdir()
    for name in COMMON_RULES:
        (tmp_path / "workflows" / f"{name}.smk").touch()
    for paper in ("first", "sixth"):
        (tmp_path / "papers" / paper).mkdir(parents=True)
        for name in FILES:
            (tmp_path / "papers" / paper / name).touch()
        (tmp_path / "workflows" / f"{paper}.smk").touch()
    names = ["common", "data", "first", "sixth", "report"]
    (tmp_path / "Snakefile").write_text("".join(f'include: "workflows/{name}.smk"\n' for name in names))
    (tmp_path / "dvc.yaml").write_text("stages:\n  first: {cmd: run}\n  sixth: {cmd: run}\n")
    return tmp_path


def cut(path, text):
    path.write_text(path.read_text().replace(text, ""))


@pytest.mark.parametrize(
    ("forget", "said"),
    [
        (lambda root: shutil.rmtree(root / "papers" / "sixth"), "papers/sixth/ lacks __init__.py, README.md"),
        (lambda root: (root / "papers/sixth/claims.yaml").unlink(), "papers/sixth/ lacks claims.yaml"),
        (lambda root: (root / "workflows/sixth.smk").unlink(), "workflows/sixth.smk does not exist"),
        (lambda root: cut(root / "Snakefile", 'include: "workflows/sixth.smk"\n'), "Snakefile lacks the line include"),
        (lambda root: cut(root / "dvc.yaml", "  sixth: {cmd: run}\n"), "dvc.yaml lacks the stage sixth"),
    ],
)
def test_the_check_names_the_place_that_was_forgotten(house, forget, said):
    assert papers(house) == ["first", "sixth"]
    assert forgotten(house, "sixth") == []
    forget(house)
    assert papers(house) == ["first", "sixth"]
    (sentence,) = forgotten(house, "sixth")
    assert sentence.startswith(said)
    assert forgotten(house, "first") == []


@each_paper
def test_paper_is_in_all_four_places(paper):
    """A paper that misses one is not trained, not shown, or not reached by dvc, and nobody is told."""
    missing = forgotten(ROOT, paper)
    assert not missing, "; ".join(missing)


def test_there_are_papers_and_tiers():
    assert "rot" in PAPERS
    assert {"smoke", "quick", "gpu", "paper"} <= set(TIERS)


@each_paper
def test_every_value_has_a_source(paper):
    """A number without a place in the paper, or a reason, cannot be checked against it."""
    config = read_config(paper)
    sections = [("protocol", config["protocol"])]
    for tier, content in config["tiers"].items():
        sections.append((f"{tier}.settings", content.get("settings") or {}))
        sections += [(f"{tier}, {one['name']}", one.get("set") or {}) for one in content["experiments"]]
    bare = [
        f"{where}: {key}"
        for where, section in sections
        for key, entry in section.items()
        if not (isinstance(entry, dict) and "value" in entry and str(entry.get("source", "")).strip())
    ]
    assert not bare, f"papers/{paper}/config.yaml, no value or no source: {', '.join(bare)}"


@each_paper
def test_paper_serves_every_tier(paper):
    """`snakemake all --config tier=NAME` must work for each tier that it offers."""
    assert sorted(read_config(paper)["tiers"]) == tiers_of(paper)


@pytest.mark.parametrize(("paper", "tier"), [(paper, tier) for paper in PAPERS for tier in tiers_of(paper)])
def test_plan(paper, tier):
    """Ids are file paths and rows: unique, safe, the paper's own; a tier without runs would make empty tables."""
    assert load_tier(tier).tier == tier
    runs = plan(paper, tier)
    ids = [run.id for run in runs]
    assert ids and len(set(ids)) == len(ids)
    assert [i for i in ids if not re.fullmatch(rf"{paper}(/[A-Za-z0-9][\w.=+-]*)+", i)] == []
    # The same letters in another case would be one file on some disks.
    assert len({i.lower() for i in ids}) == len(ids)
    for run in runs:
        assert run.spec["paper"] == paper and run.seconds > 0
        assert re.fullmatch(r"[0-9a-f]{16}", run.spec_hash)
    assert [run.id for run in plan(paper, tier)] == ids


def planned(paper):
    """One row a run of any tier, its columns the spec keys and the tier."""
    return pandas.DataFrame([{**run.spec, "tier": tier} for tier in tiers_of(paper) for run in plan(paper, tier)])


@each_paper
def test_claims_speak_of_spec_keys(paper):
    """A misspelt key selects nothing and its claim would say NOT RUN for ever."""
    known = set(planned(paper).columns)
    unknown = []
    for claim in claims.read(ROOT / "papers" / paper / "claims.yaml"):
        selectors = [getattr(claim, name) for name in claims.SELECTORS]
        selectors += [selector["minus"] for selector in selectors if "minus" in selector]
        keys = {key for selector in selectors for key in selector if key not in RESERVED}
        keys |= {*claim.cells, *([claim.along] if claim.along else [])}
        unknown += [f"{claim.id}: {key}" for key in sorted(keys - known)]
    assert not unknown, f"papers/{paper}/claims.yaml, keys no spec has: {', '.join(unknown)}"


@each_paper
def test_every_claim_can_be_decided_in_some_tier(paper):
    """A side that no planned run of any tier meets is a claim nobody can ever judge, or a misspelt value."""
    rows, idle = planned(paper), []
    for claim in claims.read(ROOT / "papers" / paper / "claims.yaml"):
        sides = [{**claim.where, **side} for side in claim.sides]
        sides += [{**side, **side["minus"]} for side in sides if "minus" in side]
        by_tier = [rows[rows.tier == tier] for tier in TIERS]
        requires = claim.requires
        if not any(all((matches(own, side) & matches(own, requires)).any() for side in sides) for own in by_tier):
            idle.append(claim.id)
    assert not idle, f"papers/{paper}/claims.yaml, no tier plans the runs of: {', '.join(idle)}"


@each_paper
def test_reported_numbers_are_read(paper):
    """The comparison stands on this file; each number says where in the paper it stands."""
    assert all(number.source for number in reported.read(ROOT / "papers" / paper / "reported.csv"))


@each_paper
def test_training_runs_without_snakemake(paper):
    """What the paper's README tells a reader to type first."""
    command = [sys.executable, "-m", f"papers.{paper}.train", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for option in ("--tier", "--only", "--time-budget", "--dry-run"):
        assert option in done.stdout
