"""Count what a run asks of a card, for `shared.runs.cards`: the detector's epochs, or the classifier's over its cells.

The detector's Fourier transforms are not among its FLOPs: they are bound by memory, and 40 of its launches.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.config import Spec
from shared.runs.cards import Network, Work, training

CLASSES = 3


def convolutions(channels: Sequence[int], sizes: Sequence[int], side: int) -> tuple[float, float, float]:
    """Return (FLOPs, numbers given, weights) of complex convolutions, periodic: twice the channels of real ones."""
    flops = given = weights = 0.0
    side += 2 * sum(size // 2 for size in sizes)
    for n_in, n_out, size in zip(channels[:-1], channels[1:], sizes, strict=True):
        side -= 2 * (size // 2)
        flops += 2 * (2 * n_in) * (2 * n_out) * size**2 * side**2
        given += 2 * n_out * side**2
        weights += 2 * n_in * n_out * size**2
    return flops, given, weights


def detector(maps: int, encoder: Sequence[int], head: Sequence[int], side: int) -> Network:
    """Return what a hologram asks of the detector; the head's first layer visits few sites and is not counted."""
    parts = (
        convolutions((1, *[maps] * len(encoder)), encoder, side),
        convolutions((*[maps] * (len(head) - 1), 1), head[1:], side),
    )
    flops, given, weights = map(sum, zip(*parts, strict=True))
    return Network(flops, given, weights + 2 * maps**2 * head[0] ** 2, 40 + 30 * (len(encoder) + len(head)))


def classifier(inputs: int, hidden: int) -> Network:
    """Return what a cell asks of the classifier."""
    weights = inputs * hidden + hidden**2 + hidden * CLASSES
    return Network(2 * weights, 2 * hidden + CLASSES, weights, 66)


def work(spec: Spec) -> list[Work]:
    """Return the parts of a run, the detector that a classification stands on not among them; none of Table 3.

    A recorded set is counted nowhere: how many images it has, and how large, is known where it lies.
    """
    if spec.task == "classification" and spec.dataset == "simulated_holograms":
        images = spec.train_subjects * spec.images_per_subject
        bags, cells = (spec.drawn_bags, spec.bag_size) if spec.bags == "drawn" else (images, _cells(spec))
        return [
            training(classifier(3 * spec.maps, spec.hidden), bags * cells, spec.bags_per_batch * cells, spec.epochs)
        ]
    if spec.task == "classification" and spec.dataset == "wbc_stained":
        cells, batch = spec.donor_cells * spec.train_subjects, spec.donor_cells * spec.bags_per_batch
        return [training(classifier(spec.components, spec.hidden), cells, batch, spec.epochs)]
    if spec.task in ("detection", "example") and spec.dataset == "simulated_holograms" and "detector_epochs" in spec:
        network = detector(spec.maps, spec.encoder_kernels, spec.head_kernels, spec.size)
        images = spec.train_subjects * spec.images_per_subject
        return [training(network, images, spec.detector_batch, spec.detector_epochs)]
    return []


def _cells(spec: Spec) -> float:
    return (spec.cells_least + spec.cells_most) / 2
