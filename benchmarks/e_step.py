"""The E-step of `papers.mle_llp` against what people write today, on 1, 8, 16 and 1,000 bags in float32.

    enumeration              the C(n, y) label vectors of one bag after another, made anew for each: numpy, n <= 12
    enumeration, by vector   the same, each vector's probability by a call of its own, as in the authors' public code
    enumeration, kept        the same, label vectors of a bag's counts made once and kept; any number of classes
    enumeration, batched     the same for all bags of equal counts at once: two matrix products and a softmax, torch
    programme, one bag       the textbook programme in plain Python, n >= 64
    programme, autograd      all bags at once in the log domain, phi by autograd: what one writes first in torch

Logits are normal (standard deviation 2) and labels are drawn from the model, so counts are typical. Every peer is timed
in turns with ours: the batched ones on all bags, the others on as many as two seconds allow (`bags_timed`), and their
milliseconds are scaled to all. Ratios are of neighbouring runs; above 1 the peer is slower. `max_difference` is that of
phi from our solver's in float64. The last rows set the E-step beside an epoch of the paper's network on images.
"""

import os
import sys
from collections.abc import Callable
from functools import cache, partial
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from benchmarks import timing
from benchmarks.command import About, parse, parser_of
from benchmarks.problems import Problem, posterior_problem
from benchmarks.timing import against_ours, peak_memory, time_interleaved
from papers.mle_llp.enumeration import enumerated_posterior, one_bag_posterior
from papers.mle_llp.loss import posterior
from shared.methods import Batch, LossMethod, kl_loss
from shared.networks import Discriminator
from shared.training import prepare_device

ABOUT = About(
    "e_step",
    "the E-step of mle_llp against enumeration and textbook programmes, and an epoch",
    60,
    ("papers.mle_llp.loss",),
)
Solver = Callable[[Tensor, Tensor, Tensor], Tensor]

# (classes, smallest bag, largest bag, bags)
CASES = [
    *((2, 6, 6, bags) for bags in (1, 8, 16)),
    *((2, n, n, 1) for n in (2, 12, 64)),
    *((3, 8, 8, bags) for bags in (1, 16)),
    *((classes, n, n, 1) for classes, n in ((3, 4), (5, 8), (10, 4))),
    *((2, n, n, 1000) for n in (6, 8, 12)),
    (2, 2, 12, 1000),
    *((2, n, n, 1000) for n in (64, 128, 256)),
    (2, 1024, 1024, 100),
    *((3, n, n, 1000) for n in (4, 8)),
    (5, 8, 8, 1000),
    (10, 4, 4, 1000),
]
QUICK = [(2, 6, 6, 1), (2, 6, 6, 20), (2, 64, 64, 4), (3, 4, 4, 20)]
SECONDS = 2.0  # for a peer in one case
IMAGES = {"training": 16, "forward": 100}  # in one batch; training as in the authors' code
SHOWN = ["solver", "K", "n", "bags", "bags_timed", "milliseconds_median", "ratio_to_ours_median", "peak_memory_mb"]


def first(problem: Problem, bags: int) -> Problem:
    log_p, offsets, counts = problem
    return log_p[: int(offsets[bags])], offsets[: bags + 1], counts[:bags]


def ours(log_p: Tensor, offsets: Tensor, counts: Tensor) -> Tensor:
    return posterior(log_p, offsets, counts)[0]


def enumeration(log_p: Tensor, offsets: Tensor, counts: Tensor) -> Tensor:
    bags = positive_of(log_p).split(offsets.diff().tolist())
    phi = [enumerated_posterior(p.numpy(), y)[0] for p, y in zip(bags, counts[:, 1].tolist(), strict=True)]
    return two_columns(np.concatenate(phi))


def enumeration_by_vector(log_p: Tensor, offsets: Tensor, counts: Tensor) -> Tensor:
    phi = []
    for bag, y in zip(positive_of(log_p).split(offsets.diff().tolist()), counts[:, 1].tolist(), strict=True):
        p = bag.numpy()
        labels = np.array([[i in chosen for i in range(len(p))] for chosen in combinations(range(len(p)), y)])
        weights = np.apply_along_axis(_chance, 1, labels, p)
        phi.append(weights @ labels / weights.sum())
    return two_columns(np.concatenate(phi))


def _chance(labels: np.ndarray, p: np.ndarray) -> float:
    return np.prod(np.where(labels, p, 1 - p))


