"""Shrink the tiers paper and cpu of rot: few small images of CIFAR's classes, narrow networks, two rates and alphas."""

from tests.contract.paper_tier import toys

CHANGES = {
    "width": 4,
    "hidden": 4,
    "epochs": 2,
    "images_per_batch": 32,
    "learning_rates": [0.01, 0.1],
    "alphas": [0.3, 0.9],
    "selection_epochs": 1,
}


def changes(spec):
    """Keep bags of several images, but so small that a few can be held out of 96."""
    return {"bag_size": min(spec.bag_size, 16)} if "bag_size" in spec else {}


def data(root):
    """Make both sets, of all their classes, and features; images are small, the network takes any side."""
    for name, n_train, n_test, n_classes in (("cifar10", 96, 20, 10), ("cifar100", 100, 100, 100)):
        toys.images(root, name, n_train, n_test, n_classes, side=8)
        toys.features(root, name)
