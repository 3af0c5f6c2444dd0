"""Compute the vertex proportion loss (Section 2.1, Equation 1), bag-level MSE beside it, and entropy of predictions.

The KL loss of Section 2.1 is `shared.methods.kl_loss`, up to the entropy of the proportions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from shared.bags import check_bags, segment_mean
from shared.methods import kl_loss, least_cost, small
from shared.methods.least_cost import least_cross_entropy

COSTS = ("ce", "l2")


def vertex_costs(logits: Tensor, cost: str = "ce") -> Tensor:
    """Return the cost of moving each prediction to each vertex e_k of the simplex, (M, K) logits -> (M, K).

    "ce": ``- log p_k``, in nats; "l2": ``||p - e_k||^2``, with p = softmax(logits).
    """
    log_p = logits.log_softmax(1)
    if cost == "ce":
        return -log_p
    if cost == "l2":
        p = log_p.exp()
        return p.square().sum(1, keepdim=True) - 2 * p + 1
    raise ValueError(f"cost of the VP loss must be one of {', '.join(COSTS)}, not {cost!r}")


def vp_loss(logits: Tensor, offsets: Tensor, proportions: Tensor, cost: str = "ce", *, check: bool = True) -> Tensor:
    r"""Return the mean over bags of the least cost, per instance, of moving the predictions onto the proportions.

    .. math:: \min_{P \ge 0} \frac1N \langle P, C \rangle \;\text{s.t.}\; P 1_K = 1_N, \; P^\top 1_N = N Y
              \quad = \quad \max_{\Phi, s} \langle Y, \Phi \rangle - \frac1N \langle s, 1_N \rangle
              \;\text{s.t.}\; s_i \ge \phi_k - C_{ik}.

    Source: Section 2.1; the right-hand side is Equation 1. VP-CE and VP-L2 are the two costs of Section 3.

    Parameters
    ----------
    logits : (M, K) finite, float32 or float64, bag after bag. Log-probabilities do as well: only the softmax counts.
    offsets : (B + 1,) int64 on the host.
    proportions : (B, K), rows on the simplex within 1e-4; not necessarily counts / N.
    cost : "ce" or "l2", see `vertex_costs`.
    check : whether to look at values, too; see `shared.bags.check_bags`, which refuses what is no problem.

    Returns
    -------
    Scalar, in nats ("ce") or squared distance ("l2", at most 2). Its gradient with respect to C is ``P / (N B)``, the
    multipliers of Equation 1's constraints (envelope theorem); where several P are optimal, that of one of them.

    Raises
    ------
    TypeError, BagError, ValueError
        Naming the bag that is empty, whose proportions are negative or sum to something else than 1, or that holds a
        logit that is not finite; for an unknown cost.
    """
    is_small = small.fits(logits, offsets, proportions)
    if check or not is_small:
        check_bags(logits, offsets, proportions, values=check, what="logits")
    if is_small and cost == "ce":
        return least_cross_entropy(logits, offsets, proportions)
    return least_cost(vertex_costs(logits, cost), offsets, proportions)


def mse_loss(log_p: Tensor, offsets: Tensor, proportions: Tensor, *, check: bool = True) -> Tensor:
    """Return the mean over bags and classes of the squared difference between the mean prediction and the proportions.

    Source: the baseline MSE of Section 3. Arguments and errors as in `shared.methods.kl_loss`.
    """
    check_bags(log_p, offsets, proportions, values=check)
    return (segment_mean(log_p.exp(), offsets) - proportions).square().mean()


LOSSES: dict[str, Callable[..., Tensor]] = {"mse": mse_loss, "kl": kl_loss}
LOSSES |= {f"vp_{cost}": partial(vp_loss, cost=cost) for cost in COSTS}


def entropy(p: Tensor) -> Tensor:
    """Return the mean over instances of the entropy of (N, K) predictions, a scalar in nats (Section 3, on Table 1)."""
    return -torch.special.xlogy(p, p).sum(1).mean()
