"""The benchmarks' command line: it says what there is and how long it takes, and keeps off the committed numbers."""

import importlib
import os
import runpy
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import __main__ as together
from benchmarks import command, llp_learn, losing, peers, problems, stamp, timing
from shared.config import repository
from shared.transport import sinkhorn

ROOT = repository()
NAMES = [
    *("transport", "families", "growth", "training", "small_steps"),
    *("e_step", "relabel", "exclusive", "fused", "llp_learn"),
]
HERE = ("families", "growth", "small_steps")  # run in this process
COMMITTED = sorted((ROOT / "results" / "bench").glob("*.csv"))


@pytest.fixture
def started(monkeypatch):
    """The commands that would have been run; those that end in a name of `fails` fail."""
    commands = SimpleNamespace(all=[], fails=())

    def run(words, cwd):
        assert cwd == ROOT
        commands.all.append(words[1:])
        return SimpleNamespace(returncode=int(words[2].endswith(commands.fails) if commands.fails else 0))

    monkeypatch.setattr(together.subprocess, "run", run)
    return commands


def test_every_benchmark_is_listed():
    """A module that has a command line and is not listed would be run by nobody."""
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "ABOUT = About(" in path.read_text()}
    assert modules == set(NAMES) == set(together.ABOUT)


def test_the_list_says_what_each_measures_and_how_long_it_takes_and_runs_nothing(started, capsys):
    assert together.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()[: len(NAMES)]
    assert [line.split()[0] for line in lines] == NAMES
    assert all(
        about.measures in line and about.seconds > 0 for about, line in zip(together.ABOUT.values(), lines, strict=True)
    )
    assert sum(about.seconds for about in together.ABOUT.values()) < 15 * 60 and not started.all


def test_help_runs_nothing_and_writes_nothing(monkeypatch, capsys):
    """Once it ran all of them and wrote over results/bench."""
    before = {path: path.read_bytes() for path in COMMITTED}
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "benchmarks" / "__main__.py"), run_name="__main__")
    assert stopped.value.code == 0 and "usage: python -m benchmarks " in capsys.readouterr().out
    assert {path: path.read_bytes() for path in COMMITTED} == before


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_command_line_of_its_own(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"benchmarks.{name}").main(["--help"])
    said = capsys.readouterr().out
    assert stopped.value.code == 0 and f"usage: python -m benchmarks.{name} " in said
    assert "--out FOLDER" in said and "--overwrite" in said


def test_all_run_one_by_one_each_with_its_time_and_away_from_the_committed_numbers(started, capsys):
    assert together.main([]) == 0
    out = str(ROOT / ".work" / "bench")
    assert started.all == [["-m", f"benchmarks.{name}", "--out", out, "--device", "auto"] for name in NAMES]
    said = capsys.readouterr().out
    assert f"{len(NAMES)} benchmarks, about" in said
    for number, about in enumerate(together.ABOUT.values(), 1):
        assert f"[{number}/{len(NAMES)}] {about.name}: {about.measures}; about " in said


def test_some_run_into_a_folder_that_was_named(started, tmp_path):
    options = ["--only", "relabel", "e_step", "--out", str(tmp_path), "--device", "cpu", "--quick"]
    assert together.main(options) == 0
    more = ["--out", str(tmp_path), "--device", "cpu", "--quick"]
    assert started.all == [["-m", f"benchmarks.{name}", *more] for name in ("e_step", "relabel")]


def test_committed_numbers_are_replaced_only_when_told(started):
    assert together.main(["--only", "training", "--overwrite"]) == 0
    assert started.all == [["-m", "benchmarks.training", "--overwrite", "--device", "auto"]]


def test_one_that_fails_stops_no_other_and_is_named(started, capsys):
    started.fails = ("training",)
    assert together.main([]) == 1
    assert len(started.all) == len(NAMES) and "FAILED: training" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--out", str(ROOT / "results" / "bench")], "--overwrite replaces them"),
        (["--out", "results/../results/bench"], "--overwrite replaces them"),
        (["--overwrite", "--quick"], "not with --overwrite"),
        (["--overwrite", "--out", "x"], "not allowed with"),
        (["--only", "speed"], "invalid choice: 'speed'"),
    ],
)
def test_what_would_spoil_the_committed_numbers_or_means_nothing_is_refused(
    started, monkeypatch, capsys, options, says
):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        together.main(options)
    assert stopped.value.code == 2 and says in capsys.readouterr().err and not started.all


def test_one_alone_keeps_off_the_committed_numbers_too():
    parser = command.parser_of(together.ABOUT["e_step"], threads=1)
    assert command.parse(parser, []).out == ROOT / ".work" / "bench"
    assert command.parse(parser, ["--overwrite"]).out == ROOT / "results" / "bench"
    assert command.parse(parser, ["--out", "x"]).out == Path("x")


