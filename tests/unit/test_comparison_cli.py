"""The command line on made papers and made results: what it prints, writes and exits with."""

import csv
import io

import pytest

from shared.comparison import __main__ as cli
from shared.comparison import report, terminal
from shared.config import plan
from shared.records import store
from shared.tables.evidence import gather

TABLES = """
def cells(rows):
    rows = rows[rows["metric"] == "accuracy"]
    column = "n=" + rows["bag_size"].astype(int).astype(str)
    return rows.assign(table="t1", row=rows["method"], column=column)[
        ["table", "row", "column", "metric", "selection", "seed", "value", "id"]
    ]
"""
REPORTED = """table,row,column,metric,value,spread,spread_kind,n,margin,source,selection
t1,kl,n=4,accuracy,80,.3,std,5,,Table 1,last
t1,kl,n=8,accuracy,70,.3,std,5,,Table 1,last
t1,kl,n=16,accuracy,60,.3,std,5,,Table 1,last
"""
CLAIMS = """
- id: order
  says: KL beats ROT.
  source: Section 4
  kind: greater
  where: {bag_size: 4}
  left: {method: kl}
  right: {method: rot}
"""
KL, ROT = [80.1, 79.9, 80.0], [75.0, 75.3, 75.1]


CONFIG = """
sections:
  all:
    dataset: {value: toy, source: Section 4}
    loss: {value: kl, source: Section 4}
    bag_size: {value: 4, source: Section 4}
    seed: {value: 0, source: "assumed: one run"}
tiers:
  paper: &all
    experiments:
      - {name: kl, grid: {bag_size: [4, 8], seed: [0, 1, 2]}}
      - {name: rot, grid: {loss: rot, bag_size: [4, 8], seed: [0, 1, 2]}}
  quick: *all
"""
NAMES = """
def method(spec):
    return spec.loss

def path(spec, method):
    return f"{spec.dataset}/{method}/bag{spec.bag_size}"
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A repository with one paper, `made`, and an empty results folder."""
    paper = tmp_path / "papers" / "made"
    paper.mkdir(parents=True)
    files = {
        "tables.py": TABLES,
        "reported.csv": REPORTED,
        "claims.yaml": CLAIMS,
        "config.yaml": CONFIG,
        "names.py": NAMES,
    }
    for name, text in files.items():
        (paper / name).write_text(text)
    (tmp_path / "config").mkdir()
    for tier in ("gpu", "paper", "quick", "smoke"):
        (tmp_path / "config" / f"{tier}.yaml").write_text(f"{{tier: {tier}, says: for a test}}")
    monkeypatch.setattr(report, "code_hash", lambda module, root: "now")
    monkeypatch.delenv("LLP_TIER", raising=False)

    def call(*argv):
        return cli.main([*argv, "--results", str(tmp_path / "results")], root=tmp_path)

    call.root, call.paper, call.results = tmp_path, paper, tmp_path / "results"
    return call


def fill(house, runs, tier="paper", code="now", bag_size=4):
    """Write one record per seed of each `method: values`, at one bag size."""
    planned = {run.id: run for run in plan("made", tier, house.root)}
    for method, values in runs.items():
        for seed, value in enumerate(values):
            run = planned[f"made/toy/{method}/bag{bag_size}/seed{seed}"]
            record = {
                "id": run.id,
                "spec": run.spec.canonical(),
                "spec_hash": run.spec_hash,
                "code": {"hash": code, "commit": "0123456789", "dirty": False},
                "metrics": {"last": {"accuracy": value}},
                "cost": {"train_s": 1.5},
                "environment": {"device": "cpu"},
                "finished": "2026-01-01T00:00:00",
            }
            store.write_record(house.results / tier / "made" / "runs", record)


def change(house, before, after):
    """Edit the paper's config.yaml."""
    text = (house.paper / "config.yaml").read_text()
    assert before in text
    (house.paper / "config.yaml").write_text(text.replace(before, after))


def written(house, name="comparison.csv", tier="paper"):
    return list(csv.DictReader(io.StringIO((house.results / tier / "made" / name).read_text())))


