"""One run as a program: ``python -m papers.rot.train cifar10/rot/bag64/seed0 --here --set alpha=0.42 --save out.pt``.

With ``--here`` it trains in this process, where `breakpoint()` works, and writes no record; without, the runs of a
paper that have no record yet are trained by worker processes, as by ``python -m shared.runs.sweep``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import time
from pathlib import Path

from shared.config import ConfigError, Run, find, load_tier, plan
from shared.config.spec import parse_changes
from shared.records import store
from shared.runs.code import code_hash
from shared.runs.data import damaged_data
from shared.runs.drive import duration
from shared.runs.machine import device_of
from shared.runs.options import add_options, parse_options, path_of, refuse
from shared.runs.sweep import current, from_options, guarded, known_index, runs_folder, tell, unmatched

# Options that mean nothing to one run here.
FOR_SWEEPS = ("time_budget", "only", "shard", "gather", "at_once", "cores", "again", "dry_run")
FOR_TRAINING = ("here", "set", "save", "device", *(name for name in FOR_SWEEPS if name != "only"))
FOR_SEVERAL = ("only", "shard", "gather")


def main(paper: str, argv: list[str] | None = None) -> int:
    """Run the command line of a paper's train.py; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m papers.{paper}.train",
        description=f"Train runs of {paper}: those of a tier that have no record, or one, here, to look into it.",
    )
    parser.add_argument("id", nargs="?", metavar="ID", help="one run; --list names them")
    parser.add_argument("--list", action="store_true", help="name the runs of the tier, with their state, and stop")
    parser.add_argument("--here", action="store_true", help="train ID in this process and write no record")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="with --here: other values"
    )
    parser.add_argument("--save", type=path_of, metavar="FILE", help="with --here: keep the weights in FILE")
    add_options(parser)
    args = parse_options(parser, argv)
    if args.list:
        refuse(parser, args, FOR_TRAINING, "is not for --list, which names runs and stops")
        if args.id:
            parser.error(f"--list names all runs, or those that --only says; write --only '{args.id}' for one of them")
    if args.here and not args.id:
        parser.error("--here needs the ID of a run; --list names them")
    if not args.here and (args.set or args.save):
        parser.error("--set and --save are for --here, which writes no record")
    if args.here:
        refuse(parser, args, FOR_SWEEPS, "is for runs that are recorded, not for --here")
    if args.id:
        refuse(parser, args, FOR_SEVERAL, "is for several runs and the ID names one; leave one of them out")
    return guarded(lambda: _command(paper, args))


def _command(paper: str, args: argparse.Namespace) -> int:
    if args.list:
        return _list(paper, args)
    if args.here:
        return _here(find(paper, args.tier, args.id), args)
    only = f"^{re.escape(find(paper, args.tier, args.id).id)}$" if args.id else None
    return from_options(paper, args, only)


def _list(paper: str, args: argparse.Namespace) -> int:
    tier, folder = load_tier(args.tier), args.records or runs_folder(paper, args.tier)
    code = code_hash(f"papers.{paper}.train")
    index = known_index(paper, args.tier, folder)
    runs = [run for run in plan(paper, args.tier) if not args.only or re.search(args.only, run.id)]
    if args.only and not runs:
        raise unmatched([paper], tier, args.only)
    try:
        for run in runs:
            print(f"{run.id}  {_state(run, folder, index, code, tier.adopt)}")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; a sweep needs this error to notice a dead worker
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _state(run: Run, folder: Path, index: dict | None, code: str, adopt: bool) -> str:
    """Return a state of `store.Kept`, or outdated where the record is of another spec or code."""
    if current(run, folder, index, code, adopt):
        return store.DONE
    state = store.find_record(folder, run.id, index).state
    return store.OUTDATED if state == store.DONE else state


def _here(run: Run, args: argparse.Namespace) -> int:
    changes = parse_changes(args.set, run.spec)
    spec = run.spec.but(**changes)
    if args.save:
        _check_save(args.save, run)
    device = device_of(load_tier(args.tier).device if args.device is None else args.device)
    if damaged := damaged_data([run]).get(run.id):
        raise ConfigError(damaged)
    tell(f"{run.id} on {device}" + "".join(f", {key} = {value!r}" for key, value in changes.items()))
    train = importlib.import_module(f"papers.{run.spec.paper}.train").train
    if device == "cpu":
        _one_thread()
    started = time.time()
    try:
        result = train(spec, device=device, report=_Lines())
    except KeyboardInterrupt:
        tell("stopped; no record was written")
        return 130
    except Exception as error:
        if getattr(error, "not_run", False):
            raise ConfigError(f"NOT RUN: {error}") from None
        raise
    tell(f"{result.says}, {time.time() - started:.1f} s; no record was written")
    for selection, metrics in {**result.metrics, "cost": result.cost}.items():
        for name, value in metrics.items():
            print(f"{selection:16}{name:28}{_number(value)}")
    for name, course in result.convergence.items():
        span = f"in the last {course['epochs']} epochs"
        spread = "" if course["error"] is None else f" +- {_number(course['error'])}"
        print(f"{'convergence':16}{name:28}{course['gain']:+.4g}{spread} {span}")
    if args.save:
        _save(args.save, run, spec, result)
    _beside(run, args, result.metrics, bool(changes))
    return 0


def _beside(run: Run, args: argparse.Namespace, metrics: dict, changed: bool) -> None:
    """Say how what was found compares with the record, where there is one of the same spec."""
    folder = args.records or runs_folder(run.spec.paper, args.tier)
    kept = store.find_record(folder, run.id, known_index(run.spec.paper, args.tier, folder))
    if kept.why:
        tell(kept.why)
    elif kept.record and not changed and kept.record["spec_hash"] == run.spec_hash:
        same = "the same" if kept.record["metrics"] == metrics else "other"
        tell(f"the record has {same} metrics: {store.record_path(folder, run.id)}")


def _check_save(path: Path, run: Run) -> None:
    """Refuse, before anything trains, a file that could not be written and a run that has no weights."""
    if not path.parent.is_dir():
        raise ConfigError(f"--save {path}: there is no folder {path.parent}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--save {path}: this file cannot be written")
    if run.spec.values().get("task") == "check":
        raise ConfigError(f"{run.id} trains nothing: there are no weights to save")


def _save(path: Path, run: Run, spec, result) -> None:
    if result.method is None:
        raise ConfigError(f"{run.id} trained nothing that could be saved")
    from shared.training import checkpoint

    checkpoint.keep(path, {"id": run.id, "spec": spec.values(), "method": result.method.state_dict()})
    tell(f"weights in {path}: torch.load({str(path)!r}, weights_only=True)['method']")


def _one_thread() -> None:
    """Set one thread, as in a worker: the number of cores does not change the numbers."""
    import torch

    if "numba" in sys.modules:
        sys.modules["numba"].set_num_threads(1)  # first: where it starts its own threads, it sets torch's too
    torch.set_num_threads(1)


class _Lines:
    """One line an epoch: how far, the loss, the test measure, the time left."""

    def __init__(self):
        self.started = time.time()

    def __call__(self, fraction: float, numbers: dict) -> None:
        if not numbers:
            return
        left = (time.time() - self.started) * (1 - fraction) / max(fraction, 1e-9)
        shown = {k: v for k, v in numbers.items() if k not in ("epoch", "epochs")}
        text = "  ".join(f"{name} {_number(value)}" for name, value in shown.items())
        where = f"epoch {numbers['epoch']}/{numbers['epochs']}" if "epochs" in numbers else f"{100 * fraction:.0f} %"
        tell(f"{where}  {text}  ~{duration(left)} left")


def _number(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
