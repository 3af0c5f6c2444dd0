"""Turn records into the numbers of Tables 1 to 3, the figures and detection; outputs.yaml names them."""

from __future__ import annotations

import functools

import pandas

from papers.vp_dsd.names import CLASSES, SPLITS, is_varied
from shared.config import Run
from shared.tables.evidence import COST, NOT_RUN, SELECTIONS, Evidence
from shared.tables.make import Table
from shared.tables.numbers import checks, over_seeds, with_text

OURS, THEIRS = "simulated_holograms", "wbc_holograms_synthetic"  # simulated here, and by the authors
BUDGET = "kl-epochs"  # what KL with another number of epochs is called
STAINED, REAL = "wbc_stained", "wbc_holograms"
CONSTANT = "mean of the training subjects"  # for all test subjects, without a look at them
FINDERS = {"": "", "local_softmax_": "local softmax", "amplitude_": "amplitude threshold"}  # measured in one run
# {metric as records name it: column that shows it} of each table
ACCURACIES = {f"accuracy_{name}": name for name in CLASSES} | {"class_accuracy": "average", "train_s": "seconds"}
ENTROPIES = {"entropy": "entropy", "proportion_entropy": "of the proportions"}
ERRORS = {f"error_{name}": name for name in CLASSES} | {"error": "average"}
SCORES = {name: name for name in ("precision", "recall", "f1")}
CONCENTRATIONS = {
    "concentration_error": "concentration, % off",
    "constant_concentration_error": "its mean, % off",
    "concentration_correlation": "correlation",
}
COUNTS = {f"subjects_{name}": name for name in (*SPLITS, "all")}
COUNTS |= {"classes": "classes", "proportion_entropy": "entropy"}
DIVERSITY = {"class_accuracy": "accuracy", "entropy": "entropy"}
METRICS = dict.fromkeys(
    [*ACCURACIES, *ENTROPIES, *ERRORS, *COUNTS]
    + [f"constant_{metric}" for metric in ERRORS]
    + [finder + score for finder in FINDERS for score in (*SCORES, *CONCENTRATIONS)]
)


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows as cells of the tables: `table`, `row`, `column`, and `shown`, what records call the metric.

    The paper's images are not public: what stands in for them says so in its records. Should its synthetic images be at
    hand, Table 1 is of them; should its donors', Tables 2 and 3. The tables show the other datasets, too: their cells
    are of ``table1/<dataset>`` and so on.
    """
    read = ("method", "dataset", "task", "detector", "bags", "labels", "loss", "bag_size", "bag_concentration")
    absent = {key: pandas.Series(None, rows.index, object) for key in read if key not in rows}
    rows = rows.assign(**absent, shown=rows.metric)
    rows = rows[(rows.metric == "train_s") == (rows.selection == COST)]
    is_drawn, donors = rows.bags == "drawn", rows.dataset.isin((STAINED, REAL))
    classified, found, predicted = (rows.task == name for name in ("classification", "detection", "regression"))
    varied = rows.method.map(is_varied).astype(bool)
    controls, classified = rows[classified & varied & rows.metric.isin(DIVERSITY)], classified & ~varied
    images = rows[classified & ~is_drawn & ~donors]
    # What finds cells and does not classify them, as far as is known, has no errors to show.
    errors = (classified & ~is_drawn) | (found & (rows.value.notna() | (rows.detector == "csc")))
    parts = [
        _of_dataset("table1", (THEIRS, OURS), _by_class(images, ACCURACIES)),
        _of_dataset("entropy", (THEIRS, OURS), images[images.metric.isin(ENTROPIES)].assign(row=_entropy)),
        _of_dataset("synthetic", (THEIRS, OURS), _by_class(_with_constant(rows[errors & ~donors]), ERRORS)),
        _of_dataset("table2", (REAL, STAINED), _by_class(_with_constant(rows[errors & donors]), ERRORS)),
        _of_dataset("table3", (REAL, OURS), _predicted(_with_constant(rows[predicted]))),
        _of_dataset("detection", (THEIRS, OURS), _detected(rows[found])),
        _of_dataset("data", (THEIRS, OURS), _counted(rows[classified & ~is_drawn & ~donors], "synthetic")),
        _of_dataset("data", (REAL, STAINED), _counted(rows[classified & donors], "real")),
        controls.assign(table="sensitivity", row=controls.method),
        _drawn(rows[classified & is_drawn & rows.metric.isin(DIVERSITY)]),
    ]
    parts = [part if "column" in part else part.assign(column=part.method) for part in parts]
    return pandas.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _of_dataset(table: str, wanted: tuple[str, str], rows: pandas.DataFrame) -> pandas.DataFrame:
    """Assign `table` to the rows of the first dataset if it has values, else of the second; the rest has its own."""
    chosen = wanted[0] if rows.value[rows.dataset == wanted[0]].notna().any() else wanted[1]
    return rows.assign(table=[table if name == chosen else f"{table}/{name}" for name in rows.dataset])


def _by_class(rows: pandas.DataFrame, names: dict[str, str]) -> pandas.DataFrame:
    """Return the rows of some metrics, the classes and their average as rows of the table."""
    rows = rows[rows.metric.isin(names)]
    return rows.assign(row=rows.metric.map(names))


def _counted(rows: pandas.DataFrame, column: str) -> pandas.DataFrame:
    """Return what a dataset is, once a dataset and seed: subjects, classes, entropy of the subjects' proportions."""
    some = rows[rows.metric.isin(COUNTS) & (rows.labels == "subject") & (rows.selection == "last")]
    some = some.sort_values("value", key=pandas.isna, kind="stable")
    once = some.drop_duplicates(["dataset", "seed", "metric"]).sort_index()
    return once.assign(row=once.metric.map(COUNTS), column=column)


