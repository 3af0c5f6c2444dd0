"""Turn records into the table of all pairs, the settings of bags, ranks with critical differences, and costs."""

from __future__ import annotations

import pandas
from scipy import stats

from papers.benchmark.methods import METHODS
from papers.benchmark.ranks import critical_difference, mean_ranks
from shared.config import Run
from shared.tables.evidence import COST, NOT_RUN, Evidence
from shared.tables.make import Table
from shared.tables.numbers import over_seeds, wide, with_text

MAIN = "random16"  # the kind of bags that every task has
UNRANKED = ("supervised", "class_prior")  # ceiling and floor
KL = "dllp"
VARIED = {"bag size": r"^random(\d+)$", "concentration": r"^dirichlet16-c([\d.]+)$"}
VARIED_AS = {"bag size": "n", "concentration": "c"}


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


def _used(evidence: Evidence, rows: pandas.DataFrame) -> list[Run]:
    named = set(rows.id)
    return [run for run in evidence.runs if run.id in named]


def accuracy(evidence: Evidence) -> Table:
    """Return the accuracy of every method on every task, random bags of 16, under each selection rule."""
    rows = _cells(evidence, "accuracy")
    table = over_seeds(rows, ["method", "dataset", "column", "selection"])
    return Table(table, _for_reading(table), used=_used(evidence, rows))


def settings(evidence: Evidence) -> Table:
    """Return the accuracy of methods on other kinds of bags, and of the controls."""
    rows = _cells(evidence, "settings")
    table = over_seeds(rows, ["method", "dataset", "setting", "column", "selection"])
    return Table(table, _for_reading(table), used=_used(evidence, rows))


def beside_kl(evidence: Evidence) -> Table:
    """Return accuracy less that of KL, seed by seed, where bag size or dependence varies; of KL accuracy itself."""
    rows = _cells(evidence)
    rows = rows[(rows.selection == "last") & rows.proportions.eq("given") & ~rows.method.isin(UNRANKED)]
    parts = []
    for varied, pattern in VARIED.items():
        own = rows.assign(varied=varied, x=rows.setting.str.extract(pattern)[0].astype(float)).dropna(subset="x")
        several = own.groupby("dataset")["x"].nunique()
        own = own[own.dataset.isin(several.index[several > 1])]
        kl = own[own.method == KL].set_index(["dataset", "x", "seed"])["value"].rename("kl")
        own = own.join(kl, on=["dataset", "x", "seed"])
        parts.append(own.assign(value=own.value.where(own.method == KL, own.value - own.kl)))
    own = pandas.concat(parts)
    place = {name: number for number, name in enumerate([*own.dataset.unique(), *VARIED])}
    own = own.sort_values(["dataset", "varied", "x"], key=lambda x: x if x.name == "x" else x.map(place), kind="stable")
    own = own.assign(column=[f"{row.dataset} {VARIED_AS[row.varied]}={row.x:g}" for row in own.itertuples()])
    table = over_seeds(own, ["method", "dataset", "varied", "x", "column"])
    text = _for_reading(table)
    half = stats.t.ppf(0.95, (table.n_seeds - 1).clip(lower=1)) * table["std"] / table.n_seeds**0.5
    table = table.assign(low90=(table["mean"] - half).round(4), high90=(table["mean"] + half).round(4))
    return Table(table, text, used=_used(evidence, own))


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
    """Return what a step took and the memory, by method and task, on random bags of 16."""
    rows = _named(evidence.rows(metrics=["step_ms", "peak_memory_mb"], selections=[COST]))
    rows = rows[(rows.setting == MAIN) & rows.proportions.eq("given")]
    table = over_seeds(rows, ["method", "dataset", "metric"])
    text = with_text(table, "text").pivot(index=["method", "dataset"], columns="metric", values="text")
    text = text.reset_index() if len(table) else pandas.DataFrame([{"method": NOT_RUN}])
    return Table(table, text, used=_used(evidence, rows))


if __name__ == "__main__":
    import sys

    from shared.tables.make import main, make_tables

    sys.exit(main("benchmark", make_tables))
