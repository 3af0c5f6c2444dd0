"""Every paper, whichever there are: its folder, its stage, its configuration, its plan and its claims."""

import re
import shutil
import subprocess
import sys

import pandas
import pytest

from shared.comparison import claims, reported
from shared.comparison.claims import RESERVED
from shared.comparison.evidence import matches
from shared.config import load_tier, papers, plan, read_config, repository
from shared.config.complete import FILES, lacking, stamp

ROOT = repository()
PAPERS = papers()
TIERS = sorted(path.stem for path in (ROOT / "config").glob("*.yaml") if path.stem != "schema")
each_paper = pytest.mark.parametrize("paper", PAPERS)


def tiers_of(paper):
    """The tiers that a paper is in."""
    return list(read_config(paper).tiers)


STAGE = """stages:
  sixth: {cmd: snakemake sixth, deps: [papers/sixth], outs: [{results/quick/sixth: {cache: false}}]}
"""


@pytest.fixture
def house(tmp_path):
    """A repository with a whole sixth paper, which is rot under another name."""
    shutil.copytree(ROOT / "papers/rot", tmp_path / "papers/sixth", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "config", tmp_path / "config")
    for name in ("train", "tables", "figures"):
        path = tmp_path / f"papers/sixth/{name}.py"
        path.write_text(re.sub(r'\b(framed|main)\("rot"', r'\1("sixth"', path.read_text()))
    (tmp_path / "dvc.yaml").write_text(STAGE)
    return tmp_path


def cut(path, text, other=""):
    assert text in path.read_text()
    path.write_text(path.read_text().replace(text, other))


@pytest.mark.parametrize(
    ("forget", "said"),
    [
        *(
            (lambda root, name=name: (root / "papers/sixth" / name).unlink(), f"lacks {name}")
            for name in FILES
            if name != "config.yaml"
        ),
        (lambda root: cut(root / "dvc.yaml", "  sixth:", "  seventh:"), "dvc.yaml lacks the stage sixth"),
        (lambda root: cut(root / "dvc.yaml", "snakemake sixth", "snakemake rot"), "its `cmd` must name sixth"),
        (lambda root: cut(root / "dvc.yaml", "papers/sixth", "papers/rot"), "lacks papers/sixth among its `deps`"),
        (lambda root: cut(root / "dvc.yaml", "quick/sixth", "quick/rot"), "lacks its folder of results"),
        (
            lambda root: cut(root / "papers/sixth/train.py", 'framed("sixth")', 'framed("rot")'),
            "framed('rot') is of another paper; write framed('sixth')",
        ),
        *(
            (
                lambda root, name=name: cut(root / f"papers/sixth/{name}.py", 'main("sixth"', 'main("rot"'),
                f"papers/sixth/{name}.py, line ",
            )
            for name in ("train", "tables", "figures")
        ),
        (lambda root: cut(root / "papers/sixth/tables.py", "def fig2"), "tables.py"),
        (
            lambda root: cut(root / "papers/sixth/outputs.yaml", "    title: Figure 1\n"),
            "figures.fig1: the key 'title' is missing",
        ),
        (
            lambda root: cut(root / "papers/sixth/outputs.yaml", "    from: curves\n"),
            "figures.fig1: the key 'from' is missing",
        ),
        (lambda root: cut(root / "papers/sixth/config.yaml", "  smoke:\n"), "config.yaml"),
        (
            lambda root: cut(root / "papers/sixth/config.yaml", "[patch_features, mlp]}", "[patch_featrues, mlp]}"),
            "sections.perceptron.when: network cannot be 'patch_featrues'; did you mean 'patch_features'?",
        ),
        (
            lambda root: cut(root / "papers/sixth/config.yaml", "one_of: [given, permuted]", "neutral: given"),
            "proportions: a text must have `one_of`, the list of all values it may have, or `free`, what it is",
        ),
    ],
)
def test_the_check_names_what_was_forgotten(house, forget, said):
    """Each is known before anything trains, not in the last rule after a night."""
    assert lacking("sixth", house) == []
    before = stamp(house)
    forget(house)
    (sentence,) = lacking("sixth", house)
    assert said in sentence
    assert stamp(house) != before, "Snakemake would not look again"


@each_paper
def test_a_paper_lacks_nothing(paper):
    """A paper that lacks a thing is not trained, not shown, or not reached by dvc."""
    assert lacking(paper) == []


def test_there_are_papers_and_tiers():
    assert "rot" in PAPERS
    assert {"smoke", "quick", "gpu", "paper"} <= set(TIERS)


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
        assert run.spec.paper == paper and run.seconds > 0 and run.method
        assert re.fullmatch(r"[0-9a-f]{16}", run.spec_hash)
    assert [run.id for run in plan(paper, tier)] == ids


def planned(paper):
    """One row a run of any tier, its columns the spec keys, the method and the tier."""
    return pandas.DataFrame(
        [{**run.spec, "method": run.method, "tier": tier} for tier in tiers_of(paper) for run in plan(paper, tier)]
    )


@each_paper
def test_claims_speak_of_spec_keys(paper):
    """A misspelt key selects nothing and its claim would say NOT RUN for ever."""
    known = set(planned(paper).columns)
    unknown = []
    for claim in claims.read_claims(ROOT / "papers" / paper / "claims.yaml"):
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
    for claim in claims.read_claims(ROOT / "papers" / paper / "claims.yaml"):
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
    assert all(number.source for number in reported.read_reported(ROOT / "papers" / paper / "reported.csv"))


@each_paper
def test_training_runs_without_snakemake(paper):
    """What the paper's README tells a reader to type first."""
    command = [sys.executable, "-m", f"papers.{paper}.train", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    for option in (f"usage: python -m papers.{paper}.train", "--here", "--set", "--save", "--list", "--tier", "--only"):
        assert option in done.stdout
