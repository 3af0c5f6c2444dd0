"""Worker processes of a sweep: each imports torch once and trains many runs; a dead one costs one run."""

from __future__ import annotations

import csv
import functools
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path

from shared.config import ConfigError, Run
from shared.datasets import portable
from shared.files import write_text
from shared.records import store
from shared.runs.assemble import record_of
from shared.runs.code import code_hash
from shared.runs.machine import cores as usable_cores
from shared.runs.machine import device_of
from shared.runs.provenance import commit

HERE = "here.csv"  # beside checkpoints: the records that sweeps of this checkout have made
ENDS = {  # what the exit code of a process that died may mean
    -signal.SIGKILL: ": it was killed, most likely by the system for want of memory",
    -signal.SIGSEGV: ": it crashed in compiled code (segmentation fault); a library may be damaged or of another CPU",
    -signal.SIGBUS: ": a file or the shared memory it reads was cut short; is a disk full?",
    -signal.SIGILL: ": a library was compiled for another CPU",
    -signal.SIGABRT: ": a library gave up, see what it printed above",
    -signal.SIGTERM: ": somebody, or a scheduler, ended it",
    1: ": it could not start; see what it printed above",
}
STARVED = ("memoryerror", "out of memory", "not enough memory", "t allocate memory", "cannot allocate", "alloc_failed")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Hand:
    """How many runs go at once, on what: `limit` is as far as `at_once` may grow when growing pays."""

    device: str
    at_once: int
    limit: int

    @classmethod
    def of(cls, device: str, at_once: str | int, cores: int | None = None) -> Hand:
        """From a tier's or a person's words; "auto" starts with one run on CUDA and one a core on a CPU."""
        device = device_of(device)
        cuda = device != "cpu"
        cores = min(cores or usable_cores(), usable_cores())  # Snakemake counts those of the machine
        if at_once == "cores" or (at_once == "auto" and not cuda):
            return cls(device, cores, cores)
        if at_once == "auto":
            return cls(device, 1, min(8, cores))
        try:
            n = int(at_once)
        except ValueError:
            n = 0
        if n < 1:
            raise ConfigError(f"runs at once must be a number above 0, cores or auto, not {at_once!r}")
        return cls(device, n, n)

    def __str__(self) -> str:
        more = "" if self.limit == self.at_once else f", up to {self.limit} if that pays"
        return f"{self.at_once} at once on {self.device}{more}"


@dataclass(frozen=True)
class Event:
    """Something a worker said.

    kind : progress, done, failed, starved (failed for want of memory beside others), paused or not run.
    text : why a run was not run; where the log of one that failed lies; how far it is.
    """

    kind: str
    run_id: str
    text: str = ""
    seconds: float = 0.0


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    pipe: connection.Connection
    run: Run | None = None
    fraction: float = 0.0
    since: float = 0.0
    beside: int = 0  # the most runs that went at once, itself among them, while its run went


