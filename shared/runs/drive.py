"""Deal runs to a pool's workers, and say how far that is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shared.config import ConfigError, Run
from shared.runs.shards import stages_of
from shared.runs.workers import AGAIN, Event, Pool


@dataclass
class Progress:
    """What is done, and how long the rest may take.

    Attributes
    ----------
    estimates : {run id: how many seconds it may take}.
    pending : the ids of those not yet started.
    first : those that train a stage which later ones share; how wrong estimates are is told apart of these.
    """

    estimates: Mapping[str, float]
    started: float = field(default_factory=time.time)
    done: int = 0
    failed: int = 0
    paused: int = 0
    pending: list[str] = field(init=False)
    first: set[str] = field(default_factory=set)
    made: list[str] = field(default_factory=list)  # ids
    tried: dict[str, str] = field(default_factory=dict)  # {run id: why it cannot be made, or nothing}
    measured: dict[str, float] = field(default_factory=dict)  # {run id: seconds} of the finished

    def __post_init__(self) -> None:
        self.pending = list(self.estimates)

    def left(self, running: Mapping[str, float], at_once: int) -> float:
        """Seconds left, from estimates scaled by how wrong they were so far; `running` is {run id: fraction done}."""
        work = {True: 0.0, False: 0.0}
        for run_id in self.pending:
            work[run_id in self.first] += self.estimates[run_id]
        for run_id, fraction in running.items():
            work[run_id in self.first] += self.estimates[run_id] * (1 - fraction)
        return sum(self._scale(first) * seconds for first, seconds in work.items()) / max(1, at_once)

    def _scale(self, first: bool) -> float:
        like = [run_id for run_id in self.measured if (run_id in self.first) == first]
        expected = sum(self.estimates[run_id] for run_id in like)
        return sum(self.measured[run_id] for run_id in like) / expected if expected else 1.0

    def line(self, text: str, running: Mapping[str, float], at_once: int) -> str:
        todo = len(self.estimates)
        ended = self.done + self.failed + sum(map(bool, self.tried.values()))
        return f"[{ended:{len(str(todo))}}/{todo}] {text}  ~{duration(self.left(running, at_once))} left"


def duration(seconds: float) -> str:
    """540 -> "9 min"; from three days on, "3.2 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 3 * 86400 else f"{seconds / 86400:.1f} days"


def _ended(event: Event) -> str:
    """What a sweep says of a run that has ended; of those that cannot be made, nothing until all are known."""
    if event.kind == "done":
        return f"{event.run_id}  {event.text}  {event.seconds:.1f} s"
    return f"{event.run_id}  FAILED, see {event.text}" if event.kind == "failed" else ""


def _first(stages: Mapping[str, set[tuple[str, str]]]) -> set[str]:
    """The ids of those that have a stage which none before them has, and which one after them shares."""
    seen: set[tuple[str, str]] = set()
    shared = {stage for stage, n in Counter(stage for own in stages.values() for stage in own).items() if n > 1}
    found = set()
    for run_id, own in stages.items():
        if own & shared - seen:
            found.add(run_id)
        seen |= own
    return found


def drive(
    pool: Pool,
    todo: list[Run],
    progress: Progress,
    deadline: float | None,
    say: Callable[[str], None],
    ended: Callable[[Event], str] = _ended,
    end: float | None = None,
) -> None:
    """Deal runs to the pool's workers until all are done or the deadline has come.

    Parameters
    ----------
    ended : puts an end into words.
    end : when what goes on beyond the deadline, in a part that saves nothing, is cut off; never unless told.

    Raises
    ------
    ConfigError
        When a disk takes no record any more: to train on would be for nothing.
    """
    queue, stages = list(todo), {run.id: set(stages_of(run)) for run in todo}
    trained: set[tuple[str, str]] = set()
    progress.first |= _first(stages)
    while True:
        while deadline is None or time.time() < deadline:
            places = [n for n, run in enumerate(queue) if pool.place(run)]
            if not places:
                break
            # Two that share a stage and go at once both train it: the first that shares none in the making, if any.
            making = set().union(*(stages[run_id] for run_id in pool.running())) - trained
            place = next((n for n in places if not stages[queue[n].id] & making), places[0])
            progress.pending.remove(queue[place].id)
            pool.start(queue.pop(place))
        if not pool.running():
            break
        if end is not None and time.time() >= end:
            cut = pool.cut()
            progress.paused += len(cut)
            say(f"cut off at the end of the time, to go on from what was saved: {', '.join(cut)}")
            break
        for event in pool.wait() if end is None else pool.wait(max(0.01, min(5.0, end - time.time()))):
            if event.kind == "full":  # what trains on could not be recorded
                raise ConfigError(f"{event.text}, what was finished is recorded")
            if event.kind in AGAIN:
                run = next(run for run in todo if run.id == event.run_id)
                queue.insert(0, run)
                progress.pending.insert(0, run.id)
                say(f"{run.id}  {event.text}")
                continue
            if event.kind != "progress":
                progress.tried[event.run_id] = event.text if event.kind == "not run" else ""
            if event.kind == "done":
                progress.done += 1
                progress.made.append(event.run_id)
                trained |= stages[event.run_id]
                progress.measured[event.run_id] = event.seconds
            elif event.kind == "failed":
                progress.failed += 1
            elif event.kind == "paused":
                progress.paused += 1
            if event.kind != "progress" and (text := ended(event)):
                say(progress.line(text, pool.running(), pool.size))
        pool.adapt(bool(queue), say)
    if queue and not pool.size:
        say(f"no device is left that takes runs: {len(queue)} were not begun")
        progress.failed += len(queue)
        progress.pending.clear()
