"""Records -> the numbers of Figures 1 and 3, Table 1 and what goes beyond: ``python -m papers.mle_llp.tables TIER``."""

from __future__ import annotations

import json
from pathlib import Path

import pandas

from papers.mle_llp.names import SIZES, TIMED
from papers.mle_llp.plan import plan
from shared.records import store
from shared.records.summary import (
    NOT_RUN,
    command,
    equations,
    not_run,
    over_seeds,
    planned_rows,
    stand_ins,
    with_text,
    write_csv,
    write_markdown,
)

METHODS = {
    "supervised": "supervised",
    "dllp": "DLLP",
    "llp_gan": "LLP-GAN",
    "mle_llp": "MLE-LLP",
    "mle_direct": "likelihood, direct",
}
DATASETS = {
    "images_of_groups": "group photos",
    "cifar10": "CIFAR",
    "digits": "digits 3, 8",
    "wbc_stained": "stained blood cells",
}
LEGEND = "Test accuracy in percent, mean ± standard deviation over repetitions (their number)."


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Tidy rows as the cells of ``reported.csv``: the seconds of Table 1."""
    timed = rows[(rows.method == "durations") & rows.metric.str.startswith("epoch_s_")]
    plain = timed.assign(
        table="table1", row=timed.metric.str.removeprefix("epoch_s_"), column=timed.dataset, metric="epoch_s"
    )
    return plain[["table", "row", "column", "metric", "selection", "seed", "value", "id"]]


def by_number(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Figure 3: accuracy by dataset, method and number of training bags, under each selection rule."""
    made = rows[rows.method.isin(METHODS) & (rows.bags > 0) & (rows.smallest != rows.largest)]
    table = over_seeds(made, ["dataset", "method", "bags", "selection"])
    return table.sort_values(["dataset", "method", "selection", "bags"], kind="stable")


def curves(records: list[dict]) -> pandas.DataFrame:
    """Figure 1: test accuracy after each epoch at the largest number of bags; a run that stopped keeps its last one."""
    by = ["dataset", "method", "bags", "epoch"]
    runs = [r for r in records if r["spec"]["method"] in METHODS and r["spec"]["smallest"] != r["spec"]["largest"]]
    points = []
    for record in runs:
        spec, seen = record["spec"], record["curves"]["test_accuracy"]
        for epoch in range(spec["epochs"]):
            key = {"dataset": spec["dataset"], "method": spec["method"], "bags": spec["bags"], "epoch": epoch + 1}
            points.append({**key, "value": seen[min(epoch, len(seen) - 1)]})
    table = pandas.DataFrame(points, columns=[*by, "value"])
    most = table.groupby("dataset").bags.transform("max")
    return over_seeds(table[table.bags == most], by)


