"""What failures cost: memory too small for several runs, an index that Snakemake removes, data that are damaged."""

import errno
import os
import subprocess
import sys
import threading
from multiprocessing import Pipe
from pathlib import Path

import pytest

from shared import files
from shared.comparison.report import compare
from shared.config import ConfigError, Tier, papers, plan
from shared.files import write_text
from shared.records import read_index, record_path, store
from shared.runs import status, sweep, workers
from shared.runs.faults import fault_of
from shared.runs.lanes import Hand
from shared.runs.workers import Event, Home, Pool
from tests.conftest import APool, a_run, write_record


class Dead:
    """A process that is no more."""

    exitcode = -9

    def join(self, timeout=None):
        pass

    terminate = join


class TestMemory:
    """Runs that do not fit beside each other are made one after the other; one that does not fit alone has failed."""

    @pytest.fixture(autouse=True)
    def workers(self, tmp_path, monkeypatch):
        self.pool, self.ends = Pool({"toy": Home("code", tmp_path, tmp_path)}, Hand(("cuda",), 3, 3), None), {}

        def spawn(lane):
            ours, self.theirs = Pipe()
            self.pool.workers.append(workers._Worker(Dead(), ours, lane))
            return self.pool.workers[-1]

        monkeypatch.setattr(self.pool, "_spawn", spawn)

    def start(self, *seeds):
        for seed in seeds:
            self.pool.workers = [worker for worker in self.pool.workers if worker.run]  # a new process for each
            self.pool.start(a_run(seed))
            self.ends[seed] = self.theirs

    def end(self, *seeds, kind="starved", dies=False):
        for seed in seeds:
            self.ends[seed].close() if dies else self.ends[seed].send(Event(kind, a_run(seed).id, "log"))
        return sorted((event.kind, event.run_id) for event in self.pool.wait(5))

    @pytest.mark.parametrize("dies", [False, True], ids=["it raised", "it was killed"])
    def test_one_fewer_go_at_once_down_to_one_and_then_it_has_failed(self, dies):
        self.start(0, 1, 2)
        for left in (2, 1):
            assert self.end(0, dies=dies) == [("starved", a_run(0).id)] and self.pool.size == left
            assert len(self.pool.running()) == left, "others go on"
            self.end(left, kind="done")
            self.start(0)
        assert self.end(0, dies=dies) == [("failed", a_run(0).id)] and self.pool.size == 1

    def test_two_that_starve_each_other_at_the_same_time_are_both_tried_again(self):
        self.start(0, 1)
        assert self.end(0, 1) == [("starved", a_run(0).id), ("starved", a_run(1).id)] and self.pool.size == 1

    def test_one_that_starves_after_its_neighbour_has_ended_was_not_alone(self):
        self.start(0, 1)
        self.end(1, kind="done")
        assert self.end(0) == [("starved", a_run(0).id)]

    def test_its_process_which_keeps_memory_takes_no_other_run(self):
        self.start(0, 1)
        self.end(0)
        assert [worker.run.id for worker in self.pool.workers] == [a_run(1).id]
        assert self.ends[0].recv() == a_run(0)
        with pytest.raises(EOFError):
            self.ends[0].recv()


def test_a_run_that_starved_is_dealt_again_before_the_rest_and_counted_once():
    said, runs = [], [a_run(seed) for seed in range(3)]

    class TwoThenOne(APool):
        """Two at once, of which the first starves once."""

        def wait(self):
            run = self.going.pop(0)
            kind = "starved" if self.begun.count(runs[0]) == 1 and run is runs[0] else "done"
            self.size = 1 if kind == "starved" else self.size
            return [Event(kind, run.id, "ran out of memory: queued again, 1 at once from now on", 1.0)]

    pool = TwoThenOne(2)
    progress = sweep.Progress({run.id: 1.0 for run in runs})
    sweep.drive(pool, runs, progress, None, said.append)
    assert pool.begun == [runs[n] for n in (0, 1, 0, 2)]
    assert (progress.done, progress.failed, progress.pending) == (3, 0, [])
    assert f"{runs[0].id}  ran out of memory: queued again, 1 at once from now on" in said


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_where_no_record_can_be_written_nothing_more_is_trained(tmp_path, monkeypatch, number):
    """A sweep went on for hours on a full disk."""
    kept = tmp_path / f"{a_run(0).id}.pt"
    kept.parent.mkdir(parents=True)
    kept.touch()

    def full(folder, record):
        raise OSError(number, os.strerror(number), str(tmp_path / "seed0.json"))

    monkeypatch.setattr(workers, "_train", lambda *_: "a result")
    monkeypatch.setattr(workers, "record_of", lambda *_: {})
    monkeypatch.setattr(workers.store, "write_record", full)
    ours, theirs = Pipe()
    ours.send(a_run(0))
    homes = {"toy": Home("code", tmp_path, tmp_path)}
    worker = threading.Thread(target=workers._work, args=(theirs, homes, "cpu", None))
    worker.start()
    event = ours.recv()
    ours.close()
    worker.join(10)
    assert event.kind == "full" and f"seed0.json: {os.strerror(number)}; make " in event.text
    assert kept.exists(), "what was trained is lost with its record"

    class One(APool):
        """A pool whose only worker finds no room."""

        def wait(self):
            return [event]

    pool = One(1)
    runs = [a_run(0), a_run(1)]
    with pytest.raises(ConfigError, match="make .*, what was finished is recorded"):
        sweep.drive(pool, runs, sweep.Progress({run.id: 1.0 for run in runs}), None, print)
    assert pool.begun == runs[:1], "another run was begun"


