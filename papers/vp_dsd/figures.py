"""Draw Figures 2, 3 and 4, proportions, and when KL collapses, from tables; outputs.yaml names them."""

from __future__ import annotations

import math
import re

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from papers.vp_dsd.names import CLASSES, is_varied
from papers.vp_dsd.tables import BUDGET, OURS, REAL, STAINED, THEIRS
from shared import plotting
from shared.config import Run
from shared.tables.draw import Drawn

# Losses in words, and first in this order; others go by their name.
WORDS = {"kl": "KL", "vp_l2": "VP-L2", "vp_ce": "VP-CE", "plot": "LLP-PLOT", "mse": "MSE", "flm": "FLM", "pc": "PC"}
PANELS = {"phase": "cells (phase)", "hologram": "hologram", "amplitude": "propagated (amplitude)"}
MARKS = {  # of cells
    "true": {"marker": "x", "color": "tab:orange", "label": "true cells"},
    "found": {"marker": "o", "color": "c", "mfc": "none", "label": "cells found"},
}
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])  # lymphocyte, monocyte, granulocyte
ACROSS = 5  # panels of Figure 2 in a row
SETS = {OURS: "simulated", THEIRS: "the authors' synthetic", STAINED: "stained cells", REAL: "donors"}
BESIDE = 4  # panels of proportions in a row


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
    there = [method for method in titles if method in set(table.method)]
    if not there:
        return plotting.nothing()
    rows = math.ceil(len(there) / ACROSS)
    size = (plotting.PAGE, 1.5 * rows)
    figure, axes = plt.subplots(rows, min(ACROSS, len(there)), figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, method in zip(axes.flat, there, strict=False):
        own = table[table.method == method]
        axis.plot(*CORNERS[[0, 1, 2, 0]].T, color="0.6", lw=0.8)
        at = own[list(CLASSES)].to_numpy(float) @ CORNERS
        for k, (name, style) in enumerate(zip(CLASSES, plotting.CYCLE, strict=False)):
            mine, look = at[own.label.to_numpy() == k], {"color": style["color"], "marker": style["marker"]}
            axis.scatter(*mine.T, s=6, alpha=0.5, lw=0, rasterized=True, **look)
            axis.plot([], [], ls="none", ms=4, label=name, **look)
            place = {"ha": ("right", "left", "center")[k], "va": "bottom" if k == 2 else "center"}
            axis.annotate(
                name[0].upper(), CORNERS[k], ((-3, 3, 0)[k], 2 * (k == 2)), textcoords="offset points", **place
            )
        axis.set(title=titles[method], aspect="equal", xlim=(-0.12, 1.12), ylim=(-0.05, 1.0))
    plotting.legend_above(figure, list(CLASSES))
    plotting.left_out(figure, [title for method, title in titles.items() if method not in there])
    return figure


def fig3(drawn: Drawn) -> Figure:
    """Draw Figure 3: cells, their hologram, and the hologram propagated to their plane; crosses true, rings found."""
    table = drawn["fig3"]
    there = [panel for panel in PANELS if (table.panel == panel).any()]
    if not there:
        return plotting.nothing()
    figure, axes = plt.subplots(1, len(there), figsize=(plotting.PAGE, 2.5), squeeze=False)
    for axis, panel in zip(axes[0], there, strict=True):
        image = table[table.panel == panel].pivot(index="row", columns="column", values="value")
        axis.imshow(image, cmap="gray", interpolation="none")
        axis.set(title=PANELS[panel], xticks=[], yticks=[])
        axis.grid(False)
    for panel, style in MARKS.items():
        points = table[table.panel == panel].pivot(index="row", columns="column", values="value")
        if len(points):
            axes[0][-1].plot(points[1], points[0], ls="none", ms=6, mew=1.2, **style)
    plotting.legend_above(figure)
    plotting.left_out(figure, [title for panel, title in PANELS.items() if panel not in there])
    return figure


def fig4(drawn: Drawn) -> Figure:
    """Draw Figure 4: accuracy, mean over classes, against seconds of training; bars are one standard deviation."""
    table, loss_of = drawn["fig4"], {run.method: run.spec.loss for run in _learned(drawn)}
    table = table[table.method.isin(loss_of)]
    if not len(table):
        return plotting.nothing()
    figure, axis = plt.subplots(figsize=(plotting.PAGE, 4))
    paper = drawn.reported("table1", "class_accuracy").set_index("column")
    for loss in _in_order(loss_of[method] for method in table.method):
        own = table[[loss_of[method] == loss for method in table.method]]
        style = plotting.method_style(loss) | {"linestyle": "none"}
        at, accuracy = own["train_s_mean"], own["class_accuracy_mean"]
        plotting.error_bars(axis, at, accuracy, own["class_accuracy_std"], label=WORDS.get(loss, loss), **style)
        said = own[own.method.isin(paper.index)]
        reported, says = (paper[name][said.method] for name in ("reported", "says"))
        plotting.mark_reported(axis, said["train_s_mean"], reported, says, style)
    axis.axhline(100 / len(CLASSES), color="0.6", lw=0.8, ls=":", label="one constant answer")
    axis.set(xlabel="seconds of training", ylabel="accuracy, mean over classes (%)", xscale="log")
    axis.margins(0.12, 0.08)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    plotting.legend_above(figure)
    places = [tuple(place) for place in table[["train_s_mean", "class_accuracy_mean"]].to_numpy()]
    names = [_varied(method, loss_of[method]) for method in table.method]
    plotting.name_points(axis, places, names, table["class_accuracy_std"].fillna(0).tolist())
    return figure


def _varied(method: str, loss: str) -> str:
    """What a method varies of the one that has the name of its loss, in words."""
    varied = re.sub(r"([a-z])(\d)", r"\1 \2", method.removeprefix(loss).removeprefix("-"))
    return varied.replace("-", ", ").replace("_", " ")


def proportions(drawn: Drawn) -> Figure:
    """Draw predicted against true proportions of test subjects, a panel each dataset and loss; on the line is right."""
    table = drawn["proportions"]
    planned = {
        name: _in_order(run.method for run in drawn.runs if _is_plain(run) and run.spec.dataset == name)
        for name in SETS
    }
    titles = {
        (name, loss): f"{WORDS.get(loss, loss)}, {SETS[name]}" for name, losses in planned.items() for loss in losses
    }
    own = dict(list(table.groupby(["dataset", "method"])))
    there = [pair for pair in titles if pair in own]
    if not there:
        return plotting.nothing()
    rows = math.ceil(len(there) / BESIDE)
    size, columns = (plotting.PAGE, 1.8 * rows), min(BESIDE, len(there))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(there) :]:
        axis.axis("off")
    for axis, pair in zip(axes.flat, there, strict=False):
        axis.axline((0, 0), slope=1, color="0.6", lw=0.8)
        for name, style in zip(CLASSES, plotting.CYCLE, strict=False):
            mine = own[pair][own[pair]["class"] == name]
            look = {"color": style["color"], "marker": style["marker"], "rasterized": True}  # thousands of points
            axis.plot(mine.true, mine.predicted, ls="none", ms=2.5, alpha=0.6, mew=0, label=name, **look)
        axis.set(title=titles[pair], aspect="equal", xlim=(0, 100), ylim=(-3, 103), xticks=(0, 50, 100))
        axis.tick_params(labelbottom=True)
    figure.supylabel("predicted proportion (%)", fontsize=plotting.TEXT)
    axes[-1, 0].set_xlabel("true proportion (%)")
    plotting.legend_above(figure, list(CLASSES))
    plotting.left_out(figure, [title for pair, title in titles.items() if pair not in there])
    return figure


