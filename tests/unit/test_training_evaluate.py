"""Evaluation: percent, bag loss and selection as a person would compute them by hand; devices that are not there."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shared.bags import Bags
from shared.config import ConfigError
from shared.training import Inputs, accuracy, bag_loss, device, peak_memory_mb, prepare_device, select

CPU = torch.device("cpu")
CURVES = {
    "epoch": [1, 2, 3, 4],
    "test_accuracy": [10.0, 40.0, 40.0, 30.0],
    "validation_loss": [2.0, 1.5, 0.5, 0.5],
}


def oracle_of(rows):
    """A method that reads the probabilities it predicts from its inputs, and inputs that hold them."""
    method = SimpleNamespace(predict=lambda x: x)
    return method, Inputs(np.array(rows, np.float32), CPU)


def test_accuracy_is_the_percentage_of_labels_hit():
    method, inputs = oracle_of([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1]])
    assert accuracy(method, inputs, np.array([0, 1, 1])) == pytest.approx(100 * 2 / 3)
    assert accuracy(method, inputs, np.array([0, 1, 1]), batch=2) == pytest.approx(100 * 2 / 3)
    assert accuracy(method, inputs, np.array([0, 1, 1]), np.array([2, 1, 2])) == pytest.approx(100 / 3)
    assert accuracy(method, inputs, [0, 1, 0]) == 100.0


def test_bag_loss_is_the_cross_entropy_of_proportions_and_mean_prediction():
    method, inputs = oracle_of([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    proportions = np.array([[1 / 3, 2 / 3], [1.0, 0.0]])
    bags = Bags(np.array([3, 1, 2, 0]), np.array([0, 3, 4]), proportions)
    means = np.array([[1.5 / 3, 1.5 / 3], [0.5, 0.5]])
    by_hand = -(proportions * np.log(means)).sum(1).mean()
    assert by_hand == pytest.approx(math.log(2))
    assert bag_loss(method, inputs, bags) == pytest.approx(by_hand, rel=1e-6)
    assert bag_loss(method, inputs, bags, batch=2) == pytest.approx(by_hand, rel=1e-6)


def test_bag_loss_stays_finite_where_a_class_is_given_no_probability_at_all():
    method, inputs = oracle_of([[1.0, 0.0]])
    bags = Bags(np.array([0]), np.array([0, 1]), np.array([[0.0, 1.0]]))
    assert math.isfinite(bag_loss(method, inputs, bags))


def test_selection_rules_pick_the_epoch_they_name():
    chosen = select(CURVES)
    assert chosen["last"] == {"accuracy": 30.0, "epoch": 4}
    assert chosen["oracle"] == {"accuracy": 40.0, "epoch": 2}, "the first of equals"
    assert chosen["bag-validation"] == {"accuracy": 40.0, "epoch": 3}, "the first of equals"


def test_without_held_out_bags_nothing_is_called_validated():
    curves = {key: CURVES[key] for key in ("epoch", "test_accuracy")}
    assert set(select(curves)) == {"last", "oracle"}


def test_bag_validation_does_not_look_at_the_test_set():
    other = {**CURVES, "test_accuracy": [90.0, 1.0, 2.0, 3.0]}
    assert select(other)["bag-validation"]["epoch"] == select(CURVES)["bag-validation"]["epoch"]


def test_another_metric_goes_by_its_own_name():
    chosen = select({**CURVES, "test_f1": [0.1, 0.2, 0.3, 0.4]}, "test_f1", "f1")
    assert chosen["last"] == {"f1": 0.4, "epoch": 4}


def test_memory_on_the_cpu_is_what_this_process_took():
    assert 50 < peak_memory_mb(CPU) < 64_000


def test_auto_is_the_cpu_where_torch_sees_no_card(monkeypatch):
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    assert prepare_device("auto") == CPU


def test_a_card_that_is_not_there_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device 'cuda' was asked for, .* use --device cpu"):
        prepare_device("cuda")
