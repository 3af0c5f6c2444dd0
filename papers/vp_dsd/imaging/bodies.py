"""Draw cells and debris as ellipsoids, and compute the light behind them.

Bodies are rows of a structured array, `BODY`: the centre (row, column) in pixels; two semi-axes in the image plane, the
first at `angle` from the rows, and the chord along the light through the centre, in micrometres; the refractive index
over what the body replaces, and the absorption of amplitude per micrometre of chord.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

BODY = np.dtype(
    [
        *(("centre", float, 2), ("semi_axes", float, 2), ("chord", float)),
        *(("angle", float), ("index", float), ("absorption", float)),
    ]
)
TRIES = 1000  # places tried for one body
GAP = 2.0  # pixels between two bodies
SUBSAMPLES = 3  # points a pixel and direction at which chords are measured
ELONGATION = 0.08  # standard deviation of the logarithm of the ratio of the axes in the image plane
CUT = 3.0  # standard deviations beyond which nothing is drawn
LOBES = (0.42, 0.55)  # distance of a nucleus of four from the centre, over the cell's radius
TURN = 0.05 * math.pi  # standard deviation of its angle


@dataclass(frozen=True)
class Shape:
    """Give size and optical density of one kind of body; a pair is (mean, standard deviation) of a normal distribution.

    Parameters
    ----------
    diameter : in the image plane, micrometres.
    axial : the diameter along the light, over `diameter`.
    index : of refraction, over the medium's.
    absorption : of amplitude, per micrometre.
    nuclei : 0, 1 (an ellipsoid like the cell) or 4 (spheres).
    nucleus_size : its diameter over the cell's.
    nucleus_index : of refraction, over the medium's; a nucleus takes the place of cytoplasm.

    Raises
    ------
    ValueError
        If a value cannot be; it names the field.
    """

    diameter: tuple[float, float]
    axial: tuple[float, float]
    index: tuple[float, float]
    absorption: tuple[float, float]
    nuclei: int = 0
    nucleus_size: tuple[float, float] = (0.0, 0.0)
    nucleus_index: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self):
        if self.nuclei not in (0, 1, 4):
            raise ValueError(f"nuclei is {self.nuclei}; 0, 1 or 4 can be drawn")
        for name in DRAWN:
            pair = tuple(getattr(self, name))
            if len(pair) != 2 or not all(math.isfinite(value) and value >= 0 for value in pair):
                raise ValueError(f"{name} is {pair} where a mean and a standard deviation are needed")
            object.__setattr__(self, name, pair)
        for name in ("diameter", "axial"):
            if not getattr(self, name)[0]:
                raise ValueError(f"{name} has the mean 0; it must be positive")


DRAWN = tuple(field.name for field in fields(Shape) if field.name != "nuclei")


def draw(
    shapes: Sequence[Shape], kinds: np.ndarray, spread: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw bodies of some kinds, places in `shapes`, at the origin; `spread` multiplies the standard deviations.

    Returns
    -------
    (bodies (n,) without their nuclei, nucleus_size (n,), nucleus_index (n,)), the last as of `Shape`.
    """
    mean, sd = (np.array([[getattr(shape, name)[i] for name in DRAWN] for shape in shapes])[kinds] for i in (0, 1))
    z = random.standard_normal((len(kinds), len(DRAWN) + 1)).clip(-CUT, CUT)
    drawn = np.maximum(mean + spread * sd * z[:, :-1], mean / 10)  # at a wide spread too, nothing is negative
    diameter, axial, index, absorption, nucleus_size, nucleus_index = drawn.T
    stretch = np.exp(ELONGATION / 2 * z[:, -1])
    bodies = np.zeros(len(kinds), BODY)
    bodies["semi_axes"] = (diameter / 2 * [stretch, 1 / stretch]).T
    bodies["chord"] = diameter * axial
    bodies["angle"] = math.pi * random.random(len(kinds))
    bodies["index"], bodies["absorption"] = index, absorption
    return bodies, np.minimum(nucleus_size, 1), nucleus_index


