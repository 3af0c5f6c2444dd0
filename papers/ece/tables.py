"""Records -> Tables 1 to 3 and Figures 3 to 5, by fraction of annotations: ``python -m papers.ece.tables TIER``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas

from papers.ece.names import SIMULATED
from papers.ece.plan import plan
from shared.records import store
from shared.records.config import Run
from shared.records.summary import (
    command,
    entry,
    equations,
    not_run,
    over_seeds,
    planned_metrics,
    stand_ins,
    write_csv,
    write_markdown,
)

# What a table shows of a run, {(metric, selection): in words}.
KEPT = {("kept", "last"): "unannotated terms kept at the end"}
ADDED = {("pseudo_labels", "last"): "pseudo-labels per annotation"}
DICE = {
    ("dice", "last"): "DICE",
    ("dice_tuned", "last"): "DICE, threshold chosen on validation",
    ("dice", "oracle"): "DICE, best threshold on test (oracle)",
    ("dice_batch", "last"): "DICE over all pixels",
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
TRIVIAL = {"everything": "everything positive", "nothing": "nothing positive"}
SAME = {"f1_tuned": "f1"}  # trivial predictors have no threshold
TABLE1 = ("ce", "weak0.75", "weak0.5", "focal", "ece-sigmoid-no_focal", "ece-sigmoid", "constant")
TABLE2 = ("ece-fixed0.75", "ece-fixed0.5", "ece-linear", "ece-sigmoid", "ece-code", "ce", "constant")
TABLE3 = ("ce", "focal", "huber", "ece-sigmoid", "constant")
INSTEAD = {"readme": ("tnbc",), "table1": ("tnbc",), "table2": ("tnbc",), "table3": ("til", "crchisto: inflammatory")}
BY = ["dataset", "method", "fraction"]
LEGEND = (
    "Mean ± standard deviation over seeds (their number); a seed draws annotations, network and crops anew, and of "
    "simulated tissue the images. Of real sets seed s has split s mod 3, by slide: spreads hold for these splits."
)
NOTHING_DROPPED = (
    "Where all unannotated terms are kept at the end, the rule has excluded nothing, whatever its schedule."
)
TUNED = (
    "Validation and test images are annotated in full: a threshold chosen on validation uses labels nobody has here."
)


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Tidy rows as the cells of ``reported.csv``; where the paper's data have no record, of what stands in for them.

    F1 is that at the threshold chosen on validation: the paper names no confidence.
    """
    parts = []
    rows = labelled(rows)
    for table, datasets in INSTEAD.items():
        task = "segmentation" if table == "readme" else "detection"
        metric = {"readme": "dice", "table3": "exclusive_recall"}.get(table, "f1_tuned")
        of_table = rows[(rows.task == task) & (rows.metric == metric)]
        choices = [of_table[of_table.dataset == name] for name in (*datasets, SIMULATED)]
        own = next((some for some in choices if some.value.notna().any()), choices[-1])
        column = own.fraction.map(lambda fraction: f"f{100 * fraction:.0f}")
        if table == "table3":
            own = own[own.fraction == own.fraction.min()]
            column = "TIL"
        parts.append(own.assign(table=table, row=own.method, column=column))
    return pandas.concat(parts)[["table", "row", "column", "metric", "selection", "seed", "value", "id"]]


