"""Take the E-step (Equation 10) for any number of classes, and the likelihood (Equation 6) as a loss."""

from __future__ import annotations

import torch
from torch import Tensor

from papers.mle_llp.lattice import lattice_posterior
from papers.mle_llp.plain import plain
from papers.mle_llp.poisson_binomial import binary_posterior
from shared.bags import BagError, check_bags
from shared.bags.check import check_offsets, check_proportions, check_table, check_tensor


def posterior(log_p: Tensor, offsets: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return P(h_i = k | X, counts) of every instance, and the log-likelihood of every bag's counts.

    Parameters
    ----------
    log_p : (M, K) log-probabilities, bag after bag; -inf is allowed. Every label is independent of the others given
        its input.
    offsets : (B + 1,) int64 on the host.
    counts : (B, K) int64 on the host, summing to the bag's size.

    Returns
    -------
    phi : (M, K), rows on the simplex.
    log_likelihood : (B,) log P(counts | X), in nats.

    Raises
    ------
    TypeError, BagError
        Naming a bag whose counts cannot be, or whose lattice of counts is too large (K > 2); see `check_bags`.
    """
    found = plain(log_p, offsets, counts)
    if found and found[2] is None:
        return found[:2]
    check_table(log_p, "log_p")
    if len(log_p):  # of no bags there are no posteriors
        check_offsets(offsets, len(log_p))
    if not isinstance(counts, Tensor) or counts.dtype != torch.int64 or counts.device.type != "cpu":
        raise TypeError(
            "counts must be an int64 tensor on the host; of proportions, pass counts_of(proportions, offsets)"
        )
    if counts.shape != (len(offsets) - 1, log_p.shape[1]):
        raise BagError(f"counts must be ({len(offsets) - 1}, {log_p.shape[1]}), got {tuple(counts.shape)}")
    wrong = torch.nonzero(counts.sum(1) != offsets.diff()).flatten().tolist()
    if wrong:
        b = wrong[0]
        raise BagError(f"bag {b} has counts {counts[b].tolist()} but {int(offsets.diff()[b])} instances")
    if log_p.shape[1] != 2:
        return lattice_posterior(log_p, offsets, counts)
    with torch.no_grad():
        phi, log_likelihood = binary_posterior(log_p, offsets, counts[:, 1])
        return torch.stack([1 - phi, phi], 1), log_likelihood


def counts_of(proportions: Tensor, offsets: Tensor) -> Tensor:
    """Turn (B, K) proportions into int64 counts on the host; a BagError names a bag whose proportions are none."""
    check_tensor(offsets, "offsets")
    check_tensor(proportions, "proportions")
    check_proportions(proportions, (len(offsets) - 1, proportions.shape[-1]), values=False)
    sizes = offsets.diff()
    exact = proportions.detach().cpu().double() * sizes[:, None]
    counts = exact.round()
    whole = ((exact - counts).abs() <= 1e-3).all(1) & (counts >= 0).all(1) & (counts.sum(1) == sizes)
    wrong = torch.nonzero(~whole).flatten().tolist()
    if wrong:
        b = wrong[0]
        raise BagError(
            f"bag {b} of {int(sizes[b])} instances has {exact[b].tolist()} of each class: no counts; "
            "the exact likelihood needs whole numbers"
        )
    return counts.long()


class _NegativeLogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx, log_p: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
        found = plain(log_p, offsets, proportions, of_proportions=True)
        if found and found[2] is None:
            phi, log_likelihood, _ = found
        else:
            check_bags(log_p, offsets, proportions, values=False)
            phi, log_likelihood = posterior(log_p, offsets, counts_of(proportions, offsets))
        ctx.save_for_backward(phi)
        ctx.bags = len(log_likelihood)
        return -log_likelihood.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        # d log P / d log p_ik = P(h_i = k | X, y): the backward pass of the likelihood is the E-step.
        (phi,) = ctx.saved_tensors
        return phi * (gradient / -ctx.bags), None, None


def count_loss(log_p: Tensor, offsets: Tensor, proportions: Tensor, *, check: bool = True) -> Tensor:
    """Return minus the mean log-likelihood of the bags' counts (Equation 6), in nats.

    Arguments and errors are those of `kl_loss`, and of `counts_of`.

    Its gradient with respect to log p is ``- phi / B``. Float32 proportions determine the counts of bags of up to
    a thousand instances.
    """
    if check:
        check_bags(log_p, offsets, proportions)
    return _NegativeLogLikelihood.apply(log_p, offsets, proportions)