def enumeration_kept(log_p: Tensor, offsets: Tensor, counts: Tensor) -> Tensor:
    bags, phi = np.split(log_p.double().cpu().numpy(), offsets[1:-1].numpy()), []
    for bag, row in zip(bags, counts.tolist(), strict=True):
        labels = label_vectors(tuple(row), torch.float64, "cpu").numpy()
        weights = np.exp(labels @ bag.ravel())
        phi.append((weights @ labels / weights.sum()).reshape(bag.shape))
    return torch.from_numpy(np.concatenate(phi))


def enumeration_batched(log_p: Tensor, offsets: Tensor, counts: Tensor) -> Tensor:
    phi = torch.empty_like(log_p)
    kinds, kind = counts.unique(dim=0, return_inverse=True)
    for number, row in enumerate(kinds.tolist()):
        labels = label_vectors(tuple(row), log_p.dtype, log_p.device)
        start = offsets[:-1][kind == number]
        place = (start[:, None] + torch.arange(sum(row))).to(log_p.device)
        bags = log_p[place]
        phi[place] = ((bags.flatten(1) @ labels.T).softmax(1) @ labels).view(bags.shape)
    return phi


def programme_one_bag(log_p: Tensor, offsets: Tensor, counts: Tensor) -> Tensor:
    bags = positive_of(log_p).split(offsets.diff().tolist())
    # As a list, for plain Python is three times slower on the elements of an array.
    phi = [one_bag_posterior(p.tolist(), y) for p, y in zip(bags, counts[:, 1].tolist(), strict=True)]
    return two_columns(np.concatenate(phi))


def programme_autograd(log_p: Tensor, offsets: Tensor, counts: Tensor) -> Tensor:
    log_p = log_p.clone().requires_grad_()
    place = offsets[:-1, None] + torch.arange(int(offsets.diff().max()))
    real = (place < offsets[1:, None]).to(log_p.device)
    rows = log_p[place.clamp_max(len(log_p) - 1).to(log_p.device)]
    rows = torch.where(real[:, :, None], rows, rows.new_tensor([0.0, -1e30]))  # a short row ends in sure negatives
    y = counts[:, 1:].to(log_p.device)
    table = log_p.new_full((len(y), int(y.max()) + 1), -1e30)
    table[:, 0] = 0
    for i in range(rows.shape[1]):
        more = pad(table[:, :-1] + rows[:, i, 1:], (1, 0), value=-1e30)
        table = torch.logaddexp(table + rows[:, i, :1], more)
    return torch.autograd.grad(table.gather(1, y).sum(), log_p)[0]


def positive_of(log_p: Tensor) -> Tensor:
    """Probabilities of the positive class, in float64 on the host."""
    return (log_p[:, 1].double() - log_p[:, 0].double()).sigmoid().cpu()


def two_columns(phi: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack([1 - phi, phi], 1))


