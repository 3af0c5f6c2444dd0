"""Records -> the numbers of Tables 1 to 3, Figures 2 to 4 and detection: ``python -m papers.vp_dsd.tables TIER``."""

from __future__ import annotations

import json
from pathlib import Path

import pandas

from papers.vp_dsd.names import CLASSES
from papers.vp_dsd.plan import plan
from shared.records import store
from shared.records.config import Run
from shared.records.summary import (
    command,
    equations,
    not_run,
    over_seeds,
    planned_metrics,
    stand_ins,
    with_text,
    write_csv,
    write_markdown,
)

LOSSES = ("mse", "kl", "flm", "pc", "plot", "vp_l2", "vp_ce")  # the columns of Tables 1 and 2, at equal epochs
FINDERS = {"": "dsd", "local_softmax_": "local softmax", "amplitude_": "amplitude threshold"}
OURS, THEIRS = "simulated_holograms", "wbc_holograms_synthetic"  # simulated here, and by the authors
STAINED, REAL = "wbc_stained", "wbc_holograms"
LEGEND = "Mean ± standard deviation over seeds (their number); a seed draws its own subjects, detector and classifier."
METRICS = (
    *("class_accuracy", "entropy", "proportion_entropy", "train_s"),
    *(f"accuracy_{name}" for name in CLASSES),
    *(f"{start}{end}" for start in ("error", "constant_error") for end in ("", *(f"_{name}" for name in CLASSES))),
)
CONSTANT = "mean of the training subjects"  # for all test subjects, without a look at them
AVERAGE = {"accuracy": "class_accuracy", "error": "error"}  # what a table's row `average` is


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Tidy rows as the cells of ``reported.csv``.

    The paper's images are not public: what stands in for them says so in its records. Should its synthetic images be at
    hand, Table 1 is of them; should its donors', Table 2. Table 3 is of the simulated images alone.
    """
    named = rows[rows.method.isin(LOSSES) | rows.method.eq("csc")]
    images = named[named["bags"].fillna("images") == "images"] if "bags" in named else named
    donors, ours = _first_of(images, REAL, STAINED), _first_of(images, THEIRS, OURS)
    third = rows[rows.predictor.fillna("").ne("")] if "predictor" in rows else rows[:0]
    found = [
        _by_class(ours[ours.method.isin(LOSSES)], "table1", "accuracy"),
        ours[ours.metric == "entropy"].assign(table="entropy", row="prediction"),
        _by_class(donors, "table2", "error"),
        ours[ours.metric == "error"].assign(table="synthetic", row="average"),
        third[third.metric == "error"].assign(table="table3", row=_without_loss),
    ]
    cells = pandas.concat(found)
    cells["column"] = cells.method.where(cells.table != "table3", cells.loss)
    return cells[["table", "row", "column", "metric", "selection", "seed", "value", "id"]]


def _first_of(rows: pandas.DataFrame, wanted: str, instead: str) -> pandas.DataFrame:
    """The rows of one dataset if it has values, else of the other."""
    of_wanted = rows[rows.dataset == wanted]
    return of_wanted if of_wanted.value.notna().any() else rows[rows.dataset == instead]


def _by_class(rows: pandas.DataFrame, table: str, metric: str) -> pandas.DataFrame:
    names = {f"{metric}_{name}": name for name in CLASSES} | {AVERAGE[metric]: "average"}
    return rows[rows.metric.isin(names)].assign(table=table, row=lambda r: r.metric.map(names), metric=metric)


def _without_loss(rows: pandas.DataFrame) -> pandas.Series:
    """The row of Table 3: a method without its loss; a smaller residual network in the larger's place says so."""
    parts = zip(rows.method, rows.loss, strict=True)
    names = [method.removesuffix(f"-{loss}").replace("resnet18", "resnet152") for method, loss in parts]
    return pandas.Series(names, rows.index, dtype=object)


