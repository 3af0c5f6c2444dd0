"""Turn records into the numbers of Figures 1 and 3, Table 1 and what goes beyond; outputs.yaml names them."""

from __future__ import annotations

from pathlib import Path

import pandas

from papers.mle_llp.names import TIMED, inputs
from shared.config import Run
from shared.tables.evidence import NOT_RUN, Evidence
from shared.tables.make import Table
from shared.tables.numbers import checks, over_seeds, wide, with_text

# Columns that tell a row's cell.
READ = ("task", "loss", "method", "dataset", "network", "pool", "bags", "smallest", "largest", "metric")
ACCURACIES = ("accuracy", "class_accuracy")
CONVERGENCE = ("epochs_to_99", "half_accuracy", "unrest", "stop_epoch")
RATE = "learning_rate"
CHOSEN = f"chosen_{RATE}"
DIRECT = "mle_direct"  # ours: shown with the methods, and once more with the controls
BESIDE = ("mle_llp", "dllp")  # what controls are to be held against
OF_EPOCHS = {"epoch_s": "epoch_s", "ratio": "times_dllp"}  # durations of a method: <name>_<method>
E_STEP_SHARE = "e_step_share"  # of MLE-LLP's epoch


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows as cells of the tables: `table`, `row`, `column` beside what they have; a row may be in several.

    The `dataset` of a cell is what its network reads: frozen features of a dataset are another than its images.

    A method by its plain name is shown as such: in Figure 1 where all bags are split 80 to 20, by number of bags, by
    size where all bags have one, or, where all bags of an official split are used, for itself. What has a suffix to its
    loss is a control.
    """
    rows = rows.reindex(columns=list(dict.fromkeys([*rows.columns, *READ])))
    rows = rows.assign(dataset=[inputs(*pair) for pair in zip(rows.dataset, rows.network, strict=True)])
    kinds = {"learning": _learned, "durations": _timed, "e_step": _e_steps}
    parts = [part for task, of in kinds.items() if len(own := rows[rows.task == task]) for part in of(own) if len(part)]
    return pandas.concat(parts, ignore_index=True) if parts else rows[:0].assign(table="", row="", column="")


def _learned(rows: pandas.DataFrame) -> list[pandas.DataFrame]:
    rows = rows.assign(row=rows.method, bags=rows.bags.astype(int))
    plain, one_size = rows.method == rows.loss, rows.smallest == rows.largest
    accuracy, by_number = rows.metric == "accuracy", ~one_size & (rows.bags > 0)
    split = ~one_size & ~by_number & (rows.pool == "all")
    tables = {
        "fig1": accuracy & plain & split,
        "fig3": accuracy & plain & by_number,
        "size": accuracy & plain & one_size,
        "blood": rows.metric.isin(ACCURACIES) & plain & ~one_size & ~by_number & ~split,
        "controls": accuracy & (~plain | (rows.loss == DIRECT)) & ~one_size,
        "convergence": rows.metric.isin(CONVERGENCE) & ~one_size,
        "rates": rows.metric.isin([CHOSEN]),
    }
    bags = rows.dataset + " m=" + rows.bags.astype(str).replace("0", "all")
    rows = rows.assign(column=bags.where(~one_size, rows.dataset + " n=" + rows.largest.map("{:g}".format)))
    return [rows[chosen].assign(table=table) for table, chosen in tables.items()]


def _timed(rows: pandas.DataFrame) -> list[pandas.DataFrame]:
    """Table 1: a column of durations for each method; a run without a record stands for every method."""
    rows, parts = rows.assign(table="table1", column=rows.dataset), []
    for name, said in OF_EPOCHS.items():
        own = rows[rows.metric.str.startswith(f"{name}_")]
        parts.append(own.assign(row=own.metric.str.removeprefix(f"{name}_"), metric=said))
        parts += [rows[rows.metric == said].assign(row=method) for method in TIMED]
    share = rows[rows.metric == E_STEP_SHARE]
    found = pandas.concat([*parts, share.assign(row="mle_llp", metric="e_step_percent")])
    # A run without a record may be asked for by both names, the claims' and the cells'.
    return [found.drop_duplicates([name for name in ("id", "row", "metric", "selection") if name in found])]


def _e_steps(rows: pandas.DataFrame) -> list[pandas.DataFrame]:
    found = rows.metric.str.extract(r"^(?P<what>.*_ms)_(?P<size>\d+)$")
    rows = rows.assign(table="e_step", row=found["size"], column="milliseconds", metric=found["what"])
    return [rows[rows.metric.notna()]]


def _cells(evidence: Evidence, table: str) -> pandas.DataFrame:
    """The cells of a table of accuracies; a run without a record has rows without a value."""
    every = cells(evidence.rows(ACCURACIES, evidence.where(task="learning")))
    return every[every.table == table]


def _recorded(evidence: Evidence, table: str, task: str | list[str]) -> pandas.DataFrame:
    """The cells of a table of what else the runs of a task, or of some, left on record."""
    ids = {run.id for run, _ in evidence.recorded(evidence.where(task=task))}
    every = cells(evidence.found[evidence.found["id"].isin(ids)])
    return every[every.table == table]


def _runs(evidence: Evidence, rows: pandas.DataFrame) -> list[Run]:
    """The runs that some rows are of."""
    ids = set(rows["id"])
    return [run for run in evidence.where(task="learning") if run.id in ids]


def _read(run: Run) -> str:
    return inputs(*(run.spec.values()[key] for key in ("dataset", "network")))


def fig1(evidence: Evidence) -> Table:
    """Return Figure 1: accuracy after each epoch, all bags split 80 to 20; a run that stopped keeps its last one."""
    shown, by = _cells(evidence, "fig1"), ["dataset", "method", "epoch"]
    points = []
    for run, record in evidence.recorded([run for run in evidence.runs if run.id in set(shown["id"])]):
        key, seen = {"dataset": _read(run), "method": run.method}, record["curves"]["test_accuracy"]
        for epoch in range(run.spec.values()["epochs"]):
            points.append({**key, "epoch": epoch + 1, "value": seen[min(epoch, len(seen) - 1)]})
    table = pandas.DataFrame(points, columns=[*by, "value"])
    table = over_seeds(table, by).sort_values(by, kind="stable")
    return Table(table, used=_runs(evidence, shown))


def fig3(evidence: Evidence) -> Table:
    """Return Figure 3: accuracy by dataset, method and number of training bags, under each selection rule."""
    return _by(evidence, "fig3", "bags", "m")


def size(evidence: Evidence) -> Table:
    """Return accuracy by the size of bags that all have one size (beyond the paper)."""
    return _by(evidence, "size", "bag_size", "n")


def _by(evidence: Evidence, table: str, column: str, sign: str) -> Table:
    rows = _cells(evidence, table)
    if column == "bag_size":
        rows = rows.assign(bag_size=rows.largest.astype(int))
    numbers = over_seeds(rows, ["dataset", "method", column, "selection"])
    numbers = numbers.sort_values(["dataset", "method", "selection", column], kind="stable")
    return Table(numbers, wide(numbers, ["dataset", "method"], column, sign), used=_runs(evidence, rows))


def blood(evidence: Evidence) -> Table:
    """Return the accuracies where all bags of a dataset are used, under each selection rule (beyond the paper)."""
    rows = _cells(evidence, "blood").sort_values("metric", kind="stable")
    numbers = over_seeds(rows, ["dataset", "method", "metric", "selection"])
    last = with_text(numbers[numbers.selection == "last"], "value").drop(columns="selection")
    return Table(numbers, last, used=_runs(evidence, rows))


def controls(evidence: Evidence) -> Table:
    """Return controls and the likelihood itself, beside MLE-LLP and DLLP as they are."""
    odd = _cells(evidence, "controls")
    plain = pandas.concat([_cells(evidence, "fig3"), _cells(evidence, "fig1")])
    plain = plain[plain.method.isin(BESIDE)].merge(odd[["dataset", "pool", "bags"]].drop_duplicates())
    rows, by = pandas.concat([plain, odd]), ["dataset", "bags", "method"]
    numbers = over_seeds(rows[rows.selection == "last"], by).sort_values(by, kind="stable")
    return Table(numbers, with_text(_with_all(numbers)), used=_runs(evidence, rows))


def convergence(evidence: Evidence) -> Table:
    """Return what curves say: epochs to 99 %, half time, unrest, and where the rule would stop."""
    by = ["dataset", "bags", "method", "metric"]
    numbers = over_seeds(_recorded(evidence, "convergence", "learning"), by).sort_values(by, kind="stable")
    shown = with_text(_with_all(numbers[(numbers.bags == 0)]), "value")
    text = shown.pivot(index=by[:3], columns="metric", values="value").reset_index()
    return Table(numbers, _filled(text), used=evidence.where(task="learning"))


def rates(evidence: Evidence) -> Table:
    """Return the learning rates that the search chose, and the loss of each on held-out bags (Section 3)."""
    runs = [run for run in evidence.where(task="learning") if run.spec.values()["choose_rate"]]
    lines: dict[tuple, dict] = {}
    for run, record in evidence.recorded(runs):
        values = run.spec.values()
        ends = tuple(sorted({values[end] for end in ("smallest", "largest") if end in values}))
        size = " to ".join(map(str, ends))
        about = {"dataset": _read(run), "bags": values["bags"], "bag_size": size, "method": run.method}
        searched = zip(record["curves"][f"tried_{RATE}"], record["curves"]["tried_score"], strict=True)
        losses = {f"loss at {rate:g}": loss for rate, loss in sorted(searched)}
        last = record["metrics"]["last"]
        chosen = {RATE: last[CHOSEN], "at the end of its grid": {-1: "least", 1: "greatest"}.get(last[f"{CHOSEN}_end"])}
        # Every seed has the same.
        lines[about["dataset"], about["bags"], ends, run.method] = {**about, **chosen, **losses}
    if not runs:
        return Table(pandas.DataFrame([{RATE: "no run of this tier searches for it"}]), used=[])
    numbers = pandas.DataFrame([lines[key] for key in sorted(lines)], columns=None if lines else ["dataset", RATE])
    losses = {name: numbers[name].map("{:.5f}".format, na_action="ignore") for name in numbers if "loss at" in name}
    return Table(numbers, _filled(_with_all(numbers.assign(**losses))), used=runs)


def table1(evidence: Evidence) -> Table:
    """Return Table 1: seconds an epoch and times DLLP's, here and in the paper; the E-step's share of an epoch."""
    rows = _recorded(evidence, "table1", "durations")
    reported = pandas.read_csv(Path(__file__).with_name("reported.csv"))
    reported = reported[reported.metric == "times_dllp"].set_index(["column", "row"]).value
    found = _means(rows, ["column", "row"])
    names = ["dataset", "method", "epoch_s", "times_dllp", "paper_times_dllp", "e_step_percent"]
    lines = []
    for (dataset, method), means in found.items():
        paper = {"paper_times_dllp": reported.get((dataset, method), 1.0 if method == "dllp" else None)}
        lines.append({"dataset": dataset, "method": method, **means, **(paper if dataset in reported else {})})
    numbers = pandas.DataFrame(lines, columns=names)
    return Table(numbers, _filled(numbers), used=evidence.where(task="durations"))


def e_step(evidence: Evidence) -> Table:
    """Return milliseconds of an E-step by bag size, ours and enumeration's where it ends (beyond the paper)."""
    found = _means(_recorded(evidence, "e_step", "e_step"), ["row"])
    lines = [{"bag_size": int(size), **means} for (size,), means in found.items()]
    numbers = pandas.DataFrame(lines, columns=["bag_size", "e_step_ms", "enumerate_ms"])
    return Table(numbers, _filled(numbers), used=evidence.where(task="e_step"))


