"""The simulator: what its seed and its recipe promise, against geometry and counting."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from papers.vp_dsd.imaging import bodies
from papers.vp_dsd.imaging.bodies import BODY, Shape
from papers.vp_dsd.imaging.holograms import CLASSES
from papers.vp_dsd.imaging.simulator import Recipe, purified, simulate, specimen, subject_proportions
from papers.vp_dsd.imaging.wrapping import wrapped
from shared.training import axis_seed

FEW = Recipe(train_subjects=3, validation_subjects=1, test_subjects=2)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made():
    return simulate(FEW, seed=1)


def cells_of(holograms, i):
    first, last = holograms.cells.offsets[i : i + 2]
    return holograms.cells.centres[first:last], holograms.cells.labels[first:last]


def apart(centres, size):
    """Distances between all centres on the torus."""
    way = np.abs(centres[:, None].astype(float) - centres[None])
    return np.linalg.norm(np.minimum(way, size - way), axis=-1)


def test_what_a_data_set_holds(made):
    assert made.images.shape == (12, 128, 128)
    assert made.images.dtype == np.float32
    assert np.abs(made.images.mean((1, 2))).max() < 1e-5
    assert made.images.std() > 0.05
    assert made.subjects.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert made.splits.tolist() == [0, 0, 0, 1, 2, 2]
    assert [made.numbers(split).tolist() for split in (0, 1, 2)] == [[0, 1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11]]
    assert made.proportions.sum(1) == pytest.approx(1)
    assert made.optics == FEW.optics
    assert made.simulated
    sizes = np.diff(made.cells.offsets)
    assert sizes.min() >= 20
    assert sizes.max() <= 40
    assert len(made.cells.centres) == len(made.cells.labels) == made.cells.offsets[-1] == sizes.sum()
    assert made.cells.centres.min() >= 0
    assert made.cells.centres.max() < 128


def test_a_seed_says_everything(made):
    assert simulate(FEW, seed=1).sha256() == made.sha256()
    assert simulate(FEW, seed=2).sha256() != made.sha256()


def test_more_subjects_and_images_change_no_other(made):
    more = simulate(replace(FEW, train_subjects=4, images_per_subject=3), seed=1)
    kept = [i for i in range(21) if i % 3 < 2 and i // 3 != 3]
    assert np.abs(more.images[kept] - made.images).max() < 1e-5
    for i, j in enumerate(kept):
        assert (cells_of(more, j)[0] == cells_of(made, i)[0]).all()
    assert (np.delete(more.proportions, 3, 0) == made.proportions).all()


def test_subjects_keep_their_proportions_whatever_the_images(made):
    other = simulate(replace(FEW, size=64, cells_least=1, cells_most=5, pitch=1.5), seed=1)
    assert (other.proportions == made.proportions).all()


@pytest.mark.parametrize("change", [{"noise": 0.5}, {"debris": 40.0}, {"distance_spread": 30.0}])
def test_what_disturbs_images_moves_no_cell(made, change):
    disturbed = simulate(replace(FEW, **change), seed=1)
    assert (disturbed.cells.centres == made.cells.centres).all()
    assert (disturbed.cells.labels == made.cells.labels).all()
    assert np.abs(disturbed.images - made.images).max() > 0.01


def test_proportions_of_subjects_are_as_varied_as_blood():
    recipe = Recipe()
    drawn = np.array([subject_proportions(recipe, axis_seed(0, i)) for i in range(1500)])
    assert drawn.sum(1) == pytest.approx(1)
    assert drawn[:, 1].max() < 0.12
    entropy = -(drawn * np.log(drawn)).sum(1).mean()
    assert entropy == pytest.approx(0.816, abs=0.015)  # the paper's, Section 3
    assert drawn.std(0) == pytest.approx([0.071, 0.027, 0.073], abs=0.005)
    free = replace(recipe, monocyte_limit=1.0)
    drawn = np.array([subject_proportions(free, axis_seed(0, i)) for i in range(1500)])
    assert drawn.mean(0) == pytest.approx(recipe.mean_proportions, abs=0.01)
    variance = np.array(recipe.mean_proportions) * (1 - np.array(recipe.mean_proportions)) / (recipe.concentration + 1)
    assert drawn.var(0) == pytest.approx(variance, rel=0.15)


def test_cells_are_drawn_by_their_subjects_proportions():
    recipe = replace(FEW, cells_least=300, cells_most=300, pitch=20.0, images_per_subject=10)
    many = simulate(recipe, seed=3)
    for subject, expected in enumerate(many.proportions):
        labels = np.concatenate([cells_of(many, i)[1] for i in np.flatnonzero(many.subjects == subject)])
        counts = np.bincount(labels, minlength=3)
        scatter = np.sqrt(3000 * expected * (1 - expected))
        assert (np.abs(counts - 3000 * expected) < 4 * scatter).all()
        assert (counts != np.round(3000 * expected)).any()  # noisy labels, Section 1


@pytest.mark.parametrize("label", range(3))
def test_purified_images_hold_one_class(label):
    pure = purified(FEW, label, 2, seed=0)
    assert set(pure.cells.labels) == {label}
    assert pure.images.shape == (2, 128, 128)
    assert pure.proportions.tolist() == [np.eye(3)[label].tolist()]
    assert pure.numbers(0).tolist() == [0, 1]
    assert (purified(FEW, label, 3, seed=0).images[:2] == pure.images).all()


def test_classes_differ_in_size_as_said():
    kinds = np.repeat([0, 1, 2], 500)
    shapes = [getattr(Recipe(), name) for name in CLASSES]
    drawn, _, _ = bodies.draw(shapes, kinds, 1.3, np.random.default_rng(0))
    for label, shape in enumerate(shapes):
        across = 2 * np.sqrt(drawn["semi_axes"][kinds == label].prod(1))
        assert across.mean() == pytest.approx(shape.diameter[0], rel=0.02)
        assert across.std() == pytest.approx(1.3 * shape.diameter[1], rel=0.1)


def test_a_wide_spread_makes_nothing_negative():
    shapes = [getattr(Recipe(), name) for name in CLASSES]
    drawn, size, index = bodies.draw(shapes, np.repeat([0, 1, 2], 500), 8.0, np.random.default_rng(0))
    assert min(drawn[name].min() for name in ("semi_axes", "chord", "index", "absorption")) > 0
    assert index.min() > 0
    assert size.max() <= 1


@pytest.mark.parametrize("size", [128, 512])
def test_cells_keep_off_each_other_across_the_borders_too(size):
    random = np.random.default_rng(0)
    radii = random.uniform(2, 6, 30 * size**2 // 128**2)
    found = bodies.places(radii, size, random)
    least = radii[:, None] + radii[None] + bodies.GAP
    np.fill_diagonal(least, 0)
    assert (apart(found, size) >= least - 1e-9).all()
    near = (found < 6) | (found > size - 6)
    assert near.any()  # not kept away from the borders


def test_an_image_of_hundreds_of_cells():
    wide = replace(FEW, size=512, cells_least=400, cells_most=400, debris=160)
    wide = simulate(replace(wide, train_subjects=1, validation_subjects=0, test_subjects=0, images_per_subject=1), 0)
    centres, _ = cells_of(wide, 0)
    assert len(centres) == 400
    assert (apart(centres, 512) + 512 * np.eye(400)).min() > 2 * 2 + bodies.GAP


def body(size=64, **values):
    row = np.zeros(1, BODY)
    row["centre"], row["semi_axes"], row["chord"], row["index"] = size / 2, (8.0, 5.0), 6.0, 0.01
    for name, value in values.items():
        row[name] = value
    return row


def light_behind(*rows, size=64):
    return bodies.transmission([np.concatenate(rows)], size, 1.67, 0.637, torch.device("cpu"))[0]


@pytest.mark.parametrize("angle", [0.0, 0.6, 2.5])
@pytest.mark.parametrize("centre", [(32.0, 32.0), (20.3, 40.8), (0.2, 63.7)])
def test_phase_adds_up_to_the_volume_of_an_ellipsoid(angle, centre):
    light = light_behind(body(angle=angle, centre=centre, absorption=0.004))
    volume = 4 / 3 * math.pi * 8 * 5 * 6 / 2
    wave_number = 2 * math.pi / 0.637
    assert light.angle().sum().item() * 1.67**2 == pytest.approx(wave_number * 0.01 * volume, rel=0.01)
    assert -light.abs().log().sum().item() * 1.67**2 == pytest.approx(0.004 * volume, rel=0.01)
    assert light.angle().max().item() == pytest.approx(wave_number * 0.01 * 6, rel=0.03)


def test_an_ellipsoid_lies_along_its_angle():
    light = light_behind(body(angle=math.pi / 6)).angle().double().numpy()
    y, x = np.indices(light.shape) - 32
    moments = np.array([[(light * a * b).sum() for a in (y, x)] for b in (y, x)]) / light.sum() * 1.67**2
    turn = np.array([[math.cos(math.pi / 6), -0.5], [0.5, math.cos(math.pi / 6)]])
    # second moments of a body are a fifth of its squared semi-axes
    assert moments == pytest.approx(turn @ np.diag([64 / 5, 25 / 5]) @ turn.T, rel=0.03)


def test_bodies_wrap_around_the_borders():
    inside = light_behind(body(centre=(32.3, 32.6)))
    assert torch.allclose(light_behind(body(centre=(0.3, 63.6))), inside.roll((-32, 31), (0, 1)), atol=1e-5)


def test_bodies_of_one_image_leave_the_next_alone():
    light = bodies.transmission([body(), np.zeros(0, BODY), body()], 64, 1.67, 0.637, torch.device("cpu"))
    assert torch.allclose(light[1], torch.ones((), dtype=torch.complex64))
    assert torch.allclose(light[0], light[2])


@pytest.mark.parametrize("number", [1, 4])
def test_a_nucleus_takes_the_place_of_cytoplasm(number):
    cell = body(semi_axes=(6.0, 6.0), chord=10.0)
    nuclei = bodies.nuclei(number, cell, np.array([0.3]), np.array([0.015]), 1.67, np.random.default_rng(0))
    assert len(nuclei) == number
    light = light_behind(cell, nuclei)
    whole = 4 / 3 * math.pi * 6 * 6 * 5
    part = 0.3**3 * whole if number == 1 else 4 * 4 / 3 * math.pi * (0.3 * 6) ** 3
    expected = 2 * math.pi / 0.637 * (0.01 * (whole - part) + 0.015 * part)
    assert light.angle().sum().item() * 1.67**2 == pytest.approx(expected, rel=0.01)


def test_four_nuclei_lie_apart_inside_their_cell():
    shapes = [Recipe().granulocyte]
    random = np.random.default_rng(0)
    cells, size, index = bodies.draw(shapes, np.zeros(200, int), 1.3, random)
    nuclei = bodies.nuclei(4, cells, size, index, 1.67, random).reshape(200, 4)
    radius = np.sqrt(cells["semi_axes"].prod(1))
    away = 1.67 * np.linalg.norm(nuclei["centre"], axis=-1) + nuclei["semi_axes"][..., 0]
    assert (away < radius[:, None]).all()
    neighbours = np.roll(nuclei["centre"], 1, axis=1) - nuclei["centre"]
    assert (1.67 * np.linalg.norm(neighbours, axis=-1)).mean() > 2 * nuclei["semi_axes"].mean()


def test_cells_that_find_no_room_are_refused_with_the_images_number():
    crowded = replace(FEW, size=32, cells_least=0, cells_most=60)
    with pytest.raises(ValueError, match=r"image \d+: \d+ cells of .* do not fit into 32x32 pixels.*lower cells_most"):
        simulate(crowded, seed=0)


def test_a_recipe_takes_what_a_configuration_holds():
    """Shapes as mappings and lists in place of tuples, and all of them still are one recipe."""
    shape = {"diameter": [3, 1], "axial": [1, 0], "index": [0.02, 0], "absorption": [0, 0]}
    values = {name: getattr(FEW, name) for name in FEW.__dataclass_fields__}
    recipe = Recipe(**{**values, "particle": shape, "mean_proportions": [0.3, 0.1, 0.6]})
    assert recipe.particle == Shape((3, 1), (1, 0), (0.02, 0), (0, 0))
    assert recipe == replace(FEW, particle=recipe.particle, mean_proportions=(0.3, 0.1, 0.6))
    assert hash(recipe) == hash(replace(recipe))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 4}, "size is 4"),
        ({"cells_most": 10}, "cells_most is 10 where at least 20"),
        ({"train_subjects": -1}, "train_subjects is -1"),
        ({"noise": math.nan}, "noise is nan"),
        ({"distance_spread": 500.0}, "distance_spread 500"),
        ({"pitch": 0.0}, "pitch is 0"),
        ({"mean_proportions": (0.5, 0.6, 0.1)}, "mean_proportions .* sum to 1"),
        ({"mean_proportions": (0.5, 0.5)}, "mean_proportions .* 3 shares"),
        ({"concentration": 0}, "concentration is 0"),
        ({"monocyte_limit": 0.05}, "monocyte_limit 0.05 is not above"),
        ({"lymphocyte": {"diameter": [8, 1]}}, "lymphocyte: .*axial"),
        ({"monocyte": {**vars(Recipe().monocyte), "nuclei": 3}}, "monocyte: nuclei is 3"),
        ({"monocyte": {**vars(Recipe().monocyte), "index": (0.02, -1)}}, r"monocyte: index is \(0.02, -1\)"),
        ({"particle": {**vars(Recipe().particle), "diameter": (0, 1)}}, "particle: diameter has the mean 0"),
    ],
)
def test_impossible_recipes_are_refused_by_the_key(change, message):
    with pytest.raises(ValueError, match=message):
        replace(FEW, **change)


def test_a_class_that_does_not_exist_cannot_be_purified():
    with pytest.raises(ValueError, match="label 3"):
        purified(FEW, 3, 1, seed=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_renders_the_same(made):
    assert np.abs(simulate(FEW, seed=1, device="cuda").images - made.images).max() < 1e-3


def test_the_phase_of_a_specimen_is_not_wrapped():
    """Cells of 2 to 3 rad overlapping debris and nuclei go beyond pi, where an angle jumps."""
    thick = Shape((9.0, 0.7), (1.0, 0.1), (0.05, 0.004), (0.004, 0.001))
    recipe = Recipe(size=64, cells_least=8, cells_most=8, debris=40, particle=thick)
    phase = specimen(recipe, 0, 2, 0)
    assert phase.shape == (64, 64) and phase.max() > math.pi and phase.min() >= -1e-6


def test_light_wraps_around_in_small_images_and_hardly_in_large_ones():
    """What the README says of images of 128 and of 512 pixels."""
    small, large = (wrapped(Recipe(size=side), 0, 0, room=1024) for side in (128, 512))
    assert small > 0.1 and large < 0.01


def test_subjects_have_fewer_monocytes_than_the_mean_that_is_asked_for():
    """Config and README say .068 for .085: those above the limit are drawn again."""
    shares = np.array([subject_proportions(Recipe(), seed) for seed in range(4000)])
    assert shares[:, 1].max() < 0.12
    np.testing.assert_allclose(shares.mean(0), [0.306, 0.068, 0.626], atol=0.004)
