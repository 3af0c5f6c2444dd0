"""How long a run would take on a card, by arithmetic: never a measurement, and not used where records are at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.config import Run
from shared.config.files import repository
from shared.config.plan import module_of

LAUNCH = 5e-6  # seconds of the host for each launch, see docs/gpu.md
STARTUP = 3.0  # seconds of a run before its first step: its data to the device; assumed
PASSES = 16  # over what a layer gives, there and back: convolution, normalisation, rectifier, each read and written
EVALUATED = 2_000  # images a step of evaluation, see shared/training/evaluate.py


@dataclass(frozen=True)
class Card:
    """A card's data sheet.

    Attributes
    ----------
    fp32, bf16 : peak FLOP/s in float32 without tensor cores, and in 16 bits with them, dense.
    bandwidth : bytes/s of its memory.
    efficiency : the share of the peaks that convolutions of this size reach; assumed.
    """

    fp32: float
    bf16: float
    bandwidth: float
    efficiency: float = 0.35


CARDS = {
    # NVIDIA T4 datasheet (2019): 8.1 and 65 (fp16; it has no bf16 in hardware), 320 GB/s.
    "T4": Card(8.1e12, 65e12, 320e9),
    # NVIDIA A100 40GB PCIe/SXM datasheet (2020): 19.5 and 312, 1,555 GB/s.
    "A100": Card(19.5e12, 312e12, 1555e9),
    # NVIDIA H100 SXM5 datasheet (2023): 67 and 989 (1,979 with sparsity), 3.35 TB/s.
    "H100": Card(67e12, 989e12, 3350e9),
}


@dataclass(frozen=True)
class Network:
    """What one image asks of a network.

    Attributes
    ----------
    flops : forward; twice that again backward. A test counts them with torch.utils.flop_counter.
    given : numbers that convolutions give, forward.
    weights : numbers that are trained.
    launches : of a step there and back: nine a module, as ResNet-18 has about 400.
    """

    flops: float
    given: float
    weights: float
    launches: float


NETWORKS = {
    "resnet18": Network(1.111e9, 614_410, 11_173_962, 423),
    "cnn13": Network(1.463e9, 622_090, 3_121_802, 288),
    "discriminator": Network(0.273e9, 249_866, 781_642, 198),
}


@dataclass(frozen=True)
class Work:
    """What a part of a run asks of a card.

    Attributes
    ----------
    steps : how often it is done.
    flops, bytes, launches : of one of them, there and back where it trains.
    bf16 : whether it computes in 16 bits.
    """

    steps: float
    flops: float
    bytes: float
    launches: float
    bf16: bool = False


def seconds_of(work: Work, card: Card) -> float:
    """Return steps x max(FLOPs / (peak x efficiency), bytes / bandwidth, launches x 5 us)."""
    peak = (card.bf16 if work.bf16 else card.fp32) * card.efficiency
    return work.steps * max(work.flops / peak, work.bytes / card.bandwidth, work.launches * LAUNCH)


def training(network: Network, images: float, batch: int, epochs: float, bf16: bool = False, times: float = 1) -> Work:
    """Return the work of epochs over so many images; `times` are passes of the network a step, there and back."""
    size = 2 if bf16 else 4
    moved = batch * network.given * PASSES * size + 6 * 4 * network.weights  # Adam reads and writes three and the rest
    steps = epochs * math.ceil(images / batch) * times
    return Work(steps, 3 * network.flops * batch, moved, network.launches, bf16)


def evaluating(network: Network, images: float, times: float, bf16: bool = False) -> Work:
    """Return the work of predicting so many images that often."""
    moved = EVALUATED * network.given * PASSES / 3 * (2 if bf16 else 4)
    steps = times * math.ceil(images / EVALUATED)
    return Work(steps, network.flops * EVALUATED, moved, network.launches / 3, bf16)


def work_of(run: Run) -> list[Work]:
    """Return the parts of a run by ``work(spec)`` of its paper's work.py; nothing where neither says."""
    paper = run.spec.paper
    if not (repository() / "papers" / paper / "work.py").is_file():
        return []
    return module_of(paper, "work").work(run.spec.afresh())


def arithmetic(run: Run, card: Card) -> float:
    """Return the seconds a run would take on a card, or what its config.yaml declares where nobody counts its work."""
    works = work_of(run)
    return STARTUP + sum(seconds_of(work, card) for work in works) if works else run.seconds
