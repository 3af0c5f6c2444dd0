"""Count what a run asks of a card, for `shared.runs.cards`: steps of a U-Net or of the detector."""

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


def detector(width: int, side: int) -> Network:
    """Return what an image asks of `papers.ece.detection.network`: convolutions at strides 2, 4 and 8, and heads."""
    w, box = width, max(16, width // 2)
    layers = {  # stride: (products a pixel, numbers given a pixel)
        2: (27 * w, w),
        # Convolution, block, block of the joined features; heads of boxes and of scores.
        4: ((18 + 28 + 36 + 72) * w**2 + 18 * w * box + 9 * box**2 + 4 * box + 2 * w, 18 * w + 2 * box + 5),
        8: ((72 + 112) * w**2, 16 * w),
    }
    pixels = {stride: (side / stride) ** 2 for stride in layers}
    products = sum(layers[stride][0] * pixels[stride] for stride in layers)
    given = sum(layers[stride][1] * pixels[stride] for stride in layers)
    # 59 modules, and ultralytics' assignment of anchors to objects.
    return Network(2 * products, given, sum(found for found, _ in layers.values()), 700)


def work(spec: Spec) -> list[Work]:
    """Return the parts of a run with a number of steps; none of one that knows them by its images, or is a check."""
    if spec.task not in ("segmentation", "detection") or not spec.steps:
        return []
    if spec.task == "detection":
        network = detector(spec.detector_width, spec.crop)
    elif spec.encoder == "plain":
        network = unet(spec.width, spec.encoder_depth, spec.crop)
    else:
        return []
    trainings = spec.rounds + 1 if spec.loss == "weak" else 1
    return [training(network, spec.batch * spec.steps, spec.batch, trainings)]
