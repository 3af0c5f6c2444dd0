"""Say in what setting records were made, where it is not the paper's: one standard for cells and for claims.

A run whose data and network nothing stands in for (`stand_in`), whose data are not simulated and whose protocol does
not differ in anything the numbers depend on (`differs`) is comparable with the paper, whatever its tier is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

STAND_IN, SIMULATION, PROTOCOL = WORDS = ("on a stand-in", "on a simulation", "under another protocol")


@dataclass(frozen=True)
class Setting:
    """Hold what keeps records from being comparable with the paper; both empty where nothing does.

    Attributes
    ----------
    word : one of `WORDS`, said behind a verdict: HOLDS on a stand-in.
    reasons : each way in which the runs depart from the paper's, in words: obstacles of cells, caveats of claims.
    """

    word: str = ""
    reasons: tuple[str, ...] = ()


def setting_of(rows: pd.DataFrame) -> Setting:
    """Return the setting of tidy rows: a simulation where all are of one, else the first of `WORDS` true of any.

    Parameters
    ----------
    rows : DataFrame
        Of its columns `stand_in` and `differs` (texts, parts apart by "; "), `simulated` and `dataset` count those it
        has, in the rows with a `value`: a run without a record is no evidence.

    Returns
    -------
    Setting
    """
    rows = rows[rows["value"].notna()] if "value" in rows else rows
    simulated = rows["simulated"].isin([True]) if "simulated" in rows else rows.index != rows.index
    names = sorted(rows["dataset"][simulated].dropna().unique()) if "dataset" in rows else []
    found = {
        STAND_IN: [f"a stand-in: {text}" for text in _texts(rows, "stand_in")],
        SIMULATION: [": ".join(filter(None, ["simulated data", ", ".join(map(str, names))]))] * bool(simulated.any()),
        PROTOCOL: [f"another protocol: {text}" for text in _texts(rows, "differs")],
    }
    word = SIMULATION if len(rows) and simulated.all() else next((word for word in WORDS if found[word]), "")
    return Setting(word, tuple(reason for word in WORDS for reason in found[word]))


def _texts(rows: pd.DataFrame, key: str) -> list[str]:
    """The parts of a column's texts, each once, sorted."""
    texts = rows[key].dropna().unique() if key in rows else ()
    return sorted({part for text in texts if isinstance(text, str) for part in text.split("; ") if part})
