"""Compile every loop that is kept as machine code, two at a time: ``python -m workflows.compiling``; once a user."""

from __future__ import annotations

import importlib
import multiprocessing
import sys

LOOPS = (
    "papers.mle_llp.plain:E_STEP",  # the longest first
    "shared.transport.machine:EXACT",
    "shared.transport.plain:COMPILED",
    "papers.rot.loss:COMPILED",
    "shared.methods.proportion:COMPILED",
)


def compile_loops(name: str) -> int:
    """Compile the loops of a module, given as ``module:name``, unless they are kept; return how many they are."""
    module, _, attribute = name.partition(":")
    return len(getattr(importlib.import_module(module), attribute).calls)


def main() -> int:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(compile_loops, LOOPS, chunksize=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
