"""Shrink the long tiers of mle_llp: few images, features and photos, narrow networks, two rates, two epochs."""

from tests.contract.paper_tier import toys

CHANGES = {
    "width": 4,
    "generator_width": 4,
    "epochs": 2,
    "rates": [0.001, 0.003],
    "search_epochs": 1,
    "search_instances": 14,
    "rounds": 1,
    "instances": 1100,
    "images_per_batch": 32,
}
FEW = {"bags": 8, "test_bags": 8, "validation_instances": 14}  # where they are not all or none
LARGEST = 16  # bag of one size


def changes(spec):
    """Keep all bags all, no held-out bag none, and bags of one size so."""
    found = {key: value for key, value in FEW.items() if key in spec and spec[key] != 0}
    if "smallest" in spec and spec.smallest == spec.largest:
        found |= dict.fromkeys(("smallest", "largest"), min(spec.largest, LARGEST))
    return found


def data(root):
    """Make CIFAR's first four classes, of which two are the paper's, photos, blood cells, and features of both."""
    toys.images(root, "cifar10", 320, 160, 4)
    toys.images(root, "images_of_groups", 96, 40, 2, group=4)
    toys.images(root, "wbc_stained", 48, 16, 4)
    for name in ("cifar10", "wbc_stained"):
        toys.features(root, name)
