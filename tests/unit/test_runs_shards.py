"""Shards: whole stages, even loads, the same parts for every job, and one index of what all of them made."""

import argparse
from itertools import pairwise

import pytest

from shared.config import Run, Tier, papers_of, plan
from shared.config.spec import Section, Sections, Spec
from shared.files import write_text
from shared.records import read_index, read_records, record_path, store
from shared.runs import sweep
from shared.runs.drive import Progress, drive
from shared.runs.shards import SLACK, deal, parse_shard, stages_of
from shared.runs.workers import Event
from tests.conftest import APool, a_run, write_record

LAYOUT = Sections("toy", (Section("first", ("teacher",), (), "teacher"), Section("second", ("student",))))


def student(teacher, number, seconds=1.0):
    spec = Spec(LAYOUT, {"teacher": teacher, "student": number})
    return Run(f"toy/{teacher}/{number}/seed0", "m", spec, seconds)


def loads(shards):
    return [sum(run.seconds for run in shard) for shard in shards]


CASES = [(paper, tier) for tier in ("smoke", "gpu", "paper") for paper in papers_of(tier)]


@pytest.mark.parametrize(("paper", "tier"), CASES)
def test_every_run_is_in_one_shard_and_no_stage_in_two(paper, tier):
    """What two jobs both train costs a GPU the time of a job, and what none has is a hole in the tables."""
    runs = plan(paper, tier)
    shards = deal(runs, 7)
    assert sorted(run.id for shard in shards for run in shard) == sorted(run.id for run in runs)
    place = {run.id: n for n, run in enumerate(runs)}
    assert all(place[a.id] < place[b.id] for shard in shards for a, b in pairwise(shard)), "the order of the plan"
    keys = [{key for run in shard for key in stages_of(run)} for shard in shards]
    assert sum(map(len, keys)) == len(set().union(*keys))


@pytest.mark.parametrize(("paper", "tier"), [case for case in CASES if case[1] != "smoke"])
def test_shards_take_as_long_as_each_other(paper, tier):
    """The longest of a tier's four is no more than a tenth above the mean: no GPU waits a day for the last one."""
    runs = plan(paper, tier)
    assert max(loads(deal(runs, 4))) <= SLACK * sum(run.seconds for run in runs) / 4 + 1e-6


def test_a_group_that_is_longer_than_a_shard_has_one_to_itself():
    shards = deal([student("long", n, 10.0) for n in range(5)] + [student(n, 0) for n in range(12)], 4)
    assert sorted(loads(shards)) == [4.0, 4.0, 4.0, 50.0]


def test_added_runs_move_few_others():
    """Where a run goes decides which log tells of it, and a shard that is as it was has nothing to train."""
    runs = plan("plot", "gpu")
    before = {run.id: n for n, shard in enumerate(deal(runs, 4)) for run in shard}
    fewer = [run for n, run in enumerate(runs) if n % 20]
    after = {run.id: n for n, shard in enumerate(deal(fewer, 4)) for run in shard}
    assert sum(before[run_id] != n for run_id, n in after.items()) < 0.15 * len(after)


