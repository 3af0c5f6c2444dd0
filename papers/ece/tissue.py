"""Simulate tissue in haematoxylin and eosin: crowded target nuclei among look-alikes, every object known.

Two fields, the density of each stain, are painted and mixed by the law of Beer and Lambert: eosin with low-frequency
texture and fibres, haematoxylin as soft ellipses with chromatin texture. Slides differ in colour and focus. The paper
has no simulated set: this one is ours, its numbers are assumed, and it stands in for no data set of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.ndimage import gaussian_filter

from shared.datasets.localised.localised import Localised, of_labels
from shared.training import axis_seed

CLASSES = ("target", "look-alike")
SPLITS = ("train", "validation", "test")
STAINS = np.array([[0.64, 0.72, 0.27], [0.09, 0.95, 0.28]])  # optical densities of H and E: Ruifrok & Johnston, 2001
PLACES = 12  # tried for each nucleus
ROOM = 0.7  # that centres should keep, over the sum of the radii
VISIBLE = 6  # pixels an object needs to be one
EDGE = 0.35  # softness of a nucleus' border, pixels
MARGIN = 4  # pixels around a body that its bent and soft border may reach
PALEST = 0.25  # haematoxylin density of a nucleus
# Mean and standard deviation of the logarithm of the axes' ratio and of the haematoxylin density, of targets and of
# look-alikes that are not like them at all (likeness 0).
ELONGATION = ((0.12, 0.12), (0.62, 0.18))
DENSITY = ((1.05, 0.20), (0.60, 0.14))


@dataclass(frozen=True)
class Recipe:
    """Hold everything a simulated set depends on but its seed; lengths in pixels.

    Parameters
    ----------
    side : of the square images.
    train_images, validation_images, test_images : numbers of images.
    images_per_slide : images of each slide; the last slide of a split may have fewer.
    targets_least, targets_most, others_least, others_most : nuclei an image, uniform between them, both included.
    radius_least, radius_most : of nuclei, uniform.
    likeness : 0 = look-alikes are paler and longer, 1 = they are drawn as targets are.
    debris : mean number of specks an image (Poisson), objects of no class.
    stain_spread : standard deviation of the logarithms of a slide's stain densities.
    blur : mean standard deviation of a slide's Gaussian blur.
    noise : standard deviation of the camera's noise, of the brightest value.

    Raises
    ------
    ValueError
        If a value is impossible; it names the key.
    """

    side: int = 128
    train_images: int = 24
    validation_images: int = 8
    test_images: int = 16
    images_per_slide: int = 2
    targets_least: int = 20
    targets_most: int = 40
    others_least: int = 10
    others_most: int = 20
    radius_least: float = 4.0
    radius_most: float = 7.0
    likeness: float = 0.3
    debris: float = 12.0
    stain_spread: float = 0.15
    blur: float = 0.8
    noise: float = 0.03

    def __post_init__(self):
        bounds = {field.name: (0, math.inf) for field in fields(self)}
        bounds |= {"side": (16, 2**14), "images_per_slide": (1, math.inf), "likeness": (0, 1)}
        bounds |= {"radius_least": (2, self.side / 4), "radius_most": (self.radius_least, self.side / 4)}
        bounds |= {f"{name}_most": (getattr(self, f"{name}_least"), math.inf) for name in ("targets", "others")}
        for field in fields(self):
            value, (least, most) = getattr(self, field.name), bounds[field.name]
            if not (math.isfinite(value) and least <= value <= most):
                raise ValueError(f"{field.name} is {value} where a number from {least} to {most} is needed")
            if field.type == "int" and value != int(value):
                raise ValueError(f"{field.name} is {value} where a whole number is needed")


def simulate(recipe: Recipe, seed: int) -> Localised:
    """Simulate the images of all splits, training first.

    Each slide and each image has its own stream of `seed`: more images change no other. Fields are float64, so what
    two processors round otherwise is not seen in eight bits. The topmost nucleus owns a pixel; those with fewer than
    `VISIBLE` pixels left are no objects, though still painted.
    """
    names, groups, official, drawn = [], [], [], []
    for split in SPLITS:
        for i in range(getattr(recipe, f"{split}_images")):
            slide, image = divmod(i, recipe.images_per_slide)
            names.append(f"{split}-{slide}-{image}")
            groups.append(f"{split}-{slide}")
            official.append(split)
            look = _Slide.of(recipe, _generator(seed, "slide", split, slide))
            drawn.append(_image(recipe, look, _generator(seed, "image", split, slide, image)))
    images, labels, classes = zip(*drawn, strict=True) if drawn else ((), (), ())
    return of_labels(
        "tissue_sim",
        names,
        images,
        labels,
        groups=groups,
        official=official,
        classes=classes,
        class_names=CLASSES,
        simulated=True,
    )


@dataclass(frozen=True)
class _Slide:
    """What the images of a slide share: densities of both stains for each channel (2, 3), and blur."""

    stains: np.ndarray
    blur: float

    @classmethod
    def of(cls, recipe: Recipe, random: np.random.Generator) -> _Slide:
        amounts = np.exp(recipe.stain_spread * random.standard_normal((2, 1)))
        hues = np.exp(recipe.stain_spread / 3 * random.standard_normal((2, 3)))
        return cls(STAINS * amounts * hues, recipe.blur * random.uniform(0.75, 1.25))


@dataclass(frozen=True)
class _Nuclei:
    """n nuclei, later ones on top: kinds (places in `CLASSES`), angles and densities (n,), centres and axes (n, 2)."""

    kinds: np.ndarray
    centres: np.ndarray
    axes: np.ndarray
    angles: np.ndarray
    densities: np.ndarray

    @classmethod
    def of(cls, recipe: Recipe, random: np.random.Generator) -> _Nuclei:
        targets = random.integers(recipe.targets_least, recipe.targets_most, endpoint=True)
        others = random.integers(recipe.others_least, recipe.others_most, endpoint=True)
        kinds = random.permutation(np.repeat([0, 1], [targets, others]))
        radii = random.uniform(recipe.radius_least, recipe.radius_most, len(kinds))
        centres = _centres(radii, recipe.side, random)
        longer = np.exp(np.abs(_drawn(ELONGATION, kinds, recipe.likeness, random)) / 2)
        axes = radii[:, None] * np.stack([longer, 1 / longer], 1)
        densities = np.maximum(_drawn(DENSITY, kinds, recipe.likeness, random), PALEST)
        return cls(kinds, centres, axes, random.uniform(0, math.pi, len(kinds)), densities)


def _image(recipe: Recipe, slide: _Slide, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image (L, L, 3) uint8, its label image (L, L) int32 and the classes of its objects by rising number."""
    side = recipe.side
    random, scenery = random.spawn(2)  # what surrounds nuclei moves none
    eosin = 0.42 + 0.12 * _smooth(side, 24, scenery) + 0.07 * _fibres(side, scenery)
    haematoxylin = np.maximum(0.10 + 0.05 * _smooth(side, 16, scenery), 0)
    # Outlines are ellipses in a slightly bent grid.
    grid = np.arange(side) + 0.5
    rows = grid[:, None] + 0.7 * _smooth(side, 8, random)
    columns = grid + 0.7 * _smooth(side, 8, random)

    specks = scenery.uniform((0, 0, 0.8, 0.3), (side, side, 2.2, 1.1), (scenery.poisson(recipe.debris), 4))
    for row, column, radius, density in specks:
        where = _window((row, column), radius, side)
        haematoxylin[where] += density * _cover(rows[where], columns[where], (row, column), (radius, radius), 0.0)[0]

    chromatin = 1 + gaussian_filter(random.standard_normal((side, side), np.float32), 1.0)
    nuclei, label = _Nuclei.of(recipe, random), np.zeros((side, side), np.int32)
    for i, (centre, axes) in enumerate(zip(nuclei.centres, nuclei.axes, strict=True)):
        where = _window(centre, axes[0], side)
        cover, inside = _cover(rows[where], columns[where], centre, axes, nuclei.angles[i])
        under = haematoxylin[where]
        # A section has depth: a quarter of what lies below a nucleus still shows.
        haematoxylin[where] = under + cover * (nuclei.densities[i] * chromatin[where] - 0.75 * under)
        label[where][inside] = i + 1
    eosin *= 1 - 0.3 * (label > 0)
    visible = np.bincount(label.ravel(), minlength=len(nuclei.kinds) + 1)[1:] >= VISIBLE
    label = np.append(0, visible * np.arange(1, len(visible) + 1)).astype(np.int32)[label]

    stains = np.stack([gaussian_filter(field, slide.blur) for field in (haematoxylin, eosin)], -1)
    light = np.exp(-stains @ slide.stains)
    light += recipe.noise * scenery.standard_normal(light.shape, np.float32)
    return np.rint(255 * light.clip(0, 1)).astype(np.uint8), label, nuclei.kinds[visible]


