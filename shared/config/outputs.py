"""``papers/<paper>/outputs.yaml``: every table and figure of a paper, named once; rules, report and metrics follow.

It holds

    tables:   {name: {title, caption, text}}; `name` is the function of tables.py that makes it. Each is written as csv
              and, unless `text: false`, as markdown under its title, its caption below.
    figures:  {name: {title, caption, from}}; `name` is the function of figures.py, `from` lists the tables it draws.
    metrics:  {table, name, where}: what `dvc metrics show` has room for, a number or so of each method, last epoch;
              ``name`` is a pattern such as "{dataset}/{method}".
    plot:     {table, x, y, where}: what `dvc plots show` draws, a line a method, last epoch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.config.files import ConfigError, check_keys, kind_of, mapping, read_yaml, repository, require_keys
from shared.config.tiers import check_paper, papers
from shared.files import Sentence, read_text, remade, sentence_of, write_text


@dataclass(frozen=True)
class Output:
    """A table or a figure.

    Attributes
    ----------
    name : of its function and its files.
    title : what stands over it.
    caption : what a reader must know to read it.
    text : whether a table is also written for reading.
    drawn_from : the tables that a figure draws.
    """

    name: str
    title: str
    caption: str = ""
    text: bool = True
    drawn_from: tuple[str, ...] = ()


JUDGED = (  # figures that every paper has, drawn by shared/tables/judged.py from what its comparison wrote
    Output(
        "reported",
        "Reported against reproduced",
        "Each number that the paper reports against ours, in its own unit: on the line they are equal. Hollow: not "
        "comparable, for the reasons below. Bars are one standard deviation, where one is known; a bound stands at its "
        "value. Colours tell the paper's tables.",
        drawn_from=("comparison",),
    ),
    Output(
        "claims",
        "The paper's claims and their bounds",
        "The estimate and 90 % interval of each claim, below it in grey those of the control that the paper left out, "
        "each on a scale of its own: its bound is the line, the end of the interval that is farthest from it the edge; "
        "to the right it is as claimed. The estimate is the mean over comparisons, where the verdict may ask for each: "
        "in how many it was shown stands at the right, and a tick is the one that keeps the claim from holding. "
        "Hollow: the runs are not comparable with the paper's. Numbers in grey: a claim of ours, not the paper's.",
        drawn_from=("claims",),
    ),
)


@dataclass(frozen=True)
class Outputs:
    """All a paper makes from its records; `figures` ends with those that every paper has."""

    paper: str
    tables: tuple[Output, ...]
    figures: tuple[Output, ...]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    plot: Mapping[str, Any] = field(default_factory=dict)

    def csv(self) -> list[str]:
        """Return the names of the tables, all of which are written as csv."""
        return [table.name for table in self.tables]

    def text(self) -> list[str]:
        """Return the names of the tables that are written for reading."""
        return [table.name for table in self.tables if table.text]


def read_outputs(paper: str, root: Path | None = None) -> Outputs:
    """Read a paper's outputs.yaml; what is unknown, missing or drawn from no table is refused by name."""
    at = f"papers/{paper}/outputs.yaml"
    content = read_yaml((root or repository()) / at)
    check_keys(content, ("tables", "figures", "metrics", "plot"), at)
    require_keys(content, ("tables", "figures", "metrics"), at)
    tables = tuple(
        _output(n, entry, f"{at}: tables.{n}", ("text",))
        for n, entry in mapping(content["tables"], f"{at}: tables").items()
    )
    figures = tuple(
        _output(n, entry, f"{at}: figures.{n}", ("from",))
        for n, entry in mapping(content["figures"], f"{at}: figures").items()
    )
    names = [table.name for table in tables]
    for figure in figures:
        if figure.name in {judged.name for judged in JUDGED}:
            raise ConfigError(f"{at}: figures.{figure.name}: every paper has a figure of this name; choose another")
        check_keys(figure.drawn_from, names, f"{at}: figures.{figure.name}.from")
    for key, known in (("metrics", ("table", "name", "where")), ("plot", ("table", "x", "y", "where"))):
        if entry := content.get(key):
            check_keys(mapping(entry, f"{at}: {key}"), known, f"{at}: {key}")
            require_keys(entry, known[:2], f"{at}: {key}")
            check_keys([entry["table"]], names, f"{at}: {key}.table")
            mapping(entry.get("where", {}), f"{at}: {key}.where")
            if wrong := next((name for name in known[1:-1] if not isinstance(entry.get(name, ""), str)), None):
                raise ConfigError(f"{at}: {key}.{wrong} must be a text, not {kind_of(entry[wrong])}")
    return Outputs(paper, tables, (*figures, *JUDGED), content["metrics"] or {}, content.get("plot") or {})


def _output(name: str, entry: Any, at: str, more: tuple[str, ...]) -> Output:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{at} must read {{title: ..., caption: ...}}")
    check_keys(entry, ("title", "caption", *more), at)
    require_keys(entry, ("title", *(("from",) if "from" in more else ())), at)
    drawn_from = entry.get("from", ())
    if not isinstance(drawn_from, str | list | tuple):
        raise ConfigError(f"{at}: `from` must name a table or list some, not {drawn_from!r}")
    drawn_from = (drawn_from,) if isinstance(drawn_from, str) else tuple(drawn_from)
    caption = " ".join(str(entry.get("caption", "")).split())
    return Output(name, str(entry["title"]), caption, bool(entry.get("text", True)), drawn_from)


BEGIN, END = "<!-- made from outputs.yaml by `python -m shared.config.outputs` -->", "<!-- end -->"


def outputs_table(paper: str, root: Path | None = None) -> str:
    """Return the table of a paper's README that lists its tables and figures."""
    made = read_outputs(paper, root)
    rows = [f"| `{figure.name}.svg` | {figure.title} | {', '.join(figure.drawn_from)} |" for figure in made.figures]
    rows += [f"| `{table.name}.{'md' if table.text else 'csv'}` | {table.title} | records |" for table in made.tables]
    head = ["| in `results/<tier>/" + paper + "/` | what | made from |", "|---|---|---|"]
    return "\n".join([*head, *rows])


def with_listing(text: str, paper: str, root: Path | None = None) -> str:
    """Return a README's text with the part between the marks made anew; without marks, as it is."""
    return remade(text, BEGIN, outputs_table(paper, root), END)


def main(argv: list[str] | None = None) -> int:
    """Write the part between the marks of every paper's README anew; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shared.config.outputs", description=main.__doc__)
    parser.add_argument("paper", nargs="*", help="only these papers")
    names = parser.parse_args(argv).paper or papers()
    try:
        for paper in names:
            check_paper(paper)
            path = repository() / "papers" / paper / "README.md"
            write_text(path, with_listing(read_text(path, ConfigError), paper))
    except (Sentence, OSError) as error:
        print(sentence_of(error), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
