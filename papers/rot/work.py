"""Count what a run asks of a card, for `shared.runs.cards`: epochs over CIFAR's training images, tests after each."""

from __future__ import annotations

from shared.config import Spec
from shared.runs.cards import NETWORKS, Work, evaluating, training

IMAGES, TESTS = 50_000, 10_000


def work(spec: Spec) -> list[Work]:
    """Return the parts of a run; none of one that trains no network of images."""
    if "network" not in spec or spec.network not in NETWORKS or spec.tuning != "none":
        return []
    network, bf16 = NETWORKS[spec.network], spec.precision == "bf16"
    batch = max(spec.images_per_batch, spec.bag_size)
    return [
        training(network, IMAGES * (1 - spec.validation_fraction), batch, spec.epochs, bf16),
        evaluating(network, TESTS + IMAGES * spec.validation_fraction, spec.epochs, bf16),
    ]