def _is_plain(run: Run) -> bool:
    """Whether a run classifies images or donors by a loss with nothing varied."""
    return run.spec.task == "classification" and run.spec.bags == "images" and run.method == run.spec.loss


def diversity(drawn: Drawn) -> Figure:
    """Draw accuracy by bag size, one panel for each concentration of the bags' proportions (beyond the paper)."""
    table = drawn["diversity"]
    own = table[(table.selection == "last") & (table.metric == "class_accuracy") & (table.n_seeds > 0)]
    levels = sorted(own.bag_concentration.unique())
    if not levels:
        return plotting.nothing()
    figure, axes = plt.subplots(1, len(levels), figsize=(plotting.PAGE, 2.4), sharey=True, squeeze=False)
    for axis, level in zip(axes[0], levels, strict=True):
        panel = own[own.bag_concentration == level]
        for method in _in_order(panel.method):
            line = panel[panel.method == method].sort_values("bag_size")
            style = plotting.method_style(method) | {"label": WORDS.get(method, method)}
            plotting.error_bars(axis, line.bag_size, line["mean"], line["std"], **style)
        axis.axhline(100 / len(CLASSES), color="0.6", lw=0.8, ls=":", label="one constant answer")
        axis.set(title=f"concentration {level:g}", xlabel="bag size", xscale="log")
        axis.set_xticks(sorted(panel.bag_size.unique()), [f"{n:g}" for n in sorted(panel.bag_size.unique())])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("accuracy,\nmean over classes (%)")
    plotting.legend_above(figure)
    planned = set(table.bag_concentration) - set(levels)
    plotting.left_out(figure, [f"concentration {level:g}" for level in sorted(planned)])
    return figure


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("vp_dsd", make_figures))
