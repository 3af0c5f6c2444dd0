"""The first half hour on a GPU: over all papers the runs that buy most a second, in calls that end in time.

``python -m shared.runs.campaign --budget 28m --box 9m --benchmarks``

Needs torch, numpy, scipy, numba and PyYAML; what else a run needs and is not there makes it NOT RUN. State is in
records and checkpoints: the same call goes on, until the budget of all calls is spent.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from shared.config import Run, Tier, load_tier, papers_of, repository
from shared.datasets import registry
from shared.datasets.features import features_folder
from shared.files import write_text
from shared.runs.cards import CARDS, arithmetic
from shared.runs.data import data_read
from shared.runs.drive import Progress, duration
from shared.runs.lanes import Hand
from shared.runs.options import go_home, parse_duration, path_of
from shared.runs.sweep import (
    CHECKPOINTS,
    RUNS_FAILED,
    Part,
    current,
    estimates,
    guarded,
    known_index,
    runs_folder,
    tell,
    train,
    warn,
)
from shared.runs.worth import Group, Purchase, groups_of, ordered, standing_on

SAVE, CUT = 12.0, 2.0  # seconds before a box ends at which runs save and stop, and at which they are cut off
LEDGER = "campaign.csv"  # among checkpoints: the calls of this machine
BENCHMARKS = ("training", "fused")  # images a second, ROT over KL; transport's kernels, the E-step
SHOWN = 6  # groups that a list shows before it counts the rest


def lacking_data(runs: Iterable[Run]) -> dict[str, str]:
    """Return {run id: what to do} of runs whose data are not here."""
    found: dict[str, str] = {}
    entries = registry.entries()
    for (name, features), run_ids in data_read(runs).items():
        entry, why = entries.get(name), ""
        state = entry.state() if entry else "unknown"
        # What is no arrays is read from a mirror, too.
        in_place = entry and entry.kind != registry.ARRAYS and state == "in mirror"
        if state not in ("yes", "-") and not in_place:
            private = entry and all(way.how == "private" for way in entry.ways)
            why = f"{name} ({'private' if private else f'{state} in {registry.data_root()}'})"
        elif features and not (features_folder(name) / "manifest.json").exists():
            why = f"features of {name} (not made)"
        found |= dict.fromkeys(run_ids, why) if why else {}
    return found


class Campaign:
    """What there is to do in a tier, over all papers.

    Parameters
    ----------
    results : folder laid out as results/, for the records. Those that came with the checkout count, wherever new go.

    Attributes
    ----------
    lost : {run id: what is lacking} of runs without a record that cannot be had here.
    order : what `arrange` made of the others, whose seconds are `due`.
    """

    def __init__(self, tier: Tier, results: Path):
        self.parts: list[Part] = []
        self.waiting: list[list[Run]] = []  # those of each part that are due
        self.groups: list[Group] = []
        self.lost: dict[str, str] = {}
        self.below: dict[str, list[Run]] = {}
        for paper in papers_of(tier.tier):
            part, published = Part.of(paper, tier, results / tier.tier / paper / "runs"), runs_folder(paper, tier.tier)
            index = known_index(paper, tier.tier, published)
            todo = [run for run in part.todo if not current(run, published, index, part.home.code, tier.adopt)]
            self.lost |= lacking_data(todo)
            self.parts.append(part)
            self.waiting.append([run for run in todo if run.id not in self.lost])
            self.groups += groups_of(paper, tier.tier)
            self.below |= standing_on(part.planned)
        self.due: dict[str, float] = {}
        self.order: list[Purchase] = []

    def arrange(self, seconds: float, declare: Callable[[Run], float] | None = None) -> None:
        """Put what is due in order, for so many seconds one after the other.

        Parameters
        ----------
        declare : says how long a run takes; unless told records of its like, else config.yaml.
        """
        begun = set()
        for part, runs in zip(self.parts, self.waiting, strict=True):
            self.due |= {run.id: declare(run) for run in runs} if declare else estimates(runs, part.folder)
            begun |= {run.id for run in runs if (part.home.work / f"{run.id}.pt").exists()}
        self.order = ordered(self.groups, self.due, self.below, seconds, self.lost, begun)

    def todo(self) -> list[Run]:
        """Return all runs in order."""
        return [run for purchase in self.order for run in purchase.runs]

    def fitting(self) -> list[str]:
        """Return the ids of the runs that fit into the seconds by the estimates."""
        return [run.id for purchase in self.order if purchase.fits for run in purchase.runs]

    def complete(self, made: Iterable[str]) -> list[Group]:
        """Return the groups worth something of which nothing is due or lost once these runs are made."""
        left = (self.due.keys() | self.lost.keys()) - set(made)
        return [p.group for p in self.order if p.group.worth and left.isdisjoint(run.id for run in p.group.runs)]

    def bought(self, made: Iterable[str]) -> str:
        """Say what these runs buy."""
        done = self.complete(made)
        names = [name for group in done for name in (*group.cells, *group.claims)]
        more = f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        counted = f"{sum(len(g.cells) for g in done)} reported numbers and {sum(len(g.claims) for g in done)} claims"
        return counted + (f" ({'; '.join(names[:SHOWN])}{more})" if names else "")


def campaign(
    tier: Tier,
    results: Path,
    *,
    budget: float,
    box: float,
    device: str | None = None,
    began: float | None = None,
    say: Callable[[str], None] = tell,
) -> int:
    """Train for at most `box` seconds from `began` on, and at most what is left of `budget`; return how many failed."""
    began, where = began or time.time(), tier.device if device is None else device
    ledger = repository() / CHECKPOINTS / tier.tier / LEDGER
    spent = _spent(ledger)
    end = began + min(box, budget - spent)
    if end > began and end - time.time() < SAVE + CUT and box <= budget - spent:
        say(f"a box of {duration(box)} ends before a run can begin here: give a longer --box")
        return 0
    if end - time.time() < SAVE + CUT:
        say(f"the budget of {duration(budget)} is spent: raise --budget, or remove {ledger} for another campaign")
        return 0
    hand = Hand.of(where, tier.runs_at_once)
    plan = Campaign(tier, results)
    plan.arrange((budget - spent) * hand.at_once)
    todo = plan.todo()
    say(
        f"campaign, tier {tier.tier}: {duration(spent)} of {duration(budget)} spent, this call ends within "
        f"{duration(end - began)}, {hand}; by the estimates all calls buy {plan.bought(plan.fitting())}"
    )
    for why, n in Counter(plan.lost.values()).items():
        say(f"left out: {n} runs for want of {why}; `python -m shared.datasets` lists, fetches and unpacks")
    warn(todo, where, say)
    progress = Progress({run.id: plan.due[run.id] for run in todo})
    try:
        train(plan.parts, todo, hand, progress, end - SAVE, say, end=end - CUT)
    finally:
        _note(ledger, began, progress)
    following = next((p for p in plan.order if any(run.id not in progress.made for run in p.runs)), None)
    then = f"the same call goes on with {following.group.name}" if following else "nothing is left to train here"
    say(f"bought {plan.bought(progress.made)}; {progress.done} records in {duration(time.time() - began)}; {then}")
    return progress.failed


def forecast(
    tier: Tier, results: Path, budget: float, cards: Iterable[str], say: Callable[[str], None] = print
) -> None:
    """Say what cards would finish in the budget, one run at a time, by arithmetic."""
    say("Arithmetic, not a measurement: see shared/runs/cards.py. Records of this tier replace it once there are some.")
    cards, plan = list(cards), Campaign(tier, results)
    for card in cards:
        plan.arrange(budget, partial(arithmetic, card=CARDS[card]))
        say(f"{card}: {duration(budget)} buy {plan.bought(plan.fitting())} in {len(plan.fitting())} runs")
        lines = [p for p in plan.order if p.fits and p.runs and p.group.worth]
        for p in lines if len(cards) == 1 else lines[:SHOWN]:
            declared, what = sum(run.seconds for run in p.runs), f"{len(p.group.cells)} numbers"
            what += f", {len(p.group.claims)} claims, {len(p.runs)} runs"
            say(f"  {duration(p.seconds):>8}  (declared {duration(declared):>8})  {p.group.name}: {what}")


def _process_began() -> float:
    """Return when this process began: importing takes part of a box, too, and on a cold disk much of it."""
    try:
        ticks = float(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        age = up - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        age = 0.0
    return time.time() - (age if 0 <= age < 600 else 0.0)  # a container may count from another start


def _spent(ledger: Path) -> float:
    try:
        with ledger.open(newline="", encoding="utf-8") as stream:
            return sum(float(row["seconds"]) for row in csv.DictReader(stream))
    except FileNotFoundError:
        return 0.0
    except (ValueError, KeyError, TypeError):
        ledger.unlink()  # for counting alone
        return 0.0


def _note(ledger: Path, began: float, progress: Progress) -> None:
    before = ledger.read_text(encoding="utf-8") if ledger.exists() else "began,seconds,done,failed,paused\n"
    row = f"{began:.0f},{time.time() - began:.1f},{progress.done},{progress.failed},{progress.paused}\n"
    write_text(ledger, before + row)


def benchmarks(results: Path, device: str, until: float, say: Callable[[str], None] = tell) -> None:
    """Run the benchmarks whose tables are not there yet, in processes of their own; those that take too long, not."""
    out = results / "bench"
    for name in BENCHMARKS:
        if (out / f"{name}_gpu.csv").exists():
            continue
        call = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(out.absolute()), "--device", device]
        try:
            done = subprocess.run(call, cwd=repository(), timeout=max(1.0, until - time.time()))
        except subprocess.TimeoutExpired:
            say(f"benchmark {name} did not end in time and left no table")
            continue
        if done.returncode:
            say(f"benchmark {name} failed; the campaign goes on")


def main(argv: list[str] | None = None) -> int:
    began = _process_began()
    parser = argparse.ArgumentParser(
        prog="python -m shared.runs.campaign", description=__doc__.split("\n\n")[0], epilog="See docs/gpu.md."
    )
    parser.add_argument("--budget", type=parse_duration, required=True, help="for all calls on this machine, as 28m")
    parser.add_argument(
        "--box", type=parse_duration, help="this call ends within that, e.g. 9m; the budget unless told"
    )
    parser.add_argument("--tier", default="gpu", help="gpu unless told")
    parser.add_argument("--device", help="cpu, cuda, cuda:N or auto; the tier's unless told")
    parser.add_argument("--records", type=path_of, help="a folder laid out as results/, which it is unless told")
    parser.add_argument("--benchmarks", action="store_true", help="first those of training and of kernels, once")
    parser.add_argument("--dry-run", action="store_true", help="what cards would finish, by arithmetic, and stop")
    parser.add_argument("--card", choices=CARDS, help="with --dry-run: all that this one would finish")
    args = parser.parse_args(argv)
    if args.card and not args.dry_run:
        parser.error("--card goes with --dry-run")
    if argv is None:
        go_home()

    def command() -> int:
        tier, results = load_tier(args.tier), args.records or repository() / "results"
        if args.dry_run:
            forecast(tier, results, args.budget, [args.card] if args.card else CARDS)
            return 0
        box = args.box or args.budget
        if args.benchmarks:
            benchmarks(results, args.device or "auto", began + box - SAVE)
        failed = campaign(tier, results, budget=args.budget, box=box, device=args.device, began=began)
        return RUNS_FAILED if failed else 0

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
