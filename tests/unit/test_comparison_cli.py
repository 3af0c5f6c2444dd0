"""The command line on made papers and made results: what it prints, writes and exits with."""

import errno
import io

import pytest

from shared import files
from shared.comparison import report, terminal
from shared.config import plan
from shared.records import store
from shared.tables.evidence import gather
from tests.made_paper import CLAIMS, KL, NAMES, PAPER, REPORTED, ROT, build, change, fill, page_of, written


@pytest.fixture
def house(tmp_path, monkeypatch):
    return build(tmp_path, monkeypatch)


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


def test_a_contradicted_claim_exits_1_and_a_contradicted_control_or_extension_0(house):
    fill(house, {"kl": ROT, "rot": KL}, tier="quick")
    assert house("made") == 1
    for role in ("control", "extension"):
        (house.paper / "claims.yaml").write_text(f"{CLAIMS}  role: {role}\n")
        assert house("made") == 0
        assert written(house, "claims.csv", "quick")[0]["verdict"] == "CONTRADICTED"


def test_a_disk_that_cannot_be_written_is_one_sentence(house, monkeypatch, capsys):
    def closed(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    fill(house, {"kl": KL, "rot": ROT})
    monkeypatch.setattr(files.os, "replace", closed)
    assert house("made", "--tier", "paper") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "comparison.csv: Read-only file system; make it writable and call again" in said


DEPARTURES = {
    "on a stand-in": (PAPER, f"{PAPER}    stand_in: patch features for ResNet-18; toys for cells\n"),
    "on a simulation": ("value: toy", "value: tissue_sim"),
    "under another protocol": (PAPER, f"{PAPER}    differs: 2 of 9 epochs\n"),
}


@pytest.mark.parametrize("setting", DEPARTURES)
def test_what_is_not_the_papers_judges_no_number_and_ends_no_command(house, setting, capsys):
    """One standard for cells and claims: the word of the verdict says where it was made."""
    change(house, *DEPARTURES[setting])
    (house.paper / "names.py").write_text(NAMES.replace("{spec.dataset}", "toy"))
    fill(house, {"kl": ROT, "rot": KL})
    assert house("made", "--tier", "paper") == 0
    (claim,) = written(house, "claims.csv")
    assert (claim["verdict"], claim["setting"]) == (f"CONTRADICTED {setting}", setting)
    assert written(house)[0]["verdict"] == "NOT COMPARABLE" and written(house)[0]["why"] == claim["caveats"]
    assert f"CONTRADICTED {setting}  order" in capsys.readouterr().out


def test_whatever_a_tier_is_called_it_is_judged_by_its_protocol(house):
    fill(house, {"kl": KL, "rot": ROT}, tier="quick")
    house("made")
    assert written(house, tier="quick")[0]["verdict"] == "REPRODUCED"
    assert written(house, "claims.csv", "quick")[0]["verdict"] == "HOLDS"


def test_all_departures_are_named_and_the_difference_is_shown(house):
    for departure in DEPARTURES.values():
        change(house, *departure)
    (house.paper / "names.py").write_text(NAMES.replace("{spec.dataset}", "toy"))
    fill(house, {"kl": KL})
    house("made", "--tier", "paper")
    row = written(house)[0]
    assert row["verdict"] == "NOT COMPARABLE" and float(row["difference"]) == pytest.approx(0, abs=1e-9)
    assert row["why"] == (
        "a stand-in: patch features for ResNet-18; a stand-in: toys for cells; simulated data: tissue_sim; "
        "another protocol: 2 of 9 epochs"
    )


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
    assert page.count("; assumed: rate; b |") == 1 and page.count("- `rate`: diverges above\n") == 1
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
    files = [
        house.results / "paper/made" / name for name in ("comparison.csv", "claims.csv", "comparison.md", "behind.json")
    ]
    house("made", "--tier", "paper")
    first = [file.read_bytes() for file in files]
    house("made", "--tier", "paper")
    assert [file.read_bytes() for file in files] == first
    assert {p.name for p in files[0].parent.iterdir()} == {"runs", *(file.name for file in files)}


def test_a_paper_without_results_is_printed_and_nothing_is_written(house, capsys):
    (house.results / "quick").mkdir(parents=True)
    assert house() == 0
    assert capsys.readouterr().out.count("NOT RUN") == 3 + 1 + 2  # numbers, a claim, and the counts of both
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
        ("claims.yaml", "- [\n", "is not YAML"),
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
    fill(house, {"kl": [80.0, 90.0]})
    runs = house.results / "paper/made/runs"
    (runs / "toy/kl/bag4/seed2.log").write_text("Traceback\n")
    (runs / "toy/kl/bag4/seed1.log").write_text("a record of before beside a log does not answer for the run\n")
    (runs / "toy/kl/bag4/seed7.log").write_text("a log of a run that nobody planned is none of ours\n")
    evidence = gather("made", "paper", house.results, house.root)
    assert evidence.rows("train_s", selections=["cost"]).value.dropna().tolist() == [1.5]
    failed = evidence.rows("accuracy", selections=["last"]).query("status == 'FAILED'")
    assert failed["id"].tolist() == [f"made/toy/kl/bag4/seed{seed}" for seed in (1, 2)] and failed.value.isna().all()


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
    assert cells["n=8"]["why"] == "photos are not here"
    assert cells["n=16"]["why"] == "not in the plan of the tier paper"
    (claim,) = written(house, "claims.csv")
    assert claim["verdict"] == "NOT RUN" and claim["why"].endswith(": photos are not here")
    assert "4 not run: photos are not here" in capsys.readouterr().out


def test_the_records_behind_a_claim_and_a_number_are_listed(house, capsys, monkeypatch):
    fill(house, {"kl": KL, "rot": ROT[:2]})
    monkeypatch.chdir(house.root)
    assert house("made", "--tier", "paper", "--records", "ORDER") == 0
    out = capsys.readouterr().out
    left, right = out.split("left, accuracy, last")[1].split("right, accuracy, last")
    assert left.count("made/toy/kl/bag4") == 3 and right.count("made/toy/rot/bag4") == 2
    assert "made/toy/kl/bag4/seed0  results/paper/made/runs/toy/kl/bag4/seed0.json\n" in left
    for name in ("t1/kl/n=4", "T1/KL/n=4/accuracy", "t1/kl/n=4/accuracy/last"):
        assert house("made", "--tier", "paper", "--records", name) == 0
        out = capsys.readouterr().out
        assert out.startswith("t1/kl/n=4/accuracy/last, made, tier paper\n") and out.count(".json") == 3
    assert house("made", "--tier", "paper", "--records", "t1/kl/n=8") == 0
    assert "no records" in capsys.readouterr().out
    assert not (house.results / "paper/made/comparison.md").exists()


@pytest.mark.parametrize(("asked", "near"), [("oder", "order"), ("t1/kl/n=5", "t1/kl/n=")])
def test_a_name_that_nobody_knows_is_answered_with_the_nearest(house, capsys, asked, near):
    fill(house, {"kl": KL})
    assert house("made", "--tier", "paper", "--records", asked) == 2
    error = capsys.readouterr().err
    assert f"there is no claim and no reported number {asked!r} of made; did you mean '{near}" in error


def test_the_help_says_what_the_exit_status_means(house, capsys):
    with pytest.raises(SystemExit):
        house("--help")
    assert "Exit status: 1 when records that are comparable" in " ".join(capsys.readouterr().out.split())


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


def test_a_record_changed_by_hand_is_named_and_judges_nothing(house, capsys):
    fill(house, {"kl": KL, "rot": ROT}, tier="paper")
    runs = house.results / "paper/made/runs"
    store.write_index(runs, [run.id for run in plan("made", "paper", house.root)])
    path = runs / "toy/kl/bag4/seed0.json"
    path.write_text(path.read_text().replace(str(KL[0]), "99.9"))
    assert house("made", "--tier", "paper") == 0
    said = capsys.readouterr()
    assert f"{path}: record changed by hand" in said.err and "99.9" not in said.out
    assert "1 left out, record changed by hand: made/toy/kl/bag4/seed0" in page_of(house)
    (cell,) = (row for row in written(house) if row["column"] == "n=4")
    assert cell["n"] == "2"
    assert house("made", "--tier", "paper", "--records", "order") == 0
    assert "seed0.json" not in "".join(line for line in capsys.readouterr().out.splitlines() if "kl" in line)


@pytest.mark.parametrize(
    ("git", "says"),
    [
        ({"dirty": False}, "the code is unchanged since\n"),
        ({"dirty": True}, "the code is unchanged since; 3 of 3 come from code that no commit is known to hold"),
        ({"dirty": None, "git": "x"}, "commit 0123456, git did not say whether as it is (3)"),
        ({"dirty": None, "git": "x", "commit": None}, "commit unknown (3)"),
    ],
)
def test_what_git_did_not_vouch_for_is_said(house, git, says):
    fill(house, {"kl": KL}, git=git)
    house("made", "--tier", "paper")
    assert says in page_of(house)
