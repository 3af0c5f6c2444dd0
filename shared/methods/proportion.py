"""The proportion loss is the cross-entropy between a bag's proportions and its mean prediction.

It is known as the KL loss (Dulac-Arnold et al. 2019), as DLLP (Ardehaly & Culotta 2017) and as PM.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from shared.bags import check_bags, segment_softmax
from shared.methods import small
from shared.transport.machine import BLOCK, Loops


def _found() -> dict[str, Callable]:
    from shared.methods.mean_logs import mean_logs

    return {"mean_logs": mean_logs}


COMPILED = Loops(
    "proportion-loss",
    "the proportion loss",
    {"mean_logs": BLOCK},
    _found,
    [small.MEAN_LOGS],
    3,
)
PROBLEM = struct.Struct("=10q")


class _Context(FunctionCtx):
    """What the backward pass reads: the gradients with respect to log_p and to the proportions, where wanted."""

    needs_input_grad: tuple[bool, ...]
    slopes: tuple[Tensor | None, Tensor | None]


class _KL(torch.autograd.Function):
    """The loss with its gradient in closed form: ``- z_k p_ik / (B sum_j p_jk)`` with respect to log p_ik."""

    @staticmethod
    def forward(ctx: _Context, log_p: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
        log_mean, share, bag = segment_softmax(log_p, offsets)
        if not log_p.is_cpu or float(log_mean.amin()) == -torch.inf:  # to ask a GPU would be to wait for it
            # 0 log 0 is 0, and so are its gradients, as torch.xlogy has it.
            log_mean = log_mean.masked_fill((proportions == 0) & (log_mean == -torch.inf), 0)
        weight = proportions * (-1 / len(proportions))
        for_log_p = for_proportions = None
        if ctx.needs_input_grad[0]:
            for_log_p = (share * (weight[:, None] if bag is None else weight[bag])).view_as(log_p)
        if ctx.needs_input_grad[2]:
            for_proportions = log_mean * (-1 / len(proportions))
        ctx.slopes = for_log_p, for_proportions
        return (weight * log_mean).sum()

    @small.differentiable_once
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        for_log_p, for_proportions = ctx.slopes
        scaled = None if for_proportions is None else for_proportions * gradient
        return None if for_log_p is None else for_log_p * gradient, None, scaled


class _CompiledKL(_KL):
    """The same by one call of compiled code."""

    @staticmethod
    def forward(ctx: _Context, log_p: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
        bags, classes = proportions.shape
        value = log_p.new_empty(())
        slopes = (
            torch.empty_like(log_p) if ctx.needs_input_grad[0] else None,
            torch.empty_like(proportions) if ctx.needs_input_grad[2] else None,
        )
        places = [0 if part is None else part.data_ptr() for part in (offsets, log_p, proportions, value, *slopes)]
        if COMPILED.calls["mean_logs"](PROBLEM.pack(bags, len(log_p), classes, log_p.element_size() == 8, *places)):
            check_bags(log_p, offsets, proportions, values=False)  # which names what is wrong
        ctx.slopes = slopes
        return value


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
    A class of proportion 0 adds 0, also where all its log p are -inf.

    Raises
    ------
    TypeError, BagError
        Naming the bag and the value, where this is no problem over bags.
    """
    compiled = small.fits(log_p, offsets, proportions)
    if check or not compiled:
        check_bags(log_p, offsets, proportions, values=check)
    return (_CompiledKL if compiled else _KL).apply(log_p, offsets, proportions)
