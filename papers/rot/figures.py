"""Tables -> Figures 1 and 2 of the paper: ``python -m papers.rot.figures TIER``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas

from papers.rot.plan import plan
from papers.rot.tables import METHODS
from shared import plotting
from shared.records.summary import command, stand_ins

DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "digits (8x8)"}
CHANCE = {"cifar100": 1.0}  # percent; 10 classes elsewhere


def learning_curves(table: pandas.DataFrame, dataset: str, note: str):
    """Figure 1: test accuracy by epoch for each bag size, KL left and ROT right."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.9), sharey=True)
    sizes = sorted(table.bag_size.unique())
    colours = dict(zip(sizes, plotting.sequential(len(sizes)), strict=True))
    for axis, method in zip(axes, ("kl", "rot"), strict=True):
        for size, group in table[(table.dataset == dataset) & (table.method == method)].groupby("bag_size"):
            axis.plot(group.epoch, group["mean"], color=colours[size], label=f"{size:g}", marker=".", markersize=3)
            low, high = group["mean"] - group["std"], group["mean"] + group["std"]
            axis.fill_between(group.epoch, low, high, color=colours[size], alpha=0.2, linewidth=0)
        axis.set(title=f"{DATASETS.get(dataset, dataset)}, {METHODS[method]}", xlabel="epoch")
    axes[0].set_ylabel("test accuracy (%)")
    axes[1].legend(title="bag size", loc="center left", bbox_to_anchor=(1, 0.5))
    plotting.note(figure, note)
    return figure


def final_accuracy(table: pandas.DataFrame, datasets: list[str], note: str):
    """Figure 2: accuracy after the last epoch by bag size, one panel a dataset; bars are one standard deviation."""
    figure, axes = plt.subplots(1, len(datasets), figsize=(3.5 * len(datasets), 3), squeeze=False)
    last = table[table.selection == "last"]
    for axis, dataset in zip(axes[0], datasets, strict=True):
        own = last[last.dataset == dataset]
        for (method, name), colour in zip(METHODS.items(), plotting.PALETTE, strict=False):
            line = own[(own.method == method) & (own.n_seeds > 0)]
            axis.errorbar(
                line.bag_size,
                line["mean"],
                line["std"].fillna(0),
                color=colour,
                marker="o",
                ms=3,
                capsize=2,
                label=name,
            )
        axis.axhline(CHANCE.get(dataset, 10.0), color="0.6", linestyle=":", label="chance")
        if own.n_seeds.any():
            axis.set_xscale("log", base=2)
        axis.set(title=DATASETS.get(dataset, dataset), xlabel="bag size n", ylim=(0, 100))
        axis.set_xticks(sorted(own.bag_size.unique()), [f"{size:g}" for size in sorted(own.bag_size.unique())])
    axes[0][0].set_ylabel("final test accuracy (%)")
    axes[0][0].legend(loc="lower left")
    plotting.note(figure, note)
    return figure


def draw(tier: str, results: Path) -> None:
    """Both figures of a tier, from its csv tables."""
    folder = results / tier / "rot"
    plotting.use_style()
    specs = pandas.DataFrame([run.spec for run in plan(tier) if "bag_size" in run.spec])
    fig1, fig2 = pandas.read_csv(folder / "fig1.csv"), pandas.read_csv(folder / "fig2.csv")
    datasets = list(dict.fromkeys(specs.dataset[specs.method.isin(METHODS)]))
    empty = fig2[(fig2.selection == "last") & (fig2.n_seeds == 0)]
    missing = "; ".join(f"{row.method} n={row.bag_size} on {row.dataset}" for row in empty.itertuples())
    left_out = f" NOT RUN: {missing}." if missing else ""
    note = f"Tier {tier}. {stand_ins(specs)}{left_out}"
    plotting.save(learning_curves(fig1, datasets[0], note), folder / "fig1")
    plotting.save(final_accuracy(fig2, datasets, note), folder / "fig2")


if __name__ == "__main__":
    command(draw, "papers.rot.figures", __doc__)
