"""An epoch of small steps: handwritten digits, a network of 64 hidden units, bags of 16, one bag a step and eight.

With a network this small a step costs what the loss and the machinery around it cost. `network` is a forward pass,
log-probabilities, a loss that is their mean, backward and the optimiser, under the same `LossMethod`;
`ratio_to_network` is what a loss takes beside it, and `cross-entropy` is of the true labels. llp-learn's DLLP is the
peer of the KL loss where a step has one bag; it has dropout and a loader of its own, and makes its bags from indices.
`error` is the difference of the two losses on the same outputs, by its own formula: theirs averages log-probabilities
where ours averages probabilities, so they differ. Milliseconds are of an epoch, on one thread.
"""

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks import peers, timing
from benchmarks.command import About, count, parse, parser_of
from benchmarks.timing import against_ours, columns_of, peak_memory, time_interleaved
from papers.mle_llp.loss import count_loss
from papers.rot.loss import rot_loss
from papers.vp_dsd.loss import vp_loss
from shared.bags import segment_mean
from shared.methods import Batch, LossMethod, kl_loss
from shared.networks import MLP
from shared.training import prepare_device

ABOUT = About(
    "small_steps",
    "an epoch of each loss on digits, a network of 64 units and few bags a step, against the network alone",
    60,
    ("shared.methods", "papers.rot.loss", "papers.vp_dsd.loss", "papers.mle_llp.loss"),
)
SIZE, BAGS, HIDDEN, CLASSES = 16, 84, 64, 10
EPOCHS = 3  # of the peer at once: it makes its network each time
AT_ONCE = (1, 8)  # bags a step
REPEATS = 5
SHOWN = ["work", "bags_a_step", "solver", "milliseconds_median", "ratio_to_ours_median", "ratio_to_network_median"]


def mean_of(log_p: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
    return log_p.mean()


def cross_entropy(log_p: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
    return -(proportions * log_p).sum(1).mean()


LOSSES: dict[str, Callable[..., Tensor]] = {
    "network": mean_of,
    "cross-entropy": cross_entropy,
    "kl": kl_loss,
    "rot, envelope": partial(rot_loss, alpha=0.5, gradient="envelope"),
    "rot, unrolled": partial(rot_loss, alpha=0.5),
    "vp-ce": partial(vp_loss, cost="ce"),
    "count likelihood": count_loss,
}


def digits(bags: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs (M, 64) in [0, 1] and one-hot labels (M, 10), in the order of random bags."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))[: bags * SIZE]
    x = torch.from_numpy(data.data / 16).float()[order]
    return x.to(device), one_hot(torch.from_numpy(data.target)[order].long(), CLASSES).float().to(device)


def steps(x: Tensor, labels: Tensor, at_once: int, instances: bool) -> list[Batch]:
    """The batches of an epoch; with `instances` every image is a bag of its own, which is learning from labels."""
    batches = []
    for some, taught in zip(x.split(at_once * SIZE), labels.split(at_once * SIZE), strict=True):
        size = 1 if instances else SIZE
        offsets = torch.arange(len(some) // size + 1) * size
        batches.append(Batch(some, offsets, segment_mean(taught, offsets)))
    return batches


def epoch_of(loss: Callable[..., Tensor], batches: list[Batch], device: torch.device) -> Callable[[], object]:
    torch.manual_seed(0)
    network = MLP(batches[0].x.shape[1], HIDDEN, CLASSES).to(device)
    method = LossMethod(network, torch.optim.Adam(network.parameters(), 1e-3, fused=True), loss)
    return lambda: [method.update(batch) for batch in batches]


def by_dllp(x: Tensor, labels: Tensor) -> Callable[[], object]:
    bags = torch.arange(len(x)) // SIZE
    z = labels.view(-1, SIZE, CLASSES).mean(1)
    return lambda: peers.dllp_epochs(x.numpy(), bags.numpy(), z.numpy(), HIDDEN, EPOCHS)


def difference(x: Tensor, labels: Tensor) -> float:
    """How far the peer's loss lies from ours on the first bag, for an untrained network."""
    from llp_learn.dllp._classes import KLLossLLP

    torch.manual_seed(0)
    with torch.no_grad():
        logits, z = MLP(x.shape[1], HIDDEN, CLASSES)(x[:SIZE]), labels[:SIZE].mean(0)
        ours = kl_loss(logits.log_softmax(1), torch.tensor([0, SIZE]), z[None])
        # Cross-entropy of proportions less their entropy is the divergence that theirs, a sum over classes, is.
        theirs = CLASSES * KLLossLLP()(logits, z)
        return float((theirs - (ours + (z * z.clamp_min(1e-30).log()).sum())).abs())


def compare(bags: int, at_once: int, repeats: int, device: torch.device) -> list[dict[str, object]]:
    """Rows of every loss, and of the peer where it does the same work."""
    x, labels = digits(bags, device)
    calls = {}
    for name, loss in LOSSES.items():
        batches = steps(x, labels, at_once, instances=name == "cross-entropy")
        calls[name] = epoch_of(loss, batches, device)
    dllp = at_once == 1 and device.type == "cpu" and "llp-learn" not in peers.left_out()
    if dllp:
        calls["llp-learn DLLP"] = by_dllp(x, labels)
    taken = time_interleaved(calls, repeats, device)
    rows = []
    for name, times in taken.items():
        peer = name == "llp-learn DLLP"
        times = [t / EPOCHS for t in times] if peer else times
        ratios = [mine / alone for mine, alone in zip(times, taken["network"], strict=True)]
        row = {"work": "kl" if peer else name, "bags_a_step": at_once}
        own = taken["kl"] if peer else times
        row |= against_ours(name if peer else "ours", bags, times, own, peak_memory(calls[name], device))
        error = f"{difference(x, labels):.1e}" if peer else ""
        rows.append(row | columns_of("ratio_to_network", ratios) | {"error": error})
    return rows


def aims(rows: list[dict[str, object]]) -> list[tuple[str, str, str]]:
    """What was hoped for beside what was measured."""
    at = {(row["work"], row["bags_a_step"], row["solver"]): float(row["milliseconds_median"]) for row in rows}
    found = []
    for bags in AT_ONCE:
        plain, kl = at["cross-entropy", bags, "ours"], at["kl", bags, "ours"]
        label = f"{bags} bags a step" if bags > 1 else "a bag a step"
        found += [
            (f"{label}: KL beside cross-entropy", "below 1.03", f"{kl / plain:.2f}"),
            (
                f"{label}: ROT (envelope) beside cross-entropy",
                "below 1.25",
                f"{at['rot, envelope', bags, 'ours'] / plain:.2f}",
            ),
            (
                f"{label}: count likelihood beside KL",
                "below 3" if bags > 1 else "-",
                f"{at['count likelihood', bags, 'ours'] / kl:.2f}",
            ),
        ]
    return found


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(ABOUT, threads=1)
    parser.add_argument("--repeats", type=count, default=REPEATS, help="timed epochs; %(default)s unless told")
    args = parse(parser, argv)
    device = prepare_device(args.device, args.threads)
    bags, repeats = (2, 1) if args.quick else (BAGS, args.repeats)
    rows = [row for at_once in AT_ONCE for row in compare(bags, at_once, repeats, device)]
    llp_learn = [name for name in peers.packages() if name == "llp-learn"]
    timing.report(args, ABOUT, rows, device, ("torch", "numpy", *llp_learn), [*SHOWN, "error"])
    if not args.quick:
        timing.print_aims(aims(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
