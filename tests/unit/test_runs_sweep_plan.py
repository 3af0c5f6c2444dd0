"""The sweep's decisions without its processes: what is due, in which order, how long it takes, what it says."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.config import ConfigError, Run, Tier, plan, repository
from shared.config.spec import Section, Sections, Spec
from shared.datasets import data_root
from shared.files import write_text
from shared.records import read_index, read_records, store
from shared.runs import options, status, sweep, workers
from shared.runs.workers import Pool
from tests.conftest import a_run, write_record


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Call the sweep in this process with a plan of its own: planned(runs, adopt, ...) -> (failed, lines)."""
    monkeypatch.setattr(sweep, "code_hash", lambda module: "new")
    monkeypatch.setattr(sweep, "CHECKPOINTS", str(tmp_path / "work"))

    def call(runs, adopt=False, **more):
        monkeypatch.setattr(sweep, "plan", lambda paper, tier: list(runs))
        lines = []
        tier = Tier("tiny", "a test", "cpu", 1, adopt)
        return sweep.sweep("toy", tier, tmp_path / "runs", say=lines.append, **more), lines

    call.folder = tmp_path / "runs"
    return call


@pytest.mark.parametrize(("adopt", "todo"), [(False, 1), (True, 0)])
def test_a_record_of_other_code_is_made_again_unless_it_is_adopted(planned, adopt, todo):
    write_record(planned.folder, a_run(), code="old")
    assert f"1 runs, {todo} to do" in planned([a_run()], adopt, dry_run=True)[1][0]


def test_a_record_of_a_neutral_value_is_current_whatever_was_added_since(planned):
    """The spec of the planned run has a key more than the record's: it means what was before it."""
    write_record(planned.folder, a_run())
    layout = Sections("toy", (Section("all", ("loss", "seed", "knob")),), {"knob": 0})
    for knob, todo in ((0, 0), (1, 1)):
        run = Run(a_run().id, "fine", Spec(layout, {"loss": "fine", "seed": 0, "knob": knob}), 1.0)
        assert f"1 runs, {todo} to do" in planned([run], dry_run=True)[1][0]


def test_a_record_of_an_earlier_schema_is_made_again_and_shown_by_nobody(planned):
    path = write_record(planned.folder, a_run())
    path.write_text(path.read_text().replace(f'"schema": {store.SCHEMA}', '"schema": 1'))
    assert "1 runs, 1 to do" in planned([a_run()], True, dry_run=True)[1][0]
    assert sweep.estimates([a_run(seconds=7.0)], planned.folder) == {a_run().id: 7.0}
    planned([a_run()], only=sweep.NOTHING)
    assert read_index(planned.folder)[a_run().id]["status"] == "outdated" and read_records(planned.folder) == []


@pytest.mark.parametrize("adopt", [False, True])
def test_a_record_of_another_spec_is_made_again_even_where_code_is_adopted(planned, adopt):
    write_record(planned.folder, a_run())
    assert "1 runs, 0 to do" in planned([a_run()], adopt, dry_run=True)[1][0]
    assert "1 runs, 1 to do" in planned([a_run(rate=2)], adopt, dry_run=True)[1][0]


def test_a_record_that_answers_another_spec_is_not_shown_as_the_planned_run(planned):
    """Until the run is made again, tables must not show the old configuration's number under its name."""
    write_record(planned.folder, a_run())
    planned([a_run(rate=2)], only=sweep.NOTHING)
    assert read_index(planned.folder)[a_run().id]["status"] != "done"
    assert read_records(planned.folder) == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_text("{"), r"seed0\.json is not a record"),
        (lambda path: path.write_text(path.read_text()[:-40]), r"seed0\.json is not a record"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), r"seed0\.json is not a text in UTF-8"),
        (lambda path: path.write_text("[" * 100000), r"seed0\.json is not a record"),
        (
            lambda path: path.write_text(path.read_text().replace("seed0", "seed1")),
            "is the record of 'toy/none/fine/seed1'",
        ),
    ],
)
def test_a_damaged_record_is_named_and_trained_again(planned, damage, says):
    damage(write_record(planned.folder, a_run()))
    _, lines = planned([a_run()])
    assert re.search(f"to be trained again: .*{says}", "\n".join(lines))
    assert [row["status"] for row in read_index(planned.folder).values()] == ["failed"]  # there is no such paper


