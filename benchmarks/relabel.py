"""Relabelling of `papers.plot` against loops over the bags, for an epoch of 50,000 instances in float32.

    ot.emd           hard: POT's network simplex, one bag after another
    assignment       hard: scipy.optimize.linear_sum_assignment on columns repeated by the counts, likewise
    lapx jvr         hard: the same by lapx, where it is installed
    ours, rounding   hard: `round_to_labels`, what ours calls, without the checks and the one-hot rows
    ot.sinkhorn      soft, epsilon 1: POT's default method in float64, stopped at the violation ours stops at

Logits are normal (standard deviation 3) and labels are drawn from the model, so counts are typical. Peers get counts,
converted outside the timing, and return plans or labels; ours also checks its input, rounds proportions to counts and
makes one-hot rows. Every peer is timed in turns with ours: on all bags or on as many as 0.15 seconds allow
(`bags_timed`), and then its milliseconds are scaled to all. Ratios are of neighbouring runs; above 1 the peer is
slower. `max_difference` is that of a bag's transport cost from ours, in nats per instance. The last rows set
relabelling beside an epoch of training on features and on images, and beside the forward pass it needs.
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
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks import timing
from benchmarks.command import About, parse, parser_of
from benchmarks.peers import left_out, packages
from benchmarks.problems import relabel_problem
from benchmarks.timing import against_ours, peak_memory, seconds, time_interleaved
from papers.plot.labels import relabel
from papers.plot.loss import sce_loss
from shared.methods import Batch, LossMethod
from shared.networks import CNN13, MLP
from shared.training import prepare_device
from shared.transport import largest_remainder, round_to_labels

ABOUT = About(
    "relabel",
    "relabelling of plot against loops of POT and scipy, and an epoch of training",
    110,
    ("papers.plot.labels",),
)
INSTANCES = 50_000
QUICK = 2_000  # instances
SIZES = [(16, 16), (64, 64), (128, 128), (2, 128)]  # smallest and largest bag
CLASSES = [10, 100]
SECONDS = 0.15  # for one run of a peer
REPEATS = 5
TOLERANCE = 1e-5  # of our soft labels in float32, on the violation as a share of the bag
SHOWN = ["solver", "labels", "K", "n", "bags", "bags_timed", "milliseconds_median", "ratio_to_ours_median"]


def by_emd(bags: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    return [ot.emd(np.ones(len(cost)), counts.astype(float), cost) for cost, counts in bags]


def by_assignment(bags: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    labels = []
    for cost, counts in bags:
        columns = np.repeat(np.arange(len(counts)), counts)
        labels.append(columns[linear_sum_assignment(cost[:, columns])[1]])
    return labels


def by_lapx(bags: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    import lap

    labels = []
    for cost, counts in bags:
        columns = np.repeat(np.arange(len(counts)), counts)
        labels.append(columns[lap.lapjvr(cost[:, columns], return_cost=False)[1]])
    return labels


def by_sinkhorn(bags: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    plans = []
    for cost, counts in bags:
        plan, present = np.zeros(cost.shape), counts > 0  # POT divides 0 by 0 in a class without mass
        masses, stop = counts[present].astype(float), TOLERANCE * len(cost)
        plan[:, present] = ot.sinkhorn(np.ones(len(cost)), masses, cost[:, present], 1.0, stopThr=stop, warn=False)
        plans.append(plan)
    return plans


def by_shared(bags: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    sizes = torch.tensor([0, *(len(cost) for cost, _ in bags)])
    scores = torch.from_numpy(-np.concatenate([cost for cost, _ in bags]))
    counts = torch.from_numpy(np.stack([counts for _, counts in bags]))
    labels = round_to_labels(scores, sizes.cumsum(0), counts).numpy()
    return np.split(labels, sizes.cumsum(0)[1:-1].numpy())


PEERS = {
    "hard": {"ot.emd": by_emd, "assignment": by_assignment, "lapx jvr": by_lapx, "ours, rounding": by_shared},
    "soft": {"ot.sinkhorn": by_sinkhorn},
}
NEEDS = {"lapx jvr": "lapx"}  # packages that the lock has not


def cost_of(labels: np.ndarray, cost: np.ndarray) -> float:
    """Transport cost per instance of a bag's plan (n, K) or labels (n,)."""
    total = (labels * cost).sum() if labels.ndim == 2 else cost[np.arange(len(cost)), labels].sum()
    return float(total) / len(cost)


def compare(instances: int, classes: int, smallest: int, largest: int, device: torch.device) -> list[dict[str, object]]:
    """The rows of one kind of bags: ours, then its peers, for hard labels and for soft ones."""
    log_p, offsets, proportions = relabel_problem(instances, classes, smallest, largest, device)
    costs, edges = -log_p.double().cpu().numpy(), offsets.tolist()
    counts = largest_remainder(proportions.cpu(), offsets.diff()).numpy()
    bags = [(costs[start:stop], counts[b]) for b, (start, stop) in enumerate(pairwise(edges))]
    rows = []
    for kind, loops in PEERS.items():
        mine = partial(relabel, log_p, offsets, proportions, kind=kind)
        labels = mine().double().cpu().numpy()
        own_costs = [cost_of(labels[start:stop], costs[start:stop]) for start, stop in pairwise(edges)]
        own_times: list[float] = []
        found = []
        repeats = REPEATS if seconds(mine) < 2 * SECONDS else 3
        for name, loop in loops.items():
            if NEEDS.get(name) in left_out():
                continue
            timed = min(len(bags), max(1, int(SECONDS / (seconds(partial(loop, bags[:32])) / 32))))
            call = partial(loop, bags[:timed])
            taken = time_interleaved({"ours": mine, name: call}, repeats, device)
            own_times += taken["ours"]
            scaled = [t * len(bags) / timed for t in taken[name]]
            theirs = [cost_of(plan, cost) for plan, (cost, _) in zip(call(), bags[:timed], strict=True)]
            worst = max(abs(a - b) for a, b in zip(theirs, own_costs[:timed], strict=True))
            memory = peak_memory(call, torch.device("cpu"))
            row = against_ours(name, timed, scaled, taken["ours"], memory, labels=kind)
            found.append(row | {"max_difference": f"{worst:.1e}"})
        own = against_ours("ours", len(bags), own_times, own_times, peak_memory(mine, device), labels=kind)
        rows += [own | {"max_difference": ""}, *found]
    size = str(largest) if smallest == largest else f"{smallest}-{largest}"
    return [{"K": classes, "n": size, "bags": len(bags)} | row for row in rows]


