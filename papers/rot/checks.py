"""Check Propositions 1 and 2 and the tightness of Equation 5 in float64 on random predictions; no training."""

from __future__ import annotations

import torch

from papers.rot.loss import relax_lp_loss, rot_loss, rot_tau
from shared.bags import segment_sum
from shared.methods import kl_loss
from shared.transport import exact, unbalanced_sinkhorn


def check(seed: int, n_bags: int = 20, bag_size: int = 16, n_classes: int = 10) -> dict[str, float]:
    """Return the largest deviations over random predictions and, for Equation 6, every alpha of the paper.

    Returns
    -------
    prop2_value_error, prop2_gradient_error : of the ROT loss at n = 1 from alpha times cross-entropy.
    prop1_residual : of the fixed point ``a = (n z / K b)^tau``, relative, after 2,000 iterations.
    lp_not_one_hot : largest distance of an entry of Equation 5's plan from 0 or 1, counts being integers.
    lp_below_labels : how far the true labels undercut the minimum of Equation 5 (0 if it is a minimum).
    """
    rng = torch.Generator().manual_seed(seed)

    def problem(bags: int, size: int):
        logits = 3 * torch.randn(bags * size, n_classes, generator=rng, dtype=torch.float64)
        labels = torch.randint(n_classes, (bags * size,), generator=rng)
        one_hot = torch.nn.functional.one_hot(labels, n_classes).double()
        offsets = torch.arange(bags + 1) * size
        return logits.log_softmax(1), one_hot, offsets, segment_sum(one_hot, offsets) / size

    worst = {"prop2_value_error": 0.0, "prop2_gradient_error": 0.0, "prop1_residual": 0.0}

    def note(name: str, error: torch.Tensor) -> None:
        worst[name] = max(worst[name], float(error.detach().abs().max()))

    for alpha in (0.1, 0.3, 0.5, 0.7, 0.9):
        log_p, _, offsets, z = problem(n_bags, 1)
        log_p.requires_grad_()
        rot = rot_loss(log_p, offsets, z, alpha=alpha)
        entropy = alpha * kl_loss(log_p, offsets, z)
        note("prop2_value_error", rot - entropy)
        (of_rot,), (of_entropy,) = (torch.autograd.grad(loss, log_p) for loss in (rot, entropy))
        note("prop2_gradient_error", of_rot - of_entropy)

        log_p, _, offsets, z = problem(n_bags, bag_size)
        tau = rot_tau(alpha, 1.0)
        plan = unbalanced_sinkhorn(-log_p, offsets, z, epsilon=1.0, tau=tau, iterations=2000).plan
        # At the optimum U 1 = a (K b), so a = (n z / K b)^tau reads a = (n z / U 1)^(tau / (1 - tau)); and every row
        # of log U - log K - log a is the constant log b.
        counts = segment_sum(plan, offsets)
        log_a = (bag_size * z / counts.clamp_min(1e-300)).log() * tau / (1 - tau)
        log_a = torch.where(z > 0, log_a, 0.0).repeat_interleave(bag_size, 0)
        log_b = plan.clamp_min(1e-300).log() - log_p - log_a
        held = (plan > 1e-12).double()
        mean = (held * log_b).sum(1, keepdim=True) / held.sum(1, keepdim=True)
        note("prop1_residual", held * (log_b - mean))

    log_p, one_hot, offsets, z = problem(n_bags, bag_size)
    plan = exact(-log_p, offsets, z).plan
    worst["lp_not_one_hot"] = float(torch.minimum(plan, 1 - plan).abs().max())
    labels_cost = -(one_hot * log_p).sum() / len(log_p)
    worst["lp_below_labels"] = max(0.0, float(relax_lp_loss(log_p, offsets, z) - labels_cost))
    return worst
