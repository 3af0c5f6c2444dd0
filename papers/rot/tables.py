"""Records -> the numbers of Figures 1 and 2, the alpha sweep and the controls: ``python -m papers.rot.tables TIER``."""

from __future__ import annotations

import json
from pathlib import Path

import pandas

from papers.rot.plan import plan
from shared.records import store
from shared.records.summary import (
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

METHODS = {"avgkl": "AvgKL", "kl": "KL", "rot": "ROT"}
LEGEND = "Test accuracy in percent, mean ± standard deviation over seeds (number of seeds)."


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Tidy rows as the cells of ``reported.csv``: both figures show methods by dataset and bag size."""
    chosen = rows[rows.method.isin(METHODS) & (rows.metric == "accuracy")]
    column = chosen.dataset + " n=" + chosen.bag_size.astype(int).astype(str)
    plain = chosen.assign(row=chosen.method, column=column)
    return pandas.concat([plain.assign(table=table) for table in ("fig1", "fig2")])[
        ["table", "row", "column", "metric", "selection", "seed", "value", "id"]
    ]


def curves(records: list[dict]) -> pandas.DataFrame:
    """Figure 1: test accuracy after each epoch, over seeds."""
    points = [
        {**{key: record["spec"][key] for key in ("dataset", "method", "bag_size")}, "epoch": epoch, "value": value}
        for record in records
        if record["spec"]["method"] in METHODS
        for epoch, value in zip(record["curves"]["epoch"], record["curves"]["test_accuracy"], strict=True)
    ]
    by = ["dataset", "method", "bag_size", "epoch"]
    return over_seeds(pandas.DataFrame(points, columns=[*by, "value"]), by)


def final(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Figure 2: final accuracy by dataset, method and bag size, under each selection rule."""
    table = over_seeds(rows[rows.method.isin(METHODS)], ["dataset", "method", "bag_size", "selection"])
    table = table.sort_values(["dataset", "method", "selection", "bag_size"], kind="stable")
    return table[["dataset", "method", "bag_size", "n_seeds", "mean", "std", "selection"]]


def alpha_sweep(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Accuracy of ROT by alpha, where the tier sweeps it."""
    rot = rows[rows.loss == "rot"]
    swept = rot[rot.method.str.startswith("rot-alpha")][["dataset", "bag_size"]].drop_duplicates()
    by = ["dataset", "bag_size", "alpha", "selection"]
    seeds = rot[rot.method.str.startswith("rot-alpha")].seed.unique()
    chosen = rot[rot.seed.isin(seeds) & rot.method.str.fullmatch(r"rot(-alpha.*)?")].merge(swept)
    return over_seeds(chosen, by).sort_values(by, kind="stable")


def controls(rows: pandas.DataFrame) -> pandas.DataFrame:
    """What the paper left out: proportions permuted among bags, other weight decay, beside the plain methods."""
    others = rows[~rows.method.isin(METHODS) & ~rows.method.str.startswith("rot-alpha") & (rows.selection == "last")]
    same = others[["dataset", "bag_size"]].drop_duplicates()
    plain = rows[rows.method.isin(METHODS) & (rows.selection == "last")].merge(same)
    by = ["dataset", "bag_size", "method"]
    return over_seeds(pandas.concat([plain, others]), by).sort_values(by, kind="stable")


def _wide(table: pandas.DataFrame) -> pandas.DataFrame:
    last = table[table.selection == "last"]
    wide = with_text(last).pivot(index=["dataset", "method"], columns="bag_size", values="accuracy")
    wide.columns = [f"n={n:g}" for n in wide.columns]
    return wide.fillna("not planned").reset_index()


def _metrics(table: pandas.DataFrame) -> dict[str, float]:
    """Accuracy after the last epoch by ``dataset/method/bag<n>``, for `dvc metrics`."""
    last = table[(table.selection == "last") & (table.n_seeds > 0)]
    names = last.dataset + "/" + last.method + "/bag" + last.bag_size.astype(str)
    return dict(zip(names, last["mean"], strict=True))


def write(tier: str, results: Path) -> None:
    """Every table of a tier, from the records under ``results/<tier>/rot/runs``."""
    folder = results / tier / "rot"
    records = store.read(folder / "runs")
    rows = planned_rows([run for run in plan(tier) if "bag_size" in run.spec], folder / "runs")
    rows = rows.astype({"bag_size": int})

    def publish(name: str, table: pandas.DataFrame, text: pandas.DataFrame, title: str, note: str = "") -> None:
        used = rows[rows.dataset.isin(table.get("dataset", []))]
        write_csv(table, folder / f"{name}.csv")
        write_markdown(text, folder / f"{name}.md", title, [note, f"Tier {tier}. {stand_ins(used)}", not_run(used)])

    write_csv(curves(records), folder / "fig1.csv")
    fig2, swept, control, checked = final(rows), alpha_sweep(rows), controls(rows), equations(records)
    store.write_text(folder / "metrics.json", json.dumps(_metrics(fig2), indent=1) + "\n")
    publish("fig2", fig2, _wide(fig2), "Figure 2: accuracy by bag size, last epoch", LEGEND)
    publish("alpha", swept, with_text(swept), "ROT by alpha (Section 4.1)", LEGEND)
    note = f"{LEGEND} kl-permuted: KL on bags whose proportions were dealt out at random; chance is 100 / K."
    publish("controls", control, with_text(control), "Controls the paper left out, last epoch", note)
    note = "Largest deviation in float64 over random predictions; no training."
    publish("equations", checked, checked, "Propositions 1 and 2 and Equation 5", note)


if __name__ == "__main__":
    command(write, "papers.rot.tables", __doc__)
