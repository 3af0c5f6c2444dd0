"""Check the claim of Section 2.1 in float64, without training: Equation 1, its dual and multipliers against HiGHS."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.sparse import eye_array, kron, vstack
from torch import Tensor

from papers.vp_dsd.loss import COSTS, vertex_costs, vp_loss
from shared.transport import exact

SPLIT = 1e-9  # an instance is split when its largest mass is this far from 1


def check(seed: int, classes: tuple[int, ...] = (2, 3, 10), smallest: int = 5, largest: int = 40) -> dict[str, float]:
    """Return the largest deviations over random ragged bags with proportions that are no counts, for both costs.

    Returns
    -------
    primal_dual_error : between the values of the transport program and of Equation 1, both by HiGHS, per instance.
    value_error : of `vp_loss` from them.
    plan_error : of our plan from the multipliers of Equation 1's constraints.
    assignment_error : how far any class that receives mass is from ``argmax_k phi_k - c_ik``, in units of cost.
    splits_beyond : instances split beyond the K - 1 of a vertex (0 if it is one).
    gradient_error : of `vp_loss` from central differences along random directions.
    """
    rng = np.random.default_rng(seed)
    names = ("primal_dual", "value", "plan", "assignment", "gradient")
    worst = {f"{name}_error": 0.0 for name in names} | {"splits_beyond": 0.0}

    def note(name: str, error) -> None:
        worst[name] = max(worst[name], float(np.abs(error).max()))

    for n_classes in classes:
        offsets = torch.from_numpy(np.cumsum([0, *rng.integers(smallest, largest, 4)]))
        logits = torch.from_numpy(3 * rng.normal(size=(int(offsets[-1]), n_classes)))
        proportions = torch.from_numpy(rng.dirichlet(np.ones(n_classes), len(offsets) - 1))
        for cost in COSTS:
            costs = vertex_costs(logits, cost).numpy()
            plan = exact(torch.from_numpy(costs), offsets, proportions).plan.numpy()
            values = []
            for bag, (start, stop) in enumerate(pairwise(offsets.tolist())):
                primal, dual, phi, multipliers = _programs(costs[start:stop], proportions[bag].numpy())
                values.append(primal)
                note("primal_dual_error", primal - dual)
                own, scores = plan[start:stop], phi - costs[start:stop]
                note("plan_error", own - multipliers)
                note("assignment_error", (scores.max(1, keepdims=True) - scores)[own > SPLIT])
                split = (own.max(1) < 1 - SPLIT).sum()
                note("splits_beyond", max(0, split - (n_classes - 1)))
            note("value_error", float(vp_loss(logits, offsets, proportions, cost)) - np.mean(values))
            note("gradient_error", _gradient_error(logits, offsets, proportions, cost, rng))
    return worst


def _programs(cost: np.ndarray, proportions: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Solve one bag by HiGHS: primal value, dual value (Equation 1), its phi (K,), its multipliers times N (N, K)."""
    n, k = cost.shape
    rows, columns = kron(eye_array(n), np.ones((1, k))), kron(np.ones((1, n)), eye_array(k))
    marginals = np.concatenate([np.full(n, 1 / n), proportions])
    primal = linprog(cost.ravel(), A_eq=vstack([rows, columns]), b_eq=marginals, method="highs")
    # Variables (phi, s), free; phi_k - s_i <= c_ik.
    objective = np.concatenate([-proportions, np.full(n, 1 / n)])
    constraints = np.hstack([np.tile(np.eye(k), (n, 1)), -np.repeat(np.eye(n), k, 0)])
    dual = linprog(objective, A_ub=constraints, b_ub=cost.ravel(), bounds=(None, None), method="highs")
    return primal.fun, -dual.fun, dual.x[:k], -n * dual.ineqlin.marginals.reshape(n, k)


def _gradient_error(
    logits: Tensor, offsets: Tensor, proportions: Tensor, cost: str, rng: np.random.Generator, step: float = 1e-5
) -> list[float]:
    """Return the errors along ten directions.

    The loss is smooth but where two plans tie, which no step of 1e-5 is likely to cross.
    """
    held = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(vp_loss(held, offsets, proportions, cost), held)
    errors = []
    for _ in range(10):
        way = torch.from_numpy(rng.normal(size=logits.shape))
        ahead, behind = (vp_loss(logits + sign * step * way, offsets, proportions, cost) for sign in (1, -1))
        errors.append(float((ahead - behind) / (2 * step) - (gradient * way).sum()))
    return errors
