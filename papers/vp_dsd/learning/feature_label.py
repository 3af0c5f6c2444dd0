"""Learn by feature-label matching, FLM (Yang, Zhang & Lam, ACML 2021), on fixed embeddings.

The paper says that labels are assigned to instances of the bag of which the classifier is confident. The authors'
public code, which is incomplete, teaches these instances *every* frequent class of the bag. The first sharpens the
predictions, the second blurs them; both are kept, see `LABELS`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from papers.vp_dsd.loss import entropy
from shared.bags import check_bags, segment_mean
from shared.bags.check import check_amounts
from shared.methods import kl_loss

LABELS = ("predicted", "every")


def match(log_p: Tensor, offsets: Tensor, proportions: Tensor, *, share: float, labels: str) -> Tensor:
    """Say which instance is taught which class: (M, K) weights that sum to 1 over those a bag teaches a class.

    An instance takes part if at least `share` of its bag is predicted to be of its class. "predicted": it is taught
    this class, if the bag's proportion of it exceeds `share`. "every": all such instances of the bag are taught every
    class whose proportion exceeds `share`. Arguments as in `flm_loss`.
    """
    if labels not in LABELS:
        raise ValueError(f"labels of FLM must be one of {', '.join(LABELS)}, not {labels!r}")
    if not 0 <= share <= 1:
        raise ValueError(f"share is a part of a bag, from 0 to 1, got {share}")
    sizes = offsets.diff()
    bag = torch.arange(len(sizes)).repeat_interleave(sizes).to(log_p.device, non_blocking=True)
    predicted = one_hot(log_p.argmax(1), log_p.shape[1]).to(log_p)
    frequent = segment_mean(predicted, offsets) >= share
    taking_part = predicted * frequent[bag]
    if labels == "every":
        taking_part = taking_part.sum(1, keepdim=True).expand_as(log_p)
    taught = taking_part * (proportions > share)[bag]
    number = segment_mean(taught, offsets) * sizes.to(log_p, non_blocking=True)[:, None]
    return taught / number.clamp_min(1)[bag]


def flm_loss(
    log_p: Tensor,
    offsets: Tensor,
    proportions: Tensor,
    *,
    entropy_weight: float = 0.01,
    match_weight: float = 5e-4,
    share: float = 0.03,
    labels: str = "predicted",
    level: Callable[..., Tensor] = kl_loss,
    check: bool = True,
) -> Tensor:
    """Return ``(KL + entropy_weight H) / K + match_weight sum NLL``, the sum over bags and classes taught in them.

    NLL is the mean of ``- log p_ik`` over the instances that a bag teaches class k, H the mean entropy of predictions.
    Weights, thresholds and the mean over classes are those of the authors' code.

    That code takes the terms one after another, a step of SGD at rate 1 for each bag and class. Under Adam, which all
    rivals share here, the size of a step does not depend on its weight, so the terms are summed into one step. Its
    encoder, too, is trained without labels (SimCLR; ours by reconstruction) and then fixed.

    Parameters
    ----------
    log_p : (M, K) log-probabilities, finite, bag after bag.
    offsets : (B + 1,) int64 on the host.
    proportions : (B, K).
    labels : one of `LABELS`, see `match`.
    level : another loss over bags in place of KL, such as the VP loss.
    check : whether to look at values, too; see `shared.bags.check_bags`, which refuses what is no problem.

    Returns
    -------
    Scalar, in nats.
    """
    check_amounts(entropy_weight=entropy_weight, match_weight=match_weight)
    check_bags(log_p, offsets, proportions, values=check, finite=True)
    matching = -(match(log_p.detach(), offsets, proportions, share=share, labels=labels) * log_p).sum()
    over_bags = level(log_p, offsets, proportions, check=False) + entropy_weight * entropy(log_p.exp())
    return over_bags / log_p.shape[1] + match_weight * matching
