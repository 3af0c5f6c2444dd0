"""Turn records into Tables 1 to 3 and the numbers of Figures 3 to 5, by fraction annotated; outputs.yaml names them."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
import pandas

from papers.ece.names import SIMULATED
from shared.config import Run
from shared.tables.evidence import Evidence
from shared.tables.make import Table
from shared.tables.numbers import checks, entry, over_seeds

# What a table shows of a run, {(metric, selection): in words}.
KEPT = {("kept", "last"): "unannotated terms kept at the end"}
ADDED = {("pseudo_labels", "last"): "pseudo-labels per annotation"}  # of weak supervision
DICE = {
    ("dice", "last"): "DICE",
    ("dice_tuned", "last"): "DICE, threshold chosen on validation",
    ("dice", "oracle"): "DICE, best threshold on test (oracle)",
    ("dice_batch", "last"): "DICE over all pixels",
    ("dice_batches", "last"): "DICE, mean over batches of 4",  # the authors'
    ("positive_share", "last"): "share of pixels predicted positive",
    **KEPT,
    **ADDED,
}
F1 = {
    ("f1_tuned", "last"): "F1, threshold chosen on validation",
    ("f1", "last"): "F1 at a confidence of one half",
    ("f1", "oracle"): "F1, best threshold on test (oracle)",
    ("found_share", "last"): "detections per object at one half",
    **KEPT,
    **ADDED,
}
RADIUS = {
    ("f1_half", "last"): "F1, half the radius",
    ("f1_tuned", "last"): "F1",
    ("f1_double", "last"): "F1, twice the radius",
    ("f1_iou", "last"): "F1, intersection over union of .5",
}
EXCLUSIVE = {
    ("exclusive_recall", "last"): "exclusive recall",
    ("recall_tuned", "last"): "recall",
    ("recall_others", "last"): "recall of the other classes",
    ("found_share", "last"): "detections per object at one half",
}
MEASURES = {
    "segmentation": DICE,
    "readme": {("dice_batches", "last"): "DICE, mean over batches of 4"},
    "detection": F1,
    "table1": F1,
    "table2": F1,
    "table3": EXCLUSIVE,
    "matching": RADIUS,
    "splits": {("dice", "last"): "DICE"},
}
# Predictors that learn nothing: what their metrics end in, and what they are called. One of a data set is the same
# beside every loss; it is taken of cross-entropy's runs.
TRIVIAL = {"everything": "everything positive", "nothing": "nothing positive"}
OF_TRIVIAL = {"dice": "dice", "f1": "f1", "f1_tuned": "f1", "exclusive_recall": "exclusive_recall"}
OF_TRIVIAL |= {"recall_others": "recall_others"}
# The data of the paper's own table, and what else may stand there before simulated tissue does.
PAPERS_OWN: dict[str, tuple[str, ...]] = {"readme": ("tnbc",), "table1": ("tnbc",), "table2": ("tnbc",)}
PAPERS_OWN |= {"table3": ("til: lymphocyte", "crchisto: inflammatory")}
LEGEND = (
    "Mean ± standard deviation over seeds (their number); a seed draws annotations, network and crops anew, and of "
    "simulated tissue the images. Of real sets seed s has split s mod 5, by slide: seeds of a split share test images."
)
RIVALS = ("ce", "focal", "huber")  # of Figures 4 and 5, with ECE
BEST = "sigmoid"  # the schedule of ECE outside Table 2
BESIDE = ("ce", "constant")  # what Table 2 shows beside schedules: no exclusion, and the control
BY = ["dataset", "method", "fraction"]
TEXTS, NUMBERS = ("task", "dataset", "target", "loss", "schedule", "focal"), ("seed", "fraction", "splits", "value")


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows as cells of the tables: `table`, `row`, `column`, `measure`; a row may be in several.

    A row of a table goes by its method where it is of the paper's data or, if these have no record, of what stands in
    for them; else by data set and method. F1 is the paper's at the threshold chosen on validation: the paper names no
    confidence. The class to be found stands after the name of a real set, and `split` is that of the seed.
    """
    rows = rows.reindex(columns=dict.fromkeys([*rows.columns, *TEXTS, *NUMBERS]))
    rows = rows.astype(dict.fromkeys(TEXTS, object) | dict.fromkeys(NUMBERS, float))
    rows = rows[rows.dataset.notna()].fillna({"target": ""})
    of_class = rows.target.ne("") & rows.dataset.ne(SIMULATED)
    rows = rows.assign(
        dataset=rows.dataset.where(~of_class, rows.dataset + ": " + rows.target),
        split=(rows.seed % rows.splits).astype("Int64"),
        column="f" + (100 * rows.fraction).map("{:.0f}".format).astype(object),
    )
    parts = []
    for table, chosen in _chosen(rows).items():
        own = rows[chosen]
        papers_own = _papers_own(own, PAPERS_OWN.get(table, ()))
        measures = [_measured(own, *pair, said) for pair, said in MEASURES[table].items()]
        named = pandas.concat(measures, ignore_index=True)
        named = named.assign(table=table, row=named.method.where(papers_own == named.dataset, _both(named)))
        if table == "readme":
            named = named[named.dataset == papers_own]
        elif table == "table3":
            named = named.assign(column=named.column.where(named.dataset != papers_own, "TIL"))
        elif table == "splits":
            named = named.assign(column=named.column + " split " + named.split.astype(str))
        parts.append(named)
    return pandas.concat(parts, ignore_index=True)


