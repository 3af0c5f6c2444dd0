"""Exclusive cross-entropy against cross-entropy: a training step of the segmentation network, and the loss alone.

    cross-entropy        torch's own, reduced by its mean
    exclusive            thresholds of the paper: foreground confidence, no focal weight (Equation 7)
    exclusive, focal     the same with focal weight (Equation 8)
    exclusive, code      the authors' code: margin, focal weight, background sampling, under its head

Times are in turns, ratios those of neighbouring runs. "loss" is forward and backward of the loss alone, of maps
(softmax) or anchors (sigmoid); "step" is an update of `papers.ece.segmentation.Segmenter` with the plain U-Net.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks import timing
from papers.ece.criteria import Criterion
from papers.ece.loss import Annealing
from papers.ece.segmentation.method import Segmenter
from shared.methods import Batch
from shared.training import prepare_device, seed_torch

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
    taken = timing.time_interleaved(calls, repeats, device)
    rows = []
    for name in calls:
        middle, low, high = timing.spread(taken[name])
        ratios = [a / b for a, b in zip(taken[name], taken["cross-entropy"], strict=True)]
        ratio, least, most = timing.spread(ratios)
        rows.append(
            {
                "what": what,
                "face": face,
                "size": size,
                "loss": name,
                "milliseconds_median": round(middle, 3),
                "milliseconds_min": round(low, 3),
                "milliseconds_max": round(high, 3),
                "ratio_median": round(ratio, 4),
                "ratio_min": round(least, 4),
                "ratio_max": round(most, 4),
                "device": timing.device_name(device),
                "versions": timing.versions("torch", "segmentation_models_pytorch"),
            }
        )
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exclusive", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repeats", type=int, help="timed steps of each loss; 15 on a CPU and 100 on a GPU unless told"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    args = parser.parse_args(argv)
    device = prepare_device(args.device)
    gpu = device.type == "cuda"
    repeats = args.repeats or (100 if gpu else 15)
    networks = [(512, 32, 4)] if gpu else [(96, 8, 3), (128, 32, 4)]
    rows = []
    for crop, width, depth in networks:
        size = f"4 x {crop} x {crop}, width {width}"
        rows += compare("step", "softmax", size, steps(crop, width, depth, device), repeats, device)
    side = 512 if gpu else 96
    for face, size in (("softmax", (4, 2, side, side)), ("sigmoid", (4, side * side, 1))):
        shape = " x ".join(map(str, size))
        rows += compare("loss", face, shape, losses(face, size, device), 4 * repeats, device)
    timing.write_csv(args.out / f"exclusive{'_gpu' if gpu else ''}.csv", rows)
    timing.print_table(rows, SHOWN)


if __name__ == "__main__":
    main()
