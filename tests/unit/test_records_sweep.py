"""The sweep's decisions without its processes: what is due, how many at once, what a dead worker costs."""

import argparse
import os
import re
from datetime import UTC, datetime
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.records import ConfigError, Run, Tier, read, read_index, record_path, store, sweep, workers
from shared.records.workers import Event, Hand, Pool


def a_run(seed=0, seconds=1.0, **spec):
    return Run(f"toy/none/fine/seed{seed}", {"loss": "fine", "seed": seed, **spec}, seconds)


def write_record(folder, run, code="new", wall=2.0):
    record = {
        "id": run.id,
        "spec": run.spec,
        "spec_hash": run.spec_hash,
        "code": {"hash": code, "commit": None},
        "metrics": {"last": {"accuracy": 1.0}},
        "cost": {"wall_s": wall},
        "environment": {"device": "cpu"},
        "finished": datetime.now(UTC).isoformat(),
    }
    return store.write(folder, record)


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


@pytest.mark.parametrize("adopt", [False, True])
def test_a_record_of_another_spec_is_made_again_even_where_code_is_adopted(planned, adopt):
    write_record(planned.folder, a_run())
    assert "1 runs, 0 to do" in planned([a_run()], adopt, dry_run=True)[1][0]
    assert "1 runs, 1 to do" in planned([a_run(rate=2)], adopt, dry_run=True)[1][0]


def test_a_record_that_answers_another_spec_is_not_shown_as_the_planned_run(planned):
    """Until the run is made again, tables must not show the old configuration's number under its name."""
    write_record(planned.folder, a_run())
    planned([a_run(rate=2)], only="nothing")
    assert read_index(planned.folder)[a_run().id]["status"] != "done"
    assert read(planned.folder) == []


def test_a_damaged_record_stops_the_sweep_with_its_name(planned):
    write_record(planned.folder, a_run()).write_text("{")
    with pytest.raises(ConfigError, match=r"seed0\.json is not a record"):
        planned([a_run()], dry_run=True)


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
    like, other = a_run(7, 100.0, dataset="a", epochs=3), a_run(8, 100.0, dataset="a", epochs=4)
    assert sweep.estimates([like, other], tmp_path) == {like.id: 5.0, other.id: 100.0}


def test_a_record_that_was_deleted_after_the_sweep_is_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "repository", lambda: tmp_path)
    folder = sweep.runs_folder("toy", "tiny")
    paths = [write_record(folder, a_run(seed)) for seed in (0, 1)]
    assert sweep.missing_records("toy", "tiny") == []
    store.write_index(folder, [a_run(seed).id for seed in (0, 1, 2)])
    assert sweep.missing_records("toy", "tiny") == []
    paths[1].unlink()
    assert sweep.missing_records("toy", "tiny") == [a_run(1).id]


def test_runs_that_lacked_their_dataset_are_due_when_it_is_there(tmp_path, monkeypatch):
    runs = [a_run(seed, dataset=name) for seed, name in enumerate(("photos", "photos", "cells"))]
    monkeypatch.setattr(sweep, "repository", lambda: tmp_path)
    monkeypatch.setattr(sweep, "plan", lambda paper, tier: runs)
    folder = sweep.runs_folder("toy", "tiny")
    assert sweep.runs_to_try_again("toy", "tiny", {"photos"}) == []
    store.write_index(folder, [run.id for run in runs], tried={run.id: "not here" for run in runs[1:]})
    assert sweep.runs_to_try_again("toy", "tiny", set()) == []
    assert sweep.runs_to_try_again("toy", "tiny", {"photos"}) == [runs[1].id]
    write_record(folder, runs[1])
    store.write_index(folder, [run.id for run in runs])
    assert sweep.runs_to_try_again("toy", "tiny", {"photos"}) == []


def test_the_outlook_leaves_out_what_lacked_its_dataset_the_last_time(tmp_path, monkeypatch):
    (tmp_path / "papers" / "toy").mkdir(parents=True)
    (tmp_path / "papers" / "toy" / "claims.yaml").touch()
    runs = [a_run(seed, seconds=100.0) for seed in range(3)]
    monkeypatch.setattr(sweep, "repository", lambda: tmp_path)
    monkeypatch.setattr(sweep, "code_hash", lambda module: "new")
    monkeypatch.setattr(sweep, "plan", lambda paper, tier: runs)
    tier, folder = Tier("tiny", "a test", "cpu", 1, False), sweep.runs_folder("toy", "tiny")
    assert sweep.outlook(tier) == "5 min for 3 runs, 1 at once on cpu"
    store.write_index(folder, [run.id for run in runs], tried={run.id: "not here" for run in runs[1:]})
    lacking = "; 2 runs lack what they need, their index.csv says why"
    assert sweep.outlook(tier) == f"2 min for 1 runs, 1 at once on cpu{lacking}"
    write_record(folder, runs[0])
    assert sweep.outlook(tier) == f"nothing to train{lacking}"


