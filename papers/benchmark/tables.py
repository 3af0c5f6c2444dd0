"""Turn records into the table of all pairs, the settings of bags, ranks with critical differences, and costs."""

from __future__ import annotations

import pandas

from papers.benchmark.methods import METHODS
from papers.benchmark.ranks import critical_difference, mean_ranks
from shared.tables.evidence import COST, NOT_RUN, Evidence
from shared.tables.make import Table
from shared.tables.numbers import over_seeds, wide, with_text

MAIN = "random16"  # the kind of bags that every task has
UNRANKED = ("supervised", "class_prior")  # ceiling and floor


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows as cells of the tables: `table`, `row`, `column` beside what they have."""
    rows = _named(rows[rows.metric == "accuracy"])
    main = (rows.setting == MAIN) & (rows.proportions == "given")
    return rows.assign(
        table=main.map({True: "accuracy", False: "settings"}),
        row=rows.method,
        column=rows.dataset.where(main, rows.dataset + " " + rows.setting),
    )


def _named(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows by words of their ids: a spec's `dataset` does not say which classes."""
    name = rows.id.str.split("/")
    return rows.assign(dataset=name.str[1], setting=name.str[3])


def _cells(evidence: Evidence, table: str | None = None) -> pandas.DataFrame:
    every = cells(evidence.rows())
    return every if table is None else every[every.table == table]


def _for_reading(table: pandas.DataFrame) -> pandas.DataFrame:
    """The last epoch, a line a method, in the order of the registry, a column a task or a setting."""
    place = {name: number for number, name in enumerate(METHODS)}
    text = wide(table, ["method"], "column", absent="cannot, or not planned")
    return text.sort_values("method", key=lambda names: names.map(place), kind="stable")  # controls come last


def accuracy(evidence: Evidence) -> Table:
    """Return the accuracy of every method on every task, random bags of 16, under each selection rule."""
    table = over_seeds(_cells(evidence, "accuracy"), ["method", "dataset", "column", "selection"])
    return Table(table, _for_reading(table))


def settings(evidence: Evidence) -> Table:
    """Return the accuracy of methods on other kinds of bags, and of the controls."""
    table = over_seeds(_cells(evidence, "settings"), ["method", "dataset", "setting", "column", "selection"])
    return Table(table, _for_reading(table))


def ranks(evidence: Evidence) -> Table:
    """Return mean ranks of the methods by factor, over tasks and settings that all ranked methods have."""
    every = _cells(evidence)
    every = every[(every.selection == "last") & ~every.method.isin(UNRANKED) & every.proportions.eq("given")]
    means = every.groupby(["dataset", "setting", "method"], sort=False)["value"].mean().dropna().reset_index()
    parts = []
    for factor, levels in factors(means).items():
        for level, own in levels.items():
            found = mean_ranks(own.pivot(index=["dataset", "setting"], columns="method", values="value"))
            difference = critical_difference(len(found), int(found.attrs["problems"]))
            parts.append(
                found.assign(
                    factor=factor, level=level, problems=found.attrs["problems"], critical_difference=difference
                )
            )
    columns = ["factor", "level", "method", "mean_rank", "problems", "critical_difference"]
    table = pandas.concat(parts, ignore_index=True)[columns].round(4) if parts else pandas.DataFrame(columns=columns)
    return Table(table)


def factors(means: pandas.DataFrame) -> dict[str, dict[str, pandas.DataFrame]]:
    """Return {factor: {level: its rows}}: all tasks with random bags of 16, size, dependence, noise, classes."""
    kind = means.setting.str.replace(r"[\d.]+.*", "", regex=True)
    size = means.setting.str.extract(r"^[a-z]+(\d+)")[0]
    noisy = means.setting.str.contains("noise")
    main = means.setting == MAIN
    classes = means.dataset.map({"cifar100": "100", "cifar10": "10", "digits": "10", "mnist": "10"}).fillna("2 to 5")
    return {
        "tasks": {"random bags of 16": means[main]},
        "size": {
            f"random bags of {n}": means[(kind == "random") & ~noisy & (size == n)]
            for n in sorted(set(size.dropna()), key=int)
        },
        "dependence": {name: means[(kind == name) & ~noisy] for name in dict.fromkeys(kind)},
        "noise": {"exact": means[main], "noisy": means[noisy]} if noisy.any() else {},
        "classes": {name: means[main & (classes == name)] for name in dict.fromkeys(classes)},
    }


def cost(evidence: Evidence) -> Table:
    """Return what a step took, the memory, and how much accuracy still moved, by method and task."""
    rows = _named(evidence.rows(metrics=["step_ms", "peak_memory_mb"], selections=[COST]))
    table = over_seeds(rows, ["method", "dataset", "metric"])
    text = with_text(table, "text").pivot(index=["method", "dataset"], columns="metric", values="text")
    return Table(table, text.reset_index() if len(table) else pandas.DataFrame([{"method": NOT_RUN}]))


if __name__ == "__main__":
    import sys

    from shared.tables.make import main, make_tables

    sys.exit(main("benchmark", make_tables))
