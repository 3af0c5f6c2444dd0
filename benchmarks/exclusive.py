"""Exclusive cross-entropy against cross-entropy: a training step of the segmentation network, and the loss alone.

    cross-entropy        torch's own, reduced by its mean
    exclusive            thresholds of the paper: foreground confidence, no focal weight (Equation 7)
    exclusive, focal     the same with focal weight (Equation 8)
    exclusive, code      the authors' code: margin, focal weight, background sampling, under its head

Times are in turns, ratios those of neighbouring runs. "loss" is forward and backward of the loss alone, of maps
(softmax) or anchors (sigmoid); "step" is an update of `papers.ece.segmentation.Segmenter` with the plain U-Net.
"""

import os
import sys

import numpy as np
import torch
from torch.nn import functional

from benchmarks import timing
from benchmarks.command import About, count, parse, parser_of
from papers.ece.criteria import Criterion
from papers.ece.loss import Annealing
from papers.ece.segmentation.method import Segmenter
from shared.methods import Batch
from shared.training import prepare_device, seed_torch

ABOUT = About(
    "exclusive",
    "the exclusive cross-entropy of ece against cross-entropy, a step and the loss alone",
    60,
    ("papers.ece.criteria", "papers.ece.segmentation.method"),
)
SIGMOID, CODE = Annealing("sigmoid"), Annealing("code", 0.5, sampling=True)
CRITERIA = {
    "exclusive": Criterion("ece", SIGMOID),
    "exclusive, focal": Criterion("ece", SIGMOID, focal_weight=(0.2, 0.1)),
    "exclusive, code": Criterion("ece", CODE, "margin", "sigmoid", (0.2, 0.1)),
}
TIME = 0.5  # of training: half of what is unannotated is sampled
SHOWN = ["what", "face", "size", "loss", "milliseconds_median", "ratio_median", "ratio_min", "ratio_max"]


class Plain:
    """torch's cross-entropy as a criterion, with nothing to report."""

    head, kept = "logit", torch.ones(())

    def __call__(self, logits, target, t):
        if target.is_floating_point():
            return functional.binary_cross_entropy_with_logits(logits, target)
        return functional.cross_entropy(logits, target)


def losses(face: str, size: tuple[int, ...], device: torch.device) -> dict:
    """Calls of the loss alone, forward and backward, a tenth of the positions annotated."""
    seed_torch(0, device)
    target = torch.rand(size[:1] + size[2:] if face == "softmax" else size, device=device) < 0.1
    target = target.long() if face == "softmax" else target.float()
    logits = torch.randn(size, device=device, requires_grad=True)

    def call(criterion):
        return lambda: torch.autograd.grad(criterion(logits, target, TIME).mean(), logits)

    criteria = {"cross-entropy": Plain()} | CRITERIA
    return {name: call(c) for name, c in criteria.items() if face == "softmax" or getattr(c, "head", "") == "logit"}


def steps(crop: int, width: int, depth: int, device: torch.device) -> dict:
    """Updates of a network on 4 crops, of the same images for each loss."""
    from papers.ece.segmentation.network import unet

    rng = np.random.Generator(np.random.PCG64(0))
    images = [rng.integers(0, 256, (2 * crop, 2 * crop, 3), dtype=np.uint8) for _ in range(4)]
    masks = [rng.random((2 * crop, 2 * crop)) < 0.1 for _ in images]
    batch = Batch(torch.arange(4.0, device=device)[:, None], torch.arange(5), torch.ones(4, 1))
    calls = {}
    for name, criterion in ({"cross-entropy": Plain()} | CRITERIA).items():
        seed_torch(0, device)
        network = unet("plain", depth, width).to(device, memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
        method = Segmenter(network, optimiser, criterion, images, masks, crop, 10**9)
        method.step = int(TIME * method.steps)
        calls[name] = lambda method=method: method.update(batch)
    return calls


def compare(what: str, face: str, size: str, calls: dict, repeats: int, device: torch.device) -> list[dict]:
    """One row a loss: milliseconds and the ratio to cross-entropy in the same turn."""
    about = {"what": what, "face": face, "size": size}
    return [about | row for row in timing.against_cross_entropy(calls, repeats, device)]


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(ABOUT, threads=os.cpu_count())
    parser.add_argument("--repeats", type=count, help="timed steps of each loss; 15, on a GPU 100, unless told")
    args = parse(parser, argv)
    device = prepare_device(args.device, args.threads)
    gpu = device.type == "cuda"
    repeats = args.repeats or (1 if args.quick else 100 if gpu else 15)
    networks = [(32, 4, 2)] if args.quick else [(512, 32, 4)] if gpu else [(96, 8, 3), (128, 32, 4)]
    rows = []
    for crop, width, depth in networks:
        size = f"4 x {crop} x {crop}, width {width}"
        rows += compare("step", "softmax", size, steps(crop, width, depth, device), repeats, device)
    side = 16 if args.quick else 512 if gpu else 96
    for face, size in (("softmax", (4, 2, side, side)), ("sigmoid", (4, side * side, 1))):
        shape = " x ".join(map(str, size))
        rows += compare("loss", face, shape, losses(face, size, device), 4 * repeats, device)
    timing.report(args, ABOUT, rows, device, ("torch", "segmentation_models_pytorch"), SHOWN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