def equations(evidence: Evidence) -> Table:
    """Return the deviations of the E-step from its oracles, in float64."""
    return Table(checks(evidence), used=evidence.where(task="check"))


def _means(rows: pandas.DataFrame, by: list[str]) -> dict[tuple, dict[str, float]]:
    """{values of `by`: {metric: mean over seeds}}, in order of appearance."""
    found: dict[tuple, dict[str, float]] = {}
    for line in over_seeds(rows, [*by, "metric"]).to_dict("records"):
        found.setdefault(tuple(line[name] for name in by), {})[line["metric"]] = line["mean"]
    return found


def _with_all(table: pandas.DataFrame) -> pandas.DataFrame:
    """The table for reading: no number of bags is all of them."""
    return table.assign(bags=table.bags.astype(str).replace("0", "all")) if "bags" in table else table


def _filled(table: pandas.DataFrame) -> pandas.DataFrame:
    """The table for reading: a dash for what is missing, a line of NOT RUN where nothing is there."""
    if not len(table):
        return pandas.DataFrame([dict.fromkeys(table.columns, NOT_RUN)])
    return table.astype(object).where(table.notna(), "-")


if __name__ == "__main__":
    import sys

    from shared.tables.make import main, make_tables

    sys.exit(main("mle_llp", make_tables))
