"""Numbers of tables: means over seeds, their texts, what is said below them; csv and markdown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas

from shared.config import ConfigError, Run
from shared.files import write_text
from shared.tables.evidence import CONVERGENCE, NOT_RUN

if TYPE_CHECKING:
    from shared.tables.evidence import Evidence

STILL_MOVED = " runs still moved by more than a point in the last quarter of training"  # see `moved`


def over_seeds(rows: pandas.DataFrame, by: list[str]) -> pandas.DataFrame:
    """Return mean and sample standard deviation over the rows of each group, in order of appearance.

    Columns: `by`, n_seeds (rows with a value), mean, std (empty for one seed).
    """
    groups = rows.groupby(by, sort=False, dropna=False)["value"]
    return groups.agg(n_seeds="count", mean="mean", std="std").round({"mean": 4, "std": 4}).reset_index()


def entry(n_seeds: int, mean: float, std: float, planned: str = NOT_RUN) -> str:
    """Return a cell as text: ``64.80 ± 0.41 (3)``, or why it is empty."""
    if not n_seeds:
        return planned
    spread = "" if pandas.isna(std) else f" ± {std:.2f}"
    return f"{mean:.2f}{spread} ({n_seeds})"


def with_text(table: pandas.DataFrame, column: str = "accuracy") -> pandas.DataFrame:
    """Return a table of `over_seeds` for reading: n_seeds, mean and std as one column of text."""
    text = [entry(*numbers) for numbers in zip(table["n_seeds"], table["mean"], table["std"], strict=True)]
    return table.drop(columns=["n_seeds", "mean", "std"]).assign(**{column: text})


def wide(
    table: pandas.DataFrame, rows: list[str], column: str, sign: str = "", absent: str = "not planned"
) -> pandas.DataFrame:
    """Return the last epoch's means for reading: a line for each of `rows`, a column for each value of `column`.

    Columns are ``<sign>=<value>``, by value; without a sign they are the values, in order of appearance. `absent`
    stands where a line has no such column.
    """
    last = table[table.selection == "last"] if "selection" in table else table
    if not len(last):
        return pandas.DataFrame([dict.fromkeys([*rows, "value"], NOT_RUN)])
    spread = with_text(last, "text").pivot(index=rows, columns=column, values="text")
    spread = spread if sign else spread[last[column].unique()]
    spread.columns = [f"{sign}={value:g}" if sign else value for value in spread.columns]
    order = pandas.MultiIndex.from_frame(last[rows].drop_duplicates())
    return spread.reindex(order if len(rows) > 1 else order.get_level_values(0)).fillna(absent).reset_index()


def stand_ins(runs: Iterable[Run], evidence: Evidence) -> str:
    """Return sentences on what some runs have in place of the paper's data, network and protocol; empty for nothing."""
    about = [evidence.about[run.id] for run in runs]
    said = dict.fromkeys(text for row in about for text in row["stand_in"].split("; ") if text)
    said |= dict.fromkeys(f"{row['dataset']} is simulated" for row in about if row["simulated"])
    every = dict.fromkeys(text for row in about for text in row["differs"].split("; ") if text)
    other = [text for text in every if not any(text in longer and text != longer for longer in every)]
    texts = [
        f"Stand-ins: {'; '.join(said)}." if said else "",
        f"Other than in the paper: {'; '.join(other)}." if other else "",
    ]
    return " ".join(filter(None, texts))


def moved(evidence: Evidence, runs: Iterable[Run] | None = None) -> str:
    """Say how many of some runs (of all unless told) still moved where training ended, by more than a point and noise.

    That is by the gain of a measure of the test set in the last quarter of training, beyond two standard errors of it.
    Of a course too short for an error the gain alone counts: not to know is no rest. Accuracies are in points; another
    measure of which no run has more than 1 is one from 0 to 1 and counts in hundredths. Empty where no record has a
    course.
    """
    found = evidence.found
    course = found[found["selection"] == CONVERGENCE] if "gain_error" in found else found[:0]
    course = course if runs is None else course[course["id"].isin({run.id for run in runs})]
    if course.empty:
        return ""
    largest = found[found["selection"] == "last"].groupby("metric")["value"].max()
    names = [name.split()[-1] for name in course["metric"]]
    unit = [1 if "accuracy" in name or largest.get(name, 100) > 1 else 100 for name in names]
    points, error = course["value"] * unit, course["gain_error"].astype(float).fillna(0) * unit
    moving = points[points.abs() > (2 * error).clip(lower=1)]
    n, of = course["id"][moving.index].nunique(), course["id"].nunique()
    said = f"{n} of {of}{STILL_MOVED}"
    if not n:
        return said
    most = course.loc[moving.abs().idxmax()]
    return f"{said}; the most {most['id']}, {most['value']:+.2g} of {most['metric']}"