def test_a_record_changed_by_hand_is_trained_again_and_never_blessed(planned):
    """Its accuracy of 99 went into tables; only a row that a person removed lets it in."""
    path = write_record(planned.folder, a_run())
    planned([a_run()])
    before = read_index(planned.folder)
    path.write_text(path.read_text().replace('"finished": "2', '"finished": "3'))
    for _ in range(2):
        assert read_records_fail(planned.folder)
        _, lines = planned([a_run()])
        assert any("seed0.json: record changed by hand" in line for line in lines)
        (row,) = read_index(planned.folder).values()
        assert (row["status"], row["sha256"]) == ("failed", before[a_run().id]["sha256"])
        path.with_suffix(".log").unlink()
    planned([a_run()], only=sweep.NOTHING)
    (row,) = read_index(planned.folder).values()
    assert (row["status"], row["sha256"]) == ("changed", before[a_run().id]["sha256"])
    (planned.folder / "index.csv").unlink()
    planned([a_run()])
    assert [row["status"] for row in read_index(planned.folder).values()] == ["done"]


def read_records_fail(folder):
    with pytest.raises(ConfigError, match="record changed by hand"):
        read_records(folder)
    return True


def test_only_runs_what_matches_and_still_indexes_the_whole_plan(planned):
    write_record(planned.folder, a_run(1))
    assert "3 runs, 1 to do" in planned([a_run(i) for i in range(3)], only=r"seed2$", dry_run=True)[1][0]
    planned([a_run(i) for i in range(3)], only=r"seed1$")
    assert [row["status"] for row in read_index(planned.folder).values()] == ["missing", "done", "missing"]


def test_a_dry_run_writes_nothing(planned):
    failed, lines = planned([a_run(i, seconds=60) for i in range(2)], dry_run=True)
    assert failed == 0 and not planned.folder.exists()
    assert lines[0] == "toy, tier tiny: 2 runs, 2 to do, 1 at once on cpu, about 2 min"
    assert lines[1:] == [f"  toy/none/fine/seed{i}  ~60 s" for i in range(2)]


def test_estimates_are_the_median_of_like_records_else_what_the_config_declares(tmp_path):
    for seed, wall in enumerate((1.0, 9.0, 5.0)):
        write_record(tmp_path, a_run(seed, dataset="a", epochs=3), wall=wall)
    like = a_run(7, 100.0, dataset="a", epochs=3)
    other = Run("toy/none/other/seed7", "other", like.spec, 100.0)
    assert sweep.estimates([like, other], tmp_path) == {like.id: 5.0, other.id: 100.0}
    write_record(tmp_path, Run("toy/none/other/bag4/seed0", "other", like.spec, 1.0), wall=8.0)
    bags = [Run(f"toy/none/other/bag{size}/seed1", "other", like.spec, 100.0) for size in (4, 8)]
    assert sweep.estimates(bags, tmp_path) == {bags[0].id: 8.0, bags[1].id: 8.0}, "the same bags, else the same method"


def test_a_record_that_was_deleted_after_the_sweep_is_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "repository", lambda: tmp_path)
    folder = sweep.runs_folder("toy", "tiny")
    monkeypatch.setattr(sweep, "plan", lambda paper, tier: [])
    paths = [write_record(folder, a_run(seed)) for seed in (0, 1, 3)]
    assert sweep.runs_to_try_again("toy", "tiny", ()) == []
    write_text(store.record_path(folder, a_run(4).id).with_suffix(".log"), "Traceback\n")
    store.write_index(folder, [a_run(seed).id for seed in (0, 1, 3)])
    assert sweep.runs_to_try_again("toy", "tiny", ()) == []
    paths[1].unlink()
    paths[2].write_text("{}")
    assert sweep.runs_to_try_again("toy", "tiny", ()) == [a_run(1).id, a_run(3).id]
    store.write_index(folder, [a_run(seed).id for seed in (0, 2, 4)])
    due = [a_run(2).id, a_run(4).id]
    assert sweep.runs_to_try_again("toy", "tiny", ()) == due, "a sweep was stopped before one, the other has failed"


