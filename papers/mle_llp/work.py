"""Count what a run asks of a card, for `shared.runs.cards`: epochs over small bags of two of CIFAR's classes."""

from __future__ import annotations

from shared.config import Spec
from shared.runs.cards import NETWORKS, Work, evaluating, training

ALL = 0.8 * 12_000  # images of all bags of birds and cats, four fifths of them for training


def work(spec: Spec) -> list[Work]:
    """Return the parts of a run; none of one that trains no network of CIFAR's images or searches for a rate."""
    if spec.task != "learning" or spec.dataset != "cifar10" or spec.network not in NETWORKS or spec.choose_rate:
        return []
    network, bf16 = NETWORKS[spec.network], spec.precision == "bf16"
    size = (spec.smallest + spec.largest) / 2
    images = spec.bags * size or ALL
    times = 3 if spec.loss == "llp_gan" else 1
    seen = spec.test_bags * size if "test_bags" in spec else ALL / 4
    # EM predicts its training images before each epoch.
    return [
        training(network, images, max(spec.images_per_batch, int(size)), spec.epochs, bf16, times),
        evaluating(network, seen + images * (spec.loss == "mle_llp"), spec.epochs, bf16),
    ]
