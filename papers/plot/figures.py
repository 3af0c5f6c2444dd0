"""Draw Figures 2 to 4 of the paper, and its Tables 1 and 2, from tables; outputs.yaml names them."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from papers.plot.tables import ADDED, CEILING, CONTINUED, CURVES, PLOT, TOY
from shared import datasets, plotting
from shared.tables.draw import Drawn

# In words and in this order; what these do not name comes after, under its own name.
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "digits (8x8)"}
STAGES = {"dllp": "DLLP", "llp_vat": "LLP-VAT", "llp_gan": "LLP-GAN"}
SECOND = {"": "stage one alone", CONTINUED: "stage one goes on", PLOT: "stage one + PLOT"}
PANELS = {
    **{
        f"{loss}{added}": f"{STAGES[loss]}{word}"
        for loss in ("dllp", "llp_gan")
        for added, word in (("", ""), (PLOT, " + PLOT"))
    },
    **{f"{loss}{CONTINUED}": f"{STAGES[loss]} that goes on" for loss in ("dllp", "llp_gan")},
}
EXACT = "llp_vat_exact"  # ours, beside LLP-VAT
LABELS = dict(zip(CURVES, ("TD", "TD_OT", "TD_OT_5"), strict=True))
KINDS = {
    f"dllp{PLOT}": ("hard", "-"),
    "dllp+sce+soft0.1": ("soft, 1 / lambda = 0.1", "-."),
    "dllp+sce+soft0.3": ("soft, 1 / lambda = 0.3", ":"),
    "dllp+sce+soft": ("soft", "--"),
}
OTHER_LINES = (":", "-.")
OF_PAPER = ("cifar10", "cifar100")  # whose numbers the paper reports
ACROSS = 3  # panels of Figure 2 in a row


def size(drawn: Drawn) -> Figure:
    """Draw accuracy by bag size, Tables 1 and 2: a row a dataset, a column a stage one; hollow is the paper."""
    tables = {name: drawn[name] for name in ("table1", "table2")}
    table = pandas.concat([part.assign(table=name) for name, part in tables.items()])
    table = table[(table.selection == "last") & (table.n_seeds > 0)]
    ones = pandas.Series([method.partition("+")[0] for method in table.method], dtype=object)
    stages = [name for name in _in_order(ones, STAGES) if name not in (CEILING, EXACT)]
    if not stages:
        return plotting.nothing()
    names = _in_order(table.dataset, DATASETS)
    height = 0.4 + 1.7 * len(names)
    figure, axes = plt.subplots(
        len(names), len(stages), figsize=(plotting.PAGE, height), sharex=True, sharey="row", squeeze=False
    )
    for row, name in zip(axes, names, strict=True):
        own = table[table.dataset == name]
        ceiling = own["mean"][own.method == CEILING]
        paper = drawn.reported(own.table.iloc[0])
        row[0].set_ylabel(f"{DATASETS.get(name, name)}\ntest accuracy (%)")
        for axis, stage in zip(row, stages, strict=True):
            for added, label in SECOND.items():
                style = plotting.method_style(stage + added)
                said = paper[paper.row == stage + ADDED[added]] if name in OF_PAPER else paper[:0]
                at = said.column.str.extract(r"n=(\d+)", expand=False).astype(float)
                _line(axis, own[own.method == stage + added], label if added else STAGES.get(stage, stage), style)
                plotting.mark_reported(axis, at, said.reported, said.says, style)
            if stage == "llp_vat":
                _line(axis, own[own.method == EXACT], "LLP-VAT, steps of exact length", plotting.method_style(EXACT))
            if len(ceiling):
                axis.axhline(ceiling.iloc[0], color="black", ls=":", label="supervised")
            axis.set_xscale("log", base=2)
            sizes = sorted(own.bag_size[own.method != CEILING].unique())
            axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    for axis, stage in zip(axes[0], stages, strict=True):
        axis.set_title(STAGES.get(stage, stage))
    for axis in axes[-1]:
        axis.set_xlabel("bag size n")
    stage_one = [STAGES.get(stage, stage) for stage in stages]
    plotting.legend_above(figure, [*stage_one, *SECOND.values(), "LLP-VAT, steps of exact length", "supervised"])
    return figure


def _line(axis, line: pandas.DataFrame, label: str, style: dict) -> None:
    if len(line):
        line = line.sort_values("bag_size")
        plotting.error_bars(axis, line.bag_size, line["mean"], line["std"], label=label, **style)


def fig2(drawn: Drawn) -> Figure:
    """Draw Figure 2: the class found at each place behind the training points in their true colours, a panel a method.

    A panel shows the seed of median accuracy.
    """
    table = drawn["fig2"]
    titles = PANELS | {name: name for name in sorted(set(table.method) - set(PANELS))}
    made = table[table.shown & table.grid.notna()].drop_duplicates("method").set_index("method")
    found = {method: drawn.record(made["id"][method]) for method in titles if method in made.index}
    records = {method: record for method, record in found.items() if record is not None}
    if not records:
        return plotting.nothing()
    rows = math.ceil(len(records) / ACROSS)
    size = (plotting.PAGE, 1.9 * rows)
    figure, axes = plt.subplots(rows, min(ACROSS, len(records)), figsize=size, squeeze=False)
    colours, points = ListedColormap([plotting.COLOURS["blue"], plotting.COLOURS["amber"]]), _points()
    for axis in axes.flat[len(records) :]:
        axis.axis("off")
    for axis, (method, record) in zip(axes.flat, records.items(), strict=False):
        axis.set(title=titles[method], xticks=[], yticks=[])
        grid = np.array(record["curves"]["grid"])
        side = round(len(grid) ** 0.5)
        low, high = (0, 0), (1, 1)
        if points is not None:
            low, high = points.x_train.min(0) - 0.3, points.x_train.max(0) + 0.3
            x, y = points.x_train.T
            axis.scatter(x, y, c=points.y_train, cmap=colours, vmin=0, vmax=1, s=1.5, linewidths=0, rasterized=True)
        box = (low[0], high[0], low[1], high[1])
        style = {"cmap": colours, "vmin": 0, "vmax": 1, "alpha": 0.3, "interpolation": "nearest", "zorder": 0}
        axis.imshow(grid.reshape(side, side), origin="lower", extent=box, aspect="auto", **style)
        axis.grid(False)
        axis.set_xlabel(f"test accuracy {made.accuracy[method]:.1f} %")
    plotting.left_out(figure, [title for method, title in titles.items() if method not in records])
    return figure


def fig3(drawn: Drawn) -> Figure:
    """Draw Figure 3: accuracy of predictions, transported labels and their mean on training instances, by epoch."""
    table = drawn["fig3"]
    figure, panels = _panels(drawn, table)
    styles = dict(zip(_in_order(table.curve, LABELS), plotting.CYCLE, strict=False))
    for name, axis in panels.items():
        own = table[table.dataset == name]
        for curve, style in styles.items():
            line = own[own.curve == curve]
            if len(line):
                label = LABELS.get(curve, curve)
                plotting.band(axis, line.epoch, line["mean"], line["std"], markersize=3, label=label, **style)
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
            label, dashes = kinds[method]
            style = {"color": colours[size], "linestyle": dashes, "marker": "", "label": f"n={size}, {label}"}
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
    """Return a figure and {dataset: its axes} of those that have rows; others that are planned with PLOT are named."""
    planned = [run.spec.dataset for run in drawn.runs if run.method in KINDS and run.spec.dataset != TOY]
    names = _in_order(table.dataset, DATASETS)
    if not names:
        return plotting.nothing(), {}
    figure, axes = plt.subplots(1, len(names), figsize=(plotting.PAGE, 2.8), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set(title=DATASETS.get(name, name), xlabel="epoch of stage two")
    plotting.left_out(figure, [DATASETS.get(name, name) for name in _in_order(planned, DATASETS) if name not in names])
    return figure, dict(zip(names, axes[0], strict=True))


def _finish(figure: Figure, panels: dict[str, plt.Axes], label: str) -> Figure:
    """Name the ordinate and put one legend beside the last panel."""
    axes = list(panels.values())
    handles = {text: handle for axis in axes for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        axes[0].set_ylabel(label)
        axes[-1].legend(handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("plot", make_figures))
