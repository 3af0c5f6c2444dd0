"""Learn from proportions as three papers of the field do: EasyLLP, LLPFC and MixBag.

They are written from the papers' equations, without their code; what may differ from it is said in each docstring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from papers.vp_dsd.loss import vertex_costs
from shared.bags import BagError, Bags, check_bags, permutation, segment_mean
from shared.bags.check import check_offsets, check_table
from shared.methods import Batch, LossMethod, kl_loss
from shared.training import axis_seed

NOISE = ("approx", "uniform")  # how LLPFC weighs the bags of a group
FLOOR = 1e-3  # of a bag's weight in its group, in parts of the uniform one


def class_prior(bags: Bags) -> np.ndarray:
    """Return the (K,) shares of the classes among all instances of the bags."""
    return bags.sizes @ bags.proportions / bags.sizes.sum()


# EasyLLP (Busa-Fekete, Choi, Dick, Gentile & Munoz Medina, NeurIPS 2023)


def easy_llp_loss(
    log_p: Tensor,
    offsets: Tensor,
    proportions: Tensor,
    *,
    prior: Tensor | None = None,
    cost: str = "ce",
    check: bool = True,
) -> Tensor:
    """Return an estimate of the supervised loss of the instances without bias, mean over bags of::

        1/n sum_i sum_k (n z_k - (n - 1) prior_k) C_ik.

    If instances are drawn independently, n z_k is one label's indicator and n - 1 independent ones of mean prior_k: the
    weight's expectation given x_i is P(k | x_i). The paper states it for two classes and any cost; for K it is the same
    sentence for each class. Weights may be negative, and with "ce" the estimate then falls without bound; with "l2" it
    is the squared distance of predictions to the weights, up to a constant, and does not.

    May differ from the authors' code: the prior there, and how the loss is kept from falling, are not known to us.

    Parameters
    ----------
    log_p : (M, K) log-probabilities, finite, bag after bag.
    offsets : (B + 1,) int64 on the host.
    proportions : (B, K).
    prior : (K,) shares of the classes; those among the instances of these bags unless told, which are then estimated
        from the bags that they correct: that makes the estimate biased by the order of 1 / B.
    cost : "ce" or "l2", see `papers.vp_dsd.loss.vertex_costs`.
    check : whether to look at values, too; see `shared.bags.check_bags`.

    Returns
    -------
    Scalar, in nats ("ce") or squared distance ("l2"); of any sign.
    """
    check_bags(log_p, offsets, proportions, values=check, finite=True)
    sizes = offsets.diff().to(log_p, non_blocking=True)[:, None]
    if prior is None:
        prior = (sizes * proportions).sum(0) / sizes.sum()
    weights = sizes * proportions - (sizes - 1) * prior
    return (weights * segment_mean(vertex_costs(log_p, cost), offsets)).sum(1).mean()


# LLPFC (Zhang, Wang & Scott, NeurIPS 2022)


def transition(proportions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return P(bag j | class k) of an instance of a group of bags, (..., K, J), by Bayes' formula::

        T_kj = w_j z_jk / sum_j' w_j' z_j'k.

    Parameters
    ----------
    proportions : (..., J, K) of the J bags of each group.
    weights : (..., J), P(bag j), the prior of the noisy label "it is in bag j"; they sum to 1.

    Returns
    -------
    Rows sum to 1; the row of a class that the group has not is 0, since no instance of the group is of it.
    """
    joint = weights[..., None] * proportions
    prior = joint.sum(-2, keepdims=True)
    return np.swapaxes(joint / np.where(prior > 0, prior, 1), -1, -2)


def noisy_prior(proportions: np.ndarray, prior: np.ndarray, kind: str = "approx") -> np.ndarray:
    """Return the weights (J,) of the bags of a group, positive, with sum 1.

    "uniform" gives all the same. "approx" makes the classes of the group as frequent as everywhere, in the least
    squares of ``sum_j w_j z_jk - prior_k``, so that all groups have the posterior of one distribution; then each weight
    goes a thousandth of the way to the uniform one, so that no bag is left out (ours).

    Parameters
    ----------
    proportions : (J, K) of the bags.
    prior : (K,) shares of the classes among all instances.
    """
    if kind not in NOISE:
        raise ValueError(f"noisy prior of LLPFC must be one of {', '.join(NOISE)}, not {kind!r}")
    even = np.full(len(proportions), 1 / len(proportions))
    if kind == "uniform":
        return even
    # The last equation, sum_j w_j = 1, weighs so much that it holds to rounding after the division.
    found = nnls(np.vstack([proportions.T, np.full(len(even), 1e3)]), np.append(prior, 1e3))[0]
    return (1 - FLOOR) * found / found.sum() + FLOOR * even


