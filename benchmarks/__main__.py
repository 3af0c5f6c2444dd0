"""The benchmarks: ``python -m benchmarks --list`` names them; those that ``--only`` names, or all, run one by one."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import (
    e_step,
    exclusive,
    families,
    fused,
    growth,
    llp_learn,
    losing,
    peers,
    relabel,
    small_steps,
    stamp,
    training,
    transport,
)
from benchmarks.command import COMMITTED, SCRATCH, About, add_options, parse
from shared.config import repository
from shared.runs.sweep import duration

MODULES = (transport, families, growth, training, small_steps, e_step, relabel, exclusive, fused, llp_learn)
ABOUT = {module.ABOUT.name: module.ABOUT for module in MODULES}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns 1 if a benchmark failed, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure speed and memory beside other libraries; tables go to {SCRATCH} unless told.",
    )
    parser.add_argument("--list", action="store_true", help="name the benchmarks and how long each takes, and stop")
    parser.add_argument("--only", nargs="+", choices=ABOUT, default=list(ABOUT), metavar="NAME", help="run these alone")
    parser.add_argument("--mark", action="store_true", help="let committed tables say whether they are old, and stop")
    add_options(parser)
    args = parse(parser, argv)
    chosen = [about for name, about in ABOUT.items() if name in args.only]
    if args.list or args.mark:
        for about in chosen if args.list else ():
            print(f"{about.name:12}{duration(about.seconds):>8}  {about.measures}")
        for path, about in committed():
            old = stamp.mark(path, about) if args.mark else stamp.is_old(path, about)
            if old and about in chosen:
                print(stamp.sentence(path, about))
        return 0
    if not args.quick:
        print(f"{len(chosen)} benchmarks, about {duration(sum(about.seconds for about in chosen))} on two CPU cores")
    print(peers.sentence())
    started = time.time()
    options = ["--overwrite"] if args.overwrite else ["--out", str(args.out.absolute())]
    options += ["--device", args.device, *(["--quick"] if args.quick else [])]
    failed = [about.name for number, about in enumerate(chosen, 1) if not _run(about, number, len(chosen), options)]
    tables = [path for path in sorted(args.out.glob("*.csv")) if path.stat().st_mtime >= started - 1]
    print(f"\ntables in {args.out}" + (f"; FAILED: {', '.join(failed)}" if failed else ""))
    losing.show([path for path in tables if stamp.owner(path, chosen)])
    print(peers.sentence())
    return 1 if failed else 0


def committed() -> list[tuple[Path, About]]:
    """The committed tables, each with the benchmark that makes it."""
    tables = [(path, stamp.owner(path, ABOUT.values())) for path in sorted((repository() / COMMITTED).glob("*.csv"))]
    return [(path, about) for path, about in tables if about]


def _run(about: About, number: int, of: int, options: list[str]) -> bool:
    """Run one benchmark in a fresh process: its threads, caches and peak of memory are its own."""
    print(f"\n[{number}/{of}] {about.name}: {about.measures}; {about.takes('--quick' in options)}", flush=True)
    started = time.time()
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{about.name}", *options], cwd=repository())
    if done.returncode == 0:
        print(f"{about.name} took {duration(time.time() - started)}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
