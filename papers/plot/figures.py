"""Tables, and for the toy its records -> Figures 2 to 4: ``python -m papers.plot.figures TIER``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.colors import ListedColormap

from papers.plot.plan import plan
from papers.plot.tables import CURVES, PLOT, SOFT, TOY
from shared import datasets, plotting
from shared.records import store
from shared.records.summary import command, stand_ins

DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "digits (8x8)"}
PANELS = {
    "dllp": "DLLP",
    f"dllp{PLOT}": "DLLP + PLOT",
    "llp_gan": "LLP-GAN",
    f"llp_gan{PLOT}": "LLP-GAN + PLOT",
}
LABELS = dict(zip(CURVES, ("TD", "TD_OT", "TD_OT_5"), strict=True))
STYLES = {f"dllp{PLOT}": ("hard", "-"), f"dllp{SOFT}": ("soft", "--")}


def moons(table: pandas.DataFrame, runs: Path, points, note: str):
    """Figure 2: the class found at each place behind the training points in their true colours.

    points : the dataset of the two moons, or None; a panel shows the first seed that was run.
    """
    figure, axes = plt.subplots(1, len(PANELS), figsize=(2.4 * len(PANELS), 2.4))
    colours = ListedColormap(plotting.PALETTE[:2])
    for axis, (method, title) in zip(axes, PANELS.items(), strict=True):
        axis.set(title=title, xticks=[], yticks=[])
        made = table[(table.method == method) & table.grid.notna()].sort_values("seed")
        path = store.record_path(runs, made["id"].iloc[0]) if len(made) else None
        if path is None or not path.exists():
            plotting.not_run(axis)
            continue
        found = np.array(store.load(path)["curves"]["grid"])
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
    plotting.note(figure, note)
    return figure


def label_curves(table: pandas.DataFrame, names: list[str], note: str):
    """Figure 3: accuracy of predictions, transported labels and their mean on training instances, by epoch."""
    figure, axes = _panels(table, names)
    for axis, name in zip(axes, names, strict=True):
        own = table[table.dataset == name]
        for (curve, label), colour in zip(LABELS.items(), plotting.PALETTE, strict=False):
            _line(axis, own[own.curve == curve], color=colour, label=label)
        if len(own):
            axis.set_title(f"{axis.get_title()}, n={own.bag_size.iloc[0]}")
    return _finish(figure, axes, "accuracy of labels (%)", note)


def hard_and_soft(table: pandas.DataFrame, names: list[str], note: str):
    """Figure 4: test accuracy in stage two from hard labels (solid) and soft ones (dashed), a colour a bag size."""
    figure, axes = _panels(table, names)
    sizes = sorted(table.bag_size.unique())
    colours = dict(zip(sizes, plotting.sequential(len(sizes)), strict=True))
    for axis, name in zip(axes, names, strict=True):
        own = table[table.dataset == name]
        for (size, method), line in own.groupby(["bag_size", "method"]):
            label, style = STYLES[method]
            _line(axis, line, color=colours[size], linestyle=style, label=f"n={size}, {label}")
    return _finish(figure, axes, "test accuracy (%)", note)


def _panels(table: pandas.DataFrame, names: list[str]):
    figure, axes = plt.subplots(1, len(names), figsize=(1.4 + 3.2 * len(names), 3), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set(title=DATASETS.get(name, name), xlabel="epoch of stage two")
        if not (table.dataset == name).any():
            axis.set(xticks=[], yticks=[])
            plotting.not_run(axis)
    return figure, axes[0]


def _line(axis, line: pandas.DataFrame, **style) -> None:
    if not len(line):
        return
    axis.plot(line.epoch, line["mean"], marker=".", ms=3, **style)
    low, high = line["mean"] - line["std"], line["mean"] + line["std"]
    axis.fill_between(line.epoch, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _finish(figure, axes, label: str, note: str):
    axes[0].set_ylabel(label)
    handles = {text: handle for axis in axes for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        axes[-1].legend(handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(1, 0.5))
    plotting.note(figure, note)
    return figure


def draw(tier: str, results: Path) -> None:
    """All figures of a tier, from its csv tables and, for Figure 2, the records these name."""
    folder = results / tier / "plot"
    plotting.use_style()
    specs = pandas.DataFrame([run.spec for run in plan(tier)])
    fig2, fig3, fig4 = (pandas.read_csv(folder / f"{name}.csv") for name in ("fig2", "fig3", "fig4"))
    try:
        points = datasets.load(TOY)
    except datasets.DatasetError:
        points = None
    note = f"Tier {tier}. {stand_ins(specs[specs.dataset == TOY])}"
    plotting.save(moons(fig2, folder / "runs", points, note), folder / "fig2")
    images = specs[(specs.dataset != TOY) & specs.method.isin(STYLES)]
    names = [name for name in DATASETS if name in set(images.dataset)] or ["cifar10"]
    note = f"Tier {tier}. {stand_ins(images)}"
    plotting.save(label_curves(fig3, names, note), folder / "fig3")
    plotting.save(hard_and_soft(fig4, names, note), folder / "fig4")


if __name__ == "__main__":
    command(draw, "papers.plot.figures", __doc__)
