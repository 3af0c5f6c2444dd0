"""DICE, detection scores and thresholds of the paper ece: trivial predictors, slow counting, bad input."""

import numpy as np
import pytest

from papers.ece.metrics import (
    Found,
    best_threshold,
    dice,
    dice_batch,
    dice_batches,
    dice_per_image,
    everything,
    exclusive_recall,
    nothing,
    partners,
    radius_sensitivity,
    scores,
    tuned_dice,
)
from shared.datasets.localised.localised import of_labels

SIDE = 48


def random_of(seed):
    return np.random.Generator(np.random.PCG64(seed))


def squares(*images, side=SIDE, classes=None):
    """Images with squares of 6 pixels from the given (top, left)."""
    labels = []
    for corners in images:
        label = np.zeros((side, side), np.int32)
        for number, (top, left) in enumerate(corners, 1):
            label[top : top + 6, left : left + 6] = number
        labels.append(label)
    blank = [np.zeros((side, side, 3), np.uint8)] * len(labels)
    names = [f"image {i}" for i in range(len(labels))]
    return of_labels("squares", names, blank, labels, classes=classes, class_names=("target", "look-alike"))


def found(*images):
    """Detections of (row, column, score), boxes of 6 pixels around them."""
    rows = np.array([row for image in images for row in image], np.float32).reshape(-1, 3)
    centres = rows[:, :2]
    return Found(
        np.cumsum([0] + [len(image) for image in images]), centres, np.hstack([centres - 3, centres + 3]), rows[:, 2]
    )


def copy_of(data, numbers):
    """The truth as detections."""
    rows = [np.arange(*data.offsets[i : i + 2]) for i in numbers]
    kept = np.concatenate(rows)
    offsets = np.cumsum([0] + [len(part) for part in rows])
    return Found(offsets, data.centres[kept], data.boxes[kept], np.ones(len(kept), np.float32))


@pytest.fixture(scope="module")
def data():
    """Four images of up to nine squares on a jittered grid; every third object is a look-alike."""
    random = random_of(0)
    grid = [(row, column) for row in (4, 19, 34) for column in (4, 19, 34)]
    images = [
        [
            tuple(int(at + shift) for at, shift in zip(place, random.integers(-3, 4, 2), strict=True))
            for place in grid[:n]
        ]
        for n in (9, 4, 0, 7)
    ]
    return squares(*images, classes=[np.arange(len(image)) % 3 // 2 for image in images])


def all_of(data):
    return np.ones(len(data.centres), bool)


def test_dice_of_trivial_masks():
    random = random_of(0)
    true = [random.random((20, 30)) < 0.3, random.random((8, 8)) < 0.6]
    for score in (dice_per_image, dice_batch):
        assert score(true, true) == 1
        assert score([np.zeros_like(mask) for mask in true], true) == 0
    shares = [mask.mean() for mask in true]
    full = [np.ones_like(mask) for mask in true]
    assert dice_per_image(full, true) == pytest.approx(np.mean([2 * s / (1 + s) for s in shares]))
    share = sum(mask.sum() for mask in true) / (600 + 64)
    assert dice_batch(full, true) == pytest.approx(2 * share / (1 + share))


def test_dice_of_empty_masks_is_one_and_of_one_empty_mask_nought():
    empty, some = np.zeros((3, 3), bool), np.eye(3, dtype=bool)
    assert dice(empty, empty) == 1 and dice(empty, some) == dice(some, empty) == 0
    assert dice_per_image([empty, some], [empty, some]) == 1


def test_dice_of_batches_is_the_authors_mean():
    """Of three images in batches of two: the pixels of the first two together, the last alone with the same weight."""
    a, b, c = np.eye(3, dtype=bool), np.ones((2, 4), bool), np.tri(3, dtype=bool)
    predicted, true = [a, np.zeros_like(b), c], [np.ones_like(a), b, np.eye(3, dtype=bool)]
    assert dice_batches(predicted, true, 2) == pytest.approx((2 * 3 / (3 + 9 + 8) + 2 * 3 / (6 + 3)) / 2)
    assert dice_batches(predicted, true, 4) == dice_batch(predicted, true)
    assert dice_batches(predicted, true, 1) == dice_per_image(predicted, true)


def test_dice_of_a_batch_without_a_pixel_is_none():
    """There the authors' mean over batches is NaN, whatever the other batches are."""
    empty, some = np.zeros((3, 3), bool), np.eye(3, dtype=bool)
    assert dice_batches([some, some, empty], [some, some, empty], 2) is None
    assert dice_batches([some, some, empty], [some, some, some], 2) == 0.5
    assert dice_batches([empty, some], [empty, some], 2) == 1


def test_dice_counts_pixels():
    assert dice(np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 1], bool)) == 2 / 5


