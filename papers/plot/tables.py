"""Turn records into the numbers of Tables 1 to 3, Figures 2 to 4 and the controls; outputs.yaml names them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import pandas

from shared.config import Run
from shared.tables.evidence import NOT_RUN, Evidence
from shared.tables.make import Table
from shared.tables.numbers import curves, over_seeds, wide, with_text

# In words and in this order; what these do not name comes after, under its own name.
STAGE_ONE = ("dllp", "llp_vat", "llp_vat_exact", "llp_gan")
ADDED = {"": "", "+sce+hard": "+plot", "+continued": "+continued"}  # what Tables 1 and 2 show, ours the last
TABLE3 = {
    "dllp": "base",
    "dllp+ce": "ce",
    "dllp+sce": "sce",
    "dllp+ce+hard": "ce+ot",
    "dllp+sce+hard": "sce+ot",
    "dllp+ce+hard+mixup": "ce+ot+mixup",
}
PLOT, CONTINUED, CEILING = "+sce+hard", "+continued", "supervised"
GAINS = {"plot - stage one": "", "plot - continued": CONTINUED}
TOY = "two_moons"  # Figure 2's data
ABLATED = ("cifar10", "dllp", 64)  # what Table 3 is about
CURVES = ("td", "td_ot", "td_ot_5")
PAPERS_OWN = {"second_loss": "sce", "sce_alpha": 1, "sce_beta": 1, "mixup": 0, "average": 5, "student": "same"}
LABELS = {"loss": "dllp", **PAPERS_OWN, "second_batches": "bags"}


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows as cells of the tables: `table`, `row`, `column` beside what they have; a row may be in several.

    Table 2 is CIFAR-100; data that stand in for CIFAR-10 are in Table 1. Table 3 has what Tables 1 and 2 have not, and
    beside it, at the same data, stage one and bag size, what they have. Two moons are Figure 2's.
    """
    rows = rows[rows.metric == "accuracy"]
    if not len(rows):
        return rows.assign(**dict.fromkeys(("table", "row", "column", "stage_one", "added", "bag_size"), ""))
    stage_one = rows.method.str.partition("+")[0]
    added = rows.method.str.replace(r"^[^+]*", "", regex=True)  # "+sce+hard" of "dllp+sce+hard"
    rows = rows.assign(stage_one=stage_one, added=added, bag_size=rows.bag_size.astype(int))
    toy, rows = rows[rows.dataset == TOY], rows[rows.dataset != TOY]

    main = rows.added.isin(ADDED)
    size = "n=" + rows.bag_size.astype(str)
    table = rows.dataset.map({"cifar100": "table2"}).fillna("table1")
    of_paper = rows.dataset.isin(("cifar10", "cifar100"))
    named = rows.stage_one + rows.added.map(ADDED)
    by_size = rows.assign(table=table, row=named, column=size.where(of_paper, rows.dataset + " " + size))[main]

    where = pandas.MultiIndex.from_frame(rows[["dataset", "stage_one", "bag_size"]])
    beside = main & where.isin({ABLATED, *where[~main]})
    ceiling = (rows.method == CEILING) & rows.dataset.isin(rows.dataset[~main])
    in_paper = (rows.dataset == ABLATED[0]) & (rows.bag_size == ABLATED[2])
    column = rows.dataset.where(in_paper, rows.dataset + " " + size)
    named = rows.method.map(TABLE3).fillna(rows.method)
    ablated = rows.assign(table="table3", row=named, column=column)[~main | beside | ceiling]

    moons = toy.assign(table="fig2", row=toy.method, column=toy.dataset + " n=" + toy.bag_size.astype(str))
    return pandas.concat([by_size, ablated, moons], ignore_index=True)


def _cells(evidence: Evidence, *tables: str) -> pandas.DataFrame:
    every = cells(evidence.rows())
    return every[every.table.isin(tables)]


def accuracy(evidence: Evidence) -> pandas.DataFrame:
    """Return accuracy after the last epoch by dataset, method and bag size."""
    rows = evidence.rows(selections=["last"]).astype({"bag_size": int})
    return over_seeds(rows, ["dataset", "method", "bag_size", "selection"])


def table1(evidence: Evidence) -> Table:
    """Return Table 1: accuracy by method and bag size, the ceiling, which knows no bags, at each of them."""
    return _by_bag_size(evidence, "table1")


def table2(evidence: Evidence) -> Table:
    """Return Table 2: the same on CIFAR-100."""
    return _by_bag_size(evidence, "table2")


