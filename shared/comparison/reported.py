"""Read `reported.csv`, the numbers a paper reports, and refuse what cannot be compared honestly."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from shared.files import Sentence, read_text

COLUMNS = (
    *("table", "row", "column", "metric", "value", "spread"),
    *("spread_kind", "n", "margin", "source", "selection"),
)
VERDICTS = (  # on a number: shared/comparison/verdicts.py
    *("REPRODUCED", "SMALL DIFFERENCE", "NOT REPRODUCED", "CONSISTENT", "INCONSISTENT", "INCONCLUSIVE"),
    *("NOT COMPARABLE", "FAILED", "NOT RUN"),
)
UNJUDGED = VERDICTS[VERDICTS.index("NOT COMPARABLE") :]
SPREADS = ("std", "sem", "ci95")
BOUNDS = ("lower_bound", "upper_bound")
SELECTIONS = ("last", "bag-validation", "oracle", "cost")


class InputError(Sentence, ValueError):
    """Name a file or an argument that a person has to correct; the message says what and how."""


@dataclass(frozen=True)
class Reported:
    """Hold one cell of a paper's table.

    Attributes
    ----------
    spread, n : None where the paper does not say.
    spread_kind : std, sem or ci95 (half-width, Student) of the spread; lower_bound or upper_bound when the paper says
        only "> 90 %"; none otherwise.
    margin : the largest difference, in the metric's own unit, that still counts as the same number; fixed before
        running.
    """

    table: str
    row: str
    column: str
    metric: str
    value: float
    spread: float | None = None
    spread_kind: str = "none"
    n: int | None = None
    margin: float = 1.0
    source: str = ""
    selection: str = "last"

    @property
    def cell(self) -> tuple[str, str, str, str, str]:
        return self.table, self.row, self.column, self.metric, self.selection

    @property
    def sd(self) -> float | None:
        """Return the standard deviation over the paper's runs, or None where it cannot be known."""
        if self.spread is None or self.n is None or self.n < 2:
            return None
        if self.spread_kind == "std":
            return self.spread
        sem = self.spread
        if self.spread_kind == "ci95":
            from scipy import special  # which reading what papers report need not wait for

            sem = self.spread / float(special.stdtrit(self.n - 1, 0.975))
        return sem * math.sqrt(self.n)

    @property
    def is_bound(self) -> bool:
        """Return whether the paper gives only a bound of the number."""
        return self.spread_kind in BOUNDS

    @property
    def unknown(self) -> str:
        """Return in words what of the paper's runs a test would need and cannot know; "" where nothing is."""
        if self.is_bound or self.sd is not None:
            return ""
        if self.n == 1:
            return "the paper reports one run"
        return "the paper gives no " + " and no ".join(k for k in ("n", "spread") if getattr(self, k) is None)


def as_reported(value: object, spread: object, spread_kind: str, n: object) -> str:
    """Return a reported number in words, "> 90" or "87.69 ± 0.54 std, n=5", of parts of which some may be empty."""
    sign = {"lower_bound": "> ", "upper_bound": "< "}.get(spread_kind, "")
    return f"{sign}{value}" + (f" ± {spread} {spread_kind}" if spread else "") + (f", n={n}" if n else "")


def read_reported(path: str | Path) -> list[Reported]:
    """Read and validate a `reported.csv`.

    Returns
    -------
    list of Reported
        In the order of the file.

    Raises
    ------
    InputError
        Naming the file, the line, the column, the value found and what to write instead.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file; a paper's reported numbers belong there")
    reader = csv.reader(read_text(path, InputError).splitlines())
    header = next(reader, [])
    if tuple(header) != COLUMNS:
        found = ",".join(header) or "nothing"
        raise InputError(f"{path}, line 1: the header must be {','.join(COLUMNS)}; found {found}")
    cells: list[Reported] = []
    lines: dict[tuple[str, ...], int] = {}
    for fields in reader:
        if not fields:
            continue
        where = f"{path}, line {reader.line_num}"
        if len(fields) != len(COLUMNS):
            raise InputError(
                f"{where}: {len(fields)} fields, not {len(COLUMNS)}; put quotes around a field with commas"
            )
        cell = _row(dict(zip(COLUMNS, (f.strip() for f in fields), strict=True)), where)
        if cell.cell in lines:
            raise InputError(f"{where}: the same cell is on line {lines[cell.cell]}; keep one of them")
        lines[cell.cell] = reader.line_num
        cells.append(cell)
    return cells


def _row(field: dict[str, str], where: str) -> Reported:
    def fail(column: str, instead: str) -> NoReturn:
        raise InputError(f"{where}, column {column}: {field[column]!r} {instead}")

    def number(column: str) -> float | None:
        return given(column) if field[column] else None

    def given(column: str) -> float:
        try:
            value = float(field[column])
        except ValueError:
            value = math.nan
        return value if math.isfinite(value) else fail(column, "is not a number; write one, or leave it empty")

    for column in ("table", "row", "column", "metric", "value", "source"):
        if not field[column]:
            fail(column, "must not be empty")
    kind = field["spread_kind"] or "none"
    if kind not in (*SPREADS, *BOUNDS, "none"):
        fail("spread_kind", f"is not one of {', '.join((*SPREADS, *BOUNDS, 'none'))}")
    selection = field["selection"] or "last"
    if selection not in SELECTIONS:
        fail("selection", f"is not one of {', '.join(SELECTIONS)}")
    spread, n = number("spread"), number("n")
    if kind in SPREADS and spread is None:
        fail("spread", f"must be the {kind}; write it, or set spread_kind to none")
    if kind not in SPREADS and spread is not None:
        fail("spread", f"has no meaning with spread_kind {kind}; set spread_kind, or leave it empty")
    if spread is not None and spread < 0:
        fail("spread", "is negative")
    if n is not None and (n < 1 or n != int(n)):
        fail("n", "is not a number of runs; write an integer from 1 up, or leave it empty if unknown")
    if n == 1 and spread is not None:
        fail("n", "is one run, which has no spread; leave n empty if the paper does not say it")
    if not field["margin"] and "accuracy" not in field["metric"]:
        fail("margin", f"must be given: only accuracy has a default (1.0 point), not {field['metric']}")
    margin = given("margin") if field["margin"] else 1.0
    if margin < 0 or (margin == 0 and kind not in BOUNDS):
        fail("margin", "must be above zero")
    return Reported(
        **{k: field[k] for k in ("table", "row", "column", "metric", "source")},
        value=given("value"),
        spread=spread,
        spread_kind=kind,
        n=None if n is None else int(n),
        margin=margin,
        selection=selection,
    )
