"""Keep what the detector finds in holograms: it is trained once a dataset and seed, read by all runs that need it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from papers.vp_dsd.detection.matching import match, score, true_labels
from papers.vp_dsd.detection.method import Detections, Detector, alone, embed
from papers.vp_dsd.detection.network import DeepSparseDetector
from papers.vp_dsd.imaging.holograms import Holograms
from shared.config import Spec
from shared.training import Inputs, Schedule, axis_seed, checkpoint, fit, seed_torch

STAGE = "detector"  # the sections of config.yaml that a detector is keyed by
CALIBRATED_ON = 32  # training images that set the initial scale
SEEN = 100  # test images, at most, by which the course of training is followed


@dataclass(frozen=True)
class Embedding:
    """Hold a trained detector and what it found in all images of a dataset.

    Attributes
    ----------
    labels : (M,) int64, the class of the cell that each detection was matched with; -1 where there is none, or where
        cells are not known.
    curves, seconds : of the detector's training; where cells are known, with precision, recall and F1 of some test
        images after each epoch, in percent.
    """

    network: DeepSparseDetector
    found: Detections
    labels: np.ndarray
    curves: dict
    seconds: float


def network_of(spec: Spec, holograms: Holograms, device: torch.device) -> DeepSparseDetector:
    """Return a new network, initialised by the spec's seed."""
    seed_torch(axis_seed(spec.seed, "detector"), device)
    sizes = {**spec.section("encoder"), "head_kernels": spec.head_kernels, "patch": spec.patch, "nms": spec.nms}
    return DeepSparseDetector(holograms.optics, **sizes).to(device)


def course(detector: Detector, holograms: Holograms, radius: float) -> dict[str, float]:
    """Return precision, recall and F1 in percent on evenly spaced test images; nothing where cells are not known."""
    if holograms.cells is None:
        return {}
    numbers = holograms.numbers(2)
    numbers = numbers[:: max(1, -(-len(numbers) // SEEN))]
    scored = score(embed(detector, holograms.images[numbers]), holograms, numbers, radius)
    return {f"test_{name}": scored[name] for name in ("precision", "recall", "f1")}


def embedding_of(spec: Spec, holograms: Holograms, device: torch.device, session: dict) -> Embedding | None:
    """Train the detector of a spec and embed all images, or read what another run kept; None if the deadline came.

    Of the spec, nothing but the sections of the stage `detector` can be read here: they are what is kept by.
    """
    spec = spec.stage(STAGE)
    known = spec.canonical()
    if not holograms.simulated:
        known["data"] = holograms.sha256()
    own, kept = dict(session), checkpoint.common("detectors", known, session)
    network = network_of(spec, holograms, device)
    if kept:
        own["checkpoint"], own["key"] = kept.with_suffix(".part.pt"), kept.stem
        done = checkpoint.resume(kept, kept.stem)
        if done:
            network.load_state_dict(done["network"])
            found = Detections(**{name: array.numpy() for name, array in done["found"].items()})
            return Embedding(network, found, done["labels"].numpy(), done["curves"], done["seconds"])

    numbers, epochs, rate = holograms.numbers(0), spec.detector_epochs, spec.detector_learning_rate
    some = torch.from_numpy(holograms.images[numbers[:CALIBRATED_ON]])
    network.calibrate(some.to(device), strength=spec.strength)
    ramp = epochs * -(-len(numbers) // spec.detector_batch) // 2
    thresholds = spec.threshold_start, spec.threshold
    detector = Detector(network, torch.optim.Adam(network.parameters(), rate, fused=True), ramp, thresholds)
    fitted = fit(
        detector,
        Inputs(holograms.images, device),
        alone(numbers),
        epochs=epochs,
        bags_per_batch=spec.detector_batch,
        schedule=Schedule("cosine", rate),
        seed=axis_seed(spec.seed, "detector"),
        evaluate=lambda _: course(detector, holograms, spec.match_radius),
        **own,
    )
    if fitted is None:
        return None
    found = embed(detector, holograms.images)
    labels = np.full(len(found.centres), -1)
    if holograms.cells is not None:
        side = holograms.images.shape[1] if holograms.simulated else None
        labels = true_labels(match(found, holograms.cells, spec.match_radius, side), holograms.cells)
    embedding = Embedding(network, found, labels, fitted["curves"], fitted["train_s"])
    if kept:
        arrays = {name: torch.from_numpy(array) for name, array in asdict(found).items()}
        state = {"found": arrays, "labels": torch.from_numpy(labels), "network": network.state_dict()}
        checkpoint.keep(kept, {"key": kept.stem, **state, "curves": fitted["curves"], "seconds": fitted["train_s"]})
        own["checkpoint"].unlink(missing_ok=True)
    return embedding
