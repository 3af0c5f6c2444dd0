"""What a measure still gains in the last quarter of training, and how sure that is."""

import math

import numpy as np
import pytest

from shared.training.convergence import quarter_gains


def test_a_straight_line_gains_a_quarter_of_its_rise_without_error():
    found = quarter_gains({"test_accuracy": [60 + 0.37 * epoch for epoch in range(8)]})["accuracy"]
    assert found["gain"] == pytest.approx(0.74) and found["epochs"] == 2
    assert found["gain"] / found["epochs"] == pytest.approx(0.37)
    assert found["error"] == pytest.approx(0, abs=1e-9)


def test_a_course_at_rest_gains_nothing_and_a_falling_one_less():
    assert quarter_gains({"test_error": [5.0] * 8})["error"]["gain"] == 0
    assert quarter_gains({"test_error": [8, 7, 6, 5, 4, 3, 2, 1]})["error"]["gain"] == -2


def test_the_error_is_that_of_repeated_noise():
    rng = np.random.default_rng(0)
    found = [quarter_gains({"test_accuracy": rng.normal(0, 1.5, 40)})["accuracy"] for _ in range(400)]
    spread = np.std([f["gain"] for f in found])
    assert spread == pytest.approx(1.5 * math.sqrt(2 / 10), rel=0.1)
    assert np.sqrt(np.mean([f["error"] ** 2 for f in found])) == pytest.approx(spread, rel=0.15)


def test_an_earlier_stage_has_its_own_name_and_other_curves_are_no_courses():
    curves = {"first_test_accuracy": [1, 2], "test_accuracy": [3, 3], "latest_accuracy": [1, 2], "train_loss": [2, 1]}
    assert list(quarter_gains(curves)) == ["first accuracy", "accuracy"]
    assert quarter_gains(curves)["first accuracy"] == {"gain": 1.0, "error": None, "epochs": 1}


@pytest.mark.parametrize("values", [[], [50.0]])
def test_a_course_without_a_past_says_nothing(values):
    assert quarter_gains({"test_accuracy": values}) == {}


@pytest.mark.parametrize(("epochs", "quarter"), [(2, 1), (5, 1), (6, 2), (8, 2), (60, 15)])
def test_a_quarter_is_of_whole_epochs(epochs, quarter):
    assert quarter_gains({"test_accuracy": list(range(epochs))})["accuracy"]["epochs"] == quarter


def test_what_was_not_evaluated_counts_only_where_it_is_needed():
    assert quarter_gains({"test_dice": [None] * 4 + [0.5, 0.5, 0.7, 0.7]})["dice"]["gain"] == pytest.approx(0.2)
    assert quarter_gains({"test_dice": [0.1] * 7 + [None]}) == {}