def test_scratch_is_ignored_by_git():
    done = subprocess.run(["git", "check-ignore", "-q", ".work/bench/e_step.csv"], cwd=ROOT)
    if done.returncode == 128:
        pytest.skip("not a git checkout")
    assert done.returncode == 0


def test_what_needs_a_gpu_says_in_a_line_that_there_is_none(tmp_path, capsys):
    words = ["--device", "cpu", "--out", str(tmp_path)]
    assert importlib.import_module("benchmarks.fused").main(words) == 0
    assert capsys.readouterr().out == "fused: no CUDA device is here, so there is nothing to time\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("fused", *HERE)])
def test_each_runs_in_small_and_writes_its_table_and_nothing_else(name, tmp_path, monkeypatch):
    """Its columns are those of the committed table, but for threads, which it may tell besides; or that one is old."""
    before = {path: path.read_bytes() for path in COMMITTED}
    words = ["--quick", "--device", "cpu", "--out", str(tmp_path), "--threads", "1"]
    as_a_command(name, words, monkeypatch)
    assert {path: path.read_bytes() for path in COMMITTED} == before
    tables = {path.name for path in tmp_path.iterdir()}
    assert tables == {f"{name}.csv"} | ({"transport_stress.csv"} if name == "transport" else set())
    for table in tables:
        new, old = columns(tmp_path / table), columns(ROOT / "results" / "bench" / table)
        same = [column for column in new if column in old or column != "threads"] == old
        assert same or stamp.says_so(ROOT / "results" / "bench" / table)
        assert not stamp.is_old(tmp_path / table, together.ABOUT[name])


@pytest.mark.parametrize("name", HERE)
def test_those_of_growth_and_of_hard_costs_run_in_small(name, tmp_path, monkeypatch, capsys):
    """Every answer of a peer is within rounding of ours, and slopes say what ended them."""
    module = importlib.import_module(f"benchmarks.{name}")
    threads = torch.get_num_threads()
    try:
        assert module.main(["--quick", "--device", "cpu", "--threads", "1", "--out", str(tmp_path)]) == 0
    finally:
        torch.set_num_threads(threads)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.csv", *(["growth_slopes.csv"] * (name == "growth"))}
    rows = losing.rows_of(tmp_path / f"{name}.csv")
    if name == "families":
        assert {row["family"] for row in rows} == set(problems.FAMILIES)
        assert max(float(row["error"]) for row in rows) < 1e-12
    if name == "growth":
        slopes = losing.rows_of(tmp_path / "growth_slopes.csv")
        assert {row["work"] for row in slopes} == set(module.WORK)
        assert {row["ended"] for row in slopes} == {"all made"} and {row["ended"] for row in rows} == {""}
    if name == "small_steps":
        assert {row["work"] for row in rows} >= set(module.LOSSES)


def test_growth_says_in_an_error_s_own_words_what_broke_and_makes_nothing_that_would_take_long(monkeypatch):
    from benchmarks import growth

    def solve(*problem):
        if len(problem[0]) == 64:
            raise MemoryError("no room for 64")

    monkeypatch.setitem(growth.WORK, "toy", (solve, growth.counts, {}))
    rows = growth.along("toy", "n", [(1, n, 3) for n in (4, 16, 64, 256)], torch.device("cpu"))
    assert [row["ended"] for row in rows] == ["", "", "MemoryError: no room for 64"]
    assert growth.summary(rows)["ended"] == "1 x 64 x 3: MemoryError: no room for 64"
    times = {4: 1000.0, 16: 2000.0}
    monkeypatch.setattr(
        growth, "point", lambda work, size, device: {"milliseconds_median": times[size[1]], "ended": ""}
    )
    rows = growth.along("toy", "n", [(1, n, 3) for n in (4, 16, 64)], torch.device("cpu"))
    assert rows[-1]["ended"] == "not made, about 4 s" and growth.summary(rows)["slope"] == "0.50"


@pytest.mark.parametrize("whole", [True, False])
def test_a_peer_solves_the_same_problem_and_one_that_is_wrong_is_seen(whole):
    """Exact peers agree to rounding on values and marginals, and the proximal method does not, and says by how much."""
    bags = peers.Same(problems.transport_problem(3, 12, 4, torch.device("cpu"), not whole), 12, whole)
    right = bags.values(peers.by_emd(bags))
    for peer in peers.EXACT:
        if not peer.takes(bags) or "proximal" in peer.name:
            continue
        answer = peer.solve(bags)
        assert abs(bags.values(answer) - right).max() < 1e-9 and bags.violation(answer) < 1e-9, peer.name
    wrong = [np.roll(plan, 1, axis=1) for plan in peers.by_emd(bags)]
    assert abs(bags.values(wrong) - right).max() > 0.1 and bags.violation(wrong) > 0.01


