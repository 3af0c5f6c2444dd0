"""Take a run of segmentation from spec to numbers (Figure 4, Tables 1 and 2; the README of the authors' code)."""

from __future__ import annotations

import numpy as np
import torch

from papers.ece import metrics
from papers.ece.course import taught
from papers.ece.criteria import criterion_of
from papers.ece.data import Material, material_of
from papers.ece.loss import foreground
from papers.ece.segmentation.method import Segmenter, predict_map
from papers.ece.weak import rounds_of, trained
from shared.config import Spec
from shared.training import Result, axis_seed


def segment(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Learn from the annotated objects of the training images, judge on all objects of the test images.

    Of weak supervision, `pseudo_labels` is the number of pixels it has added for each annotated one.

    Raises
    ------
    DatasetError
        From `material_of`, also where no object is annotated.
    ValueError
        When weak supervision has a tau that no prediction can exceed.
    """
    highest = float(foreground(torch.tensor([[-1e3, 1e3]]), spec.head))
    if spec.loss == "weak" and spec.tau >= highest:
        raise ValueError(f"tau {spec.tau} is never exceeded: p ends at {highest:.3f} with head {spec.head!r}")
    material = material_of(spec)
    train = material.numbers(0)
    given = [material.data.masks(i, material.annotated) for i in train]
    done = trained(
        rounds_of(spec),
        given,
        lambda masks, number, own: fit_network(spec, material, masks, number, device, own),
        lambda masks, method: with_pseudo_labels(masks, method, material, spec),
        session,
    )
    if done is None:
        return None
    method, fitted, masks, seconds = done
    found, shown = measure(method, material, spec)
    kept = fitted["curves"]["train_kept"]
    found["last"]["kept"] = float(np.mean(kept[-max(1, len(kept) // 6) :]))
    if spec.loss == "weak":
        pixels = [sum(int(mask.sum()) for mask in some) for some in (given, masks)]
        found["last"]["pseudo_labels"] = pixels[1] / pixels[0] - 1
    return Result(
        found,
        curves=fitted["curves"] | shown,
        bags=material.seen,
        data={spec.dataset: material.data.sha256()},
        cluster=material.cluster,
        cost={"train_s": round(seconds, 3)},
        says=f"DICE {found['last']['dice']:.3f}",
        method=method,
    )


def fit_network(
    spec: Spec, material: Material, masks: list[np.ndarray], number: int, device: torch.device, session: dict
) -> tuple[Segmenter, dict] | None:
    """Train a new network on masks (H, W) bool of the training images; `number` is the round of weak supervision.

    Returns
    -------
    (method, what `fit` returns), or None if the deadline came first.
    """
    from papers.ece.segmentation.network import unet  # seconds, which only runs that train pay

    def make(images: list[np.ndarray], updates: int) -> Segmenter:
        network = unet(spec.encoder, spec.encoder_depth, spec.width)
        network = network.to(device, memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(network.parameters(), spec.learning_rate, fused=True)
        remembering = (spec.elr_beta, spec.elr_lambda) if spec.loss == "elr" else None
        return Segmenter(network, optimiser, criterion_of(spec), images, masks, spec.crop, updates, remembering)

    def scores(method: Segmenter, seen: list[np.ndarray]) -> dict:
        return judged(*mapped(method, material, seen, spec), spec.batch)

    return taught(spec, material, axis_seed(spec.seed, "segmenter", number), device, session, make, scores)


def with_pseudo_labels(masks: list[np.ndarray], method: Segmenter, material: Material, spec: Spec) -> list[np.ndarray]:
    """Return the masks of the training images and, of weak supervision, the pixels with p > tau (Section 4.2)."""
    maps = predict_map(method, [material.data.images[i] for i in material.numbers(0)], 2**spec.encoder_depth)
    return [mask | (p > spec.tau) for mask, p in zip(masks, maps, strict=True)]


def measure(method: Segmenter, material: Material, spec: Spec) -> tuple[dict, dict]:
    """Return (metrics by selection rule, curves: a corner of the first test image where the spec asks for one).

    "last" is the network after its last update, at p >= .5 (argmax) and at the threshold of best mean DICE on the
    complete labels of the validation images, which a user of sparse labels would not have; "oracle" takes the best
    threshold on the test images themselves.
    """
    maps, truth = mapped(method, material, [material.numbers(split) for split in (1, 2)], spec)
    predicted = [p >= 0.5 for p in maps[1]]
    everything = [np.ones_like(mask) for mask in truth[1]]
    last = judged(maps, truth, spec.batch) | {
        "dice_batch": metrics.dice_batch(predicted, truth[1]),
        "threshold": metrics.tuned_dice(maps[0], truth[0])[0],
        "positive_share": _share(predicted),
        "true_share": _share(truth[1]),
        "dice_everything": metrics.dice_per_image(everything, truth[1]),
        "dice_nothing": metrics.dice_per_image([~mask for mask in everything], truth[1]),
    }
    curves = {}
    if "shown" in spec:
        corner = np.s_[: spec.shown, : spec.shown]
        percent = np.round(100 * maps[1][0]).astype(int)
        panels = {"image": material.data.images[material.numbers(2)[0]], "true": 100 * truth[1][0], "found": percent}
        curves["shown"] = {name: panel[corner].tolist() for name, panel in panels.items()}
    return {"last": last, "oracle": {"dice": metrics.tuned_dice(maps[1], truth[1])[1]}}, curves


def mapped(method: Segmenter, material: Material, seen: list[np.ndarray], spec: Spec) -> tuple[list, list]:
    """Return (maps of the foreground, complete masks) of the images numbered `seen`, of validation and of test."""
    maps = [predict_map(method, [material.data.images[i] for i in some], 2**spec.encoder_depth) for some in seen]
    return maps, [[material.data.masks(i, material.target) for i in some] for some in seen]


def judged(maps: list, truth: list, batch: int) -> dict[str, float | None]:
    """Return the DICE of test images at argmax, by image and by batch, and at the threshold best on validation."""
    threshold, _ = metrics.tuned_dice(maps[0], truth[0])
    predicted = [p >= 0.5 for p in maps[1]]
    return {
        "dice": metrics.dice_per_image(predicted, truth[1]),
        "dice_batches": metrics.dice_batches(predicted, truth[1], batch),
        "dice_tuned": metrics.dice_per_image([p >= threshold for p in maps[1]], truth[1]),
    }


def _share(masks: list[np.ndarray]) -> float:
    return float(sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks))
