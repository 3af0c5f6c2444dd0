"""Give every figure one style, and save it as svg and png, byte-equal when the numbers are."""

from __future__ import annotations

import os
from pathlib import Path

from shared.files import whole

os.environ["MPLBACKEND"] = "Agg"  # a notebook's, or none there is, would stop the import
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn

PALETTE = seaborn.color_palette("colorblind")


def use_style() -> None:
    """Set the house style for all figures made after it."""
    seaborn.set_theme(context="paper", style="ticks", palette=PALETTE)
    plt.rcParams.update(
        {
            "axes.grid": True,
            "grid.color": "0.92",
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
    """Write a line under the figure: stand-ins, what was not run."""
    figure.supxlabel(text, fontsize=7, color="0.35", wrap=True)


def band(axis, x, mean, std, **style) -> None:
    """Draw a line of means with a band of one standard deviation."""
    axis.plot(x, mean, marker=".", markersize=3, **style)
    axis.fill_between(x, mean - std, mean + std, color=style["color"], alpha=0.2, linewidth=0)


def not_run(axis) -> None:
    """Say in an empty panel that nothing was run."""
    axis.text(0.5, 0.5, "NOT RUN", transform=axis.transAxes, ha="center", va="center", color="0.4")


def save_figure(figure, stem: Path) -> None:
    """Write ``stem.svg`` and ``stem.png``, each whole or not at all, and close the figure."""
    for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        with whole(stem.with_suffix(f".{kind}")) as part:
            figure.savefig(part, dpi=160, metadata=metadata, format=kind)
    plt.close(figure)
