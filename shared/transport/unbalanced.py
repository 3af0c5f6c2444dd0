"""Transport with an entropic term and a soft class marginal: Dulac-Arnold et al. 2019, Equation 6 by Algorithm 1."""

from functools import partial

import torch
from torch import Tensor

from shared.transport import fused
from shared.transport.ragged import by_size, lay_out
from shared.transport.result import Transport
from shared.transport.scaling import (
    NOTHING,
    Goal,
    Problem,
    Scaling,
    iterate,
    row_violation,
    solution,
    state_problem,
    track,
)

TOLERANCE = {4: 1e-5, 8: 1e-9}  # of `converged`, by bytes per number


@by_size
def unbalanced_sinkhorn(
    cost: Tensor,
    offsets: Tensor,
    proportions: Tensor,
    *,
    epsilon: float,
    tau: float,
    iterations: int = 75,
    tolerance: float | None = None,
    gradient: str = "unrolled",
    check: bool = True,
) -> Transport:
    r"""Solve, for every bag of n instances with proportions z, by the scaling iterations of Algorithm 1,

    .. math:: \min_{P \ge 0} \langle C, P \rangle - \epsilon H(P) + \rho \, \mathrm{KL}(P^\top 1_n \mid n z)
              \quad \text{s.t.} \quad P 1_K = 1_n, \qquad \rho = \frac{\epsilon \tau}{1 - \tau},

    which is Equation 6 times n / alpha when ``tau = 1 / (1 + alpha epsilon / (1 - alpha))``. tau = 1 is
    balanced transport. With tau = 0 the class marginal is ignored, except that classes of proportion 0 stay
    empty, as they are for every tau > 0. Convergence is linear, at rate tau or faster.

    Parameters
    ----------
    cost : (M, K) tensor, float32 or float64
    offsets : (B + 1,) int64 tensor
    proportions : (B, K) tensor, used as they are
    epsilon : float
        Strength of the entropy, in units of cost.
    tau : float in [0, 1]
    iterations : int
        Made in full unless `tolerance` is given.
    tolerance : float, optional
        In units of cost. Stop, at a multiple of 10 iterations, when no class potential would move by more
        in one more iteration. Without it `converged` is judged by 1e-9 in float64 and 1e-5 in float32.
    gradient : {"unrolled", "none"}
        "unrolled": plan, value and potentials are differentiated (once) through the iterations, as in the paper.
        "none": they are constants, except that the gradient of the value with respect to the cost is the
        plan; that is the gradient of the optimum of the problem above (envelope theorem).
    check : bool
        Validate the problem; turn off in hot loops.

    Returns
    -------
    Transport
        ``plan = exp((f_i + g_k - C_ik) / epsilon)`` with a = exp(g / epsilon), b = exp(f / epsilon) of
        Proposition 1. Columns of proportion 0 are exactly 0 and their class potential is -inf. The value is
        <C, P>.

    Raises
    ------
    ValueError
        Naming the bag, if the problem is not one (see `check_problem`); for epsilon <= 0, tau outside [0,
        1] or iterations < 1.
    """
    if not (epsilon > 0 and 0 <= tau <= 1 and iterations >= 1):
        raise ValueError(f"need epsilon > 0, 0 <= tau <= 1 and iterations >= 1, got {epsilon}, {tau} and {iterations}")
    limit = TOLERANCE[cost.element_size()] if tolerance is None else tolerance
    if fused.serves(cost, len(proportions) * iterations * (gradient == "unrolled")):
        how = fused.How(epsilon, tau, iterations if tau > 0 else 1, tolerance, gradient)
        return fused.transport(cost, offsets, proportions, how, limit)
    layout = lay_out(offsets, cost.device)
    with track(gradient, cost, proportions):
        problem = state_problem(cost, layout, proportions, epsilon)
        if layout.longest == 1:
            scaling, move = _single_instances(problem, tau, iterations)
            done = iterations
        else:
            goal = Goal(partial(_next_move, tau=tau), tolerance, columns=False)
            # With tau = 0 the class scaling stays 1: the first iteration is the last.
            scaling, made = iterate(problem, tau, iterations if tau > 0 else 1, goal)
            done = int(made.max())
            move = _next_move(problem, scaling, tau)
    return Transport(*solution(problem, cost, scaling), row_violation(problem, scaling), move <= limit, done)


@torch.no_grad()
def _next_move(problem: Problem, scaling: Scaling, tau: float) -> Tensor:
    """The most that one more iteration would move a class potential of each bag, in units of cost, (B,)."""
    column = scaling.column_sums().masked_fill(~problem.present, 1)
    move = (scaling.weight / column).pow(tau).log() - scaling.u.log()
    return problem.epsilon * move.abs().squeeze(2).amax(1)


def _single_instances(problem: Problem, tau: float, iterations: int) -> tuple[Scaling, Tensor]:
    """Algorithm 1 and its next move in closed form, when all bags hold one instance.

    The plan is softmax((1 - tau) log K + tau log z) from the first iteration on; only the common level of
    the two potentials moves: log b <- tau log b - L, with L the logarithm of the softmax's denominator.
    """
    log_mass, log_kernel, absent = problem.mass.log(), problem.log_kernel, ~problem.present
    score = ((1 - tau) * log_kernel + tau * log_mass).masked_fill(absent, NOTHING)
    level = score.logsumexp(1, keepdim=True)
    before, log_b = (-level * sum(tau**j for j in range(t)) for t in (iterations - 1, iterations))
    log_a = (tau * (log_mass - log_kernel - before)).masked_fill(absent, 0)
    plan, one = (score - level).exp(), torch.ones_like(log_a)
    move = problem.epsilon * tau**iterations * level.detach().abs().flatten()
    return Scaling(log_a, log_b, plan, one, one, torch.ones_like(level)), move
