"""Draw the accuracy of methods by bag size and dependence, and beside the time of a step."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from papers.benchmark.methods import METHODS
from shared import plotting
from shared.tables.draw import Drawn


def _style(method: str) -> dict:
    place = list(METHODS).index(method) if method in METHODS else len(METHODS)
    return {"color": plotting.PALETTE[place % len(plotting.PALETTE)], "marker": "osD^v<>Ph*"[place % 10], "ms": 4}


def _title(method: str) -> str:
    return METHODS[method].title if method in METHODS else method


def by_size(drawn: Drawn) -> Figure:
    """Draw accuracy by bag size on random bags, and by how much bags of 16 follow the labels."""
    import pandas

    main, other = drawn["accuracy"], drawn["settings"]
    table = pandas.concat([main.assign(setting="random16"), other])
    table = table[(table.selection == "last") & (table.n_seeds > 0)]
    dataset = table.dataset.value_counts().index[0] if len(table) else ""
    own = table[table.dataset == dataset]
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.6), sharey=True)
    for axis, pattern, label in (
        (axes[0], r"^random(\d+)$", "instances a bag, random"),
        (axes[1], r"^dirichlet16-c([\d.]+)$", "concentration: small follows the labels"),
    ):
        found = own.assign(x=own.setting.str.extract(pattern)[0].astype(float)).dropna(subset="x")
        for method, line in found.sort_values("x").groupby("method", sort=False):
            axis.plot(line.x, line["mean"], label=_title(method), lw=1, **_style(method))
        axis.set(xlabel=label, title=dataset if axis is axes[0] else "")
        if len(found):
            axis.set_xscale("log", base=2 if axis is axes[0] else 10)
        else:
            plotting.not_run(axis)
    axes[0].set_ylabel("test accuracy (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def by_time(drawn: Drawn) -> Figure:
    """Draw accuracy beside the time of a step, random bags of 16, a panel a task."""
    accuracy, cost = drawn["accuracy"], drawn["cost"]
    last = accuracy[(accuracy.selection == "last") & (accuracy.n_seeds > 0)]
    time = cost[cost.metric == "step_ms"][["method", "dataset", "mean"]].rename(columns={"mean": "step"})
    both = last.merge(time, on=["method", "dataset"])
    datasets = list(dict.fromkeys(both.dataset)) or [""]
    columns = min(3, len(datasets))
    rows = -(-len(datasets) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.4 * columns + 0.6, 2.2 * rows + 1), squeeze=False)
    for axis, dataset in zip(axes.flat, datasets, strict=False):
        for method, point in both[both.dataset == dataset].groupby("method", sort=False):
            axis.plot(point.step, point["mean"], ls="", label=_title(method), **_style(method))
        axis.set(title=dataset)
        if len(both):
            axis.set_xscale("log")
        else:
            plotting.not_run(axis)
    for axis in axes.flat[len(datasets) :]:
        axis.set_visible(False)
    figure.supxlabel("milliseconds a step", fontsize=9)
    figure.supylabel("test accuracy (%)", fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("benchmark", make_figures))
