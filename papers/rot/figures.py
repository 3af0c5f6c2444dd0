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
    dataset = next(run.spec.dataset for run in drawn.runs if run.method in METHODS)
    table = table[(table.dataset == dataset) & table.method.isin(("kl", "rot"))]
    if not len(table):
        return plotting.nothing()
    figure, axes = plt.subplots(1, 2, figsize=(plotting.PAGE, 2.8), sharey=True)
    sizes = sorted(table.bag_size.unique())
    colours = dict(zip(sizes, plotting.sequential(len(sizes)), strict=True))
    for axis, method in zip(axes, ("kl", "rot"), strict=True):
        for size, group in table[table.method == method].groupby("bag_size"):
            plotting.band(axis, group.epoch, group["mean"], group["std"], color=colours[size], label=f"{size:g}")
        axis.set(title=f"{DATASETS.get(dataset, dataset)}, {METHODS[method]}", xlabel="epoch")
    axes[0].set_ylabel("test accuracy (%)")
    axes[1].legend(title="bag size", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def fig2(drawn: Drawn) -> Figure:
    """Draw Figure 2: accuracy after the last epoch by bag size, a panel a dataset; bars are one standard deviation."""
    table = drawn["fig2"]
    last = table[(table.selection == "last") & (table.n_seeds > 0)]
    planned = [run.spec.dataset for run in drawn.runs if "dataset" in run.spec]
    datasets = [name for name in dict.fromkeys(planned) if name in set(last.dataset)]
    if not datasets:
        return plotting.nothing()
    methods = dict.fromkeys([*(name for name in METHODS if name in set(last.method)), *sorted(set(last.method))])
    size = (plotting.COLUMN if len(datasets) == 1 else plotting.PAGE, 2.8)
    figure, axes = plt.subplots(1, len(datasets), figsize=size, sharey=True, squeeze=False)
    paper = drawn.reported("fig2")
    for axis, dataset in zip(axes[0], datasets, strict=True):
        own = last[last.dataset == dataset]
        for method in methods:
            line, style = own[own.method == method], plotting.method_style(method)
            plotting.error_bars(
                axis, line.bag_size, line["mean"], line["std"], label=METHODS.get(method, method), **style
            )
            said = paper[(paper.row == method) & paper.column.str.startswith(f"{dataset} n=")]
            at = said.column.str.extract(r"n=(\d+)", expand=False).astype(float)
            plotting.mark_reported(axis, at, said.reported, said.says, style)
        axis.axhline(CHANCE.get(dataset, 10.0), color="0.6", linestyle=":", label="chance")
        axis.set_xscale("log", base=2)
        axis.set(title=DATASETS.get(dataset, dataset), xlabel="bag size n", ylim=(0, 100))
        axis.set_xticks(sorted(own.bag_size.unique()), [f"{size:g}" for size in sorted(own.bag_size.unique())])
    axes[0][0].set_ylabel("final test accuracy (%)")
    plotting.legend_above(figure, [METHODS.get(name, name) for name in methods])
    plotting.left_out(figure, [DATASETS.get(name, name) for name in dict.fromkeys(planned) if name not in datasets])
    return figure


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("rot", make_figures))
