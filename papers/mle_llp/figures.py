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
    "cifar10": "CIFAR-10, bird against cat",
    "images_of_groups-features": "group photos,\nfrozen features",
    "cifar10-features": "CIFAR-10, bird against cat,\nfrozen features",
    "digits": "digits 3, 8",
}


def fig1(drawn: Drawn) -> Figure:
    """Draw Figure 1: test accuracy by epoch; bands are one standard deviation over repetitions."""
    table = drawn["fig1"]
    runs = [run.spec for run in drawn.runs if run.spec.task == "learning" and _split(run.spec)]
    figure, axes = _panels({inputs(spec.dataset, spec.network) for spec in runs}, table)
    for dataset, axis in axes.items():
        own = table[table.dataset == dataset]
        for method in _in_order(own.method, METHODS):
            line, style = own[own.method == method], plotting.method_style(method)
            label = METHODS.get(method, method)
            plotting.band(axis, line.epoch, line["mean"], line["std"], markersize=3, label=label, **style)
        axis.set_xlabel("epoch")
    return figure if not axes else _finished(figure, axes)


def fig3(drawn: Drawn) -> Figure:
    """Draw Figure 3: final accuracy by number of training bags; bars are one standard deviation."""
    return _accuracy_by(drawn["fig3"], "bags", "training bags m")


def size(drawn: Drawn) -> Figure:
    """Draw final accuracy by the size of bags that all have one size (beyond the paper)."""
    return _accuracy_by(drawn["size"], "bag_size", "bag size n", log=True)


def _accuracy_by(table: pandas.DataFrame, column: str, label: str, log: bool = False) -> Figure:
    last = table[(table.selection == "last") & (table.n_seeds > 0)]
    figure, axes = _panels(table.dataset, last)
    for dataset, axis in axes.items():
        own = last[last.dataset == dataset]
        for method in _in_order(own.method, METHODS):
            line, style = own[own.method == method], plotting.method_style(method)
            plotting.error_bars(
                axis, line[column], line["mean"], line["std"], label=METHODS.get(method, method), **style
            )
        if log:
            axis.set_xscale("log", base=2)
        ticks = sorted(own[column].unique())
        axis.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axis.set_xlabel(label)
    return figure if not axes else _finished(figure, axes)


def e_step(drawn: Drawn) -> Figure:
    """Draw the time of one E-step over the same number of instances, by bag size (beyond the paper)."""
    table = drawn["e_step"]
    if not len(table):
        return plotting.nothing()
    figure, axis = plt.subplots(figsize=(plotting.COLUMN, 2.7))
    style = plotting.method_style("mle_llp")
    axis.plot(table.bag_size, table.e_step_ms, **style, label="programme, O(n y)")
    axis.plot(table.bag_size, table.enumerate_ms, color="0.4", marker="^", ls="--", label="enumeration, C(n, y)")
    axis.set(xlabel="bag size n", ylabel="time of one E-step (ms)", xscale="log", yscale="log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    ticks = [n for n in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if n in set(table.bag_size)][::2]
    axis.set_xticks(ticks, [f"{n:g}" for n in ticks])
    plotting.legend_above(figure)
    return figure


def _split(spec: Spec) -> bool:
    """Whether all bags are split 80 to 20."""
    return spec.pool == "all" and not spec.bags


def _in_order(names: Iterable[str], known: dict[str, str]) -> list[str]:
    names = set(names)
    return [*(name for name in known if name in names), *sorted(names - set(known))]


def _panels(planned: Iterable[str], rows: pandas.DataFrame) -> tuple[Figure, dict]:
    """A figure and {dataset: its panel} of those that have rows, a line of text where none has; it names the others."""
    planned = _in_order(planned, DATASETS)
    datasets = [name for name in planned if name in set(rows.dataset)]
    if not datasets:
        return plotting.nothing(), {}
    size = (plotting.COLUMN if len(datasets) == 1 else plotting.PAGE, 2.8)
    figure, axes = plt.subplots(1, len(datasets), figsize=size, squeeze=False)
    for axis, dataset in zip(axes[0], datasets, strict=True):
        axis.set_title(DATASETS.get(dataset, dataset))
    plotting.left_out(figure, [" ".join(DATASETS.get(name, name).split()) for name in planned if name not in datasets])
    return figure, dict(zip(datasets, axes[0], strict=True))


def _finished(figure: Figure, axes: dict) -> Figure:
    next(iter(axes.values())).set_ylabel("test accuracy (%)")
    plotting.legend_above(figure, list(METHODS.values()))
    return figure


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("mle_llp", make_figures))
