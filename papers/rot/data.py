"""Gather what is learned from: images of a dataset, in bags drawn from the spec alone (Section 4.1)."""

from __future__ import annotations

import numpy as np
import torch

from shared.bags import Bags, fixed_size, permuted, split
from shared.config import Spec
from shared.training import Augmentation, axis_seed
from shared.training import data as shared_data

AUGMENTATION = Augmentation(shift=1, flip=True)  # Section 4.1


def data_of(spec: Spec, device: torch.device) -> shared_data.Data:
    """Return the dataset that a spec names, on a device."""
    augment, filters = AUGMENTATION if spec.augment else None, spec.filters if "filters" in spec else 0
    return shared_data.data_of(spec.dataset, device, spec.network == "patch_features", augment, filters=filters)


def bags_of(spec: Spec, labels: np.ndarray, n_classes: int) -> tuple[Bags, Bags]:
    """Return (training bags, validation bags), drawn again from the spec alone."""
    permute = spec.proportions == "permuted"
    return _drawn(labels, n_classes, spec.bag_size, spec.seed, spec.validation_fraction, permute)


def selection_bags_of(spec: Spec, labels: np.ndarray, n_classes: int) -> tuple[Bags, Bags]:
    """Return (training bags, held-out bags) of the short runs that choose a rate and an alpha.

    Parameters
    ----------
    spec : the stage "selection" of a spec, which all seeds share, and the control of permuted proportions, too.
    """
    return _drawn(labels, n_classes, spec.bag_size, spec.selection_seed, spec.selection_fraction)


def _drawn(
    labels: np.ndarray, n_classes: int, size: int, seed: int, fraction: float, permute: bool = False
) -> tuple[Bags, Bags]:
    bags = fixed_size(labels, n_classes, size, axis_seed(seed, "bags"))
    if permute:
        bags = permuted(bags, axis_seed(seed, "permuted"))
    return split(bags, fraction, axis_seed(seed, "validation"))
