"""Splits keep groups whole and obey the release; annotation subsets are nested, near their share, and come back."""

import numpy as np
import pytest

from papers.ece import subsets
from papers.ece.scaling import scaled
from papers.ece.subsets import main
from shared.datasets.catalogue import DatasetError
from shared.datasets.localised.localised import Localised, offsets
from shared.datasets.localised.prepared import write_set

FRACTIONS = [k / 10 for k in range(1, 11)]


def made(counts, groups=None, official=None, name="made"):
    """Images of 4x4 pixels with so many centres each."""
    names = tuple(f"i{number}" for number in range(len(counts)))
    total = sum(counts)
    centres = np.random.default_rng(0).uniform(0, 4, (total, 2)).astype(np.float32)
    return Localised(
        name=name,
        names=names,
        groups=tuple(groups or names),
        official=official,
        images=tuple(np.zeros((4, 4, 3), np.uint8) for _ in counts),
        labels=None,
        offsets=offsets(counts),
        numbers=np.concatenate([np.arange(1, count + 1) for count in counts]),
        centres=centres,
        boxes=np.tile(centres, 2),
        classes=np.arange(total) % 2,
        class_names=("a", "b"),
    )


@pytest.mark.parametrize("number", range(20))
def test_groups_are_whole_and_the_shares_near(number):
    groups = [f"g{min(i // 4, 12)}" for i in range(60)]
    data = made([1] * 60, groups)
    split = subsets.splits(data, number)
    assert all(len({split[i] for i in range(60) if groups[i] == group}) == 1 for group in groups)
    assert abs((split == 2).sum() - 12) <= 4 and abs((split == 1).sum() - 12) <= 4
    assert np.array_equal(split, subsets.splits(data, number))


def test_numbers_deal_anew_and_every_group_is_tested_at_times():
    data = made([1] * 20)
    tested = [np.flatnonzero(subsets.splits(data, number) == 2) for number in range(40)]
    assert set(np.concatenate(tested)) == set(range(20))
    assert {len(images) for images in tested} == {4}


def test_the_first_numbers_test_every_image_once():
    data = made([1] * 60, [f"g{min(i // 4, 12)}" for i in range(60)])
    assert (np.stack([subsets.splits(data, number) == 2 for number in range(subsets.FOLDS)]).sum(0) == 1).all()


def test_the_order_of_images_moves_no_group():
    groups = [f"g{i // 3}" for i in range(30)]
    forth = subsets.splits(made([1] * 30, groups), 3)
    back = subsets.splits(made([1] * 30, groups[::-1]), 3)
    assert np.array_equal(forth, back[::-1])


def test_official_splits_are_obeyed():
    official = ("train",) * 16 + ("test",) * 14
    split = subsets.splits(made([1] * 30, official=official), 1)
    assert np.array_equal(split == 2, np.array(official) == "test") and (split == 1).sum() in (3, 4)
    every = ("train", "validation", "test")
    assert subsets.splits(made([1] * 3, official=every), 5).tolist() == [0, 1, 2]


def test_what_cannot_be_split_is_refused():
    with pytest.raises(DatasetError, match="group 'g' is in the official splits test, train"):
        subsets.splits(made([1] * 3, "ggh", ("train", "test", "train")), 0)
    with pytest.raises(DatasetError, match="4 images in 2 groups leave none for train"):
        subsets.splits(made([1] * 4, "gghh"), 0)


@pytest.mark.parametrize("counts", [[80] * 5, [1] * 100, [0, 1, 2, 3, 50, 0, 7] * 6, [3]])
@pytest.mark.parametrize("seed", [100, 101])
def test_subsets_are_nested_and_near_their_share(counts, seed):
    data = made(counts)
    wanted = np.ones(sum(counts), bool)
    entries = subsets.entry(data.offsets, wanted, seed)
    assert ((entries > 0) & (entries <= 1)).all()
    before = np.zeros(len(wanted), bool)
    for fraction in FRACTIONS:
        kept = subsets.annotated(entries, fraction)
        assert not (before & ~kept).any()
        of_image = np.bincount(data.owners()[kept], minlength=len(counts))
        assert (abs(of_image - fraction * np.array(counts)) < 1).all()  # rounded up or down
        assert abs(kept.sum() - fraction * sum(counts)) <= max(1, 0.03 * sum(counts))
        before = kept
    assert before.all()


