"""Worker processes of a sweep: each imports torch once and trains many runs; a dead one costs one run."""

from __future__ import annotations

import csv
import functools
import importlib
import json
import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path

from shared.config import Run
from shared.datasets import portable
from shared.files import sentence_of, write_text
from shared.records import store
from shared.runs.assemble import record_of
from shared.runs.code import code_hash
from shared.runs.data import data_hash
from shared.runs.faults import ENDS, NO_ROOM, fault_of
from shared.runs.lanes import STRIKES, Hand, Lane
from shared.runs.machine import alone
from shared.runs.nursery import FORKS, Child, Nursery
from shared.runs.provenance import commit

HERE = "here.csv"  # beside checkpoints: the records that sweeps of this checkout have made
TELLS_EVERY = 0.2  # seconds between what a run says of its progress: to read it takes the pool a tenth of a millisecond
AGAIN = ("starved", "lost")  # of an event: its run is to be dealt again
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Home:
    """Where the runs of a paper go: the hash of their code, the folders of their records and of their checkpoints."""

    code: str
    folder: Path
    work: Path


@dataclass(frozen=True)
class Event:
    """Something a worker said.

    kind : progress, done, failed, paused or not run; starved (failed for want of memory beside others) or lost (its
        device failed it): to be dealt again; full: no room for its record. A worker also says broken: it failed, or its
        device.
    text : why a run was not run or is dealt again; where the log of one that failed lies; how far it is.
    memory : (used, total) megabytes of its device, where that is known.
    """

    kind: str
    run_id: str
    text: str = ""
    seconds: float = 0.0
    memory: tuple[float, float] | None = None


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess | Child
    pipe: connection.Connection
    lane: Lane
    run: Run | None = None
    fraction: float = 0.0
    since: float = 0.0
    beside: int = 0  # the most runs that went at once on its lane, itself among them, while its run went
    beside_all: int = 0  # the same on all lanes, which share the machine's memory