@pytest.mark.parametrize("peer", peers.SCALING, ids=lambda peer: peer.name)
def test_a_scaling_peer_ends_at_the_same_plan(peer):
    bags = peers.Same(problems.transport_problem(2, 8, 3, torch.device("cpu")), 8, True)
    if not peer.takes(bags):
        pytest.skip(f"{peer.package} is not installed")
    ours = sinkhorn(bags.cost, torch.tensor([0, 8, 16]), bags.shares, 1.0, gradient="none").plan
    tolerance = 0.05 if "geomloss" in peer.name else 1e-4  # it steps half as far
    assert abs(bags.values(peer.solve(bags, 1.0, 500)) - bags.values(ours.view(2, 8, 3))).max() < 8 * tolerance


def test_a_slow_peer_takes_no_turns_from_ours_and_from_quick_ones():
    called = {"ours": 0, "quick": 0, "slow": 0}

    def call(name):
        called[name] += 1
        time.sleep(0.3 * (name == "slow"))
        return name

    calls = {name: partial(call, name) for name in called}
    taken, beside, answers = timing.time_within(calls, 0.2, 5, torch.device("cpu"))
    assert called["slow"] == 1 and len(taken["slow"]) == len(beside["slow"]) == 1
    assert len(taken["ours"]) == len(taken["quick"]) == len(beside["quick"]) == 5
    assert answers == {name: name for name in called}


def test_what_is_not_installed_is_left_out_and_named(monkeypatch):
    monkeypatch.setattr(peers, "installed", lambda name: None if name in peers.OPTIONAL else "1.0")
    assert peers.sentence() == (
        "peers: pot 1.0, scipy 1.0; left out, not installed: geomloss, lapx, torch-linear-assignment, llp-learn "
        "(`make bench PEERS=1` installs them)"
    )
    bags = peers.Same(problems.transport_problem(1, 4, 2, torch.device("cpu")), 4, True)
    assert [peer.name for peer in peers.EXACT if peer.takes(bags)][:3] == [
        *("POT loop", "POT loop, no checks", "scipy assignment")
    ]


def test_a_method_whose_peer_is_not_installed_has_a_row_that_says_so(monkeypatch):
    """A table without the row would read as if llp-learn had no such method."""
    monkeypatch.setattr(peers, "left_out", lambda: ["llp-learn"])
    ours, theirs = llp_learn.compare("dllp", seeds=1, epochs=1)
    assert ours["solver"] == "ours" and float(ours["accuracy"]) > 20
    assert theirs == {"work": ours["work"], "solver": "llp-learn DLLP", "says": "not installed"}


def test_the_end_says_where_we_lose_and_whether_to_a_right_answer(tmp_path, capsys):
    (tmp_path / "toy.csv").write_text(
        "work,n,solver,ratio_to_ours_median,error\n"
        "exact,4,ours,1,0\nexact,4,quick,0.5,1e-9\nexact,4,slow,2,0\nexact,4,careless,0.25,nan\n"
    )
    losing.show([tmp_path / "toy.csv"])
    said = capsys.readouterr().out
    assert "2 of 3 rows, 1 of them to an answer as good" in said
    words = [line.split() for line in said.splitlines()[-2:]]
    assert words[0][-5:] == ["careless", "0.25", "off", "by", "nan"] and words[1][-4:] == ["quick", "0.5", "as", "good"]


def test_a_table_whose_code_has_changed_is_named_and_says_so_itself(tmp_path, monkeypatch):
    """Once it said 566 ms where it was 34, for the solver had been compiled since."""
    about = together.ABOUT["relabel"]
    table = tmp_path / "relabel.csv"
    stamp.write_rows(table, [{"n": 4, "timed": stamp.stamp(about)}, {"n": 8, "timed": stamp.stamp(about)}])
    before = table.read_bytes()
    assert not stamp.mark(table, about) and table.read_bytes() == before
    monkeypatch.setattr(stamp, "code_hash", lambda module, root: "another")
    assert stamp.is_old(table, about) and not stamp.says_so(table)
    assert stamp.mark(table, about) and stamp.says_so(table) and stamp.mark(table, about)
    assert [row["timed"].count("OLD: code ") for row in losing.rows_of(table)] == [1, 1]
    sentence = stamp.sentence(table, about)
    assert sentence.startswith("relabel.csv is old: it timed papers.plot.labels of commit ")
    assert sentence.endswith("`python -m benchmarks --only relabel --overwrite` makes it again")
    monkeypatch.undo()
    assert not stamp.mark(table, about) and table.read_bytes() == before


def as_a_command(name, words, monkeypatch):
    """Run ``python -m benchmarks.NAME``: one as a process of its own; others here, where torch is imported already."""
    if name == "training":
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        whole = [sys.executable, "-m", f"benchmarks.{name}", *words]
        done = subprocess.run(whole, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        return
    monkeypatch.setattr(sys, "argv", [name, *words])
    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    assert not stopped.value.code


def columns(path):
    """The head of a table that has rows."""
    head, _, *_ = path.read_text().splitlines()
    return head.split(",")
