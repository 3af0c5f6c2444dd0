"""Label images that number no objects, names of folders that hold "test", regions without an area: never in silence."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.io import savemat

from shared.datasets import DatasetError, registry
from shared.datasets.__main__ import main
from shared.datasets.localised import files, prepared, sound
from shared.datasets.localised.localised import of_labels
from shared.datasets.localised.releases import RELEASES

SIDE, PLACE = 60, Path("somewhere")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Releases made here have an image or two where the official ones have many."""
    made = {name: dataclasses.replace(release, images=0) for name, release in RELEASES.items()}
    monkeypatch.setattr(prepared, "RELEASES", made)


def discs(n=15, seed=0):
    """(SIDE, SIDE) int32: n numbered squares of 3 x 3 pixels, none of which touch."""
    places = np.random.default_rng(seed).permutation(144)[:n]
    label = np.zeros((SIDE, SIDE), np.int32)
    for number, place in enumerate(places, 1):
        row, column = 5 * (place // 12) + 1, 5 * (place % 12) + 1
        label[row : row + 3, column : column + 3] = number
    return label


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((SIDE, SIDE, 3), 200, np.uint8)).save(path)


def png(folder, label):
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    Image.fromarray(label.astype(np.uint16 if label.max() > 255 else np.uint8)).save(folder / "labels/a.png")
    image(folder / "images/a.png")
    return "own"


def matlab(folder, label):
    folder = folder.with_name("cpm17")
    (folder / "Train/Labels").mkdir(parents=True)
    savemat(folder / "Train/Labels/a.mat", {"inst_map": label.astype(np.int32)})
    image(folder / "Train/Images/a.png")
    return "cpm17"


def text(folder, label):
    folder = folder.with_name("cpm15")
    image(folder / "image01.png")
    numbers = "\n".join(map(str, label.ravel()))
    (folder / "image01_mask.txt").write_text(f"{SIDE} {SIDE}\n{numbers}\n")
    return "cpm15"


WRONG = {
    "0 and 1": lambda label: (label > 0) * 1,
    "0 and 254": lambda label: (label > 0) * 254,
    "0 and 65535": lambda label: (label > 0) * 65535,
    "a map of three classes": lambda label: np.where(label > 0, label % 3 + 1, 0),
    "inverted": lambda label: (label == 0) * 1,
    "inverted numbers": lambda label: np.where(label == 0, 99, 0),
    "a class map with its background numbered": lambda label: np.where(label > 0, 2, 1),
}


@pytest.mark.parametrize("write", [png, matlab, text])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_mask_is_not_read_as_numbers_of_objects(places, write, wrong):
    """5 objects for 45, 3 for 27: in every reader, at any depth."""
    name = write(places[0] / "own", WRONG[wrong](discs()))
    with pytest.raises(
        DatasetError, match=r"label image of .*, as in a.*holds 0 where no object is, and for each object"
    ):
        prepared.open(name)
    assert not (places[1] / name).exists()


@pytest.mark.parametrize("write", [png, matlab, text])
def test_numbers_of_objects_are(places, write, capsys):
    name = write(places[0] / "own", discs())
    assert len(prepared.open(name).classes) == 15
    said = capsys.readouterr().err
    assert (
        "objects an image 15 to 15 (median 15); median area 9 pixels; foreground 3.8 to 3.8 (median 3.8) % of" in said
    )


@pytest.mark.parametrize("number", [65536, 2**31 + 5, 2**32 + 5, 2**63, 2e9])
@pytest.mark.parametrize("write", [matlab, text])
def test_a_number_that_16_bits_do_not_hold_is_refused_and_never_wrapped(places, write, number):
    """2**63 became 0, and its object was lost."""
    label = discs().astype(object)
    label[label == 3] = int(number)

    class Wide:  # what the writers take, with numbers of any size
        max, ravel = label.max, label.ravel

        def astype(self, _):
            return label.astype(np.uint64)

    name = write(places[0] / "own", Wide())
    with pytest.raises(
        DatasetError, match=f"numbers objects from 0 to {int(number)}; 0 is none, and 65535 is the last"
    ):
        prepared.open(name)


def test_an_inverted_binary_mask_is_no_object(places):
    folder = places[0] / "tnbc"
    image(folder / "Slide_01/01_1.png")
    (folder / "GT_01").mkdir()
    Image.fromarray((255 * (discs() == 0)).astype(np.uint8)).save(folder / "GT_01/01_1.png")
    with pytest.raises(DatasetError, match="label image of 01_1: number 1 covers 96% of it, as in an inverted mask"):
        prepared.open("tnbc")


def of(*labels):
    names = [f"image{i}" for i in range(len(labels))]
    return of_labels("made", names, [np.zeros((*label.shape, 3), np.uint8) for label in labels], labels)


def test_masks_of_two_objects_each_are_seen_in_the_whole_set():
    masks = [(discs(2, seed) > 0).astype(np.int32) for seed in range(6)]
    with pytest.raises(DatasetError, match="the label images, as that of image0: 12 separate parts have 6 numbers"):
        sound.check_labels(of(*masks), PLACE)