def _chosen(rows: pandas.DataFrame) -> dict[str, pandas.Series]:
    """Return which rows each table shows."""
    segmented, detected = rows.task == "segmentation", rows.task == "detection"
    published = rows.loss.ne("ece") | rows.schedule.eq(BEST)
    some = rows.fraction.isin([0.3, 0.6])
    others = detected & published & rows.target.ne("")
    least = rows.fraction.where(others).groupby(rows.dataset).transform("min")
    return {
        "segmentation": segmented,
        "readme": segmented,
        "detection": detected,
        "table1": detected & some & published,
        "table2": detected & some & (rows.loss.isin(BESIDE) | (rows.loss.eq("ece") & rows.focal.ne(False))),
        "table3": others & (rows.fraction == least),
        "matching": detected,
        "splits": segmented & rows.splits.notna(),
    }


def _measured(rows: pandas.DataFrame, metric: str, selection: str, said: str) -> pandas.DataFrame:
    """Return the rows of a measure, and after them those of the trivial predictors as of methods of their own."""
    own = rows[(rows.metric == metric) & (rows.selection == selection)]
    parts = [own[own.loss == "weak"] if (metric, selection) in ADDED else own]
    if selection == "last" and metric in OF_TRIVIAL:
        for name, called in TRIVIAL.items():
            same = rows[(rows.metric == f"{OF_TRIVIAL[metric]}_{name}") & (rows.selection == "last")]
            parts.append(same[same.method == "ce"].assign(metric=metric, method=called))
    return pandas.concat(parts).assign(measure=said)


def _papers_own(rows: pandas.DataFrame, datasets: tuple[str, ...]) -> str:
    """Return the first of the paper's data sets, then simulated tissue, that has a value, else the first there is."""
    valued, there = set(rows.dataset[rows.value.notna()]), set(rows.dataset)
    choices = (*datasets, SIMULATED) if datasets else ()
    return next((name for names in (valued, there) for name in choices if name in names), "")


def _both(rows: pandas.DataFrame) -> pandas.Series:
    return rows.dataset + ": " + rows.method


@functools.lru_cache(maxsize=1)
def _cells(evidence: Evidence) -> pandas.DataFrame:
    parts = []
    for task, tables in (
        ("segmentation", ("segmentation", "readme")),
        ("detection", ("detection", "table3", "matching")),
    ):
        metrics = {metric for table in tables for metric, _ in MEASURES[table]}
        metrics |= {f"{OF_TRIVIAL[metric]}_{name}" for metric in metrics & set(OF_TRIVIAL) for name in TRIVIAL}
        parts.append(evidence.rows(sorted(metrics), evidence.where(task=task), ["last", "oracle"]))
    return cells(pandas.concat(parts, ignore_index=True))


