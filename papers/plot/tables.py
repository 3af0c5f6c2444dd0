"""Records -> the numbers of Tables 1 to 3, Figures 2 to 4 and the controls: ``python -m papers.plot.tables TIER``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pandas

from papers.plot.plan import plan
from shared.records import store
from shared.records.config import Run
from shared.records.summary import (
    NOT_RUN,
    command,
    not_run,
    over_seeds,
    planned_rows,
    stand_ins,
    with_text,
    write_csv,
    write_markdown,
)

FIRST = ("dllp", "llp_vat", "llp_gan")
PLOT, SOFT, CONTINUED = "+sce+hard", "+sce+soft", "+continued"
# {method: row} of Tables 1 and 2; no paper ran the stage one that goes on.
REPORTED = {loss + second: loss + row for loss in FIRST for second, row in (("", ""), (PLOT, "+plot"))}
MAIN = {loss + second: loss + row for loss in FIRST for second, row in (("", ""), (PLOT, "+plot"), (CONTINUED,) * 2)}
CEILING = "supervised"
GAINS = {"plot - stage one": "", "plot - continued": CONTINUED}
TABLE3 = {
    "dllp": "base",
    "dllp+ce": "ce",
    "dllp+sce": "sce",
    "dllp+ce+hard": "ce+ot",
    "dllp+sce+hard": "sce+ot",
    "dllp+ce+hard+mixup": "ce+ot+mixup",
}
TOY, ABLATED = "two_moons", 64  # Figure 2's data; the bag size of Table 3 and Figure 3
CURVES = ("td", "td_ot", "td_ot_5")
LEGEND = "Test accuracy in percent, mean ± standard deviation over seeds (number of seeds)."


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Tidy rows as the cells of ``reported.csv``: Tables 1 and 2 by bag size, Table 3 by what stage two is made of."""
    chosen = rows[rows.metric == "accuracy"]
    by_size = chosen[chosen.method.isin(REPORTED) & chosen.dataset.isin(("cifar10", "cifar100"))]
    by_size = by_size.assign(
        table=by_size.dataset.map({"cifar10": "table1", "cifar100": "table2"}),
        row=by_size.method.map(REPORTED),
        column="n=" + by_size.bag_size.astype(int).astype(str),
    )
    parts = chosen[chosen.method.isin(TABLE3) & (chosen.dataset == "cifar10") & (chosen.bag_size == ABLATED)]
    parts = parts.assign(table="table3", row=parts.method.map(TABLE3), column="cifar10")
    names = ["table", "row", "column", "metric", "selection", "seed", "value", "id"]
    return pandas.concat([by_size[names], parts[names]])


def by_bag_size(rows: pandas.DataFrame, cifar100: bool) -> pandas.DataFrame:
    """Table 1 or 2: accuracy by method and bag size; data that stand in for CIFAR-10 are in Table 1."""
    made = rows[rows.method.isin([*MAIN, CEILING]) & ((rows.dataset == "cifar100") == cifar100)]
    return _in_order(over_seeds(made, ["dataset", "method", "bag_size", "selection"]), method=[*MAIN, CEILING])


def gains(rows: pandas.DataFrame) -> pandas.DataFrame:
    """What PLOT adds to a stage one, and to a stage one that goes on as long: differences within seeds."""
    key = ["dataset", "loss", "bag_size", "selection", "seed"]
    found = []
    for name, second in GAINS.items():
        after, before = (rows[rows.method == rows.loss + part].set_index(key).value for part in (PLOT, second))
        pairs = pandas.concat([after, before], axis=1, join="inner", keys=["after", "before"])
        found.append((pairs.after - pairs.before).rename("value").reset_index().assign(gain=name))
    by = ["dataset", "loss", "gain", "bag_size", "selection"]
    return _in_order(over_seeds(pandas.concat(found), by), loss=FIRST, gain=GAINS)


