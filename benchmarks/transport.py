"""Speed, memory and accuracy of `shared.transport` against its peers on the same bags; `benchmarks.peers` names them.

    exact, counts         proportions of random labels: POT's network simplex with and without its checks, assignments
    exact, fractions      proportions from a flat Dirichlet distribution
    sinkhorn 1 x75        epsilon 1, 75 iterations, against the same number of iterations
    sinkhorn 0.1          epsilon 0.1, as many iterations as ours needed for 1e-5
    unbalanced x75        rows hard, columns soft, 75 iterations
    unbalanced x75 grad   the same on torch tensors, and back through the iterations

Costs are minus log-softmaxes of normal logits (standard deviation 3) in float32. Loops of POT get float64 arrays on the
CPU, batches float32 tensors, converted outside the timing. Every peer is timed in turns with ours; ratios are of
neighbouring runs, and below 1 we lose. What is slower than all turns together may be is called once, and not again for
its memory. `error` is how far the transport cost of a bag lies from the answer, at worst: exact, from our certified
value, relative to 1 + that; entropic, from the optimum found in float64, in nats an instance. `violation` is the worst
error of a marginal (of the unbalanced, of rows: there the columns are a penalty), and `gap` our certificate relative to
1 + the largest cost. Torch and lapx have `threads` threads, loops have one.

The row with N = "5, 5000" is of natural bags: 500 of 5 instances and one of 5,000, which no solver may pad to the
longest. transport_stress.csv has the worst gap and violation of the exact solver over 100,000 small random problems by
their kind: 1 to 100 classes, 1 to 70 instances, in float32 and float64.
"""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from benchmarks import peers, timing
from benchmarks.command import About, count, parse, parser_of
from benchmarks.peers import Peer, Same
from benchmarks.problems import Problem, transport_problem
from benchmarks.timing import against_ours, peak_memory, time_within
from shared.training import prepare_device
from shared.transport import Transport, exact, sinkhorn, unbalanced_sinkhorn

ABOUT = About(
    "transport",
    "solvers of shared.transport against POT, assignments and geomloss, with certificates and a stress test",
    220,
    ("shared.transport",),
)
SIZES = [
    *((bags, 16, 10) for bags in (1, 8, 16, 64)),
    *((64, 64, 10), (16, 128, 100), (8, 512, 10), (4, 1024, 10), (4, 1024, 100)),
]
QUICK = [(1, 8, 3), (4, 8, 3)]
TAIL = (500, 5, 5000, 10)  # short bags, their size, that of one long bag, classes
TAU = 0.5  # alpha = 0.5 at epsilon = 1
SECONDS = 1.0  # of the turns of one kind of problem
ITERATIONS = 75
SHOWN = ["work", "B", "N", "K", "threads", "solver", "milliseconds_median", "ratio_to_ours_median"]


def there_and_back(cost: Tensor, offsets: Tensor, proportions: Tensor) -> Transport:
    cost = cost.clone().requires_grad_()
    solved = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=1.0, tau=TAU, check=False)
    solved.value.sum().backward()
    return solved


def optimum(problem: Problem, **settings: float) -> Transport:
    """The entropic answer in float64."""
    solve = unbalanced_sinkhorn if "tau" in settings else sinkhorn
    cost, offsets, proportions = problem
    double = cost.double(), offsets, proportions.double()
    return solve(*double, **settings, iterations=2000, tolerance=1e-9, gradient="none", check=False)


