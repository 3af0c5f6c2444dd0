"""Draw the accuracy of methods by bag size and dependence, and beside the time of a step."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from papers.benchmark.methods import METHODS
from papers.benchmark.tables import MAIN
from shared import plotting
from shared.tables.draw import Drawn

PANELS = (
    (r"^random(\d+)$", "instances a bag, random bags", 2),
    (r"^dirichlet16-c([\d.]+)$", "concentration; the less, the purer bags of 16", 10),
)


def _title(method: str) -> str:
    return METHODS[method].title if method in METHODS else method


def by_size(drawn: Drawn) -> Figure:
    """Draw accuracy by bag size on random bags, and by how much bags of 16 follow the labels."""
    table = pandas.concat([drawn["accuracy"].assign(setting=MAIN), drawn["settings"]])
    table = table[(table.selection == "last") & (table.n_seeds > 0) & table.method.isin(METHODS)]
    if not len(table):
        return plotting.nothing()
    dataset = table.drop_duplicates(["dataset", "setting"]).dataset.value_counts().index[0]
    own = table[table.dataset == dataset]
    figure, axes = plt.subplots(1, 2, figsize=(plotting.PAGE, 3.4), sharey=True)
    for axis, (pattern, label, base) in zip(axes, PANELS, strict=True):
        found = own.assign(x=own.setting.str.extract(pattern)[0].astype(float)).dropna(subset="x").sort_values("x")
        for method in METHODS:
            line = found[found.method == method]
            if len(line):
                style = plotting.method_style(method)
                plotting.error_bars(axis, line.x, line["mean"], line["std"], label=_title(method), **style)
        axis.set(xlabel=label, title=dataset.replace("_", " "), ylim=(0, 100))
        axis.set_xscale("log", base=base)
        axis.set_xticks(sorted(set(found.x)), [f"{x:g}" for x in sorted(set(found.x))])
        axis.minorticks_off()
    axes[0].set_ylabel("test accuracy (%)")
    plotting.legend_above(figure)
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
