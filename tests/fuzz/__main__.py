"""Damage files of every kind for a while and say what went wrong: ``python -m tests.fuzz --seconds 300``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.running import cases
from tests.fuzz.targets import TARGETS

SHOWN = 40  # findings of a target; of two that end alike the first


def fuzz(name: str, seed: int, seconds: float, out: Path) -> None:
    """Fuzz one target; keep each new kind of finding below `out`, the damaged file beside what went wrong."""
    os.dup2(os.open(out / f"{name}.err", os.O_WRONLY | os.O_CREAT), 2)  # decoders say much
    end, count, seen = 0.0, 0, Counter()
    with tempfile.TemporaryDirectory(dir=out) as folder:
        for case, path, wrong in cases(name, seed, Path(folder) / "files"):
            end, count = end or time.time() + seconds, count + 1
            if wrong:
                kind = wrong.strip().splitlines()[-1][:60]
                seen[kind] += 1
                if seen[kind] == 1 and len(seen) <= SHOWN:
                    kept = out / f"{name}-{seed}-{case}{path.suffix}"
                    shutil.copyfile(path, kept)
                    print(f"{name}, case {case} of seed {seed}: {path.name} kept as {kept}\n{wrong}\n", flush=True)
            if time.time() > end:
                break
    print(f"{name}: {count} cases, {sum(seen.values())} wrong, of {len(seen)} kinds", flush=True)
    sys.exit(1 if seen else 0)


def main() -> int:
    """Fuzz every target, one after the other, each in a process of its own: a reader may crash."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default all: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=220, help="in all (default 220)")
    parser.add_argument("--seed", type=int, default=None, help="default: of the clock")
    parser.add_argument("--out", type=Path, default=None, help="folder of what was found (default a temporary one)")
    args = parser.parse_args()
    if unknown := set(args.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    names = args.targets or list(TARGETS)
    seed = int(time.time()) if args.seed is None else args.seed
    out = args.out or Path(tempfile.mkdtemp(prefix="fuzz-"))
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in names:
        process = multiprocessing.Process(target=fuzz, args=(name, seed, args.seconds / len(names), out))
        process.start()
        process.join()
        if process.exitcode:
            failed.append(name)
        if process.exitcode and process.exitcode < 0:
            print(f"{name}: the reader was ended by signal {-process.exitcode}; see {out}")
    print(f"seed {seed}: " + (f"wrong: {', '.join(failed)}; see {out}" if failed else "nothing found"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
