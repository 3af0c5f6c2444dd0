"""Transport exactly: the linear program of Dulac-Arnold et al. 2019, Equation 5, for all bags at once."""

import os
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from shared.transport import machine
from shared.transport.constants import MISFIT, ODD
from shared.transport.context import Context
from shared.transport.ragged import check_problem
from shared.transport.result import Transport

WHOLE = {torch.float32: 1e-6, torch.float64: 1e-12}  # how close counts / n lie to counts: float32 does not hold 0.1
AHEAD = 4000  # costs that are solved before another thread has woken up
ROOM = 2**16  # bytes, enough for a few hundred costs: what more is needed, `solve_bags` says
FEW = 2**12  # bytes
PROBLEM, TURN = struct.Struct("=6qd10q"), struct.Struct("=4q")  # the two parts of the block of `bag_solver`
BYTE = np.dtype("uint8")
NUMBERS = {torch.float32: np.dtype("float32"), torch.float64: np.dtype("float64"), torch.bool: np.dtype("bool")}


class _Own(threading.local):
    """What every thread keeps from call to call: memory to work in, and for the answers, all but plans, of few bags."""

    def __init__(self):
        self.memory, self.answers = np.empty(ROOM, BYTE), np.empty(FEW, BYTE)
        self.room, self.at = self.memory.ctypes.data, self.answers.ctypes.data


_own = _Own()


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
    sizes = _sizes(cost, offsets, proportions)
    if sizes is None:
        if check:
            check_problem(cost, offsets, proportions)
        raise _misfit(cost, offsets, proportions)
    solved = _solve(cost, offsets, proportions, sizes, WHOLE[proportions.dtype], check)
    if (cost.requires_grad or proportions.requires_grad) and torch.is_grad_enabled():
        value = _Value.apply(cost, proportions, solved.value, solved.plan, solved.class_potential, offsets)
        solved.__dict__["value"] = value
    return solved


class Solved(Transport):
    """The answer in two pieces: the plan, and bytes of all else, of which a part is read when it is asked for."""

    _rest: np.ndarray | Tensor
    _bags: int

    def __init__(self, plan: Tensor, rest: np.ndarray | Tensor, bags: int):
        self.__dict__.update(plan=plan, _rest=rest, _bags=bags, iterations=0)

    @cached_property
    def gap(self) -> Tensor:
        return self._part(0, 8 * self._bags, torch.float64)

    @cached_property
    def violation(self) -> Tensor:
        return self._part(8 * self._bags, 8 * self._bags, torch.float64)

    @cached_property
    def value(self) -> Tensor:
        return self._like_plan(0, self._bags)

    @cached_property
    def instance_potential(self) -> Tensor:
        return self._like_plan(self._bags, len(self.plan))

    @cached_property
    def class_potential(self) -> Tensor:
        classes = self.plan.shape[1]
        return self._like_plan(self._bags + len(self.plan), self._bags * classes).view(self._bags, classes)

    @cached_property
    def converged(self) -> Tensor:
        return self._part(len(self._rest) - self._bags, self._bags, torch.bool)

    def _like_plan(self, start: int, numbers: int) -> Tensor:
        size = self.plan.element_size()
        return self._part(16 * self._bags + start * size, numbers * size, self.plan.dtype)

    def _part(self, start: int, size: int, kind: torch.dtype) -> Tensor:
        part = self._rest[start : start + size]
        return part.view(kind) if isinstance(part, Tensor) else torch.from_numpy(part.view(NUMBERS[kind]))


