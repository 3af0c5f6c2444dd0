"""Simulate images: ten classes of coloured shapes and textures, in place of real data that are not there."""

from pathlib import Path

import numpy as np

from shared.datasets.catalogue import Arrays, Recipe, Source

PARAMETERS = {"n_train": 2000, "n_test": 500, "seed": 0, "side": 32}
CLASSES = (
    *("disc", "square", "triangle", "ring", "cross"),
    *("rows", "columns", "diagonals", "checks", "dots"),
)
# Two classes share each colour, so that colour alone does not tell them apart.
PALETTE = np.array([(200, 70, 70), (70, 180, 80), (70, 90, 210), (200, 180, 60), (170, 80, 190)])


def simulated_images(source: Source, work: Path) -> Arrays:
    """Draw the images: ``*_x`` uint8 (2000 and 500, 32, 32, 3), ``*_y`` int64, classes in equal numbers."""
    # Integer arithmetic and the frozen stream of RandomState give the same bytes on every machine.
    random = np.random.RandomState(PARAMETERS["seed"])
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        labels = random.permutation(PARAMETERS[f"n_{split}"]) % len(CLASSES)
        arrays |= {f"{split}_x": draw(labels, random), f"{split}_y": labels.astype(np.int64)}
    return arrays


def draw(labels: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Draw one image for each label: (N,) -> uint8 (N, 32, 32, 3)."""
    n, side = len(labels), PARAMETERS["side"]
    inside = np.empty((n, side, side), bool)
    for k in range(len(CLASSES)):
        rows = np.flatnonzero(labels == k)
        inside[rows] = _mask(CLASSES[k], len(rows), random)
    jitter = random.randint(-70, 71, (n, 3))
    front = PALETTE[labels // 2] + jitter
    back = random.randint(20, 110, (n, 1)) + random.randint(-15, 16, (n, 3))
    noise = random.randint(-40, 41, (2, n, side, side, 3)).sum(0)
    image = np.where(inside[..., None], front[:, None, None], back[:, None, None]) + noise
    return np.clip(image, 0, 255).astype(np.uint8)


def _mask(shape: str, n: int, random: np.random.RandomState) -> np.ndarray:
    side = PARAMETERS["side"]
    centre = random.randint(-4, 5, (2, n, 1, 1)) + side // 2
    y = np.arange(side)[None, :, None] - centre[0]
    x = np.arange(side)[None, None, :] - centre[1]
    r = random.randint(7, 11, (n, 1, 1))
    period = random.randint(3, 6, (n, 1, 1))
    return {
        "disc": lambda: x**2 + y**2 <= r**2,
        "square": lambda: np.maximum(abs(x), abs(y)) < r,
        "triangle": lambda: (abs(y) < r) & (2 * abs(x) <= y + r),
        "ring": lambda: (x**2 + y**2 <= r**2) & (x**2 + y**2 > (r - 4) ** 2),
        "cross": lambda: (np.minimum(abs(x), abs(y)) < 2) & (np.maximum(abs(x), abs(y)) < r),
        "rows": lambda: (y // period) % 2 + 0 * x == 0,
        "columns": lambda: (x // period) % 2 + 0 * y == 0,
        "diagonals": lambda: ((x + y) // period) % 2 == 0,
        "checks": lambda: (x // period + y // period) % 2 == 0,
        "dots": lambda: (x % (2 * period) < 3) & (y % (2 * period) < 3),
    }[shape]()


RECIPES = {"simulated_images": Recipe(CLASSES, simulated_images, parameters=PARAMETERS)}
