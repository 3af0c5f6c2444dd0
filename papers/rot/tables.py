"""Turn records into the numbers of Figures 1 and 2, the alpha sweep and the controls; outputs.yaml names them."""

from __future__ import annotations

import pandas

from shared.tables.evidence import Evidence
from shared.tables.make import Table
from shared.tables.numbers import checks, over_seeds, wide, with_text
from shared.tables.numbers import curves as curves_of

ALPHA = "rot-alpha"  # what ROT at another alpha than the tier's is called


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows as cells of the tables: `table`, `row`, `column` beside what they have; a row may be in several.

    Figures 1 and 2 show every loss as it is; another alpha belongs to the sweep, and what is left to the controls.
    """
    rows = rows[rows.metric == "accuracy"]
    column = rows.dataset + " n=" + rows.bag_size.astype(int).astype(str)
    rows = rows.assign(row=rows.method, column=column, bag_size=rows.bag_size.astype(int))
    plain, swept = rows.method == rows.loss, rows.method.str.startswith(ALPHA)
    parts = {"fig1": rows[plain], "fig2": rows[plain], "alpha": rows[swept], "controls": rows[~plain & ~swept]}
    return pandas.concat([part.assign(table=table) for table, part in parts.items()], ignore_index=True)


def _cells(evidence: Evidence, table: str) -> pandas.DataFrame:
    every = cells(evidence.rows(runs=evidence.where(task="learning")))
    return every[every.table == table]


def curves(evidence: Evidence) -> pandas.DataFrame:
    """Return Figure 1: test accuracy after each epoch, over seeds."""
    shown = set(_cells(evidence, "fig1")["id"])
    runs = [run for run in evidence.runs if run.id in shown]
    return curves_of(evidence, runs, ["dataset", "method", "bag_size"], {"test_accuracy": "accuracy"})


def fig2(evidence: Evidence) -> Table:
    """Return Figure 2: final accuracy by dataset, method and bag size, under each selection rule."""
    table = over_seeds(_cells(evidence, "fig2"), ["dataset", "method", "bag_size", "selection"])
    table = table.sort_values(["dataset", "method", "selection", "bag_size"], kind="stable")
    return Table(table, wide(table, ["dataset", "method"], "bag_size", "n"))


def alpha(evidence: Evidence) -> Table:
    """Return the accuracy of ROT by alpha where the tier sweeps it, its own alpha among them, at the seeds swept."""
    swept, plain = _cells(evidence, "alpha"), _cells(evidence, "fig2")
    own = plain[(plain.loss == "rot") & plain.seed.isin(swept.seed.unique())]
    own = own.merge(swept[["dataset", "bag_size"]].drop_duplicates())
    by = ["dataset", "bag_size", "alpha", "selection"]
    table = over_seeds(pandas.concat([own, swept]), by).sort_values(by, kind="stable")
    return Table(table, with_text(table))


def controls(evidence: Evidence) -> Table:
    """Return what the paper left out, such as proportions permuted among bags, beside the plain methods."""
    others = _cells(evidence, "controls").query("selection == 'last'")
    plain = _cells(evidence, "fig2").query("selection == 'last'")
    beside = plain.merge(others[["dataset", "bag_size"]].drop_duplicates())
    by = ["dataset", "bag_size", "method"]
    table = over_seeds(pandas.concat([beside, others]), by).sort_values(by, kind="stable")
    return Table(table, with_text(table))


def equations(evidence: Evidence) -> Table:
    """Return the deviations from the propositions, checked in float64."""
    return Table(checks(evidence), used=evidence.where(task="check"))


if __name__ == "__main__":
    import sys

    from shared.tables.make import main, make_tables

    sys.exit(main("rot", make_tables))