def wide(rows: dict[str, pandas.DataFrame], by: list[str], metrics: dict[str, str]) -> pandas.DataFrame:
    """One row for each of `by` and selection, the metrics of `metrics` {metric: column} side by side, as text."""
    last = [over_seeds(rows[m], [*by, "selection"]).query("selection == 'last'") for m in metrics]
    texts = [
        with_text(t, name).drop(columns="selection").set_index(by)
        for t, name in zip(last, metrics.values(), strict=True)
    ]
    return pandas.concat(texts, axis=1).reset_index()


def long(rows: dict[str, pandas.DataFrame], by: list[str], metrics) -> pandas.DataFrame:
    """The same as numbers: `by`, metric, selection, n_seeds, mean, std."""
    parts = [over_seeds(rows[m].assign(metric=m), [*by, "metric", "selection"]) for m in metrics]
    return pandas.concat(parts, ignore_index=True)


def detection(records: list[dict], runs: list[Run]) -> pandas.DataFrame:
    """Precision, recall and F1 in percent of every way to find cells; a row without a number where a run is missing."""
    found = []
    for run in (run for run in runs if run.spec["loss"] in ("dsd", "csc", "cellpose")):
        last = next((r["metrics"]["last"] for r in records if r["id"] == run.id), {})
        finders = FINDERS if run.spec["loss"] == "dsd" else {"": run.spec["loss"]}
        for prefix, name in finders.items():
            for metric in ("precision", "recall", "f1"):
                key = {"dataset": run.spec["dataset"], "method": name, "metric": metric}
                found.append({**key, "value": last.get(prefix + metric, float("nan"))})
    by = ["dataset", "method", "metric"]
    return over_seeds(pandas.DataFrame(found, columns=[*by, "value"]), by)


def simplex(records: list[dict]) -> pandas.DataFrame:
    """Figure 2: predictions of single test cells, with their true class."""
    points = [
        {"method": r["spec"]["method"], **dict(zip((*CLASSES, "label"), point, strict=True))}
        for r in records
        if r["spec"]["dataset"] == OURS
        for point in r["curves"].get("simplex", [])
    ]
    return pandas.DataFrame(points, columns=["method", *CLASSES, "label"])


def example(records: list[dict]) -> pandas.DataFrame:
    """Figure 3: a piece of a specimen, of its hologram, of what T makes of it, and which cells are there and found."""
    panels = next((r["curves"] for r in records if r["spec"]["loss"] == "example"), {})
    points = [
        (panel, row, column, value)
        for panel, image in panels.items()
        for row, line in enumerate(image)
        for column, value in enumerate(line)
    ]
    return pandas.DataFrame(points, columns=["panel", "row", "column", "value"])


