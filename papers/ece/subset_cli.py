"""Command line of the localised sets: list, prepare, and the annotations of a training set in their order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from papers.ece import subsets
from shared.datasets.localised import prepared
from shared.datasets.localised.releases import RELEASES
from shared.datasets.catalogue import DatasetError, say
from shared.datasets.store import data_root

EPILOG = """\
LLP_DATA    folder of the prepared sets (default: data/ of this repository)
LLP_MIRROR  folder with the unpacked official releases, or with copies in the prepared layout
            (images/*.png with labels/*.png or objects.csv), each under the name of its set;
            a set of one's own is prepared from there under any name

exit status: 0 all well, 1 something failed, 2 wrong usage"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m papers.ece.data",
        description="Prepare sets of images with localised objects and their annotation subsets.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="what there is and what is prepared")
    sub = commands.add_parser(
        "prepare", help="make the prepared layout from the mirror, unless it is there, and check it"
    )
    sub.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(RELEASES)}, or a set of one's own")
    sub = commands.add_parser(
        "subset", help="the training objects of a set, each with the smallest fraction at which it is annotated"
    )
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("--seed", type=int, default=0, help="of the order of annotation (default 0)")
    sub.add_argument("--split", type=int, default=0, help="number of the split by group (default 0)")
    sub.add_argument("--target", default="", metavar="CLASS", help="only objects of this class (default all)")
    sub.add_argument("--out", type=Path, metavar="FILE", help="csv to write (default standard output)")
    args = parser.parse_args(argv)
    try:
        if args.command == "list":
            _list()
        elif args.command == "prepare":
            for name in args.names:
                data = prepared.open(name)
                print(f"{name}: {len(data.names)} images, {len(data.classes)} objects, sha256 {data.sha256()}")
        else:
            _subset(args)
        return 0
    except (DatasetError, OSError) as error:
        say(f"error: {error}")
        return 1


def _list() -> None:
    names = {path.parent.name for path in data_root().glob("*/manifest.json") if (path.parent / "images").is_dir()}
    for name in (*RELEASES, *sorted(names - set(RELEASES))):
        state = "not prepared"
        if name in names:
            found = prepared.manifest(data_root() / name)
            state = f"{found['images']} images, {found['objects']} objects"
        page = RELEASES[name].page if name in RELEASES else "one's own"
        print(f"{name:14}{state:32}{page}")


def _subset(args: argparse.Namespace) -> None:
    data = prepared.open(args.name)
    if args.target and args.target not in data.class_names:
        raise DatasetError(f"{args.name} has no class {args.target!r}; its classes are {', '.join(data.class_names)}")
    wanted = (subsets.splits(data, args.split) == subsets.TRAIN)[data.owners()]
    if args.target:
        wanted &= data.classes == data.class_names.index(args.target)
    entries = subsets.entry(data.offsets, wanted, args.seed)
    with args.out.open("w", encoding="utf-8") if args.out else nullcontext(sys.stdout) as file:
        subsets.write_subset(file, data, entries)
    say(f"{args.name}: {wanted.sum()} objects of the training images of split {args.split}, seed {args.seed}")


if __name__ == "__main__":
    sys.exit(main())
