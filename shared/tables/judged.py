"""Draw, of every paper, what its comparison judged: reported against reproduced numbers, claims and their bounds.

Both read what ``python -m shared.comparison`` wrote, comparison.csv and claims.csv, and nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.lines import Line2D

from shared import plotting
from shared.plotting import COLOURS
from shared.tables.bounds import bounds_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from shared.tables.draw import Drawn

UNLIKE = "NOT COMPARABLE"
VERDICTS = {  # colour and marker of what was decided
    "HOLDS": (COLOURS["blue"], "o"),
    "CONTRADICTED": (COLOURS["vermillion"], "X"),
    "INCONCLUSIVE": (COLOURS["amber"], "D"),
    UNLIKE: (COLOURS["brown"], "s"),
}
UNTOLD = "Without an estimate"
WITHOUT = ("NOT RUN", "NOT COMPARABLE", UNTOLD)
UNDONE = "\u2020"
VALUES = ("estimate", "low90", "high90", "region_low", "region_high")
WIDE_RANGE = 10  # largest number over the median, above which the axes are logarithmic
SHOWN = 4  # reasons that are given before the rest are counted
ROW = 0.2  # inches of a claim
NUMBERED = {"fig": "Figure", "table": "Table"}
CHARACTERS = 38  # of a claim's name, in its column


def reported(drawn: Drawn) -> Figure:
    """Draw each reported number against ours on one diagonal, hollow where not comparable; bars are one deviation."""
    cells = drawn.compared("comparison")
    there = cells.dropna(subset=["reported", "ours"])
    if not len(cells):
        return plotting.line("No reported number, or none compared yet.")
    if not len(there):
        return plotting.nothing("no run here of what the paper reports")
    figure, axis = plt.subplots(figsize=(plotting.COLUMN, 3.1))
    face: dict[str, Any]
    for n, (table, own) in enumerate(there.groupby("table", sort=False)):
        style = plotting.CYCLE[n % len(plotting.CYCLE)] | {"linestyle": "none", "markersize": 4}
        for comparable, some in own.groupby(own.verdict != UNLIKE):
            spread = [some.spread.where(some.spread_kind == "std").fillna(0), some["sd"].fillna(0)]
            face = {} if comparable else {"markerfacecolor": "none"}
            axis.errorbar(some.reported, some.ours, spread[1], spread[0], elinewidth=0.6, **style, **face)
        axis.plot([], [], **style, label=_in_full(str(table)))
    _diagonal(axis, there[["reported", "ours"]].to_numpy(float))
    axis.set(xlabel="reported", ylabel="reproduced")
    plotting.legend_above(figure)
    unlike = there[there.verdict == UNLIKE]
    plotting.note(figure, _in_words(cells, there, unlike))
    return figure


def _in_full(table: str) -> str:
    """Table 1 of table1, Figure 2 of fig2."""
    return re.sub(r"^(fig|table)(\d+)$", lambda found: f"{NUMBERED[found[1]]} {found[2]}", table)


def _diagonal(axis: Axes, numbers: np.ndarray) -> None:
    """Give both axes one scale and range, from 0 where it is linear, and draw the line of equality."""
    positive, largest = numbers[numbers > 0], numbers.max()
    if len(positive) and largest > WIDE_RANGE * np.median(positive):
        least = 10.0 ** math.floor(math.log10(positive.min()))
        scale, ends = {"linthresh": least, "linscale": 0.4}, (-0.3 * least, 2 * largest)
        axis.set_xscale("symlog", **scale)
        axis.set_yscale("symlog", **scale)
        for ax in (axis.xaxis, axis.yaxis):
            ax.set_major_formatter("{x:g}")
            ax.set_ticks([0, *(10.0**k for k in range(math.ceil(math.log10(least)), math.ceil(math.log10(largest))))])
    else:
        ends = (min(0, numbers.min()) - 0.04 * largest, 1.08 * largest)
    axis.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
    axis.set(xlim=ends, ylim=ends)


def _in_words(cells: pandas.DataFrame, there: pandas.DataFrame, unlike: pandas.DataFrame) -> str:
    """What is hollow and why, and how many numbers have no place on the diagonal."""
    reasons = dict.fromkeys(reason for why in unlike.why.dropna() for reason in why.split("; "))
    some = f"not comparable ({_some(list(reasons))})"
    said = [f"Hollow, {len(unlike)} of {len(there)}: {some}."] if len(unlike) else []
    if left := len(cells) - len(there):
        said.append(f"{left} of {len(cells)} reported numbers were not run and are not shown.")
    return " ".join(said)


def _some(reasons: list[str]) -> str:
    return "; ".join(reasons[:SHOWN]) + f"; and {len(reasons) - SHOWN} more" * (len(reasons) > SHOWN)


def claims(drawn: Drawn) -> Figure:
    """Draw each claim's estimate and 90 % interval beside its bound, its control's below in grey."""
    table = drawn.compared("claims")
    if not len(table):
        return plotting.line("No claim, or none judged yet.")
    by_id = {row["id"]: row for row in table.to_dict("records")}
    there = {name: row for name, row in by_id.items() if not math.isnan(row["estimate"])}
    answered = {row["control"] for row in there.values()}
    shown = [row for name, row in there.items() if name not in answered]
    if not shown:
        return plotting.nothing("no claim has an estimate here")
    size = (plotting.PAGE, 0.9 + ROW * len(shown))
    figure, (axis, text) = plt.subplots(1, 2, figsize=size, sharey=True, width_ratios=[1.25, 1])
    for place, row in enumerate(shown):
        colour, marker = VERDICTS[_word(row)]
        style = {"marker": marker, "color": colour, "ms": 5, "mfc": colour if pandas.isna(row["setting"]) else "white"}
        grey = {"marker": marker, "color": "0.6", "ms": 3, "mfc": "0.6"}
        control = there.get(row["control"])
        _draw(axis, place - 0.12 * (control is not None), 0.28, row, grey if row["role"] == "control" else style)
        if control is not None:
            _draw(axis, place + 0.3, 0.12, control, grey | {"marker": VERDICTS[_word(control)][1]})
        text.text(0, place, _numbers(row), va="center", color="0.2" if row["role"] == "paper" else "0.5")
    axis.axvline(0, color="0.2", lw=1)
    axis.axvspan(0, 1.15, color="0.96", zorder=0, lw=0)
    names = [row["id"] if len(row["id"]) <= CHARACTERS else f"{row['id'][: CHARACTERS - 1]}…" for row in shown]
    axis.set(xlim=(-1.15, 1.15), ylim=(len(shown) - 0.3, -0.7), xticks=[-1, 0, 1], yticks=range(len(shown)))
    axis.set_xticks([-0.68, 0, 0.68], ["against", "bound", "claimed"])
    axis.set_yticklabels(names)
    axis.tick_params(length=0)
    axis.grid(axis="x", visible=False)
    text.axis("off")
    text.set_title("estimate [90 %], claimed", loc="left", fontsize=plotting.TEXT)
    text.set_xlim(0, 1)
    handles = {
        word.lower(): Line2D([], [], ls="none", marker=marker, color=colour, ms=5)
        for word, (colour, marker) in VERDICTS.items()
        if word in {_word(row) for row in shown}
    }
    handles["control"] = Line2D([], [], ls="none", marker="o", color="0.6", ms=3)
    if not all(math.isnan(_nearest(row)) for row in shown):
        handles["keeps it from holding"] = Line2D([], [], ls="none", marker="|", color="0.2", ms=7)
    unlike = [row for row in shown if not pandas.isna(row["setting"])]
    if unlike:
        hollow: dict[str, Any] = {"marker": "o", "color": plotting.GREY, "mfc": "white", "ms": 5}
        handles["hollow: not comparable"] = Line2D([], [], ls="none", **hollow)
        caveats = dict.fromkeys(part for row in unlike for part in str(row["caveats"]).split("; "))
        plotting.note(figure, f"Hollow: {_some(list(caveats))}.")
    if any(_undone(row) for row in shown):
        plotting.note(figure, f"{UNDONE}: a control takes away what it was to show.")
    plotting.legend_of(figure, handles)
    for word in dict.fromkeys(_word(row, WITHOUT) for name, row in by_id.items() if name not in there):
        left = [name for name, row in by_id.items() if name not in there and _word(row, WITHOUT) == word]
        plotting.left_out(figure, left, f"{word},")
    return figure


def _word(row: dict, words: Iterable[str] = VERDICTS) -> str:
    """The verdict without its setting; the last of the words where it is none of them."""
    return next((word for word in words if row["verdict"].startswith(word)), UNTOLD)


def _undone(row: dict) -> bool:
    return not pandas.isna(row.get("reservation"))


def _nearest(row: dict) -> float:
    """The value of the comparison that keeps a claim of several from holding; nan where there is none."""
    found = re.search(r": (-?[\d.e+-]+)(?: \[|$)", "" if pandas.isna(row["weakest"]) else str(row["weakest"]))
    if not found or row["cells"] < 2 or row["verdict"].startswith("HOLDS"):
        return math.nan
    return float(found[1])


def _draw(axis: Axes, height: float, half: float, row: dict, style: dict) -> None:
    """Draw an estimate and its interval on a scale of their own: the nearest bound at 0, the farthest end at 1.

    The claim's side is to the right. Ratios are drawn by their logarithms. Of several comparisons a tick is the one
    that keeps the claim from holding. `half` is half the height that is its own.
    """
    measure = np.log if row["kind"] == "ratio" else np.asarray
    with np.errstate(divide="ignore"):
        estimate, low, high, *bounds, tick = measure([*(row[name] for name in VALUES), _nearest(row)]).astype(float)
    sides = {+1: bounds[0], -1: bounds[1]}
    inward, bound = min(sides.items(), key=lambda side: abs(estimate - side[1]))
    if math.isnan(estimate):
        return
    far = np.nanmax(np.abs(np.array([estimate, low, high, tick]) - bound)) or 1.0
    at = [inward * (value - bound) / far for value in (estimate, low, high)]
    other = inward * (sides[-inward] - bound) / far
    if other < 1.15:  # beyond the second bound nothing is claimed
        axis.fill_betweenx([height - half, height + half], other, 1.15, color="white", zorder=0.5, lw=0)
        axis.plot([other, other], [height - half, height + half], color="0.2", lw=1)
    axis.plot(at[1:], [height, height], color=style["color"], lw=1.2)
    axis.plot(at[:1], [height], ls="none", **style)
    if not math.isnan(tick):
        axis.plot([inward * (tick - bound) / far], [height], ls="none", marker="|", ms=7, color=style["color"])


def _numbers(row: dict) -> str:
    """An estimate with its interval, what is claimed of it, and in how many of its comparisons that was shown."""
    shown = f" ({row['cells_hold']:g}/{row['cells']:g})" if row["cells"] > 1 else ""
    shown += f" {UNDONE}" * _undone(row)
    between = "" if math.isnan(row["low90"]) else f" [{row['low90']:.3g}, {row['high90']:.3g}]"
    return (
        f"{row['estimate']:.3g}{between}, {bounds_in_words(row['kind'], row['region_low'], row['region_high'])}{shown}"
    )
