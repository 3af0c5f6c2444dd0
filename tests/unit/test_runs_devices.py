"""A sweep on several pretend GPUs: workers are threads that know their device by its token alone; nothing is CUDA."""

import multiprocessing
import os
import threading
import time
from collections import Counter
from multiprocessing import connection
from types import SimpleNamespace

import pytest

from shared.config.devices import Seen
from shared.runs import faults, machine, workers
from shared.runs.drive import Progress, drive
from shared.runs.lanes import Hand
from shared.runs.workers import Home, Pool
from tests.conftest import a_run

ECC = "CUDA error: uncorrectable ECC error encountered"
ILLEGAL = "CUDA error: an illegal memory access was encountered"
mine = threading.local()


class Thread:
    """What a worker's process is to a pool, with the variables of the environment that it was started with."""

    exitcode = 0

    def __init__(self, target, args, daemon):
        self.started = threading.Event()
        args = (connection.Connection(os.dup(args[0].fileno())), *args[1:])  # the pool closes its own
        self.thread = threading.Thread(target=self.life, args=(target, args), daemon=daemon)

    def life(self, target, args):
        mine.token, mine.device = os.environ["CUDA_VISIBLE_DEVICES"], args[2]
        self.started.set()
        target(*args)

    def start(self):
        self.thread.start()
        self.started.wait()

    def join(self, timeout=None):
        self.thread.join(timeout)

    terminate = join


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """sweep(runs, train(run id, token), cards, each, limit) -> (progress, lines); sweep.seen = [(token, run id)]."""

    def call(runs, train, cards=3, each=1, limit=None):
        monkeypatch.setattr(machine, "seen", lambda: Seen(tuple(f"GPU-{'abcdefgh'[i]}" for i in range(cards))))
        hand = Hand(tuple(f"cuda:{i}" for i in range(cards)), each, limit or each)
        call.seen, call.most, now, lock = [], Counter(), Counter(), threading.Lock()

        def trained(run, home, device, deadline, send):
            with lock:
                call.seen.append((mine.token, run.id))
                now[mine.token] += 1
                call.most[mine.token] = max(call.most[mine.token], now[mine.token])
            try:
                assert (device, mine.device) == ("cuda", "cuda"), "a process that sees one device alone calls it cuda"
                time.sleep(0.01)
                train(run.id, mine.token)
                return SimpleNamespace(says="100 %")
            finally:
                with lock:
                    now[mine.token] -= 1

        monkeypatch.setattr(workers, "_train", trained)
        monkeypatch.setattr(workers, "record_of", lambda run, code, wall, result: run)
        monkeypatch.setattr(workers.store, "write_record", lambda folder, record: None)
        monkeypatch.setattr(workers, "_note", lambda work, record: None)
        lines, progress = [], Progress({run.id: run.seconds for run in runs})
        with Pool({"toy": Home("code", tmp_path / "runs", tmp_path / "work")}, hand, None) as pool:
            pool.context = SimpleNamespace(Pipe=multiprocessing.Pipe, Process=Thread)
            drive(pool, runs, progress, None, lines.append)
        call.pool, call.logs = pool, sorted((tmp_path / "runs").rglob("*.log"))
        return progress, lines

    return call


def runs(n):
    return [a_run(seed) for seed in range(n)]


def test_runs_go_to_all_devices_and_never_two_to_one(sweep):
    progress, _ = sweep(runs(12), lambda run, token: None)
    assert progress.done == 12 and sweep.most == {"GPU-a": 1, "GPU-b": 1, "GPU-c": 1}
    assert len({run for _, run in sweep.seen}) == 12


def test_two_go_to_one_only_where_that_was_asked_for(sweep):
    together = threading.Barrier(4, timeout=300)
    progress, _ = sweep(runs(4), lambda run, token: together.wait(), cards=2, each=2)
    assert progress.done == 4 and sweep.most == {"GPU-a": 2, "GPU-b": 2}


def test_a_device_that_fails_is_left_out_and_said_and_its_run_is_dealt_again(sweep):
    """One GPU that fell off the bus failed, one after the other, every run that was dealt to it."""

    def train(run, token):
        if token == "GPU-b":
            raise RuntimeError(ECC)

    progress, lines = sweep(runs(9), train)
    assert (progress.done, progress.failed, sweep.logs) == (9, 0, [])
    assert [token for token, _ in sweep.seen].count("GPU-b") == 1
    assert any("cuda:1 failed it: queued again" in line for line in lines)
    assert f"cuda:1 is left out, 2 at once from now on: RuntimeError: {ECC}" in lines


