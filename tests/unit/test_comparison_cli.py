"""The command line on made papers and made results: what it prints, writes and exits with."""

import csv
import io
import json

import pytest

from shared import records
from shared.comparison import __main__ as cli
from shared.comparison import report, terminal

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


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A papers package with one paper, `made`, and an empty results folder."""
    package = f"papers_{abs(hash(tmp_path))}"
    paper = tmp_path / package / "made"
    paper.mkdir(parents=True)
    (paper / "tables.py").write_text(TABLES)
    (paper / "reported.csv").write_text(REPORTED)
    (paper / "claims.yaml").write_text(CLAIMS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(records, "code_hash", lambda module: "now")
    monkeypatch.delenv("LLP_TIER", raising=False)

    def call(*argv):
        return cli.main([*argv, "--results", str(tmp_path / "results")], papers=tmp_path / package)

    call.paper, call.results = paper, tmp_path / "results"
    return call


def fill(results, runs, tier="paper", code="now", **spec):
    """Write one record per seed of each `method: values`, at bag size 4."""
    for method, values in runs.items():
        for seed, value in enumerate(values):
            path = results / tier / "made" / "runs" / "toy" / method / "bag4" / f"seed{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            record = {
                "schema": 1,
                "id": f"made/toy/{method}/bag4/seed{seed}",
                "spec": {"dataset": "toy", "method": method, "bag_size": 4, "seed": seed, **spec},
                "code": {"hash": code, "commit": "0123456789", "dirty": False},
                "metrics": {"last": {"accuracy": value}},
                "cost": {"train_s": 1.5},
                "environment": {"device": "cpu"},
                "finished": "2026-01-01T00:00:00",
            }
            path.write_text(json.dumps(record))


def written(house, name="comparison.csv", tier="paper"):
    return list(csv.DictReader(io.StringIO((house.results / tier / "made" / name).read_text())))


def test_reported_beside_reproduced(house, capsys):
    fill(house.results, {"kl": KL, "rot": ROT})
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
    fill(house.results, {"kl": ROT, "rot": KL}, tier="quick")
    assert house("made") == 1
    (house.paper / "claims.yaml").write_text(CLAIMS + "  role: control\n")
    assert house("made") == 0
    assert written(house, "claims.csv", "quick")[0]["verdict"] == "CONTRADICTED"


def test_other_tiers_stand_ins_and_simulations_are_not_comparable(house):
    fill(house.results, {"kl": KL}, tier="quick")
    house("made")
    assert written(house, tier="quick")[0]["why"] == "tier quick is not the paper's protocol"
    fill(house.results, {"kl": KL}, stand_in="patch features for ResNet-18", simulated=True)
    house("made", "--tier", "paper")
    row = written(house)[0]
    assert row["verdict"] == "NOT COMPARABLE"
    assert row["why"] == "a stand-in: patch features for ResNet-18; simulated data: toy"
    assert float(row["difference"]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('"value", "id"', "REPRODUCED"),
        ('"value"', "REPRODUCED"),
        ('"value"]].sort_values("seed").reset_index(drop=True)[["value", *CELL', "NOT COMPARABLE"),
    ],
)
def test_caveats_are_held_against_the_cells_they_belong_to(house, change, expected):
    """A stand-in elsewhere is no obstacle, by id or by index; where neither tells, it is one everywhere."""
    fill(house.results, {"kl": KL})
    fill(house.results, {"rot": ROT}, stand_in="a small network")
    text = TABLES.replace('"value", "id"', change)
    cell = '["table", "row", "column", "metric", "selection", "seed"]'
    (house.paper / "tables.py").write_text(f"CELL = {cell}\n{text}")
    house("made", "--tier", "paper")
    assert written(house)[0]["verdict"] == expected


def test_tier_from_the_environment_and_changed_code(house, monkeypatch, capsys):
    fill(house.results, {"kl": KL}, code="then")
    monkeypatch.setenv("LLP_TIER", "paper")
    assert house() == 0
    assert "the code has changed since for 3 of 3" in capsys.readouterr().out


def test_same_records_same_bytes(house):
    fill(house.results, {"kl": KL, "rot": ROT})
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
        (["nonesuch"], "unknown paper nonesuch: papers with a reported.csv are made"),
        (["made", "--tier", "big"], "unknown tier big: choose gpu, paper, quick, smoke"),
        (["made", "--tier", "gpu"], "no results folder"),
        (["--tier", "gpu"], "no results folder"),
    ],
)
def test_bad_arguments(house, capsys, argv, message):
    fill(house.results, {"kl": KL}, tier="quick")
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
        ("tables.py", "def cells(rows):\n    return rows\n", "cells: lacks the columns table, row, column"),
    ],
)
def test_bad_files(house, capsys, name, text, message):
    fill(house.results, {"kl": KL}, tier="quick")
    (house.paper / name).write_text(text)
    assert house("made") == 2
    assert message in capsys.readouterr().err


def test_missing_tables_and_broken_records(house, capsys):
    fill(house.results, {"kl": KL}, tier="quick")
    (house.paper / "tables.py").unlink()
    assert house("made") == 2
    assert "it must define cells(rows)" in capsys.readouterr().err
    (house.results / "quick/made/runs/toy/kl/bag4/seed0.json").write_text("{")
    assert house("made") == 2
    assert "seed0.json" in capsys.readouterr().err


def test_costs_and_failed_specs_become_rows(house):
    fill(house.results, {"kl": [80.0]})
    runs = house.results / "paper/made/runs"
    (runs / "toy/kl/bag4/seed7.log").write_text('{"spec": {"method": "kl", "bag_size": 4, "seed": 7}}\nTraceback\n')
    (runs / "toy/kl/bag4/seed0.log").write_text("a log beside its record is no failure\n")
    failed = report.failures(runs, "made")
    assert failed == {"made/toy/kl/bag4/seed7": {"method": "kl", "bag_size": 4, "seed": 7}}
    rows = report.tidy(records.read(runs), failed, {("accuracy", "last")}, "paper")
    assert rows[rows["selection"] == "cost"]["value"].tolist() == [1.5]
    assert rows[rows["seed"] == 7]["value"].isna().all()


def test_the_index_says_which_logs_were_planned(house):
    runs = house.results / "paper/made/runs"
    (runs / "toy").mkdir(parents=True)
    (runs / "toy/seed0.log").write_text("")
    assert list(report.failures(runs, "made")) == ["made/toy/seed0"]
    (runs / "index.csv").write_text("id,status,sha256\nmade/toy/seed1,missing,\n")
    assert report.failures(runs, "made") == {}


PLAN = """
from shared.records import Run


def plan(tier):
    for method in ("kl", "rot"):
        for seed in (0, 1):
            for size in (4, 8):
                spec = {"dataset": "toy", "method": method, "bag_size": size, "seed": seed}
                yield Run(f"made/toy/{method}/bag{size}/seed{seed}", spec, 1.0)
"""


def test_what_is_not_run_says_why_where_the_index_knows(house, capsys):
    """Cells and claims of the runs that lack something give the reason; those nobody planned do not."""
    fill(house.results, {"kl": KL[:2]})
    (house.paper / "plan.py").write_text(PLAN)
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
    fill(house.results, {"kl": KL, "rot": ROT})
    comparison = report.compare("made", "paper", house.results, house.paper.parent)
    plain, screen = io.StringIO(), Screen()
    terminal.show(comparison, plain, width)
    terminal.show(comparison, screen, width)
    assert "\033[32mREPRODUCED\033[0m" in screen.getvalue()
    table = 110 if width < 100 else width
    assert max(map(len, plain.getvalue().splitlines())) <= table
