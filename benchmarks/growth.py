"""How time and memory grow with the instances of a bag, its classes, the bags and the threads, and what ends it.

Every solver is called on larger and larger problems along one axis, the others held: n from 4 to 16,384, K from 2 to
1,000, B from 1 to 4,096, n and K together, and threads from 1 to all. growth_slopes.csv has the slope of log time over
log size through the last points, of which 1 is in proportion (threads: -1 is a full share), milliseconds and bytes an
instance at the last of them, and what broke first: the error in its own words, or how long the next point would have
taken. A point that the two before it let expect to take more than `LIMIT` seconds is not made.

    exact, counts, and fractions    costs of log-probabilities, float32
    sinkhorn 1 x75, unbalanced x75  75 iterations, no gradient
    relabel                         hard labels of `papers.plot`
    e-step                          two classes, half of each bag positive; K classes by the lattice of counts
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial

import torch

from benchmarks import timing
from benchmarks.command import About, parse, parser_of
from benchmarks.problems import Problem, relabel_problem, transport_problem
from benchmarks.timing import columns_of, peak_memory, time_interleaved
from papers.mle_llp.loss import posterior
from papers.plot.labels import relabel
from shared.training import prepare_device
from shared.transport import exact, sinkhorn, unbalanced_sinkhorn

ABOUT = About(
    "growth",
    "cost of solvers against n, K, B and threads, with slopes and what breaks first",
    130,
    ("shared.transport", "papers.plot.labels", "papers.mle_llp.loss"),
)
LIMIT, SECONDS, REPEATS = 3.0, 0.3, 5  # for one call, and for the turns of one point
N = (4, 16, 64, 256, 1024, 4096, 16384)
K = (2, 5, 10, 30, 100, 300, 1000)
BAGS = (1, 4, 16, 64, 256, 1024, 4096)
BOTH = ((16, 4), (64, 10), (256, 30), (1024, 100), (4096, 300), (16384, 1000))
SHOWN = ["work", "axis", "B", "N", "K", "threads", "milliseconds_median", "bytes_an_instance", "ended"]
SLOPES = ["work", "axis", "slope", "points", "from", "to", "ms_an_instance", "bytes_an_instance", "ended"]
Size = tuple[int, int, int]  # bags, instances of each, classes


def counts(size: Size, device: torch.device) -> Problem:
    return transport_problem(*size, device)


def fractions(size: Size, device: torch.device) -> Problem:
    return transport_problem(*size, device, fractions=True)


def predictions(size: Size, device: torch.device) -> Problem:
    bags, n, classes = size
    return relabel_problem(bags * n, classes, n, n, device)


def labels(size: Size, device: torch.device) -> Problem:
    """Log-probabilities and counts that are as equal as they can be, the worst for a lattice."""
    bags, n, classes = size
    log_p = (2 * torch.randn(bags * n, classes, generator=torch.Generator().manual_seed(0))).log_softmax(1)
    row = torch.tensor([n // classes + (k < n % classes) for k in range(classes)])
    return log_p.to(device), torch.arange(bags + 1) * n, row.expand(bags, -1).contiguous()


SINKHORN = partial(sinkhorn, epsilon=1.0, iterations=75, tolerance=0.0, gradient="none", check=False)
UNBALANCED = partial(unbalanced_sinkhorn, epsilon=1.0, tau=0.5, gradient="none", check=False)
TRANSPORT = {"n": [(1, n, 10) for n in N], "K": [(1, 1024, k) for k in K], "B": [(b, 16, 10) for b in BAGS]}
TRANSPORT["n, K"] = [(1, *both) for both in BOTH]
BINARY = {"n": [(1, n, 2) for n in N], "B": [(b, 16, 2) for b in BAGS]}
LATTICE = {"n": [(1, n, 3) for n in N], "K": [(1, 16, k) for k in K], "B": [(b, 8, 5) for b in BAGS]}
# What is called, on which problems, and their sizes along each axis.
WORK: dict[str, tuple[Callable, Callable, dict[str, list[Size]]]] = {
    "exact, counts": (partial(exact, check=False), counts, TRANSPORT),
    "exact, fractions": (partial(exact, check=False), fractions, TRANSPORT),
    "sinkhorn 1 x75": (SINKHORN, counts, TRANSPORT),
    "unbalanced x75": (UNBALANCED, counts, TRANSPORT),
    "relabel": (relabel, predictions, TRANSPORT),
    "e-step, 2 classes": (posterior, labels, BINARY),
    "e-step, K classes": (posterior, labels, LATTICE),
}
ON_THREADS: dict[str, list[Size]] = {
    "exact, counts": [(64, 64, 10), (4, 1024, 100)],
    "exact, fractions": [(16, 128, 100)],
    "sinkhorn 1 x75": [(4, 1024, 100)],
    "unbalanced x75": [(4, 1024, 100)],
}


def point(work: str, size: Size, device: torch.device) -> dict[str, object]:
    """Columns of one size: times and memory, or the error that ended it."""
    solve, problem_of, _ = WORK[work]
    try:
        call = partial(solve, *problem_of(size, device))
        start = time.perf_counter()
        memory = 2**20 * peak_memory(call, device) / (size[0] * size[1])
        repeats = min(REPEATS, max(1, int(SECONDS / (time.perf_counter() - start))))
        taken = time_interleaved({"ours": call}, repeats, device, warm=False)
    except (MemoryError, RuntimeError, ValueError) as error:  # torch's lack of memory is a RuntimeError
        return {"ended": f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"}
    return columns_of("milliseconds", taken["ours"]) | {"bytes_an_instance": f"{memory:.3g}", "ended": ""}


def expected(done: list[tuple[float, float]], cells: float) -> float:
    """Milliseconds of the next problem, from the growth between the last two points (size, milliseconds)."""
    if len(done) < 2:
        return 0.0
    (small, before), (large, last) = done[-2:]
    return last * (cells / large) ** max(0.0, math.log(last / before) / math.log(large / small))


def along(work: str, axis: str, sizes: Iterable[Size], device: torch.device) -> list[dict[str, object]]:
    """Rows along one axis, until an error or the limit ends it; that row has no time and says why."""
    rows, done = [], []
    for size in sizes:
        cells, about = math.prod(size), dict(zip("BNK", size, strict=True)) | {"threads": torch.get_num_threads()}
        ahead = expected(done, cells) / 1e3
        found = {"ended": f"not made, about {ahead:.0f} s"} if ahead > LIMIT else point(work, size, device)
        blank = dict.fromkeys([*columns_of("milliseconds", [0.0]), "bytes_an_instance"], "")
        rows.append({"work": work, "axis": axis} | about | blank | found)
        if found["ended"]:
            break
        done.append((cells, float(found["milliseconds_median"])))
    return rows


def on_threads(work: str, size: Size, most: int, device: torch.device) -> list[dict[str, object]]:
    rows = []
    for threads in sorted({*(2**i for i in range(most.bit_length()) if 2**i <= most), most}):
        torch.set_num_threads(threads)
        rows += along(work, "threads", [size], device)
    return rows


def slope(points: list[tuple[float, float]]) -> float:
    """Of the line of least squares through the logarithms of (size, time)."""
    x, y = ([math.log(point[i]) for point in points] for i in (0, 1))
    middle, level = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle) ** 2 for a in x)
    return sum((a - middle) * (b - level) for a, b in zip(x, y, strict=True)) / spread if spread else math.nan


def summary(rows: list[dict[str, object]], last: int = 4) -> dict[str, object]:
    """The row of slopes of one axis, through the last points: there what is paid once a call counts for little."""
    axis = rows[0]["axis"]
    column = {"n": "N", "K": "K", "B": "B", "n, K": "N", "threads": "threads"}[axis]
    done = [row for row in rows if not row["ended"]]
    fit = done if axis == "threads" else done[-last:]
    row = {"work": rows[0]["work"], "axis": axis, "slope": "", "points": len(fit), "from": "", "to": ""}
    row |= {"ms_an_instance": "", "bytes_an_instance": ""}
    if fit:
        found = slope([(float(r[column]), float(r["milliseconds_median"])) for r in fit])
        end = fit[-1]
        instances = int(end["B"]) * int(end["N"])
        row["slope"], row["from"], row["to"] = f"{found:.2f}", _size(fit[0]), _size(end)
        row["ms_an_instance"] = f"{float(end['milliseconds_median']) / instances:.3g}"
        row["bytes_an_instance"] = end["bytes_an_instance"]
    broken = rows[-1] if rows[-1]["ended"] else None
    return row | {"ended": f"{_size(broken)}: {broken['ended']}" if broken else "all made"}


def _size(row: dict[str, object]) -> str:
    return f"{row['B']} x {row['N']} x {row['K']}" + (f", {row['threads']} threads" * (row["axis"] == "threads"))


def main(argv: list[str] | None = None) -> int:
    args = parse(parser_of(ABOUT, threads=os.cpu_count()), argv)
    device = prepare_device(args.device)
    made, some = [], slice(3 if args.quick else None)
    torch.set_num_threads(1)
    for work, (*_, axes) in WORK.items():
        made += [along(work, axis, sizes[some], device) for axis, sizes in axes.items()]
    for work, sizes in ON_THREADS.items():
        sizes = [(2, 16, 3)] if args.quick else sizes
        made += [on_threads(work, size, args.threads, device) for size in sizes]
    rows = [row | {"device": timing.device_name(device)} for found in made for row in found]
    versions = ("torch", "numpy", "numba")
    timing.report(args, ABOUT, rows, device, versions, SHOWN)
    print()
    timing.report(args, ABOUT, [summary(found) for found in made], device, versions, SLOPES, part="slopes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
