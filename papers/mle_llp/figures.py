"""Tables -> Figures 1 and 3, and accuracy and E-step time by bag size: ``python -m papers.mle_llp.figures TIER``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas

from papers.mle_llp.plan import plan
from papers.mle_llp.tables import DATASETS, METHODS
from shared import plotting
from shared.records.summary import command, stand_ins

COLOURS = dict(zip(METHODS, plotting.PALETTE, strict=False))


def _panels(datasets: list[str]):
    figure, axes = plt.subplots(1, len(datasets), figsize=(1.2 + 3.2 * len(datasets), 3), squeeze=False)
    for axis, dataset in zip(axes[0], datasets, strict=True):
        axis.set_title(DATASETS.get(dataset, dataset))
    return figure, axes[0]


def learning_curves(table: pandas.DataFrame, datasets: list[str], note: str):
    """Figure 1: test accuracy by epoch; bands are one standard deviation over repetitions."""
    figure, axes = _panels(datasets)
    for axis, dataset in zip(axes, datasets, strict=True):
        for method, group in _by_method(table[table.dataset == dataset]):
            axis.plot(group.epoch, group["mean"], color=COLOURS[method], label=METHODS[method], marker=".", ms=3)
            low, high = group["mean"] - group["std"], group["mean"] + group["std"]
            axis.fill_between(group.epoch, low, high, color=COLOURS[method], alpha=0.15, linewidth=0)
        axis.set_xlabel("epoch")
        _empty(axis, table[table.dataset == dataset])
    return _finish(figure, axes, "test accuracy (%)", note)


def accuracy_by(table: pandas.DataFrame, column: str, label: str, datasets: list[str], note: str, log: bool = False):
    """Figure 3, and its counterpart by bag size: final accuracy; bars are one standard deviation."""
    figure, axes = _panels(datasets)
    last = table[(table.selection == "last") & (table.n_seeds > 0)]
    for axis, dataset in zip(axes, datasets, strict=True):
        own = last[last.dataset == dataset]
        for method, line in _by_method(own):
            style = {"color": COLOURS[method], "marker": "o", "ms": 3, "capsize": 2, "label": METHODS[method]}
            axis.errorbar(line[column], line["mean"], line["std"].fillna(0), **style)
        if log and len(own):
            axis.set_xscale("log", base=2)
        axis.set_xticks(sorted(own[column].unique()), [f"{value:g}" for value in sorted(own[column].unique())])
        axis.set_xlabel(label)
        _empty(axis, own)
    return _finish(figure, axes, "test accuracy (%)", note)


def e_step_time(table: pandas.DataFrame, note: str):
    """Beyond the paper: one E-step over the same number of instances, by bag size."""
    figure, axis = plt.subplots(figsize=(4.4, 3))
    axis.plot(table.bag_size, table.e_step_ms, color=COLOURS["mle_llp"], marker="o", ms=3, label="programme, O(n y)")
    axis.plot(table.bag_size, table.enumerate_ms, color="0.4", marker="s", ms=3, label="enumeration, C(n, y)")
    axis.set(xlabel="bag size n", ylabel="milliseconds")
    if len(table):
        axis.set_yscale("log")
        axis.set_xscale("log", base=2)
    doubled = [n for n in table.bag_size if n & (n - 1) == 0]
    axis.set_xticks(doubled, [f"{n:g}" for n in doubled])
    _empty(axis, table)
    axis.legend()
    plotting.note(figure, note)
    return figure


def _by_method(table: pandas.DataFrame):
    return ((name, table[table.method == name]) for name in METHODS if (table.method == name).any())


def _empty(axis, rows: pandas.DataFrame) -> None:
    if not len(rows):
        axis.set(xticks=[], yticks=[])
        plotting.not_run(axis)


def _finish(figure, axes, label: str, note: str):
    axes[0].set_ylabel(label)
    handles = {text: handle for axis in axes for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[-1].legend(handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(1, 0.5))
    plotting.note(figure, note)
    return figure


def draw(tier: str, results: Path) -> None:
    """All figures of a tier, from its csv tables."""
    folder = results / tier / "mle_llp"
    plotting.use_style()
    specs = pandas.DataFrame([run.spec for run in plan(tier) if "bags" in run.spec])
    note = f"Tier {tier}. {stand_ins(specs)}"
    fig1, fig3, size, steps = (pandas.read_csv(folder / f"{name}.csv") for name in ("fig1", "fig3", "size", "e_step"))
    # As in the paper, photos to the left.
    datasets = [name for name in DATASETS if name in set(fig3.dataset)]
    plotting.save(learning_curves(fig1, datasets, note), folder / "fig1")
    plotting.save(accuracy_by(fig3, "bags", "training bags m", datasets, note), folder / "fig3")
    of_size = [name for name in DATASETS if name in set(size.dataset)]
    plotting.save(accuracy_by(size, "bag_size", "bag size n", of_size, note, log=True), folder / "size")
    plotting.save(e_step_time(steps, f"Tier {tier}."), folder / "e_step")


if __name__ == "__main__":
    command(draw, "papers.mle_llp.figures", __doc__)