def _drawn(table: tuple, kinds: np.ndarray, likeness: float, random: np.random.Generator) -> np.ndarray:
    """Draw a normal number for each nucleus, by its kind's row of (mean, standard deviation)."""
    target, other = (np.array(row) for row in table)
    mean, deviation = np.where(kinds == 0, target[:, None], (likeness * target + (1 - likeness) * other)[:, None])
    return mean + deviation * random.standard_normal(len(kinds))


def _centres(radii: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """Draw (n, 2) centres; of `PLACES` a nucleus takes the first with `ROOM` to all before it, or the roomiest."""
    tried = random.uniform(0, side, (len(radii), PLACES, 2))
    centres = np.empty((len(radii), 2))
    for i, places in enumerate(tried):
        away = np.hypot(*(places[:, None] - centres[:i]).transpose(2, 0, 1))
        room = (away / (radii[i] + radii[:i])).min(1, initial=math.inf)
        centres[i] = places[np.argmax(np.minimum(room, ROOM))]
    return centres


def _window(centre: Sequence[float], reach: float, side: int) -> tuple[slice, slice]:
    """Return the part of the image that a body at `centre` of semi-axis `reach` can touch."""
    reach += MARGIN
    rows, columns = (slice(max(int(c - reach), 0), min(math.ceil(c + reach), side)) for c in centre)
    return rows, columns


def _cover(
    rows: np.ndarray, columns: np.ndarray, centre: Sequence[float], axes: Sequence[float], angle: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return how much an ellipse covers each pixel, 0 to 1 with a soft border, and which it owns (bool)."""
    down, across = rows - centre[0], columns - centre[1]
    cosine, sine = math.cos(angle), math.sin(angle)
    major, minor = axes
    distance = np.sqrt(((cosine * down + sine * across) / major) ** 2 + ((cosine * across - sine * down) / minor) ** 2)
    outside = (distance - 1) * (math.sqrt(major * minor) / EDGE)
    return 1 / (1 + np.exp(outside.clip(-30, 30))), distance <= 1


def _smooth(side: int, scale: int, random: np.random.Generator) -> np.ndarray:
    """Draw a random field (side, side) of about unit variance that varies over `scale` pixels."""
    n = side // scale + 3
    knots = np.arange(side) / scale + 1
    weights = np.exp(-((knots[:, None] - np.arange(n)) ** 2))
    weights /= np.sqrt((weights**2).sum(1, keepdims=True))
    return weights @ random.standard_normal((n, n), np.float32) @ weights.T


def _fibres(side: int, random: np.random.Generator) -> np.ndarray:
    """Draw wavy parallel lines in a random direction, -1 to 1, (side, side)."""
    grid = np.arange(side)
    angle, pitch = random.uniform(0, math.pi), random.uniform(7, 12)
    along = math.cos(angle) * grid[:, None] + math.sin(angle) * grid
    return np.sin(2 * math.pi / pitch * along + 2 * _smooth(side, 20, random))


def _generator(seed: int, *axis: str | int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(axis_seed(seed, *axis)))