def test_an_object_in_two_parts_and_an_image_without_any_pass():
    label = discs()
    label[label == 2] = 1
    sound.check_labels(of(label, np.zeros((SIDE, SIDE), np.int32), discs(1)), PLACE)
    alone = discs(2)
    alone[alone > 0] = 1
    sound.check_labels(of(alone, discs(), discs(9)), PLACE)


def test_a_set_without_any_object_is_refused(places):
    name = png(places[0] / "own", np.zeros((SIDE, SIDE), np.int32))
    with pytest.raises(DatasetError, match="own: its 1 images have not one object, their label images hold 0 alone"):
        prepared.open(name)
    (places[0] / "own/labels/a.png").unlink()
    (places[0] / "own/labels").rmdir()
    (places[0] / "own/objects.csv").write_text("image,number,row,column,class\n")
    with pytest.raises(DatasetError, match=r"not one object, objects\.csv has no row; complete the set"):
        prepared.open(name)
    assert not (places[1] / name).exists()


def test_one_large_cell_a_crop_is_taken_where_a_person_says_so_and_the_manifest_keeps_it(places, capsys):
    crop = np.zeros((SIDE, SIDE), np.int32)
    crop[10:50, 10:50] = 1
    name = png(places[0] / "own", crop)
    assert main(["fetch", name]) == 1
    asked = capsys.readouterr().err.split("python -m shared.datasets ")[1].split()
    assert asked == ["fetch", "own", "--large-objects"] and main(asked) == 0
    assert prepared.manifest(places[1] / name)["large_objects"] is True and main(["verify", name]) == 0
    assert main(["fetch", "digits", "--large-objects"]) == 1 and "digits has no localised" in capsys.readouterr().err
    png(places[0] / "other", crop % 2 + (discs() > 0))
    with pytest.raises(DatasetError, match="separate parts have"):
        prepared.prepare("other", large_objects=True)


def test_parts_are_counted_as_one_by_one():
    random = np.random.default_rng(0).integers(0, 4, (30, 30)).astype(np.int32)
    one_by_one = sum(ndimage.label(random == number, np.ones((3, 3)))[1] for number in (1, 2, 3))
    assert sound.parts_of(random) == one_by_one


def test_a_set_that_was_prepared_before_is_looked_at_when_it_is_verified(places, monkeypatch):
    png(places[0] / "own", (discs() > 0) * 1)
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "check_labels", lambda *_: None)
        prepared.prepare("own")
    with pytest.raises(DatasetError, match="own: the label image of a: 15 separate parts have 1 numbers"):
        registry.examine(registry.entry_of("own"))


# ------------------------------------------------------------------------------------------------- names of folders


def cpm17(mirror, *folders):
    """One image in each of these folders, image_00 in the first."""
    matlab(mirror / "x", discs())
    (made := mirror / "cpm17").rename(mirror / "made")
    for n, folder in enumerate(folders):
        for kind, suffix in (("Labels", "mat"), ("Images", "png")):
            target = made / folder / kind / f"image_{n:02}.{suffix}"
            target.parent.mkdir(parents=True)
            target.write_bytes((mirror / f"made/Train/{kind}/a.{suffix}").read_bytes())


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("latest", "train"),
        ("Contest data", "train"),
        ("attested_2018", "train"),
        ("MoNuSegTestData", "test"),
        ("test", "test"),
        ("Test_Set", "test"),
        ("kaggle-TESTING", "test"),
        ("01test02", "test"),
        ("testdata", "test"),
        ("trainset", "train"),
        ("valid", "validation"),
        ("val_images", "validation"),
        ("Validation", "validation"),
        ("Train and test/Test", "test"),
        ("test/of training", "train"),
    ],
)
def test_a_split_is_a_word_of_a_folder_not_a_part_of_one(places, capsys, folder, split):
    """ "latest" holds "test": the official split was dropped and a test image trained on; "testdata" was, too."""
    cpm17(places[0], f"{folder}/x", "Train/x", "Test/x")
    data = prepared.open("cpm17")
    assert dict(zip(data.names, data.official, strict=True)) == {
        "image_00": split,
        "image_01": "train",
        "image_02": "test",
    }
    said = capsys.readouterr().err
    assert "cpm17: by the names of folders, 1 in " in said and re.search(rf"\d in [^,]* are for {split}", said)


def test_a_folder_that_names_no_split_beside_some_that_do_is_said(places, capsys):
    cpm17(places[0], "heldout/a", "Train", "Test", "train_test")
    data = prepared.open("cpm17")
    assert dict(zip(data.names, data.official, strict=True)) == {
        "image_00": "train",
        "image_01": "train",
        "image_02": "test",
        "image_03": "train",
    }
    said = capsys.readouterr().err
    assert "1 in heldout name no split and are for train" in said and "1 in train_test name no split" in said


