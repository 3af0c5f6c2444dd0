"""The command line that all benchmarks share: what each measures, how long it takes, and where its tables go."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from shared.config import repository
from shared.runs.drive import duration
from shared.runs.options import count

COMMITTED = Path("results", "bench")
SCRATCH = Path(".work", "bench")  # ignored by git


@dataclass(frozen=True)
class About:
    """What `--list` says of a benchmark.

    Attributes
    ----------
    name : of its module.
    measures : what it measures, in a line.
    seconds : how long it takes on two CPU cores: the sum of the times in its committed table, and what is around them.
    code : modules whose speed it measures; when they change its table is old, see `benchmarks.stamp`.
    """

    name: str
    measures: str
    seconds: float
    code: tuple[str, ...]

    def takes(self, quick: bool = False) -> str:
        """Return how long it takes, in words; with `quick`, of the smallest sizes."""
        return "less than a minute" if quick else f"about {duration(self.seconds)} on two CPU cores"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what all benchmarks understand, one by one or together."""
    places = parser.add_mutually_exclusive_group()
    places.add_argument("--out", type=Path, metavar="FOLDER", help=f"folder of the tables; {SCRATCH} unless told")
    places.add_argument("--overwrite", action="store_true", help=f"replace the committed numbers in {COMMITTED}")
    parser.add_argument("--device", help="cpu, cuda or auto; auto unless told")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, seconds: to see that it runs, no numbers")


def parser_of(about: About, threads: int) -> argparse.ArgumentParser:
    """Return the parser of one benchmark; `threads` is how many CPU threads torch has unless told."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{about.name}",
        description=f"Measure {about.measures}; {about.takes()}.",
    )
    add_options(parser)
    parser.add_argument("--threads", type=count, default=threads, help="CPU threads of torch; %(default)s unless told")
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Return the options, with `out` the folder to write to; committed numbers are refused unless asked for."""
    args = parser.parse_args(argv)
    if args.quick and args.overwrite:
        parser.error("--quick measures nothing worth keeping: not with --overwrite")
    committed = repository() / COMMITTED
    if args.overwrite:
        args.out = committed
    elif args.out and args.out.resolve() == committed.resolve():
        parser.error(f"{COMMITTED} holds the committed numbers; --overwrite replaces them")
    else:
        args.out = args.out or repository() / SCRATCH
    args.device = args.device or "auto"
    return args
