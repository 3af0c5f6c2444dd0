"""Draw a paper's figures, which outputs.yaml names, from its tables: ``python -m papers.rot.figures --tier quick``."""

from __future__ import annotations

import functools
import importlib
import io
import json
import re
from pathlib import Path

import pandas

from shared import plotting
from shared.config import ConfigError, Run, plan, repository
from shared.config.outputs import JUDGED, read_outputs
from shared.files import read_text
from shared.records import store
from shared.tables import judged
from shared.tables.make import NOTES
from shared.tables.numbers import STILL_MOVED

REMEDY = "make the tables of this paper again"
MOVED = f"{STILL_MOVED}."
TEXTS = ("dataset", "method", "task", "panel", "values", "selection", "metric")


UNLIKE = {"simulated data": "data", "a stand-in": "network", "another protocol": "protocol"}  # the first that holds


class Drawn:
    """What a figure's function draws: the tables of a paper's tier, read from their csv files.

    Attributes
    ----------
    paper, tier : their names.
    folder : ``results/<tier>/<paper>``.
    """

    def __init__(self, paper: str, tier: str, folder: Path) -> None:
        self.paper, self.tier, self.folder = paper, tier, folder

    def __getitem__(self, name: str) -> pandas.DataFrame:
        """Return a table; an empty name is a name, an empty number is missing.

        Raises
        ------
        ConfigError
            Naming the file that is not there or is no table.
        """
        path = self.folder / f"{name}.csv"
        try:
            table = pandas.read_csv(io.StringIO(read_text(path, ConfigError)))
        except ValueError as error:
            raise ConfigError(f"{path} is no table ({' '.join(str(error).split())}); {REMEDY}") from None
        named = [column for column in table if column in TEXTS and not pandas.api.types.is_numeric_dtype(table[column])]
        return table.assign(**{column: table[column].fillna("") for column in named})

    def compared(self, name: str) -> pandas.DataFrame:
        """Return what the comparison wrote, ``comparison`` or ``claims``; no rows before it was made."""
        path = self.folder / f"{name}.csv"
        if not path.exists():
            return pandas.DataFrame(columns=["id", "table", "row", "column", "metric", "reported", "ours", "verdict"])
        return pandas.read_csv(io.StringIO(read_text(path, ConfigError)))

    def reported(self, table: str, metric: str = "accuracy") -> pandas.DataFrame:
        """Return what the paper reports in a table: `row`, `column`, `reported`, and `says` for a legend."""
        cells = self.compared("comparison")
        own = cells[(cells.table == table) & (cells.metric == metric)]
        return own.assign(says=[_says(row.verdict, str(row.why)) for row in own.itertuples()])

    def record(self, run_id: str) -> dict | None:
        """Return the record of a run, or None where there is none that can be believed."""
        return store.find_record(self.folder / "runs", run_id, self._index).record

    @functools.cached_property
    def _index(self) -> dict[str, dict] | None:
        return store.read_index(self.folder / "runs")

    @functools.cached_property
    def runs(self) -> list[Run]:
        """The planned runs."""
        return plan(self.paper, self.tier)


def _says(verdict: str, why: str) -> str:
    """What a reported number is called in a legend, by what keeps ours from being comparable with it."""
    if verdict != "NOT COMPARABLE":
        return "paper" if verdict not in ("NOT RUN", "FAILED") else "paper, not run here"
    return f"paper, other {next((word for reason, word in UNLIKE.items() if reason in why), 'setting')}"


def make_figures(paper: str, tier: str, results: Path | None = None) -> Path:
    """Draw every figure of a paper's tier from tables and comparison in `results` (the repository's unless told).

    Returns the folder.
    """
    folder = (results or repository() / "results") / tier / paper
    module, drawn = importlib.import_module(f"papers.{paper}.figures"), Drawn(paper, tier, folder)
    try:
        notes = json.loads(read_text(folder / NOTES, ConfigError))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{folder / NOTES} is damaged ({error}); {REMEDY}") from None
    plotting.use_style()
    own = [output for output in read_outputs(paper).figures if output not in JUDGED]
    for name in (name for output in own for name in output.drawn_from):
        if not isinstance(notes, dict) or not isinstance(notes.get(name), str):
            raise ConfigError(f"{folder / NOTES} has no text for the table {name}; {REMEDY}")
    for output in (*own, *JUDGED):
        figure = getattr(module if output in own else judged, output.name)(drawn)
        said = " ".join(notes[name] for name in output.drawn_from) if output in own else f"Tier {tier}."
        plotting.note(figure, _once(said))
        plotting.save_figure(figure, folder / output.name)
    return folder


def _once(text: str) -> str:
    """Each sentence of several tables once; how many of their runs still moved, in one sentence."""
    said = list(dict.fromkeys(re.split(r"(?<=\.) (?=[A-Z\d])", text)))
    moved = [sentence.removesuffix(MOVED) for sentence in said if sentence.endswith(MOVED)]
    rest = [sentence for sentence in said if not sentence.endswith(MOVED)]
    return " ".join([*rest, *[f"{' and '.join(moved)}{MOVED}"] * bool(moved)])
