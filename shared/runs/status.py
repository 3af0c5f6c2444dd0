"""What there is of a tier: records reused, made when and from which commits, records made here, runs still to train.

``python -m shared.runs.status`` says how long each tier takes, paper by paper.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shared.config import Tier, load_tier, papers_of, plan, repository, tiers
from shared.records import store
from shared.runs.code import code_hash
from shared.runs.drive import duration
from shared.runs.lanes import Hand
from shared.runs.provenance import origin
from shared.runs.sweep import CHECKPOINTS, caveat, current, estimates, guarded, index_folder, known_index, runs_folder
from shared.runs.workers import HERE, log_path


@dataclass
class Status:
    """The runs of a tier, over all its papers.

    Attributes
    ----------
    reused : {commit: number} of current records that came with the repository.
    here : the number of current records that were made in this checkout.
    days : the days on which the reused ones were made.
    todo : the number of runs to train; `lacking` those that could not be made the last time.
    seconds : how long `todo` may take on one core.
    complete : the papers of which every run has a current record.
    outdated : {paper: ids} of runs that the index calls done and whose record answers another spec or code, or cannot
        be believed.
    """

    tier: Tier
    reused: dict[str, int] = field(default_factory=dict)
    here: int = 0
    days: list[str] = field(default_factory=list)
    todo: int = 0
    lacking: int = 0
    seconds: float = 0.0
    complete: list[str] = field(default_factory=list)
    outdated: dict[str, list[str]] = field(default_factory=dict)

    def records(self) -> str:
        """Say how many records are reused, made when and from which commits, and how many were made here."""
        if not self.reused:
            return f"Records: {self.here} made here."
        span = self.days[0] if self.days[0] == self.days[-1] else f"{self.days[0]} to {self.days[-1]}"
        commits = ", ".join(f"{name} ({n})" for name, n in sorted(self.reused.items(), key=lambda pair: -pair[1]))
        return f"Records: {sum(self.reused.values())} reused, made {span} from {commits}; {self.here} made here."

    def outlook(self, elsewhere: bool = False) -> str:
        """Say what is to train and how long that may take: here, or on another machine whose devices are not known."""
        beside = f"; {self.lacking} runs lack what they need, their index.csv says why" if self.lacking else ""
        if not self.todo:
            return f"nothing to train{beside}"
        if elsewhere:
            return f"{duration(self.seconds)} for {self.todo} runs, one at a time{beside}"
        hand = Hand.of(self.tier.device, self.tier.runs_at_once)
        length = duration(self.seconds / hand.at_once)
        return f"{length} for {self.todo} runs, {hand}{caveat(self.tier, hand)}{beside}"


def status(tier: Tier, again: Collection[str] = ()) -> Status:
    """Return what there is of a tier; every run of the papers in `again` is to be trained."""
    found, days = Status(tier), set()
    for paper in papers_of(tier.tier):
        folder, code = runs_folder(paper, tier.tier), code_hash(f"papers.{paper}.train")
        index = known_index(paper, tier.tier, folder) or {}
        made = made_here(paper, tier.tier)
        waiting = []
        for run in plan(paper, tier.tier):
            record = None if paper in again else current(run, folder, index, code, tier.adopt)
            if record is None:
                waiting.append(run)
                continue
            if made.get(run.id) == record["finished"]:
                found.here += 1
            else:
                commit = origin(record["code"]).removeprefix("commit ")
                found.reused[commit] = found.reused.get(commit, 0) + 1
                days.add(record["finished"][:10])
        found.complete += [] if waiting else [paper]
        found.outdated[paper] = [run.id for run in waiting if index.get(run.id, {}).get("status") == store.DONE]
        seconds = estimates(waiting, folder) if waiting else {}
        possible = [run.id for run in waiting if not index.get(run.id, {}).get("why")]
        found.todo += len(possible)
        found.lacking += len(waiting) - len(possible)
        found.seconds += sum(seconds[run_id] for run_id in possible)
    found.days = sorted(days)
    return found


def unfinished(tier: str, names: Iterable[str], show: int = 10) -> str:
    """Say which runs of these papers have failed or are not trained, why, where their logs lie, and what to do.

    Nothing where all are recorded or lack what they need; at most `show` runs of each paper are named.
    """
    lines = []
    for paper in names:
        folder = runs_folder(paper, tier)
        index = store.read_index(index_folder(paper, tier, folder)) or {}
        settled = {i for i, row in index.items() if row["why"] or row["status"] == store.DONE}
        left = [run_id for run_id in index if run_id not in settled]
        lines += [f"{paper}: {len(left)} of {len(index)} runs have no result:"] * bool(left)
        lines += [f"  {run_id}: {_trouble(folder, run_id, index[run_id]['status'])}" for run_id in left[:show]]
        lines += [f"  and {len(left) - show} more, see {folder / store.INDEX}"] * (len(left) > show)
    if lines:
        lines.append(
            "Tables, figures and comparison were made without them, and say so. Mend what the logs name and call"
        )
        lines.append("the same again: it trains these runs and nothing else.")
    return "\n".join(lines)


def _trouble(folder: Path, run_id: str, status: str) -> str:
    log = log_path(folder, run_id)
    if not log.exists():
        return status
    last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
    return f"{last[:200]}; log: {log}"


def made_here(paper: str, tier: str) -> dict[str, str]:
    """Return {run id: when its record was finished} of what sweeps of this checkout have trained.

    It is for counting alone: a line that is damaged, or a file that cannot be read, counts for nothing.
    """
    path = repository() / CHECKPOINTS / tier / paper / HERE
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            return {row[0]: row[1] for row in csv.reader(stream) if len(row) == 2}
    except (OSError, csv.Error):
        return {}


def planned(tier: str) -> dict[str, tuple[int, float]]:
    """Return {paper: (runs, seconds)} of a tier, by the estimates of config.yaml, one run at a time, none recorded."""
    runs = {paper: plan(paper, tier) for paper in papers_of(tier)}
    return {paper: (len(own), sum(run.seconds for run in own)) for paper, own in runs.items()}


def lengths(names: list[str]) -> Iterator[str]:
    """Yield the lines of a table: how long each of these tiers takes, paper by paper."""
    yield f"{'tier':12}{'paper':10}{'runs':>6}  by config.yaml, one run at a time"
    for name in names:
        found = planned(name)
        total = sum(n for n, _ in found.values()), sum(seconds for _, seconds in found.values())
        for paper, (n, seconds) in {**found, "all": total}.items():
            yield f"{name:12}{paper:10}{n:6}  {duration(seconds)}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m shared.runs.status", description="Say how long each tier takes, from the estimates of its runs."
    )
    parser.add_argument("--tier", help=f"only one of {', '.join(tiers())}")
    args = parser.parse_args(argv)

    def command() -> int:
        print("\n".join(lengths([load_tier(args.tier).tier] if args.tier else tiers())))
        return 0

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
