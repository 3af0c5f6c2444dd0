"""Give a prepared dataset as a network reads it: its inputs on a device, its labels, the checksums a record keeps."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from shared import datasets
from shared.training.augmentation import Augmentation
from shared.training.inputs import Inputs, channel_statistics

SYMMETRIC = "symmetric"  # pixels from -1 to 1, the range of LLP-GAN's generator


@dataclass(frozen=True, eq=False)
class Data:
    """Hold a dataset on a device.

    Attributes
    ----------
    train, test : what a network reads.
    y_train, y_test : (N,) int64 labels.
    n_classes : K.
    checksums : {name: sha256} of the dataset and, where these are read, of its cached features.
    """

    train: Inputs
    test: Inputs
    y_train: np.ndarray
    y_test: np.ndarray
    n_classes: int
    checksums: dict[str, str]


def arrays_of(
    name: str, features: bool = False, filters: int = 0
) -> tuple[datasets.Dataset, np.ndarray, np.ndarray, dict[str, str]]:
    """Return (dataset, training inputs, test inputs, checksums); the inputs are its cached features if asked for.

    Parameters
    ----------
    filters : keep the features of that many filters alone, 8 each, from the first on; 0 keeps all.
    """
    dataset = datasets.load(name)
    checksums = {name: dataset.sha256}
    if not features:
        return dataset, dataset.x_train, dataset.x_test, checksums
    cached = datasets.load_features(name)
    checksums |= {f"features/{name}": cached.sha256}
    return dataset, _of_filters(cached.train, filters), _of_filters(cached.test, filters), checksums


def _of_filters(features: np.ndarray, filters: int) -> np.ndarray:
    """The features (N, 8 D) of the first `filters` of D, (N, 8 `filters`): see `shared.networks.PatchFeatures`."""
    if not filters:
        return features
    by_filter = features.reshape(len(features), 8, -1)
    if filters > by_filter.shape[2]:
        raise datasets.DatasetError(f"filters {filters}: the cached features have {by_filter.shape[2]}, ask for fewer")
    return np.ascontiguousarray(by_filter[:, :, :filters]).reshape(len(features), -1)


@functools.lru_cache(maxsize=2)
def data_of(
    name: str,
    device: torch.device,
    features: bool = False,
    augment: Augmentation | None = None,
    scale: str = "standard",
    filters: int = 0,
) -> Data:
    """Return a dataset on a device, kept for the next run of the same process.

    Parameters
    ----------
    features : read its cached features in place of its images.
    scale : of images, "standard" (mean 0 and deviation 1 of each channel, over the training set) or "symmetric".
    filters : of cached features, see `arrays_of`.
    """
    dataset, x_train, x_test, checksums = arrays_of(name, features, filters)
    images = x_train.ndim == 4
    statistics = scaling(x_train, scale) if images else None
    train = Inputs(x_train, device, statistics, augment if images else None)
    test = Inputs(x_test, device, statistics)
    return Data(train, test, dataset.y_train, dataset.y_test, dataset.n_classes, checksums)


def scaling(images: np.ndarray, scale: str):
    """Return (mean, std) of the channels of (N, H, W, C) images, in pixel units, for "standard" or "symmetric"."""
    if scale == SYMMETRIC:
        return [127.5] * images.shape[3], [127.5] * images.shape[3]
    return channel_statistics(images)
