"""Draw Figures 1 and 2 of the paper from tables; outputs.yaml names them."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from shared import plotting
from shared.tables.draw import Drawn

METHODS = {"avgkl": "AvgKL", "kl": "KL", "rot": "ROT"}  # in words, and first in this order; others go by their name
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "digits (8x8)"}
CHANCE = {"cifar100": 1.0}  # percent; 10 classes elsewhere


def fig1(drawn: Drawn) -> Figure:
    """Draw Figure 1: test accuracy by epoch for each bag size, KL left and ROT right."""
    table = drawn["curves"]
    datasets = [run.spec.dataset for run in drawn.runs if run.method in METHODS]
    dataset = datasets[0]
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.9), sharey=True)
    sizes = sorted(table.bag_size.unique())
    colours = dict(zip(sizes, plotting.sequential(len(sizes)), strict=True))
    for axis, method in zip(axes, ("kl", "rot"), strict=True):
        own = table[(table.dataset == dataset) & (table.method == method)]
        for size, group in own.groupby("bag_size"):
            plotting.band(axis, group.epoch, group["mean"], group["std"], color=colours[size], label=f"{size:g}")
        axis.set(title=f"{DATASETS.get(dataset, dataset)}, {METHODS[method]}", xlabel="epoch")
        if not len(own):
            plotting.not_run(axis)
    axes[0].set_ylabel("test accuracy (%)")
    axes[1].legend(title="bag size", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def fig2(drawn: Drawn) -> Figure:
    """Draw Figure 2: accuracy after the last epoch by bag size, a panel a dataset; bars are one standard deviation."""
    table = drawn["fig2"]
    last = table[table.selection == "last"]
    planned = [run.spec.dataset for run in drawn.runs if "dataset" in run.spec]
    datasets = [name for name in dict.fromkeys(planned) if name in set(last.dataset)]
    methods = dict.fromkeys([*(name for name in METHODS if name in set(last.method)), *sorted(set(last.method))])
    colours = dict(zip(methods, plotting.PALETTE, strict=False))
    figure, axes = plt.subplots(1, len(datasets), figsize=(3.5 * len(datasets), 3), squeeze=False)
    for axis, dataset in zip(axes[0], datasets, strict=True):
        own = last[last.dataset == dataset]
        for method in methods:
            line = own[(own.method == method) & (own.n_seeds > 0)]
            style = {"color": colours.get(method, "0.3"), "marker": "o", "ms": 3, "capsize": 2}
            label = METHODS.get(method, method)
            axis.errorbar(line.bag_size, line["mean"], line["std"].fillna(0), label=label, **style)
        axis.axhline(CHANCE.get(dataset, 10.0), color="0.6", linestyle=":", label="chance")
        if own.n_seeds.any():
            axis.set_xscale("log", base=2)
        axis.set(title=DATASETS.get(dataset, dataset), xlabel="bag size n", ylim=(0, 100))
        axis.set_xticks(sorted(own.bag_size.unique()), [f"{size:g}" for size in sorted(own.bag_size.unique())])
    axes[0][0].set_ylabel("final test accuracy (%)")
    axes[0][0].legend(loc="lower left")
    return figure


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("rot", make_figures))
