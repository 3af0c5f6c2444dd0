"""Draw Figures 3, 4 and 5 of the paper from tables; outputs.yaml names them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.figure import Figure

from papers.ece.names import SIMULATED
from shared import plotting
from shared.tables.draw import Drawn

METHODS = {  # in words, and first in this order; others go by their name
    "ce": "cross-entropy",
    "ce-logit": "cross-entropy, plain logits",
    "focal": "focal",
    "huber": "Huber",
    "ece-code": "ECE, official code",
    "ece-code-no_sampling": "ECE, official code, no sampling",
    "ece-sigmoid": "ECE, sigmoid schedule",
    "constant": "constant weight",
    "ece-sigmoid-logit": "ECE, sigmoid schedule, plain logits",
    "elr": "early-learning reg.",
    "elr-logit": "early-learning reg., plain logits",
    "weak0.75": "weak supervision, from .75",
    "weak0.5": "weak supervision, from .5",
    "weak0.75-logit": "weak supervision, from .75, plain logits",
    "weak0.5-logit": "weak supervision, from .5, plain logits",
}
SETS = {SIMULATED: "simulated tissue", "tnbc": "TNBC", "crchisto": "CRCHisto", "monuseg": "MoNuSeg", "kumar": "Kumar"}
SCHEDULES = ("code", "sigmoid")  # the official code's, and the best of Table 2
TRIVIAL = {"everything positive": ":", "nothing positive": "--"}
READ_AS = ("tnbc", SIMULATED)  # the data of what the paper reports, and what stands in for them
LEAST = 0.1  # of an axis of scores: less would show nothing as something
ACROSS = 5  # panels of Figure 3 in a row


def fig3(drawn: Drawn) -> Figure:
    """Draw Figure 3: truth and predictions, some rows of panels for each data set and task."""
    table = _without_variants(drawn["fig3"].fillna({"method": "", "values": ""}), drawn)
    blocks = [(*names, own) for names, own in table.groupby(["dataset", "task"], sort=False)]
    if not blocks:
        return plotting.nothing()
    lines = [math.ceil((1 + len(_found(own))) / ACROSS) for *_, own in blocks]
    figure = plt.figure(figsize=(plotting.PAGE, 0.2 * len(blocks) + 1.6 * sum(lines)))
    parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=[0.13 + n for n in lines])[:, 0]
    for part, rows, (dataset, task, own) in zip(parts, lines, blocks, strict=True):
        part.suptitle(f"{SETS.get(dataset, dataset)}, {task}", fontsize=plotting.TEXT + 1)
        image = _array(own, "image").reshape(own.panel.eq("image").sum(), -1, 3).astype(np.uint8)
        axes = part.subplots(rows, ACROSS, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, method in zip(axes.flat, ["", *_found(own)], strict=False):
            axis.imshow(image, interpolation="none")  # else a vector graphic would hold it magnified
            panel, colour = ("found", "cyan") if method else ("true", "yellow")
            _outline(axis, _array(own[own.method == method], panel), task, colour)
            if method and not _any(_array(own[own.method == method], panel), task):
                axis.text(0.5, 0.04, "nothing found", transform=axis.transAxes, ha="center", color="w")
            title = textwrap.fill(METHODS.get(method, method) or "truth", 22)
            axis.set_title(title, fontsize=plotting.TEXT)
    return figure


def _found(own: pandas.DataFrame) -> list[str]:
    """The methods that have a panel."""
    return _ordered(method for method in own.method if method)


def fig4(drawn: Drawn) -> Figure:
    """Draw Figure 4: DICE by the fraction of objects annotated, at argmax and at the chosen threshold."""
    metrics = {"dice": "DICE", "dice_tuned": "DICE, threshold\nfrom validation"}
    return _by_fraction(drawn, "segmentation", metrics, "dice", drawn.reported("readme", "dice_batches"))


def fig5(drawn: Drawn) -> Figure:
    """Draw Figure 5: F1 by the fraction of objects annotated, at the chosen threshold and at one half."""
    metrics = {"f1_tuned": "F1, threshold\nfrom validation", "f1": "F1 at one half"}
    return _by_fraction(drawn, "detection", metrics, "f1_tuned", drawn.reported("table1", "f1_tuned"))


def _without_variants(table: pandas.DataFrame, drawn: Drawn) -> pandas.DataFrame:
    """Leave out the variants of ECE that Tables 1 and 2 compare: without focal weight, and by another schedule."""
    ece = [run for run in drawn.runs if "schedule" in run.spec]
    variants = [run.method for run in ece if not run.spec.focal or run.spec.schedule not in SCHEDULES]
    return table[~table.method.isin(variants)]


def _by_fraction(drawn: Drawn, name: str, metrics: dict[str, str], of: str, paper: pandas.DataFrame) -> Figure:
    """Draw a row of panels for each data set, a column for each metric; bars are one standard deviation.

    What the paper reports, hollow, is of the metric `of`, and of the first of `READ_AS` that is there.
    """
    table = _without_variants(drawn[name], drawn)
    planned = list(table.dataset.unique())
    table = table[(table.selection == "last") & table.metric.isin(metrics) & (table.n_seeds > 0)]
    datasets = list(table.dataset.unique())
    if not datasets:
        return plotting.nothing()
    reported = next((d for known in READ_AS for d in datasets if d.partition(":")[0] == known), None)
    methods = _ordered(table.method[~table.method.isin(TRIVIAL)])
    size = (plotting.PAGE, 0.3 + 2 * len(datasets))
    figure, axes = plt.subplots(len(datasets), len(metrics), figsize=size, sharex=True, squeeze=False)
    for row, dataset in zip(axes, datasets, strict=True):
        for axis, (metric, said) in zip(row, metrics.items(), strict=True):
            own = table[(table.metric == metric) & (table.dataset == dataset)].sort_values("fraction")
            name, _, target = dataset.partition(":")
            axis.set(title=f"{SETS.get(name, name)}{f',{target}' * bool(target)}", ylabel=said)
            _panel(axis, own, methods)
            for method in methods if (dataset, metric) == (reported, of) else ():
                some = paper[paper.row == method]
                at = some.column.str.removeprefix("f").astype(float)
                plotting.mark_reported(axis, at, some.reported, some.says, plotting.method_style(method))
    for axis in axes[-1]:
        axis.set_xlabel("annotated objects (%)")
    plotting.legend_above(figure, [METHODS.get(method, method) for method in methods])
    plotting.left_out(figure, [dataset for dataset in planned if dataset not in datasets])
    return figure


def _panel(axis, own: pandas.DataFrame, methods: list[str]) -> None:
    for method in methods:
        line = own[own.method == method]
        if len(line):
            style = plotting.method_style(method) | {"label": METHODS.get(method, method), "ms": 3.5}
            plotting.error_bars(axis, 100 * line.fraction, line["mean"], line["std"], (0, 1), **style)
    for method, dashes in TRIVIAL.items():
        line = own[own.method == method]
        style = {"color": "0.5", "lw": 0.8, "ls": dashes, "label": method}
        if len(line) == 1:  # a line through one point is none
            axis.axhline(line["mean"].iloc[0], **style)
        elif len(line):
            axis.plot(100 * line.fraction, line["mean"], **style)
    if axis.get_ylim()[1] < LEAST:
        axis.set_ylim(-0.05 * LEAST, LEAST)


def _ordered(methods: Iterable[str]) -> list[str]:
    """Return those that have words in their order, then the others as they come."""
    there = dict.fromkeys(methods)
    return list(dict.fromkeys([*(method for method in METHODS if method in there), *there]))


def _outline(axis, found: np.ndarray, task: str, colour: str) -> None:
    """Draw the outline of a mask, (H, W) in percent, or boxes (k, 4) of top, left, bottom, right."""
    if task == "segmentation":
        if found.min() < 50 <= found.max():
            axis.contour(found, levels=[50], colors=colour, linewidths=0.7)
        return
    for top, left, bottom, right in found:
        axis.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, ec=colour, lw=0.6))


def _any(found: np.ndarray, task: str) -> bool:
    """Whether there is an outline to draw."""
    return bool(found.size and (task != "segmentation" or found.max() >= 50))


def _array(table: pandas.DataFrame, panel: str) -> np.ndarray:
    lines = table[table.panel == panel].sort_values("row")["values"]
    return np.array([np.fromstring(line, sep=" ") for line in lines if line])


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("ece", make_figures))