class Pool:
    """Workers that train runs of one paper and write their records to `folder`, checkpoints to `work`."""

    def __init__(self, paper: str, hand: Hand, code: str, folder: Path, work: Path, deadline: float | None):
        self.hand, self.folder = hand, folder
        self.arguments = (paper, hand.device, code, folder, work, deadline)
        self.context = multiprocessing.get_context("spawn")
        self.size = hand.at_once
        self.workers: list[_Worker] = []
        self.rates: dict[int, float] = {}
        self.settled = hand.at_once == hand.limit
        self.measured_from = time.time()
        self.advance = 0.0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception) -> None:
        for worker in self.workers:
            worker.pipe.close()
            worker.process.join(10) if exception[0] is None else worker.process.terminate()

    def running(self) -> dict[str, float]:
        """{run id: fraction done}."""
        return {worker.run.id: worker.fraction for worker in self.workers if worker.run}

    def idle(self) -> bool:
        return len(self.running()) < self.size

    def start(self, run: Run) -> None:
        """Give `run` to a free worker, or to a new one."""
        worker = next((w for w in self.workers if w.run is None), None) or self._spawn()
        worker.run, worker.fraction, worker.since, worker.beside = run, 0.0, time.time(), 0
        for other in self.workers:
            other.beside = max(other.beside, len(self.running()))
        try:
            worker.pipe.send(run)
        except OSError:  # it died while it had nothing to do
            self.workers.remove(worker)
            self.start(run)

    def _spawn(self) -> _Worker:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_work, args=(theirs, *self.arguments), daemon=True)
        before = {name: os.environ.get(name) for name in THREADS}
        if self.hand.device == "cpu":
            # One thread a run: as many runs as cores, and numbers that do not depend on the number of cores.
            os.environ.update(dict.fromkeys(THREADS, "1"))
        process.start()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        theirs.close()
        worker = _Worker(process, ours)
        self.workers.append(worker)
        return worker

    def wait(self, timeout: float = 5.0) -> list[Event]:
        """The events of the next `timeout` seconds at most; a worker that died has failed its run.

        Where memory did not do for several runs at once, one fewer go at once from now on, down to one.
        """
        busy = {worker.pipe: worker for worker in self.workers if worker.run}
        events = []
        for pipe in connection.wait(list(busy), timeout):
            worker = busy[pipe]
            try:
                event = pipe.recv()
            except (EOFError, OSError):  # it died
                worker.process.join()
                code = worker.process.exitcode
                said = f"the process died with exit code {code}{ENDS.get(code, '')}\n"
                kind = "starved" if code == -signal.SIGKILL else "failed"
                event = failed(worker.run, self.folder, said, time.time() - worker.since, kind)
                self.workers.remove(worker)
            if event.kind == "starved":
                event = self._starved(worker, event)
            if event.kind in ("progress", "done"):
                fraction = float(event.text) if event.kind == "progress" else 1.0
                self.advance += max(0.0, fraction - worker.fraction) * worker.run.seconds
                worker.fraction = fraction
            if event.kind != "progress":
                worker.run = None
            events.append(event)
        return events

    def _starved(self, worker: _Worker, event: Event) -> Event:
        """Let its process, which keeps memory for the next run, end; a run that had all to itself has failed."""
        if worker in self.workers:
            self.workers.remove(worker)
            worker.pipe.close()
        if worker.beside <= 1:
            return replace(event, kind="failed")
        self.settled, self.size = True, min(self.size, worker.beside - 1)
        return event

    def adapt(self, more_to_do: bool, say, settle: float = 30.0) -> None:
        """Let one more run go at once while that raises the pace by a tenth; take it back where it did not.

        The pace is the declared seconds of work done in a second, measured over `settle` seconds at each number.
        """
        if self.settled or not more_to_do or time.time() - self.measured_from < settle:
            return
        self.rates[self.size] = self.advance / (time.time() - self.measured_from)
        before = self.rates.get(self.size - 1, 0.0)
        self.measured_from, self.advance = time.time(), 0.0
        if self.rates[self.size] < 1.1 * before:
            self.size -= 1
            self.settled = True
            say(f"{self.size} at once: one more does not pay")
        elif self.size == self.hand.limit:
            self.settled = True
        elif _fits_one_more(self.size):
            self.size += 1
            say(f"{self.size} at once: trying one more")


def _gpu_memory() -> tuple[float, float] | None:
    """(used, total) megabytes of the first visible GPU, or None where there is none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, encoding="utf-8", check=True).stdout
        used, total = said.split("\n")[0].split(",")
        return float(used), float(total)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


def _fits_one_more(size: int) -> bool:
    memory = _gpu_memory()
    return memory is not None and memory[0] * (size + 1) / size < 0.8 * memory[1]


def _work(pipe, paper: str, device: str, code: str, folder: Path, work: Path, deadline: float | None) -> None:
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
        log = store.record_path(folder, run.id).with_suffix(".log")
        started = time.time()
        try:
            result = _train(paper, run, device, code, work, deadline, send)
            wall = time.time() - started
            if result is None:
                send(Event("paused", run.id))
                continue
            record = record_of(run, code, wall, result)
            store.write_record(folder, record)
            _note(work, record)
            (work / f"{run.id}.pt").unlink(missing_ok=True)
            log.unlink(missing_ok=True)
            send(Event("done", run.id, result.says, wall))
        except Exception as error:
            if getattr(error, "not_run", False):
                log.unlink(missing_ok=True)
                send(Event("not run", run.id, portable(error)))
                continue
            said = traceback.format_exc()
            send(failed(run, folder, said, time.time() - started, "starved" if is_starved(said) else "failed"))


def _train(paper: str, run: Run, device: str, code: str, work: Path, deadline: float | None, send):
    """Train one run by its paper's `train`, which resumes only a checkpoint of this spec and this code."""
    train = _trainer(paper, code)

    def report(fraction: float, _numbers: dict) -> None:
        send(Event("progress", run.id, str(fraction)))

    return train(
        run.spec,
        device=device,
        key=f"{run.spec_hash}-{code}",
        checkpoint=work / f"{run.id}.pt",
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


def failed(run: Run, folder: Path, text: str, seconds: float = 0.0, kind: str = "failed") -> Event:
    """Write the log that a failed run leaves, its spec in one line, then what happened; return the event."""
    log = store.record_path(folder, run.id).with_suffix(".log")
    try:
        write_text(log, f"{json.dumps(run.spec.canonical())}\n{text}")
        return Event(kind, run.id, str(log), seconds)
    except OSError as error:  # the disk that failed the run may take no log, either
        why = text.strip().rpartition("\n")[2]
        return Event(kind, run.id, f"{why} ({log} cannot be written: {error.strerror})", seconds)


def is_starved(said: str) -> bool:
    """Return whether a traceback says that memory, of the device or the machine, ran out, in any library's words."""
    return any(words in said.lower() for words in STARVED)
