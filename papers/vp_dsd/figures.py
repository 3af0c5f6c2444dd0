"""Tables -> Figures 2, 3 and 4, and when KL collapses: ``python -m papers.vp_dsd.figures TIER``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.ticker import LogLocator

from papers.vp_dsd.names import CLASSES
from papers.vp_dsd.plan import plan
from papers.vp_dsd.tables import OURS
from shared import plotting
from shared.records.summary import command, stand_ins

COLOURS = dict(zip(CLASSES, plotting.PALETTE, strict=False))
SHOWN = {"kl-epochs5": "KL, pre-training", "kl": "KL", "vp_l2": "VP-L2", "vp_ce": "VP-CE"}  # Figure 2
PANELS = {"phase": "cells (phase)", "hologram": "hologram", "amplitude": "propagated (amplitude)"}
FAMILIES = {
    "vp": "VP",
    "plot": "LLP-PLOT",
    "kl": "KL",
    "mse": "MSE",
    "flm": "FLM",
    "pc": "PC",
    "supervised": "supervised",
}
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])  # lymphocyte, monocyte, granulocyte


def simplexes(table: pandas.DataFrame, note: str):
    """Figure 2: predictions for single cells on the simplex, in the colour of the true class."""
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(9, 2.6))
    for axis, (method, title) in zip(axes, SHOWN.items(), strict=True):
        own = table[table.method == method]
        axis.plot(*CORNERS[[0, 1, 2, 0]].T, color="0.6", lw=0.8)
        at = own[list(CLASSES)].to_numpy(float) @ CORNERS
        for k, name in enumerate(CLASSES):
            mine = at[own.label.to_numpy() == k]
            axis.scatter(*mine.T, s=5, color=COLOURS[name], alpha=0.5, lw=0, label=name)
            axis.annotate(name[:4], CORNERS[k], ha="center", va="bottom" if k == 2 else "top", fontsize=7)
        axis.set(title=title, aspect="equal", xlim=(-0.1, 1.1), ylim=(-0.12, 1.0))
        axis.axis("off")
        if not len(own):
            plotting.not_run(axis)
    axes[-1].legend(loc="upper right", fontsize=6, markerscale=2)
    plotting.note(figure, note)
    return figure


def crops(table: pandas.DataFrame, note: str):
    """Figure 3: cells, their hologram, and the hologram propagated to their plane; crosses are true, rings found."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(8, 2.9))
    for axis, (panel, title) in zip(axes, PANELS.items(), strict=True):
        own = table[table.panel == panel]
        if len(own):
            axis.imshow(own.pivot(index="row", columns="column", values="value"), cmap="gray")
        if not len(own):
            plotting.not_run(axis)
        axis.set(title=title, xticks=[], yticks=[])
        axis.grid(False)
    for panel, style in (("true", {"marker": "x", "c": "tab:orange"}), ("found", {"marker": "o", "edgecolors": "c"})):
        points = table[table.panel == panel].pivot(index="row", columns="column", values="value")
        if len(points):
            more = {"facecolors": "none"} if panel == "found" else {}
            axes[2].scatter(points[1], points[0], s=30, lw=0.8, **style, **more)
    plotting.note(figure, note)
    return figure


def speed(table: pandas.DataFrame, note: str):
    """Figure 4: accuracy, mean over classes, against seconds of training; bars are one standard deviation."""
    figure, axis = plt.subplots(figsize=(6, 3.4))
    for colour, (family, label) in zip(plotting.PALETTE, FAMILIES.items(), strict=False):
        own = table[table.method.str.startswith(family)]
        own = own[~own.method.str.contains("permuted|constant|counted")]
        if len(own):
            spread = own["class_accuracy_std"].fillna(0)
            style = {"fmt": "o", "ms": 4, "capsize": 2, "lw": 0.8, "color": colour, "label": label}
            axis.errorbar(own["train_s_mean"], own["class_accuracy_mean"], spread, **style)
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
    if not len(table):
        plotting.not_run(axis)
    plotting.note(figure, note)
    return figure


def diversity(table: pandas.DataFrame, note: str):
    """Beyond the paper: accuracy by bag size, one panel for each concentration of the bags' proportions."""
    own = table[(table.selection == "last") & (table.metric == "class_accuracy") & (table.n_seeds > 0)]
    levels = sorted(table.bag_concentration.unique()) or [float("nan")]
    figure, axes = plt.subplots(1, len(levels), figsize=(1 + 1.9 * len(levels), 2.8), sharey=True, squeeze=False)
    for axis, level in zip(axes[0], levels, strict=True):
        panel = own[own.bag_concentration == level]
        for colour, (loss, lines) in zip(plotting.PALETTE, panel.groupby("loss"), strict=False):
            lines = lines.sort_values("bag_size")
            style = {"marker": "o", "ms": 3, "capsize": 2, "color": colour, "label": FAMILIES.get(loss[:2], loss)}
            axis.errorbar(lines.bag_size, lines["mean"], lines["std"].fillna(0), **style)
        axis.axhline(100 / 3, color="0.6", lw=0.8, ls=":")
        axis.set(title=f"concentration {level:g}", xlabel="bag size")
        if len(panel):
            axis.set_xscale("log")
            axis.set_xticks(sorted(panel.bag_size.unique()), [f"{n:g}" for n in sorted(panel.bag_size.unique())])
            axis.minorticks_off()
        if not len(panel):
            plotting.not_run(axis)
    axes[0, 0].set_ylabel("accuracy, mean over classes (%)")
    if len(own):
        axes[0, 0].legend(fontsize=6)
    plotting.note(figure, note)
    return figure


def make(tier: str, results: Path) -> None:
    """Every figure of a tier, from the tables under ``results/<tier>/vp_dsd``."""
    plotting.use_style()
    folder = results / tier / "vp_dsd"
    shown = [run.spec for run in plan(tier) if run.spec["dataset"] == OURS and not run.spec.get("predictor")]
    note = stand_ins(pandas.DataFrame(shown))
    for name, draw in (("fig2", simplexes), ("fig3", crops), ("fig4", speed), ("diversity", diversity)):
        plotting.save(draw(pandas.read_csv(folder / f"{name}.csv"), note), folder / name)


if __name__ == "__main__":
    command(make, "papers.vp_dsd.figures", __doc__)
