"""The time-boxed sweep: runs of a paper that have no record yet, in order of value, several at once.

``python -m shared.runs.sweep --tier gpu --paper rot --time-budget 9m --records DIR``

Needs torch, numpy, scipy and PyYAML only. Killed or out of time, it goes on where it was when called again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.config import ConfigError, Run, Tier, load_tier, papers, plan, repository
from shared.config.tiers import check_paper
from shared.files import REMEDIES, listed, read_text, remove_parts, sentence_of, write_text
from shared.records import store
from shared.runs.code import code_hash
from shared.runs.data import absent_data, damaged_data
from shared.runs.drive import Progress, drive, duration
from shared.runs.lanes import Hand
from shared.runs.machine import overlooked
from shared.runs.options import add_options, go_home, parse_options
from shared.runs.provenance import commit
from shared.runs.shards import deal
from shared.runs.workers import Home, Pool, failed, log_path

CHECKPOINTS = store.CHECKPOINTS
RUNS_FAILED = 3  # the exit status that says so; 1 is a fault of this code, 2 a wrong call
NOTHING = r"(?!)"  # matches no id
GRACE = 5.0  # seconds a run has, before the budget ends, to save its checkpoint


def current(run: Run, folder: Path, index: Mapping[str, dict] | None, code: str, adopt: bool) -> dict | None:
    """Return the record of `run` if it can be believed, answers its spec and, unless adopted, came from `code`."""
    record = store.find_record(folder, run.id, index).record
    if record and record["spec_hash"] == run.spec_hash and (adopt or record["code"]["hash"] == code):
        return record
    return None


def estimates(runs: list[Run], folder: Path) -> dict[str, float]:
    """Return the seconds each run may take: the median of its like at hand, else what its config declares.

    Alike are the seeds of a run, or where none is recorded, the runs of its method on its dataset.
    """
    alike: dict[tuple[str, ...], list[float]] = {}
    for path in listed(folder, "**/*.json"):
        with contextlib.suppress(ConfigError, KeyError):  # what is no record teaches nothing
            record = store.load_record(path)
            for like in _kinds(record["id"]):
                alike.setdefault(like, []).append(record["cost"]["wall_s"])
    known = {like: statistics.median(walls) for like, walls in alike.items()}
    return {run.id: next((known[k] for k in _kinds(run.id) if k in known), run.seconds) for run in runs}


def _kinds(run_id: str) -> tuple[tuple[str, ...], ...]:
    parts = tuple(run_id.split("/"))
    return parts[:-1], parts[:3]


def runs_to_try_again(paper: str, tier: str, ready: Collection[str]) -> list[str]:
    """Ids of runs in the index that are neither recorded, by a record that can be believed, nor known to lack what they
    need; that is known where the index has a reason and their dataset is not among `ready`.
    """
    folder = runs_folder(paper, tier)
    index = store.read_index(folder) or {}
    recorded = {
        run_id
        for run_id, row in index.items()
        if row["status"] == store.DONE and store.is_as_indexed(folder, run_id, row)
    }
    had = {run.id for run in plan(paper, tier) if run.spec.values().get("dataset") in ready}
    lacking = {run_id for run_id, row in index.items() if row["why"]} - had
    return sorted(set(index) - recorded - lacking)


def unmatched(names: list[str], tier: Tier, only: str) -> ConfigError:
    """Return what is to be said where a pattern matches no run of these papers."""
    where = f"`python -m papers.{names[0]}.train --list --tier {tier.tier}` names them"
    return ConfigError(f"no run of {', '.join(names)} at tier {tier.tier} matches {only!r}; {where}")


def caveat(tier: Tier, hand: Hand) -> str:
    """What an estimate is worth where a tier meant for a GPU runs on a CPU."""
    return " by a GPU's measure; this is a CPU, expect many times that" if hand.is_cpu and tier.device != "cpu" else ""


def runs_folder(paper: str, tier: str) -> Path:
    """Where a paper's records of a tier lie unless told otherwise."""
    return repository() / "results" / tier / paper / "runs"


def index_folder(paper: str, tier: str, folder: Path) -> Path:
    """Return the folder of the index that tells of the records in `folder`, of this repository."""
    return store.index_place(repository(), paper, tier, folder)


def keep_index(paper: str, tier: str) -> None:
    """Keep the index of a paper's records beside its checkpoints."""
    path, kept = runs_folder(paper, tier) / store.INDEX, repository() / CHECKPOINTS / tier / paper / store.INDEX
    if path.exists() and (not kept.exists() or kept.read_bytes() != path.read_bytes()):
        write_text(kept, read_text(path, ConfigError))


def shard_folders(paper: str, tier: str, folder: Path) -> Path:
    """Where shards keep the indices of their own runs until these are gathered: beside checkpoints, or in `folder`."""
    ours = folder.absolute() == runs_folder(paper, tier)
    return (repository() / CHECKPOINTS / tier / paper if ours else folder) / "shards"


def _of_shards(paper: str, tier: str, folder: Path) -> list[Path]:
    return listed(shard_folders(paper, tier, folder), f"*/{store.INDEX}")


