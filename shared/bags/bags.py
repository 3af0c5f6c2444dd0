"""Hold everything that is learned from in one type: ragged bags with class proportions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


class BagError(ValueError):
    """Say that a bag, or a request for bags, cannot be; the message names the bag or the argument."""


@dataclass(frozen=True)
class Bags:
    """Hold B bags over M instances.

    Attributes
    ----------
    indices : (M,) int64
        Instances, bag after bag.
    offsets : (B + 1,) int64
        Bag b holds ``indices[offsets[b]:offsets[b + 1]]``; no bag is empty.
    proportions : (B, K) float64
        Rows on the simplex: the label of each bag.
    """

    indices: np.ndarray
    offsets: np.ndarray
    proportions: np.ndarray

    def __post_init__(self):
        indices, offsets, proportions = self.indices, self.offsets, self.proportions
        if offsets.ndim != 1 or len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(indices):
            raise BagError(f"offsets must run from 0 to the {len(indices)} instances, got {offsets}")
        if proportions.ndim != 2 or len(proportions) != len(offsets) - 1:
            raise BagError(f"{len(offsets) - 1} bags need as many rows of proportions, got {proportions.shape}")
        empty = np.flatnonzero(np.diff(offsets) < 1)
        if len(empty):
            raise BagError(f"bag {empty[0]} is empty")
        wrong = np.flatnonzero(~((proportions >= 0).all(axis=1) & (np.abs(proportions.sum(axis=1) - 1) < 1e-6)))
        if len(wrong):
            row = proportions[wrong[0]]
            raise BagError(f"proportions of bag {wrong[0]} are not on the simplex: {row} (sum {row.sum():.6g})")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Return the (B,) number of instances in each bag."""
        return np.diff(self.offsets)

    @property
    def n_classes(self) -> int:
        return self.proportions.shape[1]

    def take(self, which: np.ndarray) -> Bags:
        """Return the bags numbered `which`, in that order."""
        sizes = self.sizes[which]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
        indices = self.indices[np.repeat(self.offsets[:-1][which], sizes) + within]
        return Bags(indices, offsets, self.proportions[which])

    def sha256(self) -> str:
        """Return a hash of which instance is in which bag: equal bags, equal hash, on any machine."""
        digest = hashlib.sha256()
        for array in (self.offsets, self.indices):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()

    def summary(self) -> dict:
        """Return what a record keeps of the bags; their maker and seed draw the same indices again."""
        return {"bags": len(self), "instances": len(self.indices), "sha256": self.sha256()}
