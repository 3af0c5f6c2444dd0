"""Judge runs by DICE of masks, scores of detections, thresholds, exclusive recall (Section 4.1).

A detection is right if a one-to-one matching with the wanted objects of its image gives it one: as many pairs within a
radius between centres, or with an IoU, as can be, the closest such. The paper states neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.datasets.localised.localised import Localised
from shared.points.matching import assign, gains, pairs_within

LEVELS = 1023  # quantiles of the probabilities that are tried as thresholds


def dice(predicted: np.ndarray, true: np.ndarray) -> float:
    """Return 2 |A and B| / (|A| + |B|) of two bool masks of equal shape; 1 of empty ones (the official code: NaN)."""
    if predicted.shape != true.shape:
        raise ValueError(f"a mask of shape {predicted.shape} cannot be compared with one of {true.shape}")
    area = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / area if area else 1.0


def dice_per_image(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> float:
    """Return the mean of `dice` over images, whose sizes may differ."""
    return float(np.mean([dice(*pair) for pair in _checked(predicted, true)]))


def dice_batch(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> float:
    """Return `dice` over the pixels of all images together."""
    pairs = _checked(predicted, true)
    return dice(*(np.concatenate([np.ravel(masks[side]) for masks in pairs]) for side in (0, 1)))


def dice_batches(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray], batch: int) -> float | None:
    """Return DICE as the authors' example has it: the mean over batches of images in their order, pixels put together.

    Parameters
    ----------
    predicted, true : (H, W) bool of each image, whose sizes may differ.
    batch : images a batch; the last one has what is left, and counts as much as the others.

    Returns
    -------
    float or None
        None where neither has a pixel in a whole batch: there the authors' mean is NaN, which a record cannot hold.
    """
    pairs = _checked(predicted, true)
    parts = [list(zip(*pairs[start : start + batch], strict=True)) for start in range(0, len(pairs), batch)]
    if any(not mask.any() for mask in (np.concatenate([m.ravel() for m in (*a, *b)]) for a, b in parts)):
        return None
    return float(np.mean([dice_batch(*part) for part in parts]))


def tuned_dice(probabilities: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the threshold with the best mean DICE and that DICE; of equally good ones the highest.

    Tried are quantiles of all probabilities together, in equal steps: a model that has learned to say no nearly
    everywhere has the best threshold far below the first of a uniform grid. Predicted is p >= threshold.

    Parameters
    ----------
    probabilities, true : of each image, (H, W) and (H, W) bool; give validation images.

    Raises
    ------
    ValueError
        If a probability is NaN or a pair differs in size; it names the image.
    """
    pairs = _checked(probabilities, true)
    everything = np.concatenate([np.ravel(p) for p, _ in pairs])
    levels = np.unique(np.quantile(everything, np.linspace(0, 1, LEVELS), method="inverted_cdf"))
    total = np.zeros(len(levels))
    for p, mask in pairs:
        reached = np.searchsorted(levels, p.ravel(), side="right")
        counts = [np.bincount(part, minlength=len(levels) + 1) for part in (reached, reached[mask.ravel()])]
        found, right = (count[::-1].cumsum()[-2::-1] for count in counts)  # at or above each level
        area = found + mask.sum()
        total += np.where(area > 0, 2 * right / np.maximum(area, 1), 1.0)
    best = len(levels) - 1 - int(np.argmax(total[::-1]))
    return float(levels[best]), float(total[best] / len(pairs))


@dataclass(frozen=True, eq=False)
class Found:
    """Hold F detections in n images, image after image.

    Attributes
    ----------
    offsets : (n + 1,) int64.
    centres : (F, 2) float32, row and column.
    boxes : (F, 4) float32, top, left, bottom, right.
    scores : (F,) float32, what thresholds are put on.
    """

    offsets: np.ndarray
    centres: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def __post_init__(self):
        if not np.isfinite(self.scores).all():
            row = int(np.flatnonzero(~np.isfinite(self.scores))[0])
            raise ValueError(f"detection {row} has the score {self.scores[row]}; the model has diverged")

    def above(self, threshold: float) -> Found:
        """Return those with a score of at least `threshold`."""
        kept = self.scores >= threshold
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets]
        return Found(offsets, self.centres[kept], self.boxes[kept], self.scores[kept])


def nothing(n: int) -> Found:
    """Return no detection in any of n images: a trivial predictor."""
    return Found(np.zeros(n + 1, np.int64), *(np.empty((0, *shape), np.float32) for shape in ((2,), (4,), ())))


def everything(data: Localised, numbers: np.ndarray, radius: float) -> Found:
    """Return a detection on every point of a square grid of spacing `radius`, boxes 2 `radius` a side: trivial, too."""
    grids = []
    for i in numbers:
        rows, columns = (np.arange(radius / 2, side, radius) for side in data.images[i].shape[:2])
        grids.append(np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2))
    centres = np.concatenate([np.empty((0, 2)), *grids]).astype(np.float32)
    offsets = np.cumsum([0] + [len(grid) for grid in grids])
    boxes = np.hstack([centres - np.float32(radius), centres + np.float32(radius)])
    return Found(offsets, centres, boxes, np.ones(len(centres), np.float32))