def _table(evidence: Evidence, name: str, by: list[str] = BY) -> Table:
    """Return a table over seeds; for reading, a row for a data set, method and measure, a column for a fraction."""
    own = _cells(evidence)
    own = own[own.table == name]
    shown = set(own["id"])
    table = over_seeds(own, [*by, "metric", "selection"])
    index = [*(key for key in by if key != "fraction"), "measure"]
    said = [MEASURES[name][pair] for pair in zip(table.metric, table.selection, strict=True)]
    texts = [entry(*numbers) for numbers in zip(table["n_seeds"], table["mean"], table["std"], strict=True)]
    read = table.assign(measure=said, text=texts)
    spread = read.set_index([*index, "fraction"])["text"].unstack("fraction").fillna("")
    spread.columns = [f"{100 * fraction:.0f} %" for fraction in spread.columns]
    read = read[index].drop_duplicates().merge(spread.reset_index(), on=index)
    used = [run for run in evidence.runs if run.id in shown]
    return Table(table, read, used, (LEGEND, idle(evidence, used)))


def idle(evidence: Evidence, runs: Iterable[Run]) -> str:
    """Return sentences on the runs whose rule has done nothing; empty if there are none.

    Such are those of ECE that dropped less than a thousandth of the unannotated terms in every epoch, and those of weak
    supervision without a pseudo-label: but for focal weights they are trainings by cross-entropy under another name.
    """
    excluded: dict[tuple[str, ...], list[str]] = {}  # {cell: ids of its runs}
    added: dict[tuple[str, ...], list[str]] = {}
    for run, record in evidence.recorded(runs):
        cell = (run.spec.dataset, run.spec.task, run.method, f"{100 * run.spec.fraction:.0f} %")
        kept = record["curves"].get("train_kept")
        if run.spec.loss == "ece" and kept and min(kept) > 0.999:
            excluded.setdefault(cell, []).append(run.id)
        if record["metrics"]["last"].get("pseudo_labels") == 0:
            added.setdefault(cell, []).append(run.id)
    said = []
    for rule, cells in (("excluded less than a thousandth in every epoch", excluded), ("added no pseudo-label", added)):
        names = [f"{' '.join(name)} ({len(ids)} run{'s' * (len(ids) > 1)})" for name, ids in sorted(cells.items())]
        if names:
            said.append(f"The rule has {rule} of: {', '.join(names)}.")
    return " ".join([*said, "But for focal weights these are cross-entropy by another name."]) if said else ""


def segmentation(evidence: Evidence) -> Table:
    """Return the DICE of Figure 4, of every method of segmentation."""
    return _table(evidence, "segmentation")


def detection(evidence: Evidence) -> Table:
    """Return the F1 of Figure 5, of every method of detection."""
    return _table(evidence, "detection")


