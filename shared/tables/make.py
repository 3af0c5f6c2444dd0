"""Make the tables that a paper's outputs.yaml names: ``python -m papers.rot.tables --tier quick``."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas

from shared.config import ConfigError, Run
from shared.config.files import check_keys
from shared.config.outputs import Outputs, read_outputs
from shared.config.tiers import add_tier
from shared.files import Sentence, sentence_of, write_text
from shared.tables.evidence import Evidence, gather
from shared.tables.numbers import empty_cells, moved, reasons, stand_ins, write_csv, write_markdown

NUMBERS = ("n_seeds", "mean", "std", "selection")  # columns that tell no rows apart
NOTES = "notes.json"  # what stands under each table, which figures repeat


@dataclass
class Table:
    """A table as a paper's function returns it.

    Attributes
    ----------
    numbers : what is written as csv.
    text : the same for reading; `numbers` unless told.
    used : the runs it rests on, whose stand-ins are named below it; those of its datasets unless told.
    notes : sentences below its caption.
    """

    numbers: pandas.DataFrame
    text: pandas.DataFrame | None = None
    used: Iterable[Run] | None = None
    notes: tuple[str, ...] = ()


def make_tables(paper: str, tier: str, results: Path | None = None) -> Path:
    """Write every table of a paper's tier, its metrics and its plot; returns the folder."""
    outputs, evidence = read_outputs(paper), gather(paper, tier, results)
    module, made, notes = importlib.import_module(f"papers.{paper}.tables"), {}, {}
    for output in outputs.tables:
        found = getattr(module, output.name)(evidence)
        table = found if isinstance(found, Table) else Table(found)
        made[output.name] = table.numbers
        used = _used(table, evidence)
        course = f"{moved(evidence, used)}.".lstrip(".")
        below = [f"Tier {tier}. {stand_ins(used, evidence)}".strip(), reasons(used, evidence), course]
        why = re.sub(r"; run: python -m shared\.datasets fetch \w+", "", below[1])
        figures = [below[0], why, re.sub("; the most .*", ".", course), empty_cells(_begun(table.numbers, below[1]))]
        notes[output.name] = " ".join(filter(None, figures))
        write_csv(table.numbers, evidence.folder / f"{output.name}.csv")
        if output.text:
            text = table.numbers if table.text is None else table.text
            path = evidence.folder / f"{output.name}.md"
            write_markdown(text, path, output.title, [output.caption, *table.notes, *below])
    write_text(evidence.folder / NOTES, json.dumps(notes, indent=1) + "\n")
    _for_dvc(outputs, made, evidence.folder.parent)
    return evidence.folder


def _begun(table: pandas.DataFrame, why: str) -> pandas.DataFrame:
    """The rows of datasets that have some number, where `why` says of others that they were not run."""
    if not why or "n_seeds" not in table or "dataset" not in table:
        return table
    return table[table.dataset.isin(table.dataset[table.n_seeds > 0])]


def _used(table: Table, evidence: Evidence) -> list[Run]:
    if table.used is not None:
        return list(table.used)
    if "dataset" not in table.numbers:
        return [run for run in evidence.runs if "dataset" in run.spec]
    datasets = set(table.numbers.dataset)
    return [run for run in evidence.runs if run.spec.values().get("dataset") in datasets]


def _for_dvc(outputs: Outputs, made: dict[str, pandas.DataFrame], folder: Path) -> None:
    """Write ``metrics/<paper>.json`` and ``plots/<paper>.csv`` beside the papers' folders; dvc.yaml names the two.

    A plot has a line for each method, and for each value of what else tells its rows apart.
    """
    at, wanted = f"papers/{outputs.paper}/outputs.yaml", outputs.metrics
    numbers = {}
    if wanted:
        rows = _where(made[wanted["table"]], wanted.get("where", {}))
        rows = rows[rows.n_seeds > 0].to_dict("records")
        try:
            numbers = {wanted["name"].format(**row): row["mean"] for row in rows}
        except KeyError as error:
            raise ConfigError(f"{at}: metrics.name: the table {wanted['table']} has no column {error}") from None
    write_text(folder / "metrics" / f"{outputs.paper}.json", json.dumps(numbers, indent=1) + "\n")
    wanted = outputs.plot
    if wanted:
        rows = _where(made[wanted["table"]], wanted.get("where", {}))
        x, y = wanted["x"], wanted.get("y", "mean")
        check_keys([x, y], rows.columns, f"{at}: plot, of {wanted['table']}")
        rows = rows[rows.n_seeds > 0] if "n_seeds" in rows else rows
        others = [name for name in rows if name not in (x, y, *NUMBERS, "method") and rows[name].nunique() > 1]
        lines = [", ".join(map(str, row)) for row in rows[["method", *others]].itertuples(index=False)]
        points = pandas.DataFrame({"method": lines, "x": rows[x].astype(float), "y": rows[y]})
        write_csv(points.sort_values(["method", "x"], kind="stable"), folder / "plots" / f"{outputs.paper}.csv")


def _where(table: pandas.DataFrame, wanted: dict) -> pandas.DataFrame:
    wanted = ({"selection": "last"} if "selection" in table else {}) | wanted
    check_keys(wanted, table.columns, "outputs.yaml: where")
    for key, value in wanted.items():
        table = table[table[key].isin(value if isinstance(value, list) else [value])]
    return table


def main(paper: str, make: Callable[[str, str, Path | None], Path], argv: list[str] | None = None) -> int:
    """Run the command line of a paper's tables.py or figures.py; returns the exit status."""
    what = make.__name__.removeprefix("make_")
    parser = argparse.ArgumentParser(
        prog=f"python -m papers.{paper}.{what}", description=f"Make the {what} of {paper}, which outputs.yaml names."
    )
    add_tier(parser)
    parser.add_argument("--results", type=Path, help="folder with one folder for each tier; results unless told")
    args = parser.parse_args(argv)
    try:
        print(f"{what} of {paper}: {make(paper, args.tier, args.results)}")
    except (Sentence, OSError) as error:
        print(sentence_of(error), file=sys.stderr)
        return 2
    return 0