def test_reported_beside_reproduced(house, capsys):
    fill(house, {"kl": KL, "rot": ROT})
    (house.results / "paper/made/runs/toy/kl/bag8").mkdir()
    (house.results / "paper/made/runs/toy/kl/bag8/seed0.log").write_text("out of memory\n")
    assert house("made", "--tier", "paper") == 0
    assert [row["verdict"] for row in written(house)] == ["REPRODUCED", "FAILED", "NOT RUN"]
    claim = written(house, "claims.csv")[0]
    assert (claim["verdict"], claim["tier"], claim["seeds"], claim["improvement"]) == ("HOLDS", "paper", "3", "1")
    out = capsys.readouterr().out
    for text in ("REPRODUCED", "FAILED", "NOT RUN", "commit 0123456 (6)", "the code is unchanged since", "HOLDS"):
        assert text in out
    assert "\033" not in out


def test_a_contradicted_claim_exits_1_and_a_contradicted_control_0(house):
    fill(house, {"kl": ROT, "rot": KL}, tier="quick")
    assert house("made") == 1
    (house.paper / "claims.yaml").write_text(CLAIMS + "  role: control\n")
    assert house("made") == 0
    assert written(house, "claims.csv", "quick")[0]["verdict"] == "CONTRADICTED"


def test_other_tiers_stand_ins_and_simulations_are_not_comparable(house):
    fill(house, {"kl": KL}, tier="quick")
    house("made")
    assert written(house, tier="quick")[0]["why"] == "tier quick is not the paper's protocol"
    change(house, "  paper: &all\n", "  paper: &all\n    stand_in: patch features for ResNet-18\n")
    change(house, "value: toy", "value: tissue_sim")
    (house.paper / "names.py").write_text(NAMES.replace("{spec.dataset}", "toy"))
    fill(house, {"kl": KL})
    house("made", "--tier", "paper")
    row = written(house)[0]
    assert row["verdict"] == "NOT COMPARABLE"
    assert row["why"] == "a stand-in: patch features for ResNet-18; simulated data: tissue_sim"
    assert float(row["difference"]) == pytest.approx(0, abs=1e-9)


def test_what_is_assumed_stands_beside_a_number_that_was_not_reproduced(house, capsys):
    """Whoever looks for the reason begins with what the paper does not say, in that cell's runs and no others."""
    change(house, "seed: {value: 0", "rate: {value: 0.1, source: 'assumed: none is named'}\n    seed: {value: 0")
    own = "set: {rate: {value: 0.2, source: 'assumed: diverges above'}}"
    change(house, "{name: kl, grid", f"{{name: kl, {own}, grid")
    fill(house, {"kl": [value - 20 for value in KL]})
    fill(house, {"kl": [value - 10 for value in KL]}, bag_size=8)
    assert house("made", "--tier", "paper") == 0
    rows = written(house)
    assert [(row["verdict"], row["assumed"]) for row in rows] == [
        ("NOT REPRODUCED", "rate"),
        ("REPRODUCED", ""),
        ("NOT RUN", ""),
    ]
    page = (house.results / "paper/made/comparison.md").read_text()
    assert page.count("; assumed: rate |") == 1 and page.count("- `rate`: diverges above\n") == 1
    assert "none is named" not in page
    assert "- `rate`: diverges above" in capsys.readouterr().out


def test_caveats_are_held_against_the_cells_they_belong_to(house):
    """A stand-in elsewhere is no obstacle."""
    change(house, "{name: rot, grid", "{name: rot, stand_in: a small network, grid")
    fill(house, {"kl": KL, "rot": ROT})
    house("made", "--tier", "paper")
    assert written(house)[0]["verdict"] == "REPRODUCED"
    (house.paper / "reported.csv").write_text(REPORTED.replace("t1,kl,n=4", "t1,rot,n=4"))
    house("made", "--tier", "paper")
    assert written(house)[0]["why"] == "a stand-in: a small network"


def test_tier_from_the_environment_and_changed_code(house, monkeypatch, capsys):
    fill(house, {"kl": KL}, code="then")
    monkeypatch.setenv("LLP_TIER", "paper")
    assert house() == 0
    assert "the code has changed since for 3 of 3" in capsys.readouterr().out


def test_same_records_same_bytes(house):
    fill(house, {"kl": KL, "rot": ROT})
    files = [house.results / "paper/made" / name for name in ("comparison.csv", "claims.csv", "comparison.md")]
    house("made", "--tier", "paper")
    first = [file.read_bytes() for file in files]
    house("made", "--tier", "paper")
    assert [file.read_bytes() for file in files] == first
    assert {p.name for p in files[0].parent.iterdir()} == {"runs", *(file.name for file in files)}


