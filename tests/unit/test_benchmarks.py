"""The benchmarks' command line: it says what there is and how long it takes, and keeps off the committed numbers."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as together
from benchmarks import command
from shared.config import repository

ROOT = repository()
NAMES = ["transport", "training", "e_step", "relabel", "exclusive", "fused"]
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
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(
        about.measures in line and about.seconds > 0 for about, line in zip(together.ABOUT.values(), lines, strict=True)
    )
    assert not started.all


def test_help_runs_nothing_and_writes_nothing():
    """Once it ran all of them and wrote over results/bench."""
    before = {path: path.read_bytes() for path in COMMITTED}
    words = [sys.executable, "-m", "benchmarks", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "usage: python -m benchmarks " in done.stdout
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
@pytest.mark.parametrize("name", [name for name in NAMES if name != "fused"])
def test_each_runs_in_small_and_writes_its_table_and_nothing_else(name, tmp_path):
    """Its columns are those of the committed table, but for threads, which it may tell besides."""
    before = {path: path.read_bytes() for path in COMMITTED}
    words = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--device", "cpu", "--out", str(tmp_path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, "--threads", "1"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in COMMITTED} == before
    tables = {path.name for path in tmp_path.iterdir()}
    assert tables == {f"{name}.csv"} | ({"transport_stress.csv"} if name == "transport" else set())
    for table in tables:
        new, old = columns(tmp_path / table), columns(ROOT / "results" / "bench" / table)
        assert [column for column in new if column in old or column != "threads"] == old


def columns(path):
    """The head of a table that has rows."""
    head, _, *_ = path.read_text().splitlines()
    return head.split(",")
