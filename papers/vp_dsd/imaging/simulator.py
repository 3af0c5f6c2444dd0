"""Simulate holograms of white blood cells, after the description of the authors' synthetic set (Section 3).

A cell is an ellipsoid with one ellipsoidal nucleus or, in granulocytes, four spherical ones. Light gains phase and
loses amplitude along each chord and travels on to the sensor, which records its intensity with noise. The shapes are
the authors'; their numbers are not public and ours assumed. Images wrap around at their borders, so that T is exact.

The model is a thin object's: rays go straight through the cells, all of an image at one distance from the sensor, and a
pixel records the intensity at its centre, not the mean over its area.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from papers.vp_dsd.imaging.bodies import Shape, draw, nuclei, paths, places, transmission
from papers.vp_dsd.imaging.holograms import CLASSES, Cells, Holograms, normalised
from papers.vp_dsd.imaging.optics import Optics, propagate
from shared.training import axis_seed

PIXELS = 2**18  # that are rendered together
LYMPHOCYTE = Shape((8.0, 0.7), (0.85, 0.05), (0.022, 0.003), (0.004, 0.001), 1, (0.82, 0.04), (0.042, 0.004))
MONOCYTE = Shape((15.5, 1.3), (0.60, 0.05), (0.016, 0.002), (0.003, 0.001), 1, (0.58, 0.05), (0.030, 0.003))
GRANULOCYTE = Shape((11.5, 0.9), (0.75, 0.05), (0.027, 0.003), (0.009, 0.002), 4, (0.236, 0.015), (0.042, 0.004))
PARTICLE = Shape((3.5, 0.7), (1.0, 0.1), (0.028, 0.004), (0.004, 0.001))


@dataclass(frozen=True)
class Recipe:
    """Hold everything a simulated data set depends on but its seed; lengths in micrometres unless said otherwise.

    Parameters
    ----------
    size : pixels a side.
    distance : from cells to sensor, the one T uses.
    distance_spread : standard deviation of an image's true distance around it.
    cells_least, cells_most : cells an image, uniform between them, both included.
    mean_proportions, concentration : of the Dirichlet distribution of subjects' proportions, in the order of `CLASSES`.
    monocyte_limit : subjects with such a share of monocytes or more are drawn again; the share that is left has a lower
        mean than `mean_proportions` says (.068 for .085).
    noise : standard deviation of the multiplicative noise of intensities.
    spread : factor on the standard deviations of all shapes.
    debris : mean number of particles an image (Poisson), anywhere, also over and under cells.

    Raises
    ------
    ValueError
        If a value is impossible; it names the key.
    """

    size: int = 128
    wavelength: float = 0.637
    pitch: float = 1.67
    distance: float = 1000.0
    distance_spread: float = 5.0
    train_subjects: int = 200
    validation_subjects: int = 100
    test_subjects: int = 200
    images_per_subject: int = 2
    cells_least: int = 20
    cells_most: int = 40
    mean_proportions: tuple[float, float, float] = (0.30, 0.085, 0.615)
    concentration: float = 40.0
    monocyte_limit: float = 0.12
    noise: float = 0.08
    spread: float = 1.3
    debris: float = 10.0
    lymphocyte: Shape = LYMPHOCYTE
    monocyte: Shape = MONOCYTE
    granulocyte: Shape = GRANULOCYTE
    particle: Shape = PARTICLE

    def __post_init__(self):
        for name in (*CLASSES, "particle"):
            if isinstance(shape := getattr(self, name), Mapping):
                try:
                    object.__setattr__(self, name, Shape(**shape))
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{name}: {error}") from None
        object.__setattr__(self, "mean_proportions", tuple(self.mean_proportions))
        least = {"size": 8, "images_per_subject": 1, "cells_most": self.cells_least}
        least |= dict.fromkeys(("train_subjects", "validation_subjects", "test_subjects", "cells_least"), 0)
        least |= dict.fromkeys(("distance_spread", "noise", "spread", "debris"), 0)
        for name, bound in least.items():
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= bound):
                raise ValueError(f"{name} is {getattr(self, name)} where at least {bound} is needed")
        mean = np.asarray(self.mean_proportions, float)
        if mean.shape != (len(CLASSES),) or not (mean > 0).all() or abs(mean.sum() - 1) > 1e-6:
            raise ValueError(f"mean_proportions {self.mean_proportions} are not {len(CLASSES)} shares that sum to 1")
        if not self.concentration > 0:
            raise ValueError(f"concentration is {self.concentration} where a positive number is needed")
        if not self.monocyte_limit > mean[1]:
            raise ValueError(f"monocyte_limit {self.monocyte_limit} is not above the mean share {mean[1]:g}")
        if not self.distance > 5 * self.distance_spread:
            raise ValueError(f"distance_spread {self.distance_spread} lets cells lie behind the sensor; lower it")
        Optics(self.wavelength, self.pitch, self.distance)  # refuses impossible lengths

    @property
    def optics(self) -> Optics:
        return Optics(self.wavelength, self.pitch, self.distance)


def simulate(recipe: Recipe, seed: int, device: torch.device | str = "cpu") -> Holograms:
    """Simulate the subjects of all splits, training first, and ``images_per_subject`` images of each.

    Everything is drawn on the host from `seed`, each subject and each image from its own stream: more subjects or
    images change no other, and a subject's proportions depend on the recipe's proportions alone. `device` renders;
    results agree to float32 rounding. A cell's class is drawn from its subject's proportions, so an image's own
    proportions scatter around them.

    Raises
    ------
    ValueError
        If the cells of an image find no place side by side; it names the image.
    """
    counts = recipe.train_subjects, recipe.validation_subjects, recipe.test_subjects
    people = [(split, number) for split, count in enumerate(counts) for number in range(count)]
    proportions = np.array([subject_proportions(recipe, axis_seed(seed, "subject", *who)) for who in people])
    seeds = [axis_seed(seed, "image", *who, i) for who in people for i in range(recipe.images_per_subject)]
    subjects = np.repeat(np.arange(len(people)), recipe.images_per_subject)
    images, cells = _images(recipe, proportions[subjects], seeds, device)
    splits = np.array([split for split, _ in people], np.int64)
    return Holograms(images, subjects, proportions.reshape(-1, 3), splits, recipe.optics, cells, simulated=True)


def purified(recipe: Recipe, label: int, n_images: int, seed: int, device: torch.device | str = "cpu") -> Holograms:
    """Simulate cells of one class only, as biochemically purified blood gives them: one subject, for training."""
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"label {label} is none of 0 to {len(CLASSES) - 1}")
    proportions = np.eye(len(CLASSES))[[label]]
    seeds = [axis_seed(seed, "purified", label, i) for i in range(n_images)]
    images, cells = _images(recipe, proportions.repeat(n_images, 0), seeds, device)
    none = np.zeros(n_images, np.int64)
    return Holograms(images, none, proportions, none[:1], recipe.optics, cells, simulated=True)


def specimen(recipe: Recipe, seed: int, split: int, subject: int, image: int = 0) -> np.ndarray:
    """Return the phase right behind the cells of one image of `simulate`, (L, L) float32, before its light travels.

    In radians, the sum along each ray, which goes beyond half a turn and is not wrapped. `subject` counts within its
    split, `image` within the subject's.
    """
    proportions = subject_proportions(recipe, axis_seed(seed, "subject", split, subject))
    own = axis_seed(seed, "image", split, subject, image)
    bodies = np.concatenate([_cells(recipe, proportions, own)[0], _debris(recipe, own)])
    return paths([bodies], recipe.size, recipe.pitch, recipe.wavelength, "cpu")[0][0].numpy()


def subject_proportions(recipe: Recipe, seed: int) -> np.ndarray:
    """Draw a subject's shares of `CLASSES`, (3,) float64: Dirichlet, again while there are too many monocytes."""
    random = np.random.Generator(np.random.PCG64(seed))
    while True:
        drawn = random.dirichlet(recipe.concentration * np.asarray(recipe.mean_proportions))
        if drawn[1] < recipe.monocyte_limit:
            return drawn


