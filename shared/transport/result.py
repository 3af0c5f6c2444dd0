"""Every solver of this package returns the same: plan, value, potentials and the evidence that they are right."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Transport:
    """Hold the solution of one transport problem per bag; M instances, B bags, K classes.

    Attributes
    ----------
    plan : (M, K) tensor
        Mass that instance i sends to class k; every instance has mass 1. Exactly 0 where the proportion is 0.
    value : (B,) tensor
        Transport cost <C, P> of each bag, in units of cost (a sum over instances, not a mean), unless the
        solver was asked for another objective.
    instance_potential : (M,) tensor
        f, in units of cost. Entropic solvers: ``plan = exp((f_i + g_k - C_ik) / epsilon)``. Exact: the dual
        variable u of the linear program, ``f_i + g_k <= C_ik`` with equality where the plan is positive.
    class_potential : (B, K) tensor
        g, in units of cost, in the same two conventions. Entropic solvers: -inf where the proportion is 0.
        Exact: finite there, but arbitrary within dual feasibility.
    violation : (B,) tensor
        Worst error of the marginals of `plan`: the maximum of ``|row sum - 1|`` and, where the class marginal
        is a constraint (exact, balanced Sinkhorn), ``|column sum - n z| / n``. The unbalanced class
        marginal is a penalty, so there only the rows count.
    converged : (B,) bool tensor
        Exact: certified by `gap` and `violation`, always. Balanced Sinkhorn: `violation` is within
        tolerance. Unbalanced: one more iteration would move no class potential by more than the
        tolerance.
    iterations : int, or int32 tensor
        Iterations made, the most of any bag (exact: 0, it has no limit). On a GPU, where a tolerance stops each bag
        by itself, a tensor of one number: reading it waits for the GPU.
    gap : (B,) tensor or None
        Exact: duality gap, <C, P> minus the dual value, in units of cost; 0 but for rounding. Others: None.
    """

    plan: Tensor
    value: Tensor
    instance_potential: Tensor
    class_potential: Tensor
    violation: Tensor
    converged: Tensor
    iterations: int | Tensor
    gap: Tensor | None = None
