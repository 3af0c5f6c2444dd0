"""Make bags: fixed and variable sizes, natural groups, noise on proportions, bag-level splits."""

from __future__ import annotations

import numpy as np

from shared.bags.bags import BagError, Bags


def permutation(n: int, seed: int) -> np.ndarray:
    """Return (n,) a permutation that every NumPy draws alike.

    NumPy keeps the raw stream of PCG64 fixed but not the algorithm of `permutation` (NEP 19), so the raw draws
    are sorted instead.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")


def _labelled(indices: np.ndarray, sizes: np.ndarray, labels: np.ndarray, n_classes: int) -> Bags:
    """Bags of consecutive `indices`, with the proportions of their `labels`."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    bag = np.repeat(np.arange(len(sizes)), sizes)
    chosen = labels[indices]
    if len(chosen) and not (0 <= chosen.min() and chosen.max() < n_classes):
        raise BagError(f"labels must lie in 0..{n_classes - 1}, found {chosen.min()}..{chosen.max()}")
    counts = np.bincount(bag * n_classes + chosen, minlength=len(sizes) * n_classes)
    return Bags(indices, offsets, counts.reshape(-1, n_classes) / np.asarray(sizes)[:, None])


def fixed_size(labels: np.ndarray, n_classes: int, size: int, seed: int) -> Bags:
    """Draw bags of `size` instances uniformly without replacement; as many as fit, the remainder dropped.

    Source: Dulac-Arnold et al. 2019, Section 4.1. Bags of different sizes from one seed cut the same permutation.

    Parameters
    ----------
    labels : (N,) int array of class labels in 0..n_classes-1.
    """
    if not 1 <= size <= len(labels):
        raise BagError(f"bag size {size} does not fit {len(labels)} instances")
    n_bags = len(labels) // size
    indices = permutation(len(labels), seed)[: n_bags * size]
    return _labelled(indices, np.full(n_bags, size), np.asarray(labels), n_classes)


def variable_size(
    labels: np.ndarray, n_classes: int, low: int, high: int, seed: int, n_bags: int | None = None
) -> Bags:
    """Draw bags whose sizes are uniform on low..high, without replacement.

    With `n_bags` exactly that many (an error if the instances run out), else as many as fit.
    Source: Barucic & Kybic 2022, Section 3 (sizes 2 to 12).
    """
    if not 1 <= low <= high:
        raise BagError(f"bag sizes need 1 <= low <= high, got {low}..{high}")
    most = n_bags if n_bags is not None else len(labels) // low
    draws = np.random.PCG64(seed + 1).random_raw(most)
    sizes = low + (draws % np.uint64(high - low + 1)).astype(np.int64)
    fits = int(np.searchsorted(np.cumsum(sizes), len(labels), side="right"))
    if n_bags is not None and fits < n_bags:
        raise BagError(f"{n_bags} bags of {low} to {high} need {sizes.sum()} instances, there are {len(labels)}")
    sizes = sizes[:fits]
    if not fits:
        raise BagError(f"no bag of {low} to {high} fits {len(labels)} instances")
    return _labelled(permutation(len(labels), seed)[: sizes.sum()], sizes, np.asarray(labels), n_classes)


def natural(groups: np.ndarray, labels: np.ndarray, n_classes: int) -> Bags:
    """Make one bag for each distinct value of `groups` (a photo, a patient), in sorted order of the values."""
    groups = np.asarray(groups)
    if groups.shape != np.shape(labels):
        raise BagError(f"{groups.shape} groups for {np.shape(labels)} labels")
    _, sizes = np.unique(groups, return_counts=True)
    return _labelled(np.argsort(groups, kind="stable"), sizes, np.asarray(labels), n_classes)


def noisy(bags: Bags, spread: float, seed: int) -> Bags:
    """Return the bags with Gaussian noise of standard deviation `spread` on each proportion, back on the simplex.

    Negative proportions are cut at 0 and rows are divided by their sum; a row cut to nothing keeps its old value.
    """
    if spread < 0:
        raise BagError(f"spread must not be negative, got {spread}")
    noise = np.random.Generator(np.random.PCG64(seed)).normal(0, spread, bags.proportions.shape)
    moved = np.clip(bags.proportions + noise, 0, None)
    total = moved.sum(axis=1, keepdims=True)
    moved = np.where(total > 0, moved / np.where(total > 0, total, 1), bags.proportions)
    return Bags(bags.indices, bags.offsets, moved)


def permuted(bags: Bags, seed: int) -> Bags:
    """Deal the proportions out at random among bags of one size: a control that teaches nothing.

    Among bags of one size counts remain counts.
    """
    order, proportions = permutation(len(bags), seed), bags.proportions.copy()
    for size in np.unique(bags.sizes):
        proportions[bags.sizes == size] = bags.proportions[order[bags.sizes[order] == size]]
    return Bags(bags.indices, bags.offsets, proportions)


def split(bags: Bags, fraction: float, seed: int) -> tuple[Bags, Bags]:
    """Set whole bags apart: (the rest, about `fraction` of the bags and at least one unless it is 0)."""
    if not 0 <= fraction < 1:
        raise BagError(f"fraction must lie in [0, 1), got {fraction}")
    held = max(1, round(fraction * len(bags))) if fraction else 0
    if held >= len(bags):
        raise BagError(f"holding out {held} of {len(bags)} bags leaves none to train on")
    order = permutation(len(bags), seed)
    return bags.take(np.sort(order[held:])), bags.take(np.sort(order[:held]))
