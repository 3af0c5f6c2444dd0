"""What a run of ECE may see: nested annotations of training images alone, of one class, at any scale."""

import numpy as np
import pytest

from papers.ece import subsets
from papers.ece.data import material_of, updates
from shared.config import plan
from shared.datasets import DatasetError
from shared.datasets.localised import prepared
from shared.datasets.localised.localised import of_labels

SIMULATED = next(run.spec for run in plan("ece", "smoke") if run.method == "ce")
REAL = plan("ece", "paper")[1].spec.but(dataset="made", seed=4, disc_radius=2, fraction=0.5, crop=16)  # split 4


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A prepared set of ten images, two of each slide, with nine objects each; the last is one pixel."""
    labels = np.zeros((10, 32, 32), np.int32)
    for number in range(8):
        row, column = divmod(number, 4)
        labels[:, 4 + 12 * row : 8 + 12 * row, 8 * column : 8 * column + 6] = number + 1
    labels[:, 31, 31] = 9
    images = np.arange(10 * 32 * 32 * 3).reshape(10, 32, 32, 3).astype(np.uint8)
    names = [f"{i // 2}_{i % 2}" for i in range(10)]
    groups = [name[0] for name in names]
    classes = [np.arange(9) % 2] * 10
    data = of_labels("made", names, images, labels, groups=groups, classes=classes, class_names=("even", "odd"))
    monkeypatch.setenv("LLP_DATA", str(tmp_path))
    prepared.write_set(tmp_path / "made", data, {})
    return data


def test_smaller_subsets_are_inside_larger_ones_and_of_training_images_alone(made):
    seen = [material_of(REAL.but(fraction=f)) for f in (0.1, 0.3, 0.6, 1.0)]
    for less, more in zip(seen, seen[1:], strict=False):
        assert (more.annotated >= less.annotated).all() and more.annotated.sum() > less.annotated.sum()
    last = seen[-1]
    assert np.array_equal(last.annotated, (last.splits == 0)[last.data.owners()])
    for material, f in zip(seen, (0.1, 0.3, 0.6, 1.0), strict=True):
        assert abs(material.annotated.sum() / last.annotated.sum() - f) < 0.05


def test_another_seed_annotates_other_objects_of_the_same_split(made):
    a, b = material_of(REAL), material_of(REAL.but(seed=9))
    assert np.array_equal(a.splits, b.splits) and not np.array_equal(a.annotated, b.annotated)
    assert a.seen["annotated"] == b.seen["annotated"] and a.seen["sha256"] != b.seen["sha256"]


def test_seeds_of_one_split_are_one_cluster(made):
    clusters = {seed: material_of(REAL.but(seed=seed)).cluster for seed in (0, 1, 4, 5, 9)}
    assert clusters == {0: "split 0", 1: "split 1", 4: "split 4", 5: "split 0", 9: "split 4"}
    assert material_of(SIMULATED).cluster == ""


def test_a_coarser_scale_sees_the_same_objects_but_those_that_vanish(made):
    fine, coarse = material_of(REAL), material_of(REAL.but(scale=2))
    there = fine.data.numbers != 9
    assert len(coarse.target) == there.sum()
    assert np.array_equal(coarse.annotated, fine.annotated[there])


def test_one_class_may_be_the_target(made):
    material = material_of(REAL.but(target="odd", fraction=1.0))
    assert np.array_equal(material.target, material.data.classes == 1)
    assert not (material.annotated & ~material.target).any()
    with pytest.raises(DatasetError, match="made has no class 'strange' to be found; its classes are even, odd"):
        material_of(REAL.but(target="strange"))


def test_a_subset_of_ones_own_takes_the_place_of_the_seeded_one(made, tmp_path):
    entries = np.where(made.numbers == 2, 0.2, np.inf)
    with open(tmp_path / "mine.csv", "w") as file:
        subsets.write_subset(file, made, entries)
    material = material_of(REAL.but(subset=str(tmp_path / "mine.csv")))
    assert set(material.data.numbers[material.annotated]) == {2}
    with pytest.raises(DatasetError, match=r"none is annotated at fraction 0\.1; raise it"):
        material_of(REAL.but(subset=str(tmp_path / "mine.csv"), fraction=0.1))


def test_an_image_smaller_than_a_crop_is_named(made):
    with pytest.raises(DatasetError, match=r"made: \d_\d has 32 x 32 pixels, less than a crop of 33: set `crop`"):
        material_of(REAL.but(crop=33))


def test_simulated_tissue_keeps_its_splits_and_its_look_alikes_unannotated():
    material = material_of(SIMULATED)
    sizes = [SIMULATED[f"{name}_images"] for name in ("train", "validation", "test")]
    assert [len(material.numbers(split)) for split in range(3)] == sizes
    assert (material.data.classes[material.annotated] == 0).all() and (~material.target).any()


def test_the_papers_epochs_count_in_images():
    spec = REAL.but(steps=0, nominal_epochs=300, batch=4)
    assert updates(spec, 33) == 2700 and updates(spec.but(steps=7), 33) == 7
