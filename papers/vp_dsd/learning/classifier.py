"""Classify (Section 2.2): real features of complex encodings, whitened, under a small perceptron."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.config import Spec
from shared.training import axis_seed, seed_torch

FLOOR = 1e-3  # of the mean eigenvalue: directions of next to no variance are not blown up


@dataclass(frozen=True)
class Whitening:
    """Map (M, d) complex encodings to (M, 3 d) float32 features; made by `whitening`."""

    mean: Tensor
    matrix: Tensor

    def __call__(self, encodings: Tensor) -> Tensor:
        features = _real(encodings)
        return ((features - self.mean.to(features)) @ self.matrix.to(features)).float()


def whitening(encodings: Tensor) -> Whitening:
    """Return the map that gives these (M, d) encodings, the training set's, features of mean 0 and unit covariance.

    The features are the real parts, the imaginary parts and the magnitudes. The paper feeds the encodings as they are,
    as far as it says; unwhitened, what tells the rare class is lost in directions of small variance.

    Raises
    ------
    ValueError
        Naming the encoding that is not finite; and as `symmetric_root` does.
    """
    return Whitening(*symmetric_root(_real(encodings)))


def symmetric_root(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (F,) of (M, F) features and the symmetric matrix (F, F) that whitens them (ZCA).

    Eigenvalues of the covariance count as no smaller than 1e-3 of their mean.

    Raises
    ------
    ValueError
        When there are fewer than two rows or all are equal.
    """
    if len(features) < 2:
        raise ValueError(f"whitening needs two encodings or more, got {len(features)}: too few cells are detected")
    mean = features.mean(0)
    values, vectors = torch.linalg.eigh((features - mean).T @ (features - mean) / len(features))
    if not values.mean() > 0:
        raise ValueError(f"all {len(features)} encodings are equal: nothing to whiten")
    scale = values.clamp_min(FLOOR * values.mean()).rsqrt()
    return mean, (vectors * scale) @ vectors.T


def _real(encodings: Tensor) -> Tensor:
    """Return Re, Im and abs, (M, d) complex -> (M, 3 d) float64."""
    if encodings.dim() != 2 or not encodings.is_complex():
        raise ValueError(f"encodings must be (M, d) and complex, got {tuple(encodings.shape)} in {encodings.dtype}")
    wrong = (~encodings.isfinite()).any(1).nonzero().flatten()[:1].tolist()
    if wrong:
        raise ValueError(f"encoding {wrong[0]} is not finite: {encodings[wrong[0]].tolist()}")
    return torch.cat([encodings.real, encodings.imag, encodings.abs()], 1).double()


class Classifier(nn.Module):
    """Map (N, n_inputs) features to (N, n_classes) logits through two hidden layers with ReLU.

    `features` are the units of the second, `last` takes them to the logits. "Fully connected layers followed by ReLU"
    (Section 2.2); number and width are ours.
    """

    def __init__(self, n_inputs: int, hidden: int, n_classes: int):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(n_inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.last = nn.Linear(hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


def network_of(spec: Spec, n_inputs: int, n_classes: int, device: torch.device) -> Classifier:
    """Return the classifier of a spec, initialised by its seed; all losses of a seed start from the same one."""
    seed_torch(axis_seed(spec.seed, "classifier"), device)
    return Classifier(n_inputs, spec.hidden, n_classes).to(device)
