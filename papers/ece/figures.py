"""Tables -> Figures 3, 4 and 5: ``python -m papers.ece.figures TIER``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas

from papers.ece.plan import plan
from shared import plotting
from shared.records.summary import command, stand_ins

LINES = {
    "ce": "cross-entropy",
    "ce-logit": "cross-entropy, plain logits",
    "focal": "focal",
    "huber": "Huber",
    "ece-code": "ECE, official code",
    "ece-code-no_sampling": "ECE, official code, no sampling",
    "ece-sigmoid": "ECE, Table 2",
    "constant": "constant weight",
}
TRIVIAL = {"everything positive": ":", "nothing positive": "--"}
COLOURS = dict(zip(LINES, plotting.PALETTE, strict=False))


def by_fraction(metrics: dict[str, str]):
    """Figures 4 and 5: a column of panels for each data set, a row for each metric; bars are one standard deviation."""

    def draw(table: pandas.DataFrame, note: str):
        table = table[table.selection == "last"]
        datasets = list(table.dataset.unique()) or [""]
        size = (2.2 + 2.6 * len(datasets), 0.6 + 2.4 * len(metrics))
        figure, axes = plt.subplots(len(metrics), len(datasets), figsize=size, sharey="row", sharex=True, squeeze=False)
        for row, (metric, said) in zip(axes, metrics.items(), strict=True):
            for axis, dataset in zip(row, datasets, strict=True):
                own = table[(table.metric == metric) & (table.dataset == dataset) & (table.n_seeds > 0)]
                _panel(axis, own)
                if axis is row[0]:
                    axis.set_ylabel(said)
                if row is axes[0]:
                    axis.set_title(dataset)
        for axis in axes[-1]:
            axis.set_xlabel("annotated objects (%)")
        handles = {
            label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        if handles:
            figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=6)
        plotting.note(figure, note)
        return figure

    return draw


def _panel(axis, own: pandas.DataFrame) -> None:
    for method, label in LINES.items():
        line = own[own.method == method].sort_values("fraction")
        if len(line):
            style = {"marker": "o", "ms": 3, "capsize": 2, "lw": 1, "color": COLOURS[method], "label": label}
            axis.errorbar(100 * line.fraction, line["mean"], line["std"].fillna(0), **style)
    for method, dashes in TRIVIAL.items():
        line = own[own.method == method].sort_values("fraction")
        if len(line):
            axis.plot(100 * line.fraction, line["mean"], color="0.5", lw=0.8, ls=dashes, label=method)
    if not len(own):
        plotting.not_run(axis)


def corners(table: pandas.DataFrame, note: str):
    """Figure 3: truth and predictions, a row for each data set and task, a column for each method."""
    rows = list(table[["dataset", "task"]].drop_duplicates().itertuples(index=False)) or [("", "")]
    methods = [method for method in LINES if method in set(table.method)]
    size = (1.9 * (1 + max(len(methods), 2)), 0.3 + 2 * len(rows))
    figure, axes = plt.subplots(len(rows), 1 + max(len(methods), 2), figsize=size, squeeze=False)
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
            axis.set_title(LINES.get(method, "truth"), fontsize=7)
    plotting.note(figure, note)
    return figure


def _outline(axis, found: np.ndarray, task: str, colour: str) -> None:
    """The outline of a mask, (H, W) in percent, or boxes (k, 4) of top, left, bottom, right."""
    if task == "segmentation":
        if found.min() < 50 <= found.max():
            axis.contour(found, levels=[50], colors=colour, linewidths=0.7)
        return
    for top, left, bottom, right in found:
        axis.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, ec=colour, lw=0.6))


def _array(table: pandas.DataFrame, panel: str) -> np.ndarray:
    lines = table[table.panel == panel].sort_values("row")["values"]
    return np.array([np.fromstring(line, sep=" ") for line in lines if line])


def make(tier: str, results: Path) -> None:
    """Every figure of a tier, from the tables under ``results/<tier>/ece``."""
    plotting.use_style()
    folder = results / tier / "ece"
    note = stand_ins(pandas.DataFrame([run.spec for run in plan(tier) if run.spec["loss"] != "equations"]))
    tuned = "threshold from validation"
    drawings = {
        "fig3": ("fig3", corners),
        "fig4": ("segmentation", by_fraction({"dice": "DICE", "dice_tuned": f"DICE, {tuned}"})),
        "fig5": ("detection", by_fraction({"f1_tuned": f"F1, {tuned}", "f1": "F1 at one half"})),
    }
    for name, (table, draw) in drawings.items():
        # The empty method of Figure 3's truth is a name, not a missing number.
        numbers = pandas.read_csv(folder / f"{table}.csv", keep_default_na=False, na_values={"mean": "", "std": ""})
        plotting.save(draw(numbers, note), folder / name)


if __name__ == "__main__":
    command(make, "papers.ece.figures", __doc__)
