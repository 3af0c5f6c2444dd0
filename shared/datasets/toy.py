"""Make small datasets that need no download: two moons and scikit-learn's handwritten digits."""

from pathlib import Path

import numpy as np

from shared.datasets.catalogue import Arrays, Recipe, Source

# PLOT shows 40 bags of 50 points and gives neither the noise nor test points: both are assumed here.
TWO_MOONS = {"n_train": 2000, "n_test": 2000, "noise": 0.1, "train_seed": 0, "test_seed": 1}
DIGITS = {"n_test": 360, "split_seed": 0}


def two_moons(source: Source, work: Path) -> Arrays:
    """Draw the two moons: ``*_x`` float32 (2000, 2), ``*_y`` int64 (2000,), for training and for test."""
    from sklearn.datasets import make_moons

    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        points, labels = make_moons(
            TWO_MOONS[f"n_{split}"], noise=TWO_MOONS["noise"], random_state=TWO_MOONS[f"{split}_seed"]
        )
        # float32 hides the last-bit differences of sine and logarithm between machines.
        arrays |= {f"{split}_x": points.astype(np.float32), f"{split}_y": labels.astype(np.int64)}
    return arrays


def digits(source: Source, work: Path) -> Arrays:
    """Split the digits by class: ``*_x`` uint8 (1437 and 360, 8, 8, 1) with values 0 to 16, ``*_y`` int64."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        bunch.images[..., None].astype(np.uint8),
        bunch.target.astype(np.int64),
        test_size=DIGITS["n_test"],
        stratify=bunch.target,
        random_state=DIGITS["split_seed"],
    )
    return {"train_x": train_x, "train_y": train_y, "test_x": test_x, "test_y": test_y}


RECIPES = {
    "two_moons": Recipe(("upper", "lower"), two_moons, parameters=TWO_MOONS),
    "digits": Recipe(tuple("0123456789"), digits, parameters=DIGITS),
}
