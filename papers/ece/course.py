"""Lay out a training as epochs of the loop, and follow what it is judged by over the last half of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from papers.ece.data import Material, updates
from shared.config import Spec

EPOCHS = 12  # about; an epoch of the loop goes over the images as often as it takes
SHARE = 0.05  # of the pixels that training reads back and forth, what the measures along the way may read
LEAST = 2  # images of a split that they see nonetheless


def laid_out(spec: Spec, n_images: int) -> tuple[np.ndarray, int, int]:
    """Return (images of an epoch (m,) int64, epochs, updates of an epoch).

    The number of updates is that of the spec to within half an epoch.
    """
    steps = updates(spec, n_images)
    order = np.tile(np.arange(n_images), max(1, steps * spec.batch // (EPOCHS * n_images)))
    per_epoch = math.ceil(len(order) / spec.batch)
    return order, max(1, round(steps / per_epoch)), per_epoch


def watched(spec: Spec, material: Material, split: int) -> np.ndarray:
    """Return the (k,) int64 numbers of the images of a split that are judged along the way: all if they cost little.

    A step reads a pixel three times, forward and back, an evaluation once.
    """
    numbers = material.numbers(split)
    trained = 3 * updates(spec, len(material.numbers(0))) * spec.batch * spec.crop**2
    size = np.mean([np.prod(material.data.images[i].shape[:2]) for i in numbers])
    count = int(SHARE * trained / (EPOCHS * size))  # of each of two splits, in half of the epochs
    count = min(len(numbers), max(LEAST, count))
    return numbers[np.arange(count) * len(numbers) // count]


def following(epochs: int, per_epoch: int, scores: Callable[[object], dict]) -> Callable[[object], dict]:
    """Return `evaluate` for `fit`: {"test_<name>": value} of `scores` in the last two quarters of the epochs."""
    first = epochs - 2 * max(1, round(epochs / 4))  # quarters as in shared.training.convergence
    return lambda method: (
        {f"test_{name}": value for name, value in scores(method).items()} if method.step > first * per_epoch else {}
    )


def padded(curves: dict[str, list]) -> dict[str, list]:
    """Return the curves with None for the epochs in which nothing was evaluated."""
    return {name: [None] * (len(curves["epoch"]) - len(values)) + values for name, values in curves.items()}
