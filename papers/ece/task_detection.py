"""Detect with few annotations (Section 4.4): one run of Tables 1 to 3 and of Figures 3 and 5."""

from __future__ import annotations

import math

import numpy as np
import torch

from papers.ece import metrics
from papers.ece.course import taught
from papers.ece.criteria import criterion_of
from papers.ece.data import Material, material_of
from papers.ece.detection.criterion import AnchorTerms
from papers.ece.detection.method import OVERLAP, Detector, boxes_of
from papers.ece.detection.network import Network
from papers.ece.weak import rounds_of, trained
from shared.config import Spec
from shared.datasets import DatasetError
from shared.datasets.localised.localised import UNKNOWN
from shared.training import Result, axis_seed

CONFIDENT = 0.5  # what counts as a detection where no threshold is chosen


def detect(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Learn from the annotated objects of the training images, judge on all objects of the test images.

    Of weak supervision, `pseudo_labels` is the number of boxes it has added for each annotated one.

    Raises
    ------
    DatasetError
        From `material_of` and `boxes_of`, and for early-learning regularisation, which is not defined here.
    """
    if spec.loss == "elr":
        raise DatasetError("early-learning regularisation remembers predictions by pixel: no detection of it; use weak")
    material = material_of(spec)
    data, train = material.data, material.numbers(0)
    given = boxes_of(data, material.annotated)
    done = trained(
        rounds_of(spec),
        [given[i] for i in train],
        lambda boxes, number, own: fit_detector(spec, material, boxes, number, device, own),
        lambda boxes, method: with_pseudo_boxes(boxes, method.found([data.images[i] for i in train]), spec.tau),
        session,
    )
    if done is None:
        return None
    method, fitted, boxes, seconds = done
    last, oracle, found = measure(method, material, spec.match_radius)
    kept = fitted["curves"]["train_kept"]
    last["kept"] = float(np.mean(kept[-math.ceil(len(kept) / 6) :]))
    if spec.loss == "weak":
        last["pseudo_labels"] = sum(map(len, boxes)) / int(material.annotated.sum()) - 1
    curves = fitted["curves"]
    if "shown" in spec:
        curves = {**curves, "shown": corner(material, found, spec.shown)}
    return Result(
        {"last": last, "oracle": oracle},
        curves=curves,
        bags=material.seen,
        data={spec.dataset: data.sha256()},
        cluster=material.cluster,
        cost={"train_s": round(seconds, 3)},
        says=f"F1 {last['f1']:.3f}, {last['f1_tuned']:.3f} at {last['threshold']:.2f}",
        method=method,
    )


def measure(detector: Detector, material: Material, radius: float) -> tuple[dict, dict, metrics.Found]:
    """Return (metrics, those at the threshold best on test images, detections in the test images).

    `f1` counts detections with p >= .5; the threshold of `f1_tuned` is the best on the complete labels of the
    validation images, and its detections are judged at half and double the radius and by IoU as well. `f1_everything`
    is that of detections on a grid with the spacing `radius`.
    """
    data, target = material.data, material.target
    validation, test = material.numbers(1), material.numbers(2)
    held, found = (detector.found([data.images[i] for i in numbers]) for numbers in (validation, test))
    threshold, _ = metrics.best_threshold(held, data, validation, target, radius)
    sure, tuned = found.above(CONFIDENT), found.above(threshold)

    def judged(some: metrics.Found, wanted: np.ndarray = target, **limit) -> dict[str, float]:
        return metrics.scores(some, data, test, wanted, **({"radius": radius} | limit))

    last = judged(sure)
    last |= {f"{name}_tuned": value for name, value in judged(tuned).items()} | {"threshold": threshold}
    last |= metrics.radius_sensitivity(tuned, data, test, target, radius)
    last["f1_iou"] = judged(tuned, iou=0.5)["f1"]
    in_test = (material.splits == 2)[data.owners()]
    last["found_share"] = len(sure.scores) / max(int((target & in_test).sum()), 1)
    trivial = {"": tuned, "_everything": metrics.everything(data, test, radius), "_nothing": metrics.nothing(len(test))}
    others = _others(material, test)
    for name, some in trivial.items():
        if name:
            last[f"f1{name}"] = judged(some)["f1"]
        if others.any():
            recall_others = judged(some, others)["recall"]
            last[f"recall_others{name}"] = recall_others
            last[f"exclusive_recall{name}"] = metrics.exclusive_recall(judged(some)["recall"], recall_others)
    best, f1 = metrics.best_threshold(found, data, test, target, radius)
    return last, {"f1": f1, "threshold": best}, found


def along(detector: Detector, material: Material, seen: list[np.ndarray], radius: float) -> dict[str, float]:
    """Return what tables compare, of the images numbered `seen`, of validation (for the threshold) and of test."""
    data, target, (validation, test) = material.data, material.target, seen
    held, found = (detector.found([data.images[i] for i in numbers]) for numbers in seen)
    threshold, _ = metrics.best_threshold(held, data, validation, target, radius)
    tuned = found.above(threshold)
    sure, best = (metrics.scores(some, data, test, target, radius) for some in (found.above(CONFIDENT), tuned))
    scores, others = {"f1": sure["f1"], "f1_tuned": best["f1"]}, _others(material, test)
    if others.any():
        recall_others = metrics.scores(tuned, data, test, others, radius)["recall"]
        scores["exclusive_recall"] = metrics.exclusive_recall(best["recall"], recall_others)
    return scores


def _others(material: Material, numbers: np.ndarray) -> np.ndarray:
    """(M,) bool: objects of other classes that are known, in the images numbered so."""
    data = material.data
    known = np.array([name != UNKNOWN for name in data.class_names])
    return ~material.target & known[data.classes] & np.isin(data.owners(), numbers)


def corner(material: Material, found: metrics.Found, side: int) -> dict[str, list]:
    """Return the upper left corner of the first test image, the boxes in it and those found with `CONFIDENT`.

    Boxes are top, left, bottom, right of what has its centre in the corner.
    """
    data, number = material.data, material.numbers(2)[0]
    rows = np.arange(*data.offsets[number : number + 2])
    rows = rows[material.target[rows]]
    ours = slice(0, found.offsets[1])
    sure = found.scores[ours] >= CONFIDENT
    panels = {"image": data.images[number][:side, :side].tolist()}
    for name, boxes in (("true", data.boxes[rows]), ("found", found.boxes[ours][sure])):
        inside = ((boxes[:, :2] + boxes[:, 2:]) / 2 < side).all(1)
        panels[name] = np.round(boxes[inside].astype(float), 1).tolist()
    return panels


def fit_detector(
    spec: Spec,
    material: Material,
    boxes: list[np.ndarray],
    number: int,
    device: torch.device,
    session: dict,
) -> tuple[Detector, dict] | None:
    """Train a new detector on boxes (k, 4) of the training images; `number` is the round of weak supervision.

    Returns
    -------
    (method, what `fit` returns), or None if the deadline came first.
    """

    def make(images: list[np.ndarray], updates: int) -> Detector:
        network = Network(spec.detector, spec.detector_width, AnchorTerms(criterion_of(spec))).to(device)
        return Detector(network, spec.learning_rate, images, boxes, spec.crop, updates)

    def scores(method: Detector, seen: list[np.ndarray]) -> dict:
        return along(method, material, seen, spec.match_radius)

    return taught(spec, material, axis_seed(spec.seed, "detector", number), device, session, make, scores)


def with_pseudo_boxes(boxes: list[np.ndarray], found: metrics.Found, tau: float) -> list[np.ndarray]:
    """Return the boxes (k, 4) of each image and, after them, those found with p > tau that are new (Section 4.2).

    A box is another object if its IoU with all that are known is below `OVERLAP`. p is ultralytics' score, learned to
    be the probability of an object times the overlap of its box: it is seldom near 1.
    """
    grown = []
    for known, start, end in zip(boxes, found.offsets[:-1], found.offsets[1:], strict=True):
        new = found.boxes[start:end][found.scores[start:end] > tau]
        shared = np.minimum(new[:, None, 2:], known[:, 2:]) - np.maximum(new[:, None, :2], known[:, :2])
        shared = shared.clip(0).prod(2)
        areas = [(some[:, 2:] - some[:, :2]).prod(1) for some in (new, known)]
        iou = shared / (areas[0][:, None] + areas[1] - shared)
        grown.append(np.concatenate([known, new[(iou < OVERLAP).all(1)]]))
    return grown
