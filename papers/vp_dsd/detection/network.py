"""The Deep Sparse Detector rebuilds the hologram by a small head from a sparse encoding volume (Section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers.vp_dsd.detection.layers import (
    ComplexConvs,
    SparseComplexConv,
    local_log_softmax,
    patch_max,
    to_complex,
    to_real,
)
from papers.vp_dsd.imaging.optics import Optics

MOMENTUM = 0.1  # of the running mean of ||A||^2


@dataclass(frozen=True)
class Sites:
    """Say where a batch's M detections are, image after image.

    Attributes
    ----------
    image, row, column : (M,) int64, on the device.
    score : (M,), the heat map there, with its gradient.
    """

    image: Tensor
    row: Tensor
    column: Tensor
    score: Tensor


def peaks(heat: Tensor, threshold: float, nms: int) -> Sites:
    """Find pixels of (N, H, W) heat maps, `threshold` or more, that are the largest of the nms x nms patch around."""
    with torch.no_grad():
        image, row, column = ((heat >= threshold) & (heat == patch_max(heat, nms))).nonzero(as_tuple=True)
    return Sites(image, row, column, heat[image, row, column])


def at(volume: Tensor, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return (M, C) values of (N, C, H, W) at M sites."""
    return volume[image, :, row, column]


def object_images(holograms: Tensor, optics: Optics, unit: float | Tensor) -> Tensor:
    """Return I = T(H) in units of the holograms' rms, (n, L, L) -> (n, 2, L, L) float32, real and imaginary parts."""
    return to_real(optics.to_object(holograms / unit)[:, None].to(torch.complex64))


class DeepSparseDetector(nn.Module):
    """Chain encoder, LocalSoftMax, threshold and NMS, reconstruction head; T first and T^-1 last.

    Images are taken as periodic, as the propagation is. The head has no bias: no cell, no light.

    One deviation: lambda is not fixed. The encodings' scale is free, so under a fixed lambda it grows as the network
    trains, until the softmax is sharp everywhere and every speck passes the threshold. Here lambda^2 ||A||^2 has a
    fixed mean over all pixels: ``lambda^2 = strength / level``, with `level` the running mean of ||A||^2 in training.

    Parameters
    ----------
    maps : d, complex numbers in an encoding.
    encoder_kernels, head_kernels : odd sizes of the filters, a layer each, two or more in the head.
    patch : m, odd, of the LocalSoftMax, in pixels.
    nms : odd, of the non-maximum suppression, in pixels.
    """

    unit: Tensor
    level: Tensor
    strength: Tensor

    def __init__(
        self,
        optics: Optics,
        maps: int = 8,
        encoder_kernels: Sequence[int] = (5, 5, 3),
        head_kernels: Sequence[int] = (5, 5, 3),
        patch: int = 9,
        nms: int = 9,
    ):
        super().__init__()
        for name, size in (("patch", patch), ("nms", nms)):
            if size % 2 == 0:
                raise ValueError(f"{name} must be odd to have a centre, got {size}")
        self.optics, self.patch, self.nms = optics, patch, nms
        first, *rest = head_kernels
        self.encoder = ComplexConvs((1, *[maps] * len(encoder_kernels)), encoder_kernels)
        self.first = SparseComplexConv(maps, maps, first)
        self.head = ComplexConvs((*[maps] * len(rest), 1), rest, bias=False)
        for name in ("unit", "level", "strength"):
            self.register_buffer(name, torch.ones(()))

    def image(self, holograms: Tensor) -> Tensor:
        """Return I, (N, L, L) holograms -> (N, 2, L, L): T(H) in units of their rms, real and imaginary parts."""
        return object_images(holograms, self.optics, self.unit)

    def encode(self, holograms: Tensor) -> Tensor:
        """Return A, (N, L, L) -> (N, 2 d, L, L): real, then imaginary parts."""
        return self.encoder(self.image(holograms))

    def heat(self, volume: Tensor) -> Tensor:
        """Return H_A, (N, 2 d, L, L) -> (N, L, L) in (0, 1]."""
        return local_log_softmax(volume.square().sum(1) * (self.strength / self.level), self.patch).exp()

    def sites(self, volume: Tensor, threshold: float) -> Sites:
        """Return the support of the mask M_A."""
        return peaks(self.heat(volume), threshold, self.nms)

    def forward(self, holograms: Tensor, threshold: float) -> tuple[Tensor, Sites]:
        """Return ((N, L, L) reconstruction in units of rms, detections) of (N, L, L) holograms."""
        volume = self.encode(holograms)
        if self.training:
            self.level.lerp_(volume.detach().square().sum(1).mean(), MOMENTUM)
        sites = self.sites(volume, threshold)
        where = (sites.image, sites.row, sites.column)
        kept = sites.score[:, None] * at(volume, *where)
        copies = self.first(kept, where, (len(volume), *volume.shape[2:]))
        image = to_complex(self.head(F.relu(copies)))[:, 0]
        return self.optics.to_sensor(image).real, sites

    def loss(self, holograms: Tensor, threshold: float) -> tuple[Tensor, Sites]:
        """Return (mean squared error of the rebuilt holograms in units of their mean square, detections).

        The real part is taken before comparing: T is unitary, so on complex holograms the loss would be that of the
        images, and the small filters of the head would have to explain the twin image as well.
        """
        rebuilt, sites = self(holograms, threshold)
        return F.mse_loss(rebuilt, holograms / self.unit), sites

    @torch.no_grad()
    def calibrate(self, holograms: Tensor, strength: float = 2.0) -> None:
        """Set the unit, the rms of `holograms` (N, L, L), and the level, the mean of their ||A||^2, before training.

        `strength` is the mean of lambda^2 ||A||^2 from here on: the higher, the more is detected. With too little
        there is no detection to learn from.
        """
        if not len(holograms):
            raise ValueError("no hologram to calibrate with; give at least one of the training images")
        self.strength.fill_(strength)
        self.unit.copy_(holograms.square().mean().sqrt())
        self.level.copy_(self.encode(holograms).square().sum(1).mean())