def solve(
    cost: np.ndarray, offsets: np.ndarray, proportions: np.ndarray, whole: float = 1e-12
) -> tuple[np.ndarray, ...]:
    """Solve all bags of arrays and check every answer.

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
    costs, edges, shares = (torch.from_numpy(np.ascontiguousarray(array)) for array in (cost, offsets, proportions))
    sizes = _sizes(costs, edges, shares)
    if sizes is None:
        raise _misfit(costs, edges, shares)
    found = _solve(costs, edges, shares, sizes, whole, False)
    parts = found.plan, found.value, found.instance_potential, found.class_potential, found.gap, found.violation
    return tuple(part.numpy() for part in parts)


def _sizes(cost: Tensor, offsets: Tensor, proportions: Tensor) -> tuple[int, int, int] | None:
    """Bags, instances and classes, if these are tensors of the kinds and shapes of a problem."""
    if not (
        isinstance(cost, Tensor)
        and isinstance(offsets, Tensor)
        and isinstance(proportions, Tensor)
        and cost.dtype in WHOLE
        and proportions.dtype in WHOLE
        and offsets.dtype is torch.int64
        and cost.layout is proportions.layout is torch.strided
    ):
        return None
    try:
        (instances, classes), (bags, width), (edges,) = cost.shape, proportions.shape, offsets.shape
    except ValueError:  # of other dimensions
        return None
    return (bags, instances, classes) if width == classes and edges == bags + 1 else None


def _solve(
    cost: Tensor, offsets: Tensor, proportions: Tensor, sizes: tuple[int, int, int], whole: float, check: bool
) -> Solved:
    """The answer, where the cost is."""
    (bags, instances, classes), here, wide = sizes, cost.is_cpu, cost.dtype is torch.float64
    size = 8 if wide else 4
    like = 16 * bags + size * (bags + instances + bags * classes)
    some = like + bags
    if here:  # by NumPy, which allocates a microsecond earlier
        plan = torch.from_numpy(np.empty((instances, classes), NUMBERS[cost.dtype]))
        own = None if some <= FEW else np.empty(some, BYTE)
        at = _own.at if own is None else torch.from_numpy(own).data_ptr()
    else:
        start = some + -some % 8
        packed = torch.empty(start + size * instances * classes, dtype=torch.uint8)
        at, plan = packed.data_ptr(), packed[start:]
    costs, shares = cost, proportions
    if not (here and proportions.is_cpu and cost.is_contiguous() and proportions.is_contiguous()):
        costs, shares = _on_host(cost, proportions)
    if not (offsets.is_cpu and offsets.is_contiguous()):
        offsets = offsets.cpu().contiguous()
    numbers, answers = at + 16 * bags, (at, at + 8 * bags, at + like)
    of_cost = costs.data_ptr(), plan.data_ptr(), numbers, numbers + size * bags, numbers + size * (bags + instances)
    fine = shares.dtype is torch.float64
    given = whole, offsets.data_ptr(), shares.data_ptr(), *answers, *of_cost
    wrong = _in_turns(offsets, sizes, PROBLEM.pack(*sizes, wide, fine, check, *given))
    if wrong and check:
        check_problem(cost, offsets, proportions)  # which names what is wrong
        if wrong == ODD:  # by less than it minds
            wrong = _in_turns(offsets, sizes, PROBLEM.pack(*sizes, wide, fine, False, *given))
    if wrong == MISFIT:
        raise _misfit(cost, offsets, proportions)
    if here:
        solved = Solved(plan, _own.answers[:some].copy() if own is None else own, bags)
    else:
        packed = packed.to(cost.device, non_blocking=True)
        solved = Solved(packed[start:].view(cost.dtype).view(cost.shape), packed[:some], bags)
    if wrong and not solved.converged.all():
        bag = int(solved.converged.int().argmin())
        raise RuntimeError(
            f"bag {bag}: no certified plan, duality gap {solved.gap[bag]:g} and marginal violation "
            f"{solved.violation[bag]:g}; are its costs finite, their sum too, and not too far apart for float64, and "
            "its proportions not all 0?"
        )
    return solved


def _in_turns(offsets: Tensor, sizes: tuple[int, int, int], problem: bytes) -> int:
    """Solve all bags, on several threads where that pays, and return what `solve_bags` does, or the sum of it."""
    solve_bags, (bags, instances, classes) = machine.solve_bags(), sizes
    costs = instances * classes
    if bags == 1 or costs < 2 * AHEAD:
        return _turn(solve_bags, problem, 0, bags)
    threads = min(_threads(), bags, costs // AHEAD)
    cuts = [0, bags]
    if threads > 1:
        ahead = min(AHEAD / classes, instances)
        shares = ahead + np.arange(1, threads) / threads * (instances - ahead)
        cuts[1:1] = np.interp(shares, offsets.numpy(), np.arange(bags + 1)).round().astype(int).tolist()
    rest = [_pool().submit(_turn, solve_bags, problem, *part) for part in pairwise(cuts[1:])]
    answers = [_turn(solve_bags, problem, *cuts[:2]), *(turn.result() for turn in rest)]
    return min(answers) if min(answers) < 0 else sum(answers)


def _turn(solve_bags: Callable[[bytes], int], problem: bytes, first: int, last: int) -> int:
    """Solve some bags; what a few hundred costs need of room is kept from call to call, more is not."""
    answer = solve_bags(problem + TURN.pack(first, last, _own.room, ROOM))
    if answer < ODD:
        more = np.empty(-answer, BYTE)
        answer = solve_bags(problem + TURN.pack(first, last, more.ctypes.data, -answer))
    return answer


def _on_host(cost: Tensor, proportions: Tensor) -> tuple[Tensor, Tensor]:
    """Costs and proportions on the host, contiguous: from another device in one copy."""
    cost, proportions = cost.detach(), proportions.detach()
    if not cost.is_cpu and proportions.device == cost.device:
        both = torch.cat([cost.reshape(-1), proportions.reshape(-1)]).cpu()  # in the wider kind
        costs = cost.numel()
        cost, proportions = both[:costs].view(cost.shape).to(cost.dtype), both[costs:].view(proportions.shape)
    return cost.cpu().contiguous(), proportions.cpu().contiguous()


def _misfit(cost: Tensor, offsets: Tensor, proportions: Tensor) -> ValueError:
    shapes = f"cost {tuple(cost.shape)}, offsets {offsets.tolist()[:9]}, proportions {tuple(proportions.shape)}"
    return ValueError(f"these do not fit, or a bag is empty: {shapes}")


class _Value(torch.autograd.Function):
    """The value, whose gradients with respect to the cost and the proportions are the plan and the class potentials."""

    @staticmethod
    def forward(
        ctx: Context, cost: Tensor, proportions: Tensor, value: Tensor, plan: Tensor, v: Tensor, offsets: Tensor
    ) -> Tensor:
        ctx.save_for_backward(proportions, plan, v, offsets)
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
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


def _threads() -> int:
    said = os.environ.get("NUMBA_NUM_THREADS", "")  # what is no number, numba itself passes over
    return min(torch.get_num_threads(), max(1, int(said)) if said.isdecimal() else torch.get_num_threads())


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="transport")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
