"""Serve the entropic solvers on a GPU by one launch there and one or two back, in place of several an iteration.

The kernels are in `shared.transport.kernels`; triton is imported when the first tensor arrives on a GPU, and where it
does not work the torch code of `shared.transport.scaling`, which is also the reference, goes on serving.
"""

import contextlib
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from shared.bags.segments import offsets_on
from shared.transport.context import Context
from shared.transport.result import Transport
from shared.transport.scaling import track

DEVICES = ("cuda",)
MOST_CLASSES = 4096
MOST_KEPT = 2**28  # numbers that the way back may keep: bags x iterations x classes
BLOCK = {torch.float32: 4096, torch.float64: 2048}  # entries of a block of rows: what the registers of a program hold
EVERY = 10  # iterations between looks at the error, as in `shared.transport.scaling.iterate`


@cache
def works(kind: str) -> bool:
    """Tell whether triton runs on a kind of device, by running it; where it is there and fails, warn once."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    from shared.transport.kernels import probe

    mark = torch.zeros(1, device=kind)
    try:
        probe[(1,)](mark)
    except Exception as error:  # no compiler for its launcher, a card that is too old, a driver that is
        warnings.warn(f"triton fails on {kind}, so losses use torch, more slowly: {error}", stacklevel=2)
        return False
    return mark.item() == 1


def serves(cost: Tensor, kept: int = 0) -> bool:
    """Tell whether the kernels take on costs (M, K) where they lie, keeping so many rows of K for the way back."""
    classes = cost.shape[1]
    fits = cost.dtype in BLOCK and 0 < classes <= MOST_CLASSES and kept * classes <= MOST_KEPT
    return cost.device.type in DEVICES and fits and works(cost.device.type)


def on(device: torch.device) -> contextlib.AbstractContextManager:
    """Return the context in which triton launches on `device`."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def parts(number: float) -> tuple[float, float]:
    """Split a number in two that float32 holds: a launch passes no float64."""
    high = float(np.float32(number))
    return high, number - high


@dataclass(frozen=True)
class How:
    """Say which problem is solved and how far, in the words of `unbalanced_sinkhorn`; `balanced` is `sinkhorn`'s."""

    epsilon: float
    tau: float
    iterations: int
    tolerance: float | None
    gradient: str
    balanced: bool = False

    def __post_init__(self):
        if not (self.epsilon > 0 and 0 <= self.tau <= 1 and self.iterations >= 1):
            settings = f"{self.epsilon}, {self.tau} and {self.iterations}"
            raise ValueError(f"need epsilon > 0, 0 <= tau <= 1 and iterations >= 1, got {settings}")

    def numbers(self) -> tuple[float, ...]:
        return (*parts(-1 / self.epsilon), *parts(self.tau))