class Pool:
    """Workers that train runs of some papers and write their records and checkpoints to the `homes` of these.

    Each device is a lane, and a worker is on one lane for life. A run goes to the lane where fewest go. A device that
    takes no run any more is left out, and its run is dealt again.
    """

    def __init__(self, homes: Mapping[str, Home], hand: Hand, deadline: float | None):
        self.homes, self.hand, self.deadline = dict(homes), hand, deadline
        modules = [f"papers.{paper}.train" for paper in homes]
        self.context = Nursery(modules) if FORKS and hand.is_cpu else multiprocessing.get_context("spawn")
        self.lanes = [Lane(device, hand.each, hand.limit) for device in hand.devices]
        self.most = hand.limit * len(self.lanes)  # at once on all lanes; fewer where the machine's memory did not do
        self.workers: list[_Worker] = []
        self.blamed: dict[str, Lane] = {}  # {run id: the lane where it ended with a device's error}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception) -> None:
        for worker in self.workers:
            worker.pipe.close()
            worker.process.join(10) if exception[0] is None else worker.process.terminate()
        if isinstance(self.context, Nursery):
            self.context.close()

    @property
    def size(self) -> int:
        """How many runs go at once, on all lanes together."""
        return min(self.most, sum(lane.size for lane in self.lanes if not lane.left_out))

    def running(self) -> dict[str, float]:
        """{run id: fraction done}."""
        return {worker.run.id: worker.fraction for worker in self.workers if worker.run}

    def _busy(self, lane: Lane) -> int:
        return sum(worker.lane is lane and worker.run is not None for worker in self.workers)

    def place(self, run: Run) -> Lane | None:
        """Return the lane that `run` may start on now, or None: it waits."""
        if len(self.running()) >= self.size:
            return None
        usable = [lane for lane in self.lanes if not lane.left_out]
        others = [lane for lane in usable if lane is not self.blamed.get(run.id)]
        free = [lane for lane in others or usable if self._busy(lane) < lane.size]
        return min(free, key=self._busy, default=None)

    def start(self, run: Run) -> None:
        """Give `run`, for which there is a place, to a free worker of its lane, or to a new one."""
        lane = self.place(run)
        assert lane, f"{run.id} has to wait"
        free = (worker for worker in self.workers if worker.lane is lane and worker.run is None)
        worker = next(free, None) or self._spawn(lane)
        worker.run, worker.fraction, worker.since, worker.beside, worker.beside_all = run, 0.0, time.time(), 0, 0
        for other in self.workers:
            other.beside = max(other.beside, self._busy(other.lane))
            other.beside_all = max(other.beside_all, len(self.running()))
        try:
            worker.pipe.send(run)
        except OSError:  # it died while it had nothing to do
            self.workers.remove(worker)
            self.start(run)

    def _spawn(self, lane: Lane) -> _Worker:
        ours, theirs = self.context.Pipe()
        changes = alone(lane.device)
        device = "cuda" if changes else lane.device
        process = self.context.Process(target=_work, args=(theirs, self.homes, device, self.deadline), daemon=True)
        if self.hand.is_cpu:
            # One thread a run: as many runs as cores, and numbers that do not depend on the number of cores.
            changes = dict.fromkeys(THREADS, "1")
        before = {name: os.environ.get(name) for name in changes}
        os.environ.update(changes)
        process.start()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        theirs.close()
        worker = _Worker(process, ours, lane)
        self.workers.append(worker)
        return worker

    def wait(self, timeout: float = 5.0) -> list[Event]:
        """The events of the next `timeout` seconds at most; a worker that died has failed its run.

        Where memory did not do for several runs at once, one fewer go at once from now on, down to one.
        """
        busy = [(worker, worker.run) for worker in self.workers if worker.run]
        ready = connection.wait([worker.pipe for worker, _ in busy], timeout)
        events: list[Event] = []
        for worker, run in busy:
            if worker.pipe not in ready:
                continue
            try:
                event, died = worker.pipe.recv(), False
            except (EOFError, OSError):
                event, died = self._died(worker, run), True
            if event.kind == "starved":
                event = self._starved(worker, event, died or self.hand.is_cpu)
            elif event.kind in ("lost", "broken"):
                event = self._lost(worker, event)
            if event.kind in ("progress", "done"):
                fraction = float(event.text) if event.kind == "progress" else 1.0
                worker.lane.advance += max(0.0, fraction - worker.fraction) * run.seconds
                worker.lane.memory = event.memory or worker.lane.memory
                worker.fraction = fraction
            if event.kind == "done":
                self._done(worker.lane, run)
            if event.kind != "progress":
                worker.run = None
            events.append(event)
        return events

    def cut(self) -> list[str]:
        """End the processes of all runs that go, which keep the checkpoints they have; returns the ids of these."""
        busy = [(worker, worker.run.id) for worker in self.workers if worker.run]
        for worker, _ in busy:
            worker.process.terminate()
            self._dismiss(worker)
        return [run_id for _, run_id in busy]

    def _died(self, worker: _Worker, run: Run) -> Event:
        """Return the event that a worker would have sent of its end."""
        worker.process.join()
        self.workers.remove(worker)
        code = worker.process.exitcode
        said = f"the process died with exit code {code}{ENDS.get(code, '') if code else ''}\n"
        kind = "starved" if code == -signal.SIGKILL else "failed"
        return failed(run, self.homes[run.spec.paper].folder, said, time.time() - worker.since, kind)

    def _dismiss(self, worker: _Worker) -> None:
        """Let its process end: it keeps memory for a run to come, or can use its device no more."""
        if worker in self.workers:
            self.workers.remove(worker)
            worker.pipe.close()

    def _starved(self, worker: _Worker, event: Event, of_the_machine: bool) -> Event:
        """Have fewer go at once, of all lanes where the machine had too little memory; what went alone has failed."""
        self._dismiss(worker)
        beside = worker.beside_all if of_the_machine else worker.beside
        if beside <= 1:
            return replace(event, kind="failed")
        if of_the_machine:
            self.most = min(self.most, beside - 1)
            for lane in self.lanes:
                lane.shrink(lane.size)
        else:
            worker.lane.shrink(beside - 1)
        if len(self.lanes) == 1:
            worker.lane.shrink(beside - 1)
        return replace(event, text=f"ran out of memory: queued again, {self.size} at once from now on")

    def _lost(self, worker: _Worker, event: Event) -> Event:
        """Leave its lane out where the device is gone; deal the run again, once for an error that may be its own.

        Such an error is the run's where it ends so a second time, and its device's where it goes well elsewhere; after
        `STRIKES` of these in a row a device is left out, too.
        """
        self._dismiss(worker)
        lane, again = worker.lane, event.run_id in self.blamed
        self.blamed[event.run_id] = lane
        if event.kind == "lost":
            lane.left_out = last_line(event.text)
        if not self.size or (event.kind == "broken" and again):
            return replace(event, kind="failed")
        return replace(event, kind="lost", text=f"{lane.device} failed it: queued again")

    def _done(self, lane: Lane, run: Run) -> None:
        """Count what a device failed and another made."""
        before = self.blamed.get(run.id, lane)
        if before is lane:
            lane.strikes = 0
            return
        before.strikes += 1
        if before.strikes >= STRIKES and not before.left_out:
            before.left_out = f"{before.strikes} runs in a row failed there and went well elsewhere"

    def adapt(self, more_to_do: bool, say) -> None:
        """Say which devices are left out since; on each other let one more run go at once where that pays."""
        for lane in self.lanes:
            if lane.left_out and not lane.said:
                lane.said = True
                say(f"{lane.device} is left out, {self.size} at once from now on: {lane.left_out}")
            lane.adapt(more_to_do, say, f" on {lane.device}" if len(self.lanes) > 1 else "")