def nuclei(
    number: int, cells: np.ndarray, size: np.ndarray, index: np.ndarray, pitch: float, random: np.random.Generator
) -> np.ndarray:
    """Return the nuclei of n cells, `number` (0, 1 or 4) in each, as bodies of what they add to the cytoplasm."""
    found, size = cells.repeat(number), size.repeat(number)
    found["index"], found["absorption"] = (index - cells["index"]).repeat(number), 0
    if number == 1:
        found["semi_axes"] *= size[:, None]
        found["chord"] *= size
    elif number == 4:
        radius = np.sqrt(found["semi_axes"].prod(1))
        angle = found["angle"] + np.tile(math.pi / 2 * np.arange(4), len(cells))
        angle += TURN * random.standard_normal(len(found))
        away = radius * random.uniform(*LOBES, len(found)) / pitch
        found["centre"] += away[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        found["semi_axes"], found["chord"] = (radius * size)[:, None], 2 * radius * size
    return found


def places(radii: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Draw centres (n, 2) in pixels, uniform where discs of these radii (n,) in pixels, `GAP` apart, find room.

    Raises
    ------
    ValueError
        If `TRIES` places of one disc are taken.
    """
    found = np.empty((len(radii), 2))
    for j, radius in enumerate(radii):
        least = (radii[:j] + radius + GAP) ** 2
        for _ in range(TRIES):
            place = size * random.random(2)
            apart = np.abs(found[:j] - place)
            apart = np.minimum(apart, size - apart)
            if (apart[:, 0] ** 2 + apart[:, 1] ** 2 >= least).all():
                break
        else:
            raise ValueError(
                f"{len(radii)} cells of {2 * radii.mean():.1f} pixels on average do not fit into {size}x{size} pixels, "
                f"only {j} do; lower cells_most or raise size"
            )
        found[j] = place
    return found


def transmission(bodies: Sequence[np.ndarray], size: int, pitch: float, wavelength: float, device) -> Tensor:
    """Return the plane wave 1 behind the bodies of n images, (n, L, L) complex64; bodies wrap around the borders."""
    phase, loss = paths(bodies, size, pitch, wavelength, device)
    return torch.polar((-loss).exp(), phase)


def paths(bodies: Sequence[np.ndarray], size: int, pitch: float, wavelength: float, device) -> tuple[Tensor, Tensor]:
    """Return the phase in radians and the loss of log-amplitude, summed along each ray: two of (n, L, L) for n images.

    Bodies are thin objects: a ray goes straight through, and nothing diffracts inside them. Phases are not wrapped.
    """
    table = np.concatenate(bodies)
    image = np.repeat(np.arange(len(bodies)), [len(rows) for rows in bodies])
    nearest = np.rint(table["centre"]).astype(int)
    reach = np.ceil(table["semi_axes"].max(1, initial=0) / pitch).astype(int) + 1
    phase, loss = torch.zeros(2, len(bodies) * size * size, device=device)
    for pixels in np.unique(reach):
        mine = np.flatnonzero(reach == pixels)
        rows, columns = ((nearest[mine, i, None] + np.arange(-pixels, pixels + 1)) % size for i in (0, 1))
        where = (image[mine, None, None] * size + rows[:, :, None]) * size + columns[:, None, :]
        where = torch.from_numpy(where.ravel()).to(device)
        chords = _chords(table[mine], pixels, pitch, device)
        for path, density in ((phase, 2 * math.pi / wavelength * table["index"]), (loss, table["absorption"])):
            path.index_add_(0, where, (chords * _to(density[mine, None, None], device)).flatten())
    return phase.view(-1, size, size), loss.view(-1, size, size)


def _chords(bodies: np.ndarray, reach: int, pitch: float, device) -> Tensor:
    """Return the mean chord in each pixel around the bodies' nearest, micrometres: (n, 2 reach + 1, 2 reach + 1)."""
    points = (np.arange((2 * reach + 1) * SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5 - reach
    shift = bodies["centre"] - np.rint(bodies["centre"])
    y, x = (pitch * (points - shift[:, i, None]) for i in (0, 1))
    # 1 - (y cos + x sin)^2 / a^2 - (x cos - y sin)^2 / b^2, its terms in y, in x and in both apart
    a, b = bodies["semi_axes"].T[:, :, None] ** -2
    cosine, sine = np.cos(bodies["angle"])[:, None], np.sin(bodies["angle"])[:, None]
    rows = _to(1 - (a * cosine**2 + b * sine**2) * y**2, device)
    columns = _to((a * sine**2 + b * cosine**2) * x**2, device)
    mixed = _to(2 * cosine * sine * (a - b) * y, device)
    inside = (rows[:, :, None] - columns[:, None, :]).addcmul_(mixed[:, :, None], _to(x, device)[:, None, :], value=-1)
    means = torch.nn.functional.avg_pool2d(inside.clamp_(min=0).sqrt_(), SUBSAMPLES)
    return means * _to(bodies["chord"][:, None, None], device)


def _to(array: np.ndarray, device) -> Tensor:
    return torch.from_numpy(array).to(device, torch.float32)
