"""Draw Figures 1 and 3, and accuracy and E-step time by bag size, from tables; outputs.yaml names them."""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas
from matplotlib.figure import Figure

from papers.mle_llp.names import inputs
from shared import plotting
from shared.config import Spec
from shared.tables.draw import Drawn

METHODS = {  # in words, and first in this order; others go by their name
    "supervised": "supervised",
    "dllp": "DLLP",
    "llp_gan": "LLP-GAN",
    "mle_llp": "MLE-LLP",
    "mle_direct": "likelihood, direct",
}
DATASETS = {  # in words, photos to the left as in the paper; others go by their name
    "images_of_groups": "group photos",
    "cifar10": "CIFAR",
    "images_of_groups-features": "group photos, frozen features",
    "cifar10-features": "CIFAR, frozen features",
    "digits": "digits 3, 8",
}


def fig1(drawn: Drawn) -> Figure:
    """Draw Figure 1: test accuracy by epoch; bands are one standard deviation over repetitions."""
    table = drawn["fig1"]
    runs = [run.spec for run in drawn.runs if run.spec.task == "learning" and _split(run.spec)]
    planned = {inputs(spec.dataset, spec.network) for spec in runs}
    figure, axes = _panels(planned)
    for dataset, axis in axes.items():
        own = table[table.dataset == dataset]
        for method, style in _styles(table).items():
            if len(line := own[own.method == method]):
                plotting.band(axis, line.epoch, line["mean"], line["std"], **style)
        axis.set_xlabel("epoch")
        _empty(axis, own)
    return _finished(figure, axes)


def fig3(drawn: Drawn) -> Figure:
    """Draw Figure 3: final accuracy by number of training bags; bars are one standard deviation."""
    return _accuracy_by(drawn["fig3"], "bags", "training bags m")


def size(drawn: Drawn) -> Figure:
    """Draw final accuracy by the size of bags that all have one size (beyond the paper)."""
    return _accuracy_by(drawn["size"], "bag_size", "bag size n", log=True)


def _accuracy_by(table: pandas.DataFrame, column: str, label: str, log: bool = False) -> Figure:
    figure, axes = _panels(set(table.dataset))
    last = table[(table.selection == "last") & (table.n_seeds > 0)]
    for dataset, axis in axes.items():
        own = last[last.dataset == dataset]
        for method, style in _styles(table).items():
            if len(line := own[own.method == method]):
                bars = {"marker": "o", "ms": 3, "capsize": 2}
                axis.errorbar(line[column], line["mean"], line["std"].fillna(0), **bars, **style)
        if log and len(own):
            axis.set_xscale("log", base=2)
        ticks = sorted(own[column].unique())
        axis.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axis.set_xlabel(label)
        _empty(axis, own)
    return _finished(figure, axes)


def e_step(drawn: Drawn) -> Figure:
    """Draw the time of one E-step over the same number of instances, by bag size (beyond the paper)."""
    table = drawn["e_step"]
    figure, axis = plt.subplots(figsize=(4.4, 3))
    ours = plotting.PALETTE[list(METHODS).index("mle_llp")]
    axis.plot(table.bag_size, table.e_step_ms, color=ours, marker="o", ms=3, label="programme, O(n y)")
    axis.plot(table.bag_size, table.enumerate_ms, color="0.4", marker="s", ms=3, label="enumeration, C(n, y)")
    axis.set(xlabel="bag size n", ylabel="milliseconds")
    if len(table):
        axis.set_yscale("log")
        axis.set_xscale("log", base=2)
    doubled = [n for n in table.bag_size if n & (n - 1) == 0]
    axis.set_xticks(doubled, [f"{n:g}" for n in doubled])
    _empty(axis, table)
    axis.legend()
    return figure


def _split(spec: Spec) -> bool:
    """Whether all bags are split 80 to 20."""
    return spec.pool == "all" and not spec.bags


def _in_order(names: Iterable[str], known: dict[str, str]) -> list[str]:
    names = set(names)
    return [*(name for name in known if name in names), *sorted(names - set(known))]


def _styles(table: pandas.DataFrame) -> dict[str, dict]:
    """{method of a table: its colour and its words}; a method's colour is the same in every figure."""
    colours = dict(zip([*METHODS, *_in_order(set(table.method) - set(METHODS), {})], plotting.PALETTE, strict=False))
    methods = _in_order(table.method, METHODS)
    return {name: {"color": colours.get(name, "0.3"), "label": METHODS.get(name, name)} for name in methods}


def _panels(datasets: Iterable[str]):
    """A figure and {dataset: its panel}; one panel without a name where there is no dataset."""
    datasets = _in_order(datasets, DATASETS) or [""]
    figure, axes = plt.subplots(1, len(datasets), figsize=(1.2 + 3.2 * len(datasets), 3), squeeze=False)
    for axis, dataset in zip(axes[0], datasets, strict=True):
        axis.set_title(DATASETS.get(dataset, dataset))
    return figure, dict(zip(datasets, axes[0], strict=True))


def _empty(axis, rows: pandas.DataFrame) -> None:
    if not len(rows):
        axis.set(xticks=[], yticks=[])
        plotting.not_run(axis)


def _finished(figure: Figure, axes: dict) -> Figure:
    panels = list(axes.values())
    panels[0].set_ylabel("test accuracy (%)")
    handles = {text: handle for axis in panels for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    order = {name: place for place, name in enumerate(METHODS.values())}
    handles = dict(sorted(handles.items(), key=lambda item: order.get(item[0], len(order))))
    panels[-1].legend(handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("mle_llp", make_figures))
