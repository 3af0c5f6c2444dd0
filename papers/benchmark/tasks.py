"""Register every task once: what is classified, from where, and what stands in for something in it.

Adding a task is adding an entry to `TASKS` and its name to `one_of` and a grid of config.yaml.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from papers.vp_dsd.imaging.crops import crops
from papers.vp_dsd.imaging.simulator import Recipe, simulate
from shared.bags import permutation
from shared.config import Spec
from shared.datasets.localised import prepared
from shared.datasets.localised.localised import UNKNOWN
from shared.training import Inputs, axis_seed
from shared.training.data import arrays_of, scaling

TEST_SHARE = 4  # of the sets without a split of their own one instance in four is for test, by class, or one image
SEED = 0  # of their split, and of simulated cells
FEATURES = "patch_features"  # the network in whose place its cached features are read
COMPONENTS = 32  # of what is seen of a cell


@dataclass(frozen=True)
class Instances:
    """Hold what a task classifies.

    Attributes
    ----------
    inputs : (N, D) numbers, standardised over the training instances; or their images, standardised by channel.
    labels : (N,) int64.
    train, test : numbers of instances.
    n_classes : K.
    groups : (N,) the natural bag of each instance; None where there is none.
    checksums : {name: sha256} of datasets and features.
    names : of the classes.
    """

    inputs: Inputs
    labels: np.ndarray
    train: np.ndarray
    test: np.ndarray
    n_classes: int
    groups: np.ndarray | None = None
    checksums: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()


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
    x = x.reshape(len(x), -1)
    out = torch.empty(x.shape)
    for start in range(0, x.shape[1], 64):  # so many columns are in float64 at once
        part = torch.from_numpy(np.ascontiguousarray(x[:, start : start + 64])).double()
        mean, deviation = part[train].mean(0), part[train].std(0, correction=0)
        out[:, start : start + 64] = torch.where(deviation > 0, (part - mean) / deviation.clamp_min(1e-12), 0.0)
    return out


def instances_of(name: str) -> Callable[..., Instances]:
    """Return how a prepared set is had: its images, or their cached features where the spec says so."""

    @functools.lru_cache(maxsize=2)
    def read(network: str, filters: int, device: torch.device) -> Instances:
        dataset, x_train, x_test, checksums = arrays_of(name, network == FEATURES, filters)
        labels = np.concatenate([dataset.y_train, dataset.y_test])
        train, test = np.split(np.arange(len(labels)), [len(x_train)])
        x = np.concatenate([x_train, x_test])
        images = network not in ("", FEATURES)
        inputs = Inputs(x, device, scaling(x_train, "standard")) if images else Inputs(standardised(x, train), device)
        names = tuple(map(str, dataset.classes))
        return Instances(inputs, labels, train, test, len(names), checksums=checksums, names=names)

    def instances(spec: Spec, device: torch.device) -> Instances:
        filters = spec.filters if "filters" in spec else 0
        return read(spec.network if "network" in spec else "", filters, device)

    return instances


def of_classes(data: Instances, wanted: str) -> Instances:
    """Return the instances of some classes, names apart by blanks, numbered in that order; all of them where empty.

    Inputs stay as they are, standardised over all classes.
    """
    names = wanted.split()
    if not names:
        return data
    if unknown := sorted(set(names) - set(data.names)):
        raise ValueError(f"classes {wanted!r}: there is no {', '.join(unknown)}; there are {', '.join(data.names)}")
    place = np.full(data.n_classes, -1)  # of instances that no split has any more
    place[[data.names.index(name) for name in names]] = range(len(names))
    labels = place[data.labels]
    train, test = (own[labels[own] >= 0] for own in (data.train, data.test))
    return replace(data, labels=labels, train=train, test=test, n_classes=len(names), names=tuple(names))


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
        inputs, names = Inputs(standardised(table.data, train), device), tuple(map(str, table.target_names))
        return Instances(inputs, labels, train, test, len(names), names=names)

    return lambda spec, device: read(device)


def whitened(windows: torch.Tensor, train: np.ndarray) -> torch.Tensor:
    """Return the first `COMPONENTS` principal components of (N, ...) windows, of deviation 1 over the training ones."""
    centred = windows.flatten(1) - windows[train].flatten(1).mean(0)
    of_train = centred[train].double()
    variance, directions = torch.linalg.eigh(of_train.T @ of_train / len(train))
    kept = directions[:, -COMPONENTS:] / variance[-COMPONENTS:].clamp_min(1e-12).sqrt()
    return centred @ kept.flip(1).to(centred)


def cells(spec: Spec, device: torch.device) -> Instances:
    """Return simulated cells as holograms show them: squares around their true places, in bags that are images.

    Amplitudes of 24 x 24 pixels, as principal components whitened over the training cells.
    """
    return _cells(Recipe(**spec.section("holograms")), axis_seed(SEED, "cells"), device)


@functools.lru_cache(maxsize=1)
def _cells(recipe: Recipe, seed: int, device: torch.device) -> Instances:
    holograms = simulate(recipe, seed, device)
    found = holograms.cells
    assert found is not None, "simulated cells are known"
    windows = crops(torch.from_numpy(holograms.images)[:, None].float(), found.offsets, found.centres, 24)
    image = np.repeat(np.arange(len(holograms.images)), np.diff(found.offsets))
    split = holograms.splits[holograms.subjects[image]]
    train, test = np.flatnonzero(split == 0), np.flatnonzero(split == 2)
    inputs, checksums = Inputs(whitened(windows, train), device), {"simulated_holograms": holograms.sha256()}
    return Instances(inputs, found.labels, train, test, 3, groups=image, checksums=checksums)


@functools.lru_cache(maxsize=1)
def _nuclei(name: str, device: torch.device) -> Instances:
    """Nuclei of known class in stained tissue, in bags that are images; one image in four is for test."""
    whole, half = prepared.open(name), 14
    known = np.array([kind != UNKNOWN for kind in whole.class_names])
    chosen, image = known[whole.classes], whole.owners()
    parts = []
    for i, pixels in enumerate(whole.images):
        own = chosen & (image == i)
        bordered = np.pad(pixels, ((half, half), (half, half), (0, 0)), mode="symmetric")
        one = torch.from_numpy(bordered).permute(2, 0, 1)[None].float()
        windows = crops(one, np.array([0, own.sum()]), whole.centres[own] + half, 2 * half)
        parts.append(torch.nn.functional.avg_pool2d(windows, 2) / 255)
    of_test = permutation(len(whole.images), axis_seed(SEED, "split"))[: max(1, len(whole.images) // TEST_SHARE)]
    for_test = np.isin(image[chosen], of_test)
    inputs = Inputs(whitened(torch.cat(parts), np.flatnonzero(~for_test)), device)
    labels, names = (np.cumsum(known) - 1)[whole.classes[chosen]], tuple(np.array(whole.class_names)[known])
    train, test = np.flatnonzero(~for_test), np.flatnonzero(for_test)
    checksums = {name: whole.sha256()}
    return Instances(inputs, labels, train, test, len(names), image[chosen], checksums, names)


TASKS: dict[str, Task] = {
    "cifar10": Task("CIFAR-10, features", "Krizhevsky 2009", instances_of("cifar10")),
    "cifar100": Task("CIFAR-100, features", "Krizhevsky 2009", instances_of("cifar100")),
    "mnist": Task("MNIST", "LeCun et al. 1998", instances_of("mnist")),
    "digits": Task("digits", "Alpaydin & Kaynak 1998, shipped with scikit-learn", instances_of("digits")),
    "two_moons": Task("two moons", "Liu et al. 2021, Section 5.1", instances_of("two_moons")),
    "crchisto": Task(
        "nuclei in stained tissue",
        "Sirinukunwattana et al. 2016; squares of 28 x 28 pixels, as principal components",
        lambda spec, device: _nuclei("crchisto", device),
    ),
    "wbc_stained": Task("stained cells, features", "Zheng et al. 2018", instances_of("wbc_stained")),
    "simulated_holograms": Task("simulated holograms", "Pacheco et al. 2024, Section 3, re-created", cells),
    "breast_cancer": Task(
        "breast cancer, a table", "Street et al. 1993, shipped with scikit-learn", shipped("breast_cancer")
    ),
    "wine": Task("wine, a table", "Aeberhard & Forina 1991, shipped with scikit-learn", shipped("wine")),
}
