"""`shared.transport.exact` against POT's network simplex on single bags of eight families of costs, in float64.

A warm start that is right for log-probabilities may be wrong for heavy tails, costs of low rank or of one dimension,
or a cost that outweighs all others; so each is timed, from 16 instances and 10 classes to 2,048 and 200, with counts
and with fractions. Columns are those of `benchmarks.transport`: ratios below 1 are losses, `error` is how far a peer's
value lies from our certified one, relative to 1 + that. Both have one thread.
"""

import sys
import warnings

from benchmarks import peers, timing
from benchmarks.command import About, count, parse, parser_of
from benchmarks.peers import Same
from benchmarks.problems import FAMILIES, family_problem
from benchmarks.transport import exactly
from shared.training import prepare_device

ABOUT = About(
    "families", "exact transport of one bag against POT, for eight families of costs", 60, ("shared.transport.exact",)
)
SIZES = [(16, 10), (64, 10), (512, 10), (128, 100), (1024, 100), (2048, 200)]
QUICK = [(16, 10)]
SECONDS = 0.25  # of the turns of one problem
SHOWN = ["family", "work", "N", "K", "solver", "milliseconds_median", "ratio_to_ours_median", "error", "gap"]


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(ABOUT, threads=1)
    parser.add_argument("--repeats", type=count, default=15, help="most timed calls of each; %(default)s unless told")
    args = parse(parser, argv)
    device = prepare_device(args.device, args.threads)
    warnings.filterwarnings("ignore", module="ot")
    repeats, rows = 1 if args.quick else args.repeats, []
    loops = [peer for peer in peers.EXACT if peer.name.startswith("POT loop")]
    for size, classes in QUICK if args.quick else SIZES:
        for family in FAMILIES:
            for fractions in (False, True):
                bag = Same(family_problem(family, size, classes, fractions, device), size, not fractions)
                rows += [{"family": family} | row for row in exactly(bag, device, repeats, SECONDS, loops)]
    timing.report(args, ABOUT, rows, device, ("torch", "pot", "numpy", "numba"), SHOWN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
