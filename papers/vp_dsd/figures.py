"""Draw Figures 2, 3 and 4, and when KL collapses, from tables; outputs.yaml names them."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from papers.vp_dsd.names import CLASSES, is_varied
from papers.vp_dsd.tables import OURS
from shared import plotting
from shared.config import Run
from shared.tables.draw import Drawn

# Losses in words, and first in this order; others go by their name.
WORDS = {"kl": "KL", "vp_l2": "VP-L2", "vp_ce": "VP-CE", "plot": "LLP-PLOT", "mse": "MSE", "flm": "FLM", "pc": "PC"}
BUDGET = "kl-epochs"  # what KL with another number of epochs is called
PANELS = {"phase": "cells (phase)", "hologram": "hologram", "amplitude": "propagated (amplitude)"}
COLOURS = dict(zip(CLASSES, plotting.PALETTE, strict=False))
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])  # lymphocyte, monocyte, granulocyte
ACROSS = 5  # panels of Figure 2 in a row


def _learned(drawn: Drawn) -> list[Run]:
    """Return the runs that classify our simulated cells from the subjects' labels: no controls, no drawn bags."""
    runs = [run for run in drawn.runs if run.spec.task == "classification" and not is_varied(run.method)]
    return [run for run in runs if (run.spec.dataset, run.spec.bags, run.spec.labels) == (OURS, "images", "subject")]


def _in_order(losses) -> list[str]:
    """Return the losses once each, those with words first."""
    losses = set(losses)
    return [*(loss for loss in WORDS if loss in losses), *sorted(losses - set(WORDS))]


def fig2(drawn: Drawn) -> Figure:
    """Draw Figure 2: predictions for single cells on the simplex, in the colour of the true class."""
    table, runs = drawn["fig2"], _learned(drawn)
    early = dict.fromkeys(run.method for run in runs if run.method.startswith(BUDGET))
    titles = {method: f"KL, {method.removeprefix(BUDGET)} epochs" for method in early}
    titles |= {loss: WORDS.get(loss, loss) for loss in _in_order(r.method for r in runs if r.method == r.spec.loss)}
    columns = max(1, min(ACROSS, len(titles)))
    rows = max(1, math.ceil(len(titles) / columns))
    figure, axes = plt.subplots(rows, columns, figsize=(2.1 * columns, 2.4 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (method, title) in zip(axes.flat, titles.items(), strict=False):
        own = table[table.method == method]
        axis.plot(*CORNERS[[0, 1, 2, 0]].T, color="0.6", lw=0.8)
        at = own[list(CLASSES)].to_numpy(float) @ CORNERS
        for k, name in enumerate(CLASSES):
            mine = at[own.label.to_numpy() == k]
            axis.scatter(*mine.T, s=5, color=COLOURS[name], alpha=0.5, lw=0, label=name)
            axis.annotate(name[:4], CORNERS[k], ha="center", va="bottom" if k == 2 else "top", fontsize=7)
        axis.set(title=title, aspect="equal", xlim=(-0.1, 1.1), ylim=(-0.12, 1.0))
        if not len(own):
            plotting.not_run(axis)
    axes.flat[0].legend(loc="upper right", fontsize=6, markerscale=2)
    return figure


def fig3(drawn: Drawn) -> Figure:
    """Draw Figure 3: cells, their hologram, and the hologram propagated to their plane; crosses true, rings found."""
    table = drawn["fig3"]
    figure, axes = plt.subplots(1, len(PANELS), figsize=(8, 2.9))
    for axis, (panel, title) in zip(axes, PANELS.items(), strict=True):
        own = table[table.panel == panel]
        if len(own):
            axis.imshow(own.pivot(index="row", columns="column", values="value"), cmap="gray")
        else:
            plotting.not_run(axis)
        axis.set(title=title, xticks=[], yticks=[])
        axis.grid(False)
    for panel, style in (("true", {"marker": "x", "c": "tab:orange"}), ("found", {"marker": "o", "edgecolors": "c"})):
        points = table[table.panel == panel].pivot(index="row", columns="column", values="value")
        if len(points):
            more = {"facecolors": "none"} if panel == "found" else {}
            axes[2].scatter(points[1], points[0], s=30, lw=0.8, **style, **more)
    return figure


def fig4(drawn: Drawn) -> Figure:
    """Draw Figure 4: accuracy, mean over classes, against seconds of training; bars are one standard deviation."""
    table, loss_of = drawn["fig4"], {run.method: run.spec.loss for run in _learned(drawn)}
    table = table[table.method.isin(loss_of)]
    figure, axis = plt.subplots(figsize=(6, 3.4))
    families = _in_order(loss_of[method] for method in table.method)
    for n, loss in enumerate(families):
        own = table[[loss_of[method] == loss for method in table.method]]
        style = {"fmt": "o", "ms": 4, "capsize": 2, "lw": 0.8, "label": WORDS.get(loss, loss)}
        style["color"] = plotting.PALETTE[n % len(plotting.PALETTE)]
        axis.errorbar(own["train_s_mean"], own["class_accuracy_mean"], own["class_accuracy_std"].fillna(0), **style)
        for _, row in own.iterrows():
            place = (row["train_s_mean"], row["class_accuracy_mean"])
            axis.annotate(row["method"], place, (4, 2), textcoords="offset points", fontsize=5, color="0.3")
    axis.set(xlabel="seconds of training", ylabel="accuracy, mean over classes (%)")
    if len(table):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.legend(fontsize=6)
    else:
        plotting.not_run(axis)
    return figure


def diversity(drawn: Drawn) -> Figure:
    """Draw accuracy by bag size, one panel for each concentration of the bags' proportions (beyond the paper)."""
    table = drawn["diversity"]
    own = table[(table.selection == "last") & (table.metric == "class_accuracy") & (table.n_seeds > 0)]
    levels = sorted(table.bag_concentration.unique()) or [float("nan")]
    colours = {method: plotting.PALETTE[n % len(plotting.PALETTE)] for n, method in enumerate(_in_order(own.method))}
    figure, axes = plt.subplots(1, len(levels), figsize=(1 + 1.9 * len(levels), 2.8), sharey=True, squeeze=False)
    for axis, level in zip(axes[0], levels, strict=True):
        panel = own[own.bag_concentration == level]
        for method, colour in colours.items():
            line = panel[panel.method == method].sort_values("bag_size")
            style = {"marker": "o", "ms": 3, "capsize": 2, "color": colour, "label": WORDS.get(method, method)}
            axis.errorbar(line.bag_size, line["mean"], line["std"].fillna(0), **style)
        axis.axhline(100 / 3, color="0.6", lw=0.8, ls=":")
        axis.set(title=f"concentration {level:g}", xlabel="bag size")
        if len(panel):
            axis.set_xscale("log")
            axis.set_xticks(sorted(panel.bag_size.unique()), [f"{n:g}" for n in sorted(panel.bag_size.unique())])
            axis.minorticks_off()
        else:
            plotting.not_run(axis)
    axes[0, 0].set_ylabel("accuracy, mean over classes (%)")
    if len(own):
        axes[0, 0].legend(fontsize=6)
    return figure


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("vp_dsd", make_figures))
