"""Transport pseudo-labels within each bag (Equations 4, 6 and 7), and average the last few (Section 5.3)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn.functional import pad

from shared.bags import BagError
from shared.bags.check import check_table
from shared.transport import check_problem, largest_remainder, round_to_labels, sinkhorn


@torch.no_grad()
def relabel(
    log_p: Tensor,
    offsets: Tensor,
    proportions: Tensor,
    *,
    kind: str = "hard",
    epsilon: float = 1.0,
    iterations: int = 1000,
) -> Tensor:
    r"""Label all instances such that every bag has its proportions, at the least cost -log p.

    .. math:: \min_{Q \ge 0} \langle Q, -\log p \rangle - \epsilon H(Q)
              \quad \text{s.t.} \quad Q 1_K = 1_n, \; Q^\top 1_n = n z.

    Source: Liu et al. 2021, Section 4.3; their Q is ours divided by n, which changes no solution.

    Parameters
    ----------
    log_p : (M, K) log-probabilities, float32 or float64, bag after bag. -inf (p = 0) costs more than any labelling
        without it, so it is chosen only where the proportions leave nothing else.
    offsets : (B + 1,) int64 on the host.
    proportions : (B, K), summing to 1 within 1e-4.
    kind : "hard" solves Equation 4, epsilon = 0, with whole counts, which are the n z or, where these are not whole,
        their rounding by largest remainder; rows are one-hot. "soft" solves Equation 7.
    epsilon : 1 / lambda of Equation 7, in nats; not given in the paper. Soft labels alone.
    iterations : of Sinkhorn's algorithm, at most. Soft labels alone.

    Returns
    -------
    labels : (M, K), like log_p; rows sum to 1 to rounding, columns of proportion 0 are 0. Ties are broken arbitrarily.

    Raises
    ------
    BagError
        Naming the bag that is empty, whose proportions are not on the simplex or whose predictions are not numbers.
    ValueError
        For an unknown kind, epsilon <= 0 or iterations < 1.

    Warns
    -----
    RuntimeWarning
        Once per call, when some bags' soft labels miss the proportions by more than `sinkhorn` tolerates.
    """
    if kind not in ("hard", "soft"):
        raise ValueError(f"kind of labels must be hard or soft, not {kind!r}")
    check_table(log_p, "log_p")
    try:
        check_problem(log_p.new_zeros(()).expand_as(log_p), offsets, proportions)
    except ValueError as error:
        raise BagError(str(error)) from None
    # exp(-1000) is 0 in either precision.
    if kind == "soft":
        cost = _finite_cost(log_p, offsets, 1000 * epsilon)
        return _soft(cost.to(log_p), offsets, proportions, epsilon, iterations)
    scores = log_p if log_p.sum().isfinite() else -_finite_cost(log_p, offsets, 1.0)
    labels = round_to_labels(scores.cpu(), offsets, largest_remainder(proportions.cpu(), offsets.diff()))
    return torch.zeros_like(log_p).scatter_(1, labels.to(log_p.device)[:, None], 1)


def _finite_cost(log_p: Tensor, offsets: Tensor, margin: float) -> Tensor:
    """Return -log p (M, K) in float64 with finite numbers for probabilities of 0."""
    best = log_p.amax(1)  # NaN where there is one
    wrong = (~best.isfinite()).nonzero().flatten()[:1].tolist()
    if wrong:
        bag = int(torch.searchsorted(offsets, wrong[0], right=True)) - 1
        raise BagError(f"bag {bag}: log-probabilities of instance {wrong[0]} are {log_p[wrong[0]].tolist()}")
    cost = -log_p.double()
    if cost.max() < torch.inf:
        return cost
    impossible = cost.isinf()
    most = cost.masked_fill(impossible, -torch.inf).max()
    # One more of them outweighs all else in a bag. All are alike, as if p = 0 were one number that tends to 0.
    return cost.masked_fill(impossible, float(most + int(offsets.diff().max()) * (most + best.max()) + margin))


def _soft(cost: Tensor, offsets: Tensor, proportions: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Return the entropic plan (M, K). A tenth of the iterations does for most bags; the rest start anew."""
    sizes, plan = offsets.diff(), torch.empty_like(cost)
    left = torch.arange(len(sizes))
    for limit in sorted({max(1, iterations // 10), iterations}):
        bags, chosen = left, torch.zeros(len(sizes), dtype=torch.bool)
        chosen[bags] = True
        rows = chosen.repeat_interleave(sizes).to(cost.device)
        cuts = pad(sizes[bags].cumsum(0), (1, 0))
        shares = proportions[bags.to(proportions.device)]
        transport = sinkhorn(cost[rows], cuts, shares, epsilon, iterations=limit, gradient="none", check=False)
        plan[rows] = transport.plan
        left = bags[~transport.converged.cpu()]
        if not len(left):
            break
    else:
        worst = int(transport.violation.argmax())
        warnings.warn(
            f"soft labels of {len(left)} of {len(sizes)} bags miss the proportions after {iterations} iterations with "
            f"epsilon {epsilon:g}; worst is bag {int(bags[worst])}, by {float(transport.violation[worst]):.1e}",
            RuntimeWarning,
            stacklevel=4,
        )
    return plan / plan.sum(1, keepdim=True)


class LabelHistory:
    """A history keeps the label matrices of the last epochs; with `keep` = 5 their mean is TD_OT_5 of Section 5.3.

    Attributes
    ----------
    kept : (keep, M, K) tensor, on the device of the labels; None before the first.
    count : label matrices seen; the next takes the place ``count % keep``.
    """

    def __init__(self, keep: int = 5):
        if keep < 1:
            raise ValueError(f"a history keeps at least one label matrix, not {keep}")
        self.keep, self.count = keep, 0
        self.kept: Tensor | None = None

    def push(self, labels: Tensor) -> Tensor:
        """Keep labels (M, K) in place of the oldest, and return the mean of those kept, (M, K)."""
        if self.kept is None:
            self.kept = labels.new_zeros(self.keep, *labels.shape)
        if labels.shape != self.kept.shape[1:]:
            raise ValueError(f"labels are {tuple(labels.shape)}, those before were {tuple(self.kept.shape[1:])}")
        self.kept = self.kept.to(labels.device)  # a checkpoint is read on the host
        self.kept[self.count % self.keep] = labels
        self.count += 1
        return self.kept[: self.count].mean(0)

    def state_dict(self) -> dict:
        """Return the label matrices kept and how many were seen."""
        return {"kept": self.kept, "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state; one that kept another number raises a ValueError."""
        if state["kept"] is not None and len(state["kept"]) != self.keep:
            raise ValueError(f"the state keeps {len(state['kept'])} label matrices, not {self.keep}")
        self.kept = None if state["kept"] is None else state["kept"].clone()
        self.count = state["count"]
