"""Say whether training had come to rest: what a measure still gained over the last quarter of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

MARK = "test_"  # a curve test_<measure> is of the last stage, <stage>_test_<measure> of an earlier one


def quarter_of(epochs: int) -> int:
    """Return how many epochs the last quarter has; one or more."""
    return max(1, round(epochs / 4))


def quarter_gains(curves: Mapping[str, Any]) -> dict[str, dict[str, float | int | None]]:
    """Return {name: gain, error and epochs} of every course of a measure of the test set that has two points or more.

    Parameters
    ----------
    curves : {name: a value for each epoch}. ``test_accuracy`` becomes ``accuracy``, ``first_test_accuracy``, of an
        earlier stage, ``first accuracy``; other names are no courses. None stands where nothing was evaluated, which
        may be in the first half alone.

    Returns
    -------
    gain : the mean of the last quarter of the values less the mean of the quarter before it, in the measure's unit;
        a quarter has one value or more.
    error : its standard error, from the scatter of both quarters about a straight line; None where they have fewer
        than 4 values.
    epochs : how many epochs a quarter spans, so that gain / epochs is the gain an epoch.
    """
    found = {}
    for name, values in curves.items():
        stage, mark, measure = name.rpartition(MARK)
        if not mark or (stage and not stage.endswith("_")) or len(values) < 2:
            continue
        quarter = quarter_of(len(values))
        late = np.asarray(values[-2 * quarter :], dtype=float)
        if np.isfinite(late).all():
            found[f"{stage.rstrip('_')} {measure}".strip()] = _gain(late, quarter)
    return found


def _gain(late: np.ndarray, quarter: int) -> dict[str, float | int | None]:
    gain = late[quarter:].mean() - late[:quarter].mean()
    error = None
    if len(late) >= 4:
        time = np.arange(len(late))
        scatter = late - np.polyval(np.polyfit(time, late, 1), time)
        error = float(np.sqrt((scatter**2).sum() / (len(late) - 2) * 2 / quarter))
    return {"gain": float(gain), "error": error, "epochs": quarter}