def noisy_labels(bags: Bags, seed: int, kind: str = "approx") -> np.ndarray:
    """Deal the bags out at random into groups of K, and return what `forward_loss` reads of each bag, (B, K + 1).

    These are its column of the group's transition matrix, and K times its weight in the group. Where K does not divide
    B, the last group is filled up with bags that have their own group already.
    """
    n_bags, k = bags.proportions.shape
    prior, order = class_prior(bags), permutation(n_bags, seed)
    members = np.resize(order, (-(-n_bags // k), k))
    proportions = bags.proportions[members]
    weights = np.stack([noisy_prior(group, prior, kind) for group in proportions])
    columns = np.swapaxes(transition(proportions, weights), -1, -2).reshape(-1, k)
    rows = np.concatenate([columns, k * weights.reshape(-1, 1)], 1)[:n_bags]
    return rows[np.argsort(order)]


def forward_loss(log_p: Tensor, offsets: Tensor, noise: Tensor) -> Tensor:
    """Return the forward-corrected cross-entropy, mean over groups of::

        - sum_j w_j  mean_{i in bag j}  log sum_k T_kj p_ik.

    Its minimiser in a group, over all functions, is the posterior of the classes where these have the group's
    proportions ``sum_j w_j z_jk``, if T is invertible.

    Parameters
    ----------
    log_p : (M, K) log-probabilities, finite, bag after bag; the bags may be any of any groups.
    offsets : (B + 1,) int64 on the host.
    noise : (B, K + 1), rows of `noisy_labels`.

    Notes
    -----
    May differ from the authors' code: minibatches there are of instances, here of whole bags; all groups weigh the
    same, where the paper also has weights from its bound ("ideal").
    """
    check_table(log_p, "log_p")
    check_offsets(offsets, len(log_p))
    if noise.shape != (len(offsets) - 1, log_p.shape[1] + 1):
        raise BagError(f"noise must be {(len(offsets) - 1, log_p.shape[1] + 1)}, got {tuple(noise.shape)}")
    of_row = torch.arange(len(noise)).repeat_interleave(offsets.diff()).to(log_p.device, non_blocking=True)
    of_bag = (log_p + noise[:, :-1].to(log_p).log()[of_row]).logsumexp(1, keepdim=True)
    return -(noise[:, -1:] * segment_mean(of_bag, offsets)).mean()


def regrouping(bags: Bags, seed: int, kind: str = "approx", every: int = 20) -> Callable:
    """Return what `fit(..., renew=)` calls before each epoch: new groups of the bags every so many epochs."""

    def renew(method: LossMethod, curves: dict) -> tuple[Tensor, dict]:
        drawn = axis_seed(seed, "groups", len(curves["epoch"]) // every)
        return torch.from_numpy(noisy_labels(bags, drawn, kind)).float(), {}

    return renew


# MixBag (Asanomi, Matsuo, Suehiro & Bise, ICCV 2023)


def interval_loss(
    log_p: Tensor, offsets: Tensor, proportions: Tensor, *, margin: Tensor | float = 0.0, check: bool = True
) -> Tensor:
    """Return `kl_loss` where the mean prediction of any class lies outside its interval, 0 where all lie inside.

    A bag counts as a whole. May differ from the authors' code, which we take to leave out single classes: with more
    than two, what is left of the cross-entropy would then push a class that is predicted too often further up.

    Parameters
    ----------
    log_p, offsets, proportions, check : as of `kl_loss`.
    margin : (B, K), or a number: half the width of the interval around each proportion.
    """
    check_bags(log_p, offsets, proportions, values=check)
    mean = segment_mean(log_p.detach().exp(), offsets)
    outside = ((mean - proportions).abs() > margin).any(1, keepdim=True)
    return kl_loss(log_p, offsets, proportions * outside, check=False)  # which no bag within its intervals enters


def half_width(proportions: Tensor, drawn: Tensor, confidence: float = 0.99) -> Tensor:
    """Return ``q sqrt(z (1 - z) / n)``, (B, K): of the interval around the share of a class among n drawn from a bag.

    q is the normal quantile of a two-sided `confidence`, in (0, 1). As in the paper n drawn of N without replacement
    count as n independent ones, which makes the interval too wide.

    Parameters
    ----------
    proportions : (B, K) of the bags.
    drawn : (B,) number of instances drawn from each.
    """
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    return quantile * (proportions * (1 - proportions) / drawn[:, None].to(proportions)).clamp_min(0).sqrt()


def _draw(offsets: Tensor, numbers: Tensor) -> Tensor:
    """So many rows of each bag, without replacement, bag after bag."""
    sizes = offsets.diff()
    bag = torch.arange(len(sizes)).repeat_interleave(sizes)
    rows = torch.randperm(len(bag))
    rows = rows[bag[rows].argsort(stable=True)]
    place = torch.arange(len(bag)) - offsets[:-1].repeat_interleave(sizes)
    return rows[place < numbers.repeat_interleave(sizes)]


def mixed(offsets: Tensor, proportions: Tensor, confidence: float = 0.99) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mix every bag with another: a part g of its instances, a part 1 - g of the other's, g uniform on (0, 1).

    The parts are rounded to whole instances, one at least, and the proportions of the mixture are those of both bags in
    the numbers drawn: for bags of one size g and 1 - g but for that rounding. The half width of its interval is that of
    both in the same weights. The draws are from torch's global generator of the host.

    Parameters
    ----------
    offsets : (B + 1,) int64 on the host.
    proportions : (B, K).

    Returns
    -------
    rows : (M',) int64 on the host, rows of the instances, mixture after mixture.
    offsets : (B + 1,) of the mixtures, on the host.
    proportions, margin : (B, K) of the mixtures, like `proportions`.
    """
    sizes, n_bags = offsets.diff(), len(offsets) - 1
    partner = (torch.arange(n_bags) + int(torch.randint(1, max(2, n_bags), ()))) % n_bags
    part = torch.rand(n_bags, dtype=torch.float64)
    own = (part * sizes).round().long().clamp_min(1)
    others = ((1 - part) * sizes[partner]).round().long().clamp_min(1)
    owner = partner.argsort()  # whose partner a bag is
    mixture = torch.cat([torch.arange(n_bags).repeat_interleave(own), owner.repeat_interleave(others[owner])])
    rows = torch.cat([_draw(offsets, own), _draw(offsets, others[owner])])[mixture.argsort(stable=True)]

    def sent(tensor: Tensor) -> Tensor:
        return tensor.to(proportions.device, non_blocking=True)

    share = sent(own / (own + others))[:, None].to(proportions)
    partner, own, others = sent(partner), sent(own), sent(others)
    margin = share * half_width(proportions, own, confidence)
    margin = margin + (1 - share) * half_width(proportions[partner], others, confidence)
    mixtures = share * proportions + (1 - share) * proportions[partner]
    cuts = torch.cat([torch.zeros(1, dtype=torch.int64), mixture.bincount(minlength=n_bags).cumsum(0)])
    return rows, cuts, mixtures, margin


class MixBag(LossMethod):
    """Learn by a loss over the bags and `interval_loss` over as many mixtures of two bags.

    The mixtures are of the predictions for the batch, which are made once: without dropout and batch normalisation they
    are those of another pass. May differ from the authors' code: whether a batch there holds bags beside the mixtures,
    how these weigh, and which confidence it takes.

    Parameters
    ----------
    weight : of the mixtures; 0 leaves them out.
    confidence : of their intervals, in (0, 1). The others are those of `LossMethod`.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        loss: Callable[[Tensor, Tensor, Tensor], Tensor] = kl_loss,
        weight: float = 1.0,
        confidence: float = 0.99,
        autocast: bool = False,
    ):
        if not (0 <= weight < math.inf and 0 < confidence < 1):
            raise ValueError(
                f"MixBag needs a weight of 0 or more and a confidence in (0, 1), got {weight}, {confidence}"
            )
        super().__init__(network, optimiser, loss, autocast)
        self.weight, self.confidence = weight, confidence

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step; `interval_loss` is before its weight."""
        self.network.train()
        log_p = self._log_p(batch.x)
        proportion = self.loss(log_p, batch.offsets, batch.proportions)
        rows, offsets, proportions, margin = mixed(batch.offsets, batch.proportions, self.confidence)
        of_mixtures = log_p[rows.to(log_p.device, non_blocking=True)]
        interval = interval_loss(of_mixtures, offsets, proportions, margin=margin, check=False)
        loss = proportion + self.weight * interval
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        scalars = {"loss": loss, "proportion_loss": proportion, "interval_loss": interval}
        return {name: value.detach() for name, value in scalars.items()}