def test_the_path_above_the_set_is_no_split(tmp_path, monkeypatch, capsys):
    mirror = tmp_path / "test mirror of testing"
    monkeypatch.setenv("LLP_MIRROR", str(mirror))
    monkeypatch.setenv("LLP_DATA", str(tmp_path / "data"))
    matlab(mirror / "x", discs())
    assert prepared.open("cpm17").official is None
    assert "cpm17: all images are for train, by the names of folders in" in capsys.readouterr().err


def test_an_own_set_without_splits_says_so(places, capsys):
    png(places[0] / "own", discs())
    assert prepared.open("own").official is None
    assert "own: no split is given, for want of images.csv with a column split" in capsys.readouterr().err


def test_a_folder_that_is_neither_training_nor_validation_is_refused(places):
    folder = places[0] / "wbc_nuclick/Valley"
    image(folder / "images/a.png")
    (folder / "masks").mkdir()
    Image.fromarray(discs().astype(np.uint8)).save(folder / "masks/a_mask.png")
    with pytest.raises(DatasetError, match=r"a_mask\.png is in no folder called Train or Validation"):
        prepared.open("wbc_nuclick")


# ------------------------------------------------------------------------------------------------------- ImageScope


def region(corners, **attributes):
    said = "".join(f' {key}="{value}"' for key, value in attributes.items())
    inner = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners)
    return f"<Region{said}><Vertices>{inner}</Vertices></Region>"


def scope(path, *regions):
    path.write_text(f"<Annotations><Annotation><Regions>{''.join(regions)}</Regions></Annotation></Annotations>")
    return path


SQUARE = [(2, 2), (12, 2), (12, 12), (2, 12)]
STROKE = [(x, 30 + x % 2) for x in range(20)]


def test_holes_rectangles_and_ellipses_are_what_they_are_in_imagescope(tmp_path):
    path = scope(
        tmp_path / "a.xml",
        region(SQUARE, Type=0),
        region([(5, 5), (9, 5), (9, 9), (5, 9)], Type=0, NegativeROA=1),
        region([(20, 20), (30, 26)], Type=1),
        region([(20, 40), (40, 50)], Type=2),
    )
    found = files.read_outlines(path)
    label = files.filled(found.regions, (SIDE, SIDE), found.holes)
    assert (label == 1).sum() == 100 - 16 and label[7, 7] == 0
    assert (label == 2).sum() == 60 and label[25, 29] == 2
    assert (label == 3).sum() == pytest.approx(np.pi * 10 * 5, rel=0.03) and label[40, 20] == 0 and label[45, 30] == 3


def test_what_has_no_area_is_left_out_and_counted(tmp_path):
    path = scope(
        tmp_path / "a.xml",
        region(SQUARE),
        region([(0, 0), (9, 9)], Type=3),
        region([(0, 0), (9, 9)], Type=4),
        region(STROKE, Type=0),
        region([(1, 1), (2, 2)], Type=0),
        region([], Type=2),
    )
    found = files.read_outlines(path)
    assert len(found.regions) == 1 and found.left_out == {"arrow": 1, "ruler": 1, "stroke": 2, "ellipse": 1}


def test_a_release_says_what_it_left_out(places, capsys):
    name = "TCGA-A7-A13E-01Z-00-DX1"
    image(places[0] / f"monuseg/Tissue/{name}.tif")
    hole = region([(5, 5), (9, 5), (9, 9), (5, 9)], NegativeROA=1)
    scope(places[0] / f"monuseg/Tissue/{name}.xml", region(SQUARE), hole, region(STROKE), region(SQUARE, Type=3))
    assert prepared.open("monuseg").labels[0].astype(bool).sum() == 84
    said = capsys.readouterr().err
    assert "left out: 1 x arrow" in said and "left out: 1 x stroke" in said and "1 negative regions are cut out" in said


@pytest.mark.parametrize("value", ["true", "-1", ""])
def test_a_region_that_may_be_a_hole_is_refused(tmp_path, value):
    with pytest.raises(DatasetError, match=r"a\.xml: NegativeROA of region 7 is '.*'; 1 is a hole, 0 is none"):
        files.read_outlines(scope(tmp_path / "a.xml", region(SQUARE, Id=7, NegativeROA=value)))


@pytest.mark.parametrize("kind", ["9", "", "polygon", "-1", "0.0"])
def test_an_unknown_type_of_region_is_refused(tmp_path, kind):
    with pytest.raises(DatasetError, match=rf"a\.xml: region 7 is of the unknown type '{kind}'; draw it as an outline"):
        files.read_outlines(scope(tmp_path / "a.xml", region(SQUARE, Id=7, Type=kind)))


# ------------------------------------------------------------------------------------------------------ stray files


def test_what_systems_and_editors_leave_is_no_image(places):
    png(places[0] / "own", discs())
    for stray in ("images/._a.png", "labels/._a.png", "labels/.DS_Store", "images/Thumbs.db", "labels/a.png~"):
        (places[0] / "own" / stray).write_bytes(b"stray")
    (places[0] / "own/images/__MACOSX").mkdir()
    assert prepared.open("own").names == ("a",)
