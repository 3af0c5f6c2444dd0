"""Gather what is learned from: instances of a few classes, and bags of training, validation and test instances."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from shared.bags import Bags, natural, permutation, permuted, variable_size
from shared.config import Spec
from shared.training import Augmentation, Inputs, axis_seed
from shared.training.data import SYMMETRIC, arrays_of, scaling

# The paper names flipping, blurring and colour adjustments (Section 3), without their sizes.
AUGMENTATION = Augmentation(flip=True, blur=1.0, colour=0.2)


@dataclass(frozen=True)
class Data:
    """Hold the training instances, then the test instances.

    Attributes
    ----------
    inputs : what a network reads.
    labels : (N,) int64, numbering `classes`.
    n_train : how many of them are of the dataset's own training part; scales are theirs whatever the split.
    groups : (N,) the number of the photo that each is in, where bags are natural; None elsewhere.
    checksums : {name: sha256} of the dataset and, where these are read, of its cached features.
    """

    inputs: Inputs
    labels: np.ndarray
    n_train: int
    groups: np.ndarray | None
    classes: tuple[str, ...]
    checksums: dict[str, str]


@functools.lru_cache(maxsize=2)
def data_of(name: str, classes: str, network: str, augment: bool, device: torch.device) -> Data:
    """Return the instances of some classes of a dataset, kept for the next run of the same process.

    Parameters
    ----------
    classes : names, separated by blanks; all classes if empty. The last one is the paper's positive class.
    network : which reads them: patch_features gets cached features in place of images, mlp standardised images, any
        other images from -1 to 1, the range of LLP-GAN's generator.
    augment : whether training images change from batch to batch; those of mlp never do.
    """
    dataset, x_train, x_test, checksums = arrays_of(name, network == "patch_features")
    names = tuple(classes.split()) or dataset.classes
    numbers = [dataset.classes.index(name) for name in names]
    labels = np.concatenate([dataset.y_train, dataset.y_test])
    chosen = np.flatnonzero(np.isin(labels, numbers))
    of_number = np.zeros(len(dataset.classes), np.int64)
    of_number[numbers] = range(len(numbers))
    n = len(dataset.y_train)
    x = np.concatenate([x_train[chosen[chosen < n]], x_test[chosen[chosen >= n] - n]])
    n_train = int((chosen < n).sum())
    if x.ndim == 4:
        scale = scaling(x[:n_train], "standard" if network == "mlp" else SYMMETRIC)
        inputs = Inputs(x, device, scale, AUGMENTATION if augment and network != "mlp" else None)
    else:
        inputs = Inputs(x.astype(np.float32), device)
    groups = None
    if dataset.groups_train is not None:
        groups = np.concatenate([dataset.groups_train, dataset.groups_test])[chosen]
    return Data(inputs, of_number[labels[chosen]], n_train, groups, names, checksums)


def bags_of(spec: Spec, data: Data, seed: int, held_instances: int) -> tuple[Bags, Bags, Bags]:
    """Return (training, validation, test) bags, drawn again from the spec and a seed alone.

    Made bags have sizes uniform on smallest..largest and are drawn without replacement (Section 3.1). With the pool
    `all` they are made of all images of the classes, and test bags are a random part of them, as natural bags (photos)
    always are, split anew by each seed (Section 3): as many as the spec says, or a fifth. With the pool `official` test
    bags are made of the dataset's own test images, always in sizes 2 to 12. Fewer training bags of one seed are a part
    of more.

    Parameters
    ----------
    spec : or its stage "search".
    held_instances : about as many are in the validation bags, which no test bag and no training bag shares; 0 is none.

    Raises
    ------
    ValueError
        Saying how many bags there are when more are asked for; and for natural bags with the pool `official`.
    """
    n_test, order, pooled = spec.test_bags, None, spec.pool == "all"
    if data.groups is not None:
        if not pooled:
            raise ValueError(f"{spec.dataset} has no official test bags; its pool is `all`")
        bags = natural(data.groups, data.labels, len(data.classes))
        order = permutation(len(bags), axis_seed(seed, "bags"))
    else:
        sizes, n = (spec.smallest, spec.largest), len(data.labels) if pooled else data.n_train
        bags = variable_size(data.labels[:n], len(data.classes), *sizes, axis_seed(seed, "bags"))
        order = np.arange(len(bags))  # drawn at random already
    if pooled:
        n_test = n_test or round(len(bags) / 5)
        if n_test >= len(bags):
            raise ValueError(f"{n_test} test bags of {spec.dataset}, there are {len(bags)} bags")
        bags, test = bags.take(order[n_test:]), bags.take(order[:n_test])
    else:
        test = variable_size(data.labels[n:], len(data.classes), 2, 12, axis_seed(seed, "test bags"), n_test or None)
        test = Bags(test.indices + n, test.offsets, test.proportions)
    held = max(1, round(held_instances / bags.sizes.mean())) if held_instances else 0
    wanted = spec.bags or max(1, len(bags) - held)
    if held + wanted > len(bags):
        raise ValueError(f"{wanted} training and {held} validation bags of {spec.dataset}, there are {len(bags)}")
    validation, train = bags.take(np.arange(held)), bags.take(np.arange(held, held + wanted))
    if spec.counts == "permuted":
        train = permuted(train, axis_seed(seed, "permuted"))
    return train, validation, test
