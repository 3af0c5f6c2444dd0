"""Find cells as points with encodings: train the Deep Sparse Detector, read it out, and its baselines (Section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from papers.vp_dsd.detection.layers import local_log_softmax, to_complex
from papers.vp_dsd.detection.network import DeepSparseDetector, Sites, at, peaks
from papers.vp_dsd.imaging.optics import Optics
from shared.bags import Bags
from shared.methods import Batch


@dataclass(frozen=True)
class Detections:
    """Hold M points in n images, image after image, on the host.

    Attributes
    ----------
    offsets : (n + 1,) int64; an image may have none.
    centres : (M, 2) float32, row and column in pixels.
    features : (M, d) complex64 encodings; d = 0 where the method makes none.
    scores : (M,) float32, what thresholds are put on.
    """

    offsets: np.ndarray
    centres: np.ndarray
    features: np.ndarray
    scores: np.ndarray

    def above(self, threshold: float) -> Detections:
        """Return those with a score of at least `threshold`."""
        kept = self.scores >= threshold
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets]
        return Detections(offsets, self.centres[kept], self.features[kept], self.scores[kept])


class Detector:
    """Train `DeepSparseDetector` by `shared.training.fit`: a bag is one image, its proportions are not read.

    Gradients are clipped to norm 1. The threshold of the mask rises linearly over the first `ramp` updates: with the
    final one from the start, nothing may be detected and nothing learned.

    Parameters
    ----------
    thresholds : (first, final) threshold of the heat map.
    """

    def __init__(
        self,
        network: DeepSparseDetector,
        optimiser: torch.optim.Optimizer,
        ramp: int,
        thresholds: tuple[float, float] = (0.3, 0.5),
    ):
        self.network, self.optimiser, self.ramp, self.thresholds, self.step = network, optimiser, ramp, thresholds, 0

    @property
    def threshold(self) -> float:
        """Return the threshold of the next update."""
        first, final = self.thresholds
        return first + (final - first) * min(1.0, self.step / max(self.ramp, 1))

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take a step; `loss` is the share of the holograms' mean square left unexplained, `detections` an image's."""
        self.network.train()
        loss, sites = self.network.loss(batch.x, self.threshold)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return {"loss": loss.detach(), "detections": torch.tensor(len(sites.score) / len(batch.x))}

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return the (N, L, L) masks M_A of (N, L, L) holograms at the final threshold."""
        self.network.eval()
        sites = self.network.sites(self.network.encode(x), self.thresholds[1])
        mask = torch.zeros_like(x)
        mask[sites.image, sites.row, sites.column] = sites.score
        return mask

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def state_dict(self) -> dict:
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}

    def load_state_dict(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def alone(numbers: np.ndarray) -> Bags:
    """Make each of the images numbered so a bag of its own, for `Detector`."""
    return Bags(np.asarray(numbers), np.arange(len(numbers) + 1), np.ones((len(numbers), 1)))


def embed(
    detector: Detector, images: np.ndarray | Tensor, batch: int = 8, threshold: float | None = None
) -> Detections:
    """Detect and encode all cells of `images` (n, L, L), in one forward pass a batch.

    Features are A at the detections, not the masked A' = M A: the mask is the detector's confidence, not the cell's
    looks. `threshold` is the final one of training unless told.
    """
    network = detector.network.eval()
    threshold = detector.thresholds[1] if threshold is None else threshold

    def find(x: Tensor) -> tuple[Sites, Tensor]:
        volume = network.encode(x)
        sites = network.sites(volume, threshold)
        return sites, to_complex(at(volume, sites.image, sites.row, sites.column))

    return _collect(find, images, next(network.parameters()).device, batch)


def amplitude_peaks(
    images: np.ndarray | Tensor, optics: Optics, unit: float, threshold: float, nms: int = 9, batch: int = 8
) -> Detections:
    """Find maxima of |I| above `threshold`, I = T(H) of holograms (n, L, L) in multiples of `unit`: a baseline."""
    return _baseline(lambda image: image.abs(), images, optics, unit, threshold, nms, batch)


def softmax_peaks(
    images: np.ndarray | Tensor,
    optics: Optics,
    unit: float,
    threshold: float,
    patch: int = 9,
    nms: int = 9,
    batch: int = 8,
) -> Detections:
    """Apply LocalSoftMax of |I|^2, threshold and NMS, the detector's own rule, to what nobody encoded: a baseline."""
    return _baseline(
        lambda image: local_log_softmax(image.abs().square(), patch).exp(), images, optics, unit, threshold, nms, batch
    )


def _baseline(rule: Callable[[Tensor], Tensor], images, optics, unit, threshold, nms, batch) -> Detections:
    def find(x: Tensor) -> tuple[Sites, Tensor]:
        sites = peaks(rule(optics.to_object(x / unit)), threshold, nms)
        return sites, torch.zeros(len(sites.score), 0, dtype=torch.complex64)

    return _collect(find, images, torch.as_tensor(images).device, batch)


@torch.no_grad()
def _collect(find: Callable, images, device: torch.device, batch: int) -> Detections:
    """Collect what `find` says of (N, L, L) holograms, batch after batch."""
    counts, centres, features, scores = [np.zeros(1, np.int64)], [], [], []
    for start in range(0, len(images), batch):
        x = torch.as_tensor(images[start : start + batch], device=device)
        sites, encodings = find(x)
        counts.append(torch.bincount(sites.image, minlength=len(x)).cpu().numpy())
        centres.append(torch.stack([sites.row, sites.column], 1).float().cpu().numpy())
        features.append(encodings.cpu().numpy())
        scores.append(sites.score.cpu().numpy())
    offsets = np.concatenate(counts).cumsum()
    return Detections(offsets, *(np.concatenate(parts) for parts in (centres, features, scores)))
