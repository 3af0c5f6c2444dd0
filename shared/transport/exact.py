"""Transport exactly: the linear program of Dulac-Arnold et al. 2019, Equation 5, for all bags at once."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from shared.transport.ragged import check_problem
from shared.transport.result import Transport

WHOLE = {torch.float32: 1e-6, torch.float64: 1e-12}  # how close counts / n lie to counts: float32 does not hold 0.1
AHEAD = 4000  # costs that are solved before another thread has woken up


def exact(cost: Tensor, offsets: Tensor, proportions: Tensor, *, check: bool = True) -> Transport:
    r"""Solve, for every bag of n instances with proportions z,

    .. math:: \min_{P \ge 0} \langle C, P \rangle \quad \text{s.t.} \quad P 1_K = 1_n, \; P^\top 1_n = n z.

    A class is forbidden to a whole bag by a proportion of 0, to an instance by a cost that no plan would carry: costs
    may differ by any factor, and the plan is certified beside what it carries, or beside typical differences of costs
    in a row. What rounding hides of costs of one row that are huge alike, as of 1e18 and 1e18 + 1, stays hidden. Rows
    of the plan are one-hot when the n z are whole numbers. Otherwise some are split, at most K - 1 unless costs tie:
    the plan is no labelling (see `round_to_labels`). Runs in float64 on the host, on as many threads as torch has and
    NUMBA_NUM_THREADS allows, whatever the device of `cost`. The answer does not depend on the threads.

    Parameters
    ----------
    cost : (M, K) tensor, float32 or float64
    offsets : (B + 1,) int64 tensor
    proportions : (B, K) tensor; scaled to sum to exactly 1, and taken as counts / n when all of a bag's are within
        rounding of that (1e-6 in float32, 1e-12 in float64), and all n z within 1e-3 of whole numbers; `violation` is
        of these
    check : bool
        Validate the problem.

    Returns
    -------
    Transport
        Plan and potentials are constants; the gradient of the value with respect to the cost is the plan, with respect
        to the proportions n times the class potentials less their mean under z, since they are scaled to sum to 1
        (envelope theorem; a subgradient where several plans or potentials are optimal). The potentials are the duals of
        the program and not unique. Gap and violation are those of the float64 solution.

    Raises
    ------
    ValueError
        Naming the bag, if the problem is not one (see `check_problem`).
    RuntimeError
        Naming the bag whose solution is not certified, as with costs that are not numbers and ``check=False``.
    """
    if check:
        check_problem(cost, offsets, proportions)
    whole = WHOLE.get(proportions.dtype, WHOLE[torch.float64])
    shares = proportions.detach().double()
    solved = solve(cost.detach().cpu().numpy(), offsets.cpu().numpy(), shares.cpu().numpy(), whole)
    plan, value, u, v, gap, violation = (torch.from_numpy(array).to(cost.device, non_blocking=True) for array in solved)
    return Transport(
        plan=plan,
        value=_Value.apply(cost, proportions, value, plan, v, offsets),
        instance_potential=u,
        class_potential=v,
        violation=violation,
        converged=torch.ones_like(value, dtype=torch.bool),
        iterations=0,
        gap=gap,
    )


def solve(
    cost: np.ndarray, offsets: np.ndarray, proportions: np.ndarray, whole: float = 1e-12
) -> tuple[np.ndarray, ...]:
    """Solve all bags and check every one.

    Parameters
    ----------
    cost : (M, K) array, float32 or float64
    offsets : (B + 1,) int64 array
    proportions : (B, K) float64 array, or masses
    whole : proportions this close to counts / n are counts

    Returns
    -------
    plan : (M, K), like the cost
    value : (B,), like the cost
    u, v : duals (M,) and (B, K), like the cost
    gap, violation : (B,) in float64

    Raises
    ------
    ValueError
        If the shapes do not fit.
    RuntimeError
        Naming the bag whose solution is not certified.
    """
    sizes = np.diff(offsets)
    fits = cost.ndim == 2 and proportions.shape == (len(sizes), cost.shape[1]) and offsets[0] == 0
    if not (fits and offsets[-1] == len(cost) and (sizes > 0).all()):  # compiled code would read other memory
        shapes = f"cost {cost.shape}, offsets {offsets.tolist()[:9]}, proportions {proportions.shape}"
        raise ValueError(f"these do not fit, or a bag is empty: {shapes}")
    kernel = _kernel()
    cost, offsets, proportions = map(np.ascontiguousarray, (cost, offsets, proportions))
    bags, instances = len(proportions), len(cost)
    plan, value, u, v = (np.empty(shape, cost.dtype) for shape in (cost.shape, bags, instances, proportions.shape))
    gap, violation, certified = np.empty(bags), np.empty(bags), np.empty(bags, bool)
    arrays = (cost, offsets, proportions, plan, value, u, v, gap, violation, certified)
    threads, ahead = min(_threads(), bags, 1 + cost.size // AHEAD), min(AHEAD / cost.shape[1], instances)
    shares = ahead + np.arange(1, threads) / threads * (instances - ahead)
    cuts = [0, *np.interp(shares, offsets, np.arange(bags + 1)).round().astype(int).tolist(), bags]
    others = [_pool().submit(kernel, *part, whole, *arrays) for part in zip(cuts[1:-1], cuts[2:], strict=True)]
    kernel(cuts[0], cuts[1], whole, *arrays)
    for other in others:
        other.result()
    if not certified.all():
        bag = int(certified.argmin())
        raise RuntimeError(
            f"bag {bag}: no certified plan, duality gap {gap[bag]:g} and marginal violation {violation[bag]:g}; are "
            "its costs finite, their sum too, and not too far apart for float64, and its proportions not all 0?"
        )
    return plan, value, u, v, gap, violation


class _Value(torch.autograd.Function):
    """The value, whose gradients with respect to the cost and the proportions are the plan and the class potentials."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, cost: Tensor, proportions: Tensor, value: Tensor, plan: Tensor, v: Tensor, offsets: Tensor
    ) -> Tensor:
        ctx.save_for_backward(proportions, plan, v, offsets)
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        proportions, plan, v, offsets = ctx.saved_tensors
        sizes, for_cost, for_proportions = offsets.diff().to(plan.device, non_blocking=True), None, None
        if ctx.needs_input_grad[0]:
            for_cost = plan * gradient.repeat_interleave(sizes, output_size=len(plan))[:, None]
        if ctx.needs_input_grad[1]:
            total = proportions.sum(1, keepdim=True)
            mean = (v.to(proportions) * proportions).sum(1, keepdim=True) / total
            slope = (gradient * sizes).to(proportions)[:, None]
            for_proportions = slope * (v.to(proportions) - mean) / total
        return for_cost, for_proportions, None, None, None, None


@cache
def _kernel():
    # Takes a second; most users of this package never solve exactly.
    try:
        from shared.transport.successive_paths import cached
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("exact transport is compiled by numba: pip install numba") from error
    sources = (Path(__file__).with_name(name).read_bytes() for name in ("successive_paths.py", "warm_start.py"))
    return cached(crc32(b"".join(sources)))


def _threads() -> int:
    said = os.environ.get("NUMBA_NUM_THREADS", "")  # what is no number, numba itself passes over
    return min(torch.get_num_threads(), max(1, int(said)) if said.isdecimal() else torch.get_num_threads())


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="transport")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
