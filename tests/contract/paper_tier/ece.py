"""Shrink the long tiers of ece: simulated tissue under the names of the nine sets, images of 48 pixels, two epochs."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from papers.ece import tissue
from shared.datasets.localised.prepared import read_set, write_set

CHANGES = {
    "nominal_epochs": 2,  # steps stay 0, as in the paper's protocol
    "scale": 1,
    "crop": 32,
    "width": 4,
    "detector_width": 8,
    "match_radius": 4,
    "disc_radius": 4,
    "rounds": 1,
}


def changes(spec):
    """Shrink the steps of the tier cpu, where they are no epochs."""
    return {"steps": 6} if spec.values().get("steps") else {}


RECIPE = tissue.Recipe(
    side=48,
    train_images=6,
    validation_images=0,
    test_images=0,
    images_per_slide=1,
    targets_least=4,
    targets_most=6,
    others_least=2,
    others_most=3,
)
SETS = ("tnbc", "monuseg", "kumar", "consep", "crchisto", "cpm15", "cpm17", "wbc_nuclick", "til")
CLASSES = {"crchisto": ("inflammatory", "epithelial"), "til": ("lymphocyte", "tumour")}
OFFICIAL = ("train",) * 4 + ("test",) * 2


def data(root: Path) -> None:
    """Write the sets as prepared; CRCHisto by centres alone, Kumar with its own test images."""
    drawn = tissue.simulate(RECIPE, 0)
    for name in SETS:
        made = replace(drawn, name=name, simulated=False, official=OFFICIAL if name == "kumar" else None)
        if name in CLASSES:
            made = replace(made, class_names=CLASSES[name])
        else:
            made = replace(made, class_names=("nucleus",), classes=np.zeros_like(drawn.classes))
        if name == "crchisto":
            made = replace(made, labels=None, boxes=np.zeros_like(drawn.boxes))
            write_set(root / "drawn", made, {})
            made = read_set(root / "drawn", name, class_names=CLASSES[name])  # with the numbers that centres get
        write_set(root / name, made, {})
