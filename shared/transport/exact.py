"""Exact transport: the linear program of Dulac-Arnold et al. 2019, Equation 5, by POT's network simplex.

Where POT is not installed SciPy's HiGHS solves the same program, tens of times slower.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from shared.transport.ragged import check_problem, lay_out
from shared.transport.result import Transport

INTEGRAL = 1e-6  # proportions this close to counts / n are counts: float32 does not hold 0.1
CERTIFIED = 1e-9  # duality gap and dual feasibility, relative to the largest cost and the value
OPTIMAL, AT_LIMIT = 1, 3  # POT's result codes; the others say that there is no plan


def exact(
    cost: Tensor,
    offsets: Tensor,
    proportions: Tensor,
    *,
    iterations: int = 1_000_000,
    check: bool = True,
) -> Transport:
    r"""Solve, for every bag of n instances with proportions z,

    .. math:: \min_{P \ge 0} \langle C, P \rangle \quad \text{s.t.} \quad P 1_K = 1_n, \; P^\top 1_n = n z.

    The plan is a vertex: one-hot rows when the n z are whole numbers, at most K - 1 rows split otherwise.
    Runs on the CPU in float64, one bag after the other, whatever the device of `cost`.

    Parameters
    ----------
    cost : (M, K) tensor, float32 or float64
    offsets : (B + 1,) int64 tensor
    proportions : (B, K) tensor; scaled to sum to exactly 1, and taken as counts / n when all of a bag's are within
        1e-6 of that
    iterations : int
        Limit of the network simplex, per bag.
    check : bool
        Validate the problem.

    Returns
    -------
    Transport
        Plan and potentials are constants; the gradient of the value with respect to the cost is the plan
        (envelope theorem; a subgradient where several plans are optimal). The potentials are the duals of
        the program and not unique.

    Raises
    ------
    ValueError
        Naming the bag, if the problem is not one (see `check_problem`).
    RuntimeError
        Naming the bag, if the solver finds no plan.
    """
    if check:
        check_problem(cost, offsets, proportions)
    layout = lay_out(offsets, cost.device)
    costs = cost.detach().double().cpu().numpy()
    masses = whole_masses(proportions.detach().double().cpu().numpy(), layout.sizes.cpu().numpy())
    solved = []
    for bag, (start, stop) in enumerate(pairwise(offsets.tolist())):
        try:
            solved.append(solve_bag(costs[start:stop], masses[bag], iterations))
        except RuntimeError as error:
            raise RuntimeError(f"bag {bag}: {error}") from None
    plans, instance, classes, certified = zip(*solved, strict=True)

    plan = cost.new_tensor(np.concatenate(plans))
    rows = layout.pad((plan.sum(1) - 1).abs()).amax(1)
    columns = (layout.pad(plan).sum(1) - cost.new_tensor(masses)).abs().amax(1) / layout.sizes
    return Transport(
        plan=plan,
        value=layout.bag_sum((plan * cost).sum(1)),
        instance_potential=cost.new_tensor(np.concatenate(instance)),
        class_potential=cost.new_tensor(np.stack(classes)),
        violation=rows.maximum(columns),
        converged=torch.tensor(certified, device=cost.device),
        iterations=0,
    )


def whole_masses(proportions: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Class masses (B, K) that sum to the sizes (B,); whole numbers where a bag's are nearly so."""
    masses = sizes[:, None] * proportions / proportions.sum(1, keepdims=True)
    counts = masses.round()
    near = (np.abs(masses - counts) <= INTEGRAL * sizes[:, None]).all(1) & (counts.sum(1) == sizes)
    return np.where(near[:, None], counts, masses)


def solve_bag(
    cost: np.ndarray, masses: np.ndarray, iterations: int = 1_000_000
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Solve one bag in float64.

    Parameters
    ----------
    cost : (n, K) array
    masses : (K,) array that sums to n

    Returns
    -------
    plan (n, K), duals u (n,) and v (K,), and whether they prove each other optimal

    Raises
    ------
    RuntimeError
        When the solver finds no plan.
    """
    # POT has returned 0 as infeasible on small problems with negative costs.
    floor = cost.min()
    try:
        import ot  # takes a second; most users of this package never solve exactly
    except ModuleNotFoundError:
        plan, u, v, optimal = _by_highs(cost - floor, masses, iterations)
    else:
        plan, log = ot.emd(np.ones(len(cost)), masses, cost - floor, numItermax=iterations, log=True)
        if log["result_code"] not in (OPTIMAL, AT_LIMIT):
            raise RuntimeError(f"no transport plan found, POT says {log['warning']!r}")
        u, v, optimal = log["u"], log["v"], log["result_code"] == OPTIMAL
    u = u + floor
    primal, dual = (plan * cost).sum(), u.sum() + masses @ v
    slack = (cost - u[:, None] - v)[:, masses > 0].min()
    scale = CERTIFIED * (1 + np.abs(cost).max())
    certified = slack >= -scale and abs(primal - dual) <= scale * len(cost)
    return plan, u, v, bool(optimal and certified)


def _by_highs(cost: np.ndarray, masses: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """The same program by the dual simplex method, whose solution is a vertex too."""
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, kron, vstack

    n, n_classes = cost.shape
    rows = kron(eye_array(n), np.ones((1, n_classes)))
    columns = kron(np.ones((1, n)), eye_array(n_classes))
    found = linprog(
        cost.ravel(),
        A_eq=vstack([rows, columns]).tocsr(),
        b_eq=np.concatenate([np.ones(n), masses]),
        method="highs-ds",
        options={"maxiter": iterations},
    )
    if found.x is None:
        raise RuntimeError(f"no transport plan found, HiGHS says {found.message!r}")
    duals = found.eqlin.marginals
    return found.x.reshape(n, n_classes), duals[:n], duals[n:], found.status == 0
