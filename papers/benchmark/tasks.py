"""Register every task once: what is classified, from where, and what stands in for something in it.

Adding a task is adding an entry to `TASKS` and its name to a grid of config.yaml.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from papers.vp_dsd.imaging.crops import crops
from papers.vp_dsd.imaging.simulator import Recipe, simulate
from shared.bags import permutation
from shared.config import Spec
from shared.training import Inputs, axis_seed
from shared.training.data import arrays_of

TEST_SHARE = 4  # of the sets without a split of their own one instance in four is for test, by class
SEED = 0  # of their split, and of simulated cells


@dataclass(frozen=True)
class Instances:
    """Hold what a task classifies.

    Attributes
    ----------
    inputs : (N, D) numbers, standardised over the training instances.
    labels : (N,) int64.
    train, test : numbers of instances.
    n_classes : K.
    groups : (N,) the natural bag of each instance; None where there is none.
    checksums : {name: sha256} of datasets and features.
    """

    inputs: Inputs
    labels: np.ndarray
    train: np.ndarray
    test: np.ndarray
    n_classes: int
    groups: np.ndarray | None = None
    checksums: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """Hold a task: what tables call it, its source, and how its instances are had, of (spec, device).

    All seeds share the instances and their split; they draw bags, initialisation and order.
    """

    title: str
    source: str
    instances: Callable[[Spec, torch.device], Instances]


def standardised(x: np.ndarray, train: np.ndarray) -> torch.Tensor:
    """Return (N, D) float32 inputs of mean 0 and deviation 1 over the training instances; a constant column is 0."""
    flat = torch.from_numpy(np.ascontiguousarray(x)).double().flatten(1)
    mean, deviation = flat[train].mean(0), flat[train].std(0, correction=0)
    return torch.where(deviation > 0, (flat - mean) / deviation.clamp_min(1e-12), 0.0).float()


def prepared(name: str) -> Callable[..., Instances]:
    """Return how a prepared set is had: its images, or their cached features where the spec says so."""

    @functools.lru_cache(maxsize=1)
    def read(features: bool, device: torch.device) -> Instances:
        dataset, x_train, x_test, checksums = arrays_of(name, features)
        labels = np.concatenate([dataset.y_train, dataset.y_test])
        train, test = np.split(np.arange(len(labels)), [len(x_train)])
        inputs = Inputs(standardised(np.concatenate([x_train, x_test]), train), device)
        return Instances(inputs, labels, train, test, len(dataset.classes), checksums=checksums)

    return lambda spec, device: read("network" in spec and spec.network == "patch_features", device)


def split_by_class(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (training, test) instances: of every class one in four, and at least one, is for test."""
    order = permutation(len(labels), axis_seed(SEED, "split"))
    own = [order[labels[order] == k] for k in np.unique(labels)]
    test = np.concatenate([numbers[: max(1, len(numbers) // TEST_SHARE)] for numbers in own])
    return np.setdiff1d(np.arange(len(labels)), test), np.sort(test)


def shipped(name: str) -> Callable[..., Instances]:
    """Return how a table that scikit-learn ships is had."""

    @functools.lru_cache(maxsize=1)
    def read(device: torch.device) -> Instances:
        from sklearn import datasets

        table = getattr(datasets, f"load_{name}")()
        labels = table.target.astype(np.int64)
        train, test = split_by_class(labels)
        return Instances(Inputs(standardised(table.data, train), device), labels, train, test, len(table.target_names))

    return lambda spec, device: read(device)


def cells(spec: Spec, device: torch.device) -> Instances:
    """Return simulated cells as holograms show them: squares around their true places, in bags that are images.

    Amplitudes of 24 x 24 pixels, as principal components whitened over the training cells.
    """
    return _cells(Recipe(**spec.section("holograms")), axis_seed(SEED, "cells"), device)


@functools.lru_cache(maxsize=1)
def _cells(recipe: Recipe, seed: int, device: torch.device) -> Instances:
    holograms = simulate(recipe, seed, device)
    found = holograms.cells
    windows = crops(torch.from_numpy(holograms.images)[:, None].float(), found.offsets, found.centres, 24).flatten(1)
    image = np.repeat(np.arange(len(holograms.images)), np.diff(found.offsets))
    split = holograms.splits[holograms.subjects[image]]
    train, test = np.flatnonzero(split == 0), np.flatnonzero(split == 2)
    centred = windows - windows[train].mean(0)
    _, lengths, directions = torch.linalg.svd(centred[train], full_matrices=False)
    x = centred @ directions[:32].T * (len(train) ** 0.5 / lengths[:32])
    inputs = Inputs(x.float(), device)
    return Instances(
        inputs, found.labels, train, test, 3, groups=image, checksums={"simulated_holograms": holograms.sha256()}
    )


TASKS: dict[str, Task] = {
    "cifar10": Task("CIFAR-10, features", "Krizhevsky 2009", prepared("cifar10")),
    "cifar100": Task("CIFAR-100, features", "Krizhevsky 2009", prepared("cifar100")),
    "digits": Task("digits", "Alpaydin & Kaynak 1998, shipped with scikit-learn", prepared("digits")),
    "two_moons": Task("two moons", "Liu et al. 2021, Section 5.1", prepared("two_moons")),
    "wbc_stained": Task("stained cells, features", "Zheng et al. 2018", prepared("wbc_stained")),
    "simulated_holograms": Task("simulated holograms", "Pacheco et al. 2024, Section 3, re-created", cells),
    "breast_cancer": Task(
        "breast cancer, a table", "Street et al. 1993, shipped with scikit-learn", shipped("breast_cancer")
    ),
    "wine": Task("wine, a table", "Aeberhard & Forina 1991, shipped with scikit-learn", shipped("wine")),
}
