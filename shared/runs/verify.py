"""Committed records trained again and compared: ``python -m shared.runs.verify rot --sample 4``.

A rerun starts from nothing, in a folder of its own: no checkpoint and no shared stage of an earlier sweep is taken.
What was asked for (spec), what it learned from (bags, data) and what came out (metrics, curves) must be equal to the
last digit; durations, memory, versions and commits may differ. On another model of CPU vectorised sums end in other
digits, which training amplifies: such a difference is called `elsewhere`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from shared.config import ConfigError, Run, Tier, load_tier, papers, papers_of, plan, tiers
from shared.config.tiers import add_tier, check_paper
from shared.records import store
from shared.runs.code import code_hash
from shared.runs.data import damaged_data
from shared.runs.drive import Progress, drive, duration
from shared.runs.lanes import Hand
from shared.runs.options import count, go_home, path_of, pattern
from shared.runs.provenance import commit, origin
from shared.runs.sweep import CHECKPOINTS, caveat, guarded, index_folder, runs_folder, unmatched
from shared.runs.verified import COUNTS, write_verified
from shared.runs.workers import Event, Home, Pool

ELSEWHERE = "elsewhere"  # differs, and was recorded on another machine
PARTS = ("spec", "spec_hash", "bags", "data", "metrics", "curves")
STATES = (*COUNTS, "outdated", "missing")
WRONG = (*COUNTS[1:], "outdated")  # all that was compared and is not `same`
MACHINE = (
    "cpu",
    "capability",
    "machine",
    "torch",
    "numpy",
    "scipy",
    "numba",
    "threads",
    "device",
)  # what last digits depend on
STARTUP = 8.0  # seconds the first run of a worker takes more: imports, compiled code
ABSENT = "(absent)"


@dataclass(frozen=True)
class Difference:
    """A value that is not the same in a record and in its rerun; `at` is its path, as ``metrics.last.accuracy``."""

    at: str
    recorded: Any
    now: Any

    @property
    def size(self) -> float | None:
        """The absolute difference of two numbers; None of anything else."""
        if _is_number(self.recorded) and _is_number(self.now):
            return abs(self.recorded - self.now)
        return None

    def __str__(self) -> str:
        by = "" if self.size is None else f" (by {self.size:.3g})"
        return f"{self.at}: {_shown(self.recorded)} recorded, {_shown(self.now)} now{by}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = value if value is ABSENT else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def differences(recorded: Any, now: Any, at: str = "") -> Iterator[Difference]:
    """Yield every value in which two records, or parts of them, differ, also those that one of them lacks."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        for key in {**recorded, **now}:
            yield from differences(recorded.get(key, ABSENT), now.get(key, ABSENT), f"{at}.{key}" if at else str(key))
    elif isinstance(recorded, list) and isinstance(now, list):
        for i, (before, after) in enumerate(zip_longest(recorded, now, fillvalue=ABSENT)):
            yield from differences(before, after, f"{at}[{i}]")
    elif recorded != now or isinstance(recorded, bool) != isinstance(now, bool):
        yield Difference(at, recorded, now)


def differing(recorded: dict, now: dict) -> list[Difference]:
    """Return in what two records of one run differ, durations, environment and provenance apart."""
    before, after = ({part: record.get(part, ABSENT) for part in PARTS} for record in (recorded, now))
    return list(differences(before, after))


def worst(found: list[Difference]) -> str:
    """Say how many values differ, the largest difference of two numbers, and the first of what is no number."""
    numbers = sorted((d for d in found if d.size is not None), key=lambda d: -(d.size or 0.0))
    others = [d for d in found if d.size is None]
    return "; ".join([f"{len(found)} values", *map(str, [*numbers[:1], *others[:1]])])


@dataclass
class Found:
    """The records of one paper's tier before anything is trained.

    Attributes
    ----------
    current : {run id: record} of those that answer the spec of the plan.
    outdated : {run id: why} of those that do not.
    missing : {run id: why} of planned runs without a record.
    """

    paper: str
    runs: dict[str, Run]
    current: dict[str, dict] = field(default_factory=dict)
    outdated: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def look(paper: str, tier: str, only: str | None = None) -> Found:
    """Return the records of the planned runs whose ids match `only`."""
    folder = runs_folder(paper, tier)
    index = store.read_index(index_folder(paper, tier, folder)) or {}
    found = Found(paper, {run.id: run for run in plan(paper, tier) if not only or re.search(only, run.id)})
    for run in found.runs.values():
        kept = store.find_record(folder, run.id, index)
        if kept.record and kept.record["spec_hash"] == run.spec_hash:
            found.current[run.id] = kept.record
        elif kept.record:
            change = next(differences(kept.record["spec"], run.spec.canonical()), "hashed otherwise")
            found.outdated[run.id] = f"the plan has another spec: {change}"
        elif kept.state in (store.MISSING, store.FAILED):
            why = index.get(run.id, {}).get("why")
            found.missing[run.id] = f"there is no record{': ' if why else ''}{why or ''}"
        else:
            found.outdated[run.id] = kept.why or "the record is of an older schema"
    return found