@pytest.mark.parametrize("name", ["LLP_DATA", "LLP_MIRROR"])
def test_a_reason_names_no_folder_of_this_machine(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, str(tmp_path))
    error = ValueError(f"x is not in {tmp_path}/x nor\n {sweep.repository()}/data")
    assert workers.reason(error) == f"x is not in ${name}/x nor ./data"
    monkeypatch.setenv(name, "data")
    assert workers.reason(ValueError("shared.datasets")) == "shared.datasets"


def test_progress_counts_what_is_left_by_how_wrong_estimates_were():
    progress = sweep.Progress(4, [10.0, 10.0])
    assert progress.left([(10.0, 0.5)], 1) == 25.0
    progress.seconds.append((10.0, 20.0))
    progress.done = 1
    assert progress.left([(10.0, 0.5)], 2) == 25.0
    assert progress.line("x", [], 1) == "[1/4] x  ~40 s left"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("9m", 540), ("1.5h", 5400), (" 2h ", 7200), ("0.5s", 0.5)]
)
def test_a_duration_is_read(text, seconds):
    assert sweep.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "9 m", "-9m", "9d", "1h30m", "1e3"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a duration; write 90s, 9m or 1.5h"):
        sweep.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (540, "9 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_a_duration_is_said(seconds, text):
    assert sweep.duration(seconds) == text


@pytest.mark.parametrize(
    ("device", "at_once", "hand"),
    [
        ("cpu", "cores", Hand("cpu", 6, 6)),
        ("cpu", "auto", Hand("cpu", 6, 6)),
        ("cpu", 3, Hand("cpu", 3, 3)),
        ("cpu", "20", Hand("cpu", 20, 20)),
        ("cuda", "auto", Hand("cuda", 1, 6)),
        ("cuda:1", "auto", Hand("cuda:1", 1, 6)),
        ("cuda", "cores", Hand("cuda", 6, 6)),
        ("cuda", 2, Hand("cuda", 2, 2)),
    ],
)
def test_how_many_run_at_once(device, at_once, hand):
    assert Hand.of(device, at_once, cores=6) == hand


@pytest.mark.parametrize(("memory", "hand"), [(None, Hand("cpu", 4, 4)), ((1.0, 2.0), Hand("cuda", 1, 4))])
def test_auto_takes_the_card_where_there_is_one(monkeypatch, memory, hand):
    monkeypatch.setattr(workers, "_gpu_memory", lambda: memory)
    assert Hand.of("auto", "auto", cores=4) == hand


def test_on_a_card_auto_stops_at_eight_and_a_hidden_card_is_none(monkeypatch):
    assert Hand.of("cuda", "auto", cores=64).limit == 8
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Hand.of("auto", "auto", cores=4).device == "cpu"


def test_all_the_cores_this_process_may_use_unless_told():
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert Hand.of("cpu", "cores").at_once == mine


@pytest.mark.parametrize("at_once", ["0", "-1", "many", "1.5", ""])
def test_a_number_of_runs_that_cannot_be_is_refused(at_once):
    with pytest.raises(ConfigError, match="runs at once must be a number above 0, cores or auto, not"):
        Hand.of("cpu", at_once)


def test_a_hand_says_what_it_may_grow_to():
    assert str(Hand("cpu", 2, 2)) == "2 at once on cpu"
    assert str(Hand("cuda", 1, 8)) == "1 at once on cuda, up to 8 if that pays"


def pool(hand=None, folder=Path("nowhere")):
    return Pool("toy", hand or Hand("cuda", 1, 8), "code", folder, folder, None)


class TestAdapt:
    """How many go at once where the pace at each number is known."""

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch):
        self.now, self.fits = 0.0, True
        monkeypatch.setattr(workers, "time", SimpleNamespace(time=lambda: self.now))
        monkeypatch.setattr(workers, "_fits_one_more", lambda size: self.fits)

    def sizes(self, pace, pool, periods, more=True):
        """The sizes after each period of 30 s, `pace` being {size: declared seconds of work a second}."""
        found = []
        for _ in range(periods):
            self.now += 30.0
            pool.advance += 30.0 * pace[pool.size]
            pool.adapt(more, lambda line: None)
            found.append(pool.size)
        return found

    def test_it_grows_while_that_pays_and_takes_back_the_one_too_many(self):
        assert self.sizes({1: 1.0, 2: 1.8, 3: 2.4, 4: 2.5}, pool(), 6) == [2, 3, 4, 3, 3, 3]

    def test_it_stops_at_its_limit(self):
        assert self.sizes({1: 1.0, 2: 2.0, 3: 3.0}, pool(Hand("cuda", 1, 3)), 5) == [2, 3, 3, 3, 3]

    def test_the_last_one_is_taken_back_too_where_it_does_not_pay(self):
        assert self.sizes({1: 1.0, 2: 0.9}, pool(Hand("cuda", 1, 2)), 4)[1:] == [1, 1, 1]

    def test_it_does_not_grow_beyond_the_memory(self):
        self.fits = False
        assert self.sizes({1: 1.0}, pool(), 3) == [1, 1, 1]

    def test_a_number_a_person_named_is_kept(self):
        assert self.sizes({2: 1.0}, pool(Hand("cuda", 2, 2)), 3) == [2, 2, 2]

    def test_nothing_changes_when_all_runs_have_started(self):
        assert self.sizes({1: 1.0}, pool(), 3, more=False) == [1, 1, 1]

    def test_nothing_changes_before_a_number_was_measured(self):
        it = pool()
        for _ in range(29):
            self.now += 1.0
            it.adapt(True, lambda line: None)
        assert it.size == 1