def trained(device: torch.device, n_images: int) -> list[tuple[str, LossMethod, Tensor, int]]:
    """What stage two trains: a name, the method, inputs of one batch, and the batches of an epoch to time."""
    torch.manual_seed(0)
    images = torch.randn(n_images, 3, 32, 32)
    networks = [("features", MLP(2048, 256, 10), torch.randn(512, 2048), 10), ("images", CNN13(10), images, 1)]
    found = []
    for name, network, x, batches in networks:
        layout = {"memory_format": torch.channels_last} if x.dim() == 4 else {}
        network, x = network.to(device, **layout), x.to(device, **layout)
        optimiser = torch.optim.Adam(network.parameters(), 1e-4, betas=(0.5, 0.999), fused=True)
        found.append((name, LossMethod(network, optimiser, sce_loss), x, batches))
    return found


def beside_training(instances: int, n_images: int, repeats: int, device: torch.device) -> list[dict[str, object]]:
    """An epoch of stage two and the forward pass that relabelling needs, from a few batches, in bags of 64."""
    log_p, offsets, proportions = relabel_problem(instances, 10, 64, 64, device)
    hard = partial(relabel, log_p, offsets, proportions)
    targets, rows = hard(), []
    for name, method, x, batches in trained(device, n_images):
        batch = Batch(x, torch.arange(len(x) + 1), targets[: len(x)])
        calls: dict[str, Callable[[], object]] = {
            "ours": hard,
            f"an epoch of training on {name}": lambda m=method, b=batch, n=batches: [m.update(b) for _ in range(n)],
            f"forward pass over the {name}": lambda m=method, b=batch, n=batches: [m.predict(b.x) for _ in range(n)],
        }
        taken = time_interleaved(calls, repeats, device)
        for what in list(calls)[1:]:
            share = len(targets) / (batches * len(x))
            scaled = [t * share for t in taken[what]]
            timed = (len(offsets) - 1) / share
            memory = peak_memory(calls[what], device)
            row = against_ours(what, timed, scaled, taken["ours"], memory, labels="hard")
            rows.append({"K": 10, "n": "64", "bags": len(offsets) - 1} | row | {"max_difference": ""})
    return rows


def aims(rows: list[dict[str, object]]) -> list[tuple[str, str, str]]:
    """What was hoped for beside what was measured."""

    def at(solver: str, labels: str = "hard", classes: int = 10, n: str = "64", column: str = "ratio_to_ours") -> float:
        wanted = (solver, labels, classes, n)
        found = (row for row in rows if (row["solver"], row["labels"], row["K"], row["n"]) == wanted)
        return next((float(row[f"{column}_median"]) for row in found), float("nan"))

    exact = [float(row["max_difference"]) for row in rows if row["labels"] == "hard" and row["max_difference"]]
    found = [
        ("bags of 64, 10 classes: milliseconds", "below 1000", f"{at('ours', column='milliseconds'):.0f}"),
        ("worst difference of a bag's cost, hard labels, nats per instance", "below 1e-6", f"{max(exact):.0e}"),
        ("bags of 16, 10 classes: times faster than a loop of ot.emd", "-", f"{at('ot.emd', n='16'):.1f}"),
        ("bags of 64, soft: times faster than a loop of ot.sinkhorn", "-", f"{at('ot.sinkhorn', 'soft'):.0f}"),
    ]
    for name in ("features", "images"):
        training, forward = at(f"an epoch of training on {name}"), at(f"forward pass over the {name}")
        found += [
            (f"bags of 64: percent of an epoch on {name}", "-", f"{100 / training:.2g}"),
            ("the same with the forward pass it needs", "-", f"{100 * (1 + forward) / training:.2g}"),
        ]
    return found


def main(argv: list[str] | None = None) -> int:
    args = parse(parser_of(ABOUT, threads=os.cpu_count()), argv)
    device = prepare_device(args.device, args.threads)
    warnings.filterwarnings("ignore", "soft labels of", RuntimeWarning)
    instances, repeats = (QUICK, 1) if args.quick else (INSTANCES, REPEATS)
    n_images = 2 if args.quick else 512 if device.type == "cuda" else 16
    cases = [(classes, *sizes) for classes in CLASSES for sizes in SIZES]
    rows = [row for case in (cases[:1] if args.quick else cases) for row in compare(instances, *case, device)]
    rows += beside_training(instances, n_images, repeats, device)
    lapx = [name for name in packages() if name == "lapx"]
    timing.report(args, ABOUT, rows, device, ("torch", "numpy", "scipy", "pot", *lapx), [*SHOWN, "max_difference"])
    if not args.quick:
        timing.print_aims(aims(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