def sample(found: Found, n: int) -> dict[str, dict]:
    """Return `n` of the current records: of as many kinds as they can be, the cheaper first; always the same ones.

    A kind is a method, and every word of a spec: its dataset, its loss, its network. Each run taken is the one that
    adds the most kinds a second; when all kinds are there, it begins again.
    """
    kinds = {run_id: _kinds(found.runs[run_id]) for run_id in found.current}
    left = list(found.current)
    chosen: list[str] = []
    covered: set[tuple[str, str]] = set()
    while left and len(chosen) < n:
        if all(kinds[run_id] <= covered for run_id in left):
            covered = set()
        best = max(left, key=lambda run_id: len(kinds[run_id] - covered) / (1.0 + _wall(found.current[run_id])))
        left.remove(best)
        chosen.append(best)
        covered |= kinds[best]
    return {run_id: found.current[run_id] for run_id in chosen}


def _kinds(run: Run) -> set[tuple[str, str]]:
    words = {(key, value) for key, value in run.spec.canonical().items() if isinstance(value, str)}
    return words | {("method", run.method)}


def _wall(record: dict) -> float:
    return float(record["cost"]["wall_s"])


def _seconds(records: dict[str, dict], at_once: int) -> dict[str, float]:
    """How long each record of a paper took, with the start of a worker before the first few."""
    return {run_id: _wall(r) + (STARTUP if i < at_once else 0.0) for i, (run_id, r) in enumerate(records.items())}


def rerun(
    names: list[str],
    tier: Tier,
    out: Path,
    *,
    only: str | None = None,
    n_sample: int | None = None,
    cores: int | None = None,
    say=print,
) -> dict[str, Counter]:
    """Train committed records again into `out`, say of each what came of it; return {paper: {state: how many}}.

    Parameters
    ----------
    out : a folder that is empty or not there; it gets ``<paper>/runs`` and, for checkpoints, ``.work``.
    only : a regular expression on run ids.
    n_sample : how many records of each paper; all unless told.
    """
    states: dict[str, Counter] = {paper: Counter() for paper in names}
    looked, hand = [look(paper, tier.tier, only) for paper in names], Hand.of(tier.device, tier.runs_at_once, cores)
    if only and not any(found.runs for found in looked):
        raise unmatched(names, tier, only)
    todo = {f.paper: (f, f.current if n_sample is None else sample(f, n_sample)) for f in looked}
    seconds = {run_id: s for _, records in todo.values() for run_id, s in _seconds(records, hand.at_once).items()}
    damaged = damaged_data(found.runs[run_id] for found, records in todo.values() for run_id in records)
    if damaged:
        raise ConfigError("; ".join(sorted(set(damaged.values()))))
    progress = Progress(seconds)
    say(
        f"tier {tier.tier}: {len(seconds)} of {sum(len(found.current) for found in looked)} records to train "
        f"again, {hand}, about {duration(progress.left({}, hand.at_once))}{caveat(tier, hand)}"
    )
    for found, records in todo.values():
        # In a sample, what cannot be compared for want of a record was not chosen.
        missing = found.missing if n_sample is None else {}
        for state, reasons in (("outdated", found.outdated), ("missing", missing)):
            states[found.paper][state] += len(reasons)
            for run_id, why in reasons.items():
                say(f"{state:10}{run_id}  {why}")
        if records:
            states[found.paper].update(_again(found, records, tier.tier, hand, progress, out, say))
    total = sum(states.values(), Counter())
    if not sum(total[state] for state in (*WRONG, "same")):
        rest = [name for name in tiers() if name != tier.tier]
        others = [name for name in rest if any((runs_folder(paper, name) / store.INDEX).exists() for paper in names)]
        told = f"; there are records of {', '.join(others)}: --tier NAME" if others else ""
        raise ConfigError(f"nothing was compared: {_counts(total)}{told}")
    say(_counts(total))
    return states


def _counts(states: Counter) -> str:
    return ", ".join(f"{states[state]} {state}" for state in STATES)