def _by_bag_size(evidence: Evidence, name: str) -> Table:
    rows = _cells(evidence, name)
    used = [run for run in evidence.runs if run.id in set(rows["id"])]
    table = over_seeds(rows, ["dataset", "method", "bag_size", "selection"])
    table = _sorted(table, method=_methods(rows))
    words = dict(zip(rows.method, rows.row, strict=True))
    last = _everywhere(table[table.selection == "last"])
    text = wide(last.assign(method=last.method.map(words)), ["dataset", "method"], "bag_size", "n")
    return Table(table, text, used)


def gains(evidence: Evidence) -> Table:
    """Return what PLOT adds to a stage one, and to a stage one that goes on as long: differences within seeds."""
    rows = _cells(evidence, "table1", "table2")
    rows = rows.assign(loss=rows.stage_one)
    key = ["dataset", "loss", "bag_size", "selection", "seed"]
    found = []
    for gain, added in GAINS.items():
        after, before = (rows[rows.added == part].set_index(key)["value"] for part in (PLOT, added))
        pairs = pandas.concat([after, before], axis=1, join="inner", keys=["after", "before"])
        found.append((pairs.after - pairs.before).rename("value").reset_index().assign(gain=gain))
    by = ["dataset", "loss", "gain", "bag_size", "selection"]
    table = over_seeds(pandas.concat(found), by)
    table = _sorted(table, loss=_named_first(table.loss, STAGE_ONE), gain=GAINS)
    return Table(table, wide(table, ["dataset", "loss", "gain"], "bag_size", "n"))


def table3(evidence: Evidence) -> Table:
    """Return Table 3: the accuracy of what stage two is made of, of controls, and beside them of stage one and PLOT."""
    rows = _cells(evidence, "table3")
    table = over_seeds(rows, ["dataset", "method", "bag_size", "selection"])
    order = [*TABLE3, *_methods(rows)]
    table = _sorted(table, method=order)
    last = _everywhere(table[table.selection == "last"]).sort_values(["dataset", "bag_size"], kind="stable")
    head = last.dataset + " n=" + last.bag_size.astype(str)
    last = last.assign(row=last.method.map(TABLE3).fillna("ours"), head=head)
    return Table(table, _spread(last, ["row", "method"], order))


def pseudo(evidence: Evidence) -> Table:
    """Return the accuracy of pseudo-labels on training instances: what stage two starts from, and ends with."""
    by = ["dataset", "method", "bag_size", "labels", "when"]
    found = []
    for run in _with_pseudo_labels(evidence):
        last = evidence.records[run.id]["metrics"]["last"] if run.id in evidence.records else {}
        average = run.spec.average
        # The mean of one label is that label.
        for label in ("td", "td_ot", f"td_ot_{average}")[: 2 + (average > 1)]:
            for when, name in (("before", f"first_{label}"), ("after", label)):
                key = (run.spec.dataset, run.method, run.spec.bag_size, label, when)
                found.append({**dict(zip(by, key, strict=True)), "value": last.get(name, float("nan"))})
    table = over_seeds(pandas.DataFrame(found, columns=[*by, "value"]), by)
    order = [*TABLE3, *_methods(table)]
    table = table.sort_values(by[:3], key=lambda column: _place(column, {"method": order}), kind="stable")
    head = table.labels + " " + table.when
    return Table(table, _spread(table.assign(head=head), ["dataset", "bag_size", "method"], absent="-"))


