"""Give every figure one style, and save it as svg and png, byte-equal when the numbers are."""

from __future__ import annotations

import base64
import io
import math
import os
import re
import textwrap
from pathlib import Path

from shared.files import whole
from shared.plotting.styles import COLOURS as COLOURS
from shared.plotting.styles import CYCLE as CYCLE
from shared.plotting.styles import method_style as method_style

os.environ["MPLBACKEND"] = "Agg"  # a notebook's, or none there is, would stop the import
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from PIL import Image

PALETTE = seaborn.color_palette("colorblind")
COLUMN, PAGE = 3.4, 6.9  # inches: one column of a printed page, and both
TEXT = 8  # points, the least at these widths
CHARACTER, LINE = 0.06, 0.14  # inches of one, about
GREY = "0.35"
IMAGE = re.compile(r'base64,([^"]+)"')


def use_style() -> None:
    """Set the house style for all figures made after it."""
    seaborn.set_theme(context="paper", style="ticks", palette=PALETTE)
    sizes = ("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
    plt.rcParams.update(
        dict.fromkeys((*sizes, "legend.title_fontsize"), TEXT)
        | {
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
    )


def sequential(n: int) -> list:
    """Return n colours from dark to light, for an ordered quantity such as bag size."""
    return seaborn.color_palette("viridis", n)


def note(figure, text: str) -> None:
    """Write a sentence under the figure, which grows by its lines; it goes before the sentences that are there."""
    before = " ".join(figure.get_supxlabel().split())
    wide = int(figure.get_figwidth() / CHARACTER)
    lines, kept = (
        textwrap.wrap(said, wide, break_long_words=False, break_on_hyphens=False)
        for said in (f"{text} {before}", before)
    )
    figure.set_figheight(figure.get_figheight() + (len(lines) - len(kept)) * LINE)
    figure.supxlabel("\n".join(lines), fontsize=TEXT, color=GREY)


def not_run(axis) -> None:
    """Say in a panel, which stands for its place in a grid, that nothing was run."""
    axis.text(0.5, 0.5, "NOT RUN", transform=axis.transAxes, ha="center", va="center", color="0.4")


def left_out(figure, names: list[str], why: str = "NOT RUN") -> None:
    """Say under a figure what it does not show, for want of records unless told; nothing of nothing."""
    if names:
        note(figure, f"{why} and so not shown: {', '.join(names)}.")


def nothing(why: str = "no run of this tier has a record of it"):
    """Return a figure that is one line of text: that it was not run."""
    figure, axis = plt.subplots(figsize=(COLUMN, 0.5))
    axis.axis("off")
    axis.text(0.5, 0.5, f"NOT RUN: {why}", ha="center", va="center", color=GREY, wrap=True)
    return figure


def band(axis, x, mean, std, **style) -> None:
    """Draw a line of means with a band of one standard deviation."""
    axis.plot(x, mean, **{"marker": "."} | style)
    axis.fill_between(x, mean - std, mean + std, color=style["color"], alpha=0.15, linewidth=0)


def error_bars(axis, x, mean, std, limits: tuple[float, float] = (0.0, 100.0), **style) -> None:
    """Draw means with bars of one standard deviation, cut where the measure ends; none where there is no deviation."""
    std = std.fillna(0)
    down, up = (mean - limits[0]).clip(lower=0), (limits[1] - mean).clip(lower=0)
    bars = [std.where(std < down, down), std.where(std < up, up)]
    axis.errorbar(x, mean, bars, **{"capsize": 2, "elinewidth": 0.8} | style)


def mark_reported(axis, x, y, says: list[str], style: dict) -> None:
    """Draw what a paper reports as hollow markers of the method's own shape and colour.

    Parameters
    ----------
    x, y : of each number.
    says : what it is, such as "paper" or "paper, other network"; `legend_above` names them.
    """
    hollow = {"linestyle": "none", "markerfacecolor": "none", "markersize": 6, "zorder": 3}
    for said in dict.fromkeys(says):
        chosen = [word == said for word in says]
        points = [[value for value, keep in zip(values, chosen, strict=True) if keep] for values in (x, y)]
        axis.plot(*points, **style | hollow | {"markeredgewidth": _edge(said), "label": f"_{said}"})


def _edge(said: str) -> float:
    """Points of the edge of a hollow marker: thin where there is nothing of ours beside it."""
    return 0.5 if "not run" in said else 1.1


def legend_above(figure, order: list[str] = ()) -> None:
    """Put one legend of all panels above them, by which the figure grows: `order` first, and what is hollow last."""
    pairs = [pair for axis in figure.axes for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in reversed(pairs)}
    plain = [name for name, handle in handles.items() if isinstance(handle, Line2D) and handle.get_marker() == "None"]
    names = [*(name for name in order if name in handles), *(label for _, label in pairs if label not in plain), *plain]
    handles = {name: handles[name] for name in dict.fromkeys(names)}
    lines = [line.get_label() for axis in figure.axes for line in axis.get_lines()]
    for said in dict.fromkeys(label[1:] for label in lines if label.startswith("_paper")):
        hollow = {"linestyle": "none", "markerfacecolor": "none", "markersize": 6, "markeredgewidth": _edge(said)}
        handles[said] = Line2D([], [], marker="o", color=GREY, **hollow)
    if handles:
        width = max(map(len, handles)) * CHARACTER + 0.5
        columns = max(1, min(len(handles), int(figure.get_figwidth() / width)))
        figure.set_figheight(figure.get_figheight() + math.ceil(len(handles) / columns) * LINE)
        where = {"loc": "outside upper center", "ncols": columns, "columnspacing": 1.2, "handlelength": 2.6}
        figure.legend(handles.values(), handles.keys(), **where)


def name_points(axis, points: list[tuple[float, float]], names: list[str], bars: list[float]) -> None:
    """Write names beside points where they cover the least of markers, of each other and of bars (half their height).

    To be called when all else is drawn and the axes' limits stand.
    """
    axis.figure.draw_without_rendering()
    at = axis.transData.transform(points)
    tops = axis.transData.transform([(x, y + bar) for (x, y), bar in zip(points, bars, strict=True)])
    scale, box = axis.figure.dpi / 72, axis.get_window_extent()
    marked = [line.get_xydata() for line in axis.lines if line.get_marker() not in ("None", "", None)]
    marks = axis.transData.transform(np.concatenate([np.asarray(points, float), *marked]))
    taken = [(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in np.unique(marks, axis=0)]
    taken += [(x - scale, 2 * y - top, x + scale, top) for (x, y), (_, top) in zip(at, tops, strict=True)]
    for (x, y), point, name in sorted(zip(at, points, names, strict=True), key=lambda of: (-of[0][1], of[0][0])):
        wide, high = (TextPath((0, 0), name, size=TEXT).get_extents().width + 2) * scale, (TEXT + 2) * scale
        best = None
        for far in (6, 11, 18, 26, 36):
            for right, up in ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1)):
                left = x + right * far * scale - wide * (1 - right) / 2
                low = y + up * far * scale - high / 2
                own = (left, low, left + wide, low + high)
                outside = max(0, box.x0 - own[0]) + max(0, own[2] - box.x1) + max(0, box.y0 - own[1])
                cost = sum(_overlap(own, other) for other in taken) + high * outside + far * scale
                if best is None or cost < best[0]:
                    best = (cost, right * far, up * far, {1: "left", 0: "center", -1: "right"}[right], own)
        taken.append(best[4])
        line = {"arrowstyle": "-", "lw": 0.5, "color": "0.6", "shrinkA": 0, "shrinkB": 2}
        style = {
            "ha": best[3],
            "va": "center",
            "color": GREY,
            "arrowprops": line if max(map(abs, best[1:3])) > 9 else None,
        }
        axis.annotate(name, point, best[1:3], textcoords="offset points", **style).set_in_layout(False)


def _overlap(one: tuple, other: tuple) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def save_figure(figure, stem: Path) -> None:
    """Write ``stem.svg`` and ``stem.png``, each whole or not at all, and close the figure."""
    for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        with whole(stem.with_suffix(f".{kind}")) as part:
            figure.savefig(part, dpi=160, metadata=metadata, format=kind)
            if kind == "svg":
                part.write_text(IMAGE.sub(_smaller, part.read_text(encoding="utf-8")), encoding="utf-8")
    plt.close(figure)


def _smaller(image: re.Match) -> str:
    """Return an image of an svg with 256 colours, a quarter of the bytes."""
    packed, kept = io.BytesIO(), Image.open(io.BytesIO(base64.b64decode(image[1])))
    kept.convert("RGBA").quantize(256, method=Image.Quantize.FASTOCTREE).save(packed, "png", optimize=True)
    return f'base64,{base64.b64encode(packed.getvalue()).decode()}"'