def _images(
    recipe: Recipe, proportions: np.ndarray, seeds: list[int], device: torch.device | str
) -> tuple[np.ndarray, Cells]:
    """Render an image of each seed, its cells drawn by a row of proportions (n, K): holograms and their cells."""
    size, together = recipe.size, max(1, PIXELS // recipe.size**2)
    images = np.empty((len(seeds), size, size), np.float32)
    offsets, centres, labels = np.zeros(len(seeds) + 1, np.int64), [np.empty((0, 2), np.float32)], [np.empty(0, int)]
    for start in range(0, len(seeds), together):
        here, bodies = range(start, min(start + together, len(seeds))), []
        for i in here:
            try:
                cells, where, kinds = _cells(recipe, proportions[i], seeds[i])
            except ValueError as error:
                raise ValueError(f"image {i}: {error}") from None
            bodies.append(np.concatenate([cells, _debris(recipe, seeds[i])]))
            offsets[i + 1] = offsets[i] + len(kinds)
            centres.append(where)
            labels.append(kinds)
        light = transmission(bodies, size, recipe.pitch, recipe.wavelength, device)
        sensors = [_generator(seeds[i], "sensor") for i in here]
        distances = [recipe.distance + recipe.distance_spread * random.standard_normal() for random in sensors]
        light = propagate(light, recipe.wavelength, recipe.pitch, distances)
        intensities = light.abs().square().cpu().numpy()
        for intensity, random in zip(intensities, sensors, strict=True):
            intensity *= 1 + np.float32(recipe.noise) * random.standard_normal((size, size), dtype=np.float32)
        images[start : here.stop] = normalised(intensities.clip(0))
    return images, Cells(offsets, np.concatenate(centres), np.concatenate(labels).astype(np.int64))


def _cells(recipe: Recipe, proportions: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw an image's cells: bodies with nuclei (m,), centres (n, 2) float32 in pixels, classes (n,)."""
    random = _generator(seed, "cells")
    number = random.integers(recipe.cells_least, recipe.cells_most, endpoint=True)
    labels = random.choice(len(CLASSES), number, p=proportions)
    shapes = [getattr(recipe, name) for name in CLASSES]
    cells, nucleus_size, nucleus_index = draw(shapes, labels, recipe.spread, random)
    radii = cells["semi_axes"].max(1, initial=0) / recipe.pitch
    # float32 first, so that the cells lie where the data set says they do
    centres = places(radii, recipe.size, random).astype(np.float32) % recipe.size
    cells["centre"] = centres
    bodies = [cells]
    for label, shape in enumerate(shapes):
        mine = labels == label
        inside = cells[mine], nucleus_size[mine], nucleus_index[mine]
        bodies.append(nuclei(shape.nuclei, *inside, recipe.pitch, random))
    return np.concatenate(bodies), centres, labels


def _debris(recipe: Recipe, seed: int) -> np.ndarray:
    random = _generator(seed, "debris")
    number = random.poisson(recipe.debris)
    bodies, _, _ = draw([recipe.particle], np.zeros(number, int), recipe.spread, random)
    bodies["centre"] = recipe.size * random.random((number, 2))
    return bodies


def _generator(seed: int, axis: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(axis_seed(seed, axis)))