class Dead:
    """A process that is no more."""

    exitcode = -9

    def join(self, timeout=None):
        pass

    terminate = join


def worker(process=None):
    ours, theirs = Pipe()
    return workers._Worker(process or Dead(), ours), theirs


def test_a_worker_that_died_between_two_runs_is_replaced(tmp_path, monkeypatch):
    it = pool(folder=tmp_path)
    dead, gone = worker()
    gone.close()
    it.workers.append(dead)
    fresh, theirs = worker()

    def spawn():
        it.workers.append(fresh)
        return fresh

    monkeypatch.setattr(it, "_spawn", spawn)
    it.start(a_run())
    assert theirs.recv() == a_run() and list(it.running()) == [a_run().id] and dead not in it.workers


@pytest.mark.parametrize("read", [True, False], ids=["after it took the run", "before it took the run"])
def test_a_worker_that_dies_fails_its_run_whenever_it_dies(tmp_path, read):
    it = pool(folder=tmp_path)
    busy, theirs = worker()
    it.workers.append(busy)
    it.start(a_run())
    if read:
        theirs.recv()
    theirs.close()
    (event,) = it.wait(5)
    assert (event.kind, event.run_id) == ("failed", a_run().id)
    assert "exit code -9" in record_path(tmp_path, a_run().id).with_suffix(".log").read_text()
    assert it.workers == [] and it.running() == {}


@pytest.mark.parametrize("kind", ["failed", "paused"])
def test_work_that_was_not_done_is_no_pace(tmp_path, kind):
    """Else a second run that fails for lack of memory looks like the best that ever happened, and a third is tried."""
    it = pool(folder=tmp_path)
    busy, theirs = worker()
    it.workers.append(busy)
    it.start(a_run(seconds=1000.0))
    theirs.send(Event("progress", a_run().id, "0.25"))
    it.wait(5)
    assert it.advance == 250.0 and it.running() == {a_run().id: 0.25}
    theirs.send(Event(kind, a_run().id, "log"))
    it.wait(5)
    assert it.advance == 250.0 and it.running() == {}


def test_a_finished_run_counts_in_full(tmp_path):
    it = pool(folder=tmp_path)
    busy, theirs = worker()
    it.workers.append(busy)
    it.start(a_run(seconds=1000.0))
    theirs.send(Event("done", a_run().id))
    it.wait(5)
    assert it.advance == 1000.0 and it.idle()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at-once", "0"], "runs at once must be a number above 0, cores or auto, not '0'"),
        (["--at-once", "several"], "not 'several'"),
        (["--tier", "huge"], "there is no tier 'huge'; there are gpu, paper, quick, smoke"),
        (["--paper", "rott"], "there is no paper 'rott': papers/rott/plan.py does not exist"),
        (["--time-budget", "soon"], "'soon' is not a duration; write 90s, 9m or 1.5h"),
        (["--only", "rot/["], "rot/["),
        (["--cores", "-1"], "-1"),
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


def test_a_budget_of_no_time_runs_nothing(planned, monkeypatch):
    monkeypatch.setattr(Pool, "start", lambda self, run: pytest.fail(f"{run.id} was started"))
    assert planned([a_run()], budget=0.0)[1][-1].startswith("out of time: 0 done, 0 paused")


def test_the_smoke_tier_of_rot_is_listed_in_the_order_of_its_plan(tmp_path, capsys):
    folder = tmp_path / "runs"
    assert sweep.main(["--paper", "rot", "--tier", "smoke", "--records", str(folder), "--dry-run"]) == 0
    listed = re.findall(r"^  (\S+)  ~", capsys.readouterr().err, re.M)
    assert listed == [run.id for run in sweep.plan("rot", "smoke")] and not folder.exists()