def ablation(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Table 3 and the controls: every method that is not in Tables 1 and 2, beside those that are."""
    others = rows[~rows.method.isin([*MAIN, CEILING])]
    beside = rows[rows.method.isin(MAIN)].merge(others[["dataset", "loss", "bag_size"]].drop_duplicates())
    ceiling = rows[(rows.method == CEILING) & rows.dataset.isin(others.dataset)]
    order = dict.fromkeys([*TABLE3, *MAIN, *sorted(set(others.method)), CEILING])
    table = over_seeds(pandas.concat([beside, others, ceiling]), ["dataset", "method", "bag_size", "selection"])
    return _in_order(table, method=order)


def pseudo_labels(runs: Iterable[Run], records: Iterable[dict]) -> pandas.DataFrame:
    """Accuracy of pseudo-labels on training instances: those stage two starts from, and those of its last epoch."""
    last = {record["id"]: record["metrics"]["last"] for record in records}
    found = []
    for run in runs:
        spec = run.spec
        if spec["second"] == "plot":
            # The mean of one label is that label.
            for label in ("td", "td_ot", f"td_ot_{spec['average']}")[: 2 + (spec["average"] > 1)]:
                for when, name in (("before", f"first_{label}"), ("after", label)):
                    key = {"dataset": spec["dataset"], "method": spec["method"], "bag_size": spec["bag_size"]}
                    value = last.get(run.id, {}).get(name, float("nan"))
                    found.append({**key, "labels": label, "when": when, "value": value})
    by = ["dataset", "method", "bag_size", "labels", "when"]
    table = over_seeds(pandas.DataFrame(found, columns=[*by, "value"]), by)
    order = dict.fromkeys([*TABLE3, *MAIN, *sorted(set(table.method))])
    return table.sort_values(by[:3], key=lambda column: _place(column, {"method": order}), kind="stable")


def shown(runs: Iterable[Run]) -> dict[str, int]:
    """{dataset: bag size} of Figure 3: the paper's, or the largest there is."""
    sizes: dict[str, set[int]] = {}
    for run in runs:
        if run.spec["method"] == f"dllp{PLOT}":
            sizes.setdefault(run.spec["dataset"], set()).add(run.spec["bag_size"])
    return {dataset: ABLATED if ABLATED in found else max(found) for dataset, found in sizes.items()}


def label_curves(runs: Iterable[Run], records: Iterable[dict]) -> pandas.DataFrame:
    """Figure 3: accuracy of the pseudo-labels each epoch of stage two learns from, DLLP + PLOT at one bag size."""
    wanted = {(dataset, f"dllp{PLOT}", size) for dataset, size in shown(runs).items()}
    return _by_epoch(records, wanted, CURVES)


def hard_and_soft(runs: Iterable[Run], records: Iterable[dict]) -> pandas.DataFrame:
    """Figure 4: test accuracy after each epoch of stage two from hard and from soft labels, where both are planned."""
    planned = {(run.spec["dataset"], run.spec["method"], run.spec["bag_size"]) for run in runs}
    both = set(shown(runs).items()) | {(data, n) for data, method, n in planned if method == f"dllp{SOFT}"}
    wanted = {(dataset, f"dllp{second}", size) for dataset, size in both for second in (PLOT, SOFT)}
    return _by_epoch(records, wanted, ["test_accuracy"]).drop(columns="curve")


def two_moons(runs: Iterable[Run], records: Iterable[dict]) -> pandas.DataFrame:
    """Figure 2: test accuracy of each run, and a digest of the classes that the figure reads in its record."""
    made = {record["id"]: record for record in records}
    found = []
    for run in runs:
        row = {"id": run.id, **{key: run.spec[key] for key in ("method", "bag_size", "seed")}}
        if run.id in made:
            grid = json.dumps(made[run.id]["curves"]["grid"]).encode()
            row["accuracy"] = made[run.id]["metrics"]["last"]["accuracy"]
            row["grid"] = hashlib.sha256(grid).hexdigest()[:16]
        found.append(row)
    return pandas.DataFrame(found, columns=["id", "method", "bag_size", "seed", "accuracy", "grid"])


def _by_epoch(records: Iterable[dict], wanted: set[tuple], curves: Iterable[str]) -> pandas.DataFrame:
    by = ["dataset", "method", "bag_size"]
    points = [
        {**{key: record["spec"][key] for key in by}, "curve": name, "epoch": epoch, "value": value}
        for record in records
        if tuple(record["spec"][key] for key in by) in wanted
        for name in curves
        for epoch, value in zip(record["curves"]["epoch"], record["curves"][name], strict=True)
    ]
    by += ["curve", "epoch"]
    table = over_seeds(pandas.DataFrame(points, columns=[*by, "value"]), by)
    return table.sort_values(["dataset", "bag_size", "method"], kind="stable")


def _in_order(table: pandas.DataFrame, **orders: Iterable[str]) -> pandas.DataFrame:
    """Sorted by all that is no number, then by bag size; the values of some columns in the order given."""
    by = [name for name in table.columns if name not in ("n_seeds", "mean", "std", "bag_size")]
    return table.sort_values([*by, "bag_size"], key=lambda column: _place(column, orders), kind="stable")


def _place(column: pandas.Series, orders: dict[str, Iterable[str]]) -> pandas.Series:
    places = {value: place for place, value in enumerate(orders.get(column.name, ()))}
    return column.map(places) if places else column


def _everywhere(table: pandas.DataFrame) -> pandas.DataFrame:
    """The ceiling, which knows no bags, at every bag size of its dataset."""
    is_ceiling = table.method == CEILING
    sizes = table.loc[~is_ceiling, ["dataset", "bag_size"]].drop_duplicates()
    return pandas.concat([table[~is_ceiling], table[is_ceiling].drop(columns="bag_size").merge(sizes, on="dataset")])


def _wide(
    table: pandas.DataFrame, rows: list[str], columns: list[str], absent: str = "not planned"
) -> pandas.DataFrame:
    """Means over seeds for reading: rows in order of appearance, a column for each value of `columns`."""
    if not len(table):
        return pandas.DataFrame([dict.fromkeys([*rows, "accuracy"], NOT_RUN)])
    wide = with_text(table).pivot(index=rows, columns=columns, values="accuracy")
    heads = list(table[columns].drop_duplicates().itertuples(index=False, name=None))
    heads = sorted(heads) if "bag_size" in columns else heads
    wide = wide[[head if len(columns) > 1 else head[0] for head in heads]]
    wide = wide.reindex(pandas.MultiIndex.from_frame(table[rows].drop_duplicates()))
    named = [dict(zip(columns, head, strict=True)) for head in heads]
    wide.columns = [" ".join(f"n={v}" if key == "bag_size" else v for key, v in head.items()) for head in named]
    return wide.fillna(absent).reset_index()


def _metrics(rows: pandas.DataFrame) -> dict[str, float]:
    """Accuracy after the last epoch by ``dataset/method/bag<n>``, for `dvc metrics`."""
    table = over_seeds(rows[rows.selection == "last"], ["dataset", "method", "bag_size"])
    table = table[table.n_seeds > 0]
    names = table.dataset + "/" + table.method + "/bag" + table.bag_size.astype(str)
    return dict(zip(names, table["mean"], strict=True))


def write(tier: str, results: Path) -> None:
    """Every table of a tier, from the records under ``results/<tier>/plot/runs``."""
    folder = results / tier / "plot"
    planned = plan(tier)
    ids = {run.id for run in planned}
    records = [record for record in store.read(folder / "runs") if record["id"] in ids]
    every = planned_rows(planned, folder / "runs").astype({"bag_size": int})
    rows = every[every.dataset != TOY]
    toy, runs = ([run for run in planned if (run.spec["dataset"] == TOY) == is_toy] for is_toy in (True, False))

    def publish(name: str, table: pandas.DataFrame, text: pandas.DataFrame, title: str, note: str) -> None:
        used = rows[rows.dataset.isin(table.dataset)]
        write_csv(table, folder / f"{name}.csv")
        notes = [note, f"Tier {tier}. {stand_ins(used)}".strip(), not_run(used)]
        write_markdown(text, folder / f"{name}.md", title, notes)

    store.write_text(folder / "metrics.json", json.dumps(_metrics(every), indent=1) + "\n")
    write_csv(two_moons(toy, records), folder / "fig2.csv")
    write_csv(label_curves(runs, records), folder / "fig3.csv")
    write_csv(hard_and_soft(runs, records), folder / "fig4.csv")

    note = (
        f"{LEGEND} +plot is {PLOT} in records. +continued, ours: stage one goes on for as long as stage two. "
        "supervised knows the class of every instance, whatever the bags."
    )
    for name, title, cifar100 in (("table1", "Table 1: CIFAR-10", False), ("table2", "Table 2: CIFAR-100", True)):
        table = by_bag_size(rows, cifar100)
        last = _everywhere(table[table.selection == "last"])
        text = _wide(last.assign(method=last.method.replace(MAIN)), ["dataset", "method"], ["bag_size"])
        publish(name, table, text, f"{title}, accuracy by bag size, last epoch", note)

    gained = gains(rows)
    text = _wide(gained[gained.selection == "last"], ["dataset", "loss", "gain"], ["bag_size"])
    note = "Percentage points of test accuracy, paired by seed: mean ± standard deviation over seeds (number of seeds)."
    publish("gains", gained, text, "What PLOT adds to stage one, and to a stage one that goes on", note)

    parts = ablation(rows)
    last = _everywhere(parts[parts.selection == "last"])
    last.insert(0, "row", last.method.map(TABLE3).fillna("ours"))
    text = _wide(last, ["row", "method"], ["dataset", "bag_size"])
    note = (
        f"{LEGEND} row: as in the paper; ours: not in its table. continued: stage one goes on, no pseudo-labels. "
        "ce+mixup: no transport. fresh: stage two starts from new weights. last1: no mean of the last five labels. "
        "soft: labels of Equation 7."
    )
    publish("table3", parts, text, "Table 3 and the controls the paper left out, last epoch", note)

    labels = pseudo_labels(runs, records)
    text = _wide(labels, ["dataset", "bag_size", "method"], ["labels", "when"], absent="-")
    note = (
        "Accuracy on training instances in percent, mean ± standard deviation over seeds (number of seeds). "
        "td: predictions; td_ot: after transport; td_ot_5: mean of the last five of these. before: what stage two "
        "starts from; after: what its last epoch learns from."
    )
    publish("pseudo", labels, text, "Accuracy of the pseudo-labels", note)


if __name__ == "__main__":
    command(write, "papers.plot.tables", __doc__)