def best(evidence: Evidence) -> Table:
    """Return the share of sets and fractions in which ECE, and the constant weight, are better than all rivals.

    Rivals are cross-entropy, focal and Huber loss behind the same head; a cell counts where all have a value of the
    same seed. `cells` are those of a seed, on average; spreads are over seeds.
    """
    rows = _cells(evidence)
    rows = rows[rows.table.isin(["segmentation", "detection"]) & (rows.selection == "last") & rows.value.notna()]
    rows = rows[rows.metric.isin(["dice", "dice_tuned", "f1", "f1_tuned"]) & ~rows.method.isin(TRIVIAL.values())]
    parts = []
    for measure, own in rows.groupby("measure", sort=False):
        values = own.pivot_table(index=["dataset", "fraction", "seed"], columns="method", values="value")
        for method in own.method[own.loss.isin(["ece", "constant"])].unique():
            rivals = [name + "-logit" * method.endswith("-logit") for name in RIVALS]
            if set(rivals) <= set(values):
                cells = values[[method, *rivals]].dropna()
                won = (cells[method] > cells[rivals].max(axis=1)).astype(float).rename("value").reset_index()
                won = won.assign(measure=measure, metric=own.metric.iloc[0], method=method)
                parts += [won.assign(dataset="all"), won] if won.dataset.nunique() > 1 else [won]
    by = ["measure", "metric", "method", "dataset"]
    won = pandas.concat(parts) if parts else pandas.DataFrame(columns=[*by, "seed", "value"])
    shares = won.groupby([*by, "seed"], sort=False).value.agg(value="mean", cells="size").reset_index()
    table = over_seeds(shares, by)
    table.insert(len(by), "cells", shares.groupby(by, sort=False).cells.mean().round(1).to_numpy())
    texts = [entry(*numbers) for numbers in zip(table["n_seeds"], table["mean"], table["std"], strict=True)]
    read = table[["dataset", "method", "measure", "cells"]].assign(**{"share of cells": texts})
    used = [run for run in evidence.runs if run.id in set(rows["id"])]
    return Table(table.drop(columns="measure"), read, used, (LEGEND, idle(evidence, used)))


def table1(evidence: Evidence) -> Table:
    """Return Table 1: F1 of every loss at 30 and 60 %, of ECE with the schedule that Table 2 finds best."""
    return _table(evidence, "table1")


def table2(evidence: Evidence) -> Table:
    """Return Table 2: F1 of ECE's schedules at 30 and 60 %, beside cross-entropy and the constant weight."""
    return _table(evidence, "table2")


def table3(evidence: Evidence) -> Table:
    """Return Table 3: exclusive recall at the least fraction of each set with a class to be found."""
    return _table(evidence, "table3")


def matching(evidence: Evidence) -> Table:
    """Return F1 of the same detections within other limits of matching."""
    return _table(evidence, "matching")


def splits(evidence: Evidence) -> Table:
    """Return DICE by split, of the sets that have such."""
    return _table(evidence, "splits", ["dataset", "split", "method", "fraction"])


def equations(evidence: Evidence) -> Table:
    """Return the deviations of the loss from its definition."""
    return Table(checks(evidence), used=evidence.where(task="check"))


def fig3(evidence: Evidence) -> Table:
    """Return Figure 3: corners of test images, what is there and what was found; a line of `values` for each row.

    Panels are image (red, green and blue of each pixel in turn, 0 to 255), true and found: masks in percent, or boxes
    (top, left, bottom, right) in pixels, of which there may be none. Image and true are the same for all methods, and
    given once.
    """
    runs = [run for run in evidence.runs if "shown" in run.spec]
    lines = [
        (run.spec.dataset, run.spec.task, run.method if panel == "found" else "", panel, row, values)
        for run, record in sorted(evidence.recorded(runs), key=lambda pair: pair[0].id)
        for panel, rows in record["curves"].get("shown", {}).items()
        for row, values in enumerate(" ".join(f"{v:g}" for v in np.ravel(line)) for line in rows or [[]])
    ]
    table = pandas.DataFrame(lines, columns=["dataset", "task", "method", "panel", "row", "values"])
    return Table(table.drop_duplicates(["dataset", "task", "method", "panel", "row"]), used=runs)


def scores(evidence: Evidence) -> Table:
    """Return DICE and F1 by data set, method and percent, for `dvc metrics`."""
    both = _cells(evidence)
    dice = both[(both.table == "segmentation") & (both.metric == "dice")]
    f1 = both[(both.table == "detection") & (both.metric == "f1_tuned")]
    both = pandas.concat([dice, f1]).query("selection == 'last'")
    percent = (100 * both.fraction).round().astype(int)
    return Table(over_seeds(both.assign(percent=percent), ["dataset", "metric", "method", "percent"]))


if __name__ == "__main__":
    import sys

    from shared.tables.make import main, make_tables

    sys.exit(main("ece", make_tables))