def test_shards_are_the_same_whatever_is_recorded():
    """Jobs begin at different times: a deal by what is left would leave runs to nobody and train others twice."""
    runs = [student(n // 3, n % 3, 1.0 + n) for n in range(30)]
    assert deal(runs, 3) == deal(list(runs), 3)
    assert deal(runs, 1) == [runs] and [] in deal(runs[:3], 4)


@pytest.mark.parametrize("text", ["", "0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2"])
def test_what_is_no_shard_is_refused(text):
    assert parse_shard("2/4") == (2, 4)
    with pytest.raises(argparse.ArgumentTypeError, match="is not a shard; write 1/4 to 4/4"):
        parse_shard(text)


def test_two_that_share_a_stage_do_not_go_at_once_where_others_wait():
    """Both would train it, side by side."""

    class Pair(APool):
        def wait(self):
            return [Event("done", self.going.pop(0).id, "", 1.0)]

    runs = [student(teacher, n) for teacher in "ab" for n in range(2)]
    others = [student(teacher, n) for teacher in "cd" for n in range(2)]
    pool, progress = Pair(2), Progress({run.id: 1.0 for run in runs + others})
    drive(pool, runs, progress, None, lambda line: None)
    assert pool.begun == [runs[n] for n in (0, 2, 1, 3)] and progress.done == 4
    # As `make verify` goes on to the next paper, with what it has counted so far.
    assert progress.pending == [run.id for run in others]
    drive(pool, others, progress, None, lambda line: None)
    assert progress.done == 8 and progress.pending == []


@pytest.fixture
def house(tmp_path, monkeypatch):
    """house(shard or None, again) -> lines of a sweep of ten runs whose training is to write a record; house.made."""
    runs = [a_run(seed) for seed in range(10)]
    monkeypatch.setattr(sweep, "repository", lambda: tmp_path)
    monkeypatch.setattr(sweep, "code_hash", lambda module: "new")
    monkeypatch.setattr(sweep, "plan", lambda paper, tier: list(runs))

    def train(pool, todo, progress, deadline, say, end=None):
        for n, run in enumerate(todo):
            if n == call.dies_after:
                raise KeyboardInterrupt
            if run.id in call.lacking:
                progress.tried[run.id] = call.lacking[run.id]
                continue
            write_record(call.folder, run, wall=float(len(call.made)))
            progress.made.append(run.id)
            call.made.append(run.id)
            if n == call.killed_after:
                raise SystemExit

    monkeypatch.setattr(sweep, "drive", train)
    write_index = store.write_index

    def call(shard=None, again=False, only=None):
        lines = []
        tier = Tier("tiny", "a test", "cpu", 1)
        sweep.sweep("toy", tier, call.folder, shard=shard, again=again, only=only, say=lines.append)
        return lines

    def killed(*arguments, **more):
        """A sweep that ends at once after its second record, and writes no index at the end."""
        call.killed_after = 1
        with monkeypatch.context() as patch:
            written = []

            def first_only(*a, **k):
                written.append(1)
                return write_index(*a, **k) if len(written) == 1 else {}

            patch.setattr(store, "write_index", first_only)
            with pytest.raises(SystemExit):
                call(*arguments, **more)
        call.killed_after = None

    call.folder, call.runs = sweep.runs_folder("toy", "tiny"), runs
    call.made, call.lacking, call.dies_after, call.killed_after, call.killed = [], {}, None, None, killed
    call.statuses = lambda: {run_id: row["status"] for run_id, row in (read_index(call.folder) or {}).items()}
    call.shards = lambda: list(sweep.shard_folders("toy", "tiny", call.folder).rglob("index.csv"))
    return call


def gather(house):
    return house(only=sweep.NOTHING)


def test_shards_make_every_record_once_and_the_gathering_writes_their_index(house):
    for n in (1, 2, 3):
        assert f"toy, tier tiny, shard {n} of 3: " in house((n, 3))[0]
        assert not (house.folder / "index.csv").exists()
    assert sorted(house.made) == sorted(run.id for run in house.runs)
    gather(house)
    assert set(house.statuses().values()) == {"done"} and len(read_records(house.folder)) == 10
    assert all(row["sha256"] for row in read_index(house.folder).values())
    house()
    assert len(house.made) == 10, "a sweep after it has nothing to do"


def test_a_shard_that_was_killed_goes_on_and_its_records_are_believed(house):
    """All had records before, of which the index knows the sha256; what a killed job has written differs from these."""
    house()
    house((1, 2), again=True)
    house.killed((2, 2), again=True)
    n = len(house.made)
    assert f"{len(deal(house.runs, 2)[1])} runs, 0 to do" in house((2, 2))[0] and len(house.made) == n
    gather(house)
    assert set(house.statuses().values()) == {"done"} and len(read_records(house.folder)) == 10


def test_what_shards_of_another_number_train_again_is_believed(house):
    """The rows of the four are of the records before, which nobody has gathered."""
    for n in (1, 2, 3, 4):
        house((n, 4))
    for n in (1, 2):
        house((n, 2), again=True)
    assert not any("changed by hand" in line for n in (1, 2) for line in house((n, 2))) and len(house.made) == 20
    gather(house)
    assert set(house.statuses().values()) == {"done"} and len(read_records(house.folder)) == 10


def test_what_a_killed_sweep_trains_again_after_shards_is_believed(house, monkeypatch):
    for n in (1, 2):
        house((n, 2))
    with monkeypatch.context() as patch:
        patch.setattr(sweep.Part, "finish", lambda self, progress: {})  # by SIGKILL, which leaves no end
        house.killed(again=True)
    assert len(house.made) == 12
    assert not any("changed by hand" in line for line in house()) and len(house.made) == 12
    assert set(house.statuses().values()) == {"done"} and len(read_records(house.folder)) == 10


def test_records_that_git_brings_before_shards_are_gathered_are_believed(house):
    """They come with an index of their own; the rows of the shards are of the records they replaced."""
    for n in (1, 2):
        house((n, 2))
    waiting = {path: path.read_text() for path in house.shards()}
    house(again=True)
    for path, rows in waiting.items():
        write_text(path, rows)
    assert not any("changed by hand" in line for line in house()) and len(house.made) == 20
    assert set(house.statuses().values()) == {"done"} and len(read_records(house.folder)) == 10


def test_a_record_changed_by_hand_in_a_shard_stays_unbelieved(house):
    for n in (1, 2):
        house((n, 2))
    path = record_path(house.folder, house.runs[3].id)
    write_text(path, path.read_text().replace('"finished": "2', '"finished": "3'))
    gather(house)
    assert house.statuses()[house.runs[3].id] == "changed"


def test_reasons_and_failures_of_shards_are_in_the_index(house):
    house.lacking = {house.runs[0].id: "no photos"}
    for n in (1, 2):
        house((n, 2))
    log = record_path(house.folder, house.runs[5].id).with_suffix(".log")
    write_text(log, "ValueError")
    gather(house)
    row = read_index(house.folder)[house.runs[0].id]
    assert (row["status"], row["why"]) == ("missing", "no photos")
    assert house.statuses()[house.runs[5].id] == "failed"


def test_shards_of_another_number_are_gathered_all_the_same(house):
    """Somebody stops four jobs and begins two: nothing is trained twice."""
    house((1, 4))
    house((2, 4))
    for n in (1, 2):
        house((n, 2))
    gather(house)
    assert len(house.made) == 10 and set(house.statuses().values()) == {"done"}
    assert not house.shards()