def reasons(runs: Iterable[Run], evidence: Evidence) -> str:
    """Return one sentence with each reason why some of the runs have no record; empty if none is known."""
    about = [evidence.about[run.id] for run in runs]
    pairs = dict.fromkeys((row.get("dataset", ""), row["why"]) for row in about if row["why"])
    said = [why if dataset in why else f"{dataset}: {why}" for dataset, why in pairs]
    return f"NOT RUN: {'; '.join(text.rstrip('.') for text in said)}." if said else ""


def empty_cells(table: pandas.DataFrame, most: int = 6) -> str:
    """Return one sentence that names the cells of a table of `over_seeds` without a seed; empty if there are none."""
    if "n_seeds" not in table:
        return ""
    empty = table[table.n_seeds == 0]
    empty = empty[empty.selection == "last"] if "selection" in empty else empty
    names = [name for name in table if name not in ("n_seeds", "mean", "std", "selection")]
    cells = list(dict.fromkeys(" ".join(map(str, row)) for row in empty[names].itertuples(index=False)))
    more = f"; and {len(cells) - most} more" if len(cells) > most else ""
    return f"NOT RUN: {'; '.join(cells[:most])}{more}." if cells else ""


def checks(evidence: Evidence) -> pandas.DataFrame:
    """Return what the runs of the task `check` found: check, deviation; NOT RUN where there is none."""
    records = [record for _, record in evidence.recorded(evidence.where(task="check"))]
    found = [{"check": name, "deviation": value} for r in records for name, value in r["metrics"]["last"].items()]
    return pandas.DataFrame(found or [{"check": "all", "deviation": NOT_RUN}])


def curves(evidence: Evidence, runs: Iterable[Run], by: list[str], names: dict[str, str]) -> pandas.DataFrame:
    """Return each epoch's values over seeds: `by`, curve, epoch, n_seeds, mean, std.

    Parameters
    ----------
    names : {name of a curve in the records: what it is called here}.

    Raises
    ------
    ConfigError
        Naming the run whose curve has not one value for each epoch: nobody knows of which epochs they are.
    """
    points = []
    for run, record in evidence.recorded(runs):
        epochs, about = record["curves"]["epoch"], {key: evidence.about[run.id].get(key) for key in by}
        for name, said in names.items():
            values = record["curves"].get(name, [])
            if values and len(values) != len(epochs):
                raise ConfigError(
                    f"the record of {run.id} has {len(values)} values of {name} for {len(epochs)} epochs; "
                    "delete it and train again"
                )
            pairs = zip(epochs, values, strict=bool(values))
            points += [{**about, "curve": said, "epoch": epoch, "value": value} for epoch, value in pairs]
    columns = [*by, "curve", "epoch"]
    return over_seeds(pandas.DataFrame(points, columns=[*columns, "value"]), columns)


def write_csv(frame: pandas.DataFrame, path: Path) -> None:
    """Write a csv, whole or not at all."""
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def write_markdown(frame: pandas.DataFrame, path: Path, title: str, notes: Iterable[str] = ()) -> None:
    """Write a markdown table under its title, followed by its notes."""
    header = "| " + " | ".join(map(str, frame.columns)) + " |"
    rule = "|" + "---|" * len(frame.columns)
    body = ["| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False)]
    parts = [f"# {title}", "\n".join([header, rule, *body]), *(text for text in notes if text)]
    write_text(path, "\n\n".join(parts) + "\n")