def by_size(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Beyond the paper: accuracy by the size of bags that all have one size."""
    made = rows[rows.method.isin(METHODS) & (rows.smallest == rows.largest)]
    table = over_seeds(made.assign(bag_size=made.largest), ["dataset", "method", "bag_size", "selection"])
    return table.sort_values(["dataset", "method", "selection", "bag_size"], kind="stable")


def blood(rows: pandas.DataFrame, metric: str) -> pandas.DataFrame:
    """Beyond the paper: four classes of stained blood cells in bags of 2 to 6, under each selection rule."""
    made = rows[rows.method.isin(METHODS) & (rows.bags == 0) & (rows.smallest != rows.largest)]
    return over_seeds(made.assign(metric=metric), ["dataset", "method", "metric", "selection"])


def durations(records: list[dict]) -> pandas.DataFrame:
    """Table 1: seconds an epoch and times DLLP's, here and in the paper; the E-step's share of MLE-LLP's epoch."""
    reported = pandas.read_csv(Path(__file__).with_name("reported.csv")).set_index(["column", "row"]).value
    found = []
    for record in records:
        if record["spec"]["method"] == "durations":
            dataset, last = record["spec"]["dataset"], record["metrics"]["last"]
            for name in TIMED:
                row = {"dataset": dataset, "method": name, "epoch_s": last[f"epoch_s_{name}"]}
                row["times_dllp"] = last[f"ratio_{name}"]
                if (dataset, name) in reported:
                    row["paper_times_dllp"] = reported[dataset, name] / reported[dataset, "dllp"]
                row["e_step_percent"] = last["e_step_share"] if name == "mle_llp" else None
                found.append(row)
    names = ["dataset", "method", "epoch_s", "times_dllp", "paper_times_dllp", "e_step_percent"]
    return over_seeds_of(pandas.DataFrame(found, columns=names).astype(dict.fromkeys(names[2:], float)), names[:2])


def over_seeds_of(table: pandas.DataFrame, by: list[str]) -> pandas.DataFrame:
    """Means over repeated measurements, all columns at once."""
    if not len(table):
        return table
    return table.groupby(by, sort=False).mean(numeric_only=True).round(4).reset_index()


def e_step(records: list[dict]) -> pandas.DataFrame:
    """Beyond the paper: milliseconds of an E-step by bag size, ours and enumeration's where it ends."""
    found = [r["metrics"]["last"] for r in records if r["spec"]["method"] == "e_step"]
    names = ["bag_size", "e_step_ms", "enumerate_ms"]
    points = [(n, r[f"e_step_ms_{n}"], r.get(f"enumerate_ms_{n}")) for r in found for n in SIZES]
    return over_seeds_of(pandas.DataFrame(points, columns=names), ["bag_size"])


def others(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Controls and what goes beyond: methods that are none of the five, and the likelihood itself, beside MLE-LLP."""
    last = rows[(rows.selection == "last") & (rows.smallest != rows.largest)]
    odd = last[~last.method.isin(METHODS) | (last.method == "mle_direct")]
    plain = last[last.method.isin(("mle_llp", "dllp"))].merge(odd[["dataset", "bags"]].drop_duplicates())
    both = pandas.concat([plain, odd]).drop_duplicates(["id", "metric"])
    by = ["dataset", "bags", "method"]
    return over_seeds(both, by).sort_values(by, kind="stable")


def convergence(records: list[dict]) -> pandas.DataFrame:
    """Epochs to 99 % of the final accuracy, unrest late in training, where the paper's rule would stop."""
    found = []
    for record in records:
        spec = record["spec"]
        if spec["method"] in METHODS or spec["method"].startswith(("dllp", "mle")):
            for metric in ("epochs_to_99", "unrest", "stop_epoch"):
                value = record["metrics"]["last"].get(metric)
                if value is not None and spec["smallest"] != spec["largest"]:
                    key = {"dataset": spec["dataset"], "method": spec["method"], "bags": spec["bags"]}
                    found.append({**key, "metric": metric, "value": value})
    by = ["dataset", "bags", "method", "metric"]
    return over_seeds(pandas.DataFrame(found, columns=[*by, "value"]), by).sort_values(by, kind="stable")


def _filled(table: pandas.DataFrame) -> pandas.DataFrame:
    if not len(table):
        return pandas.DataFrame([dict.fromkeys(table.columns, NOT_RUN)])
    return table.astype(object).where(table.notna(), "-")


def _wide(table: pandas.DataFrame, column: str, sign: str) -> pandas.DataFrame:
    last = table[table.selection == "last"]
    wide = with_text(last).pivot(index=["dataset", "method"], columns=column, values="accuracy")
    wide.columns = [f"{sign}={value:g}" for value in wide.columns]
    return wide.fillna("not planned").reset_index()


def _metrics(table: pandas.DataFrame) -> dict[str, float]:
    """Accuracy after the last epoch by ``dataset/method/m<bags>``, for `dvc metrics`."""
    last = table[(table.selection == "last") & (table.n_seeds > 0)]
    return dict(zip(last.dataset + "/" + last.method + "/m" + last.bags.astype(str), last["mean"], strict=True))


def _converged(table: pandas.DataFrame) -> pandas.DataFrame:
    if not len(table):
        return _filled(table)
    most = table[table.bags == table.groupby("dataset").bags.transform("max")]
    wide = with_text(most, "value").pivot(index=["dataset", "bags", "method"], columns="metric", values="value")
    wide.columns.name = None
    return _filled(wide.reset_index())


def write(tier: str, results: Path) -> None:
    """Every table of a tier, from the records under ``results/<tier>/mle_llp/runs``."""
    folder = results / tier / "mle_llp"
    records = store.read(folder / "runs")
    runs = [run for run in plan(tier) if "bags" in run.spec]
    whole = {"bags": int, "smallest": int, "largest": int}
    trained = [run for run in runs if run.spec["method"] != "durations"]
    rows, by_class = (planned_rows(trained, folder / "runs", m).astype(whole) for m in ("accuracy", "class_accuracy"))
    timed_rows = planned_rows([run for run in runs if run not in trained], folder / "runs", "epoch_s_dllp")

    def publish(name: str, table: pandas.DataFrame, text: pandas.DataFrame, title: str, note: str, used=rows) -> None:
        used = used[used.dataset.isin(table.get("dataset", []))]
        write_csv(table, folder / f"{name}.csv")
        write_markdown(text, folder / f"{name}.md", title, [note, f"Tier {tier}. {stand_ins(used)}", not_run(used)])

    write_csv(curves(records), folder / "fig1.csv")
    fig3, size, other, converged = by_number(rows), by_size(rows), others(rows), convergence(records)
    store.write_text(folder / "metrics.json", json.dumps(_metrics(fig3), indent=1) + "\n")
    publish("fig3", fig3, _wide(fig3, "bags", "m"), "Figure 3: accuracy by number of training bags, last epoch", LEGEND)
    publish("size", size, _wide(size, "bag_size", "n"), "Beyond the paper: accuracy by bag size, last epoch", LEGEND)
    publish("controls", other, with_text(other), "Controls and the likelihood itself, last epoch", LEGEND)
    kinds = pandas.concat([blood(rows, "accuracy"), blood(by_class, "class_accuracy")])
    last = with_text(kinds[kinds.selection == "last"], "value").drop(columns="selection")
    note = "Percent, mean ± standard deviation over repetitions. class_accuracy: its mean over the classes."
    publish("blood", kinds, last, "Beyond the paper: four classes of blood cells, last epoch", note)
    note = (
        "At the most bags; convergence.csv has the rest. epochs_to_99: first epoch with 99 % of the final accuracy, "
        "which is the mean of the last three. unrest: mean change from epoch to epoch, late in training. "
        "stop_epoch: where the paper's rule would stop, in the repetitions where it would."
    )
    publish("convergence", converged, _converged(converged), "How training converges", note)
    timed, steps, checked = durations(records), e_step(records), equations(records)
    note = "All methods in turn in one process. e_step_percent: the posterior alone, in percent of MLE-LLP's epoch."
    publish("table1", timed, _filled(timed), "Table 1: epoch durations", note, timed_rows)
    note = "Milliseconds for about as many instances at every size; enumeration scaled from the bags it could do."
    publish("e_step", steps, _filled(steps), "Beyond the paper: the E-step by bag size", note)
    publish("equations", checked, checked, "The E-step against its oracles", "Largest deviation; no training.")


if __name__ == "__main__":
    command(write, "papers.mle_llp.tables", __doc__)