def shape_of(cost: Tensor, longest: int) -> dict[str, int]:
    """Blocks of rows for costs (M, K) in bags of up to `longest`, and warps for them."""
    classes = 1 << (cost.shape[1] - 1).bit_length()
    rows = max(1, min(1 << (longest - 1).bit_length(), BLOCK[cost.dtype] // classes))
    return {"BLOCK_N": rows, "BLOCK_K": classes, "num_warps": min(16, max(1, rows * classes // 256))}


class _OfScaling(Context, Protocol):
    options: tuple[int, How, bool]  # longest, how and unrolled, as of `_Scaling.forward`


class _Scaling(torch.autograd.Function):
    """Make (plan (M, K), value, entropy (B,), columns (B, K), log b (M,), log a (B, K), violation, error, done (B,)).

    The entropy is sum P log P. If not `unrolled` all are constants but the value, whose gradient is the plan. If not
    `plan_too`, plan and log b may be empty.
    """

    @staticmethod
    def forward(
        ctx: _OfScaling,
        cost: Tensor,
        proportions: Tensor,
        offsets: Tensor,
        longest: int,
        how: How,
        unrolled: bool,
        plan_too: bool,
    ) -> tuple[Tensor, ...]:
        from shared.transport import kernels

        (bags, classes), shape = proportions.shape, shape_of(cost, longest)
        plan_too = plan_too or (ctx.needs_input_grad[0] and not unrolled)
        history = cost.new_empty((bags, how.iterations, classes) if unrolled else 0)
        plan, log_b = cost.new_empty(cost.shape if plan_too else 0), cost.new_empty(len(cost) if plan_too else 0)
        log_a, columns = (cost.new_empty(bags, classes) for _ in range(2))
        value, entropy, violation, error = (cost.new_empty(bags) for _ in range(4))
        done = torch.empty(bags, dtype=torch.int32, device=cost.device)
        with on(cost.device):
            kernels.forward[(bags,)](
                *(cost, offsets, proportions, history, plan, log_a, log_b, columns, value, entropy, violation, error),
                *(done, classes, how.iterations, *how.numbers(), how.tolerance or 0.0, EVERY),
                KEEP=unrolled,
                STOPS=how.tolerance is not None,
                BALANCED=how.balanced,
                PLAN=plan_too,
                WHOLE=longest <= shape["BLOCK_N"],
                **shape,
            )
        ctx.options = longest, how, unrolled
        ctx.save_for_backward(cost, proportions, offsets, history, None if unrolled else plan, done)
        ctx.set_materialize_grads(False)
        constants = () if unrolled else (plan, entropy, columns, log_b, log_a)
        ctx.mark_non_differentiable(*constants, violation, error, done)
        return plan, value, entropy, columns, log_b, log_a, violation, error, done

    @staticmethod
    @once_differentiable
    def backward(ctx: _OfScaling, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        from shared.transport import kernels

        cost, proportions, offsets, history, plan, done = ctx.saved_tensors
        (longest, how, unrolled), nobody = ctx.options, (None,) * 5
        if not unrolled:
            of_value = slopes[1]
            assert of_value is not None, "nothing else has a gradient"
            of_rows = of_value.repeat_interleave(offsets.diff(), output_size=len(cost))
            return of_rows[:, None] * plan, None, *nobody
        (bags, classes), shape, nothing = proportions.shape, shape_of(cost, longest), torch.zeros_like(proportions)
        of_plan, *others = (None if slope is None else slope.contiguous() for slope in slopes[:6])
        of_log_b = others[3]
        of_value, of_entropy, of_columns, _, of_log_a = (nothing if slope is None else slope for slope in others)
        has_plan = of_plan is not None or of_log_b is not None
        if has_plan:
            of_plan = torch.zeros_like(cost) if of_plan is None else of_plan
            of_log_b = cost.new_zeros(len(cost)) if of_log_b is None else of_log_b
        gammas, for_cost, for_log_mass = (torch.empty_like(tensor) for tensor in (history, cost, nothing))
        problem = cost, offsets, proportions, history, gammas, done
        given = nothing if of_plan is None else of_plan, nothing if of_log_b is None else of_log_b, of_columns, of_value
        numbers, blocks = (classes, how.iterations, *how.numbers()), -(-longest // shape["BLOCK_N"])
        with on(cost.device):
            kernels.backward[(bags,)](
                *(*problem, *given, of_entropy, of_log_a, for_cost, for_log_mass, *numbers),
                HAS_PLAN=has_plan,
                WHOLE=blocks == 1,
                **shape,
            )
            if blocks > 1:
                kernels.backward_blocks[(bags, blocks)](
                    *problem, *given, of_entropy, for_cost, *numbers, HAS_PLAN=has_plan, **shape
                )
        for_proportions = for_log_mass / proportions.where(proportions > 0, 1) if ctx.needs_input_grad[1] else None
        return for_cost, for_proportions, *nobody


def scale(cost: Tensor, offsets: Tensor, proportions: Tensor, how: How, plan: bool = True) -> tuple[Tensor, ...]:
    """Run Algorithm 1 for costs (M, K), offsets (B + 1,) and proportions (B, K); the answer is that of `_Scaling`.

    Each bag stops by itself. `plan` tells whether plan and log b are wanted; they may be empty otherwise.
    """
    with track(how.gradient, cost, proportions):
        unrolled = torch.is_grad_enabled()
    there = offsets_on(offsets, cost.device)
    longest = int(offsets.diff().max())
    return _Scaling.apply(cost.contiguous(), proportions.to(cost).contiguous(), there, longest, how, unrolled, plan)


def transport(
    cost: Tensor, offsets: Tensor, proportions: Tensor, how: How, limit: float, regularised: bool = False
) -> Transport:
    """Return what the torch solvers return, but for `iterations`, which a tolerance makes a tensor nobody waits for.

    A bag has converged if its error is at most `limit`; `regularised` as in `sinkhorn`.
    """
    if how.balanced:
        proportions = proportions / proportions.sum(1, keepdim=True)
    plan, value, entropy, _, log_b, log_a, violation, error, done = scale(cost, offsets, proportions, how)
    if regularised:
        value = value + how.epsilon * (entropy - offsets.diff().to(cost.device, non_blocking=True))
    return Transport(
        plan=plan,
        value=value,
        instance_potential=how.epsilon * log_b,
        class_potential=(how.epsilon * log_a).masked_fill(~(proportions > 0), -torch.inf),
        violation=violation,
        converged=(violation if how.balanced else error) <= limit,
        iterations=how.iterations if how.tolerance is None else done.max(),
    )