def _work(pipe, homes: Mapping[str, Home], device: str, deadline: float | None) -> None:
    """A worker's life: runs in, records out; it ends when nobody listens any more."""

    def send(event: Event) -> None:
        try:
            pipe.send(event)
        except OSError:
            raise SystemExit from None

    while True:
        try:
            run: Run = pipe.recv()
        except (EOFError, OSError):
            return
        home = homes[run.spec.paper]
        log = log_path(home.folder, run.id)
        started = time.time()
        try:
            result = _train(run, home, device, deadline, send)
            wall = time.time() - started
            if result is None:
                send(Event("paused", run.id))
                continue
            record = record_of(run, home.code, wall, result)
            store.write_record(home.folder, record)
            _note(home.work, record)
            (home.work / f"{run.id}.pt").unlink(missing_ok=True)
            log.unlink(missing_ok=True)
            send(Event("done", run.id, result.says, wall))
        except Exception as error:
            if getattr(error, "not_run", False):
                log.unlink(missing_ok=True)
                send(Event("not run", run.id, portable(error)))
                continue
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                send(Event("full", run.id, sentence_of(error)))
                continue
            said = traceback.format_exc()
            send(failed(run, home.folder, said, time.time() - started, fault_of(said, device)))


def _memory(device: str) -> tuple[float, float] | None:
    """(used, total) megabytes of the worker's GPU, by all processes on it; None where it does not say."""
    torch = sys.modules.get("torch")
    if device == "cpu" or not torch or not torch.cuda.is_initialized():
        return None
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:
        return None
    return ((total - free) / 1e6, total / 1e6) if total else None


def _train(run: Run, home: Home, device: str, deadline: float | None, send):
    """Train one run by its paper's `train`, which resumes only a checkpoint of this spec, this code and these data."""
    train, data = _trainer(run.spec.paper, home.code), data_hash(run)

    told = -math.inf

    def report(fraction: float, _numbers: dict) -> None:
        nonlocal told
        if time.monotonic() < told + TELLS_EVERY:
            return
        told = time.monotonic()
        send(Event("progress", run.id, str(fraction), memory=_memory(device)))

    return train(
        run.spec,
        device=device,
        # What is behind the last dash is in the names of shared stages, too, see `shared.training.checkpoint.common`.
        key=f"{run.spec_hash}-{home.code}" + (f".{data}" if data else ""),
        checkpoint=home.work / f"{run.id}.pt",
        deadline=deadline,
        report=report,
    )


@functools.cache
def _trainer(paper: str, code: str) -> Callable:
    """Return the `train` of a paper, if what is imported is the code that records will name."""
    commit()  # as it is now: it is remembered
    train = importlib.import_module(f"papers.{paper}.train").train
    if code_hash(f"papers.{paper}.train") != code:
        raise RuntimeError(f"the code of papers.{paper}.train has changed since this sweep began; call it again")
    return train


def _note(work: Path, record: dict) -> None:
    """Add a record to those that were made in this checkout."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / HERE).open("a", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerow([record["id"], record["finished"]])


def last_line(log: str) -> str:
    """Return the last line of a log, or its name where it cannot be read."""
    try:
        return Path(log).read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2][:200]
    except OSError:
        return f"see {log}"


def log_path(folder: Path, run_id: str) -> Path:
    """Return where the log of a run that failed lies."""
    return store.record_path(folder, run_id).with_suffix(".log")


def failed(run: Run, folder: Path, text: str, seconds: float = 0.0, kind: str = "failed") -> Event:
    """Write the log that a failed run leaves, its spec in one line, then what happened; return the event."""
    log = log_path(folder, run.id)
    try:
        write_text(log, f"{json.dumps(run.spec.canonical())}\n{text}")
        return Event(kind, run.id, str(log), seconds)
    except OSError as error:  # the disk that failed the run may take no log, either
        why = text.strip().rpartition("\n")[2]
        return Event(kind, run.id, f"{why} ({log} cannot be written: {error.strerror})", seconds)