def test_masks_of_another_size_and_nan_are_named():
    masks = [np.zeros((4, 4), bool)] * 2
    for score in (dice_per_image, dice_batch, tuned_dice, lambda *masks: dice_batches(*masks, 4)):
        with pytest.raises(ValueError, match=r"image 1.*\(4, 5\).*\(4, 4\)"):
            score([masks[0], np.zeros((4, 5))], masks)
        with pytest.raises(ValueError, match="1 predictions.*2 masks"):
            score(masks[:1], masks)
    with pytest.raises(ValueError, match="image 1: 16 probabilities are NaN"):
        tuned_dice([np.zeros((4, 4)), np.full((4, 4), np.nan)], masks)


def test_the_tuned_threshold_is_the_best_of_all_on_few_values():
    """Every value of so few is a quantile, so nothing may be better."""
    for seed in range(6):
        random = random_of(seed)
        true = [random.random(shape) < 0.2 for shape in ((12, 9), (10, 10), (7, 11))] + [np.zeros((5, 5), bool)]
        p = [np.clip(0.3 * mask + random.uniform(0, 0.5, mask.shape), 0, 1).astype(np.float32) for mask in true]
        tried = np.unique(np.concatenate([np.ravel(image) for image in p]))
        all_dice = [dice_per_image([image >= t for image in p], true) for t in tried]
        threshold, best = tuned_dice(p, true)
        assert best == pytest.approx(max(all_dice))
        assert dice_per_image([image >= threshold for image in p], true) == pytest.approx(best)


def test_the_tuned_threshold_finds_objects_at_tiny_probabilities():
    """A collapsed model still ranks; a uniform grid of 256 thresholds would call everything an object."""
    random = random_of(1)
    true = [random.random((64, 64)) < 0.1 for _ in range(3)]
    p = [(np.where(mask, 2e-3, 1e-3) * random.uniform(0.8, 1.2, mask.shape)).astype(np.float32) for mask in true]
    threshold, best = tuned_dice(p, true)
    assert best > 0.99 and 1.2e-3 <= threshold <= 1.7e-3


def test_trivial_detectors(data):
    numbers, wanted = np.arange(4), all_of(data)
    n = len(data.centres)
    assert scores(copy_of(data, numbers), data, numbers, wanted, 0) == {"precision": 1, "recall": 1, "f1": 1}
    assert scores(copy_of(data, numbers), data, numbers, wanted, iou=1) == {"precision": 1, "recall": 1, "f1": 1}
    assert scores(nothing(4), data, numbers, wanted, 4) == {"precision": 0, "recall": 0, "f1": 0}
    grid = everything(data, numbers, 4)
    assert len(grid.scores) == 4 * 12**2
    full = scores(grid, data, numbers, wanted, 4)
    assert full["recall"] == 1 and full["precision"] == n / 576 and full["f1"] == pytest.approx(2 * n / (n + 576))
    assert scores(nothing(1), data, [2], wanted, 4) == {"precision": 1, "recall": 1, "f1": 1}
    assert scores(everything(data, [2], 4), data, [2], wanted, 4) == {"precision": 0, "recall": 0, "f1": 0}


def test_only_wanted_objects_of_the_numbered_images_count(data):
    numbers, wanted = np.array([3, 0]), data.classes == 0
    copy = copy_of(data, numbers)
    partner = partners(copy, data, numbers, wanted, 1.0)
    rows = np.concatenate([np.arange(*data.offsets[i : i + 2]) for i in numbers])
    assert partner.tolist() == np.where(wanted[rows], rows, -1).tolist()
    found_of = scores(copy, data, numbers, wanted, 1.0)
    assert found_of["recall"] == 1 and found_of["precision"] == pytest.approx(wanted[rows].mean())


def test_objects_of_another_image_are_out_of_reach():
    data = squares([(10, 10)], [])
    assert scores(found([], [(13, 13, 1)]), data, [0, 1], all_of(data), 5)["f1"] == 0
    assert scores(found([], [(13, 13, 1)]), data, [1, 0], all_of(data), 5)["f1"] == 1


