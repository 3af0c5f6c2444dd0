"""Lay out a training as epochs of the loop, and follow what it is judged by over the last half of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import torch

from papers.ece.data import Material, updates
from shared.bags import Bags
from shared.config import Spec
from shared.methods import Method
from shared.training import Inputs, Schedule, fit, seed_torch
from shared.training.convergence import quarter_of

EPOCHS = 12  # about; an epoch of the loop goes over the images as often as it takes
SHARE = 0.05  # of the pixels that training reads back and forth, what the measures along the way may read
LEAST = 2  # images of a split that they see nonetheless


class Counting(Method, Protocol):
    """A method that counts its updates."""

    step: int


M = TypeVar("M", bound=Counting)


class Numbers(Inputs):
    """Stand in `fit` for inputs: a batch is the numbers of its images, which the method has; on the host, which crops.

    Parameters
    ----------
    device : where the method learns.
    """

    def __init__(self, device: torch.device):
        self.device = device

    def batch(self, indices: np.ndarray, seed: int | None = None) -> torch.Tensor:
        """Return the numbers (n, 1)."""
        return torch.from_numpy(np.asarray(indices))[:, None]


def taught(
    spec: Spec,
    material: Material,
    seed: int,
    device: torch.device,
    session: dict,
    make: Callable[[list[np.ndarray], int], M],
    scores: Callable[[M, list[np.ndarray]], dict],
) -> tuple[M, dict] | None:
    """Train, on crops of the training images, the method that `make` returns of (these images, number of updates).

    Parameters
    ----------
    scores : gives {name: value} of (method, numbers of images `watched` of validation and of test).

    Returns
    -------
    (method, what `fit` returns), or None if the deadline came first.
    """
    images = [material.data.images[i] for i in material.numbers(0)]
    crops, epochs, per_epoch = laid_out(spec, len(images))
    seen = [watched(spec, material, split) for split in (1, 2)]
    seed_torch(seed, device)
    method = make(images, epochs * per_epoch)
    follow: Callable[[M], dict] = following(epochs, per_epoch, lambda method: scores(method, seen))
    fitted = fit(
        method,
        Numbers(device),
        Bags(crops, np.arange(len(crops) + 1), np.ones((len(crops), 1))),
        epochs=epochs,
        bags_per_batch=spec.batch,
        schedule=Schedule(spec.lr_schedule, spec.learning_rate),
        seed=seed,
        evaluate=lambda _: follow(method),
        **session,
    )
    return None if fitted is None else (method, fitted | {"curves": padded(fitted["curves"])})


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


def following(epochs: int, per_epoch: int, scores: Callable[[M], dict]) -> Callable[[M], dict]:
    """Return `evaluate` for `fit`: {"test_<name>": value} of `scores` in the last two quarters of the epochs."""
    first = epochs - 2 * quarter_of(epochs)
    return lambda method: (
        {f"test_{name}": value for name, value in scores(method).items()} if method.step > first * per_epoch else {}
    )


def padded(curves: dict[str, list]) -> dict[str, list]:
    """Return the curves with None for the epochs in which nothing was evaluated."""
    return {name: [None] * (len(curves["epoch"]) - len(values)) + values for name, values in curves.items()}
