"""Gather what a run learns from and is judged on: images, their split, and the objects it may see."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from papers.ece import subsets, tissue
from papers.ece.names import SIMULATED
from papers.ece.scaling import origins, scaled, with_discs
from shared.config import Spec
from shared.datasets import DatasetError
from shared.datasets.localised import prepared
from shared.datasets.localised.localised import Localised
from shared.training import axis_seed


@dataclass(frozen=True, eq=False)
class Material:
    """Hold the images of one run, at its scale.

    Attributes
    ----------
    splits : (n,) int64, of each image: 0 train, 1 validation, 2 test.
    target : (M,) bool, the objects to be found.
    annotated : (M,) bool, those of them in training images that the run may see.
    cluster : what the runs of other seeds may share: the split of a real set; empty where each seed draws its images.
    """

    data: Localised
    splits: np.ndarray
    target: np.ndarray
    annotated: np.ndarray
    cluster: str = ""

    def numbers(self, split: int) -> np.ndarray:
        """Return the (k,) int64 image numbers of a split."""
        return np.flatnonzero(self.splits == split)

    @property
    def seen(self) -> dict[str, int | str]:
        """Return how many objects are annotated, and the hash of which, for a record."""
        return {"annotated": int(self.annotated.sum()), "sha256": hashlib.sha256(self.annotated.tobytes()).hexdigest()}


def material_of(spec: Spec) -> Material:
    """Return the material of a run's spec.

    Annotated are the objects that have entered by the spec's `fraction` (see `subsets`): what a run sees, every run of
    the same seed and a larger fraction sees too (Section 4.1). Validation and test images are annotated in full.

    Raises
    ------
    DatasetError
        If the data cannot be had, have no class `target`, no training object is annotated, or a training image is
        smaller than a crop.
    """
    name, wanted = spec.dataset, spec.target
    if name == SIMULATED:
        whole = data = _drawn(tissue.Recipe(**spec.section("tissue")), axis_seed(spec.seed, "tissue"))
        splits = subsets.splits(whole, 0)
    else:
        whole = prepared.open(name)
        data = _at_scale(name, whole.sha256(), spec.scale, spec.disc_radius)
        splits = subsets.splits(whole, spec.seed % spec.splits)
    if wanted and wanted not in whole.class_names:
        known = ", ".join(whole.class_names)
        raise DatasetError(f"{name} has no class {wanted!r} to be found; its classes are {known}")
    target = np.array([wanted in ("", kind) for kind in whole.class_names])
    seen = target[whole.classes] & (splits == subsets.TRAIN)[whole.owners()]
    # Objects may vanish at a coarser scale; subsets are of the set as released.
    entry = subsets.entry(whole.offsets, seen, spec.seed)
    if spec.subset:
        entry = np.where(seen, subsets.read_subset(Path(spec.subset), whole), np.inf)
    annotated = subsets.annotated(entry[origins(data, whole)], spec.fraction)
    if not annotated.any():
        raise DatasetError(
            f"{name}: of the objects of its {(splits == subsets.TRAIN).sum()} training images none is annotated at "
            f"fraction {spec.fraction}; raise it"
        )
    for i in np.flatnonzero(splits == subsets.TRAIN):
        height, width = data.images[i].shape[:2]
        if min(height, width) < spec.crop:
            raise DatasetError(
                f"{name}: {data.names[i]} has {height} x {width} pixels, less than a crop of {spec.crop}: set "
                "`crop` or `scale` lower"
            )
    cluster = "" if name == SIMULATED else f"split {spec.seed % spec.splits}"
    return Material(data, splits, target[data.classes], annotated, cluster)


def updates(spec: Spec, n_images: int) -> int:
    """Return how many updates a run makes: its `steps`, or if these are 0, `nominal_epochs` over the images."""
    return spec.steps or spec.nominal_epochs * math.ceil(n_images / spec.batch)


@lru_cache(maxsize=4)
def _drawn(recipe: tissue.Recipe, seed: int) -> Localised:
    return tissue.simulate(recipe, seed)


@lru_cache(maxsize=4)
def _at_scale(name: str, _sha256: str, scale: int, disc_radius: float) -> Localised:
    whole = prepared.open(name)
    return scaled(whole if whole.labels is not None else with_discs(whole, disc_radius), scale)