def test_an_object_is_found_once():
    data = squares([(10, 10)])
    twice = scores(found([(13, 13, 0.9), (13, 14, 0.8)]), data, [0], all_of(data), 5)
    assert twice == {"precision": 0.5, "recall": 1, "f1": pytest.approx(2 / 3)}


def test_boxes_are_matched_by_their_iou():
    """Shifted by 2 of 6 pixels: 24 of 48 pixels are in both."""
    data, shifted = squares([(10, 10)]), found([(15, 13, 1)])
    assert scores(shifted, data, [0], all_of(data), iou=0.5)["f1"] == 1
    assert scores(shifted, data, [0], all_of(data), iou=0.51)["f1"] == 0
    beside = found([(13, 19, 1)])
    assert scores(beside, data, [0], all_of(data), iou=0.01)["f1"] == 0
    with pytest.raises(ValueError, match="iou is 0"):
        scores(beside, data, [0], all_of(data), iou=0)


def test_a_large_box_meets_a_small_one_far_from_its_centre():
    label = np.zeros((SIDE, SIDE), np.int32)
    label[2:46, 2:46] = 1
    data = of_labels("one", ["a"], [np.zeros((SIDE, SIDE, 3), np.uint8)], [label])
    small = Found(np.array([0, 1]), np.zeros((1, 2)), np.array([[2, 2, 46, 20]], np.float32), np.ones(1))
    assert partners(small, data, [0], all_of(data), iou=18 / 44).tolist() == [0]


def test_the_best_threshold_is_the_best_of_all_scores(data):
    for seed in range(8):
        random = random_of(seed)
        images = []
        for i in range(4):
            near = data.centres[data.offsets[i] : data.offsets[i + 1]] + random.normal(
                0, 2, (np.diff(data.offsets)[i], 2)
            )
            places = np.vstack([near, random.uniform(0, SIDE, (6, 2))])
            score = np.r_[random.uniform(0.3, 1, len(near)), random.uniform(0, 0.7, 6)].round(1 + seed % 2)
            images.append(np.column_stack([places, score]))
        ours, numbers, wanted = found(*images), np.arange(4), data.classes == 0
        tried = {t: scores(ours.above(t), data, numbers, wanted, 4)["f1"] for t in np.unique(ours.scores)}
        threshold, f1 = best_threshold(ours, data, numbers, wanted, 4)
        assert f1 == pytest.approx(max(tried.values()))
        assert threshold == max(t for t, value in tried.items() if value == max(tried.values()))


def test_a_detector_that_finds_nothing_has_a_threshold(data):
    assert best_threshold(nothing(4), data, np.arange(4), all_of(data), 4) == (1.0, 0.0)
    assert best_threshold(nothing(1), data, [2], all_of(data), 4) == (1.0, 1.0)


def test_above_keeps_images_apart():
    kept = found([(1, 1, 0.2), (2, 2, 0.7)], [], [(3, 3, 0.5)]).above(0.5)
    assert kept.offsets.tolist() == [0, 1, 1, 2] and kept.centres[:, 0].tolist() == [2, 3]
    assert kept.boxes[:, 0].tolist() == [-1, 0]


def test_half_and_double_the_radius():
    data = squares([(10, 10), (30, 30)])
    ours = found([(13, 15, 1), (33, 39, 1)])
    assert scores(ours, data, [0], all_of(data), 4)["f1"] == 0.5
    assert radius_sensitivity(ours, data, [0], all_of(data), 4) == {"f1_half": 0.5, "f1_double": 1}
    assert radius_sensitivity(ours, data, [0], all_of(data), 3) == {"f1_half": 0, "f1_double": 1}


def test_exclusive_recall_is_lowered_by_the_other_classes(data):
    numbers = np.arange(4)
    copy = copy_of(data, numbers)
    recalls = [scores(copy, data, numbers, data.classes == k, 1)["recall"] for k in (0, 1)]
    assert recalls == [1, 1] and exclusive_recall(*recalls) == 0
    assert exclusive_recall(0.8, 0.25) == pytest.approx(0.6)


def test_detections_of_other_images_and_nan_scores_are_refused(data):
    with pytest.raises(ValueError, match="2 images.*on 4"):
        scores(nothing(2), data, np.arange(4), all_of(data), 4)
    with pytest.raises(ValueError, match="detection 1 has the score nan"):
        found([(1, 1, 0.5), (2, 2, np.nan)])
