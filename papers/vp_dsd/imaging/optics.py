"""Propagate light between the plane of the cells and the sensor: the transformation T of Section 2.2.

The angular spectrum of plane waves (Goodman, Introduction to Fourier Optics, Section 3.10) on a periodic domain, where
it is exact, without the carrier exp(2 pi i z / wavelength). All lengths are in micrometres.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Optics:
    """Hold a lensless set-up: vacuum wavelength, pixel pitch and distance from cells to sensor, in micrometres.

    Raises
    ------
    ValueError
        If a length is not positive, or the pitch so fine that waves die out on the way and T has no inverse.
    """

    wavelength: float
    pitch: float
    distance: float

    def __post_init__(self):
        for name in ("wavelength", "pitch", "distance"):
            length = getattr(self, name)
            if not (math.isfinite(length) and length > 0):
                raise ValueError(f"{name} is {length} where a positive number of micrometres is needed")
        if self.pitch <= self.wavelength / math.sqrt(2):
            raise ValueError(
                f"pitch {self.pitch:g} um: T is invertible above wavelength / sqrt(2) = "
                f"{self.wavelength / math.sqrt(2):g} um only; average neighbouring pixels"
            )

    def wrapped(self, size: int) -> float:
        """Return how far the finest waves travel sideways, in halves of an image of `size` pixels a side.

        Above 1 they go round the periodic image: where the distance exceeds ``size pitch^2 / wavelength``.
        """
        return self.distance * self.wavelength / (size * self.pitch**2)

    def to_object(self, holograms: Tensor) -> Tensor:
        """Apply T: holograms (..., H, W), real or complex, to complex images in the plane of the cells."""
        return self._propagate(holograms, -1)

    def to_sensor(self, images: Tensor) -> Tensor:
        """Apply the inverse of T: complex images (..., H, W) to complex fields at the sensor; T is unitary."""
        return self._propagate(images, 1)

    def _propagate(self, fields: Tensor, direction: int) -> Tensor:
        double = fields.dtype in (torch.float64, torch.complex128)
        dtype = torch.complex128 if double else torch.complex64
        size = fields.shape[-2], fields.shape[-1]
        transfer = _cached_transfer(*astuple(self), *size, direction, dtype, fields.device)
        return torch.fft.ifft2(torch.fft.fft2(fields.to(dtype)) * transfer)


def propagate(fields: Tensor, wavelength: float, pitch: float, distances: Sequence[float]) -> Tensor:
    """Carry each complex field of (n, H, W) its own distance in micrometres; negative is back towards the source."""
    if len(fields) != len(distances):
        raise ValueError(f"{len(fields)} fields and {len(distances)} distances; each field needs one")
    ways = torch.as_tensor(distances, dtype=torch.float64, device=fields.device)
    phase = _phase(wavelength, pitch, *fields.shape[-2:]).to(fields.device) * ways[:, None, None]
    transfer = torch.polar(torch.ones_like(phase), phase).to(fields.dtype)
    return torch.fft.ifft2(torch.fft.fft2(fields) * transfer)


@functools.lru_cache(maxsize=8)
def _cached_transfer(wavelength, pitch, distance, height, width, direction, dtype, device) -> Tensor:
    phase = _phase(wavelength, pitch, height, width) * (direction * distance)
    return torch.polar(torch.ones_like(phase), phase).to(device, dtype)


@functools.lru_cache(maxsize=8)
def _phase(wavelength: float, pitch: float, height: int, width: int) -> Tensor:
    """Return the radians that each plane wave gains on the carrier per micrometre, (H, W) float64 as of `fft2`."""
    # float64: over a millimetre a wave turns hundreds of times, and float32 would keep four digits of the phase.
    rows, columns = (torch.fft.fftfreq(n, pitch, dtype=torch.float64) for n in (height, width))
    squared = rows[:, None] ** 2 + columns[None, :] ** 2
    # sqrt(a^2 - b) - a as -b / (sqrt(a^2 - b) + a): no cancellation
    return -2 * math.pi * squared / ((wavelength**-2 - squared).sqrt() + 1 / wavelength)
