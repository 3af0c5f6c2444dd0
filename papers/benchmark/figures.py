"""Draw the accuracy of methods beside KL's by bag size and dependence, and beside the time of a step."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy
import pandas
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
    panels = [(dataset, own.drop_duplicates(["varied", "x"])) for dataset, own in table.groupby("dataset", sort=False)]
    panels = [(dataset, of.sort_values(["varied", "x"])) for dataset, of in panels]
    wide = [len(of) for _, of in panels]
    size = (min(plotting.PAGE, 1.6 + 0.3 * sum(wide)), 0.7 + 0.21 * len(names))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False, width_ratios=wide)
    for axis, (dataset, of) in zip(axes.flat, panels, strict=True):
        own = table[table.dataset == dataset].pivot(index="method", columns=["varied", "x"], values="mean")
        places = list(zip(of.varied, of.x, strict=True))
        numbers = own.reindex(index=names, columns=pandas.MultiIndex.from_tuples(places)).to_numpy(float)
        shades = numpy.where([[name == KL] for name in names], 0.0, numbers)
        axis.imshow(shades, cmap="RdBu", vmin=-CLIPPED, vmax=CLIPPED, aspect="auto")
        for (line, column), number in numpy.ndenumerate(numbers):
            dark, bold = abs(shades[line, column]) > 0.55 * CLIPPED, "bold" if names[line] == KL else "normal"
            said = "" if numpy.isnan(number) else f"{number:.0f}".replace("-0", "0").replace("-", "\u2212")
            axis.text(column, line, said, ha="center", va="center", color="w" if dark else "k", weight=bold)
        axis.set_title(dataset.replace("_", " "))
        axis.set_xticks(range(len(places)), [f"{x:g}" for _, x in places], rotation=90)
        axis.set_yticks(range(len(names)), [_title(name) for name in names])
        axis.grid(False)
        axis.tick_params(length=0)
        sizes = sum(varied == "bag size" for varied, _ in places)
        axis.axvline(sizes - 0.5, color="k", lw=1)
        axis.set_xlabel("bag size | concentration" if 0 < sizes < len(places) else places[0][0])
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
                axis.axhline(own["mean"][method], color="0.6", lw=0.8, ls=":", label=_title(method))
                continue
            style = plotting.method_style(method) | {"linestyle": "none"}
            axis.plot(own.step[method], own["mean"][method], label=_title(method), **style)
        axis.set(title=dataset.replace("_", " "), xlabel="milliseconds a step", xscale="log")
        axis.margins(0.1)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
    for axis in axes.flat[len(datasets) :]:
        axis.set_visible(False)
    figure.supylabel("test accuracy (%)", fontsize=plotting.TEXT)
    plotting.legend_above(figure)
    return figure


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("benchmark", make_figures))
