"""Run the command line: python -m shared.comparison [PAPER ...] [--tier T] [--records ID] [--results DIR]"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from shared.comparison import terminal, writing
from shared.comparison.behind import records_behind
from shared.comparison.report import compare
from shared.comparison.reported import InputError
from shared.config import ConfigError, load_tier, papers_of, repository
from shared.config.tiers import add_tier, check_paper
from shared.files import sentence_of


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Compare, print and write; return the exit status: 0, 1 (the paper is contradicted) or 2 (bad input)."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.comparison",
        description="Hold each number and each claim of a paper against the run records, with a verdict.",
        epilog="Exit status: 1 when records that are comparable with the paper's (its data, network and protocol, "
        "nothing simulated) contradict one of its own claims; 2 on bad input; else 0, also when a claim is "
        "contradicted on a stand-in, and when a control or an extension is.",
    )
    parser.add_argument("paper", nargs="*", help="papers to compare; all that the tier has unless told")
    add_tier(parser, root)
    parser.add_argument("--results", type=Path, help="folder with one folder for each tier; results unless told")
    parser.add_argument(
        "--records",
        metavar="ID",
        help="list the records behind a claim (its id) or a reported number (table/row/column), and stop",
    )
    options = parser.parse_args(argv)
    results = options.results or (root or repository()) / "results"
    try:
        names = _papers(options, results, root)
        if options.records:
            print("\n".join(records_behind(options.records, names, options.tier, results, root)))
            return 0
        comparisons = [compare(name, options.tier, results, root) for name in names]
        for comparison in comparisons:
            if comparison.folder.is_dir():
                writing.write_comparison(comparison)
        for i, comparison in enumerate(comparisons):
            print("\n" if i else "", end="")
            terminal.show(comparison, sys.stdout)
    except (InputError, ConfigError, OSError) as error:
        print(f"shared.comparison: {sentence_of(error)}", file=sys.stderr)
        return 2
    return int(any(comparison.contradicted for comparison in comparisons))


def _papers(options: argparse.Namespace, results: Path, root: Path | None) -> list[str]:
    """The papers asked for, once everything named on the command line is known to exist."""
    for name in options.paper:
        check_paper(name, root)
    load_tier(options.tier, root)
    known = papers_of(options.tier, root)
    for name in options.paper:
        if name not in known:
            having = ", ".join(known) or "none"
            raise InputError(f"papers/{name}/config.yaml has no tier {options.tier}; those that have: {having}")
    for folder in [results / options.tier / name for name in options.paper or [""]]:
        if not folder.is_dir():
            raise InputError(f"no results folder {folder}: run the tier first, or give another with --results")
    return options.paper or known


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # so that `| head` ends it quietly
    sys.exit(main())
