"""Give every figure one style, and save it as svg and png, byte-equal when the numbers are."""

from __future__ import annotations

import base64
import io
import math
import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from shared.files import whole
from shared.plotting.styles import COLOURS as COLOURS
from shared.plotting.styles import CYCLE as CYCLE
from shared.plotting.styles import method_style as method_style

os.environ["MPLBACKEND"] = "Agg"  # a notebook's, or none there is, would stop the import
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike
from PIL import Image

PALETTE = seaborn.color_palette("colorblind")
COLUMN, PAGE = 3.4, 6.9  # inches: one column of a printed page, and both
TEXT = 8  # points, the least at these widths
BESIDE = 9  # points from a marker to its name without a line between them
CROSSING = 2  # times worse than to write over something is to draw a line through it
CHARACTER, LINE = 0.06, 0.14  # inches of one, about
GREY = "0.35"
HOLLOW: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "none", "markersize": 6}  # what is reported
IMAGE = re.compile(r'base64,([^"]+)"')

Box = tuple[float, float, float, float]  # left, low, right, high


def use_style() -> None:
    """Set the house style for all figures made after it."""
    seaborn.set_theme(context="paper", style="ticks", palette=PALETTE)
    sizes = ("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
    style: Any = {  # whose keys are one long type
        **dict.fromkeys((*sizes, "legend.title_fontsize"), TEXT),
        "axes.titlesize": TEXT + 1,
        "axes.grid": True,
        "axes.linewidth": 0.8,
        "grid.color": "0.92",
        "grid.linewidth": 0.8,
        "lines.linewidth": 1.1,
        "lines.markersize": 4,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "legend.frameon": False,
        "svg.hashsalt": "house",
        "svg.fonttype": "none",
    }
    plt.rcParams.update(style)


def sequential(n: int) -> list:
    """Return n colours from dark to light, for an ordered quantity such as bag size."""
    return seaborn.color_palette("viridis", n)


def note(figure: Figure, text: str) -> None:
    """Write a sentence under the figure, which grows by its lines; it goes before the sentences that are there."""
    before = " ".join(figure.get_supxlabel().split())
    wide = int(figure.get_figwidth() / CHARACTER)
    lines, kept = (
        textwrap.wrap(said, wide, break_long_words=False, break_on_hyphens=False)
        for said in (f"{text} {before}", before)
    )
    figure.set_figheight(figure.get_figheight() + (len(lines) - len(kept)) * LINE)
    # From the left, where lines begin in any font: a viewer may not have the one they were measured in.
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=TEXT, color=GREY)


def not_run(axis: Axes) -> None:
    """Say in a panel, which stands for its place in a grid, that nothing was run."""
    axis.text(0.5, 0.5, "NOT RUN", transform=axis.transAxes, ha="center", va="center", color="0.4")


def left_out(figure: Figure, names: list[str], why: str = "NOT RUN") -> None:
    """Say under a figure what it does not show, for want of records unless told; nothing of nothing."""
    if names:
        note(figure, f"{why} and so not shown: {', '.join(names)}.")


def nothing(why: str = "no run of this tier has a record of it") -> Figure:
    """Return a figure that is one line of text: that it was not run."""
    return line(f"NOT RUN: {why}")


def line(text: str) -> Figure:
    """Return a figure that is one line of text."""
    figure, axis = plt.subplots(figsize=(COLUMN, 0.5))
    axis.axis("off")
    axis.text(0.5, 0.5, text, ha="center", va="center", color=GREY, wrap=True)
    return figure


def band(axis: Axes, x: ArrayLike, mean: pandas.Series, std: pandas.Series, **style: Any) -> None:
    """Draw a line of means with a band of one standard deviation."""
    axis.plot(x, mean, **{"marker": "."} | style)
    axis.fill_between(x, mean - std, mean + std, color=style["color"], alpha=0.15, linewidth=0)


def error_bars(
    axis: Axes,
    x: ArrayLike,
    mean: pandas.Series,
    std: pandas.Series,
    limits: tuple[float, float] = (0.0, 100.0),
    **style: Any,
) -> None:
    """Draw means with bars of one standard deviation, cut where the measure ends; none where there is no deviation."""
    std = std.fillna(0)
    down, up = (mean - limits[0]).clip(lower=0), (limits[1] - mean).clip(lower=0)
    bars = [std.where(std < down, down), std.where(std < up, up)]
    axis.errorbar(x, mean, bars, **{"capsize": 2, "elinewidth": 0.8} | style)


def mark_reported(axis: Axes, x: Iterable[float], y: Iterable[float], says: list[str], style: dict) -> None:
    """Draw what a paper reports as hollow markers of the method's own shape and colour.

    Parameters
    ----------
    x, y : of each number.
    says : what it is, such as "paper" or "paper, other network"; `legend_above` names them.
    """
    hollow = HOLLOW | {"zorder": 3}
    for said in dict.fromkeys(says):
        chosen = [word == said for word in says]
        points = [[value for value, keep in zip(values, chosen, strict=True) if keep] for values in (x, y)]
        axis.plot(*points, **style | hollow | {"markeredgewidth": _edge(said), "label": f"_{said}"})


def _edge(said: str) -> float:
    """Points of the edge of a hollow marker: thin where there is nothing of ours beside it."""
    return 0.5 if "not run" in said else 1.1


