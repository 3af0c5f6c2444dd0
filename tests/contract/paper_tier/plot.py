"""Shrink the long tiers of plot: few small images of CIFAR's classes, or as few features, and 13 layers of width 4."""

from shared import datasets
from tests.contract.paper_tier import toys

CHANGES = {
    "width": 4,
    "generator_width": 4,
    "noise": 8,
    "epochs": 2,
    "second_epochs": 2,
    "images_per_batch": 32,
    "hidden": 8,
}


def changes(spec):
    """Keep bags of several images, but so small that a few can be held out of 96; two moons keep their bags."""
    return {} if spec.dataset == "two_moons" else {"bag_size": min(spec.bag_size, 16)}


def data(root):
    """Make the sets; images have the 32 pixels that the generator of LLP-GAN makes, moons are drawn by their recipe."""
    toys.images(root, "cifar10", 96, 20, 10)
    toys.images(root, "cifar100", 100, 100, 100)
    for name in ("cifar10", "cifar100"):
        toys.features(root, name)
    datasets.fetch("two_moons", root)
