"""Draw Figures 3, 4 and 5 of the paper from tables; outputs.yaml names them."""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.figure import Figure

from shared import plotting
from shared.tables.draw import Drawn

METHODS = {  # in words, and first in this order; others go by their name
    "ce": "cross-entropy",
    "ce-logit": "cross-entropy, plain logits",
    "focal": "focal",
    "huber": "Huber",
    "ece-code": "ECE, official code",
    "ece-code-no_sampling": "ECE, official code, no sampling",
    "ece-sigmoid": "ECE, Table 2",
    "constant": "constant weight",
    "ece-sigmoid-logit": "ECE, Table 2, plain logits",
    "elr": "early-learning reg.",
    "elr-logit": "early-learning reg., plain logits",
    "weak0.5-logit": "weak supervision, plain logits",
}
SCHEDULES = ("code", "sigmoid")  # the official code's, and the best of Table 2
TRIVIAL = {"everything positive": ":", "nothing positive": "--"}
DASHES, MARKS = ("-", "--", ":"), ("o", "s", "^")  # after each turn of the palette the next


def fig3(drawn: Drawn) -> Figure:
    """Draw Figure 3: truth and predictions, a row for each data set and task, a column for each method."""
    table = _without_variants(drawn["fig3"].fillna({"method": "", "values": ""}), drawn)
    rows = list(table[["dataset", "task"]].drop_duplicates().itertuples(index=False)) or [("", "")]
    methods = _ordered(method for method in table.method if method)
    columns = 1 + max(len(methods), 2)
    figure, axes = plt.subplots(len(rows), columns, figsize=(1.9 * columns, 0.3 + 2 * len(rows)), squeeze=False)
    for line, (dataset, task) in zip(axes, rows, strict=True):
        own = table[(table.dataset == dataset) & (table.task == task)]
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
        line[0].set_ylabel(f"{dataset}\n{task}", fontsize=7)
        if not len(own):
            plotting.not_run(line[0])
            continue
        image = _array(own, "image").reshape(own.panel.eq("image").sum(), -1, 3).astype(np.uint8)
        shown = ["", *(method for method in methods if method in set(own.method))]
        for axis in line[len(shown) :]:
            axis.axis("off")
        for axis, method in zip(line, shown, strict=False):
            axis.imshow(image, interpolation="none")  # else a vector graphic would hold it magnified
            panel, colour = ("found", "cyan") if method else ("true", "yellow")
            _outline(axis, _array(own[own.method == method], panel), task, colour)
            axis.set_title(METHODS.get(method, method) or "truth", fontsize=7)
    return figure


def fig4(drawn: Drawn) -> Figure:
    """Draw Figure 4: DICE by the fraction of objects annotated, at argmax and at the chosen threshold."""
    table = _without_variants(drawn["segmentation"], drawn)
    return _by_fraction(table, {"dice": "DICE", "dice_tuned": "DICE, threshold from validation"})


def fig5(drawn: Drawn) -> Figure:
    """Draw Figure 5: F1 by the fraction of objects annotated, at the chosen threshold and at one half."""
    table = _without_variants(drawn["detection"], drawn)
    return _by_fraction(table, {"f1_tuned": "F1, threshold from validation", "f1": "F1 at one half"})


def _without_variants(table: pandas.DataFrame, drawn: Drawn) -> pandas.DataFrame:
    """Leave out the variants of ECE that Tables 1 and 2 compare: without focal weight, and by another schedule."""
    ece = [run for run in drawn.runs if "schedule" in run.spec]
    variants = [run.method for run in ece if not run.spec.focal or run.spec.schedule not in SCHEDULES]
    return table[~table.method.isin(variants)]


def _by_fraction(table: pandas.DataFrame, metrics: dict[str, str]) -> Figure:
    """Draw a column of panels for each data set, a row for each metric; bars are one standard deviation."""
    table = table[(table.selection == "last") & table.metric.isin(metrics)]
    datasets = list(table.dataset.unique()) or [""]
    styles = _styles(_ordered(table.method[~table.method.isin(TRIVIAL)]))
    size = (2.2 + 2.6 * len(datasets), 0.6 + 2.4 * len(metrics))
    figure, axes = plt.subplots(len(metrics), len(datasets), figsize=size, sharey="row", sharex=True, squeeze=False)
    for row, (metric, said) in zip(axes, metrics.items(), strict=True):
        row[0].set_ylabel(said)
        for axis, dataset in zip(row, datasets, strict=True):
            _panel(axis, table[(table.metric == metric) & (table.dataset == dataset) & (table.n_seeds > 0)], styles)
    for axis, dataset in zip(axes[0], datasets, strict=True):
        axis.set_title(dataset)
    for axis in axes[-1]:
        axis.set_xlabel("annotated objects (%)")
    pairs = [axis.get_legend_handles_labels() for axis in axes.flat]
    handles = {label: handle for pair in pairs for handle, label in zip(*pair, strict=True)}
    if handles:
        labels = [style["label"] for style in styles.values() if style["label"] in handles]
        labels += [label for label in TRIVIAL if label in handles]
        figure.legend([handles[label] for label in labels], labels, loc="outside right upper", fontsize=6)
    return figure


def _styles(methods: list[str]) -> dict[str, dict]:
    """Return colour, dashes and mark of each method: those in words first, then round the palette with other dashes."""
    styles, places = {}, {method: place for place, method in enumerate(dict.fromkeys([*METHODS, *methods]))}
    for method in methods:
        turn, colour = divmod(places[method], len(plotting.PALETTE))
        style = {"color": plotting.PALETTE[colour], "ls": DASHES[turn % 3], "marker": MARKS[turn % 3]}
        styles[method] = style | {"label": METHODS.get(method, method), "ms": 3, "capsize": 2, "lw": 1}
    return styles


def _panel(axis, own: pandas.DataFrame, styles: dict[str, dict]) -> None:
    for method, style in styles.items():
        line = own[own.method == method].sort_values("fraction")
        if len(line):
            axis.errorbar(100 * line.fraction, line["mean"], line["std"].fillna(0), **style)
    for method, dashes in TRIVIAL.items():
        line = own[own.method == method].sort_values("fraction")
        if len(line):
            axis.plot(100 * line.fraction, line["mean"], color="0.5", lw=0.8, ls=dashes, label=method)
    if not len(own):
        plotting.not_run(axis)


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


def _array(table: pandas.DataFrame, panel: str) -> np.ndarray:
    lines = table[table.panel == panel].sort_values("row")["values"]
    return np.array([np.fromstring(line, sep=" ") for line in lines if line])


if __name__ == "__main__":
    import sys

    from shared.tables.draw import make_figures
    from shared.tables.make import main

    sys.exit(main("ece", make_figures))
