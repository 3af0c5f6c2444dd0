"""The options of the programs that train: what they mean as typed, which go together, and from where folders count."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable
from pathlib import Path

from shared.config import repository
from shared.config.tiers import add_tier
from shared.datasets.places import DATA, MIRROR
from shared.runs.shards import parse_shard

NOT_GATHERED = ("only", "again", "shard", "time_budget", "dry_run")  # what means nothing where nothing is trained


def parse_duration(text: str) -> float:
    """Seconds of "90", "90s", "9m" or "1.5h"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; write 90s, 9m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def pattern(text: str) -> str:
    """Return a regular expression as typed, or refuse it as an option's value."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None
    return text


def count(text: str) -> int:
    """Return a number above 0 as typed, or refuse it as an option's value."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def path_of(text: str) -> Path:
    """Return a file or folder as typed, from where the program was called."""
    return Path(text).absolute()


def go_home() -> None:
    """Go to the repository, once options are read; folders that the environment names stay where they are."""
    for name in (DATA, MIRROR):
        if (said := os.environ.get(name)) and not said.startswith("~"):
            os.environ[name] = str(Path(said).absolute())
    os.chdir(repository())


def refuse(parser: argparse.ArgumentParser, args: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """End as argparse does where one of these options is given, and say why it cannot be."""
    for name in names:
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} {why}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a sweep to a parser."""
    add_tier(parser)
    parser.add_argument("--records", type=path_of, help="folder of records; results/<tier>/<paper>/runs unless told")
    parser.add_argument("--time-budget", type=parse_duration, help="stop, with checkpoints, after e.g. 9m")
    parser.add_argument("--only", type=pattern, help="regular expression: run only ids that match")
    parser.add_argument("--shard", type=parse_shard, metavar="I/N", help="one of N parts of the plan, a job of its own")
    parser.add_argument("--gather", action="store_true", help="train nothing: write the index of what shards have made")
    parser.add_argument("--device", help="cpu, cuda, cuda:N or auto; the tier's unless told")
    parser.add_argument("--at-once", help="runs at once: a number, cores or auto; the tier's unless told")
    parser.add_argument("--cores", type=count, help="CPU cores to use; all unless told")
    again = bool(os.environ.get("LLP_AGAIN"))
    parser.add_argument("--again", action="store_true", default=again, help="train anew what has a record, too")
    parser.add_argument("--dry-run", action="store_true", help="list what would run, with estimates, and stop")


def parse_options(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parse the options of `add_options`; one that another makes meaningless is refused."""
    args = parser.parse_args(argv)
    if args.gather:
        refuse(parser, args, NOT_GATHERED, "is not for --gather, which trains nothing; leave one of them out")
    return args
