"""Simulate donors of real cells: bags drawn from stained crops by a donor's proportions, labelled by a noisy count.

The 33 donors of Section 3 are private. Here the cells are real, the donors are not: their proportions are drawn as the
simulator draws its subjects', and their labels as a laboratory would report them, from a count of few cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from papers.mle_llp.data import Data, data_of
from papers.vp_dsd.imaging.simulator import Recipe, subject_proportions
from papers.vp_dsd.names import CLASSES, SPLITS
from shared.bags import BagError, Bags
from shared.config import Spec
from shared.training import axis_seed

SUBTYPES = {"neutrophil": "granulocyte", "eosinophil": "granulocyte", "basophil": "granulocyte"}


@dataclass(frozen=True)
class Donors:
    """Hold the donors of one split, S of them: one bag a donor.

    Attributes
    ----------
    bags : cells by number in the pool; proportions (S, 3) are those of the laboratory's count, the label.
    truth : (S, 3) float64, the proportions the donor's cells are drawn from: what the label is a noisy count of.
    """

    bags: Bags
    truth: np.ndarray


def merged(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Turn (N,) labels numbering `names` into (N,) int64 labels numbering `CLASSES`; granulocytes are one class.

    Raises
    ------
    BagError
        When a name belongs to none of the classes.
    """
    of_class = [SUBTYPES.get(name, name) for name in names]
    for name, known in zip(names, of_class, strict=True):
        if known not in CLASSES:
            raise BagError(f"class {name!r} is none of {', '.join((*CLASSES, *SUBTYPES))}: leave its cells out")
    return np.array([CLASSES.index(name) for name in of_class], np.int64)[labels]


def stained_cells(device: torch.device) -> Data:
    """Return the cells of `wbc_stained`, as cached features of their crops, with labels numbering `CLASSES`.

    Raises
    ------
    DatasetError
        When the dataset, or its features, are not there; the message says how to get them.
    """
    data = data_of("wbc_stained", "", "patch_features", False, device)
    return replace(data, labels=merged(data.labels, data.classes), classes=CLASSES)


def dealt(labels: np.ndarray, folds: int, fold: int) -> tuple[np.ndarray, int]:
    """Deal the cells of each class to `folds` parts, the same for all seeds, of which part `fold` is for test.

    Parts share no cell: what two of them find of their test donors is as independent as so few cells allow.

    Returns
    -------
    order : (N,) numbers of the cells, those for training first.
    n_train : how many these are.

    Raises
    ------
    BagError
        When there are fewer than two parts.
    """
    if folds < 2:
        raise BagError(f"need folds >= 2, for training and for test, got {folds}")
    rng, part = np.random.Generator(np.random.PCG64(axis_seed(0, "folds"))), np.empty(len(labels), np.int64)
    for k in np.unique(labels):
        own = np.flatnonzero(labels == k)
        part[rng.permutation(own)] = np.arange(len(own)) % folds
    order = np.argsort(part == fold, kind="stable")
    return order, int((part != fold).sum())


