"""Print what a training step of each method waits for on a GPU: ``python -m tests.pretend [--where] [METHOD ...]``."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.contract.paper_tier import toys
from tests.pretend.device import MISSING
from tests.pretend.runs import METHODS, total, waits

KINDS = ("read", "upload", "sent")


def main() -> int:
    """Print a table; with --where the lines, too."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.pretend",
        description="What a training step waits for: reads of the device by the host, uploads that are waited for; "
        "and how much is sent to it without waiting. The most of any step, in toy runs of the tier paper.",
    )
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"some of: {'; '.join(METHODS)}")
    parser.add_argument("--where", action="store_true", help="name the lines of code")
    args = parser.parse_args()
    if MISSING:
        parser.exit(1, f"{MISSING}\n")
    for name in args.methods:
        if name not in METHODS:
            parser.error(f"{name!r} is none of: {'; '.join(METHODS)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for name in args.methods or METHODS:
            prepared(Path(folder), METHODS[name][0], patch)
        print(f"{'':20}" + "".join(f"{kind:>8}" for kind in KINDS))
        for name in args.methods or METHODS:
            prepared(Path(folder), METHODS[name][0], patch)
            steps = waits(name)
            print(f"{name:20}" + "".join(f"{max(total(step, kind) for step in steps):8}" for kind in KINDS))
            for (kind, what, where), number in sorted(most(steps).items()) if args.where else ():
                print(f"{'':20}{number:4} {kind}: {what}, {where}")
    return 0


def most(steps: list[Counter]) -> Counter:
    """Return the step that waits most."""
    return max(steps, key=lambda step: total(step, "read") + total(step, "upload"))


def prepared(folder: Path, paper: str, patch: pytest.MonkeyPatch) -> None:
    """Put the toy data of a paper in place, made once."""
    root = folder / paper
    toys.use(root, patch)
    if not (root / "made").exists():
        importlib.import_module(f"tests.contract.paper_tier.{paper}").data(root)
        (root / "made").touch()


if __name__ == "__main__":
    sys.exit(main())
