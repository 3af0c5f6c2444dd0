"""Predict a subject's proportions from images or from oracle detections (Section 3): one run of Table 3."""

from __future__ import annotations

import numpy as np
import torch

from papers.vp_dsd.data import about, holograms_of, image_bags
from papers.vp_dsd.detection.embeddings import embedding_of
from papers.vp_dsd.detection.layers import ComplexConvs
from papers.vp_dsd.detection.network import object_images
from papers.vp_dsd.imaging.crops import crops
from papers.vp_dsd.imaging.holograms import CLASSES
from papers.vp_dsd.learning.donors import assigned_proportions, proportion_error
from papers.vp_dsd.loss import LOSSES
from papers.vp_dsd.regression.networks import Encoded, network_of
from papers.vp_dsd.task_classification import selected, without_learning
from shared.bags import Bags
from shared.config import Spec
from shared.datasets import DatasetError
from shared.methods import LossMethod, Method
from shared.training import Inputs, Result, Schedule, axis_seed, bag_loss, fit, predictions, seed_torch

NUMBERS = {"cuda": 2**22, "cpu": 2**18}  # of the inputs, that are predicted from at once: what a CPU's cache can hold


def regress(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Train one predictor of Table 3 from the proportions of training subjects; None if the deadline came first.

    Regressors see whole images, each a bag of its own. Classifiers see crops around the true centres, in bags that are
    images; encoder and classifier are learned jointly. Start "pretrained" takes the encoder of the trained detector.
    """
    holograms = holograms_of(spec, device)
    unit = float(np.sqrt(np.square(holograms.images[holograms.numbers(0)]).mean()))
    encoder = None
    if spec.network == "encoder" and spec.start == "pretrained":
        embedding = embedding_of(spec, holograms, device, session)
        if embedding is None:
            return None
        encoder, unit = embedding.network.encoder, float(embedding.network.unit)
    elif spec.network == "encoder":
        seed_torch(axis_seed(spec.seed, "encoder"), device)
        encoder = ComplexConvs((1, *[spec.maps] * len(spec.encoder_kernels)), spec.encoder_kernels)
    seed_torch(axis_seed(spec.seed, "predictor"), device)
    network = network_of(spec, len(CLASSES), encoder).to(device)
    some = torch.from_numpy(holograms.images).split(8)  # what a CPU's cache can hold
    images = torch.cat([object_images(part, holograms.optics, unit) for part in some])
    offsets = None
    if spec.predictor == "oracle":
        if holograms.cells is None:
            raise DatasetError(f"{spec.dataset} says nothing of its cells: there are no oracle detections")
        offsets = holograms.cells.offsets
        side = network.size if isinstance(network, Encoded) else spec.crop
        images = crops(images, offsets, holograms.cells.centres, side)
    inputs = Inputs(images, device)
    train, validation = (image_bags(holograms, split, offsets) for split in (0, 1))
    test = image_bags(holograms, 2, offsets, by_subject=True)
    constant, mean = without_learning(train, test) | about(holograms), train.proportions.mean(0)
    if spec.predictor_images:
        train = train.take(np.linspace(0, len(train) - 1, min(spec.predictor_images, len(train))).astype(int))
    if isinstance(network, Encoded):
        network.start(inputs.batch(train.indices[:: max(1, len(train.indices) // spec.start_on)]))
    optimiser = torch.optim.Adam(network.parameters(), spec.predictor_learning_rate, fused=True)
    method = LossMethod(network, optimiser, LOSSES[spec.loss])
    fitted = fit(
        method,
        inputs,
        train,
        epochs=spec.predictor_epochs,
        bags_per_batch=spec.predictor_batch,
        schedule=Schedule("cosine", spec.predictor_learning_rate),
        seed=axis_seed(spec.seed, "predictor"),
        evaluate=lambda method: measure(method, inputs, test, validation, mean, spec.predictor == "oracle"),
        **session,
    )
    if fitted is None:
        return None
    metrics = selected(fitted["curves"], "test_error")
    metrics["last"] |= constant
    return Result(
        metrics,
        curves=fitted["curves"],
        bags={"train": train.summary(), "validation": validation.summary(), "test": test.summary()},
        data={spec.dataset: holograms.sha256()},
        cost={"train_s": round(fitted["train_s"], 3)},
        says=f"error {metrics['last']['error']:.1f}",
        method=method,
    )


def measure(
    method: Method, inputs: Inputs, test: Bags, validation: Bags, mean: np.ndarray, assigned: bool
) -> dict[str, float]:
    """Return the error of test subjects' proportions, in points: by hard assignment of cells or means over images.

    `test_from_mean` is how far the predictions are from the training subjects' `mean` (K,), as the error is measured.
    """
    at_once = max(1, NUMBERS.get(inputs.device.type, NUMBERS["cuda"]) // inputs.batch(test.indices[:1]).numel())
    p = predictions(method, inputs, test.indices, at_once).cpu().double().numpy()
    shares = assigned_proportions(p, test.offsets) if assigned else _means(p, test.offsets)
    error = proportion_error(shares, test.proportions)
    found = {"test_error": error.pop("average")} | {f"test_error_{name}": value for name, value in error.items()}
    found["test_from_mean"] = 100 * float(np.abs(shares - mean).mean())
    return found | {"validation_loss": bag_loss(method, inputs, validation, at_once)}


def _means(rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the mean of the rows (M, K) of each bag, (B, K)."""
    return np.add.reduceat(rows, offsets[:-1]) / np.diff(offsets)[:, None]
