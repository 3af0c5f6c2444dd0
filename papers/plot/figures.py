"""Draw Figures 2 to 4 of the paper from tables; outputs.yaml names them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from papers.plot.tables import CURVES, PLOT, TOY
from shared import datasets, plotting
from shared.tables.draw import Drawn

# In words and in this order; what these do not name comes after, under its own name.
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "digits (8x8)"}
PANELS = {
    "dllp": "DLLP",
    f"dllp{PLOT}": "DLLP + PLOT",
    "llp_gan": "LLP-GAN",
    f"llp_gan{PLOT}": "LLP-GAN + PLOT",
}
LABELS = dict(zip(CURVES, ("TD", "TD_OT", "TD_OT_5"), strict=True))
KINDS = {
    f"dllp{PLOT}": ("hard", "-"),
    "dllp+sce+soft0.1": ("soft, 1 / lambda = 0.1", "-."),
    "dllp+sce+soft0.3": ("soft, 1 / lambda = 0.3", ":"),
    "dllp+sce+soft": ("soft", "--"),
}
OTHER_LINES = (":", "-.")


def fig2(drawn: Drawn) -> Figure:
    """Draw Figure 2: the class found at each place behind the training points in their true colours, a panel a method.

    A panel shows the seed of median accuracy.
    """
    table = drawn["fig2"]
    panels = PANELS | {name: name for name in sorted(set(table.method) - set(PANELS))}
    figure, axes = plt.subplots(1, len(panels), figsize=(2.4 * len(panels), 2.4))
    colours = ListedColormap(plotting.PALETTE[:2])
    points = _points()
    for axis, (method, title) in zip(axes, panels.items(), strict=True):
        axis.set(title=title, xticks=[], yticks=[])
        made = table[(table.method == method) & table.shown & table.grid.notna()]
        record = drawn.record(made["id"].iloc[0]) if len(made) else None
        if record is None:
            plotting.not_run(axis)
            continue
        found = np.array(record["curves"]["grid"])
        side = round(len(found) ** 0.5)
        low, high = (0, 0), (1, 1)
        if points is not None:
            low, high = points.x_train.min(0) - 0.3, points.x_train.max(0) + 0.3
            x, y = points.x_train.T
            axis.scatter(x, y, c=points.y_train, cmap=colours, vmin=0, vmax=1, s=1.5, linewidths=0, rasterized=True)
        box = (low[0], high[0], low[1], high[1])
        style = {"cmap": colours, "vmin": 0, "vmax": 1, "alpha": 0.3, "interpolation": "nearest", "zorder": 0}
        axis.imshow(found.reshape(side, side), origin="lower", extent=box, aspect="auto", **style)
        axis.grid(False)
        axis.set_xlabel(f"test accuracy {made.accuracy.iloc[0]:.1f} %")
    return figure


def fig3(drawn: Drawn) -> Figure:
    """Draw Figure 3: accuracy of predictions, transported labels and their mean on training instances, by epoch."""
    table = drawn["fig3"]
    figure, panels = _panels(drawn, table)
    colours = dict(zip(_in_order(table.curve, LABELS), plotting.PALETTE, strict=False))
    for name, axis in panels.items():
        own = table[table.dataset == name]
        for curve, colour in colours.items():
            line = own[own.curve == curve]
            if len(line):
                label = LABELS.get(curve, curve)
                plotting.band(axis, line.epoch, line["mean"], line["std"], color=colour, label=label)
        if len(own):
            axis.set_title(f"{axis.get_title()}, n={own.bag_size.iloc[0]}")
    return _finish(figure, panels, "accuracy of labels (%)")


def fig4(drawn: Drawn) -> Figure:
    """Draw Figure 4: test accuracy in stage two by kind of labels (a line style) and by bag size (a colour)."""
    table = drawn["fig4"]
    figure, panels = _panels(drawn, table)
    sizes = sorted(table.bag_size.unique())
    colours = dict(zip(sizes, plotting.sequential(len(sizes)), strict=True))
    others = [method for method in _in_order(table.method, KINDS) if method not in KINDS]
    kinds = KINDS | {name: (name, OTHER_LINES[place % 2]) for place, name in enumerate(others)}
    for name, axis in panels.items():
        for (size, method), line in table[table.dataset == name].groupby(["bag_size", "method"]):
            label, style = kinds[method]
            style = {"color": colours[size], "linestyle": style, "label": f"n={size}, {label}"}
            plotting.band(axis, line.epoch, line["mean"], line["std"], **style)
    return _finish(figure, panels, "test accuracy (%)")


def _points() -> datasets.Dataset | None:
    """Return the two moons, where they are at hand."""
    try:
        return datasets.load(TOY)
    except datasets.DatasetError:
        return None


def _in_order(found: pandas.Series, words: dict) -> list[str]:
    return [*(name for name in words if name in set(found)), *sorted(set(found) - set(words))]


def _panels(drawn: Drawn, table: pandas.DataFrame) -> tuple[Figure, dict[str, plt.Axes]]:
    """Return a figure and {dataset: its axes}: of those planned with PLOT, the paper's own where there are none."""
    planned = [run.spec.dataset for run in drawn.runs if run.method in KINDS and run.spec.dataset != TOY]
    names = _in_order([*planned, *table.dataset], DATASETS) or ["cifar10"]
    figure, axes = plt.subplots(1, len(names), figsize=(1.4 + 3.2 * len(names), 3), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set(title=DATASETS.get(name, name), xlabel="epoch of stage two")
        if not (table.dataset == name).any():
            axis.set(xticks=[], yticks=[])
            plotting.not_run(axis)
    return figure, dict(zip(names, axes[0], strict=True))


def _finish(figure: Figure, panels: dict[str, plt.Axes], label: str) -> Figure:
    """Name the ordinate and put one legend beside the last panel."""
    axes = list(panels.values())
    axes[0].set_ylabel(label)
    handles = {text: handle for axis in axes for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        axes[-1].legend(handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("plot", make_figures))
