"""Speed, memory and certificates of `shared.transport`, against loops of POT calls over the same bags.

Every solver has the POT call that solves the same problem as its peer, timed in turns with it:

    exact                 ot.emd, with the counts of random labels
    exact, fractions      ot.emd, with proportions from a flat Dirichlet distribution
    sinkhorn 0.1          ot.sinkhorn, epsilon 0.1, as many iterations as ours needed, no stopping rule
    sinkhorn 1 x75        ot.sinkhorn, epsilon 1, 75 iterations
    unbalanced x75        ot.unbalanced.sinkhorn_knopp_unbalanced, rows hard, columns soft, 75 iterations
    unbalanced x75 grad   the same on torch tensors, and back through the iterations

Problems are minus log-softmaxes of normal logits (standard deviation 3) in float32 with the counts of random labels.
POT gets float64 arrays on the CPU, converted outside the timing. A ratio below 1 means faster than POT; ratios are of
neighbouring runs. The violation of the unbalanced solvers is that of the rows, the columns being a penalty. The gap is
the worst duality gap of a bag, relative to 1 + its largest cost. All run on one thread; the exact solver, which spreads
bags over threads, also on all of them. The row with N = "5, 5000" is of natural bags: 500 of 5 instances and one of
5,000, which no solver may pad to the longest.

transport_stress.csv has the worst gap and violation of the exact solver over 100,000 small random problems by their
kind: 1 to 100 classes, 1 to 70 instances, in float32 and float64.
"""

import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import ot
import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.command import About, count, parse, parser_of
from benchmarks.problems import Problem, transport_problem
from benchmarks.timing import columns_of, peak_memory, time_interleaved
from shared.training import prepare_device
from shared.transport import Transport, exact, sinkhorn, unbalanced_sinkhorn

ABOUT = About("transport", "solvers of shared.transport against loops of POT, with certificates and a stress test", 110)
SIZES = [(64, 16, 10), (64, 64, 10), (16, 128, 100), (8, 512, 10), (4, 1024, 10), (4, 1024, 100)]
EXACT = {"exact": False, "exact, fractions": True}  # and whether the proportions are fractions
TAU = 0.5  # alpha = 0.5 at epsilon = 1
QUICK = [(4, 8, 3)]
TAIL = (500, 5, 5000, 10)  # short bags, their size, that of one long bag, classes
SHOWN = ["solver", "B", "N", "K", "threads", "milliseconds_median", "ratio_to_pot_loop_median", "peak_memory_mb"]


def there_and_back(cost: Tensor, offsets: Tensor, proportions: Tensor) -> Transport:
    cost = cost.clone().requires_grad_()
    solved = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=1.0, tau=TAU, check=False)
    solved.value.sum().backward()
    return solved


def own_solvers(problem: Problem) -> dict[str, Callable[[], Transport]]:
    settings = {"check": False, "gradient": "none"}
    return {
        "sinkhorn 0.1": partial(sinkhorn, *problem, 0.1, **settings),
        "sinkhorn 1 x75": partial(sinkhorn, *problem, 1.0, iterations=75, tolerance=0.0, **settings),
        "unbalanced x75": partial(unbalanced_sinkhorn, *problem, epsilon=1.0, tau=TAU, **settings),
        "unbalanced x75 grad": partial(there_and_back, *problem),
    }


def pot_loops(problem: Problem, size: int, iterations: int) -> dict[str, Callable[[], list]]:
    """Loops of POT calls, one plan per bag."""
    cost, _, proportions = (tensor.double().cpu() for tensor in problem)
    masses = size * proportions / proportions.sum(1, keepdim=True)
    tensors = list(zip(cost.split(size), masses, strict=True))
    arrays = [(c.numpy(), b.numpy()) for c, b in tensors]
    ones, free = np.ones(size), {"stopThr": 0, "warn": False}
    soft = {"reg": 1.0, "reg_m": (float("inf"), TAU / (1 - TAU)), "numItermax": 75, "stopThr": 0}
    unbalanced = ot.unbalanced.sinkhorn_knopp_unbalanced

    def torch_there_and_back() -> list[Tensor]:
        plans = []
        for c, b in tensors:
            c = c.clone().requires_grad_()
            plan = unbalanced(torch.ones_like(c[:, 0]), b, c, c=torch.ones_like(c), **soft)
            (plan * c).sum().backward()
            plans.append(plan.detach())
        return plans

    return {
        "exact": lambda: [ot.emd(ones, b, c) for c, b in arrays],
        "sinkhorn 0.1": lambda: [ot.sinkhorn(ones, b, c, 0.1, numItermax=iterations, **free) for c, b in arrays],
        "sinkhorn 1 x75": lambda: [ot.sinkhorn(ones, b, c, 1.0, numItermax=75, **free) for c, b in arrays],
        "unbalanced x75": lambda: [unbalanced(ones, b, c, c=np.ones_like(c), **soft) for c, b in arrays],
        "unbalanced x75 grad": torch_there_and_back,
    }


def violation_of(plans: list, proportions: Tensor, hard_columns: bool) -> float:
    plan = torch.stack([torch.as_tensor(p) for p in plans])
    shares = proportions.double() / proportions.double().sum(1, keepdim=True)
    columns = (plan.mean(1) - shares).abs().max().item() if hard_columns else 0.0
    return max((plan.sum(2) - 1).abs().max().item(), columns)


