"""The proportion loss is the cross-entropy between a bag's proportions and its mean prediction.

It is known as the KL loss (Dulac-Arnold et al. 2019), as DLLP (Ardehaly & Culotta 2017) and as PM.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from shared.bags import check_bags, segment_softmax


class _KL(torch.autograd.Function):
    """The loss with its gradient in closed form: ``- z_k p_ik / (B sum_j p_jk)`` with respect to log p_ik."""

    @staticmethod
    def forward(ctx: FunctionCtx, log_p: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
        log_mean, share, bag = segment_softmax(log_p, offsets)
        weight = proportions * (-1 / len(proportions))
        for_log_p = for_proportions = None
        if ctx.needs_input_grad[0]:
            for_log_p = (share * (weight[:, None] if bag is None else weight[bag])).view_as(log_p)
        if ctx.needs_input_grad[2]:
            for_proportions = log_mean * (-1 / len(proportions))
        ctx.save_for_backward(for_log_p, for_proportions)
        return (weight * log_mean).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        for_log_p, for_proportions = (saved if saved is None else saved * gradient for saved in ctx.saved_tensors)
        return for_log_p, None, for_proportions


def kl_loss(log_p: Tensor, offsets: Tensor, proportions: Tensor, *, check: bool = True) -> Tensor:
    """Return the mean over bags of ``- sum_k z_k log(mean_i p_ik)``.

    Source: Dulac-Arnold et al. 2019, Section 3.1, the loss l^KL, averaged as in Equation 1.

    Parameters
    ----------
    log_p : (M, K) log-probabilities, bag after bag.
    offsets : (B + 1,) int64 on the host.
    proportions : (B, K).
    check : whether to look at values, too; see `shared.bags.check_bags`, which refuses what is no problem.

    Returns
    -------
    Scalar, in nats. The mean over a bag is taken in the log domain: no prediction underflows.

    Raises
    ------
    TypeError, BagError
        Naming the bag and the value, where this is no problem over bags.
    """
    check_bags(log_p, offsets, proportions, values=check)
    return _KL.apply(log_p, offsets, proportions)
