"""Command line: python -m shared.comparison [PAPER ...] [--tier T] [--results DIR]"""

import argparse
import signal
import sys
from pathlib import Path

from shared import records
from shared.comparison import terminal, writing
from shared.comparison.report import PAPERS, ROOT, compare
from shared.comparison.reported import InputError


def main(argv=None, papers=PAPERS):
    """Compare, print and write. Returns the exit status: 0, 1 (a claim is contradicted) or 2 (bad input)."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.comparison",
        description="Hold each number and each claim of a paper against the run records, with a verdict.",
        epilog="Exit status: 0; 1 when a claim of a paper is contradicted; 2 on bad input.",
    )
    parser.add_argument("paper", nargs="*", help="papers to compare (default: all with a reported.csv)")
    parser.add_argument(
        "--tier",
        default=records.default_tier(),
        help=f"{', '.join(records.tiers())} (default: $LLP_TIER, else gpu where there is a GPU and quick elsewhere)",
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder with one folder per tier")
    options = parser.parse_args(argv)
    try:
        names = _papers(options, papers)
        comparisons = [compare(name, options.tier, options.results, papers) for name in names]
        for comparison in comparisons:
            if comparison.folder.is_dir():
                writing.write(comparison)
        for i, comparison in enumerate(comparisons):
            print("\n" if i else "", end="")
            terminal.show(comparison, sys.stdout)
    except (InputError, records.ConfigError) as error:
        print(f"shared.comparison: {error}", file=sys.stderr)
        return 2
    return int(any(comparison.contradicted for comparison in comparisons))


def _papers(options, papers):
    """The papers asked for, once everything named on the command line is known to exist."""
    known = sorted(path.parent.name for path in papers.glob("*/reported.csv"))
    for name in options.paper:
        if name not in known:
            raise InputError(f"unknown paper {name}: papers with a reported.csv are {', '.join(known) or 'none'}")
    if options.tier not in records.tiers():
        raise InputError(f"unknown tier {options.tier}: choose {', '.join(records.tiers())}")
    for folder in [options.results / options.tier / name for name in options.paper or [""]]:
        if not folder.is_dir():
            raise InputError(f"no results folder {folder}: run the tier first, or give another with --results")
    of_tier = records.load_tier(options.tier).papers or known
    for name in options.paper:
        if name not in of_tier:
            raise InputError(f"tier {options.tier} is of {', '.join(of_tier)} alone, not of {name}")
    return options.paper or [name for name in known if name in of_tier]


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # so that `| head` ends it quietly
    sys.exit(main())
