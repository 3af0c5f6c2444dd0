"""Deal runs to a pool's workers, and say how far that is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shared.config import ConfigError, Run
from shared.runs.shards import stages_of
from shared.runs.workers import AGAIN, Event, Pool


@dataclass
class Progress:
    """What is done, and how long the rest may take."""

    todo: int
    pending: list[float]  # estimates of the runs not yet started
    started: float = field(default_factory=time.time)
    done: int = 0
    failed: int = 0
    paused: int = 0
    made: list[str] = field(default_factory=list)  # ids
    tried: dict[str, str] = field(default_factory=dict)  # {run id: why it cannot be made, or nothing}
    seconds: list[tuple[float, float]] = field(default_factory=list)  # (estimate, measured) of the finished

    def left(self, running: list[tuple[float, float]], at_once: int) -> float:
        """Seconds left, from estimates scaled by how wrong they were so far; `running` holds (estimate, fraction)."""
        scale = sum(m for _, m in self.seconds) / sum(e for e, _ in self.seconds) if self.seconds else 1.0
        work = sum(self.pending) + sum(estimate * (1 - fraction) for estimate, fraction in running)
        return scale * work / max(1, at_once)

    def line(self, text: str, running: list[tuple[float, float]], at_once: int) -> str:
        width = len(str(self.todo))
        ended = self.done + self.failed + sum(map(bool, self.tried.values()))
        return f"[{ended:{width}}/{self.todo}] {text}  ~{duration(self.left(running, at_once))} left"


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


def drive(
    pool: Pool,
    todo: list[Run],
    seconds: Mapping[str, float],
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
    while True:
        while deadline is None or time.time() < deadline:
            places = [n for n, run in enumerate(queue) if pool.place(run)]
            if not places:
                break
            # Two that share a stage and go at once both train it: the first that shares none in the making, if any.
            making = set().union(*(stages[run_id] for run_id in pool.running())) - trained
            place = next((n for n in places if not stages[queue[n].id] & making), places[0])
            progress.pending.pop(place)
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
                progress.pending.insert(0, seconds[run.id])
                say(f"{run.id}  {event.text}")
                continue
            if event.kind != "progress":
                progress.tried[event.run_id] = event.text if event.kind == "not run" else ""
            running = [(seconds[run_id], fraction) for run_id, fraction in pool.running().items()]
            if event.kind == "done":
                progress.done += 1
                progress.made.append(event.run_id)
                trained |= stages[event.run_id]
                progress.seconds.append((seconds[event.run_id], event.seconds))
            elif event.kind == "failed":
                progress.failed += 1
            elif event.kind == "paused":
                progress.paused += 1
            if event.kind != "progress" and (text := ended(event)):
                say(progress.line(text, running, pool.size))
        pool.adapt(bool(queue), say)
    if queue and not pool.size:
        say(f"no device is left that takes runs: {len(queue)} were not begun")
        progress.failed += len(queue)
        progress.pending.clear()
