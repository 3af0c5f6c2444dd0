"""Shrink the paper tier of VP-DSD; both recorded sets in the layout of papers/vp_dsd/imaging/holograms.py, but toys."""

import csv
import json
from dataclasses import asdict

import numpy as np

from papers.vp_dsd.imaging.simulator import Recipe, purified, simulate
from papers.vp_dsd.names import CLASSES, SPLITS
from tests.contract.paper_tier import toys

RECIPE = Recipe(
    size=44,
    cells_least=3,
    cells_most=5,
    debris=1,
    train_subjects=6,
    validation_subjects=3,
    test_subjects=3,
    images_per_subject=1,
    concentration=5,
    monocyte_limit=0.6,
)
CHANGES = {
    "size": 48,
    "cells_least": 3,
    "cells_most": 5,
    "debris": 1,
    "train_subjects": 6,
    "validation_subjects": 3,
    "test_subjects": 3,
    "concentration": 5.0,
    "monocyte_limit": 0.6,
    "purified_images": 6,
    "maps": 4,
    "detector_epochs": 6,
    "epochs": 3,
    "pretrain_epochs": 1,
    "predictor_epochs": 1,
    "predictor_batch": 2,
    "hidden": 8,
    "width": 4,
    "drawn_bags": 6,
    "bag_size": 20,
    "components": 8,
}
NOT_RUN = ("/cellpose/",)


def changes(spec):
    """Return what depends on the run: torchvision's residual networks have one width; the deepest is met on one set."""
    if "width" not in spec or spec.network != "resnet152":
        return {}
    return {"width": 64, "network": "resnet152" if spec.dataset == "simulated_holograms" else "resnet18"}


def data(root):
    """Make the stained cells with features, the donors' holograms and the authors' synthetic ones."""
    toys.images(root, "wbc_stained", 40, 16, 4)
    toys.features(root, "wbc_stained")
    for seed, name in enumerate(("wbc_holograms", "wbc_holograms_synthetic")):
        recorded(root / name, RECIPE, seed)


def recorded(folder, recipe, seed=0, cells=True, concentrations=True, alone=4):
    """Write a set as a person would who has holograms, of simulated ones.

    Parameters
    ----------
    cells, concentrations : whether they are known.
    alone : images of purified cells of each class; 0 for none.
    """
    folder.mkdir(parents=True)
    made = simulate(recipe, seed)
    (folder / "optics.json").write_text(json.dumps({f"{k}_um": v for k, v in asdict(made.optics).items()}))
    counts = np.bincount(made.subjects, np.diff(made.cells.offsets))
    subjects = [
        {"subject": f"s{i}", "split": SPLITS[split], **dict(zip(CLASSES, shares, strict=True))}
        | ({"concentration": 1000 * count} if concentrations else {})
        for i, (split, shares, count) in enumerate(zip(made.splits, made.proportions, counts, strict=True))
    ]
    _write(folder / "subjects.csv", subjects)
    _write(folder / "images.csv", [{"image": f"i{i}.npy", "subject": f"s{s}"} for i, s in enumerate(made.subjects)])
    for i, image in enumerate(made.images):
        np.save(folder / f"i{i}.npy", (100 * (image + 1)) ** 2)
    if cells:
        image = np.repeat(np.arange(len(made.images)), np.diff(made.cells.offsets))
        # A centre in the last half pixel wraps around in a simulated image and lies outside a recorded one.
        centres = np.minimum(made.cells.centres, recipe.size - 0.5)
        points = zip(image, centres.tolist(), made.cells.labels, strict=True)
        _write(
            folder / "cells.csv",
            [{"image": f"i{i}.npy", "row": r, "column": c, "class": CLASSES[k]} for i, (r, c), k in points],
        )
    if alone:
        rows = []
        for k, name in enumerate(CLASSES):
            for i, image in enumerate(purified(recipe, k, alone, seed).images):
                np.save(folder / f"{name}{i}.npy", (100 * (image + 1)) ** 2)
                rows.append({"image": f"{name}{i}.npy", "class": name})
        _write(folder / "purified.csv", rows)


def _write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
