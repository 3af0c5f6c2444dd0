"""A training step of each loss against plain cross-entropy, on the same network and batch.

On a GPU the steps of cross-entropy and KL are timed from a CUDA graph, too, as `LLP_GRAPH=1` has them.
"""

import copy
import sys
from collections.abc import Callable
from functools import partial

import torch

from benchmarks import timing
from benchmarks.command import About, count, parse, parser_of
from papers.rot.loss import avgkl_loss, relax_lp_loss, rot_loss
from papers.vp_dsd.loss import vp_loss
from shared.bags import segment_mean
from shared.methods import Batch, LossMethod, kl_loss
from shared.networks import CNN13, MLP, ResNet18
from shared.training import prepare_device
from shared.training.graph import GRAPH, WARM, Steps

ABOUT = About(
    "training",
    "a training step of each loss against one of cross-entropy",
    90,
    ("papers.rot.loss", "papers.vp_dsd.loss", "shared.methods", "shared.training.graph"),
)
LOSSES = {
    "kl": kl_loss,
    "avgkl": avgkl_loss,
    "rot, envelope": lambda *bags: rot_loss(*bags, alpha=0.5, gradient="envelope"),
    "rot, unrolled": lambda *bags: rot_loss(*bags, alpha=0.5),
    "equation 5, exact": relax_lp_loss,
    "vp-ce": partial(vp_loss, cost="ce"),
    "vp-l2": partial(vp_loss, cost="l2"),
}
NETWORKS = {"resnet18": ResNet18, "cnn13": CNN13}  # of images; the second on a GPU alone
SHOWN = ["network", "images", "bag_size", "loss", "milliseconds_median", "ratio_median", "ratio_min", "ratio_max"]


def method(network: str, loss, device: torch.device, n_classes: int) -> LossMethod:
    """A fresh network under a loss, in bfloat16 on a GPU."""
    torch.manual_seed(0)
    if network in NETWORKS:
        net = NETWORKS[network](n_classes).to(device, memory_format=torch.channels_last)
    else:
        net = MLP(2048, 64, n_classes).to(device)
    weights = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(weights, 0.01, momentum=0.9, fused=True)
    return LossMethod(net, optimiser, loss, autocast=device.type == "cuda")


def replayed(both: tuple[LossMethod, Batch], device: torch.device) -> Callable[[], object]:
    """A step from a graph, of a copy of a method; it must have been captured."""
    method, batch = copy.deepcopy(both[0]), both[1]
    steps = Steps(method, len(batch.proportions), device, GRAPH)
    for _ in range(WARM + 1):
        steps.update(batch)
    if steps.choice != GRAPH:
        raise RuntimeError(f"no graph of a step of {device}: {steps.choice}")
    return lambda: steps.update(batch)


def compare(network: str, images: int, bag_size: int, repeats: int, device: torch.device) -> list[dict]:
    """One row a loss: milliseconds of a step and its ratio to the cross-entropy step of the same turn."""
    n_classes = 10
    rng = torch.Generator().manual_seed(0)
    shape = (3, 32, 32) if network in NETWORKS else (2048,)
    x = torch.randn(images, *shape, generator=rng).to(device)
    if network in NETWORKS:
        x = x.contiguous(memory_format=torch.channels_last)
    labels = torch.nn.functional.one_hot(torch.randint(n_classes, (images,), generator=rng), n_classes).float()
    offsets = torch.arange(images // bag_size + 1) * bag_size
    bags = Batch(x, offsets, segment_mean(labels, offsets).to(device))
    plain = Batch(x, torch.arange(images + 1), labels.to(device))

    def cross_entropy(log_p, _, target):
        return -(target * log_p).sum(1).mean()

    methods = {"cross-entropy": (method(network, cross_entropy, device, n_classes), plain)}
    methods |= {name: (method(network, loss, device, n_classes), bags) for name, loss in LOSSES.items()}
    calls = {name: (lambda m=m, batch=batch: m.update(batch)) for name, (m, batch) in methods.items()}
    if device.type == "cuda":
        calls |= {f"{name}, graph": replayed(methods[name], device) for name in ("cross-entropy", "kl")}
    rows = timing.against_cross_entropy(calls, repeats, device)
    about = {"network": network, "images": images, "bag_size": bag_size}
    precision = "bf16" if device.type == "cuda" else "fp32"
    return [
        about
        | row
        | {
            "images_per_second": round(1000 * images / float(row["milliseconds_median"])),
            "peak_memory_mb": round(timing.peak_memory(calls[row["loss"]], device), 1),
            "precision": precision,
        }
        for row in rows
    ]


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(ABOUT, threads=1)  # as a run has on a CPU
    parser.add_argument("--repeats", type=count, help="timed steps of each loss; 7, on a GPU 50, unless told")
    args = parse(parser, argv)
    device = prepare_device(args.device, args.threads)
    gpu = device.type == "cuda"
    repeats = args.repeats or (1 if args.quick else 50 if gpu else 7)
    images = [(4, 2)] if args.quick else [(128, 16), (1024, 64)] if gpu else [(32, 16)]
    names = NETWORKS if gpu else ("resnet18",)
    rows = [row for name in names for sizes in images for row in compare(name, *sizes, repeats, device)]
    rows += compare("mlp", 256, 16, 10 * repeats, device)
    timing.report(args, ABOUT, rows, device, ("torch", "numpy"), [*SHOWN, "images_per_second", "peak_memory_mb"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
