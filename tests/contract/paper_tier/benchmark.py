"""Shrink the long tiers of the benchmark: few small images of CIFAR's classes, or as few features; few cells."""

from shared import datasets
from tests.contract.paper_tier import ece, toys

# Bags are made before a method sees them (tests/unit/test_benchmark_tasks.py), and cells of holograms read.
ASIDE = (
    "bags",
    "bag_size",
    "concentration",
    "noise",
    "proportions",
    "classes",
    "train_subjects",
    "validation_subjects",
)
ASIDE += ("test_subjects",)
CHANGES = {
    "updates": 4,
    "selection_updates": 2,
    "tuning_tries": 1,
    "instances_per_batch": 16,
    "hidden": 8,
    "width": 4,
    "filters": 2,
    "train_subjects": 3,
    "test_subjects": 2,
}


def changes(spec):
    """Keep bags small and so many that there are as many as classes: LLPFC groups them; few batches of 1,437 digits."""
    found = {"bag_size": 4} if "bag_size" in spec and spec.dataset not in ("breast_cancer", "wine") else {}
    return found | ({"instances_per_batch": 128} if spec.dataset in ("digits", "two_moons") else {})


def data(root):
    """Make the sets; images have the 32 pixels that the generator of LLP-GAN makes; digits are scikit-learn's."""
    toys.images(root, "cifar10", 60, 20, 10)
    toys.images(root, "cifar100", 600, 100, 100)
    toys.images(root, "wbc_stained", 40, 16, 4)
    toys.images(root, "mnist", 60, 20, 10, side=28, channels=1)
    for name in ("cifar10", "cifar100", "wbc_stained"):
        toys.features(root, name)
    for name in ("digits", "two_moons"):
        datasets.fetch(name, root)
    ece.data(root)
