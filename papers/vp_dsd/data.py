"""Gather what is learned from: holograms, what is classified in them, or stained cells, as features in bags."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from papers.vp_dsd.detection.embeddings import embedding_of
from papers.vp_dsd.imaging.holograms import Holograms, find, read
from papers.vp_dsd.imaging.simulator import Recipe, simulate
from papers.vp_dsd.learning.classifier import whitening
from papers.vp_dsd.learning.donors import dealt, draw_donors, stained_cells
from papers.vp_dsd.names import CLASSES, HOLOGRAMS, SPLITS
from shared.bags import BagError, Bags, permutation
from shared.config import Spec
from shared.training import Inputs, axis_seed

# Whose images a process keeps, .07 GB each at 128 pixels and .5 GB at 512: each experiment goes through all seeds.
SEEDS = 10


@dataclass(frozen=True)
class Data:
    """Hold instances and bags of three splits.

    Attributes
    ----------
    inputs : M instances.
    labels : (M,) int64 true classes, -1 where there is none or it is not known.
    train, validation : bags to learn from, an image or a donor each.
    test : one bag a subject, as it is measured.
    checksums : {name: sha256} of the dataset.
    about : numbers that a record keeps of the dataset: subjects by split, and the optics of a recorded one.
    cluster : what seeds share, see `shared.training.Result`.
    """

    inputs: Inputs
    labels: np.ndarray
    train: Bags
    validation: Bags
    test: Bags
    checksums: dict[str, str]
    about: dict[str, float] = field(default_factory=dict)
    cluster: str = ""


def recipe_of(spec: Spec) -> Recipe:
    """Return all that the simulated images of a spec depend on but their seed."""
    return Recipe(**spec.section("optics"), **spec.section("subjects"), **spec.section("simulator"))


def holograms_of(spec: Spec, device: torch.device) -> Holograms:
    """Return the holograms that a spec names, kept for the next run of the same process.

    Recorded ones have the optics of their own folder.
    """
    if spec.dataset == "simulated_holograms":
        return _simulated(recipe_of(spec), axis_seed(spec.seed, "holograms"), str(device))
    return _recorded(find(spec.dataset))


@functools.lru_cache(maxsize=SEEDS)
def _simulated(recipe: Recipe, seed: int, device: str) -> Holograms:
    return simulate(recipe, seed, device)


@functools.lru_cache(maxsize=1)
def _recorded(folder: Path) -> Holograms:
    return read(folder)


def about(holograms: Holograms) -> dict[str, float]:
    """Return what a record keeps of a set: subjects by split and, of a recorded one, pixels, optics, how far it wraps.

    What a simulated one has is in the spec.
    """
    counts = np.bincount(holograms.splits, minlength=len(SPLITS))
    found = counted(dict(zip(SPLITS, counts, strict=True)))
    if not holograms.simulated:
        side, optics = holograms.images.shape[1], holograms.optics
        found |= {f"{name}_um": length for name, length in asdict(optics).items()}
        found |= {"pixels": side, "wrapped": round(optics.wrapped(side), 4)}
    return found


def counted(subjects: Mapping[str, int]) -> dict[str, float]:
    """Return the counts that a record keeps: subjects of each split and of all, and classes."""
    found: dict[str, float] = {f"subjects_{split}": int(n) for split, n in subjects.items()}
    return found | {"subjects_all": sum(found.values()), "classes": len(CLASSES)}


def data_of(spec: Spec, device: torch.device, session: dict) -> Data | None:
    """Return the instances and bags of a spec, drawn again from it alone; None if the deadline came first."""
    data = _detected(spec, device, session) if spec.dataset in HOLOGRAMS else _stained(spec, device)
    if data is None:
        return None
    train = _drawn(spec, data) if spec.bags == "drawn" else data.train
    return replace(data, train=_relabelled(train, spec.labels, data.labels, axis_seed(spec.seed, "labels")))


def _detected(spec: Spec, device: torch.device, session: dict) -> Data | None:
    holograms = holograms_of(spec, device)
    embedding = embedding_of(spec, holograms, device, session)
    if embedding is None:
        return None
    offsets, encodings = embedding.found.offsets, torch.from_numpy(embedding.found.features)
    train, validation = (image_bags(holograms, split, offsets) for split in (0, 1))
    features = whitening(encodings[torch.from_numpy(train.indices)])(encodings)
    test = image_bags(holograms, 2, offsets, by_subject=True)
    checksums = {spec.dataset: holograms.sha256()}
    return Data(Inputs(features, device), embedding.labels, train, validation, test, checksums, about(holograms))


def _stained(spec: Spec, device: torch.device) -> Data:
    cells, fold = stained_cells(device), spec.seed % spec.folds
    order, n_train = dealt(cells.labels, spec.folds, fold)
    labels = cells.labels[order]
    donors = draw_donors(spec, labels, n_train)
    train, validation, test = (donors[split].bags for split in SPLITS)
    test = Bags(test.indices, test.offsets, donors["test"].truth)
    features = _principal(cells.inputs.batch(order).flatten(1), n_train, spec.components)
    counts = counted({split: len(donors[split].truth) for split in SPLITS})
    inputs = Inputs(features, device)
    return Data(inputs, labels, train, validation, test, cells.checksums, counts, f"fold {fold}")


def _principal(features: torch.Tensor, n_train: int, components: int) -> torch.Tensor:
    """Return the leading principal components of (M, F) features, whitened over the first `n_train`."""
    centred = features - features[:n_train].mean(0)
    _, lengths, directions = torch.linalg.svd(centred[:n_train], full_matrices=False)
    return centred @ directions[:components].T * (n_train**0.5 / lengths[:components])


def _drawn(spec: Spec, data: Data) -> Bags:
    """Draw bags of `bag_size` training instances of known class.

    Proportions come from a Dirichlet distribution around their mean over all bags, the instances by class multinomially
    from them, with replacement.
    """
    pool = data.train.indices[data.labels[data.train.indices] >= 0]
    pools = [pool[data.labels[pool] == k] for k in range(len(CLASSES))]
    mean, size, n = data.train.proportions.mean(0), spec.bag_size, spec.drawn_bags
    rng = np.random.Generator(np.random.PCG64(axis_seed(spec.seed, "drawn", size, n)))
    proportions = rng.dirichlet(spec.bag_concentration * mean, n)
    counts = [rng.multinomial(size, row) for row in proportions]
    indices = [rng.choice(own, m) for row in counts for own, m in zip(pools, row, strict=True)]
    return Bags(np.concatenate(indices), size * np.arange(n + 1), proportions)


def _relabelled(bags: Bags, kind: str, labels: np.ndarray, seed: int) -> Bags:
    """Return the bags with other proportions: the same for all, those of another bag, or those of their own cells."""
    proportions = bags.proportions
    if kind == "permuted":
        proportions = proportions[permutation(len(bags), seed)]
    elif kind == "constant":
        proportions = np.broadcast_to(proportions.mean(0), proportions.shape).copy()
    elif kind == "counted":
        cells = np.eye(len(CLASSES) + 1)[labels[bags.indices]][:, : len(CLASSES)]  # -1: the column that is cut off
        counts = np.add.reduceat(cells, bags.offsets[:-1])
        total = counts.sum(1, keepdims=True)
        proportions = np.where(total > 0, counts / np.maximum(total, 1), proportions)
    elif kind != "subject":
        raise ValueError(f"labels {kind!r} are none of subject, permuted, constant, counted")
    return Bags(bags.indices, bags.offsets, proportions)


def image_bags(holograms: Holograms, split: int, offsets: np.ndarray | None = None, by_subject: bool = False) -> Bags:
    """Return bags of what a split's images hold: one an image, to learn from, or one a subject, to be measured on.

    The label is the subject's proportions either way. Images that hold nothing are left out.

    Parameters
    ----------
    offsets : (n + 1,) image i has the instances ``offsets[i]`` to ``offsets[i + 1]``; every image is its own one
        instance if None.

    Raises
    ------
    BagError
        When a subject's images hold nothing, naming the subject.
    """
    offsets = np.arange(len(holograms.images) + 1) if offsets is None else offsets
    numbers = holograms.numbers(split)
    numbers = numbers[np.argsort(holograms.subjects[numbers], kind="stable")]
    sizes, subjects = np.diff(offsets)[numbers], holograms.subjects[numbers]
    held = np.bincount(subjects, sizes, len(holograms.proportions))
    for subject in np.unique(subjects):
        if not held[subject]:
            raise BagError(f"no cell in the images of subject {subject}: detect more, or leave the subject out")
    indices = np.concatenate([np.empty(0, np.int64), *(np.arange(offsets[i], offsets[i + 1]) for i in numbers)])
    subjects, sizes = subjects[sizes > 0], sizes[sizes > 0]
    if by_subject:
        subjects, start = np.unique(subjects, return_index=True)
        sizes = np.add.reduceat(sizes, start) if len(start) else sizes
    return Bags(indices, np.concatenate([[0], np.cumsum(sizes)]), holograms.proportions[subjects])
