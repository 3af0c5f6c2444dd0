"""The proportion loss is the cross-entropy between a bag's proportions and its mean prediction.

It is known as the KL loss (Dulac-Arnold et al. 2019), as DLLP (Ardehaly & Culotta 2017) and as PM.
"""

from __future__ import annotations

from torch import Tensor

from shared.bags import check_bags, segment_logmeanexp


def kl_loss(log_p: Tensor, offsets: Tensor, proportions: Tensor, *, check: bool = True) -> Tensor:
    """Return the mean over bags of ``- sum_k z_k log(mean_i p_ik)``.

    Source: Dulac-Arnold et al. 2019, Section 3.1, the loss l^KL, averaged as in Equation 1.

    Parameters
    ----------
    log_p : (M, K) log-probabilities, bag after bag.
    offsets : (B + 1,) int64 on the host.
    proportions : (B, K).
    check : whether to look at values, too; see `shared.bags.check_bags`, which refuses what is no problem.

    Returns
    -------
    Scalar, in nats. The mean over a bag is taken in the log domain: no prediction underflows.

    Raises
    ------
    TypeError, BagError
        Naming the bag and the value, where this is no problem over bags.
    """
    check_bags(log_p, offsets, proportions, values=check)
    return -(proportions * segment_logmeanexp(log_p, offsets)).sum(1).mean()