def legend_above(figure: Figure, order: Sequence[str] = ()) -> None:
    """Put one legend of all panels above them, by which the figure grows: `order` first, and what is hollow last."""
    pairs = [pair for axis in figure.axes for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in reversed(pairs)}
    plain = [name for name, handle in handles.items() if isinstance(handle, Line2D) and handle.get_marker() == "None"]
    names = [*(name for name in order if name in handles), *(label for _, label in pairs if label not in plain), *plain]
    handles = {name: handles[name] for name in dict.fromkeys(names)}
    lines = [str(line.get_label()) for axis in figure.axes for line in axis.get_lines()]
    for said in dict.fromkeys(label[1:] for label in lines if label.startswith("_paper")):
        hollow = HOLLOW | {"markeredgewidth": _edge(said)}
        handles[said] = Line2D([], [], marker="o", color=GREY, **hollow)
    legend_of(figure, handles)


def legend_of(figure: Figure, handles: dict[str, Any]) -> None:
    """Put a legend of {label: handle} above all panels, in as many rows as it needs, by which the figure grows."""
    if handles:
        width = max(map(len, handles)) * 0.95 * CHARACTER + 0.5
        rows = math.ceil(len(handles) / max(1, int(figure.get_figwidth() / width)))
        columns = math.ceil(len(handles) / rows)
        figure.set_figheight(figure.get_figheight() + rows * LINE)
        where: dict[str, Any] = {"loc": "outside upper center", "ncols": columns, "columnspacing": 1.2}
        figure.legend(handles.values(), handles.keys(), handlelength=2.6, **where)


def name_points(axis: Axes, points: list[tuple[float, float]], names: list[str], bars: list[float]) -> None:
    """Write names beside points where they cover the least of markers, of each other and of bars (half their height).

    An empty name is not written. What is not right beside its point has a line to it, which counts as well. To be
    called when all else is drawn and the axes' limits stand.
    """
    figure = axis.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    at = axis.transData.transform(points)
    tops = axis.transData.transform([(x, y + bar) for (x, y), bar in zip(points, bars, strict=True)])
    scale, box = figure.dpi / 72, axis.get_window_extent()
    marked = [np.asarray(line.get_xydata()) for line in axis.lines if line.get_marker() not in ("None", "", None)]
    marks = axis.transData.transform(np.concatenate([np.asarray(points, float), *marked]))
    around = 4 * scale
    taken: list[Box] = [(x - around, y - around, x + around, y + around) for x, y in np.unique(marks, axis=0)]
    taken += [(x - 3 * scale, 2 * y - top, x + 3 * scale, top) for (x, y), (_, top) in zip(at, tops, strict=True)]
    named = [of for of in zip(at, points, names, strict=True) if of[2]]
    for (x, y), point, name in sorted(named, key=lambda of: (-of[0][1], of[0][0])):
        wide, high = (TextPath((0, 0), name, size=TEXT).get_extents().width + 2) * scale, (TEXT + 2) * scale
        choices: list[tuple[float, tuple[int, int], str, list[Box]]] = []
        for far in (6, 11, 18, 26, 36):
            for right, up in ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1)):
                left = x + right * far * scale - wide * (1 - right) / 2
                low = y + up * far * scale - high / 2
                own = (left, low, left + wide, low + high)
                outside = max(0, box.x0 - own[0]) + max(0, own[2] - box.x1) + max(0, box.y0 - own[1])
                parts = [own]
                if far > BESIDE:  # the line, from where the point's own marker ends
                    steps = np.linspace(around / (far * scale), 1, 3 + far // 3)
                    to = [(x + t * right * far * scale, y + t * up * far * scale) for t in steps]
                    parts += [(u - scale, v - scale, u + scale, v + scale) for u, v in to]
                cost = sum(_overlap(own, other) for other in taken) + high * outside + far * scale
                cost += CROSSING * sum(_overlap(part, other) for part in parts[1:] for other in taken)
                choices.append((cost, (right * far, up * far), {1: "left", 0: "center", -1: "right"}[right], parts))
        _, offset, side, parts = min(choices, key=lambda choice: choice[0])
        taken += parts
        line: dict[str, Any] = {"arrowstyle": "-", "lw": 0.5, "color": "0.6", "shrinkA": 0, "shrinkB": 2}
        style: dict[str, Any] = {"ha": side, "va": "center", "color": GREY, "textcoords": "offset points"}
        arrow = line if max(map(abs, offset)) > BESIDE else None
        axis.annotate(name, point, offset, arrowprops=arrow, **style).set_in_layout(False)


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def save_figure(figure: Figure, stem: Path) -> None:
    """Write ``stem.svg`` and ``stem.png``, each whole or not at all, and close the figure."""
    for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        with whole(stem.with_suffix(f".{kind}")) as part:
            figure.savefig(part, dpi=160, metadata=metadata, format=kind)
            if kind == "svg":
                part.write_text(IMAGE.sub(_smaller, part.read_text(encoding="utf-8")), encoding="utf-8")
    plt.close(figure)


def _smaller(image: re.Match) -> str:
    """Return an image of an svg with 256 colours, a quarter of the bytes; one that has no more keeps its own."""
    packed, kept = io.BytesIO(), Image.open(io.BytesIO(base64.b64decode(image[1]))).convert("RGBA")
    few = kept.getcolors(256) is not None
    small = kept if few else kept.quantize(256, method=Image.Quantize.FASTOCTREE)
    small.save(packed, "png", optimize=True)
    return f'base64,{base64.b64encode(packed.getvalue()).decode()}"'