def test_where_no_device_is_left_the_rest_counts_as_failed(sweep):
    def train(run, token):
        raise RuntimeError(ECC)

    progress, lines = sweep(runs(5), train, cards=2)
    assert (progress.done, progress.failed) == (0, 5)
    assert lines[-1] == "no device is left that takes runs: 4 were not begun"
    assert {line[:17] for line in lines if "left out" in line} == {"cuda:0 is left ou", "cuda:1 is left ou"}
    assert any(ECC in log.read_text() for log in sweep.logs)


def test_an_error_of_the_run_itself_leaves_no_device_out(sweep):
    """A run that reads beyond an array ends with an error of CUDA wherever it goes; it is tried twice, not more."""

    def train(run, token):
        if int(run[-1]) % 2:
            raise RuntimeError(ILLEGAL)

    progress, _ = sweep(runs(8), train)
    assert (progress.done, progress.failed) == (4, 4)
    tried = Counter(run for _, run in sweep.seen)
    assert {tried[a_run(seed).id] for seed in (1, 3, 5, 7)} == {2}
    for seed in (1, 3, 5, 7):
        assert len({token for token, run in sweep.seen if run == a_run(seed).id}) == 2, "both times on one device"
    assert not any(lane.left_out for lane in sweep.pool.lanes)
    assert [log.name for log in sweep.logs] == [f"seed{seed}.log" for seed in (1, 3, 5, 7)]


def test_a_device_that_fails_what_goes_well_elsewhere_is_left_out(sweep):
    def train(run, token):
        if token == "GPU-a":
            raise RuntimeError(ILLEGAL)

    progress, lines = sweep(runs(20), train)
    assert (progress.done, progress.failed) == (20, 0)
    assert [token for token, _ in sweep.seen].count("GPU-a") < 6
    why = "2 runs in a row failed there and went well elsewhere"
    assert f"cuda:0 is left out, 2 at once from now on: {why}" in lines


def test_after_an_error_of_cuda_a_new_process_goes_on(sweep):
    """A process can use its device no more, and would fail every run that follows."""
    broken = set()

    def train(run, token):
        assert threading.current_thread() not in broken, "the same process was used again"
        if run == a_run(0).id and not broken:
            broken.add(threading.current_thread())
            raise RuntimeError(ILLEGAL)
        time.sleep(0.02)

    progress, _ = sweep(runs(4), train, cards=1)
    assert (progress.done, progress.failed) == (4, 0)


def test_want_of_memory_on_one_device_narrows_that_one(sweep):
    together = threading.Barrier(4, timeout=300)
    first = {run.id for run in runs(4)}

    def train(run, token):
        if run in first and len(sweep.seen) <= 4:
            together.wait()
            first.discard(run)
            if token == "GPU-a":
                raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    progress, lines = sweep(runs(8), train, cards=2, each=2)
    assert (progress.done, progress.failed) == (8, 0)
    assert [lane.size for lane in sweep.pool.lanes] == [1, 2]
    assert any("ran out of memory: queued again, 3 at once from now on" in line for line in lines)


def test_want_of_the_machines_memory_narrows_all_devices_together(tmp_path):
    """Two runs on two GPUs share the machine's memory; the one that was killed for it is no failure."""
    pool = Pool({"toy": Home("code", tmp_path, tmp_path)}, Hand(("cuda:0", "cuda:1"), 1, 1), None)
    killed = SimpleNamespace(join=lambda timeout=None: None, exitcode=-9)
    ends = []
    for lane, run in zip(pool.lanes, runs(2), strict=True):
        ours, theirs = multiprocessing.Pipe()
        pool.workers.append(workers._Worker(killed, ours, lane))
        ends.append(theirs)
        assert pool.place(run) is lane
        pool.start(run)
    ends[1].close()
    (event,) = pool.wait(5)
    assert (event.kind, event.run_id, pool.size) == ("starved", a_run(1).id, 1)
    assert pool.place(a_run(1)) is None, "the other run goes on alone"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory", "starved"),
        (f"torch.AcceleratorError: {ECC}", "lost"),
        ("RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable", "lost"),
        ("RuntimeError: CUDA error: no kernel image is available for execution on the device", "lost"),
        ("ConfigError: device 'cuda' was asked for, but torch sees no CUDA device here", "lost"),
        (f"torch.AcceleratorError: {ILLEGAL}", "broken"),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "broken"),
        ("ValueError: 3 classes", "failed"),
    ],
)
def test_a_traceback_tells_whose_fault_it_is(said, kind):
    assert faults.fault_of(said) == kind
    assert faults.fault_of(said, "cpu") == ("starved" if kind == "starved" else "failed")


def test_a_worker_of_a_named_device_sees_it_alone(monkeypatch):
    monkeypatch.setattr(machine, "seen", lambda: Seen(("3", "MIG-x")))
    assert machine.alone("cuda:1") == {"CUDA_VISIBLE_DEVICES": "MIG-x"}
    assert machine.alone("cuda") == machine.alone("cpu") == {}
