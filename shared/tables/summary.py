"""From records to tables: planned runs beside their records, means over seeds, csv and markdown."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas

from shared.records import store
from shared.records.config import Run

SELECTIONS = ("last", "bag-validation", "oracle")
NOT_RUN, FAILED = "NOT RUN", "FAILED"


def planned_rows(runs: Iterable[Run], folder: Path, metric: str = "accuracy") -> pandas.DataFrame:
    """`planned_metrics` of one metric."""
    return planned_metrics(runs, folder, [metric])[metric]


def planned_metrics(runs: Iterable[Run], folder: Path, metrics: Iterable[str]) -> dict[str, pandas.DataFrame]:
    """{metric: its tidy rows of every planned run, in the order of the plan}, the records read once.

    A run without a record keeps a row under every selection rule, its value empty and its `status` NOT RUN or FAILED;
    `why` says what the index knows of the reason.
    """
    runs = list(runs)
    index = store.read_index(folder) or {}
    rows = store.tidy(store.read(folder))
    return {metric: _of_metric(runs, folder, index, rows, metric) for metric in metrics}


def _of_metric(runs: list[Run], folder: Path, index: dict, rows: pandas.DataFrame, metric: str) -> pandas.DataFrame:
    recorded = set(rows["id"]) if len(rows) else set()
    found = rows[rows.metric == metric].assign(status="done", why="") if len(rows) else rows
    missing = []
    for run in runs:
        if run.id not in recorded:
            status = FAILED if store.record_path(folder, run.id).with_suffix(".log").exists() else NOT_RUN
            why = index.get(run.id, {}).get("why", "") if status == NOT_RUN else ""
            blank = {"id": run.id, **run.spec, "metric": metric, "value": float("nan"), "status": status, "why": why}
            missing += [{**blank, "selection": selection} for selection in SELECTIONS]
    frames = [frame for frame in (found, pandas.DataFrame(missing)) if len(frame)]
    rows = pandas.concat(frames, ignore_index=True) if frames else found
    order = {run.id: i for i, run in enumerate(runs)}
    rows = rows[rows["id"].isin(order)]
    return rows.sort_values("id", key=lambda ids: ids.map(order), kind="stable", ignore_index=True)


def over_seeds(rows: pandas.DataFrame, by: list[str]) -> pandas.DataFrame:
    """Mean and sample standard deviation over the rows of each group, with n_seeds, in order of appearance.

    Columns: `by`, n_seeds (rows with a value), mean, std (empty for one seed).
    """
    groups = rows.groupby(by, sort=False, dropna=False)["value"]
    return groups.agg(n_seeds="count", mean="mean", std="std").round({"mean": 4, "std": 4}).reset_index()


def entry(n_seeds: int, mean: float, std: float, planned: str = NOT_RUN) -> str:
    """A cell as text: ``64.80 ± 0.41 (3)``, or why it is empty."""
    if not n_seeds:
        return planned
    spread = "" if pandas.isna(std) else f" ± {std:.2f}"
    return f"{mean:.2f}{spread} ({n_seeds})"


def with_text(table: pandas.DataFrame, column: str = "accuracy") -> pandas.DataFrame:
    """A table of `over_seeds` for reading: n_seeds, mean and std as one column of text."""
    text = [entry(*numbers) for numbers in zip(table["n_seeds"], table["mean"], table["std"], strict=True)]
    return table.drop(columns=["n_seeds", "mean", "std"]).assign(**{column: text})


def stand_ins(rows: pandas.DataFrame) -> str:
    """One sentence that names every stand-in and simulated dataset the rows use; empty if there are none."""
    texts = rows["stand_in"].dropna().unique() if "stand_in" in rows else []
    said = list(dict.fromkeys(text for several in texts for text in several.split("; ") if text))
    if "simulated" in rows:
        said += [f"{name} is simulated" for name in rows.dataset[rows.simulated.eq(True)].unique()]
    return f"Stand-ins: {'; '.join(said)}." if said else ""


def equations(records: Iterable[dict]) -> pandas.DataFrame:
    """What the runs of the method `equations` found: check, deviation; NOT RUN where there is none."""
    checks = [record for record in records if record["spec"]["method"] == "equations"]
    found = [{"check": name, "deviation": value} for c in checks for name, value in c["metrics"]["last"].items()]
    return pandas.DataFrame(found or [{"check": "all", "deviation": NOT_RUN}])


def not_run(rows: pandas.DataFrame) -> str:
    """One sentence with each reason why planned rows have no record; empty if none is known."""
    known = rows[rows["why"].fillna("").ne("")] if "why" in rows else rows[:0]
    pairs = known[["dataset", "why"]].drop_duplicates().itertuples(index=False) if len(known) else ()
    said = [why if dataset in why else f"{dataset}: {why}" for dataset, why in pairs]
    return f"NOT RUN: {'; '.join(text.rstrip('.') for text in said)}." if said else ""


def command(make: Callable[[str, Path], None], module: str, description: str) -> None:
    """The command line of a paper's tables or figures: ``python -m MODULE TIER [--results DIR]``."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("tier")
    parser.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args()
    make(args.tier, args.results)


def write_csv(frame: pandas.DataFrame, path: Path) -> None:
    """A csv, whole or not at all."""
    store.write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def write_markdown(frame: pandas.DataFrame, path: Path, title: str, notes: Iterable[str] = ()) -> None:
    """A markdown table under its title, followed by its notes."""
    header = "| " + " | ".join(map(str, frame.columns)) + " |"
    rule = "|" + "---|" * len(frame.columns)
    body = ["| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False)]
    parts = [f"# {title}", "\n".join([header, rule, *body]), *(text for text in notes if text)]
    store.write_text(path, "\n\n".join(parts) + "\n")
