"""Solve balanced entropic transport by Sinkhorn's iterations (Cuturi 2013; Peyré & Cuturi 2019, Section 4.2)."""

from torch import Tensor

from shared.transport import fused
from shared.transport.ragged import by_size, lay_out
from shared.transport.result import Transport
from shared.transport.scaling import Goal, column_violation, iterate, row_violation, solution, state_problem, track

TOLERANCE = {4: 1e-5, 8: 1e-9}  # by bytes per number: float32 marginals hardly get better than 1e-6


@by_size
def sinkhorn(
    cost: Tensor,
    offsets: Tensor,
    proportions: Tensor,
    epsilon: float,
    *,
    iterations: int = 1000,
    tolerance: float | None = None,
    gradient: str = "unrolled",
    regularised: bool = False,
    check: bool = True,
) -> Transport:
    r"""Solve, for every bag of n instances with proportions z,

    .. math:: \min_{P \ge 0} \langle C, P \rangle - \epsilon H(P)
              \quad \text{s.t.} \quad P 1_K = 1_n, \; P^\top 1_n = n z,
              \qquad H(P) = -\sum_{ik} P_{ik} (\log P_{ik} - 1).

    Every iteration ends on the rows, so they are exact to rounding and the columns tell the convergence.

    Parameters
    ----------
    cost : (M, K) tensor, float32 or float64
    offsets : (B + 1,) int64 tensor
    proportions : (B, K) tensor; scaled to sum to exactly 1 in each bag, or no plan would exist
    epsilon : float
        Strength of the entropy, in units of cost.
    iterations : int
        At most so many. A bag that has converged makes no more, but on devices where torch iterates: there bags of like
        sizes run together until all have.
    tolerance : float, optional
        On the violation, read every 10 iterations. Default 1e-9 in float64, 1e-5 in float32.
    gradient : {"unrolled", "none"}
        "unrolled": plan, value and potentials are differentiated (once) through the iterations. "none": they are
        constants, except that the gradient of the value with respect to the cost is the plan; that is the
        gradient of the regularised optimum (envelope theorem), not of <C, P>.
    regularised : bool
        Report the objective above as the value, not <C, P>.
    check : bool
        Validate the problem; turn off in hot loops.

    Returns
    -------
    Transport
        ``plan = exp((f_i + g_k - C_ik) / epsilon)``. Columns of proportion 0 are exactly 0 and their class
        potential is -inf.

    Raises
    ------
    ValueError
        Naming the bag, if the problem is not one (see `check_problem`); for epsilon <= 0 or iterations < 1.
    """
    if not (epsilon > 0 and iterations >= 1):
        raise ValueError(f"need epsilon > 0 and iterations >= 1, got {epsilon} and {iterations}")
    tolerance = TOLERANCE[cost.element_size()] if tolerance is None else tolerance
    if fused.serves(cost, len(proportions) * iterations * (gradient == "unrolled")):
        how = fused.How(epsilon, 1.0, iterations, tolerance, gradient, balanced=True)
        return fused.transport(cost, offsets, proportions, how, tolerance, regularised)
    with track(gradient, cost, proportions):
        proportions = proportions / proportions.sum(1, keepdim=True)
        problem = state_problem(cost, lay_out(offsets, cost.device), proportions, epsilon)
        scaling, done = iterate(problem, 1.0, iterations, Goal(column_violation, tolerance, columns=True))
    violation = row_violation(problem, scaling).maximum(column_violation(problem, scaling))
    return Transport(*solution(problem, cost, scaling, regularised), violation, violation <= tolerance, int(done.max()))
