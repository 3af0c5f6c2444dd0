"""Donors of real cells and the error of proportions. Wrong here, and test cells are trained on, a class is counted as
another, or Tables 2 and 3 show a number that is no mean absolute error.
"""

import numpy as np
import pytest
import torch

from papers.mle_llp.data import Data
from papers.vp_dsd import data as vp_data
from papers.vp_dsd.learning import donors
from papers.vp_dsd.learning.donors import assigned_proportions, dealt, draw_donors, merged, proportion_error
from papers.vp_dsd.names import CLASSES
from shared.bags import BagError
from shared.config import find
from shared.datasets import DatasetError
from shared.training import Inputs

SPEC = find("vp_dsd", "quick", "wbc_stained/kl/seed0").spec.but(
    train_subjects=60, validation_subjects=5, test_subjects=20
)
LABELS = np.random.default_rng(0).choice(3, 300, p=[0.2, 0.2, 0.6])
RNG, CPU = np.random.default_rng(1), torch.device("cpu")


def drawn(labels=LABELS, n_train=200, **more):
    return draw_donors(SPEC.but(**more), labels, n_train)


def same(one, other):
    names = ("indices", "offsets", "proportions")
    return all(np.array_equal(getattr(one.bags, name), getattr(other.bags, name)) for name in names)


class TestDonors:
    """The same spec, the same donors; more of them, or other labels' noise, leave the rest as it is."""

    def test_test_donors_have_cells_of_their_own(self):
        found = drawn()
        assert {split: len(found[split].bags) for split in found} == {"train": 60, "validation": 5, "test": 20}
        assert found["test"].bags.indices.min() >= 200 > found["train"].bags.indices.max()
        assert found["validation"].bags.indices.max() < 200
        assert (found["train"].bags.sizes == 100).all()

    def test_equal_seeds_draw_equal_donors(self):
        one, again, other = drawn(), drawn(), drawn(seed=1)
        assert all(same(one[split], again[split]) for split in one)
        assert not any(same(one[split], other[split]) for split in one)

    def test_more_donors_begin_with_the_same_ones(self):
        few, many = drawn(train_subjects=10)["train"], drawn()["train"]
        np.testing.assert_array_equal(few.bags.indices, many.bags.indices[:1000])
        np.testing.assert_array_equal(few.bags.proportions, many.bags.proportions[:10])

    def test_the_count_is_noise_on_the_label_alone(self):
        one, exact = drawn()["train"], drawn(cbc_cells=10**9)["train"]
        np.testing.assert_array_equal(one.bags.indices, exact.bags.indices)
        np.testing.assert_allclose(exact.bags.proportions, exact.truth, atol=1e-3)
        # the standard deviation of a count of 100, with three of its standard errors of room
        noise = (one.bags.proportions - one.truth) / np.sqrt(one.truth * (1 - one.truth) / 100)
        np.testing.assert_allclose(noise.std(0), 1, atol=3 / np.sqrt(2 * 60))
        np.testing.assert_allclose(100 * one.bags.proportions, np.rint(100 * one.bags.proportions), atol=1e-9)

    def test_cells_follow_the_donor_and_donors_the_mean(self):
        found = drawn(train_subjects=300)["train"]
        shares = np.eye(3)[LABELS[found.bags.indices]].reshape(300, 100, 3).mean(1)
        spread = np.sqrt(found.truth * (1 - found.truth) / 100)
        assert np.abs((shares - found.truth) / spread).mean() < 1  # sqrt(2 / pi) if right
        np.testing.assert_allclose(found.truth.mean(0), [0.31, 0.07, 0.62], atol=0.02)  # fewer monocytes by the limit
        assert found.truth[:, 1].max() < 0.12

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            ({"donor_cells": 0}, "donor_cells >= 1"),
            ({"cbc_cells": 0}, "cbc_cells >= 1"),
            ({"mean_proportions": [0.5, 0.1, 0.3]}, "sum to 1"),
            ({"monocyte_limit": 0.05}, "monocyte_limit"),
            ({"labels": np.where(LABELS == 1, 0, LABELS)}, "no monocyte among the 200 cells that train donors"),
            ({"labels": LABELS + 1}, "0..2, found 1..3"),
            ({"n_train": 300}, "among the 0 cells that test donors"),
        ],
    )
    def test_what_cannot_be_is_refused_by_name(self, more, says):
        with pytest.raises(ValueError, match=says):
            drawn(**more)