def _entropy(rows: pandas.DataFrame) -> pandas.Series:
    return rows.metric.map({"entropy": "prediction", "proportion_entropy": "proportions"})


def _with_constant(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return the errors of all methods and, once a dataset and seed, of the constant answer, which all runs state.

    Runs whose labels are not the subjects' own are not asked, nor those that learn nothing from proportions.
    """
    constant = rows.metric.str.startswith("constant_")
    some = rows[constant & (rows.task != "detection") & (rows.labels.isna() | (rows.labels == "subject"))]
    some = some.sort_values("value", key=pandas.isna, kind="stable")
    once = some.drop_duplicates(["dataset", "seed", "metric", "selection"]).sort_index()
    once = once.assign(method=CONSTANT, metric=once.metric.str.removeprefix("constant_"))
    return pandas.concat([rows[~constant], once.assign(shown=once.metric)])


def _predicted(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return the errors of predictors; the row is a method without its loss, ResNet-152 where a smaller stands in."""
    rows = rows[rows.metric.isin(ERRORS)]
    names = [name.removesuffix(f"-{loss}") for name, loss in zip(rows.method, rows.loss, strict=True)]
    names = [name.replace("resnet18", "resnet152") for name in names]
    return rows.assign(row=names, column=rows.loss.where(rows.method != CONSTANT, CONSTANT))


def _detected(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return what finds cells and how well; baselines are measured in the detector's own runs, under a prefix."""
    rows = rows[rows.selection == "last"]
    parts = []
    for prefix, name in FINDERS.items():
        names = [prefix + score for score in (*SCORES, *CONCENTRATIONS)]
        own = rows[rows.metric.isin(names) & ((rows.detector == "dsd") | (prefix == ""))]
        score = own.metric.str.removeprefix(prefix)
        finder = [name or method for method in own.method]
        parts.append(own.assign(method=finder, row=finder, column=score, metric=score, shown=score))
    return pandas.concat(parts)


def _drawn(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows of drawn bags; their size and concentration are the row."""
    rows = rows.assign(bag_size=rows.bag_size.astype(int), bag_concentration=rows.bag_concentration.astype(float))
    pairs = zip(rows.bag_size, rows.bag_concentration, strict=True)
    return rows.assign(table="diversity", row=[f"n{size}-c{concentration:g}" for size, concentration in pairs])


@functools.lru_cache(maxsize=1)
def _every(evidence: Evidence) -> pandas.DataFrame:
    return cells(evidence.rows(METRICS, selections=[*SELECTIONS, COST]))


def _table(
    evidence: Evidence, names: dict[str, str], *tables: str, by: tuple[str, ...] = ("dataset", "method")
) -> Table:
    """Return a table over seeds: a row for each of `by`, the metrics of `names` side by side for reading."""
    every, order = _every(evidence), list(names)
    rows = every[every.table.str.partition("/")[0].isin(tables)].assign(metric=lambda some: some.shown)
    rows = rows.sort_values("metric", key=lambda column: column.map(order.index), kind="stable")
    numbers = over_seeds(rows, [*by, "metric", "selection"])
    last = numbers[numbers.selection.isin(("last", COST))]
    text = with_text(last, "text").pivot(index=list(by), columns="metric", values="text").reindex(columns=order)
    lines = pandas.MultiIndex.from_frame(last[list(by)].drop_duplicates())
    text = text.reindex(lines).fillna(NOT_RUN).rename(columns=names).rename_axis(columns=None).reset_index()
    return Table(numbers, text, _runs(evidence, rows))


def _runs(evidence: Evidence, rows: pandas.DataFrame) -> list[Run]:
    ids = set(rows["id"])
    return [run for run in evidence.runs if run.id in ids]


def table1(evidence: Evidence) -> Table:
    """Return Table 1: accuracy by class, and seconds of training."""
    return _table(evidence, ACCURACIES, "table1")


def entropy(evidence: Evidence) -> Table:
    """Return the entropy of predictions beside that of the subjects' proportions."""
    return _table(evidence, ENTROPIES, "entropy")


def table2(evidence: Evidence) -> Table:
    """Return Table 2: the error of proportions of donors and of simulated subjects, a constant answer's beside."""
    return _table(evidence, ERRORS, "synthetic", "table2")


def table3(evidence: Evidence) -> Table:
    """Return Table 3: the error of proportions predicted from images and from oracle detections."""
    return _table(evidence, ERRORS, "table3")


def detection(evidence: Evidence) -> Table:
    """Return precision, recall and F1 in percent of every way to find cells, and how well it tells concentrations."""
    return _table(evidence, SCORES | CONCENTRATIONS, "detection")


def sensitivity(evidence: Evidence) -> Table:
    """Return accuracy and entropy of KL and the VP loss at other rates and with easier and harder cells."""
    return _table(evidence, DIVERSITY, "sensitivity")


def diversity(evidence: Evidence) -> Table:
    """Return accuracy and entropy by concentration and size of drawn bags."""
    return _table(evidence, DIVERSITY, "diversity", by=("method", "bag_concentration", "bag_size"))


def equations(evidence: Evidence) -> Table:
    """Return the deviations of the VP loss from its oracles, checked in float64."""
    return Table(checks(evidence), used=evidence.where(task="check"))


def fig2(evidence: Evidence) -> Table:
    """Return Figure 2: predictions of single test cells, with their true class."""
    runs = evidence.where(task="classification", dataset=OURS, bags="images")
    runs = [run for run in runs if not is_varied(run.method)]
    points = [
        {"method": run.method, **dict(zip((*CLASSES, "label"), point, strict=True))}
        for run, record in evidence.recorded(runs)
        for point in record["curves"].get("simplex", [])
    ]
    used = [run for run in runs if run.method == run.spec.loss or run.method.startswith(BUDGET)]
    return Table(pandas.DataFrame(points, columns=["method", *CLASSES, "label"]), used=used)


def proportions(evidence: Evidence) -> Table:
    """Return a row for each test subject and class of one run of each loss: predicted and true proportion, percent."""
    runs = [run for run in evidence.where(task="classification", bags="images") if run.method == run.spec.loss]
    points = [
        (run.spec.dataset, run.method, name, 100 * predicted, 100 * true)
        for run, record in evidence.recorded(runs)
        for row in record["curves"].get("proportions", [])
        for name, predicted, true in zip(CLASSES, row, row[len(CLASSES) :], strict=False)
    ]
    return Table(pandas.DataFrame(points, columns=["dataset", "method", "class", "predicted", "true"]), used=runs)


def fig3(evidence: Evidence) -> Table:
    """Return Figure 3: a piece of a specimen, its hologram, what T makes of it, and which cells are there and found."""
    runs = evidence.where(task="example")
    points = [
        (panel, row, column, value)
        for _, record in evidence.recorded(runs)
        for panel, image in record["curves"].items()
        for row, line in enumerate(image)
        for column, value in enumerate(line)
    ]
    return Table(pandas.DataFrame(points, columns=["panel", "row", "column", "value"]), used=runs)


def fig4(evidence: Evidence) -> Table:
    """Return Figure 4: accuracy beside seconds of training, by method, on our simulated images."""
    first = table1(evidence)
    last = first.numbers[first.numbers.selection.isin(("last", COST)) & (first.numbers.dataset == OURS)]
    last = last[last.metric.isin(("class_accuracy", "train_s"))]
    both = last.pivot(index="method", columns="metric", values=["mean", "std"])
    both.columns = [f"{metric}_{number}" for number, metric in both.columns]
    both = both.reset_index().dropna(subset=[name for name in both.columns if name.endswith("_mean")])
    return Table(both, used=[run for run in first.used or () if run.spec.dataset == OURS])


if __name__ == "__main__":
    import sys

    from shared.tables.make import main, make_tables

    sys.exit(main("vp_dsd", make_tables))
