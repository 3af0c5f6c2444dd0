"""Turn records into the numbers of Figures 1 and 2, the alpha sweep, the controls and the choice of rates."""

from __future__ import annotations

import pandas

from shared.config import Run
from shared.tables.evidence import NOT_RUN, Evidence
from shared.tables.make import Table
from shared.tables.numbers import checks, over_seeds, wide, with_text
from shared.tables.numbers import curves as curves_of

ALPHA = "rot-alpha"  # what ROT at another alpha than the tier's is called


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows as cells of the tables: `table`, `row`, `column` beside what they have; a row may be in several.

    Figures 1 and 2 show every loss as it is; another alpha belongs to the sweep, and what is left to the controls.
    """
    rows = rows[(rows.metric == "accuracy") & rows.bag_size.notna()]  # a check that was not run measures all, and none
    column = rows.dataset + " n=" + rows.bag_size.astype(int).astype(str)
    rows = rows.assign(row=rows.method, column=column, bag_size=rows.bag_size.astype(int))
    plain, swept = rows.method == rows.loss, rows.method.str.startswith(ALPHA)
    parts = {"fig1": rows[plain], "fig2": rows[plain], "alpha": rows[swept], "controls": rows[~plain & ~swept]}
    return pandas.concat([part.assign(table=table) for table, part in parts.items()], ignore_index=True)


def _cells(evidence: Evidence, table: str) -> pandas.DataFrame:
    every = cells(evidence.rows(runs=evidence.where(task="learning")))
    return every[every.table == table]


def curves(evidence: Evidence) -> Table:
    """Return Figure 1: test accuracy after each epoch, over seeds."""
    runs = _shown(evidence, "fig1")
    table = curves_of(evidence, runs, ["dataset", "method", "bag_size"], {"test_accuracy": "accuracy"})
    return Table(table, used=runs)


def _shown(evidence: Evidence, table: str) -> list[Run]:
    ids = set(_cells(evidence, table)["id"])
    return [run for run in evidence.runs if run.id in ids]


def fig2(evidence: Evidence) -> Table:
    """Return Figure 2: final accuracy by dataset, method and bag size, under each selection rule."""
    table = over_seeds(_cells(evidence, "fig2"), ["dataset", "method", "bag_size", "selection"])
    table = table.sort_values(["dataset", "method", "selection", "bag_size"], kind="stable")
    return Table(table, wide(table, ["dataset", "method"], "bag_size", "n"), used=_shown(evidence, "fig2"))


def alpha(evidence: Evidence) -> Table:
    """Return the accuracy of ROT by alpha where the tier sweeps it, its own alpha among them, at the seeds swept.

    Where the tier chooses alpha, it has none of its own; `selection` says what it chose.
    """
    swept, plain = _cells(evidence, "alpha"), _cells(evidence, "fig2")
    own = plain[(plain.loss == "rot") & plain.alpha.notna() & plain.seed.isin(swept.seed.unique())]
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


def selection(evidence: Evidence) -> Table:
    """Return every rate and alpha that short runs tried, with the loss on held-out bags; `chosen` marks the least.

    All seeds of a method share one choice, so that it stands once. For reading: what was chosen, and what came near.
    """
    runs = [run for run in evidence.where(task="learning") if run.spec.values()["tuning"] != "none"]
    rows, lines = [], []
    for (dataset, method, size), record in _first(evidence, runs).items():
        names = {"dataset": dataset, "method": method, "bag_size": size}
        if record is None:
            lines.append({**names, "learning_rate": NOT_RUN})
            continue
        tried, last = record["curves"], record["metrics"]["last"]
        alphas = tried.get("tried_alpha", [""] * len(tried["tried_score"]))
        best = last["chosen_learning_rate"], last.get("chosen_alpha", "")
        own = [
            {**names, "learning_rate": rate, "alpha": alpha, "score": score, "chosen": (rate, alpha) == best}
            for rate, alpha, score in zip(tried["tried_learning_rate"], alphas, tried["tried_score"], strict=True)
        ]
        rows += own
        lines.append({**names, **_in_words(own), "at the end of its grid": _ends(last)})
    columns = ["dataset", "method", "bag_size", "learning_rate", "alpha", "score", "chosen"]
    said = [*columns[:-1], "next", "tried", "diverged", "at the end of its grid"]
    nothing = [{"dataset": "this tier chooses none"}]
    text = pandas.DataFrame(lines or nothing, columns=said).fillna("")
    return Table(pandas.DataFrame(rows, columns=columns), text, used=runs)


def _first(evidence: Evidence, runs: list[Run]) -> dict[tuple, dict | None]:
    """The record of one seed for each dataset, method and bag size; None where no seed has one."""
    found: dict[tuple, dict | None] = {}
    for run in runs:
        key = run.spec.values()["dataset"], run.method, run.spec.values()["bag_size"]
        found[key] = found.get(key) or evidence.records.get(run.id)
    return found


def _in_words(tried: list[dict]) -> dict:
    """What was chosen, its score, and the candidate that came next."""
    finite = sorted((row for row in tried if row["score"] is not None), key=lambda row: row["score"])
    (best,) = (row for row in tried if row["chosen"])
    following = next((row for row in finite if row is not best), None)
    named = following and ", ".join(f"{row:g}" for row in (following["learning_rate"], following["alpha"]) if row != "")
    return {
        **{key: best[key] for key in ("learning_rate", "alpha")},
        "score": f"{best['score']:.4f}",
        "next": f"{following['score']:.4f} ({named})" if following else "",
        "tried": len(tried),
        "diverged": len(tried) - len(finite),
    }


def _ends(last: dict) -> str:
    """Which of what was chosen is the least or the greatest of the values tried, that is, may lie beyond them."""
    words = {-1: "least", 1: "greatest"}
    ends = {key: last.get(f"chosen_{key}_end", 0) for key in ("learning_rate", "alpha")}
    return ", ".join(f"{words[end]} {key}" for key, end in ends.items() if end)


def equations(evidence: Evidence) -> Table:
    """Return the deviations from the propositions, checked in float64."""
    return Table(checks(evidence), used=evidence.where(task="check"))


if __name__ == "__main__":
    import sys

    from shared.tables.make import main, make_tables

    sys.exit(main("rot", make_tables))