def _again(found: Found, records: dict, tier: str, hand: Hand, progress: Progress, out: Path, say) -> Counter:
    """Train some records of one paper again and compare each as it ends; return {state: how many}."""
    states: Counter = Counter()
    other: Counter[str] = Counter()
    code, folder = code_hash(f"papers.{found.paper}.train"), out / found.paper / "runs"
    for record in records.values():
        if record["code"]["hash"] != code:
            other[f"hash {record['code']['hash']}, {origin(record['code'])}"] += 1
    for source, n in other.items():
        say(f"{found.paper}: {n} records are of other code than {code}, which trains them now ({source})")
    apart: dict[str, Counter] = {"data": Counter(), "environment": Counter()}

    def ended(event: Event) -> str:
        state, text = _outcome(event, records, folder, apart)
        states[state] += 1
        return f"{state:10}{event.run_id}  {text}"

    work = out / CHECKPOINTS / tier / found.paper
    with Pool({found.paper: Home(code, folder, work)}, hand, None) as pool:
        runs = [found.runs[run_id] for run_id in records]
        drive(pool, runs, progress, None, say, ended)
    for what, changes in apart.items():
        for change, n in changes.items():
            say(f"{found.paper}: {n} runs had other {what}: {change}")
    return states


def _outcome(event: Event, records: dict, folder: Path, apart: dict[str, Counter]) -> tuple[str, str]:
    """Return the state of a run that has ended and what to say; count in `apart` what else was not the same."""
    if event.kind == "not run":
        return "missing", event.text
    if event.kind != "done":
        return "failed", f"trains no more, see {event.text}"
    recorded, now = records[event.run_id], store.load_record(store.record_path(folder, event.run_id))
    found = differing(recorded, now)
    apart["data"].update(str(difference) for difference in differences(recorded.get("data"), now.get("data")))
    if not found:
        return "same", f"{event.seconds:.1f} s"
    changed = list(differences(recorded["environment"], now["environment"]))
    apart["environment"].update(map(str, changed))
    return ELSEWHERE if any(change.at in MACHINE for change in changed) else "differs", worst(found)


def _command(args: argparse.Namespace) -> int:
    tier = load_tier(args.tier)
    for paper in args.paper:
        check_paper(paper)
    names = list(dict.fromkeys(args.paper)) or papers_of(tier.tier)
    if args.out and args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ConfigError(f"--out {args.out} is not an empty folder; a rerun must find nothing there")
    out = args.out or Path(tempfile.mkdtemp(prefix="verify-"))
    keep = bool(args.out)
    try:
        by_paper = rerun(names, tier, out, only=args.only, n_sample=args.sample, cores=args.cores, say=_print)
        if args.write:
            _print(f"{_written(by_paper, tier.tier)} says so")
        states = sum(by_paper.values(), Counter())
        wrong = sum(states[state] for state in WRONG if state != ELSEWHERE or not args.allow_elsewhere)
        keep = keep or bool(states["differs"] + states[ELSEWHERE] + states["failed"])
        if keep:
            _print(f"what was trained now is in {out}")
        return 1 if wrong else 0
    except KeyboardInterrupt:
        _print("stopped before all were compared")
        return 130
    finally:
        if not keep:
            shutil.rmtree(out, ignore_errors=True)


def _written(by_paper: dict[str, Counter], tier: str) -> Path:
    """Write down, beside the records, what came of those that were trained again; return the file."""
    found = {
        paper: {state: states[state] for state in COUNTS}
        | {"records": len(look(paper, tier).current), "code": code_hash(f"papers.{paper}.train")}
        for paper, states in by_paper.items()
        if any(states[state] for state in COUNTS)
    }
    return write_verified(runs_folder(next(iter(by_paper)), tier).parents[1], found, commit())


def _print(line: str) -> None:
    print(line, flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m shared.runs.verify",
        description="Train committed records again in a folder of their own, compare spec, bags, data, metrics and "
        "curves, and exit with 1 where they differ.",
    )
    parser.add_argument("paper", nargs="*", metavar="PAPER", help=f"of {', '.join(papers())}; all unless told")
    add_tier(parser)
    parser.add_argument("--only", type=pattern, metavar="REGEX", help="only ids that match")
    parser.add_argument(
        "--sample", type=count, metavar="N", help="N runs of each paper, of many kinds; all unless told"
    )
    parser.add_argument(
        "--allow-elsewhere",
        action="store_true",
        help="a difference from a record that was made on another CPU or with other versions is no failure",
    )
    parser.add_argument(
        "--write", action="store_true", help="write down what was found, in results/<tier>/verified.csv"
    )
    parser.add_argument("--cores", type=count, metavar="N", help="CPU cores to use; all unless told")
    parser.add_argument("--out", type=path_of, metavar="FOLDER", help="an empty folder to train into, which is kept")
    args = parser.parse_args(argv)
    if argv is None:
        go_home()
    return guarded(lambda: _command(args))


if __name__ == "__main__":
    sys.exit(main())
