"""Speed, memory and marginal violation of `shared.transport`, against loops of POT calls over the same bags.

Every solver has the POT call that solves the same problem as its peer, timed in turns with it:

    exact                 ot.emd2
    sinkhorn 0.1          ot.sinkhorn, epsilon 0.1, as many iterations as ours needed, no stopping rule
    sinkhorn 1 x75        ot.sinkhorn, epsilon 1, 75 iterations
    unbalanced x75        ot.unbalanced.sinkhorn_knopp_unbalanced, rows hard, columns soft, 75 iterations
    unbalanced x75 grad   the same on torch tensors, and back through the iterations

Problems are minus log-softmaxes of normal logits (standard deviation 3) in float32 with the counts of random labels.
POT gets float64 arrays on the CPU, converted outside the timing. A ratio below 1 means faster than POT; ratios are of
neighbouring runs. The violation of the unbalanced solvers is that of the rows, the columns being a penalty.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import ot
import torch
from torch import Tensor

from benchmarks.timing import device_name, peak_memory, print_table, spread, time_interleaved, versions, write_csv
from shared.transport import Transport, exact, sinkhorn, unbalanced_sinkhorn

SIZES = [(64, 16, 10), (64, 64, 10), (16, 128, 100), (4, 1024, 10), (4, 1024, 100)]
TAU = 0.5  # alpha = 0.5 at epsilon = 1
SHOWN = ["solver", "B", "N", "K", "milliseconds_median", "ratio_to_pot_loop_median", "peak_memory_mb", "violation"]


def draw(bags: int, size: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Cost, offsets and proportions of one batch."""
    generator = torch.Generator().manual_seed(0)
    cost = -(3 * torch.randn(bags * size, classes, generator=generator)).log_softmax(1)
    labels = torch.randint(classes, (bags, size), generator=generator)
    proportions = torch.nn.functional.one_hot(labels, classes).float().mean(1)
    return cost.to(device), torch.arange(bags + 1, device=device) * size, proportions.to(device)


def there_and_back(cost: Tensor, offsets: Tensor, proportions: Tensor) -> Transport:
    cost = cost.clone().requires_grad_()
    solved = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=1.0, tau=TAU, check=False)
    solved.value.sum().backward()
    return solved


def ours(problem: tuple[Tensor, Tensor, Tensor]) -> dict[str, Callable[[], Transport]]:
    settings = {"check": False, "gradient": "none"}
    return {
        "exact": partial(exact, *problem, check=False),
        "sinkhorn 0.1": partial(sinkhorn, *problem, 0.1, **settings),
        "sinkhorn 1 x75": partial(sinkhorn, *problem, 1.0, iterations=75, tolerance=0.0, **settings),
        "unbalanced x75": partial(unbalanced_sinkhorn, *problem, epsilon=1.0, tau=TAU, **settings),
        "unbalanced x75 grad": partial(there_and_back, *problem),
    }


def peers(problem: tuple[Tensor, Tensor, Tensor], size: int, iterations: int) -> dict[str, Callable[[], list]]:
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
        "exact": lambda: [ot.emd2(ones, b, c, return_matrix=True)[1]["G"] for c, b in arrays],
        "sinkhorn 0.1": lambda: [ot.sinkhorn(ones, b, c, 0.1, numItermax=iterations, **free) for c, b in arrays],
        "sinkhorn 1 x75": lambda: [ot.sinkhorn(ones, b, c, 1.0, numItermax=75, **free) for c, b in arrays],
        "unbalanced x75": lambda: [unbalanced(ones, b, c, c=np.ones_like(c), **soft) for c, b in arrays],
        "unbalanced x75 grad": torch_there_and_back,
    }


def violation_of(plans: list, proportions: Tensor, hard_columns: bool) -> float:
    plan = torch.stack([torch.as_tensor(p) for p in plans])
    shares = (proportions / proportions.sum(1, keepdim=True)).to(plan)
    columns = (plan.mean(1) - shares).abs().max().item() if hard_columns else 0.0
    return max((plan.sum(2) - 1).abs().max().item(), columns)


def measure(bags: int, size: int, classes: int, repeats: int, device: torch.device) -> list[dict[str, object]]:
    """Rows of the table for one size of problem."""
    problem = draw(bags, size, classes, device)
    solvers = ours(problem)
    loops = peers(problem, size, solvers["sinkhorn 0.1"]().iterations)
    calls = {name: call for key in solvers for name, call in ((key, solvers[key]), (f"POT {key}", loops[key]))}
    taken = time_interleaved(calls, repeats, device)
    rows = []
    for name, call in calls.items():
        key = name.removeprefix("POT ")
        if name == key:
            violation = call().violation.max().item()
        else:
            violation = violation_of(call(), problem[2].cpu(), hard_columns="unbalanced" not in key)
        ratios = [mine / peer for mine, peer in zip(taken[name], taken[f"POT {key}"], strict=True)]
        memory = peak_memory(call, device if name == key else torch.device("cpu"))
        row = {"solver": name, "B": bags, "N": size, "K": classes}
        for column, values in (("milliseconds", taken[name]), ("ratio_to_pot_loop", ratios)):
            for kind, value in zip(("median", "min", "max"), spread(values), strict=True):
                row[f"{column}_{kind}"] = f"{value:.4g}"
        rows.append(row | {"peak_memory_mb": f"{memory:.3g}", "violation": f"{violation:.1e}"})
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    warnings.filterwarnings("ignore", module="ot")

    stamp = {
        "repeats": arguments.repeats,
        "device": device_name(device),
        "versions": versions("torch", "pot", "numpy"),
    }
    rows = [row | stamp for size in SIZES for row in measure(*size, arguments.repeats, device)]
    write_csv(arguments.out / "transport.csv", rows)
    print_table(rows, SHOWN)
    print(f"{stamp['device']}; {stamp['versions']}; {arguments.repeats} repeats")


if __name__ == "__main__":
    main()