def test_images_with_one_object_each_are_annotated_in_turn():
    entries = subsets.entry(offsets([1] * 50), np.ones(50, bool), 100)
    assert [subsets.annotated(entries, fraction).sum() for fraction in FRACTIONS] == [5 * k for k in range(1, 11)]


def test_only_wanted_objects_enter_and_seeds_differ():
    data = made([30] * 4)
    wanted = data.classes == 0
    one, other = (subsets.entry(data.offsets, wanted, seed) for seed in (100, 101))
    assert np.isinf(one[~wanted]).all() and np.isfinite(one[wanted]).all()
    assert not np.array_equal(one, other)
    assert np.array_equal(one, subsets.entry(data.offsets, wanted, 100))
    assert np.isinf(subsets.entry(data.offsets, wanted & False, 100)).all()


def test_every_object_is_as_likely_to_be_annotated():
    chosen = np.mean([subsets.entry(offsets([5, 2]), np.ones(7, bool), seed) <= 0.4 for seed in range(2000)], 0)
    assert abs(chosen - 0.4).max() < 0.05


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction"):
        subsets.annotated(np.ones(3), fraction)


@pytest.fixture
def manifest(tmp_path):
    """(file, data, entries)."""
    data = made([5, 0, 3, 4])
    entries = subsets.entry(data.offsets, data.classes == 1, 100)
    with (tmp_path / "subset.csv").open("w") as file:
        subsets.write_subset(file, data, entries)
    return tmp_path / "subset.csv", data, entries


def test_a_manifest_comes_back_exactly(manifest):
    path, data, entries = manifest
    assert np.array_equal(subsets.read_subset(path, data), entries)


def test_a_manifest_of_other_data_is_refused(manifest):
    path, data, _ = manifest
    for other in (made([5, 0, 3, 4], name="other"), scaled(data, 2)):
        with pytest.raises(DatasetError, match=r"subset\.csv, line 1: .*other data"):
            subsets.read_subset(path, other)
    path.write_text(path.read_text().split("\n", 1)[1])
    with pytest.raises(DatasetError, match="line 1: 'image,number"):
        subsets.read_subset(path, data)


def test_ones_own_subset_needs_three_columns(manifest):
    path, data, _ = manifest
    path.write_text(f"# sha256 {data.sha256()}\nimage,number,entry\ni3,2,0\ni0,1,.5\n")
    entries = subsets.read_subset(path, data)
    assert np.flatnonzero(subsets.annotated(entries, 0.1)).tolist() == [9]
    assert np.flatnonzero(subsets.annotated(entries, 0.5)).tolist() == [0, 9]


WRONG = {
    "i9,1,.5": "line 3: made has no object 1 in image 'i9'",
    "i0,6,.5": "no object 6 in image 'i0'",
    "i0,x,.5": "no object x in image 'i0'",
    "i0,1,.5\ni0,1,.6": "line 4: object 1 of 'i0' is there twice",
    "i0,1,1.5": "the entry is '1.5'",
    "i0,1,nan": "the entry is 'nan'",
    "i0,1": "the entry is None",
}


@pytest.mark.parametrize("rows", WRONG)
def test_wrong_rows_of_a_manifest_are_refused_by_line(manifest, rows):
    path, data, _ = manifest
    path.write_text(f"# sha256 {data.sha256()}\nimage,number,entry\n{rows}\n")
    with pytest.raises(DatasetError, match=WRONG[rows]):
        subsets.read_subset(path, data)


def test_the_command_writes_the_subset_of_the_training_images(tmp_path, monkeypatch, capsys):
    for name in ("mirror", "data"):
        monkeypatch.setenv(f"LLP_{name.upper()}", str(tmp_path / name))
    data = made([6] * 10)
    write_set(tmp_path / "mirror/made", data, {})
    out = tmp_path / "out.csv"
    assert main(["made", "--seed", "100", "--split", "1", "--target", "b", "--out", str(out)]) == 0
    wanted = (subsets.splits(data, 1) == subsets.TRAIN)[data.owners()] & (data.classes == 1)
    assert np.array_equal(subsets.read_subset(out, data), subsets.entry(data.offsets, wanted, 100))
    assert main(["made"]) == 0 and capsys.readouterr().out.startswith("# made sha256 ")
    assert main(["made", "--target", "c"]) == 1 and "its classes are a, b" in capsys.readouterr().err
