"""Count what a run asks of a card, for `shared.runs.cards`: steps of a U-Net; nobody counts those of the detector."""

from __future__ import annotations

from shared.config import Spec
from shared.runs.cards import Network, Work, training


def unet(width: int, depth: int, side: int) -> Network:
    """Return what an image of a plain U-Net asks: two 3x3 convolutions a level, down and up, as wide again a level."""
    products = given = weights = 0
    for level in range(depth + 1):
        c, pixels = width * 2**level, (side / 2**level) ** 2
        down = 9 * ((c / 2 if level else 3) * c + c * c)
        up = 9 * (3 * c * c + c * c) if level < depth else 0
        products, weights = products + (down + up) * pixels, weights + down + up
        given += (4 if up else 2) * c * pixels
    return Network(2 * products, given, weights, 600)


def work(spec: Spec) -> list[Work]:
    """Return the parts of a run of segmentation with a number of steps; none of another."""
    if spec.task != "segmentation" or spec.encoder != "plain" or not spec.steps:
        return []
    trainings = spec.rounds + 1 if spec.loss == "weak" else 1
    network = unet(spec.width, spec.encoder_depth, spec.crop)
    return [training(network, spec.batch * spec.steps, spec.batch, trainings)]
