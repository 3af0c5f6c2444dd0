"""The kernels of `shared.transport` and `papers.mle_llp` against the torch code that they stand for, on a GPU.

    unbalanced x75 grad   75 iterations of Algorithm 1 there and back, in float32
    rot, unrolled         the loss of rot there and back, as training calls it; and rot, envelope
    sinkhorn 0.1          balanced, to its tolerance, no gradient
    e-step                posteriors of two classes

Both are timed in turns on the same tensors; ratios are of neighbouring runs, above 1 torch is slower. `launches` is
how many times the host started something on the GPU in one call, as torch's profiler counts them.
"""

import sys
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.command import About, count, parse, parser_of
from benchmarks.problems import posterior_problem, transport_problem
from benchmarks.timing import columns_of, peak_memory, time_interleaved
from papers.mle_llp.loss import posterior
from papers.rot.loss import rot_loss
from shared.training import prepare_device
from shared.transport import fused, sinkhorn, unbalanced_sinkhorn

ABOUT = About(
    "fused",
    "kernels of transport and of the E-step against torch; nothing without a GPU",
    5,
    ("shared.transport", "papers.mle_llp.loss", "papers.rot.loss"),
)
TAU = 0.5
SIZES = [(64, 16, 10), (16, 64, 10), (16, 128, 100), (8, 512, 10), (4, 1024, 10), (4, 1024, 100), (256, 1, 10)]
E_STEPS = [(6, 6, 1000), (64, 64, 1000), (2, 256, 1000), (1024, 1024, 100)]
QUICK = 1  # sizes of each
SHOWN = ["what", "B", "N", "K", "code", "launches", "milliseconds_median", "ratio_to_fused_median", "max_difference"]


def of_transport(bags: int, size: int, classes: int, device: torch.device) -> dict[str, Callable[[], Tensor]]:
    """Calls that answer in one tensor."""
    cost, offsets, proportions = transport_problem(bags, size, classes, device)
    offsets, leaf = offsets.cpu(), cost.clone().requires_grad_()

    def back(value: Tensor) -> Tensor:
        return torch.autograd.grad(value, leaf)[0]

    def unbalanced() -> Tensor:
        return unbalanced_sinkhorn(leaf, offsets, proportions, epsilon=1.0, tau=TAU, check=False).value.sum()

    def rot(gradient: str) -> Tensor:
        return back(rot_loss(-leaf, offsets, proportions, alpha=0.5, gradient=gradient, check=False))

    return {
        "unbalanced x75 grad": lambda: back(unbalanced()),
        "rot, unrolled": partial(rot, "unrolled"),
        "rot, envelope": partial(rot, "envelope"),
        "sinkhorn 0.1": lambda: sinkhorn(cost, offsets, proportions, 0.1, gradient="none", check=False).plan,
    }


def by_torch(call: Callable[[], Tensor]) -> Tensor:
    with patch.object(fused, "DEVICES", ()):
        return call()


def launches(call: Callable[[], Tensor]) -> int:
    kinds = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    return sum(event.count for event in seen.key_averages() if "LaunchKernel" in event.key)


def compare(what: str, size: tuple, call: Callable[[], Tensor], repeats: int, device: torch.device) -> list[dict]:
    """Two rows: the kernels, and torch's code."""
    calls = {"fused": call, "torch": partial(by_torch, call)}
    taken = time_interleaved(calls, repeats, device)
    answers = {code: call().double() for code, call in calls.items()}
    rows = []
    for code, call in calls.items():
        ratios = [mine / other for mine, other in zip(taken[code], taken["fused"], strict=True)]
        row = {"what": what, **dict(zip("BNK", size, strict=True)), "code": code, "launches": launches(call)}
        row |= columns_of("milliseconds", taken[code]) | columns_of("ratio_to_fused", ratios)
        off = float((answers[code] - answers["torch"]).abs().max())
        rows.append(row | {"peak_memory_mb": f"{peak_memory(call, device):.3g}", "max_difference": f"{off:.1e}"})
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(ABOUT, threads=1)
    parser.add_argument("--repeats", type=count, default=20, help="timed runs of each; %(default)s unless told")
    args = parse(parser, argv)
    if args.device == "cpu" or not torch.cuda.is_available():
        print("fused: no CUDA device is here, so there is nothing to time")
        return 0
    device = prepare_device(args.device, args.threads)
    if not fused.works(device.type):
        print("fused: triton does not work on this device, so losses use torch and there is nothing to compare")
        return 1
    rows, some = [], slice(QUICK if args.quick else None)
    for size in SIZES[some]:
        for what, call in of_transport(*size, device).items():
            rows += compare(what, size, call, args.repeats, device)
    for smallest, largest, bags in E_STEPS[some]:
        problem = posterior_problem(2, smallest, largest, bags, device)
        size = (bags, str(largest) if smallest == largest else f"{smallest}-{largest}", 2)
        rows += compare("e-step", size, lambda problem=problem: posterior(*problem)[0], args.repeats, device)
    timing.report(args, ABOUT, rows, device, ("torch", "triton"), SHOWN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
