"""Count what a run asks of a card, for `shared.runs.cards`: a stage's epochs over CIFAR's images, tests after each."""

from __future__ import annotations

from shared.config import Spec
from shared.runs.cards import NETWORKS, Work, evaluating, training

IMAGES, TESTS = 50_000, 10_000
TIMES = {"llp_vat": 3, "llp_gan": 3}  # passes a step: LLP-VAT's direction and its divergence, LLP-GAN's players


def work(spec: Spec) -> list[Work]:
    """Return the parts of a run, the stage it stands on not among them; none of one that reads no images."""
    if spec.dataset not in ("cifar10", "cifar100") or spec.network not in NETWORKS:
        return []
    network, bf16 = NETWORKS[spec.network], spec.precision == "bf16"
    second = spec.second != "none"
    epochs, times = (spec.second_epochs, 1) if second else (spec.epochs, TIMES.get(spec.loss, 1))
    images, batch = spec.train_images or IMAGES, max(spec.images_per_batch, spec.bag_size)
    # Stage two predicts all training images before each epoch, to label them.
    return [
        training(network, images, batch, epochs, bf16, times),
        evaluating(network, TESTS + images * second, epochs, bf16),
    ]