def draw_donors(spec: Spec, labels: np.ndarray, n_train: int) -> dict[str, Donors]:
    """Draw donors of each split, from the spec alone: {"train", "validation", "test": Donors}.

    The cells of a bag are drawn with replacement, their numbers by class multinomially from the donor's proportions.
    Donors of training and validation share the cells of the training pool; no test cell is in it. The label is the
    count of `cbc_cells` cells of the donor, other cells than those of the bag, in parts of one.

    Parameters
    ----------
    spec : its sections `donors` and `subjects`, see `simulator.Recipe`, and its seed.
    labels : (N,) classes of the cells of the pool, numbering `CLASSES`; the first `n_train` are for training.

    Raises
    ------
    BagError
        When a pool lacks a class, or a number of cells in the spec cannot be.
    ValueError
        When the proportions asked for cannot be.
    """
    size, counted = spec.donor_cells, spec.cbc_cells
    if size < 1 or counted < 1:
        raise BagError(f"need donor_cells >= 1 and cbc_cells >= 1, got {size} and {counted}")
    recipe = Recipe(**spec.section("subjects"))
    if len(labels) and not (0 <= labels.min() and labels.max() < len(CLASSES)):
        raise BagError(f"labels must lie in 0..{len(CLASSES) - 1}, found {labels.min()}..{labels.max()}")
    found = {}
    for split in SPLITS:
        pool = np.arange(n_train, len(labels)) if split == "test" else np.arange(n_train)
        kinds = [pool[labels[pool] == k] for k in range(len(CLASSES))]
        for name, kind in zip(CLASSES, kinds, strict=True):
            if not len(kind):
                raise BagError(f"no {name} among the {len(pool)} cells that {split} donors are drawn from")
        n = getattr(recipe, f"{split}_subjects")
        seeds = [axis_seed(spec.seed, "donor", split, donor) for donor in range(n)]
        truth = np.array([subject_proportions(recipe, seed) for seed in seeds]).reshape(n, len(CLASSES))
        cells, counts = np.empty((n, size), np.int64), np.empty_like(truth)
        for donor, seed in enumerate(seeds):
            rng = np.random.Generator(np.random.PCG64(axis_seed(seed, "cells")))
            numbers = rng.multinomial(size, truth[donor])
            cells[donor] = np.concatenate([rng.choice(kind, m) for kind, m in zip(kinds, numbers, strict=True)])
            counts[donor] = rng.multinomial(counted, truth[donor]) / counted
        found[split] = Donors(Bags(cells.ravel(), size * np.arange(n + 1), counts), truth)
    return found


def assigned_proportions(probabilities: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the share of each class in each bag after hard assignment (Section 3): (M, K) probabilities -> (B, K).

    Parameters
    ----------
    offsets : (B + 1,) bag b has the rows ``offsets[b]`` to ``offsets[b + 1]``; the bags here are whole subjects.

    Raises
    ------
    BagError
        When a bag is empty: no proportion can be told.
    """
    sizes = np.diff(offsets)
    empty = np.flatnonzero(sizes < 1)
    if len(empty):
        raise BagError(f"bag {empty[0]} has no cell: detect more, or leave its subject out and say so")
    if offsets[0] != 0 or offsets[-1] != len(probabilities):
        raise BagError(f"offsets must run from 0 to the {len(probabilities)} cells, got {offsets[0]}..{offsets[-1]}")
    assigned = np.eye(probabilities.shape[1])[np.asarray(probabilities).argmax(1)]
    return np.add.reduceat(assigned, offsets[:-1]) / sizes[:, None]


def proportion_error(predicted: np.ndarray, proportions: np.ndarray) -> dict[str, float]:
    """Return the mean absolute error of subjects' proportions in points (Tables 2 and 3), by class and "average".

    Parameters
    ----------
    predicted, proportions : (S, 3) in parts of one, classes as in `CLASSES`; `assigned_proportions` gives them.

    Raises
    ------
    BagError
        When the shapes differ, no subject is there, or a predicted row does not sum to one; it names the subject.
    """
    if np.shape(predicted) != np.shape(proportions) or np.shape(predicted)[1:] != (len(CLASSES),) or not len(predicted):
        raise BagError(f"{np.shape(predicted)} predicted proportions for {np.shape(proportions)} true ones")
    wrong = np.flatnonzero(~(np.abs(np.sum(predicted, 1) - 1) < 1e-3))
    if len(wrong):
        raise BagError(f"predicted proportions of subject {wrong[0]} sum to {np.sum(predicted[wrong[0]]):.6g}, not one")
    errors = 100 * np.abs(np.asarray(predicted, float) - proportions).mean(0)
    return {**dict(zip(CLASSES, errors.tolist(), strict=True)), "average": float(errors.mean())}
