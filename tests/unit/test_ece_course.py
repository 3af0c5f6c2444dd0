"""Epochs of the loop, and the course of what is judged over the last half of them, which changes nothing."""

import math

import numpy as np
import pytest
import torch

from papers.ece import course, weak
from papers.ece import task_detection as detecting
from papers.ece import task_segmentation as segmenting
from papers.ece.course import EPOCHS, LEAST, SHARE, following, laid_out, padded, watched
from shared.config import plan
from shared.training.convergence import quarter_gains
from tests.unit import test_ece_detection as boxes
from tests.unit import test_ece_segmentation as masks

SPEC = plan("ece", "paper")[1].spec.but(batch=4, crop=16)
TASKS = {
    "segmentation": (
        segmenting,
        "segment",
        masks.SPEC.but(steps=24),
        masks.tissue,
        {"dice", "dice_batches", "dice_tuned"},
    ),
    "detection": (detecting, "detect", boxes.SPEC.but(steps=16), boxes.tissue, {"f1", "f1_tuned", "exclusive_recall"}),
}


@pytest.mark.parametrize(
    ("steps", "n"), [(6, 4), (80, 24), (90, 24), (500, 33), (2700, 33), (4500, 60), (0, 33), (3, 50)]
)
def test_the_updates_are_those_of_the_spec_in_about_twelve_epochs(steps, n):
    spec = SPEC.but(steps=steps, nominal_epochs=300)
    wanted = steps or 300 * math.ceil(n / 4)
    images, epochs, per_epoch = laid_out(spec, n)
    assert abs(epochs * per_epoch - wanted) <= max(per_epoch / 2, per_epoch - wanted)
    assert epochs <= 2 * EPOCHS and (epochs >= EPOCHS / 2 or len(images) == n)
    assert np.bincount(images, minlength=n).tolist() == [len(images) // n] * n


def test_what_is_followed_are_the_two_quarters_that_convergence_compares():
    class Method:
        step = 0

    for epochs in range(1, 30):
        method, curves = Method(), {"epoch": [], "train_loss": []}
        evaluate = following(epochs, 7, lambda method: {"dice": method.step / 7})
        for epoch in range(1, epochs + 1):
            method.step = 7 * epoch
            for name, value in {"epoch": epoch, "train_loss": 1.0, **evaluate(method)}.items():
                curves.setdefault(name, []).append(value)
        found = padded(curves)["test_dice"]
        assert len(found) == epochs and found.count(None) >= epochs / 2 - 2
        if epochs > 1:
            course = quarter_gains({"test_dice": found})["dice"]
            assert course["gain"] == course["epochs"] == max(1, round(epochs / 4))


@pytest.mark.parametrize(("steps", "expected"), [(2, LEAST), (2700, 5)])
def test_all_images_are_judged_along_the_way_only_where_that_costs_little(steps, expected):
    material = masks.tissue(12)
    material.splits[:] = [0] * 2 + [1] * 5 + [2] * 5
    spec = SPEC.but(steps=steps)
    numbers = watched(spec, material, 2)
    assert len(numbers) == expected and set(numbers) <= set(range(7, 12)) and len(set(numbers)) == len(numbers)
    if expected > LEAST:
        read = EPOCHS * sum(np.prod(material.data.images[i].shape[:2]) for i in numbers)
        assert read <= SHARE * 3 * steps * spec.batch * spec.crop**2


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("task", TASKS)
def test_following_a_training_does_not_change_it(task, monkeypatch):
    """Neither random numbers, nor batch statistics, nor what a network keeps of its last input."""
    module, run, spec, tissue, names = TASKS[task]
    material = tissue()
    monkeypatch.setattr(module, "material_of", lambda spec: material)
    followed = getattr(module, run)(spec, torch.device("cpu"), {})
    monkeypatch.setattr(course, "following", lambda *_: lambda method: {})
    alone = getattr(module, run)(spec, torch.device("cpu"), {})
    assert followed.metrics == alone.metrics and followed.curves["train_loss"] == alone.curves["train_loss"]
    for ours, theirs in zip(*(r.method.network.state_dict().values() for r in (followed, alone)), strict=True):
        assert torch.equal(ours, theirs)
    courses = quarter_gains(followed.curves)
    assert set(courses) == names and not quarter_gains(alone.curves)
    for name in names:  # all of these few images are judged along the way: the last value is the result
        assert followed.curves[f"test_{name}"][-1] == followed.metrics["last"][name]


@pytest.mark.parametrize("task", TASKS)
def test_earlier_rounds_of_weak_supervision_have_their_course(task, monkeypatch):
    module, run, _, tissue, names = TASKS[task]
    material = tissue()
    monkeypatch.setattr(module, "material_of", lambda spec: material)
    result = getattr(module, run)(
        {"segmentation": masks, "detection": boxes}[task].WEAK.but(steps=8), torch.device("cpu"), {}
    )
    expected = {f"{stage}{name}" for stage in ("", "round1 ", "round2 ") for name in names}
    assert set(quarter_gains(result.curves)) == expected


def test_a_round_of_other_code_or_data_is_not_gone_on_with(tmp_path):
    fitted = []

    def fit_round(labels, number, session):
        fitted.append((number, session["key"]))
        return None if number == 1 else (number, {"curves": {}, "train_s": 1.0})

    for key in ("spec-old", "spec-new", "spec-new"):
        session = {"checkpoint": tmp_path / "run.pt", "key": key}
        assert weak.trained(1, [np.zeros(2)], fit_round, lambda labels, method: [labels[0] + 1], session) is None
    first = [key for number, key in fitted if number == 0]
    assert first == ["spec-old/0", "spec-new/0"], "a round of other code was taken, or one was trained twice"