class TestFolds:
    """Seeds of one fold test on the same cells and are no repetitions; those of two folds share no test cell."""

    def test_every_cell_is_in_one_test_set(self):
        tests = []
        for fold in range(5):
            order, n_train = dealt(LABELS, 5, fold)
            assert np.array_equal(np.sort(order), np.arange(300))
            tests.append(order[n_train:])
            counts, whole = np.bincount(LABELS[tests[-1]]), np.bincount(LABELS)
            assert (np.abs(counts - whole / 5) < 1).all(), "a fifth of each class"
        assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(300))

    def test_they_are_the_same_each_time(self):
        assert all(np.array_equal(dealt(LABELS, 5, k)[0], dealt(LABELS, 5, k)[0]) for k in range(5))

    def test_one_fold_would_train_on_nothing(self):
        with pytest.raises(BagError, match="folds >= 2"):
            dealt(LABELS, 1, 0)

    def test_a_run_names_its_fold(self, monkeypatch):
        cells = Data(Inputs(RNG.normal(size=(300, 40)).astype(np.float32), CPU), LABELS, 240, None, CLASSES, {})
        monkeypatch.setattr(vp_data, "stained_cells", lambda device: cells)
        for seed, fold in ((0, 0), (7, 2)):
            found = vp_data.data_of(SPEC.but(seed=seed), CPU, {})
            assert found.cluster == f"fold {fold}"
            order, n_train = dealt(LABELS, 5, fold)
            assert np.array_equal(found.labels, LABELS[order])
            assert found.test.indices.min() >= n_train > found.train.indices.max()


def test_subtypes_merge_into_the_classes_of_the_holograms():
    names = ("neutrophil", "lymphocyte", "monocyte", "eosinophil")
    assert [CLASSES[k] for k in merged(np.arange(4), names)] == ["granulocyte", "lymphocyte", "monocyte", "granulocyte"]
    with pytest.raises(BagError, match="'platelet'"):
        merged(np.arange(2), ("monocyte", "platelet"))


def test_without_the_stained_cells_it_says_what_to_run(tmp_path, monkeypatch):
    """Optional data: a run is then reported as not run, for this reason."""
    monkeypatch.setenv("LLP_DATA", str(tmp_path))
    donors.data_of.cache_clear()
    with pytest.raises(DatasetError, match="fetch wbc_stained"):
        donors.stained_cells(torch.device("cpu"))


class TestError:
    """Mean absolute error of the proportions, in percent points, after hard assignment."""

    def test_cells_are_counted_not_averaged(self):
        p = np.array([[0.4, 0.3, 0.3], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7], [0.0, 0.1, 0.9]])
        np.testing.assert_array_equal(assigned_proportions(p, np.array([0, 2, 4])), [[1, 0, 0], [0, 0, 1]])
        np.testing.assert_allclose(assigned_proportions(p, np.array([0, 3, 4])), [[2 / 3, 0, 1 / 3], [0, 0, 1]])

    def test_known_errors(self):
        truth = np.array([[0.3, 0.1, 0.6], [0.2, 0.2, 0.6]])
        assert proportion_error(truth, truth)["average"] == 0
        found = proportion_error(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), truth)
        assert found == pytest.approx({"lymphocyte": 25, "monocyte": 15, "granulocyte": 40, "average": 80 / 3})
        assert list(found) == [*CLASSES, "average"]

    @pytest.mark.parametrize(
        ("predicted", "says"),
        [
            (np.full((2, 3), 0.4), "subject 0 sum to 1.2"),
            (np.array([[0, 0, 1], [np.nan, 0, 1]]), "subject 1 sum to nan"),
            (np.ones((1, 3)) / 3, "predicted proportions for"),
        ],
    )
    def test_no_proportions(self, predicted, says):
        with pytest.raises(BagError, match=says):
            proportion_error(predicted, np.ones((2, 3)) / 3)

    @pytest.mark.parametrize(("offsets", "says"), [([0, 2, 2, 4], "bag 1 has no cell"), ([0, 2], "0 to the 4 cells")])
    def test_subjects_without_cells(self, offsets, says):
        with pytest.raises(BagError, match=says):
            assigned_proportions(np.ones((4, 3)) / 3, np.array(offsets))
