"""Make the kinds of bags that a task is learned from: how large, how much they follow labels or inputs, how noisy."""

from __future__ import annotations

import numpy as np
import torch

from papers.benchmark.tasks import Instances
from shared.bags import BagError, Bags, fixed_size, natural, noisy, permutation, split
from shared.config import Spec
from shared.training import axis_seed

HEAVY = 1.2  # index of the tail of sizes: their variance is infinite but for the cut


def bags_of(spec: Spec, data: Instances, seed: int, held_fraction: float) -> tuple[Bags, Bags]:
    """Return (training bags, held-out bags) over all instances, drawn from the spec's kind of bags and a seed alone.

    Parameters
    ----------
    spec : or its stage "selection".
    held_fraction : part of the bags that is held out.
    """
    labels = data.labels[data.train]
    bags = KINDS[spec.bags](spec, data, labels, axis_seed(seed, "bags"))
    bags = Bags(data.train[bags.indices], bags.offsets, bags.proportions)
    if spec.noise:
        bags = noisy(bags, spec.noise, axis_seed(seed, "noise of proportions"))
    return split(bags, held_fraction, axis_seed(seed, "validation"))


def heavy_tailed(labels: np.ndarray, n_classes: int, mean: int, seed: int) -> Bags:
    """Draw bags of Pareto sizes with about this mean, between 1 and a quarter of the instances, without replacement."""
    uniform = np.random.Generator(np.random.PCG64(seed)).random(len(labels))
    least = mean * (HEAVY - 1) / HEAVY
    sizes = np.clip(np.rint(least * uniform ** (-1 / HEAVY)), 1, max(1, len(labels) // 4)).astype(np.int64)
    sizes = sizes[: np.searchsorted(np.cumsum(sizes), len(labels), side="right")]
    groups = np.repeat(np.arange(len(sizes)), sizes)
    order = permutation(len(labels), seed)[: len(groups)]
    return _over(order, natural(groups, labels[order], n_classes))


def dirichlet(labels: np.ndarray, n_classes: int, size: int, concentration: float, seed: int) -> Bags:
    """Draw as many bags as at random, with proportions from a Dirichlet distribution around the classes' shares.

    A bag's classes are drawn multinomially from its proportions, its instances from their classes with replacement; the
    proportions it has are those of its instances. The smaller the concentration, the purer the bags; the larger, the
    more they are as random ones.
    """
    if not concentration > 0:
        raise BagError(f"concentration must be above 0, got {concentration}")
    rng = np.random.Generator(np.random.PCG64(seed))
    pools = [np.flatnonzero(labels == k) for k in range(n_classes)]
    present = np.array([len(pool) > 0 for pool in pools])
    share = np.array([len(pool) for pool in pools])[present] / len(labels)
    n_bags = len(labels) // size
    proportions = np.zeros((n_bags, n_classes))
    proportions[:, present] = rng.dirichlet(concentration * share * present.sum(), n_bags)
    counts = [rng.multinomial(size, row / row.sum()) for row in proportions]
    order = np.concatenate([rng.choice(pool, m) for row in counts for pool, m in zip(pools, row, strict=True) if m])
    return _over(order, natural(np.repeat(np.arange(n_bags), size), labels[order], n_classes))


def neighbours(x: torch.Tensor, labels: np.ndarray, n_classes: int, size: int, seed: int) -> Bags:
    """Cut instances into bags of `size` along a random direction of their inputs (N, D): bags follow the inputs."""
    direction = np.random.Generator(np.random.PCG64(seed)).standard_normal(x.shape[1])
    along = np.einsum("nd,d->n", x.double().cpu().numpy(), direction)
    order = np.argsort(along, kind="stable")[: len(labels) // size * size]
    return _over(order, natural(np.repeat(np.arange(len(order) // size), size), labels[order], n_classes))


def _over(order: np.ndarray, bags: Bags) -> Bags:
    return Bags(order[bags.indices], bags.offsets, bags.proportions)


def _of_inputs(spec: Spec, data: Instances, labels: np.ndarray, seed: int) -> Bags:
    x = data.inputs.batch(data.train).flatten(1)
    return neighbours(x, labels, data.n_classes, spec.bag_size, seed)


def _natural(spec: Spec, data: Instances, labels: np.ndarray, seed: int) -> Bags:
    if data.groups is None:
        raise BagError(f"the task {spec.dataset} has no natural bags")
    return natural(data.groups[data.train], labels, data.n_classes)


KINDS = {
    "random": lambda spec, data, labels, seed: fixed_size(labels, data.n_classes, spec.bag_size, seed),
    "heavy": lambda spec, data, labels, seed: heavy_tailed(labels, data.n_classes, spec.bag_size, seed),
    "dirichlet": lambda spec, data, labels, seed: dirichlet(
        labels, data.n_classes, spec.bag_size, spec.concentration, seed
    ),
    "neighbours": _of_inputs,
    "natural": _natural,
}