def labelled(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows with the class to be found after the name of a real set of several classes."""
    of_class = rows["target"].fillna("").ne("") & rows.dataset.ne(SIMULATED) if "target" in rows else False
    return rows.assign(dataset=rows.dataset.where(~of_class, rows.dataset + ": " + rows.target)) if len(rows) else rows


def measured(read: dict[str, pandas.DataFrame], runs: list[Run], measures: dict, by=BY) -> pandas.DataFrame:
    """`by`, metric, selection, n_seeds, mean, std of the runs; trivial predictors are methods of their own.

    What is no measure of a method, such as the pseudo-labels of others than weak supervision, has no row.
    """
    ids = {run.id for run in runs}
    parts = []
    for metric, selection in measures:
        own = read[metric]
        own = own[own["id"].isin(ids) & (own.selection == selection)]
        parts.append((own[own.loss == "weak"] if metric == "pseudo_labels" else own).assign(metric=metric))
        for name, said in TRIVIAL.items() if selection == "last" else ():
            if (rows := read.get(f"{SAME.get(metric, metric)}_{name}")) is not None:
                own = rows[rows["id"].isin(ids) & (rows.selection == "last") & (rows.method == "ce")]
                parts.append(own.assign(metric=metric, method=said))
    rows = pandas.concat(parts, ignore_index=True)
    rows = rows.reindex(columns=dict.fromkeys([*rows.columns, *by]))
    if "split" in by:  # a whole number, which runs without one have made a float
        rows = rows.astype({"split": "Int64"})
    return over_seeds(rows, [*by, "metric", "selection"])


def wide(table: pandas.DataFrame, measures: dict, by=BY) -> pandas.DataFrame:
    """The same for reading: a row for each dataset, method and measure, a column for each fraction."""
    index = [*(key for key in by if key != "fraction"), "measure"]
    said = [measures[pair] for pair in zip(table.metric, table.selection, strict=True)]
    texts = [entry(*numbers) for numbers in zip(table["n_seeds"], table["mean"], table["std"], strict=True)]
    table = table.assign(measure=said, text=texts)
    spread = table.set_index([*index, "fraction"])["text"].unstack("fraction").fillna("")
    spread.columns = [f"{100 * fraction:.0f} %" for fraction in spread.columns]
    return table[index].drop_duplicates().merge(spread.reset_index(), on=index)


def shown(records: list[dict]) -> pandas.DataFrame:
    """Figure 3: corners of test images, what is there, and what each method found; a line of `values` for each row.

    Panels are image (red, green and blue of each pixel in turn, 0 to 255), true and found: masks in percent, or boxes
    (top, left, bottom, right) in pixels, of which there may be none. Image and true are the same for all methods, and
    given once.
    """
    lines = [
        (r["spec"]["dataset"], r["spec"]["task"], r["spec"]["method"] if panel == "found" else "", panel, row, values)
        for r in records
        for panel, rows in r["curves"].get("shown", {}).items()
        for row, values in enumerate(" ".join(f"{v:g}" for v in np.ravel(line)) for line in rows or [[]])
    ]
    table = pandas.DataFrame(lines, columns=["dataset", "task", "method", "panel", "row", "values"])
    return table.drop_duplicates(["dataset", "task", "method", "panel", "row"])


def write(tier: str, results: Path) -> None:
    """Every table of a tier, from the records under ``results/<tier>/ece/runs``."""
    folder = results / tier / "ece"
    runs = plan(tier)
    planned = {run.id for run in runs}
    records = [record for record in store.read(folder / "runs") if record["id"] in planned]
    trained = [run for run in runs if run.spec["loss"] != "equations"]
    segmented, detected = ([run for run in trained if run.spec["task"] == t] for t in ("segmentation", "detection"))
    metrics = {metric for measures in (DICE, F1, RADIUS, EXCLUSIVE) for metric, _ in measures}
    metrics |= {f"{m}_{name}" for m in ("dice", "f1", "exclusive_recall", "recall_others") for name in TRIVIAL}
    read = {m: labelled(rows) for m, rows in planned_metrics(trained, folder / "runs", sorted(metrics)).items()}

    def publish(name: str, title: str, used: list[Run], measures: dict, *notes: str, by=BY) -> pandas.DataFrame:
        table = measured(read, used, measures, by)
        ids = {run.id for run in used}
        standing_in = stand_ins(pandas.DataFrame([run.spec for run in used]))
        missing = not_run(read["dice"][read["dice"]["id"].isin(ids)])
        write_csv(table, folder / f"{name}.csv")
        text = wide(table, measures, by)
        write_markdown(text, folder / f"{name}.md", title, [LEGEND, *notes, f"Tier {tier}. {standing_in}", missing])
        return table

    def of(some: list[Run], methods) -> list[Run]:
        return [run for run in some if run.spec["method"] in methods]

    dice = publish("segmentation", "Figure 4: segmentation by fraction of annotations", segmented, DICE, TUNED)
    f1 = publish("detection", "Figure 5: detection by fraction of annotations", detected, F1, TUNED)
    some = [run for run in detected if run.spec["fraction"] in (0.3, 0.6)]
    publish("table1", "Table 1: cross-entropy, weak supervision, focal and exclusive", of(some, TABLE1), F1, TUNED)
    publish("table2", "Table 2: schedules of the exclusivity threshold", of(some, TABLE2), F1, TUNED, NOTHING_DROPPED)
    others = [run for run in of(detected, TABLE3) if run.spec["target"]]
    least = {
        run.spec["dataset"]: min(r.spec["fraction"] for r in others if r.spec["dataset"] == run.spec["dataset"])
        for run in others
    }
    exclusive = [run for run in others if run.spec["fraction"] == least[run.spec["dataset"]]]
    note = "Objects of other classes are matched apart; thresholds are chosen on validation."
    publish("table3", "Table 3: exclusive recall", exclusive, EXCLUSIVE, note)
    note = "Detections above the threshold chosen on validation, matched one to one within other limits."
    publish("matching", "How far F1 depends on the limit of matching", detected, RADIUS, note)
    split = [run for run in segmented if "split" in run.spec]
    publish("splits", "DICE by split", split, {("dice", "last"): "DICE"}, by=["dataset", "split", "method", "fraction"])

    checked = equations(records)
    write_csv(checked, folder / "equations.csv")
    title = "Exclusive cross-entropy against its definition"
    write_markdown(checked, folder / "equations.md", title, ["Largest deviations; no training."])
    write_csv(shown(records), folder / "fig3.csv")
    store.write_text(folder / "metrics.json", json.dumps(_metrics(dice, f1), indent=1) + "\n")


def _metrics(dice: pandas.DataFrame, f1: pandas.DataFrame) -> dict[str, float]:
    """DICE and F1 by dataset, method and fraction, for `dvc metrics`."""
    both = pandas.concat([dice[dice.metric == "dice"], f1[f1.metric == "f1_tuned"]])
    both = both[(both.selection == "last") & (both.n_seeds > 0)]
    names = [
        f"{d}/{metric}/{m}/f{100 * f:.0f}"
        for d, metric, m, f in zip(both.dataset, both.metric, both.method, both.fraction, strict=True)
    ]
    return dict(zip(names, both["mean"], strict=True))


if __name__ == "__main__":
    command(write, "papers.ece.tables", __doc__)