def test_a_paper_without_results_is_printed_and_nothing_is_written(house, capsys):
    (house.results / "quick").mkdir(parents=True)
    assert house() == 0
    assert capsys.readouterr().out.count("NOT RUN") == 4
    assert not (house.results / "quick/made").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nonesuch"], "there is no paper 'nonesuch'; known are made"),
        (["made", "--tier", "big"], "there is no tier 'big'; there are gpu, paper, quick, smoke"),
        (["made", "--tier", "gpu"], "papers/made/config.yaml has no tier gpu; those that have: none"),
        (["made", "--tier", "paper"], "no results folder"),
        (["--tier", "paper"], "no results folder"),
    ],
)
def test_bad_arguments(house, capsys, argv, message):
    fill(house, {"kl": KL}, tier="quick")
    assert house(*argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("reported.csv", "table\n", "line 1: the header must be"),
        ("claims.yaml", "- kind: greater\n", "claim 1, key id: None must be a sentence"),
        ("claims.yaml", "- [\n", "not valid YAML"),
        ("tables.py", "def cells(rows):\n    return rows\n", "cells lacks the columns table, row, column"),
    ],
)
def test_bad_files(house, capsys, name, text, message):
    fill(house, {"kl": KL}, tier="quick")
    (house.paper / name).write_text(text)
    assert house("made") == 2
    assert message in capsys.readouterr().err


def test_missing_tables_and_broken_records(house, capsys):
    fill(house, {"kl": KL}, tier="quick")
    (house.paper / "tables.py").unlink()
    assert house("made") == 2
    assert "tables.py is missing" in capsys.readouterr().err
    (house.results / "quick/made/runs/toy/kl/bag4/seed0.json").write_text("{")
    assert house("made") == 2
    assert "seed0.json" in capsys.readouterr().err


def test_costs_and_failed_runs_become_rows(house):
    fill(house, {"kl": [80.0]})
    runs = house.results / "paper/made/runs"
    (runs / "toy/kl/bag4/seed2.log").write_text("Traceback\n")
    (runs / "toy/kl/bag4/seed0.log").write_text("a log beside its record is no failure\n")
    (runs / "toy/kl/bag4/seed7.log").write_text("a log of a run that nobody planned is none of ours\n")
    evidence = gather("made", "paper", house.results, house.root)
    assert evidence.rows("train_s", selections=["cost"]).value.dropna().tolist() == [1.5]
    failed = evidence.rows("accuracy", selections=["last"]).query("status == 'FAILED'")
    assert failed["id"].tolist() == ["made/toy/kl/bag4/seed2"] and failed.value.isna().all()


def test_what_is_not_run_says_why_where_the_index_knows(house, capsys):
    """Cells and claims of the runs that lack something give the reason; those nobody planned do not."""
    change(house, "seed: [0, 1, 2]", "seed: [0, 1]")
    fill(house, {"kl": KL[:2]})
    runs = house.results / "paper/made/runs"
    done = [f"made/toy/kl/bag4/seed{seed},done,," for seed in (0, 1)]
    idle = [f"made/toy/{run}/seed{seed}" for run in ("kl/bag8", "rot/bag4") for seed in (0, 1)]
    lack = [f"{run_id},missing,,photos are not here" for run_id in idle]
    (runs / "index.csv").write_text("\n".join(["id,status,sha256,why", *done, *lack]) + "\n")
    assert house("made", "--tier", "paper") == 0
    cells = {row["column"]: row for row in written(house)}
    assert cells["n=4"]["verdict"] not in ("NOT RUN", "FAILED")
    assert cells["n=8"]["verdict"] == cells["n=16"]["verdict"] == "NOT RUN"
    assert cells["n=8"]["why"] == "no record for this cell: photos are not here"
    assert cells["n=16"]["why"] == "no record for this cell"
    (claim,) = written(house, "claims.csv")
    assert claim["verdict"] == "NOT RUN" and claim["why"].endswith(": photos are not here")
    assert "4 not run: photos are not here" in capsys.readouterr().out


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_terminal_is_filled_but_not_passed(house, width, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    fill(house, {"kl": KL, "rot": ROT})
    comparison = report.compare("made", "paper", house.results, house.root)
    plain, screen = io.StringIO(), Screen()
    terminal.show(comparison, plain, width)
    terminal.show(comparison, screen, width)
    assert "\033[32mREPRODUCED\033[0m" in screen.getvalue()
    table = 110 if width < 100 else width
    assert max(map(len, plain.getvalue().splitlines())) <= table
