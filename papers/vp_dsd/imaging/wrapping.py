"""Measure what wraps around in a simulated image: ``python -m papers.vp_dsd.imaging.wrapping``.

Simulated images are periodic, so that T is exact. A real sensor loses the light that leaves it and sees no copy of its
own cells: at 1,000 um the finest structures' light goes further sideways than half an image of 128 pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from papers.vp_dsd.imaging.bodies import draw, nuclei, transmission
from papers.vp_dsd.imaging.optics import propagate
from papers.vp_dsd.imaging.simulator import CLASSES, Recipe

ROOM = 2048  # pixels a side, in which nothing wraps


def wrapped(recipe: Recipe, label: int, seed: int, room: int = ROOM) -> float:
    """Return how far the periodic intensity is from the free one, rms over the free one's rms contrast.

    Of one cell of a class in the middle of an image; the free light has `room` pixels a side.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    shape = getattr(recipe, CLASSES[label])
    cell, size, index = draw([shape], np.zeros(1, int), recipe.spread, random)
    cell["centre"] = recipe.size / 2
    bodies = [np.concatenate([cell, nuclei(shape.nuclei, cell, size, index, recipe.pitch, random)])]
    light = transmission(bodies, recipe.size, recipe.pitch, recipe.wavelength, "cpu").to(torch.complex128)
    periodic = _recorded(light, recipe)
    start, free = (room - recipe.size) // 2, torch.ones(1, room, room, dtype=light.dtype)
    inside = slice(start, start + recipe.size)
    free[:, inside, inside] = light
    free = _recorded(free, recipe)[:, inside, inside]
    return float((periodic - free).square().mean().sqrt() / free.std())


def _recorded(light: Tensor, recipe: Recipe) -> Tensor:
    return propagate(light, recipe.wavelength, recipe.pitch, [recipe.distance]).abs().square()


if __name__ == "__main__":
    for side in (128, 256, 512):
        recipe = Recipe(size=side)
        found = [[wrapped(recipe, label, seed) for seed in range(3)] for label in range(len(CLASSES))]
        said = ", ".join(f"{name} {100 * np.mean(own):.1f} %" for name, own in zip(CLASSES, found, strict=True))
        print(f"{side} pixels, reach {recipe.optics.wrapped(side):.2f} half images: {said}")
