"""What is classified from proportions: detections of holograms or stained cells, as features in bags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from papers.vp_dsd.detection.embeddings import embedding_of, holograms_of
from papers.vp_dsd.learning.classifier import whitening
from papers.vp_dsd.learning.donors import draw_donors, stained_cells
from papers.vp_dsd.names import CLASSES, HOLOGRAMS, SPLITS
from papers.vp_dsd.regression.crops import image_bags
from shared.bags import Bags, permutation
from shared.training import Inputs, axis_seed


@dataclass(frozen=True)
class Material:
    """Instances and bags of three splits.

    inputs : M instances. labels : (M,) int64 true classes, -1 where there is none or it is not known.
    train, validation : bags to learn from, an image or a donor each. test : one bag a subject, as it is measured.
    """

    inputs: Inputs
    labels: np.ndarray
    train: Bags
    validation: Bags
    test: Bags
    checksums: dict[str, str]


def material_of(spec: dict, device: torch.device, session: dict) -> Material | None:
    """The instances and bags of a spec, drawn again from it alone; None if the deadline came first."""
    material = _detected(spec, device, session) if spec["dataset"] in HOLOGRAMS else _stained(spec, device)
    if material is None:
        return None
    train = _drawn(spec, material) if spec["bags"] == "drawn" else material.train
    train = _relabelled(train, spec["labels"], material.labels, axis_seed(spec["seed"], "labels"))
    return Material(**{**vars(material), "train": train})


def _detected(spec: dict, device: torch.device, session: dict) -> Material | None:
    holograms = holograms_of(spec, device)
    embedding = embedding_of(spec, holograms, device, session)
    if embedding is None:
        return None
    offsets, encodings = embedding.found.offsets, torch.from_numpy(embedding.found.features)
    train, validation = (image_bags(holograms, split, offsets) for split in (0, 1))
    features = whitening(encodings[torch.from_numpy(train.indices)])(encodings)
    test = image_bags(holograms, 2, offsets, by_subject=True)
    checksums = {spec["dataset"]: holograms.sha256()}
    return Material(Inputs(features, device), embedding.labels, train, validation, test, checksums)


def _stained(spec: dict, device: torch.device) -> Material:
    cells = stained_cells(spec["network"], device)
    donors = draw_donors(spec, cells.labels, cells.n_train)
    train, validation, test = (donors[split].bags for split in SPLITS)
    test = Bags(test.indices, test.offsets, donors["test"].truth)
    known = cells.inputs.batch(np.arange(len(cells.labels)))
    features = _principal(known.flatten(1), cells.n_train, spec["components"])
    return Material(Inputs(features, device), cells.labels, train, validation, test, cells.checksums)


def _principal(features: torch.Tensor, n_train: int, components: int) -> torch.Tensor:
    """The leading principal components of (M, F) features, of mean 0 and unit variance over the first `n_train`."""
    centred = features - features[:n_train].mean(0)
    _, lengths, directions = torch.linalg.svd(centred[:n_train], full_matrices=False)
    return centred @ directions[:components].T * (n_train**0.5 / lengths[:components])


def _drawn(spec: dict, material: Material) -> Bags:
    """Bags of `bag_size` training instances of known class: proportions from a Dirichlet distribution around their
    mean over all bags, the instances by class multinomially from them, with replacement."""
    pool = material.train.indices[material.labels[material.train.indices] >= 0]
    pools = [pool[material.labels[pool] == k] for k in range(len(CLASSES))]
    mean, size, n = material.train.proportions.mean(0), spec["bag_size"], spec["drawn_bags"]
    rng = np.random.Generator(np.random.PCG64(axis_seed(spec["seed"], "drawn", size, n)))
    proportions = rng.dirichlet(spec["bag_concentration"] * mean, n)
    counts = [rng.multinomial(size, row) for row in proportions]
    indices = [rng.choice(own, m) for row in counts for own, m in zip(pools, row, strict=True)]
    return Bags(np.concatenate(indices), size * np.arange(n + 1), proportions)


def _relabelled(bags: Bags, kind: str, labels: np.ndarray, seed: int) -> Bags:
    """The bags with other proportions: the same for all, those of another bag, or those of their own cells."""
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
