"""Detections: matching and its scores, thresholds, baselines, training and read-out of the detector."""

from itertools import permutations

import numpy as np
import pytest
import torch

from papers.vp_dsd.detection.layers import to_complex
from papers.vp_dsd.detection.matching import best_threshold, match, scores, true_labels
from papers.vp_dsd.detection.method import Detections, Detector, alone, amplitude_peaks, embed, softmax_peaks
from papers.vp_dsd.detection.network import DeepSparseDetector
from papers.vp_dsd.imaging.holograms import Cells
from papers.vp_dsd.imaging.optics import Optics
from shared.training import Inputs, Schedule, fit

CPU = torch.device("cpu")
OPTICS = Optics(0.637, 1.67, 200.0)
SIZE = 32
EPOCHS, BATCH = 8, 4


def detections(*images, scores=None):
    centres = np.array([point for image in images for point in image], np.float32).reshape(-1, 2)
    offsets = np.cumsum([0] + [len(image) for image in images])
    score = np.ones(len(centres)) if scores is None else np.array(scores)
    return Detections(offsets, centres, np.zeros((len(centres), 0), np.complex64), score.astype(np.float32))


def cells(*images):
    found = detections(*images)
    return Cells(found.offsets, found.centres, np.arange(len(found.centres)) % 3)


