"""What a run learns from and is judged on: images, their split, and the objects it may see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from papers.ece.data import prepared, subsets, tissue
from papers.ece.data.localised import Localised, origins, scaled, with_discs
from papers.ece.names import SIMULATED
from shared.datasets import DatasetError
from shared.training import axis_seed


@dataclass(frozen=True, eq=False)
class Material:
    """Images of one run, at its scale.

    splits : (n,) int64, of each image: 0 train, 1 validation, 2 test. target : (M,) bool, the objects to be found.
    annotated : (M,) bool, those of them in training images that the run may see.
    """

    data: Localised
    splits: np.ndarray
    target: np.ndarray
    annotated: np.ndarray

    def numbers(self, split: int) -> np.ndarray:
        """(k,) int64 image numbers of a split."""
        return np.flatnonzero(self.splits == split)


def material_of(spec: dict) -> Material:
    """The material of a run's spec.

    Annotated are the objects that have entered by the spec's `fraction` (see `subsets`): what a run sees, every run of
    the same seed and a larger fraction sees too (Section 4.1). Validation and test images are annotated in full.

    Raises
    ------
    DatasetError
        If the data cannot be had, have no class `target`, or no training object is annotated.
    """
    name = spec["dataset"]
    if name == SIMULATED:
        whole = data = _drawn(tissue.Recipe.of(spec), axis_seed(spec["seed"], "tissue"))
    else:
        whole = prepared.open(name)
        data = _at_scale(name, whole.sha256(), spec["scale"], spec["disc_radius"])
    if spec["target"] and spec["target"] not in whole.class_names:
        known = ", ".join(whole.class_names)
        raise DatasetError(f"{name} has no class {spec['target']!r} to be found; its classes are {known}")
    target = np.array([spec["target"] in ("", kind) for kind in whole.class_names])
    splits = subsets.splits(whole, spec.get("split", 0))
    seen = target[whole.classes] & (splits == subsets.TRAIN)[whole.owners()]
    # Objects may vanish at a coarser scale; subsets are of the set as released.
    entry = subsets.entry(whole.offsets, seen, spec["seed"])[origins(data, whole)]
    annotated = subsets.annotated(entry, spec["fraction"])
    if not annotated.any():
        raise DatasetError(
            f"{name}: of the objects of its {(splits == subsets.TRAIN).sum()} training images none is annotated at "
            f"fraction {spec['fraction']}; raise it"
        )
    return Material(data, splits, target[data.classes], annotated)


@lru_cache(maxsize=4)
def _drawn(recipe: tissue.Recipe, seed: int) -> Localised:
    return tissue.simulate(recipe, seed)


@lru_cache(maxsize=4)
def _at_scale(name: str, _sha256: str, scale: int, disc_radius: float) -> Localised:
    whole = prepared.open(name)
    return scaled(whole if whole.labels is not None else with_discs(whole, disc_radius), scale)