def fig2(evidence: Evidence) -> Table:
    """Return Figure 2: the test accuracy of each run, and a digest of the classes the figure reads in its record.

    `shown` marks, of each method, the run of median accuracy, which the figure draws: of two in the middle the lower.
    """
    rows = _cells(evidence, "fig2")
    rows = rows[rows.selection == "last"].assign(grid=None)
    for place, run_id in rows["id"].items():
        if run_id in evidence.records:
            grid = json.dumps(evidence.records[run_id]["curves"]["grid"]).encode()
            rows.loc[place, "grid"] = hashlib.sha256(grid).hexdigest()[:16]
    rows = rows.rename(columns={"value": "accuracy"}).assign(shown=False)
    for _, made in rows.dropna(subset="accuracy").sort_values(["accuracy", "seed"]).groupby("method"):
        rows.loc[made.index[(len(made) - 1) // 2], "shown"] = True
    return Table(
        rows[["id", "method", "bag_size", "seed", "accuracy", "shown", "grid"]], used=evidence.where(dataset=TOY)
    )


def fig3(evidence: Evidence) -> Table:
    """Return Figure 3: the accuracy of the labels each epoch of stage two learns from, DLLP + PLOT at one bag size."""
    sizes = shown(evidence)
    runs = [run for run in _labelled(evidence, "hard") if sizes[run.spec.dataset] == run.spec.bag_size]
    return Table(_by_epoch(evidence, runs, CURVES), used=runs)


def fig4(evidence: Evidence) -> Table:
    """Return Figure 4: test accuracy after each epoch of stage two, by kind of labels, where several are planned."""
    others = [run for kind in _kinds(evidence) if kind != "hard" for run in _labelled(evidence, kind)]
    both = set(shown(evidence).items()) | {(run.spec.dataset, run.spec.bag_size) for run in others}
    runs = [run for run in [*_labelled(evidence, "hard"), *others] if (run.spec.dataset, run.spec.bag_size) in both]
    return Table(_by_epoch(evidence, runs, ["test_accuracy"]).drop(columns="curve"), used=runs)


def shown(evidence: Evidence) -> dict[str, int]:
    """Return {dataset: bag size} of Figure 3: the paper's, or the largest there is."""
    sizes: dict[str, set[int]] = {}
    for run in _labelled(evidence, "hard"):
        sizes.setdefault(run.spec.dataset, set()).add(run.spec.bag_size)
    return {dataset: ABLATED[2] if ABLATED[2] in found else max(found) for dataset, found in sizes.items()}


def _with_pseudo_labels(evidence: Evidence, **wanted) -> list[Run]:
    return [run for run in evidence.where(second="plot", **wanted) if run.spec.dataset != TOY]


def _labelled(evidence: Evidence, kind: str) -> list[Run]:
    """Return the runs that learn as PLOT does after DLLP, from labels of a kind."""
    return _with_pseudo_labels(evidence, **LABELS, transport=kind)


def _kinds(evidence: Evidence) -> list[str]:
    """Return the kinds of labels that transport makes in some run."""
    kinds = dict.fromkeys(run.spec.transport for run in _with_pseudo_labels(evidence, **LABELS))
    return [kind for kind in kinds if kind != "none"]


def _by_epoch(evidence: Evidence, runs: Iterable[Run], names: Iterable[str]) -> pandas.DataFrame:
    table = curves(evidence, runs, ["dataset", "method", "bag_size"], {name: name for name in names})
    return table.sort_values(["dataset", "bag_size", "method"], kind="stable")


def _named_first(found: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return what was found, what is named first, the rest in order of the alphabet."""
    found = set(found)
    return [*(name for name in names if name in found), *sorted(found - set(names))]


def _methods(table: pandas.DataFrame) -> list[str]:
    """Return the methods of a table: of each stage one what Tables 1 and 2 show; then all others; last the ceiling."""
    found = set(table.method)
    firsts = _named_first({name.partition("+")[0] for name in found}, STAGE_ONE)
    main = [first + second for first in firsts if first != CEILING for second in ADDED if first + second in found]
    return [*main, *sorted(found - {*main, CEILING}), CEILING]


def _sorted(table: pandas.DataFrame, **orders: Iterable[str]) -> pandas.DataFrame:
    """Sort by all that is no number, then by bag size; the values of some columns in the order given."""
    by = [name for name in table.columns if name not in ("n_seeds", "mean", "std", "bag_size")]
    return table.sort_values([*by, "bag_size"], key=lambda column: _place(column, orders), kind="stable")


def _place(column: pandas.Series, orders: dict[str, Iterable[str]]) -> pandas.Series:
    places = {value: place for place, value in enumerate(dict.fromkeys(orders.get(column.name, ())))}
    return column.map(places) if places else column


def _everywhere(table: pandas.DataFrame) -> pandas.DataFrame:
    """Return a table with the ceiling, which knows no bags, at every bag size of its dataset."""
    is_ceiling = table.method == CEILING
    sizes = table.loc[~is_ceiling, ["dataset", "bag_size"]].drop_duplicates()
    return pandas.concat([table[~is_ceiling], table[is_ceiling].drop(columns="bag_size").merge(sizes, on="dataset")])


def _spread(
    table: pandas.DataFrame, rows: list[str], methods: Iterable[str] = (), absent: str = "not planned"
) -> pandas.DataFrame:
    """Return means over seeds for reading: a line for each of `rows`, a column for each `head`, as they appear."""
    if not len(table):
        return pandas.DataFrame([dict.fromkeys([*rows, "value"], NOT_RUN)])
    text = with_text(table).pivot(index=rows, columns="head", values="accuracy")
    lines = table[rows].drop_duplicates()
    if methods:
        lines = lines.sort_values("method", key=lambda column: _place(column, {"method": methods}), kind="stable")
    text = text.reindex(index=pandas.MultiIndex.from_frame(lines), columns=table["head"].drop_duplicates())
    return text.fillna(absent).reset_index()


if __name__ == "__main__":
    import sys

    from shared.tables.make import main, make_tables

    sys.exit(main("plot", make_tables))