@pytest.mark.parametrize(
    "said",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: [enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        "RuntimeError: DefaultCPUAllocator: not enough memory",
        "MemoryError",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 EiB",
        "OSError: [Errno 12] Cannot allocate memory",
    ],
)
def test_that_memory_ran_out_is_known_by_any_librarys_words(said):
    assert fault_of(f"Traceback (most recent call last):\n{said}\n") == "starved"
    assert fault_of("ValueError: bag 3 is empty; see CUDA_LAUNCH_BLOCKING\n") == "failed"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (-9, "-9: it was killed, most likely by the system for want of memory"),
        (-11, "-11: it crashed in compiled code"),
        (-15, "-15: somebody, or a scheduler, ended it"),
        (1, "1: it could not start"),
        (77, "77\n"),
    ],
)
def test_a_log_explains_the_exit_code(tmp_path, monkeypatch, code, says):
    it = Pool({"toy": Home("code", tmp_path, tmp_path)}, Hand(("cpu",), 1, 1), None)
    monkeypatch.setattr(Dead, "exitcode", code)
    ours, theirs = Pipe()
    it.workers.append(workers._Worker(Dead(), ours, it.lanes[0]))
    it.start(a_run())
    theirs.close()
    (event,) = it.wait(5)
    assert event.kind == "failed" and f"the process died with exit code {says}" in Path(event.text).read_text()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of records of a paper in a repository of its own, whose plan is two runs, both recorded."""
    for module in (sweep, status):
        monkeypatch.setattr(module, "repository", lambda: tmp_path)
    monkeypatch.setattr(sweep, "code_hash", lambda module: "new")
    monkeypatch.setattr(sweep, "plan", lambda paper, tier: [a_run(0), a_run(1)])
    folder = sweep.runs_folder("toy", "tiny")
    for seed in (0, 1):
        write_record(folder, a_run(seed))
    store.write_index(folder, [a_run(0).id, a_run(1).id])
    return folder


TIER = Tier("tiny", "a test", "cpu", 1, False)


def test_the_index_that_snakemake_removes_is_kept_and_checked_against(home, tmp_path):
    """Else a record changed by hand, which makes Snakemake train, would be taken as it is for want of an index."""
    kept, path = tmp_path / sweep.CHECKPOINTS / "tiny" / "toy", record_path(home, a_run(0).id)
    sweep.keep_index("toy", "tiny")
    path.write_text(path.read_text().replace('"finished": "2', '"finished": "3'))
    for _ in range(2):
        (home / store.INDEX).unlink()
        assert sweep.index_folder("toy", "tiny", home) == kept
        lines = []
        sweep.sweep("toy", TIER, home, budget=1.0, say=lines.append)
        assert "2 runs, 1 to do" in lines[0] and "seed0.json: record changed by hand" in lines[1]
        assert read_index(home)[a_run(0).id]["status"] == "changed" and read_index(kept) == read_index(home)
    assert sweep.index_folder("toy", "tiny", home) == home
    assert sweep.index_folder("toy", "tiny", tmp_path / "elsewhere") == tmp_path / "elsewhere"


def test_runs_whose_data_are_damaged_fail_with_that_sentence_and_others_go_on(home, monkeypatch):
    """Half an array of zeros trained under the hash of the whole one."""
    bad = a_run(2)
    monkeypatch.setattr(sweep, "plan", lambda paper, tier: [a_run(0), bad, a_run(1)])
    monkeypatch.setattr(sweep, "damaged_data", lambda runs: {bad.id: "train_x.npy is not what was prepared; fetch it"})
    lines = []
    assert sweep.sweep("toy", TIER, home, say=lines.append) == 1
    assert "FAILED, 1 runs: train_x.npy is not what was prepared; fetch it" in lines
    assert [row["status"] for row in read_index(home).values()] == ["done", "done", "failed"]
    end = status.unfinished("tiny", ["toy"])
    assert f"toy: 1 of 3 runs have no result:\n  {bad.id}: train_x.npy is not what was prepared; fetch it; log: " in end


def test_the_end_names_what_has_no_result_and_what_to_do(home):
    assert status.unfinished("tiny", ["toy"]) == ""
    ids = [a_run(seed).id for seed in range(20)]
    for seed in range(2, 19):
        write_text(record_path(home, ids[seed]).with_suffix(".log"), "spec\nTraceback\nValueError: no\n")
    store.write_index(home, ids, tried={ids[19]: "no photos"})
    lines = status.unfinished("tiny", ["toy"]).splitlines()
    assert lines[0] == "toy: 17 of 20 runs have no result:" and len(lines) == 1 + 10 + 1 + 2
    assert lines[1].startswith(f"  {sorted(ids[2:19])[0]}: ValueError: no; log: /") and lines[1].endswith(".log")
    assert lines[11].startswith("  and 7 more, see ") and "trains these runs and nothing else" in lines[-1]


@pytest.mark.parametrize("paper", papers())
def test_a_paper_all_of_whose_runs_failed_is_compared_all_the_same(paper, tmp_path):
    """One check that had failed stopped the comparison of its paper, and so the report of all."""
    for run in plan(paper, "smoke"):
        write_text(record_path(tmp_path / "smoke" / paper / "runs", run.id).with_suffix(".log"), "Traceback\n")
    found = compare(paper, "smoke", tmp_path)
    assert found.cells or found.claims


def test_what_a_killed_sweep_left_half_written_is_removed(home, tmp_path):
    """The kills of test_faults seldom meet a write: without the call at the beginning of a sweep nothing failed."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    work = tmp_path / sweep.CHECKPOINTS / "tiny" / "toy"
    left = [
        folder / f".{name}.{files._machine()}-{done.pid}.part"
        for folder, name in ((home / "deep", "seed1.json"), (work, "seed1.pt"))
    ]
    for part in left:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    sweep.sweep("toy", TIER, home, budget=1.0, say=lambda said: None)
    assert not any(part.exists() for part in left)