def gaps_of_emd(problem: Problem, size: int) -> float:
    """Worst relative gap of POT's plans and potentials."""
    cost, _, proportions = (tensor.double().cpu() for tensor in problem)
    worst = 0.0
    for c, z in zip(cost.split(size), proportions / proportions.sum(1, keepdim=True), strict=True):
        c, masses = c.numpy(), size * z.numpy()
        plan, log = ot.emd(np.ones(size), masses, c, log=True)
        gap = (plan * c).sum() - log["u"].sum() - masses @ log["v"]
        worst = max(worst, abs(gap) / (1 + np.abs(c).max()))
    return worst


def measure(
    bags: int, size: int, classes: int, repeats: int, device: torch.device, threads: int
) -> list[dict[str, object]]:
    """Rows of the table for one size of problem; those of the exact solver alone on more than one thread."""
    torch.set_num_threads(threads)
    solvers, loops, problems = {}, {}, {}
    if threads == 1:
        problem = transport_problem(bags, size, classes, device)
        solvers = own_solvers(problem)
        loops = pot_loops(problem, size, solvers["sinkhorn 0.1"]().iterations)
        problems = dict.fromkeys(solvers, problem)
    for name, fractions in EXACT.items():
        problem = transport_problem(bags, size, classes, device, fractions)
        solvers[name], loops[name] = partial(exact, *problem, check=False), pot_loops(problem, size, 0)["exact"]
        problems[name] = problem
    calls = {name: call for key in solvers for name, call in ((key, solvers[key]), (f"POT {key}", loops[key]))}
    taken = time_interleaved(calls, repeats, device)
    rows = []
    for name, call in calls.items():
        key = name.removeprefix("POT ")
        gap = ""
        if name == key:
            solved = call()
            violation = solved.violation.max().item()
            if solved.gap is not None:
                scale = 1 + problems[key][0].view(bags, -1).abs().amax(1).double()
                gap = f"{(solved.gap.abs() / scale).max().item():.1e}"
        else:
            violation = violation_of(call(), problems[key][2].cpu(), hard_columns="unbalanced" not in key)
            if key in EXACT:
                gap = f"{gaps_of_emd(problems[key], size):.1e}"
        row = {"solver": name, "B": bags, "N": size, "K": classes, "threads": threads}
        row |= cost_of(call, taken[name], taken[f"POT {key}"], device if name == key else torch.device("cpu"))
        rows.append(row | {"violation": f"{violation:.1e}", "gap": gap})
    return rows


def cost_of(call: Callable, taken: list[float], by_pot: list[float], device: torch.device) -> dict[str, object]:
    """Columns of time, beside that of POT, and of memory."""
    ratios = [mine / peer for mine, peer in zip(taken, by_pot, strict=True)]
    columns = columns_of("milliseconds", taken) | columns_of("ratio_to_pot_loop", ratios)
    return columns | {"peak_memory_mb": f"{peak_memory(call, device):.3g}"}


def measure_tail(repeats: int, device: torch.device) -> list[dict[str, object]]:
    """Rows for many short bags beside a long one."""
    torch.set_num_threads(1)
    short, size, long, classes = TAIL
    bags = [transport_problem(n, length, classes, device) for n, length in ((short, size), (1, long))]
    cost, proportions = (torch.cat([problem[part] for problem in bags]) for part in (0, 2))
    problem = cost, torch.cat([bags[0][1], bags[0][1][-1:] + long]), proportions
    ours = partial(unbalanced_sinkhorn, *problem, epsilon=1.0, tau=TAU, check=False, gradient="none")
    loops = [pot_loops(part, length, 0)["unbalanced x75"] for part, length in zip(bags, (size, long), strict=True)]
    calls = {"unbalanced x75": ours, "POT unbalanced x75": lambda: [loop() for loop in loops]}
    taken, rows = time_interleaved(calls, repeats, device), []
    for name, call in calls.items():
        row = {"solver": name, "B": short + 1, "N": f"{size}, {long}", "K": classes, "threads": 1}
        row |= cost_of(call, taken[name], taken["POT unbalanced x75"], device)
        rows.append(row | {"violation": "", "gap": ""})
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
    parser.add_argument("--repeats", type=count, default=7, help="timed calls of each solver; %(default)s unless told")
    parser.add_argument("--problems", type=count, default=100_000, help="of the stress test; %(default)s unless told")
    args = parse(parser, argv)
    if args.quick:
        args.repeats, args.problems = 1, 500
    device = prepare_device(args.device)
    warnings.filterwarnings("ignore", module="ot")
    rows = []
    for threads in sorted({1, args.threads}):
        for size in QUICK if args.quick else SIZES:
            found = measure(*size, args.repeats, device, threads)
            rows += [row | {"device": timing.device_name(device), "repeats": args.repeats} for row in found]
    tail = measure_tail(args.repeats, device)
    rows += [row | {"device": timing.device_name(device), "repeats": args.repeats} for row in tail]
    shown = [*SHOWN, "violation", "gap"]
    timing.report(args, ABOUT, rows, device, ("torch", "pot", "numpy", "numba"), shown)
    worst = stress(args.problems)
    path = args.out / "transport_stress.csv"
    timing.write_csv(path, worst)
    print(f"\n{path}:")
    timing.print_table(worst, worst[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
