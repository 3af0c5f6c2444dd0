"""Run the EM algorithm (Sections 2.2 and 2.3): the E-step as the training loop asks for it before each epoch.

The M-step (Equation 11) is binary cross-entropy to phi, that is `kl_loss` on bags of one instance, in minibatches
that may cut any bag in two.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from papers.mle_llp.loss import counts_of, posterior
from shared.bags import Bags
from shared.methods import Method
from shared.training import Inputs, predictions


def single(bags: Bags, targets: np.ndarray) -> Bags:
    """Return the instances of `bags`, each a bag of its own with its row of `targets`, (M, K)."""
    return Bags(bags.indices, np.arange(len(bags.indices) + 1), targets)


def expectation(inputs: Inputs, bags: Bags, stop_change: float = 0.0) -> Callable:
    """Make the E-step over all `bags`, for `fit(..., renew=)`.

    Parameters
    ----------
    stop_change : end the training when the mean log-likelihood (Equation 6) moves by less between two E-steps; the
        paper's epsilon is 1e-4. 0 never does.

    Returns
    -------
    Function of the method and the curves: (phi (M, K), {"log_likelihood": L}), or None to stop.
    """
    offsets = torch.from_numpy(bags.offsets)
    counts = counts_of(torch.from_numpy(bags.proportions), offsets)

    def renew(method: Method, curves: dict):
        p = predictions(method, inputs, bags.indices)
        # A probability that underflowed is none that is zero.
        phi, log_likelihood = posterior(p.clamp_min(1e-30).log(), offsets, counts)
        mean = float(log_likelihood.double().mean())
        before = curves.get("log_likelihood")
        if before and abs(mean - before[-1]) < stop_change:
            return None
        return phi, {"log_likelihood": mean}

    return renew


def stops_at(log_likelihoods: list[float], change: float) -> int | None:
    """Return the epochs trained when the paper's rule would stop: two E-steps in a row differ by less than `change`."""
    moves = np.abs(np.diff(log_likelihoods))
    small = np.flatnonzero(moves < change)
    return int(small[0]) + 1 if len(small) else None
