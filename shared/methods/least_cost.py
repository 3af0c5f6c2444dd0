"""Learn from exact transport: the least cost per instance of moving scores onto proportions, as a loss of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from shared.bags import check_bags
from shared.bags.segments import one_size
from shared.methods.small import differentiable_once
from shared.transport import exact


def _solved(cost: Tensor, offsets: Tensor, proportions: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
    """The mean over bags of value / n, the plan and 1 / (n B), for all bags or of each instance; on the host."""
    bags = len(proportions)
    try:
        solved = exact(cost, offsets, proportions, check=False)
    except ValueError:
        check_bags(cost, offsets, proportions, values=False, what="cost")  # which names what is wrong
        raise
    size = len(cost) if bags == 1 else one_size(offsets)
    if size is not None:
        weight = 1 / (size * bags)
        return solved.value.sum() * weight, solved.plan, weight
    sizes = offsets.diff()
    weights = (bags * sizes).repeat_interleave(sizes)[:, None].to(cost).reciprocal_()
    return (solved.value / sizes.to(cost)).mean(), solved.plan, weights


class _Context(FunctionCtx):
    """What the backward pass reads: the gradient with respect to the first input."""

    needs_input_grad: tuple[bool, ...]
    slope: Tensor


class _LeastCost(torch.autograd.Function):
    """The loss, whose gradient is the plan / (n B); costs and proportions in one read."""

    @staticmethod
    def forward(ctx: _Context, cost: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
        host, shares = cost, proportions
        if not cost.is_cpu:
            both = torch.cat([cost, proportions.to(cost.device)]).cpu()
            host, shares = both[: len(cost)].to(cost.dtype), both[len(cost) :].to(proportions.dtype)
        loss, plan, weight = _solved(host, offsets, shares)
        ctx.slope = plan.mul_(weight)
        return loss if cost.is_cpu else loss.to(cost.device, non_blocking=True)

    @differentiable_once
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        slope = ctx.slope if gradient.is_cpu else ctx.slope.to(gradient.device, non_blocking=True)
        return slope * gradient, None, None


class _LeastCrossEntropy(torch.autograd.Function):
    """The loss of ``- log softmax``, on the host, with its gradient ``(p - plan) / (n B)`` with respect to logits."""

    @staticmethod
    def forward(ctx: _Context, logits: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)
        loss, plan, weight = _solved(-log_p, offsets, proportions)
        if ctx.needs_input_grad[0]:
            ctx.slope = log_p.exp_().sub_(plan).mul_(weight)
        return loss

    @differentiable_once
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.slope * gradient, None, None


def least_cost(cost: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
    """Return the mean over bags of the least cost per instance of a plan that keeps the proportions, by `exact`.

    Parameters
    ----------
    cost : (M, K) of giving each instance to each class; its gradient is that of the optimum, P / (n B).
    offsets : (B + 1,) int64 on the host.
    proportions : (B, K), constants.

    Returns
    -------
    Scalar, in units of cost. A device is waited for once.

    Raises
    ------
    ValueError, RuntimeError
        If proportions require a gradient; else as `exact`, which looks at no value here.
    """
    _refuse_slope(proportions)
    return _LeastCost.apply(cost, offsets, proportions)


def least_cross_entropy(logits: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
    """Return `least_cost` of ``- logits.log_softmax(1)`` on the host, in nats, with less for autograd to do."""
    _refuse_slope(proportions)
    return _LeastCrossEntropy.apply(logits, offsets, proportions)


def _refuse_slope(proportions: Tensor) -> None:
    if proportions.requires_grad:
        raise ValueError("proportions require a gradient, which a loss of least cost does not give; detach them")
