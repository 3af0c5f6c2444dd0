"""Check Equations 2, 7 and 10 in float64 against enumeration, autograd and exact EM; no training of a network."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from papers.mle_llp.enumeration import enumerated_posterior
from papers.mle_llp.loss import count_loss, posterior


def check(seed: int, largest: int = 12, bags: int = 40) -> dict[str, float]:
    """Return the largest deviations over random bags.

    Returns
    -------
    posterior_error, likelihood_error : from the sum over all label vectors, for every n up to `largest` and every y.
    gradient_error : of the posterior from autograd of the log-likelihood written as a plain programme.
    likelihood_fall : how far the observed log-likelihood ever falls over exact EM steps (0 if it never does).
    float32_error : of the posterior in float32 at n = 1024.
    """
    rng = np.random.default_rng(seed)
    worst = {"posterior_error": 0.0, "likelihood_error": 0.0}
    for n in range(1, largest + 1):
        odds = 2 * torch.from_numpy(rng.normal(size=n))
        log_p = torch.stack([F.logsigmoid(-odds), F.logsigmoid(odds)], 1)
        for y in range(n + 1):
            phi, likelihood = posterior(log_p, torch.tensor([0, n]), torch.tensor([[n - y, y]]))
            expected, log_of_sum = enumerated_posterior(odds.sigmoid().numpy(), y)
            worst["posterior_error"] = max(worst["posterior_error"], float(np.abs(phi[:, 1].numpy() - expected).max()))
            worst["likelihood_error"] = max(worst["likelihood_error"], abs(float(likelihood) - log_of_sum))
    return worst | {
        "gradient_error": _gradient_error(rng, bags),
        "likelihood_fall": _likelihood_fall(rng, bags),
        "float32_error": _float32_error(rng),
    }


def _bags(rng, bags: int, sizes: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(odds of some model, offsets, counts of labels drawn from it)."""
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]))
    odds = torch.from_numpy(2 * rng.normal(size=int(sizes.sum())))
    labels = rng.random(len(odds)) < odds.sigmoid().numpy()
    positives = torch.from_numpy(np.add.reduceat(labels, offsets[:-1].numpy(), dtype=np.int64))
    return odds, offsets, torch.stack([torch.from_numpy(sizes) - positives, positives], 1)


def _gradient_error(rng, bags: int) -> float:
    odds, offsets, counts = _bags(rng, bags, rng.integers(2, 30, bags))
    odds.requires_grad_()
    total = odds.new_zeros(())
    for b in range(bags):
        p = odds[offsets[b] : offsets[b + 1]].sigmoid()
        row = torch.ones(1, dtype=torch.float64)
        for chance in p:
            row = F.pad(row, (0, 1)) * (1 - chance) + F.pad(row, (1, 0)) * chance
        total = total + row[counts[b, 1]].log()
    (of_programme,) = torch.autograd.grad(total, odds)
    # d log P / d odds_i = phi_i - p_i.
    log_p = torch.stack([F.logsigmoid(-odds), F.logsigmoid(odds)], 1)
    phi, _ = posterior(log_p, offsets, counts)
    (of_loss,) = torch.autograd.grad(-bags * count_loss(log_p, offsets, counts / counts.sum(1, keepdim=True)), odds)
    errors = (phi[:, 1] - odds.sigmoid() - of_programme, of_loss - of_programme)
    return max(float(error.detach().abs().max()) for error in errors)


def _likelihood_fall(rng, bags: int, steps: int = 15) -> float:
    """Exact EM on a logistic model: E-step, then the M-step to its optimum by Newton's method."""
    _, offsets, _ = _bags(rng, bags, rng.integers(2, 12, bags))
    x = torch.from_numpy(rng.normal(size=(int(offsets[-1]), 4)))
    labels = rng.random(len(x)) < (x @ torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)).sigmoid().numpy()
    positives = torch.from_numpy(np.add.reduceat(labels, offsets[:-1].numpy(), dtype=np.int64))
    counts = torch.stack([offsets.diff() - positives, positives], 1)
    weights = torch.from_numpy(rng.normal(size=4))
    seen = []
    for _ in range(steps):
        odds = x @ weights
        phi, likelihood = posterior(torch.stack([F.logsigmoid(-odds), F.logsigmoid(odds)], 1), offsets, counts)
        seen.append(float(likelihood.mean()))
        for _ in range(20):
            p = (x @ weights).sigmoid()
            hessian = (x.T * (p * (1 - p))) @ x + 1e-12 * torch.eye(4)
            weights = weights + torch.linalg.solve(hessian, x.T @ (phi[:, 1] - p))
    return max(0.0, -float(np.diff(seen).min()))


def _float32_error(rng, n: int = 1024) -> float:
    odds, offsets, counts = _bags(rng, 8, np.full(8, n))
    log_p = torch.stack([F.logsigmoid(-odds), F.logsigmoid(odds)], 1)
    exact, rounded = (posterior(values, offsets, counts)[0] for values in (log_p, log_p.float()))
    return float((exact - rounded).abs().max())