@pytest.fixture(scope="module")
def holograms():
    """12 images of five Gaussian spots each, as their sensor sees them, and where the spots are."""
    random = np.random.Generator(np.random.PCG64(0))
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), -1).reshape(-1, 2) * 8 + 3
    images, centres = [], []
    step = torch.arange(SIZE)
    for _ in range(12):
        places = grid[random.permutation(16)[:5]] + random.integers(-1, 2, (5, 2))
        far = [[(step - int(place[k]) + SIZE // 2) % SIZE - SIZE // 2 for k in (0, 1)] for place in places]
        spots = sum(torch.exp(-(r[:, None] ** 2 + c**2) / 2.0) for r, c in far)
        noise = torch.from_numpy(random.normal(size=(SIZE, SIZE)))
        images.append(OPTICS.to_sensor(torch.polar(spots, torch.full_like(spots, 2.0))).real + 0.02 * noise)
        centres.append(places)
    return torch.stack(images).float().numpy(), cells(*centres)


@pytest.fixture(scope="module")
def trained(holograms):
    return train(holograms[0])[0]


def new_detector(images):
    torch.manual_seed(0)
    network = DeepSparseDetector(OPTICS, 2, (3, 3), (3, 3), patch=5, nms=5)
    network.calibrate(torch.from_numpy(images), strength=1.0)
    return Detector(network, torch.optim.Adam(network.parameters(), 0.01), ramp=12, thresholds=(0.3, 0.5))


def train(images, **session):
    detector, bags = new_detector(images), alone(np.arange(len(images)))
    numbers = {"epochs": EPOCHS, "bags_per_batch": BATCH, "schedule": Schedule("cosine", 0.01), "seed": 0}
    fitted = fit(detector, Inputs(images, CPU), bags, evaluate=lambda method: {}, **numbers, **session)
    return detector, fitted


def test_trivial_predictors():
    truth = cells([(3, 3), (9, 20)], [], [(5, 5)])
    nothing, copy = detections([], [], []), detections([(3, 3), (9, 20)], [], [(5, 5)])
    grid = [(r, c) for r in range(0, 30, 3) for c in range(0, 30, 3)]
    everything = detections(grid, grid, grid)
    assert scores(match(nothing, truth, 4), 3) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert scores(match(copy, truth, 4), 3) == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    found = scores(match(everything, truth, 4), 3)
    assert found["recall"] == 1 and found["precision"] == 3 / 300
    assert scores(match(nothing, cells([], [], []), 4), 0) == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert scores(match(copy, cells([], [], []), 4), 0) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_matching_is_one_to_one_within_the_radius_of_its_own_image():
    truth = cells([(10, 10)], [(20, 20)])
    twice = detections([(10, 12), (10, 11)], [(10, 10)])
    assert match(twice, truth, 4).tolist() == [-1, 0, -1]
    assert match(detections([(10, 14)], []), truth, 4).tolist() == [0]
    assert match(detections([(10, 14.1)], []), truth, 4).tolist() == [-1]


def test_more_matches_go_before_closer_ones():
    """Greedy matching would take the pair at distance 1 and lose the other cell."""
    assert match(detections([(10, 10), (10, 13)]), cells([(10, 11), (10, 7)]), 3).tolist() == [1, 0]


def test_matching_wraps_around_only_when_told():
    truth, found = cells([(0.5, 31)]), detections([(31, 0)])
    assert match(found, truth, 2).tolist() == [-1] and match(found, truth, 2, size=32).tolist() == [0]


def test_matching_is_the_best_of_all_assignments():
    random = np.random.Generator(np.random.PCG64(1))
    for _ in range(20):
        ours, theirs = random.uniform(0, 10, (4, 2)), random.uniform(0, 10, (4, 2))
        apart = np.hypot(*(detections(ours).centres[:, None] - cells(theirs).centres[None]).transpose(2, 0, 1))

        def worth(pairs, apart=apart):
            near = [apart[i, j] for i, j in pairs if apart[i, j] <= 3]
            return len(near), -sum(near)

        best = max(worth(enumerate(order)) for order in permutations(range(4)))
        pairs = match(detections(ours), cells(theirs), 3)
        assert worth([(i, j) for i, j in enumerate(pairs) if j >= 0]) == pytest.approx(best)


def test_labels_of_detections_and_of_false_positives():
    truth = cells([(5, 5), (20, 5)], [(9, 9)])
    pairs = match(detections([(20, 5), (30, 30)], [(9, 8)]), truth, 4)
    assert true_labels(pairs, truth).tolist() == [1, -1, 2]
    assert true_labels(match(detections([(1, 1)]), cells([]), 4), cells([])).tolist() == [-1]


def test_matching_of_different_images_is_refused():
    with pytest.raises(ValueError, match="2 images.*of 1"):
        match(detections([], []), cells([]), 4)


def test_above_keeps_images_apart():
    found = detections([(1, 1), (2, 2)], [], [(3, 3)], scores=[0.2, 0.7, 0.5]).above(0.5)
    assert found.offsets.tolist() == [0, 1, 1, 2] and found.centres[:, 0].tolist() == [2, 3]


def test_best_threshold_parts_cells_from_false_positives():
    found = detections([(5, 5), (30, 30), (20, 5)], [(9, 9), (1, 30)], scores=[0.9, 0.3, 0.6, 0.8, 0.1])
    truth = cells([(5, 5), (20, 5)], [(9, 9)])
    assert best_threshold(found, truth, 4) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="no detection"):
        best_threshold(detections([]), cells([]), 4)


@pytest.mark.parametrize("baseline", [amplitude_peaks, softmax_peaks])
def test_baselines_find_bright_spots_and_nothing_in_noise_alone(holograms, baseline):
    images, truth = holograms
    unit = float(np.sqrt(np.mean(images**2)))
    low = 1.0 if baseline is amplitude_peaks else 0.02
    candidates = baseline(images, OPTICS, unit, low, nms=5)
    best = best_threshold(candidates, truth, 2, SIZE)
    assert scores(match(candidates.above(best), truth, 2, SIZE), len(truth.centres))["f1"] > 0.9
    whole = baseline(images, OPTICS, unit, best, nms=5)
    np.testing.assert_array_equal(whole.centres, candidates.above(best).centres)
    blank = baseline(0 * images, OPTICS, unit, best, nms=5)
    assert blank.offsets.tolist() == [0] * 13


def test_training_explains_the_holograms_and_finds_the_cells(holograms, trained):
    """Nobody told it where the cells are."""
    images, truth = holograms
    _, fitted = train(images)
    loss = fitted["curves"]["train_loss"]
    assert loss[-1] < 0.4 * loss[0]
    found = embed(trained, images)
    assert scores(match(found, truth, 2, SIZE), len(truth.centres))["f1"] > 0.9
    assert found.features.dtype == np.complex64 and found.features.shape == (len(found.centres), 2)


def test_equal_seeds_train_alike_and_a_killed_run_goes_on_to_the_same_numbers(holograms, trained, tmp_path):
    """Weights, Adam's moments and the threshold's ramp must all come back."""
    images, _ = holograms
    kept = {"key": "k", "checkpoint": tmp_path / "d.pt", "checkpoint_every": 0.0}

    def kill(fraction, numbers):
        if 0.3 < fraction:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(images, report=kill, **kept)
    resumed, _ = train(images, **kept)
    assert resumed.step == trained.step == 24
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_the_threshold_rises_over_the_first_half(holograms):
    detector, rises = new_detector(holograms[0]), []
    for detector.step in (0, 6, 12, 24):
        rises.append(detector.threshold)
    assert rises == pytest.approx([0.3, 0.4, 0.5, 0.5])


def test_embeddings_are_a_at_the_detections_whatever_the_batch(holograms, trained):
    """A, not the masked A', read at their pixels."""
    images, _ = holograms
    found, one_by_one = embed(trained, images, batch=5), embed(trained, images, batch=1)
    np.testing.assert_array_equal(found.centres, one_by_one.centres)
    np.testing.assert_allclose(found.features, one_by_one.features, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        volume = to_complex(trained.network.encode(torch.from_numpy(images))).numpy()
    image = np.repeat(np.arange(len(images)), np.diff(found.offsets))
    row, column = found.centres.astype(int).T
    np.testing.assert_allclose(volume[image, :, row, column], found.features, rtol=1e-3, atol=1e-4)


def test_images_without_a_cell_and_no_images_at_all(holograms, trained):
    images, _ = holograms
    with_blank = np.stack([images[0], np.zeros_like(images[0]), images[1]])
    found = embed(trained, with_blank)
    assert found.offsets[1] == found.offsets[2] and found.offsets[3] > found.offsets[2]
    assert embed(trained, with_blank[1:2]).features.shape == (0, 2)


def test_predict_is_the_mask(holograms, trained):
    images, _ = holograms
    found, mask = embed(trained, images[:1]), trained.predict(torch.from_numpy(images[:1]))
    assert mask.count_nonzero() == len(found.centres)
    row, column = found.centres.astype(int).T
    np.testing.assert_array_equal(mask[0, row, column], found.scores)