def write(tier: str, results: Path) -> None:
    """Every table of a tier, from the records under ``results/<tier>/vp_dsd/runs``."""
    folder = results / tier / "vp_dsd"
    runs = plan(tier)
    planned = {run.id for run in runs}
    records = [record for record in store.read(folder / "runs") if record["id"] in planned]
    predicted = [run for run in runs if run.spec.get("predictor")]
    learned = [run for run in runs if run.spec.get("hidden") and not run.spec.get("predictor")]
    drawn = [run for run in learned if run.spec["bags"] == "drawn"]
    learned = [run for run in learned if run not in drawn]
    simulated = [run for run in learned if run.spec["simulated"]]
    others = [run for run in runs if run.spec["loss"] == "csc"]

    read = planned_metrics(runs, folder / "runs", METRICS)

    def rows_of(some: list[Run], metrics) -> dict[str, pandas.DataFrame]:
        ids = {run.id for run in some}
        return {m: read[m][read[m]["id"].isin(ids)] for m in metrics}

    def publish(name: str, table: pandas.DataFrame, text: pandas.DataFrame, title: str, note: str, used=runs) -> None:
        standing_in = stand_ins(pandas.DataFrame([run.spec for run in used]))
        missing = not_run(rows_of(used, ["error"])["error"])
        write_csv(table, folder / f"{name}.csv")
        write_markdown(text, folder / f"{name}.md", title, [note, f"Tier {tier}. {standing_in}", missing])

    names = {f"accuracy_{name}": name for name in CLASSES} | {"class_accuracy": "average", "train_s": "seconds"}
    rows = rows_of(simulated, names)
    note = f"{LEGEND} Accuracy on the matched cells of test subjects, in percent, last epoch; seconds of training."
    by = ["dataset", "method"]
    first = long(rows, by, names)
    publish("table1", first, wide(rows, by, names), "Table 1: accuracy by class", note, simulated)
    write_csv(_speed(first), folder / "fig4.csv")
    store.write_text(folder / "metrics.json", json.dumps(_metrics(first), indent=1) + "\n")

    names = {"entropy": "entropy", "proportion_entropy": "of the proportions"}
    rows = rows_of(simulated, names)
    note = f"{LEGEND} Mean entropy of the predictions for single test cells, and of the subjects' proportions, in nats."
    publish("entropy", long(rows, by, names), wide(rows, by, names), "Entropy of predictions", note, simulated)

    names = {f"error_{name}": name for name in CLASSES} | {"error": "average"}

    def with_constant(some: list[Run], method: str) -> dict[str, pandas.DataFrame]:
        constant = rows_of([run for run in some if run.spec["method"] == method], [f"constant_{m}" for m in names])
        rows = rows_of(some, names)
        return {m: pandas.concat([rows[m], constant[f"constant_{m}"].assign(method=CONSTANT)]) for m in names}

    rows, by = with_constant([*learned, *others], "kl"), ["dataset", "method"]
    note = f"{LEGEND} Mean absolute error of a test subject's proportions after hard assignment, in points, last epoch."
    title = "Table 2: error of the predicted proportions"
    publish("table2", long(rows, by, names), wide(rows, by, names), title, note, [*learned, *others])
    rows = with_constant(predicted, "direct-encoder-kl")
    title = "Table 3: proportions predicted by regression and by classification of oracle detections"
    publish("table3", long(rows, by, names), wide(rows, by, names), title, note, predicted)

    names = {"class_accuracy": "accuracy", "entropy": "entropy"}
    rows, by = rows_of(drawn, names), ["loss", "bag_concentration", "bag_size"]
    note = (
        f"{LEGEND} Accuracy, mean over classes, in percent, and entropy in nats, by the concentration of the Dirichlet "
        "distribution that bags' proportions are drawn from (the smaller, the more diverse) and by bag size."
    )
    title = "Beyond the paper: when KL collapses"
    publish("diversity", long(rows, by, names), wide(rows, by, names), title, note, drawn)

    found = detection(records, runs)
    text = with_text(found, "value").pivot(index=["dataset", "method"], columns="metric", values="value").reset_index()
    note = f"{LEGEND} Percent, by one-to-one matching within a radius. Baselines' thresholds: the best on validation."
    seekers = [run for run in runs if run.spec["loss"] in ("dsd", "csc", "cellpose")]
    publish("detection", found, text.rename_axis(columns=None), "Detection", note, seekers)

    checked, checks = equations(records), [run for run in runs if run.spec["loss"] == "equations"]
    publish(
        "equations", checked, checked, "The VP loss against its oracles", "Largest deviations; no training.", checks
    )
    write_csv(simplex(records), folder / "fig2.csv")
    write_csv(example(records), folder / "fig3.csv")


def _speed(first: pandas.DataFrame) -> pandas.DataFrame:
    """Figure 4: accuracy beside seconds of training, by method, on our simulated images."""
    last = first[(first.selection == "last") & (first.dataset == OURS)]
    last = last[last.metric.isin(("class_accuracy", "train_s"))]
    both = last.pivot(index="method", columns="metric", values=["mean", "std"])
    both.columns = [f"{metric}_{number}" for number, metric in both.columns]
    return both.reset_index().dropna(subset=[c for c in both.columns if c.endswith("_mean")])


def _metrics(first: pandas.DataFrame) -> dict[str, float]:
    """Accuracy, mean over classes, after the last epoch by method, for `dvc metrics`."""
    last = first[(first.selection == "last") & (first.metric == "class_accuracy") & (first.n_seeds > 0)]
    return dict(zip(last.dataset + "/" + last.method, last["mean"], strict=True))


if __name__ == "__main__":
    command(write, "papers.vp_dsd.tables", __doc__)
