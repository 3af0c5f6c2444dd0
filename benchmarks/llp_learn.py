"""llp-learn's methods beside ours: the same digits, bags of 16, hidden layer, rate and epochs, one bag a step.

Three seeds draw bags, initialisation and order; `accuracy` is of the test digits after the last epoch, in percent.
`cpu_ms` is of an epoch, on one thread, process time: theirs and ours of one seed follow one another. What cannot be the
same: their network has dropout of .5 before its rectifiers and no way to leave it out; their DLLP averages
log-probabilities where KL averages probabilities; their LLP-VAT has the release's steps (eps 6, xi 1e-6), ours those of
the registry; their MixBag learns from mixtures alone, ours from the bags as well, two a step, or one
would be mixed with itself. `error` is by how many points a peer is
less accurate than ours. Methods that llp-learn lacks, or that do not run here (its LLPFC), have our row alone.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from statistics import fmean, stdev

import numpy as np
import torch

from benchmarks import peers, timing
from benchmarks.command import About, count, parse, parser_of
from papers.benchmark.course import Problem, train
from papers.benchmark.methods import METHODS, course
from papers.benchmark.tasks import standardised
from shared.bags import Bags, fixed_size
from shared.networks import MLP
from shared.training import Inputs, prepare_device, seed_torch

ABOUT = About(
    "llp_learn",
    "accuracy and CPU time of llp-learn's DLLP, LLP-VAT and MixBag beside ours on the same bags of digits",
    90,
    ("papers.benchmark.methods", "papers.benchmark.course"),
)
SIZE, HIDDEN, RATE, EPOCHS, SEEDS = 16, 64, 1e-3, 40, 3
OURS = {  # what llp-learn calls it, if it has it
    "dllp": "DLLP",
    "llp_vat": "LLP-VAT",
    "mixbag": "MixBag",
    "rot": "",
    "count_likelihood": "",
}
SHOWN = ["work", "solver", "accuracy", "deviation", "seeds", "cpu_ms_median", "ratio_to_ours_median", "says"]


def digits() -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Standardised digits (1797, 64), their labels, and which are to learn from, four in five."""
    from sklearn.datasets import load_digits

    table = load_digits()
    train = np.flatnonzero(np.arange(len(table.target)) % 5)
    return standardised(table.data, train), table.target.astype(np.int64), train


def ours(method: str, x: torch.Tensor, bags: Bags, seed: int, epochs: int) -> Callable[[np.ndarray], np.ndarray]:
    """Train a method of the registry with its defaults; return what predicts the classes of inputs (N, 64)."""
    inputs = Inputs(x, torch.device("cpu"))
    problem = Problem(lambda: MLP(x.shape[1], HIDDEN, bags.n_classes), inputs, bags, epochs, 1, RATE, seed)
    trained, *_ = train(course(method, problem), problem, schedule="constant")
    return lambda rows: trained.predict(inputs.batch(rows)).argmax(1).numpy()


def theirs(name: str, x: torch.Tensor, bags: Bags, seed: int, epochs: int) -> Callable[[np.ndarray], np.ndarray]:
    """The same of llp-learn, in this process and in silence."""
    shape = {"hidden_layer_sizes": (HIDDEN,), "device": "cpu", "random_state": seed}
    if name == "DLLP":
        from llp_learn.dllp import DLLP

        peer = DLLP(RATE, epochs, "simple-mlp", **shape)
    elif name == "LLP-VAT":
        from llp_learn.llpvat import LLPVAT

        peer = LLPVAT(RATE, epochs, 1e-6, 6.0, 1, model_type="simple-mlp", **shape)
    else:
        from llp_learn.mixbag import MixBag

        peer = MixBag(RATE, epochs, "none", "uniform", 0.005, model_type="simple-mlp", **shape)
    peer.n_jobs = 0  # a loader of its own would compute in other processes
    data, of_instance = x.numpy(), np.repeat(np.arange(len(bags)), bags.sizes)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        peer.fit(data[bags.indices], of_instance, bags.proportions.astype(np.float32))
    return lambda rows: peer.predict(data[rows])


def measured(fit: Callable[..., Callable], x: torch.Tensor, labels: np.ndarray, bags: Bags, seed: int, epochs: int):
    """(accuracy in percent on what no bag holds, CPU milliseconds of an epoch)."""
    seed_torch(seed, torch.device("cpu"))
    started = time.process_time()
    predict = fit(x, bags, seed, epochs)
    took = 1e3 * (time.process_time() - started) / epochs
    rest = np.arange(0, len(labels), 5)
    return 100 * float((predict(rest) == labels[rest]).mean()), took


def compare(method: str, seeds: int, epochs: int) -> list[dict[str, object]]:
    """The rows of a method: ours, and llp-learn's where it has it."""
    x, labels, train_part = digits()
    peer, there = OURS[method], "llp-learn" not in peers.left_out()
    fits: dict[str, Callable] = {"ours": partial(ours, method)}
    if peer and there:
        fits[f"llp-learn {peer}"] = partial(theirs, peer)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in fits}
    for fit in fits.values():  # compiled, imported
        measured(fit, x, labels, bags_of(labels, train_part, 0), 0, 1)
    for seed in range(seeds):
        bags = bags_of(labels, train_part, seed)
        for name, fit in fits.items():
            found[name].append(measured(fit, x, labels, bags, seed, epochs))
    rows = [row_of(METHODS[method].title, name, values, found["ours"]) for name, values in found.items()]
    if peer and not there:
        rows.append({"work": METHODS[method].title, "solver": f"llp-learn {peer}", "says": "not installed"})
    return rows


def bags_of(labels: np.ndarray, train_part: np.ndarray, seed: int) -> Bags:
    """Random bags of the digits to learn from."""
    own = fixed_size(labels[train_part], 10, SIZE, seed)
    return Bags(train_part[own.indices], own.offsets, own.proportions)


def row_of(work: str, name: str, values: list, beside: list) -> dict[str, object]:
    """A row of (accuracy, milliseconds) of each seed, beside ours of the same seeds."""
    accuracies, times = zip(*values, strict=True)
    own_accuracies, own_times = zip(*beside, strict=True)
    row = {
        "work": work,
        "solver": name,
        "seeds": len(values),
        "accuracy": f"{fmean(accuracies):.2f}",
        "deviation": f"{stdev(accuracies):.2f}" if len(values) > 1 else "",
        "error": f"{max(0.0, fmean(own_accuracies) - fmean(accuracies)):.4g}",
    }
    ratios = [a / b for a, b in zip(times, own_times, strict=True)]
    return row | timing.columns_of("cpu_ms", list(times)) | timing.columns_of("ratio_to_ours", ratios) | {"says": ""}


def main(argv: list[str] | None = None) -> int:
    parser = parser_of(ABOUT, threads=1)
    parser.add_argument("--seeds", type=count, help=f"draws of bags and networks; {SEEDS} unless told")
    args = parse(parser, argv)
    prepare_device("cpu", args.threads)  # llp-learn's estimators and ours, on the same
    seeds, epochs = args.seeds or (1 if args.quick else SEEDS), 2 if args.quick else EPOCHS
    rows = [row for method in OURS for row in compare(method, seeds, epochs)]
    first = max(rows, key=len)  # of a peer that is not installed, the columns are empty
    rows = [{key: row.get(key, "") for key in first} for row in rows]
    there = ["llp-learn"] if "llp-learn" not in peers.left_out() else []
    timing.report(args, ABOUT, rows, torch.device("cpu"), ("torch", "numpy", *there), SHOWN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
