"""The simulator of stained tissue: what its seed and its recipe promise."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from papers.ece.tissue import VISIBLE, Recipe, simulate
from shared.config import plan

FEW = Recipe(side=96, train_images=5, validation_images=1, test_images=2, images_per_slide=4)


@pytest.fixture(scope="module")
def made():
    return simulate(FEW, seed=1)


@pytest.fixture(scope="module")
def many():
    return simulate(Recipe(train_images=12, validation_images=0, test_images=0), seed=2)


def shares(data, kind):
    return np.array([data.masks(i, data.classes == kind).mean() for i in range(len(data.images))])


def test_what_a_data_set_holds(made):
    assert made.class_names == ("target", "look-alike") and made.simulated
    assert made.official == ("train",) * 5 + ("validation",) + ("test",) * 2
    assert made.groups == ("train-0",) * 4 + ("train-1", "validation-0", "test-0", "test-0")
    assert len(set(made.names)) == 8
    for image, label in zip(made.images, made.labels, strict=True):
        assert image.shape == (96, 96, 3) and image.dtype == np.uint8 and label.shape == (96, 96)


def test_objects_are_those_of_the_label_images(made):
    for i, label in enumerate(made.labels):
        rows = slice(*made.offsets[i : i + 2])
        numbers, sizes = np.unique(label[label > 0], return_counts=True)
        assert made.numbers[rows].tolist() == numbers.tolist()
        assert sizes.min() >= VISIBLE
        for number, (top, left, bottom, right) in zip(made.numbers[rows], made.boxes[rows].astype(int), strict=True):
            assert (label == number).sum() == (label[top:bottom, left:right] == number).sum()


def test_a_seed_says_everything(made):
    assert simulate(FEW, seed=1).sha256() == made.sha256()
    assert simulate(FEW, seed=2).sha256() != made.sha256()


def test_an_older_processor_draws_the_same():
    """The numbers of other vector instructions and of another kernel of BLAS differ in their last bits."""
    code = (
        "from papers.ece.tissue import Recipe, simulate\n"
        "recipe = Recipe(train_images=16, validation_images=0, test_images=0)\n"
        "print([simulate(recipe, seed).sha256() for seed in (1, 2)])"
    )
    older = {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4", "OPENBLAS_CORETYPE": "Nehalem"}
    said = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env=os.environ | more,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in ({}, older)
    ]
    assert said[0] == said[1] and "," in said[0]


def test_more_images_change_no_other(made):
    more = simulate(replace(FEW, train_images=9, test_images=3), seed=1)
    for i, name in enumerate(made.names):
        j = more.names.index(name)
        assert (more.images[j] == made.images[i]).all() and (more.labels[j] == made.labels[i]).all()


@pytest.mark.parametrize("change", [{"noise": 0.2}, {"blur": 2.0}, {"stain_spread": 0.5}, {"debris": 60.0}])
def test_what_disturbs_images_moves_no_nucleus(made, change):
    disturbed = simulate(replace(FEW, **change), seed=1)
    assert all((ours == theirs).all() for ours, theirs in zip(made.labels, disturbed.labels, strict=True))
    assert (disturbed.classes == made.classes).all()
    assert np.abs(disturbed.images[0].astype(int) - made.images[0]).mean() > 1


def test_numbers_and_sizes_of_nuclei_are_the_recipes(many):
    image = np.repeat(np.arange(12), np.diff(many.offsets))
    for kind, (least, most) in enumerate(((20, 40), (10, 20))):
        counts = np.bincount(image[many.classes == kind], minlength=12)
        assert counts.max() <= most and counts.min() >= least - 3  # a few may be hidden
        assert len(set(counts)) > 3
    assert 0.12 < shares(many, 0).mean() < 0.2 and 0.04 < shares(many, 1).mean() < 0.12


def test_nuclei_touch_and_overlap(many):
    """Else finding them apart would be no task."""
    touching = 0
    for label in many.labels:
        for a, b in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            touching += len(np.unique(np.stack([a, b])[:, (a != b) & (a > 0) & (b > 0)], axis=1).T)
    assert touching / 12 > 5


def contrast(data):
    """Mean darkness (of 255) of each object, less its image's background."""
    values = []
    for i, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        grey = image.mean(-1)
        numbers = data.numbers[data.offsets[i] : data.offsets[i + 1]]
        values.append(grey[label == 0].mean() - np.array([grey[label == number].mean() for number in numbers]))
    return np.concatenate(values)


def elongation(data):
    sides = data.boxes[:, 2:] - data.boxes[:, :2]
    return sides.max(1) / sides.min(1)


def overlap(a, b):
    """Chance that one of a is above one of b, counting ties half."""
    return (a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean()


def test_look_alikes_are_paler_and_longer_but_overlap_with_targets(many):
    target = many.classes == 0
    darkness, length = contrast(many), elongation(many)
    assert darkness[target].min() > 0 and darkness[~target].mean() > 10  # both stand out from the stroma
    assert 0.6 < overlap(darkness[target], darkness[~target]) < 0.95
    assert 0.55 < overlap(length[~target], length[target]) < 0.95


def test_full_likeness_makes_look_alikes_targets():
    same = simulate(Recipe(train_images=12, validation_images=0, test_images=0, likeness=1.0), seed=2)
    target = same.classes == 0
    for measure in (contrast(same), elongation(same)):
        assert overlap(measure[target], measure[~target]) == pytest.approx(0.5, abs=0.07)


def test_images_of_a_slide_share_their_colour():
    data = simulate(replace(FEW, train_images=12, images_per_slide=3, stain_spread=0.4, test_images=0), seed=5)
    colours = np.array([image[label == 0].mean(0) for image, label in zip(data.images, data.labels, strict=True)])[:12]
    by_slide = colours.reshape(4, 3, 3)
    assert by_slide.std(1).mean() < 0.5 * by_slide.mean(1).std(0).mean()


def test_images_may_have_no_nuclei_and_sets_no_images():
    none = dict.fromkeys(("targets_least", "targets_most", "others_least", "others_most"), 0)
    empty = simulate(replace(FEW, **none, debris=0), seed=0)
    assert empty.offsets.tolist() == [0] * 9 and not any(label.any() for label in empty.labels)
    assert simulate(replace(FEW, train_images=0, validation_images=0, test_images=0), seed=0).images == ()


def test_a_recipe_takes_its_keys_from_a_spec():
    spec = plan("ece", "quick")[1].spec.but(side=64)
    assert Recipe(**spec.section("tissue")) == Recipe(side=64)


@pytest.mark.parametrize(
    ("key", "value"),
    [("side", 8), ("train_images", -1), ("images_per_slide", 0), ("likeness", 1.5), ("noise", float("nan"))]
    + [("targets_most", 5), ("others_least", 30), ("radius_least", 0.5), ("radius_most", 60), ("test_images", 2.5)],
)
def test_impossible_values_are_named(key, value):
    name = {"others_least": "others_most"}.get(key, key)
    with pytest.raises(ValueError, match=f"^{name} is "):
        Recipe(**{key: value})
