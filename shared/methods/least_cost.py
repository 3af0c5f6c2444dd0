"""Learn from exact transport: the least cost per instance of moving scores onto proportions, as a loss of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from shared.transport import exact


class _LeastCost(torch.autograd.Function):
    """The mean over bags of value / n, whose gradient is the plan / (n B); costs and proportions in one read."""

    @staticmethod
    def forward(ctx: FunctionCtx, cost: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
        host, shares, sizes = cost, proportions, offsets.diff()
        if cost.device.type != "cpu":
            both = torch.cat([cost, proportions.to(cost.device)]).cpu()
            host, shares = both[: len(cost)].to(cost.dtype), both[len(cost) :].to(proportions.dtype)
        solved = exact(host, offsets, shares, check=False)
        ctx.save_for_backward((solved.plan / (len(sizes) * sizes).repeat_interleave(sizes)[:, None]).to(host))
        return (solved.value / sizes.to(host)).mean().to(cost.device, non_blocking=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope.to(gradient.device, non_blocking=True) * gradient, None, None


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
    if proportions.requires_grad:
        raise ValueError("proportions require a gradient, which a loss of least cost does not give; detach them")
    return _LeastCost.apply(cost, offsets, proportions)