def compare(
    work: str,
    bags: Same,
    ours: Callable,
    rivals: list[tuple[Peer, tuple]],
    device: torch.device,
    repeats: int,
    seconds: float = SECONDS,
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Rows of ours and of those peers that can do it, each with its further arguments; and all answers."""
    calls = {"ours": ours} | {peer.name: partial(peer.solve, bags, *args) for peer, args in rivals if peer.takes(bags)}
    taken, beside, answers = time_within(calls, seconds, repeats, device)
    about = {"work": work, **dict(zip("BNK", bags.shape, strict=True)), "threads": torch.get_num_threads()}
    rows = []
    for name, call in calls.items():
        where = device if name == "ours" or "batch" in name else torch.device("cpu")
        memory = float("nan") if max(taken[name]) > 1e3 * seconds else peak_memory(call, where)
        rows.append(about | against_ours(name, bags.shape[0], taken[name], beside[name], memory))
    return rows, answers


def exactly(
    bags: Same,
    device: torch.device,
    repeats: int,
    seconds: float = SECONDS,
    against: Sequence[Peer] = peers.EXACT,
) -> list[dict[str, object]]:
    """Rows of the exact solver and its peers, whose values are held against ours, which is certified."""
    problem = bags.cost, torch.arange(bags.shape[0] + 1) * bags.size, bags.shares
    work = "exact, counts" if bags.whole else "exact, fractions"
    rivals = [(peer, ()) for peer in against]
    rows, answers = compare(work, bags, partial(exact, *problem, check=False), rivals, device, repeats, seconds)
    solved = answers["ours"]
    # In float64 what was solved in float32 is certified all the same: the value of the plan, not the rounded one.
    values = bags.values(solved.plan.view(bags.shape))
    scale = 1 + bags.cost.view(bags.shape[0], -1).abs().amax(1).double()
    for row in rows:
        mine = row["solver"] == "ours"
        plans = solved.plan.view(bags.shape) if mine else answers[row["solver"]]
        off = np.abs(bags.values(plans) - values) / (1 + np.abs(values))
        row["error"] = f"{off.max():.1e}"
        row["violation"] = f"{solved.violation.max().item() if mine else bags.violation(plans):.1e}"
        row["gap"] = f"{(solved.gap.abs() / scale).max().item():.1e}" if mine else ""
    return rows


def entropic(bags: Same, device: torch.device, repeats: int) -> list[dict[str, object]]:
    """The scaling solvers; peers make as many iterations as ours."""
    problem = bags.cost, torch.arange(bags.shape[0] + 1) * bags.size, bags.shares
    settings = {"check": False, "gradient": "none"}
    own = {
        "sinkhorn 1 x75": partial(sinkhorn, *problem, 1.0, iterations=ITERATIONS, tolerance=0.0, **settings),
        "sinkhorn 0.1": partial(sinkhorn, *problem, 0.1, **settings),
        "unbalanced x75": partial(unbalanced_sinkhorn, *problem, epsilon=1.0, tau=TAU, **settings),
        "unbalanced x75 grad": partial(there_and_back, *problem),
    }
    needed = int(own["sinkhorn 0.1"]().iterations)
    soft = {name: [(peer, (TAU, ITERATIONS, "grad" in name)) for peer in peers.UNBALANCED] for name in own}
    rivals = soft | {
        "sinkhorn 1 x75": [(peer, (1.0, ITERATIONS)) for peer in peers.SCALING],
        # Plain scalings underflow at this epsilon in float32.
        "sinkhorn 0.1": [(peer, (0.1, needed)) for peer in peers.SCALING if peer.name != "POT batch, plain"],
    }
    best = {
        "sinkhorn 1 x75": optimum(problem, epsilon=1.0),
        "sinkhorn 0.1": optimum(problem, epsilon=0.1),
        "unbalanced x75": optimum(problem, epsilon=1.0, tau=TAU),
    }
    rows = []
    for work, ours in own.items():
        found, answers = compare(work, bags, ours, rivals[work], device, repeats)
        values = bags.values(best[work.removesuffix(" grad")].plan.view(bags.shape))
        for row in found:
            mine = row["solver"] == "ours"
            plans = answers["ours"].plan.view(bags.shape) if mine else answers[row["solver"]]
            row["error"] = f"{np.abs(bags.values(plans) - values).max() / bags.size:.1e}"
            row["violation"] = f"{bags.violation(plans, columns='unbalanced' not in work):.1e}"
            row["gap"] = ""
        rows += found
    return rows


def tail(sizes: tuple[int, ...], repeats: int, device: torch.device) -> list[dict[str, object]]:
    """Rows for many short bags beside a long one."""
    short, size, long, classes = sizes
    parts = [transport_problem(n, length, classes, device) for n, length in ((short, size), (1, long))]
    cost, proportions = (torch.cat([problem[part] for problem in parts]) for part in (0, 2))
    problem = cost, torch.cat([parts[0][1], parts[0][1][-1:] + long]), proportions
    ours = partial(unbalanced_sinkhorn, *problem, epsilon=1.0, tau=TAU, check=False, gradient="none")
    loops = [Same(part, length, True) for part, length in zip(parts, (size, long), strict=True)]
    pot = peers.UNBALANCED[0]
    calls = {"ours": ours, pot.name: lambda: [pot.solve(bags, TAU, ITERATIONS, False) for bags in loops]}
    taken, beside, answers = time_within(calls, SECONDS, repeats, device)
    mine, theirs = (
        answers["ours"].plan.double().cpu().numpy(),
        np.concatenate([np.concatenate(a) for a in answers[pot.name]]),
    )
    rows = []
    for name, call in calls.items():
        row = {"work": "unbalanced x75", "B": short + 1, "N": f"{size}, {long}", "K": classes, "threads": 1}
        memory = peak_memory(call, device if name == "ours" else torch.device("cpu"))
        row |= against_ours(name, short + 1, taken[name], beside[name], memory)
        off = abs(((mine - theirs) * cost.double().cpu().numpy()).sum()) / len(cost)
        rows.append(row | {"error": "" if name == "ours" else f"{off:.1e}", "violation": "", "gap": ""})
    return rows


COSTS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "negative": lambda rng, shape: -5 * rng.random(shape),
    "tied": lambda rng, shape: rng.integers(0, 3, shape).astype(float),
    "constant": lambda rng, shape: np.full(shape, rng.normal()),
    "peaky": lambda rng, shape: rng.exponential(size=shape) ** 6,
    "alike": lambda rng, shape: rng.normal(size=shape[1]) + 1e-6 * rng.normal(size=shape),
    "large": lambda rng, shape: 1e6 * rng.normal(size=shape),
}
MASSES = ("counts", "float32 counts", "nearly counts", "fractions", "zeros")


def draw_proportions(kind: str, rng: np.random.Generator, sizes: np.ndarray, classes: int) -> np.ndarray:
    z = rng.dirichlet(np.full(classes, 0.5), len(sizes))
    if "counts" in kind:
        z = np.stack([rng.multinomial(n, p) / n for n, p in zip(sizes, z, strict=True)])
    if kind == "float32 counts":
        return z.astype(np.float32)
    if kind == "nearly counts":
        z = np.abs(z * (1 + 10.0 ** -rng.integers(1, 12) * rng.normal(size=z.shape)))
    if kind == "zeros":
        z = z * (rng.random(z.shape) < 0.5) + 1e-3 * np.eye(classes)[0]
    return z / z.sum(1, keepdims=True)


def stress(problems: int, batch: int = 100) -> list[dict[str, object]]:
    """The worst certificates of at least so many small problems, by kind of costs and of masses."""
    rng = np.random.Generator(np.random.PCG64(0))
    kinds = [(cost, mass) for cost in COSTS for mass in MASSES]
    worst = {kind: {"problems": 0, "gap": 0.0, "violation": 0.0} for kind in kinds}
    for turn in range(-(-problems // batch)):
        kind = kinds[turn % len(kinds)]
        classes = rng.choice([1, 2, 3, 5, 10, 30, 100], p=[0.1, 0.2, 0.2, 0.2, 0.2, 0.07, 0.03])
        sizes = rng.choice([1, 2, 3, 5, 8, 16, 33, 70], batch)
        edges = np.append(0, sizes.cumsum())
        cost = torch.from_numpy(COSTS[kind[0]](rng, (edges[-1], classes))).to(
            rng.choice([torch.float32, torch.float64])
        )
        solved = exact(cost, torch.from_numpy(edges), torch.from_numpy(draw_proportions(kind[1], rng, sizes, classes)))
        scale = torch.stack([1 + cost[start:stop].abs().max() for start, stop in pairwise(edges)]).double()
        found = worst[kind]
        found["problems"] += batch
        found["gap"] = max(found["gap"], (solved.gap.abs() / scale).max().item())
        found["violation"] = max(found["violation"], solved.violation.max().item())
    everything = {
        "problems": sum(row["problems"] for row in worst.values()),
        "gap": max(row["gap"] for row in worst.values()),
        "violation": max(row["violation"] for row in worst.values()),
    }
    rows = [{"costs": c, "masses": m} | row for (c, m), row in [*worst.items(), (("all", "all"), everything)]]
    return [row | {name: f"{row[name]:.1e}" for name in ("gap", "violation")} for row in rows]


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(ABOUT, threads=os.cpu_count())
    parser.add_argument("--repeats", type=count, default=7, help="most timed calls of each; %(default)s unless told")
    parser.add_argument("--problems", type=count, default=100_000, help="of the stress test; %(default)s unless told")
    args = parse(parser, argv)
    if args.quick:
        args.repeats, args.problems = 1, 500
    device = prepare_device(args.device)
    warnings.filterwarnings("ignore", module="ot")
    rows = []
    for threads in sorted({1, args.threads}):
        torch.set_num_threads(threads)
        for size in QUICK if args.quick else SIZES:
            counts, fractions = (Same(transport_problem(*size, device, f), size[1], not f) for f in (False, True))
            found = exactly(counts, device, args.repeats) + exactly(fractions, device, args.repeats)
            found += entropic(counts, device, args.repeats) if threads == 1 else []
            rows += [row | {"device": timing.device_name(device)} for row in found]
    torch.set_num_threads(1)
    natural = tail((4, 2, 8, 3) if args.quick else TAIL, args.repeats, device)
    rows += [row | {"device": timing.device_name(device)} for row in natural]
    shown = [*SHOWN, "error", "violation", "gap"]
    timing.report(args, ABOUT, rows, device, ("torch", *peers.packages(), "numpy", "numba"), shown)
    worst = stress(args.problems)
    timing.report(args, ABOUT, worst, device, ("torch", "numpy", "numba"), worst[0], part="stress")
    return 0


if __name__ == "__main__":
    sys.exit(main())
