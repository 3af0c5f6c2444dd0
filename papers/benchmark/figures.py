"""Draw the accuracy of methods beside KL's by bag size and dependence, and beside the time of a step."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from papers.benchmark.methods import METHODS
from papers.benchmark.tables import KL
from shared import plotting
from shared.tables.draw import Drawn

CLIPPED = 20  # points above or below KL beyond which the colour is the same


def _title(method: str) -> str:
    return METHODS[method].title if method in METHODS else method


def by_size(drawn: Drawn) -> Figure:
    """Draw accuracy less KL's as numbers on colours, a panel a task: by bag size, then by dependence on the labels."""
    table = drawn["beside_kl"]
    table = table[table.n_seeds > 0]
    if not len(table):
        return plotting.nothing()
    names = [name for name in METHODS if name in set(table.method)]
    panels = [(dataset, own) for dataset, own in table.groupby("dataset", sort=False)]
    places = [list(dict.fromkeys(zip(own.varied, own.x, strict=True))) for _, own in panels]
    wide = [len(of) for of in places]
    size = (min(plotting.PAGE, 1.6 + 0.3 * sum(wide)), 0.8 + 0.21 * len(names))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False, width_ratios=wide)
    for axis, (dataset, own), of in zip(axes.flat, panels, places, strict=True):
        shades = numpy.full((len(names), len(of)), numpy.nan)
        for row in own.itertuples():
            at = names.index(row.method), of.index((row.varied, row.x))
            told = row.method != KL and not row.low90 <= 0 <= row.high90
            shades[at] = row.mean if told else 0.0
            colour = "k" if told or row.method == KL else "0.5"
            said = f"{row.mean:.0f}".replace("-0", "0").replace("-", "\u2212")
            style = {"weight": "bold"} if row.method == KL else {}
            colour = "w" if abs(shades[at]) > 0.55 * CLIPPED else colour
            axis.text(at[1] + 0.5, at[0] + 0.5, said, ha="center", va="center", color=colour, **style)
        axis.pcolormesh(shades, cmap="RdBu", vmin=-CLIPPED, vmax=CLIPPED, edgecolors="w", linewidth=0.8)
        axis.set_xticks([n + 0.5 for n in range(len(of))], [f"{x:g}" for _, x in of], rotation=90)
        axis.set_yticks([n + 0.5 for n in range(len(names))], [_title(name) for name in names])
        axis.set(title=dataset.replace("_", " "), ylim=(len(names), 0))
        axis.grid(False)
        axis.tick_params(length=0)
        sizes = sum(varied == "bag size" for varied, _ in of)
        axis.axvline(sizes, color="k", lw=1)
        axis.set_xlabel("bag size | concentration" if 0 < sizes < len(of) else of[0][0])
    figure.suptitle("Points of accuracy less KL's; of KL its accuracy", fontsize=plotting.TEXT, color=plotting.GREY)
    return figure


def by_time(drawn: Drawn) -> Figure:
    """Draw accuracy beside the time of a step, random bags of 16, a panel a task; what takes no steps is a line."""
    accuracy, cost = drawn["accuracy"], drawn["cost"]
    last = accuracy[(accuracy.selection == "last") & (accuracy.n_seeds > 0)]
    time = cost[cost.metric == "step_ms"][["method", "dataset", "mean"]].rename(columns={"mean": "step"})
    both = last.merge(time, on=["method", "dataset"])
    if not len(both):
        return plotting.nothing()
    datasets = list(dict.fromkeys(both.dataset))
    columns = min(3, len(datasets))
    rows = -(-len(datasets) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(plotting.PAGE, 2.1 * rows), squeeze=False)
    for axis, dataset in zip(axes.flat, datasets, strict=False):
        own = both[both.dataset == dataset].set_index("method")
        for method in (name for name in METHODS if name in own.index):
            if METHODS[method].role == "floor":
                continue
            style = plotting.method_style(method) | {"linestyle": "none"}
            axis.plot(own.step[method], own["mean"][method], label=_title(method), **style)
        axis.set(title=dataset.replace("_", " "), xlabel="milliseconds a step", xscale="log")
        axis.margins(0.1)
        _mark_floor(axis, own)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
    for axis in axes.flat[len(datasets) :]:
        axis.set_visible(False)
    figure.supylabel("test accuracy (%)", fontsize=plotting.TEXT)
    plotting.legend_above(figure)
    return figure


def _mark_floor(axis: Axes, own: pandas.DataFrame) -> None:
    """Draw what a constant answer has as a line, or say it where a line would squeeze the methods."""
    low, high = axis.get_ylim()
    for method in (name for name in own.index if METHODS[name].role == "floor"):
        floor = own["mean"][method]
        if floor < low - 0.3 * (high - low):
            said, at = f"{_title(method)}: {floor:.0f}", axis.transAxes
            axis.text(0.99, 0.02, said, transform=at, ha="right", va="bottom", color=plotting.GREY)
        else:
            axis.axhline(floor, color="0.6", lw=0.8, ls=":", label=_title(method))


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("benchmark", make_figures))
