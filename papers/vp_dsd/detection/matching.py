"""Tell which detection is which cell: one-to-one matching, scores, and thresholds chosen on validation images."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from papers.vp_dsd.detection.method import Detections
from papers.vp_dsd.imaging.holograms import CLASSES, Cells, Holograms
from shared.points.matching import assign, gains, pairs_within


def match(found: Detections, cells: Cells, radius: float, size: int | None = None) -> np.ndarray:
    """Return the cell of each detection, one to one: as many pairs within `radius` as can be, the closest such pairs.

    Parameters
    ----------
    found, cells : of the same n images.
    radius : in pixels, included.
    size : side of periodic images, in pixels; None if they do not wrap around.

    Returns
    -------
    (M,) int64 for the M detections: row of ``cells.centres``, or -1 where no cell is left.

    Raises
    ------
    ValueError
        If the two are not about the same number of images.
    """
    rows, columns, distance = _candidates(found, cells, radius, size)
    return assign(rows, columns, distance, len(found.centres))


def _candidates(
    found: Detections, cells: Cells, radius: float, size: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if len(found.offsets) != len(cells.offsets):
        raise ValueError(
            f"detections of {len(found.offsets) - 1} images cannot be matched with cells of {len(cells.offsets) - 1}"
        )
    ours, theirs = (np.repeat(np.arange(len(each.offsets) - 1), np.diff(each.offsets)) for each in (found, cells))
    return pairs_within(found.centres, cells.centres, radius, size, (ours, theirs))


def true_labels(pairs: np.ndarray, cells: Cells) -> np.ndarray:
    """Return the (M,) int64 class of the cell that each detection was matched with; -1 for a false positive."""
    return np.where(pairs >= 0, np.append(cells.labels, -1)[pairs], -1)


def scores(pairs: np.ndarray, n_cells: int) -> dict[str, float]:
    """Return precision, recall and F1 in [0, 1] over all images, from what `match` returns and the number of cells.

    Where there is neither a detection nor a cell, all are 1; any other 0 / 0 is 0.
    """
    right, n_found = int((pairs >= 0).sum()), len(pairs)
    if n_found + n_cells == 0:
        return {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    return {
        "precision": right / max(n_found, 1),
        "recall": right / max(n_cells, 1),
        "f1": 2 * right / (n_found + n_cells),
    }


def best_threshold(found: Detections, cells: Cells, radius: float, size: int | None = None, steps: int = 40) -> float:
    """Return the threshold on scores with the highest F1, of `steps` quantiles of the scores; give validation images.

    Parameters
    ----------
    found : `Detections` with a threshold so low that all that may matter are there, already without their
        non-maxima: only whole detections fall away as the threshold rises.
    """
    if not len(found.scores):
        raise ValueError("no detection to choose a threshold from; lower the threshold of the candidates")
    thresholds = np.unique(np.quantile(found.scores, np.linspace(0, 1, steps, endpoint=False), method="lower"))
    order = np.argsort(-found.scores, kind="stable")
    rows, columns, _ = _candidates(found, cells, radius, size)
    right = np.concatenate([[0], gains(rows, columns, order).cumsum()])
    n_found = np.searchsorted(-found.scores[order], -thresholds, side="right")
    return float(thresholds[int(np.argmax(2 * right[n_found] / (n_found + len(cells.centres))))])


def of_images(points, numbers: np.ndarray):
    """Return the part of `Detections` or `Cells` that lies in the images numbered so, in that order."""
    rows = np.concatenate([np.empty(0, np.int64), *(np.arange(*points.offsets[i : i + 2]) for i in numbers)])
    offsets = np.concatenate([[0], np.diff(points.offsets)[numbers].cumsum()])
    others = {field.name: getattr(points, field.name)[rows] for field in fields(points) if field.name != "offsets"}
    return replace(points, offsets=offsets, **others)


def score(found, holograms: Holograms, numbers: np.ndarray, radius: float) -> dict[str, float]:
    """Return precision, recall, F1 and recall by class, in percent, of detections in the images numbered so."""
    cells = of_images(holograms.cells, numbers)
    pairs = match(found, cells, radius, holograms.images.shape[1] if holograms.simulated else None)
    seen = true_labels(pairs, cells)
    result = scores(pairs, len(cells.labels))
    for k in np.unique(cells.labels):
        result[f"recall_{CLASSES[k]}"] = (seen == k).sum() / (cells.labels == k).sum()
    return {name: 100 * float(value) for name, value in result.items()}
