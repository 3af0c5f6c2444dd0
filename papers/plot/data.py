"""Gather what is learned from: images, features or points of a dataset, bags from the spec alone (Section 5.2)."""

from __future__ import annotations

import numpy as np
import torch

from shared.bags import Bags, fixed_size, split
from shared.config import ConfigError, Spec
from shared.training import Augmentation, Inputs, axis_seed
from shared.training import data as shared_data
from shared.training.inputs import channel_statistics

AUGMENTATION = Augmentation(shift=4, flip=True)


def data_of(spec: Spec, device: torch.device) -> shared_data.Data:
    """Return the dataset that a spec names, on a device."""
    augment = AUGMENTATION if "augment" in spec and spec.augment else None
    # From -1 to 1, the range of LLP-GAN's generator of images.
    scale = shared_data.SYMMETRIC if spec.network == "cnn13" else "standard"
    features, filters = spec.network == "patch_features", spec.filters if "filters" in spec else 0
    return shared_data.data_of(spec.dataset, device, features, augment, scale, filters)


def deviation(spec: Spec, inputs: Inputs) -> float:
    """Return the standard deviation of a number of an instance as the network reads it, over all training instances.

    Where numbers (or channels) differ it is the root of their mean variance. It is about .5 for images from -1 to 1,
    and 1 for cached features, which are standardised.
    """
    if spec.network == "patch_features":
        return 1.0
    if not inputs.images:
        return float(inputs.array.double().var(0, correction=0).mean().sqrt())
    border = inputs.augment.shift
    height, width = (side - border for side in inputs.array.shape[1:3])
    _, deviations = channel_statistics(inputs.array[:, border:height, border:width])
    return float((torch.tensor(deviations) / inputs.std.cpu()).square().mean().sqrt())


def bags_of(spec: Spec, labels: np.ndarray, n_classes: int) -> tuple[Bags, Bags]:
    """Return (training bags, validation bags), drawn again from the spec alone and shared by all methods of a seed.

    Raises
    ------
    ConfigError
        Where the ceiling, which knows every label, is asked for on bags of more than one instance.
    """
    if spec.loss == "supervised" and spec.bag_size != 1:
        raise ConfigError(f"loss supervised learns from bags of 1, the labels, and not of {spec.bag_size}")
    seed, n = spec.seed, spec.train_images or len(labels)
    bags = fixed_size(labels[:n], n_classes, spec.bag_size, axis_seed(seed, "bags"))
    return split(bags, spec.validation_fraction, axis_seed(seed, "validation"))