def partners(
    found: Found, data: Localised, numbers: np.ndarray, wanted: np.ndarray, radius: float = 0, iou: float | None = None
) -> np.ndarray:
    """Return the object of each detection, (F,) int64 row of `data`, or -1.

    Parameters
    ----------
    found : in the images of `data` numbered `numbers`, in that order.
    wanted : (M,) bool, objects that count.
    radius : largest distance of centres, in pixels, included.
    iou : smallest IoU of boxes, included, positive; if given, it decides instead of `radius`.
    """
    rows, columns, cost = _candidates(found, data, numbers, wanted, radius, iou)
    return assign(rows, columns, cost, len(found.scores))


def scores(
    found: Found, data: Localised, numbers: np.ndarray, wanted: np.ndarray, radius: float = 0, iou: float | None = None
) -> dict[str, float]:
    """Return precision, recall and F1 over all images together; see `partners`.

    Where there is neither a detection nor a wanted object, all are 1; any other 0 / 0 is 0.
    """
    right = int((partners(found, data, numbers, wanted, radius, iou) >= 0).sum())
    n_found, n_true = len(found.scores), len(_rows(data, numbers, wanted))
    if n_found + n_true == 0:
        return {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    parts = right / max(n_found, 1), right / max(n_true, 1), 2 * right / (n_found + n_true)
    return dict(zip(("precision", "recall", "f1"), parts, strict=True))


def best_threshold(
    found: Found, data: Localised, numbers: np.ndarray, wanted: np.ndarray, radius: float
) -> tuple[float, float]:
    """Return the threshold with the best F1, of all there are, and that F1; of equally good ones the highest.

    `found` holds all detections that may matter, without their non-maxima: only whole detections fall away as the
    threshold rises. Without any detection the threshold is 1.
    """
    n_true = len(_rows(data, numbers, wanted))
    if not len(found.scores):
        return 1.0, float(n_true == 0)
    order = np.argsort(-found.scores, kind="stable")
    rows, columns, _ = _candidates(found, data, numbers, wanted, radius, None)
    right = gains(rows, columns, order).cumsum()
    falling = found.scores[order]
    last = np.flatnonzero(np.append(falling[1:] < falling[:-1], True))  # of the detections of equal score
    f1 = 2 * right[last] / (last + 1 + n_true)
    best = int(np.argmax(f1))
    return float(falling[last[best]]), float(f1[best])


def radius_sensitivity(
    found: Found, data: Localised, numbers: np.ndarray, wanted: np.ndarray, radius: float
) -> dict[str, float]:
    """Return F1 of the same detections at half and at double the radius."""
    factors = {"f1_half": 0.5, "f1_double": 2.0}
    return {name: scores(found, data, numbers, wanted, factor * radius)["f1"] for name, factor in factors.items()}


def exclusive_recall(recall: float, recall_others: float) -> float:
    """Return Rec(y) (1 - Rec(not y)), Section 4.1.

    The two recalls come from two matchings, one with the objects of the class and one with all others: a detection on
    a look-alike that touches a target counts in both.
    """
    return recall * (1 - recall_others)


def _rows(data: Localised, numbers: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the rows of the wanted objects of the images numbered so, in that order."""
    rows = np.concatenate([np.empty(0, np.int64), *(np.arange(*data.offsets[i : i + 2]) for i in numbers)])
    return rows[wanted[rows]]


def _candidates(
    found: Found, data: Localised, numbers: np.ndarray, wanted: np.ndarray, radius: float, iou: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs that may be matched: detections, rows of `data`, costs."""
    if len(found.offsets) != len(numbers) + 1:
        raise ValueError(f"detections of {len(found.offsets) - 1} images cannot be judged on {len(numbers)}")
    true = _rows(data, numbers, wanted)
    place = np.full(len(data.names), -1)
    place[numbers] = np.arange(len(numbers))
    images = (
        np.repeat(np.arange(len(numbers)), np.diff(found.offsets)),
        place[np.searchsorted(data.offsets, true, side="right") - 1],
    )
    if iou is None:
        rows, columns, cost = pairs_within(found.centres, data.centres[true], radius, images=images)
    else:
        rows, columns, cost = _pairs_overlapping(found.boxes, data.boxes[true], iou, images)
    return rows, true[columns], cost


def _pairs_overlapping(
    found: np.ndarray, true: np.ndarray, iou: float, images: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs of boxes (F, 4) and (T, 4) of one image with at least that IoU; the cost is 1 - IoU."""
    if not 0 < iou <= 1:
        raise ValueError(f"iou is {iou} where a number above 0, at most 1, is needed")
    # Boxes that overlap have their centres within half of both diagonals.
    halves = [np.hypot(*(boxes[:, 2:] - boxes[:, :2]).T).max(initial=0) / 2 for boxes in (found, true)]
    ours, theirs = ((boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (found, true))
    rows, columns, _ = pairs_within(ours, theirs, float(sum(halves)), images=images)
    a, b = found[rows].astype(float), true[columns].astype(float)
    shared = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1) for boxes in (a, b)]
    value = shared / np.maximum(areas[0] + areas[1] - shared, np.finfo(float).tiny)
    kept = value >= iou
    return rows[kept], columns[kept], 1 - value[kept]


def _checked(given: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    if len(given) != len(true) or not len(true):
        raise ValueError(f"{len(given)} predictions cannot be judged by {len(true)} masks")
    for i, (ours, mask) in enumerate(zip(given, true, strict=True)):
        if ours.shape != mask.shape:
            raise ValueError(f"image {i}: a prediction of shape {ours.shape}, a mask of {mask.shape}")
        if np.isnan(ours).any():
            raise ValueError(f"image {i}: {np.isnan(ours).sum()} probabilities are NaN; the model has diverged")
    return list(zip(given, true, strict=True))
