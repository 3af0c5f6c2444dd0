"""Compute the losses of the paper: AvgKL (4.1), the transport program (Equation 5), Relax-OT (Equation 6, Algorithm 1).

The KL loss (3.1) is `shared.methods.kl_loss`; other papers call it DLLP.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.bags import check_bags, segment_mean, segment_sum
from shared.bags.segments import sizes_like
from shared.methods import least_cost, small
from shared.transport import fused, unbalanced_sinkhorn
from shared.transport.machine import BLOCK, Loops
from shared.transport.plain import LOOPS


def _found() -> dict[str, Callable]:
    from papers.rot.relaxed import relax_bags

    return {"relax_bags": relax_bags}


SOURCES = [Path(__file__).with_name("relaxed.py"), small.MEAN_LOGS, LOOPS]
COMPILED = Loops("relax-ot", "Relax-OT", {"relax_bags": BLOCK}, _found, SOURCES, 5)
PROBLEM = struct.Struct("=11q4dq")
NO_GRADIENT, ENVELOPE, UNROLLED, UNSAFE = 0, 1, 2, 2  # as of `papers.rot.relaxed`, where they are explained
MANY = 16  # times as many numbers as an average over bags takes: each is read in every iteration
TOLERANCE = 1e-5  # in nats, of the potentials at whose optimum the gradient is taken


def avgkl_loss(log_p: Tensor, offsets: Tensor, proportions: Tensor, *, check: bool = True) -> Tensor:
    """Return the baseline of Section 4.1: every instance is taught its bag's proportions.

    It is the mean over bags of ``(1/n) sum_i - sum_k z_k log p_ik``; arguments as in `rot_loss`.
    """
    check_bags(log_p, offsets, proportions, values=check)
    means = segment_mean(log_p, offsets)
    nothing = (proportions == 0) & (means == -math.inf)  # 0 log 0
    return -(proportions * means.masked_fill(nothing, 0)).sum(1).mean()


def relax_lp_loss(log_p: Tensor, offsets: Tensor, proportions: Tensor, *, check: bool = True) -> Tensor:
    """Return Equation 5, ``min_U (1/n) tr(C^T U)`` over soft labels U keeping the proportions exactly; mean over bags.

    The gradient with respect to log p is ``- U / n``. With integer counts a vertex U is one-hot, so the relaxation is
    tight; under ties, or with fractional counts, other solutions are not ("any solution" in Section 3.3 is too much).
    """
    check_bags(log_p, offsets, proportions, values=check, finite=True)
    return least_cost(-log_p, offsets, proportions)


def rot_tau(alpha: float, epsilon: float) -> float:
    """Return the exponent of Algorithm 1, line 2: ``(1 + alpha epsilon / (1 - alpha))^-1``, for alpha in (0, 1]."""
    if not (0 < alpha <= 1 and 0 < epsilon < math.inf):
        raise ValueError(
            f"Relax-OT needs 0 < alpha <= 1 and a finite epsilon > 0, got alpha={alpha}, epsilon={epsilon}"
        )
    return (1 - alpha) / (1 - alpha + alpha * epsilon)


def rot_loss(
    log_p: Tensor,
    offsets: Tensor,
    proportions: Tensor,
    *,
    alpha: float,
    epsilon: float = 1.0,
    iterations: int = 75,
    gradient: str = "unrolled",
    check: bool = True,
) -> Tensor:
    """Return Equation 6, the Relax-OT loss, mean over bags::

        min_U  alpha/n (tr(C^T U) - epsilon H(U)) + (1 - alpha) KL(U 1/n | z),   C = -log p,  U in the simplex by row.

    Parameters
    ----------
    log_p : (M, K) log-probabilities, bag after bag.
    offsets : (B + 1,) int64 on the host.
    proportions : (B, K), the z of the paper.
    alpha : weight of the instance term against the bag term, in (0, 1].
    gradient : "unrolled" differentiates through the iterations, as the paper does; "envelope" takes the gradient at
        the optimum, ``alpha U / n`` with respect to C, which costs no backward pass through the loop.
    check : whether to look at values, too; see `shared.bags.check_bags`, which refuses what is no problem.

    Returns
    -------
    Scalar, in nats.

    Raises
    ------
    TypeError, BagError, ValueError
        Naming the bag and the value, where this is no problem over bags; the option, where it is none.

    Notes
    -----
    H is Shannon's entropy ``- sum U log U``. The paper prints ``- tr(U^T (log U - 1))``, larger by n: a constant
    ``- alpha epsilon`` in the loss, with which its own Proposition 2 would not hold.
    """
    if gradient not in ("unrolled", "envelope"):
        raise ValueError(f"gradient must be unrolled or envelope, not {gradient!r}")
    unrolled, tau = gradient == "unrolled", rot_tau(alpha, epsilon)
    compiled = small.fits(log_p, offsets, proportions, MANY) and iterations > 0 and not proportions.requires_grad
    if check or not compiled:
        check_bags(log_p, offsets, proportions, values=check, finite=True)
    if compiled:
        loss = _Relaxed.apply(log_p, offsets, proportions, unrolled, iterations, alpha, epsilon, tau)
        if loss is not None:
            return loss
    tolerance, gradient = (None, "unrolled") if unrolled else (TOLERANCE, "none")
    sizes, tiny = sizes_like(log_p, offsets), torch.finfo(log_p.dtype).tiny
    if fused.serves(log_p, len(proportions) * iterations * unrolled):
        how = fused.How(epsilon, tau, iterations, tolerance, gradient)
        _, value, entropy, columns, *_ = fused.scale(-log_p, offsets, proportions, how, plan=False)
        instance, share = value + epsilon * entropy, columns / sizes[:, None]
    else:
        transport = unbalanced_sinkhorn(
            -log_p if unrolled else -log_p.detach(),
            offsets,
            proportions,
            epsilon=epsilon,
            tau=tau,
            iterations=iterations,
            gradient=gradient,
            tolerance=tolerance,
            check=False,
        )
        plan = transport.plan
        # Clamped inside the logarithms only: 0 log 0 is 0, and so is its gradient. Where the plan is constant, autograd
        # sees the product with log p alone.
        instance = segment_sum(epsilon * plan * plan.clamp_min(tiny).log() - plan * log_p, offsets).sum(1)
        share = segment_mean(plan, offsets)
    bag = share * (share.clamp_min(tiny).log() - proportions.clamp_min(tiny).log())
    # Rows of U sum to one, so the two linear terms of the generalised KL cancel.
    per_bag = alpha * instance / sizes + (1 - alpha) * bag.sum(1)
    return per_bag.mean()


class _Relaxed(torch.autograd.Function):
    """The same by one call of compiled code, for proportions that are constants; None where plain numbers do not do."""

    @staticmethod
    def forward(
        ctx: Any,
        log_p: Tensor,
        offsets: Tensor,
        proportions: Tensor,
        unrolled: bool,
        iterations: int,
        *options: float,
    ) -> Tensor | None:
        (instances, classes), bags = log_p.shape, len(proportions)
        value, slope, gradient = log_p.new_empty(()), None, NO_GRADIENT
        if ctx.needs_input_grad[0]:
            slope, gradient = torch.empty_like(log_p), UNROLLED if unrolled else ENVELOPE
        longest = instances if bags == 1 else int(offsets.diff().max())
        kept = iterations if gradient == UNROLLED else 1
        room = torch.empty((3 * classes + kept + 2) * longest + (2 * kept + 7) * classes, dtype=torch.float64)
        places = [0 if part is None else part.data_ptr() for part in (offsets, log_p, proportions, value, slope)]
        sizes, tolerance = (bags, instances, classes, log_p.element_size() == 8), -1.0 if unrolled else TOLERANCE
        problem = *sizes, *places, gradient, iterations, *options, tolerance, room.data_ptr()
        ended = COMPILED.calls["relax_bags"](PROBLEM.pack(*problem))
        if ended and ended != UNSAFE:
            check_bags(log_p, offsets, proportions, values=False)  # which names what is wrong
        ctx.slope = slope
        return None if ended else value

    @small.differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.slope * gradient, *(None,) * 7