def test_runs_that_lacked_their_dataset_are_due_when_it_is_there(tmp_path, monkeypatch):
    runs = [a_run(seed, dataset=name) for seed, name in enumerate(("photos", "photos", "cells"))]
    monkeypatch.setattr(sweep, "repository", lambda: tmp_path)
    monkeypatch.setattr(sweep, "plan", lambda paper, tier: runs)
    folder = sweep.runs_folder("toy", "tiny")
    assert sweep.runs_to_try_again("toy", "tiny", {"photos"}) == []
    write_record(folder, runs[0])
    store.write_index(folder, [run.id for run in runs], tried={run.id: "not here" for run in runs[1:]})
    assert sweep.runs_to_try_again("toy", "tiny", set()) == []
    assert sweep.runs_to_try_again("toy", "tiny", {"photos"}) == [runs[1].id]
    write_record(folder, runs[1])
    store.write_index(folder, [run.id for run in runs])
    assert sweep.runs_to_try_again("toy", "tiny", {"photos"}) == []


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The status of a tier of one paper with three runs: tiny(papers again) -> Status; tiny.folder, tiny.runs."""
    runs = [a_run(seed, seconds=100.0) for seed in range(3)]
    for module in (sweep, status):
        monkeypatch.setattr(module, "repository", lambda: tmp_path)
    monkeypatch.setattr(status, "papers_of", lambda tier: ["toy"])
    monkeypatch.setattr(status, "code_hash", lambda module: "new")
    monkeypatch.setattr(status, "plan", lambda paper, tier: runs)

    def call(*again):
        return status.status(Tier("tiny", "a test", "cpu", 1, False), again)

    call.folder, call.runs = sweep.runs_folder("toy", "tiny"), runs
    return call


def test_the_outlook_leaves_out_what_lacked_its_dataset_the_last_time(tiny):
    assert tiny().outlook() == "5 min for 3 runs, 1 at once on cpu"
    assert tiny().outlook(elsewhere=True) == "5 min for 3 runs, one at a time"
    store.write_index(tiny.folder, [run.id for run in tiny.runs], tried={run.id: "not here" for run in tiny.runs[1:]})
    lacking = "; 2 runs lack what they need, their index.csv says why"
    assert tiny().outlook() == f"2 min for 1 runs, 1 at once on cpu{lacking}"
    write_record(tiny.folder, tiny.runs[0])
    assert tiny().outlook() == f"nothing to train{lacking}"


def test_records_that_came_with_the_repository_are_told_from_those_made_here(tiny, tmp_path):
    assert tiny().records() == "Records: 0 made here."
    paths = [write_record(tiny.folder, run) for run in tiny.runs[:2]]
    day = store.load_record(paths[0])["finished"][:10]
    assert tiny().records() == f"Records: 2 reused, made {day} from unknown (2); 0 made here."
    workers._note(tmp_path / sweep.CHECKPOINTS / "tiny" / "toy", store.load_record(paths[0]))
    assert tiny().records() == f"Records: 1 reused, made {day} from unknown (1); 1 made here."
    write_record(tiny.folder, tiny.runs[1], code="old")
    assert tiny().records() == "Records: 1 made here." and tiny().todo == 2
    assert tiny("toy").records() == "Records: 0 made here." and tiny("toy").todo == 3
    assert tiny("other").todo == 2


def test_a_paper_is_complete_where_every_run_has_a_current_record(tiny):
    for run in tiny.runs[:2]:
        write_record(tiny.folder, run)
    assert tiny().complete == []
    write_record(tiny.folder, tiny.runs[2])
    assert tiny().complete == ["toy"] and tiny("toy").complete == []


def test_progress_counts_what_is_left_by_how_wrong_estimates_were():
    progress = sweep.Progress(dict.fromkeys("abcd", 10.0))
    progress.pending = ["c", "d"]
    assert progress.left({"b": 0.5}, 1) == 25.0
    progress.measured["a"] = 20.0
    progress.done = 1
    assert progress.left({"b": 0.5}, 2) == 25.0
    assert progress.line("x", {}, 1) == "[1/4] x  ~40 s left"


def test_what_trains_a_stage_for_others_does_not_tell_how_long_these_take():
    """A sweep said 5.8 hours where 70 minutes were left: the first runs had trained what the others share."""
    progress = sweep.Progress(dict.fromkeys("abcd", 10.0))
    progress.pending, progress.first = ["b", "c", "d"], {"a", "c"}
    progress.measured["a"] = 40.0
    assert progress.left({}, 1) == 10 + 40 + 10
    progress.measured["b"], progress.pending = 12.0, ["c", "d"]
    assert progress.left({}, 1) == 40 + 12


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("9m", 540), ("1.5h", 5400), (" 2h ", 7200), ("0.5s", 0.5)]
)
def test_a_duration_is_read(text, seconds):
    assert options.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "9 m", "-9m", "9d", "1h30m", "1e3"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a duration; write 90s, 9m or 1.5h"):
        options.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (540, "9 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_a_duration_is_said(seconds, text):
    assert sweep.duration(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at-once", "0"], "runs at once must be a number above 0, cores or auto, not '0'"),
        (["--at-once", "several"], "not 'several'"),
        (["--tier", "huge"], "there is no tier 'huge'; there are cpu, gpu, paper, quick, smoke"),
        (["--paper", "rott"], "there is no paper 'rott'; did you mean 'rot'?"),
        (["--time-budget", "soon"], "'soon' is not a duration; write 90s, 9m or 1.5h"),
        (["--only", "rot/["], "rot/["),
        (["--cores", "-1"], "-1"),
        (
            ["--only", "bag17"],
            "no run of rot at tier smoke matches 'bag17'; `python -m papers.rot.train --list --tier smoke`",
        ),
        (["--gather"], "--dry-run is not for --gather, which trains nothing; leave one of them out"),
        (["--gather", "--only", "kl"], "--only is not for --gather"),
        (["--gather", "--again"], "--again is not for --gather"),
        (["--gather", "--shard", "1/2"], "--shard is not for --gather"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2_and_one_sentence(tmp_path, capsys, arguments, message):
    arguments = ["--paper", "rot", "--tier", "smoke", "--records", str(tmp_path), "--dry-run", *arguments]
    try:
        status = sweep.main(arguments)
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr().err
    assert status == 2 and message in said and "Traceback" not in said


def test_a_shard_in_which_nothing_matches_has_nothing_to_do(planned):
    """The pattern is of the plan, of which a shard is a part."""
    runs = [a_run(seed) for seed in range(4)]
    said = [planned(runs, only="seed3", shard=(n, 2), dry_run=True)[1][0] for n in (1, 2)]
    assert sorted(re.search(r"(\d) to do", line)[1] for line in said) == ["0", "1"]
    with pytest.raises(ConfigError, match="no run of toy at tier tiny matches 'seed4'"):
        planned(runs, only="seed4", shard=(1, 2))


def test_folders_are_those_of_where_the_program_was_called(tmp_path):
    """It goes to the repository before it begins: what was typed or set elsewhere meant another folder there."""
    call = [
        sys.executable,
        "-m",
        "shared.runs.sweep",
        "--paper",
        "rot",
        "--tier",
        "smoke",
        "--records",
        "out",
        "--gather",
    ]
    env = {**os.environ, "PYTHONPATH": str(repository())}
    subprocess.run(call, cwd=tmp_path, env=env, check=True, capture_output=True)
    assert set(read_index(tmp_path / "out")) == {run.id for run in plan("rot", "smoke")}


def test_folders_that_the_environment_names_stay_where_they_are(tmp_path, monkeypatch):
    for name, said in (("LLP_DATA", "data"), ("LLP_MIRROR", "~/mirror")):
        monkeypatch.setenv(name, said)
    monkeypatch.chdir(tmp_path)
    options.go_home()
    assert Path.cwd() == repository() and data_root() == tmp_path / "data"
    assert os.environ["LLP_MIRROR"] == "~/mirror"
    monkeypatch.setenv("LLP_DATA", "")
    options.go_home()
    assert data_root() == repository() / "data"


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), FileExistsError(17, "File exists", "a/runs")]
)
def test_what_the_system_says_of_a_file_is_one_line(capsys, error):
    """`--records` of a file gave a traceback."""

    def command():
        raise error

    assert sweep.guarded(command) == 2
    said = "".join(capsys.readouterr())
    assert said.count("\n") == 1 and error.strerror in said and (error.filename or "make room") in said


@pytest.mark.parametrize("git", [None, "detected dubious ownership"])
def test_a_sweep_says_at_its_start_that_git_gave_no_answer(planned, monkeypatch, git):
    """Records then do not say whether code was changed; that was seen when all were trained."""
    monkeypatch.setattr(sweep, "commit", lambda: {"commit": None, "dirty": None} | ({"git": git} if git else {}))
    lines = planned([a_run()], dry_run=True)[1]
    says = "git does not say which code this is (detected dubious ownership): records made now have dirty: null"
    assert (says in lines) is bool(git)
    write_record(planned.folder, a_run())
    assert says not in planned([a_run()], dry_run=True)[1]


def test_a_budget_of_no_time_runs_nothing(planned, monkeypatch):
    monkeypatch.setattr(Pool, "start", lambda self, run: pytest.fail(f"{run.id} was started"))
    assert planned([a_run()], budget=0.0)[1][-1].startswith("out of time: 0 done, 0 paused")


def test_a_run_of_an_optional_set_that_is_absent_is_told_without_a_worker(planned, monkeypatch, tmp_path):
    monkeypatch.setenv("LLP_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(Pool, "start", lambda self, run: pytest.fail(f"{run.id} was started"))
    run = a_run(dataset="images_of_groups")
    log = workers.log_path(planned.folder, run.id)
    write_text(log, "of an earlier day")
    failed, lines = planned([run])
    why = "images_of_groups is not prepared in $LLP_DATA/images_of_groups; "
    why += "run: python -m shared.datasets fetch images_of_groups"
    assert failed == 0 and lines[-1] == f"NOT RUN, 1 runs: {why}" and not log.exists()
    assert read_index(planned.folder)[run.id]["why"] == why


def test_the_smoke_tier_of_rot_is_listed_in_the_order_of_its_plan(tmp_path, capsys):
    folder = tmp_path / "runs"
    assert sweep.main(["--paper", "rot", "--tier", "smoke", "--records", str(folder), "--dry-run"]) == 0
    listed = re.findall(r"^  (\S+)  ~", capsys.readouterr().err, re.M)
    assert listed == [run.id for run in plan("rot", "smoke")] and not folder.exists()