def known_index(paper: str, tier: str, folder: Path) -> dict[str, dict] | None:
    """Return the index that tells of the records in `folder`, with the rows of shards that are not gathered yet.

    Shards of another number may know of the same run, and git may have brought a newer index: of two rows that differ
    the one that has the very record which lies there counts, else the last that was written.
    """
    index = store.read_index(index_folder(paper, tier, folder))
    for path in sorted(_of_shards(paper, tier, folder), key=lambda path: path.stat().st_mtime_ns):
        index, rows = index or {}, store.read_index(path.parent) or {}
        for run_id, row in rows.items():
            had = index.get(run_id)
            if row != had and not (had and store.is_as_indexed(folder, run_id, had)):
                index[run_id] = row
    return index


def sweep(
    paper: str,
    tier: Tier,
    folder: Path,
    *,
    device: str | None = None,
    at_once: str | int | None = None,
    cores: int | None = None,
    budget: float | None = None,
    only: str | None = None,
    shard: tuple[int, int] | None = None,
    again: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Bring the records in `folder` up to the plan; returns the number of failed runs.

    A run whose error is marked `not_run` (its dataset cannot be had here) leaves neither a record nor a log and is no
    failure; the index keeps the reason.

    Parameters
    ----------
    budget : seconds after which nothing runs any more; what is unfinished has a checkpoint by then.
    only : a regular expression on run ids; one that matches none of the plan is refused.
    shard : (i, N), counted from 1: of the plan no more than this part, which has an index of its own until a sweep
        without a shard gathers it.
    again : train anew what has a current record, too.
    """
    stop = None if budget is None else time.time() + budget - GRACE
    part = Part.of(paper, tier, folder, only, shard, again)
    todo, seconds = part.todo, estimates(part.todo, folder) if part.todo else {}
    where = tier.device if device is None else device
    hand = Hand.of(where, at_once or tier.runs_at_once, cores)
    progress = Progress(seconds)
    say(
        f"{part}: {len(part.planned)} runs, {len(todo)} to do, "
        f"{hand}, about {duration(progress.left({}, hand.at_once))}{caveat(tier, hand)}"
    )
    warn(todo, where, say)
    if dry_run:
        for run in todo:
            say(f"  {run.id}  ~{duration(seconds[run.id])}")
        return 0
    train([part], todo, hand, progress, stop, say)
    return progress.failed


def warn(todo: list[Run], device: str, say: Callable[[str], None]) -> None:
    """Say what a person should know before runs are trained: that git is silent, that a GPU is overlooked."""
    if todo and (unknown := commit().get("git")):
        say(f"git does not say which code this is ({unknown}): records made now have dirty: null")
    if unseen := overlooked(device):
        say(unseen)


@dataclass(frozen=True)
class Part:
    """What there is to train of a paper, and what belongs before and after its training.

    Attributes
    ----------
    planned, todo : the runs of its plan, or of one shard; those of them without a current record.
    folder, kept, end : the folders of the records, of their index until it is written anew, and from then on.
    index : of the records as it was.
    """

    paper: str
    tier: Tier
    folder: Path
    shard: tuple[int, int] | None
    planned: list[Run]
    todo: list[Run]
    index: Mapping[str, dict] | None
    kept: Path
    end: Path
    home: Home

    @classmethod
    def of(cls, paper: str, tier: Tier, folder: Path, only: str | None = None, shard=None, again: bool = False) -> Part:
        """See `sweep` for what the parameters are."""
        planned, kept, end = plan(paper, tier.tier), index_folder(paper, tier.tier, folder), folder
        if only and only != NOTHING and not any(re.search(only, run.id) for run in planned):
            raise unmatched([paper], tier, only)
        if shard:
            planned = deal(planned, shard[1])[shard[0] - 1]
            kept = end = shard_folders(paper, tier.tier, folder) / f"{shard[0]}-of-{shard[1]}"
        code, index = code_hash(f"papers.{paper}.train"), known_index(paper, tier.tier, folder)
        chosen = [run for run in planned if not only or re.search(only, run.id)]
        todo = [run for run in chosen if again or not current(run, folder, index, code, tier.adopt)]
        home = Home(code, folder, repository() / CHECKPOINTS / tier.tier / paper)
        return cls(paper, tier, folder, shard, planned, todo, index, kept, end, home)

    def __str__(self) -> str:
        part = f", shard {self.shard[0]} of {self.shard[1]}" if self.shard else ""
        return f"{self.paper}, tier {self.tier.tier}{part}"

    def begin(self, say: Callable[[str], None]) -> None:
        """Say which records are not believed, write the index in which runs to train have no sha256, and tidy up."""
        for why in filter(None, (store.find_record(self.folder, run.id, self.index).why for run in self.todo)):
            say(f"to be trained again: {why}")
        if self.todo:
            _index(self.planned, self.folder, before=self.index, into=self.kept, todo=[run.id for run in self.todo])
            self._gathered()
        for place in (self.folder, self.home.work):
            remove_parts(place)

    def finish(self, progress: Progress) -> dict[str, str]:
        """Write the index of what is there now; returns {run id: status}."""
        before = known_index(self.paper, self.tier.tier, self.folder)
        known = {"before": before, "tried": progress.tried, "made": progress.made}
        statuses = _index(self.planned, self.folder, into=self.end, **known)
        if not self.shard:
            if self.folder.absolute() == runs_folder(self.paper, self.tier.tier):
                keep_index(self.paper, self.tier.tier)
            self._gathered()
        return statuses

    def _gathered(self) -> None:
        """Forget the rows of shards, which are in the index now and would overrule what is trained after it."""
        for path in [] if self.shard else _of_shards(self.paper, self.tier.tier, self.folder):
            path.unlink(missing_ok=True)


def train(
    parts: list[Part],
    todo: list[Run],
    hand: Hand,
    progress: Progress,
    stop: float | None,
    say: Callable[[str], None],
    end: float | None = None,
) -> None:
    """Train runs of some papers in this order on one pool, until `stop`, and write the indices of all.

    Parameters
    ----------
    progress : of these runs; it tells afterwards how they ended.
    end : when runs that do not stop are cut off.
    """
    for part in parts:
        part.begin(say)
    homes, absent, damaged = {part.paper: part.home for part in parts}, absent_data(todo), damaged_data(todo)
    for run in todo:
        folder = homes[run.spec.paper].folder
        if run.id in damaged:
            failed(run, folder, f"{damaged[run.id]}\n")
        elif run.id in absent:
            log_path(folder, run.id).unlink(missing_ok=True)
    progress.failed += len(damaged)
    progress.tried |= absent
    todo = [run for run in todo if run.id not in damaged | absent]
    progress.pending = [run.id for run in todo]
    for why, n in Counter(damaged.values()).items():
        say(f"FAILED, {n} runs: {why}")
    try:
        # A pool without runs starts no process.
        with Pool(homes, hand, stop) as pool:
            drive(pool, todo, progress, stop, say, end=end)
    finally:
        statuses = [part.finish(progress) for part in parts]
    for why, n in Counter(filter(None, progress.tried.values())).items():
        say(f"NOT RUN, {n} runs: {why}")
    for part, found in zip(parts, statuses, strict=True):
        if not part.shard:
            _say_orphans(part.folder, found, say)
    if progress.paused or progress.pending:
        say(f"out of time: {progress.done} done, {progress.paused} paused at a checkpoint; call again to go on")


def _index(planned: list[Run], folder: Path, **known) -> dict[str, str]:
    found = {run.id: store.find_record(folder, run.id).record for run in planned}
    outdated = {run.id for run in planned if (has := found[run.id]) and has["spec_hash"] != run.spec_hash}
    return store.write_index(folder, list(found), outdated, **known)


def _say_orphans(folder: Path, statuses: dict[str, str], say) -> None:
    planned = {store.record_path(folder, run_id) for run_id in statuses}
    orphans = [path for path in listed(folder, "**/*.json") if path not in planned]
    if orphans:
        say(f"{len(orphans)} records are not in the plan and left out of tables, e.g. {orphans[0]}")


def train_again() -> None:
    """Let the sweeps that this process starts train all anew; a rule's parameter would train once more without it."""
    os.environ["LLP_AGAIN"] = "1"


def from_options(paper: str, args: argparse.Namespace, only: str | None = None) -> int:
    """Sweep as the options of `add_options` say; returns `RUNS_FAILED` if one did, else 0."""
    check_paper(paper)
    tier = load_tier(args.tier)
    n_failed = sweep(
        paper,
        tier,
        args.records or runs_folder(paper, tier.tier),
        device=args.device,
        at_once=args.at_once,
        cores=args.cores,
        budget=args.time_budget,
        only=NOTHING if args.gather else only or args.only,
        shard=args.shard,
        again=args.again,
        dry_run=args.dry_run,
        say=tell,
    )
    return RUNS_FAILED if n_failed else 0


def tell(line: str) -> None:
    """Tell the person at the terminal; standard output stays free."""
    print(line, file=sys.stderr, flush=True)


def guarded(command: Callable[[], int]) -> int:
    """Run a command; a ConfigError or what the system says of a file is one line and the status 2, an interrupt 130."""
    try:
        return command()
    except ConfigError as error:
        tell(str(error))
        return 2
    except OSError as error:
        if error.errno is None or (error.errno not in REMEDIES and not error.filename):
            raise
        tell(f"{sentence_of(error)}, what was finished is recorded")
        return 2
    except KeyboardInterrupt:
        tell("stopped; what was finished is recorded, call again to go on")
        return 130


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m shared.runs.sweep", description=__doc__.split("\n\n")[0])
    parser.add_argument("--paper", required=True, help=f"one of {', '.join(papers())}")
    add_options(parser)
    args = parse_options(parser, argv)
    if argv is None:
        go_home()
    return guarded(lambda: from_options(args.paper, args))


if __name__ == "__main__":
    sys.exit(main())