@cache
def all_vectors(classes: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All classes ** size label vectors of a bag, and the counts of each."""
    vectors = np.indices((classes,) * size, dtype=np.uint8).reshape(size, -1).T
    return vectors, np.stack([(vectors == k).sum(1) for k in range(classes)], 1)


@cache
def label_vectors(counts: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """The label vectors with these counts, (V, n K): one-hot and flat."""
    vectors, found = all_vectors(len(counts), sum(counts))
    fit = vectors[(found == counts).all(1)]
    return torch.from_numpy(np.eye(len(counts))[fit].reshape(len(fit), -1)).to(device, dtype)


BATCHED: dict[str, Solver] = {"enumeration, batched": enumeration_batched, "programme, autograd": programme_autograd}
ONE_BY_ONE: dict[str, Solver] = {
    "enumeration": enumeration,
    "enumeration, by vector": enumeration_by_vector,
    "enumeration, kept": enumeration_kept,
    "programme, one bag": programme_one_bag,
}


def peers(classes: int, largest: int) -> list[str]:
    """Those that can do a case."""
    if classes > 2:
        return ["enumeration, kept", "enumeration, batched"]
    if largest > 12:
        return ["programme, one bag", "programme, autograd"]
    return ["enumeration, by vector", "enumeration", "enumeration, kept", "enumeration, batched", "programme, autograd"]


def compare(case: tuple[int, int, int, int], device: torch.device) -> list[dict[str, object]]:
    """The rows of one case: ours, then its peers."""
    classes, smallest, largest, bags = case
    problem = posterior_problem(*case, device)
    exact = ours(problem[0].double(), *problem[1:]).cpu()
    mine, rows = partial(ours, *problem), []
    own_times: list[float] = []
    for name in peers(classes, largest):
        if name in BATCHED:
            timed, call = bags, partial(BATCHED[name], *problem)
            repeats = 7 if timing.seconds(call) < SECONDS / 8 else 3
        else:
            some = min(4, bags)
            each, repeats = timing.seconds(partial(ONE_BY_ONE[name], *first(problem, some))) / some, 7
            timed = min(bags, max(1, int(SECONDS / 8 / each)))
            call = partial(ONE_BY_ONE[name], *first(problem, timed))
        taken = time_interleaved({"ours": mine, name: call}, repeats, device)
        own_times += taken["ours"]
        scaled = [t * bags / timed for t in taken[name]]
        memory = peak_memory(call, device if name in BATCHED else torch.device("cpu"))
        row = against_ours(name, timed, scaled, taken["ours"], memory)
        rows.append(row | {"max_difference": difference(call(), exact)})
    own = against_ours("ours", bags, own_times, own_times, peak_memory(mine, device))
    own["max_difference"] = difference(mine(), exact)
    size = str(largest) if smallest == largest else f"{smallest}-{largest}"
    return [{"K": classes, "n": size, "bags": bags} | row for row in [own, *rows]]


def difference(phi: Tensor, exact: Tensor) -> str:
    return f"{float((phi.cpu().double() - exact[: len(phi)]).abs().max()):.1e}"


def on_images(device: torch.device, bags: int, images: dict[str, int], repeats: int) -> list[dict[str, object]]:
    """An epoch of training on the ragged bags' images, and the forward pass an E-step needs, from single batches."""
    problem = posterior_problem(2, 2, 12, bags, device)
    total = len(problem[0])
    torch.manual_seed(0)
    network = Discriminator(2).to(device, memory_format=torch.channels_last)
    method = LossMethod(network, torch.optim.Adam(network.parameters(), 1e-4, fused=True), kl_loss)
    pixels = torch.rand(max(images.values()), 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    x = {name: 2 * pixels[:n] - 1 for name, n in images.items()}
    phi = ours(*problem)[: images["training"]]
    batch = Batch(x["training"], torch.arange(len(phi) + 1), phi)
    calls = {
        "ours": partial(ours, *problem),
        "training": lambda: method.update(batch),
        "forward": lambda: method.predict(x["forward"]),
    }
    taken = time_interleaved(calls, repeats, device)
    rows = []
    for name, what in (("training", "an epoch of training"), ("forward", "forward pass over the images")):
        scaled = [t * total / images[name] for t in taken[name]]
        memory = peak_memory(calls[name], device)
        row = against_ours(what, images[name] * bags / total, scaled, taken["ours"], memory)
        rows.append({"K": 2, "n": "2-12", "bags": bags} | row | {"max_difference": ""})
    return rows


def aims(rows: list[dict[str, object]]) -> list[tuple[str, str, str]]:
    """What was hoped for beside what was measured."""

    def at(solver: str, n: str, column: str = "ratio_to_ours_median") -> float:
        wanted = (solver, n, 2, 1000)
        return next(float(row[column]) for row in rows if (row["solver"], row["n"], row["K"], row["bags"]) == wanted)

    training, forward = at("an epoch of training", "2-12"), at("forward pass over the images", "2-12")
    return [
        (
            "1,000 bags of 12: times faster than enumeration by vector",
            "2000",
            f"{at('enumeration, by vector', '12'):.0f}",
        ),
        ("the same, than enumeration with one product over all vectors", "-", f"{at('enumeration', '12'):.0f}"),
        ("1,000 bags of 128: milliseconds", "below 50", f"{at('ours', '128', 'milliseconds_median'):.1f}"),
        ("1,000 bags of 2 to 12 images: percent of an epoch", "below 1", f"{100 / training:.2g}"),
        ("the same with the forward pass it needs", "-", f"{100 * (1 + forward) / training:.2g}"),
    ]


def main(argv: list[str] | None = None) -> int:
    args = parse(parser_of(ABOUT, threads=os.cpu_count()), argv)
    device = prepare_device(args.device, args.threads)
    rows = [row for case in (QUICK if args.quick else CASES) for row in compare(case, device)]
    images, bags, repeats = (dict.fromkeys(IMAGES, 2), 20, 1) if args.quick else (IMAGES, 1000, 5)
    rows += on_images(device, bags, images, repeats)
    timing.report(args, ABOUT, rows, device, ("torch", "numpy"), [*SHOWN, "max_difference"])
    if not args.quick:
        timing.print_aims(aims(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
