"""Take the E-step the obvious way (Equation 10), one bag at a time: the oracle, and what public code does."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np


def enumerated_posterior(p: np.ndarray, y: int) -> tuple[np.ndarray, float]:
    """Sum over the C(n, y) label vectors of one bag, in plain numbers: both results underflow for long bags.

    Parameters
    ----------
    p : (n,) float64 probabilities of positive.
    y : the bag's count.

    Returns
    -------
    phi : (n,) P(h_i = 1 | X, y).
    log_likelihood : log P(y | X).
    """
    labels = np.zeros((comb(len(p), y), len(p)))
    for row, chosen in enumerate(combinations(range(len(p)), y)):
        labels[row, list(chosen)] = 1
    weights = np.prod(np.where(labels == 1, p, 1 - p), axis=1)
    total = weights.sum()
    return labels.T @ weights / total, float(np.log(total))


def one_bag_posterior(p: np.ndarray, y: int) -> np.ndarray:
    """Return phi of one bag by the textbook programme, in plain Python: O(n y) operations, one at a time."""
    n = len(p)
    before = [[0.0] * (y + 1) for _ in range(n + 1)]
    before[0][0] = 1.0
    for i in range(n):
        for s in range(y + 1):
            before[i + 1][s] = before[i][s] * (1 - p[i]) + (before[i][s - 1] * p[i] if s else 0.0)
    after = [0.0] * y + [1.0]
    phi = np.zeros(n)
    for i in reversed(range(n)):
        phi[i] = p[i] * sum(before[i][s] * after[s + 1] for s in range(y)) / before[n][y]
        after = [(1 - p[i]) * after[s] + (p[i] * after[s + 1] if s < y else 0.0) for s in range(y + 1)]
    return phi
