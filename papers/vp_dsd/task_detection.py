"""Find cells (Section 3, "Detection results")."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from papers.vp_dsd.data import about, holograms_of, image_bags, recipe_of
from papers.vp_dsd.detection.concentration import concentration_scores, concentrations
from papers.vp_dsd.detection.csc import learn
from papers.vp_dsd.detection.embeddings import Embedding, embedding_of
from papers.vp_dsd.detection.matching import best_threshold, match, of_images, score, true_labels
from papers.vp_dsd.detection.method import amplitude_peaks, softmax_peaks
from papers.vp_dsd.imaging.holograms import CLASSES, Holograms
from papers.vp_dsd.imaging.simulator import purified
from papers.vp_dsd.learning.donors import assigned_proportions, proportion_error
from shared.config import Spec
from shared.datasets import DatasetError
from shared.training import Result, axis_seed

CANDIDATES = {"local_softmax": 0.05, "amplitude": 1.0}  # thresholds below any that could be chosen


def detect(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Judge the detector by cells and by concentrations, as far as these are known."""
    holograms = holograms_of(spec, device)
    if concentrations(holograms) is None:
        raise DatasetError(f"{spec.dataset} says nothing of its cells or concentrations: detections cannot be judged")
    embedding = embedding_of(spec, holograms, device, session)
    if embedding is None:
        return None
    found = concentration_scores(np.diff(embedding.found.offsets), holograms)
    if holograms.cells is not None:
        found |= beside_baselines(spec, holograms, embedding)
    return Result(
        {"last": found | about(holograms)},
        curves=embedding.curves,
        data={spec.dataset: holograms.sha256()},
        cost={"train_s": round(embedding.seconds, 3)},
        says=f"F1 {found['f1']:.1f}" if "f1" in found else f"concentration {found['concentration_error']:.1f} % off",
        method=embedding.network,
    )


def beside_baselines(spec: Spec, holograms: Holograms, embedding: Embedding) -> dict[str, float]:
    """Score the detector, and local softmax and a plain threshold at their best F1 on validation images, in percent."""
    radius, side = spec.match_radius, holograms.images.shape[1] if holograms.simulated else None
    nms = {"nms": spec.nms}
    sizes = {"local_softmax": {"patch": spec.patch, **nms}, "amplitude": nms}
    validation, test = holograms.numbers(1), holograms.numbers(2)
    found = score(of_images(embedding.found, test), holograms, test, radius)
    unit = float(embedding.network.unit)
    for name, peaks in (("local_softmax", softmax_peaks), ("amplitude", amplitude_peaks)):
        held, ours = (
            peaks(holograms.images[some], holograms.optics, unit, CANDIDATES[name], **sizes[name])
            for some in (validation, test)
        )
        threshold = best_threshold(held, of_images(holograms.cells, validation), radius, side)
        ours, number = ours.above(threshold), np.zeros(len(holograms.images), np.int64)
        number[validation], number[test] = np.diff(held.above(threshold).offsets), np.diff(ours.offsets)
        scored = score(ours, holograms, test, radius) | concentration_scores(number, holograms)
        found |= {f"{name}_{key}": value for key, value in scored.items()}
        found[f"{name}_threshold"] = threshold
    return found


def csc(spec: Spec, device: torch.device, session: dict) -> Result:
    """Judge CSC with proportion priors: cells, their classes, proportions, concentrations, as far as these are known.

    It stops as is best on validation images; where their cells are not known, when a cell no longer raises the
    posterior. Nothing in it is drawn: of a recorded set all seeds give the same, to be paired with other methods'.
    """
    holograms, started = holograms_of(spec, device), time.time()
    alone: Sequence[np.ndarray] | None = holograms.purified
    seed = axis_seed(spec.seed, "holograms")
    if holograms.simulated:
        recipe = recipe_of(spec)
        alone = [purified(recipe, k, spec.purified_images, seed, device).images for k in range(len(CLASSES))]
    if alone is None:
        raise DatasetError(f"{spec.dataset} has no images of purified cells (purified.csv): CSC cannot learn its atoms")
    training, validation, test = (holograms.images[holograms.numbers(split)] for split in range(3))
    unit, shares = float(np.sqrt(np.square(training).mean())), holograms.proportions[holograms.splits == 0]
    dictionary = learn(alone, shares, holograms.optics, unit, spec.atoms)
    seconds = time.time() - started
    held, _ = dictionary.code(validation, 0.0)
    stop, side = 0.0, holograms.images.shape[1] if holograms.simulated else None
    if holograms.cells is not None:
        stop = best_threshold(held, of_images(holograms.cells, holograms.numbers(1)), spec.match_radius, side)
    found, labels = dictionary.code(test, stop)
    number = np.zeros(len(holograms.images), np.int64)  # of cells, in all images; none are looked for in training ones
    number[holograms.numbers(1)] = np.diff(held.above(stop).offsets)
    number[holograms.numbers(2)] = np.diff(found.offsets)
    metrics = concentration_scores(number, holograms) | about(holograms)
    if holograms.cells is not None:
        metrics |= score(found, holograms, holograms.numbers(2), spec.match_radius)
        cells = of_images(holograms.cells, holograms.numbers(2))
        truth = true_labels(match(found, cells, spec.match_radius, side), cells)
        by_class = {k: 100 * float((labels[truth == k] == k).mean()) for k in np.unique(truth[truth >= 0])}
        metrics |= {f"accuracy_{CLASSES[k]}": value for k, value in by_class.items()}
        metrics["class_accuracy"] = float(np.mean(list(by_class.values())))
    number[holograms.splits[holograms.subjects] != 2] = 0  # the bags that follow are the test subjects' alone
    bags = image_bags(holograms, 2, np.concatenate([[0], number.cumsum()]), by_subject=True)
    predicted = assigned_proportions(np.eye(len(CLASSES))[labels[bags.indices]], bags.offsets)
    error = proportion_error(predicted, bags.proportions)
    metrics |= {"error": error.pop("average"), **{f"error_{name}": value for name, value in error.items()}}
    return Result(
        {"last": {**metrics, "stop": stop}},
        data={spec.dataset: holograms.sha256()},
        cost={"train_s": round(seconds, 3)},
        says=f"error {metrics['error']:.1f}",
    )


def cellpose(spec: Spec, device: torch.device, session: dict) -> Result:
    """Refuse: Cellpose and its weights are no part of this environment."""
    raise DatasetError("Cellpose's row needs its pre-trained weights, which this environment does not have")


DETECTORS = {"dsd": detect, "csc": csc, "cellpose": cellpose}


def localise(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Find the cells of test images as the spec says, and judge what is found; None if the deadline came first."""
    if spec.detector not in DETECTORS:
        raise ValueError(f"detector {spec.detector!r} is none of {', '.join(DETECTORS)}")
    return DETECTORS[spec.detector](spec, device, session)
