"""Localised sets: geometry, scaling and discs, the prepared layout, and what is wrong in it refused by name."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from papers.ece.scaling import origins, scaled, with_discs
from shared.datasets import registry
from shared.datasets.__main__ import main
from shared.datasets.catalogue import DatasetError
from shared.datasets.localised import files, prepared
from shared.datasets.localised.localised import Localised, objects, of_labels, offsets

SIZES = ((12, 16), (10, 11), (8, 8))


def blobs(size, seed):
    """Numbers 2, 3, 7 and a single pixel of 9 at the border."""
    random = np.random.default_rng(seed)
    label = np.zeros(size, np.int32)
    for number in (2, 3, 7):
        top, left = random.integers(0, np.array(size) - 4)
        label[top : top + 4, left : left + 3] = number
    label[-1, -1] = 9
    return label


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]
    labels = [blobs(SIZES[0], 1), blobs(SIZES[1], 2), np.zeros(SIZES[2], np.int32)]
    return of_labels("made", ("s1_a", "s1_b", "s2_a"), images, labels, groups=("s1", "s1", "s2"))


@pytest.fixture
def points(data):
    """The same images, known by centres, some of them on the border."""
    centres = np.array([[0, 0], [5.5, 7], [12, 16], [3, 3], [3, 3.5]], np.float32)
    return Localised(
        name="points",
        names=data.names,
        groups=data.names,
        official=None,
        images=data.images,
        labels=None,
        offsets=offsets([3, 2, 0]),
        numbers=np.array([1, 2, 3, 1, 2]),
        centres=centres,
        boxes=np.tile(centres, 2),
        classes=np.array([0, 1, 0, 1, 1]),
        class_names=("a", "b"),
    )


@pytest.fixture
def folder(places, data):
    """`data` in the mirror in the prepared layout."""
    prepared.write_set(places[0] / "made", data, {})
    return places[0] / "made"


def equal(one, other):
    return one.sha256() == other.sha256()


def test_objects_equal_a_loop_over_pixels(data):
    for label in data.labels:
        numbers, centres, boxes = objects(label)
        assert numbers.tolist() == [number for number in np.unique(label).tolist() if number]
        for number, centre, box in zip(numbers, centres, boxes, strict=True):
            rows, columns = np.nonzero(label == number)
            assert centre == pytest.approx([rows.mean() + 0.5, columns.mean() + 0.5])
            assert box.tolist() == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]


def test_masks_are_the_union_of_the_wanted_objects(data):
    wanted = np.arange(len(data.numbers)) % 2 == 0
    for i, label in enumerate(data.labels):
        mine = data.owners() == i
        assert np.array_equal(data.masks(i, wanted), np.isin(label, data.numbers[mine & wanted]))
    assert not data.masks(2, wanted).any()  # an image without objects


def test_scaled_averages_blocks_and_drops_what_vanishes(data):
    small = scaled(data, 3)
    for image, label, big, whole in zip(small.images, small.labels, data.images, data.labels, strict=True):
        height, width = big.shape[0] // 3, big.shape[1] // 3
        assert image.shape == (height, width, 3) and label.shape == (height, width)
        assert np.array_equal(label, whole[: 3 * height : 3, : 3 * width : 3])
        assert abs(image[0, 0] - big[:3, :3].mean((0, 1))).max() <= 0.5
    assert 9 in data.numbers and 9 not in small.numbers  # a pixel between the samples
    rows = origins(small, data)
    assert np.array_equal(small.numbers, data.numbers[rows])
    assert np.allclose(small.boxes[:3], data.boxes[rows][:3] / 3)  # an image that 3 divides in height
    for i, image in enumerate(small.images):
        mine = small.owners() == i
        assert set(small.numbers[mine]) == set(np.unique(small.labels[i])) - {0}
        assert (small.boxes[mine, 2:] <= image.shape[:2]).all() and (small.centres[mine] <= image.shape[:2]).all()
    assert scaled(data, 1) is data


def test_scaled_points_lose_only_what_is_cut_off(points):
    small = scaled(points, 5)  # 12x16 -> 2x3, so row 12 and column 16 are cut off
    assert np.diff(small.offsets).tolist() == [2, 2, 0]
    assert np.allclose(small.centres, points.centres[[0, 1, 3, 4]] / 5)


@pytest.mark.parametrize("factor", [0, -2, 1.5])
def test_a_scale_that_is_no_whole_factor_is_refused(data, factor):
    with pytest.raises(ValueError, match="whole number"):
        scaled(data, factor)


def test_a_scale_larger_than_an_image_is_refused(data):
    with pytest.raises(ValueError, match="8x8"):
        scaled(data, 9)


def test_discs_belong_to_the_nearest_centre(points):
    radius = 2.5
    made = with_discs(points, radius)
    for i, label in enumerate(made.labels):
        mine = np.flatnonzero(points.owners() == i)
        for row, column in np.ndindex(label.shape):
            far = np.hypot(*(points.centres[mine] - (row + 0.5, column + 0.5)).T)
            expected = points.numbers[mine][far.argmin()] if len(mine) and far.min() <= radius else 0
            assert label[row, column] == expected
    assert made.boxes[0].tolist() == [0, 0, 2.5, 2.5]
    assert made.boxes[2].tolist() == [9.5, 13.5, 12, 16]
    with pytest.raises(ValueError, match="radius"):
        with_discs(points, 0)


def test_the_digest_is_of_all_content(data):
    changed = [label.copy() for label in data.labels]
    changed[0][0, 0] = 2 if changed[0][0, 0] != 2 else 3
    other = of_labels(data.name, data.names, data.images, changed, groups=data.groups)
    regrouped = of_labels(data.name, data.names, data.images, data.labels)
    assert len({data.sha256(), other.sha256(), regrouped.sha256()}) == 3


def test_a_set_of_ones_own_is_prepared_from_the_mirror_and_opened(folder, places, data, capsys, monkeypatch):
    (folder / "manifest.json").unlink()
    found = prepared.open("made")
    assert equal(found, data) and found is prepared.open("made")
    assert json.loads((places[1] / "made/manifest.json").read_text())["objects"] == len(data.numbers)
    assert main(["fetch", "made"]) == 0 and "made: already in" in capsys.readouterr().err
    monkeypatch.setattr("shared.datasets.registry.needs", dict)
    assert main(["list"]) == 0
    row = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("made "))
    assert re.fullmatch("made +3 images, 8 objects +mirror +yes +no run", row)
    assert main(["verify", "made"]) == 0
    assert capsys.readouterr().out == f"made: whole, 3 images, 8 objects, sha256 {data.sha256()}\n"
    assert sorted(path.name for path in places[1].iterdir()) == [".made.lock", "made"]


def test_centres_and_classes_come_back_exactly(places, points):
    prepared.write_set(places[0] / "points", points, {})
    found = prepared.open("points")
    assert np.array_equal(found.centres, points.centres) and found.class_names == ("a", "b")
    assert np.array_equal(found.classes, points.classes) and np.array_equal(found.offsets, points.offsets)


def test_boxes_classes_and_official_splits_come_back(places, data):
    classes = [np.arange(np.sum(data.owners() == i)) % 2 for i in range(3)]
    said = {"official": ("train", "test", "train"), "classes": classes, "class_names": ("x", "y")}
    rich = of_labels("rich", data.names, data.images, data.labels, **said)
    prepared.write_set(places[0] / "rich", rich, {})
    assert equal(prepared.open("rich"), rich)
    for path in (places[0] / "rich/labels").iterdir():
        path.unlink()
    (places[0] / "rich/labels").rmdir()
    assert np.array_equal(prepared.read_set(places[0] / "rich", "rich").boxes, rich.boxes)


def test_images_without_their_table_are_groups_of_their_own_in_natural_order(folder):
    (folder / "images.csv").unlink()
    for kind in ("images", "labels"):
        (folder / kind / "s1_a.png").rename(folder / kind / "s10_a.png")
    found = prepared.read_set(folder, "made")
    assert found.names == found.groups == ("s1_b", "s2_a", "s10_a") and found.official is None


def test_a_changed_prepared_set_is_refused(folder, places):
    prepared.prepare("made")
    path = places[1] / "made/labels/s1_b.png"
    Image.fromarray(np.zeros(SIZES[1], np.uint16)).save(path)
    with pytest.raises(DatasetError, match="sha256.*remove the folder"):
        prepared.open("made")
    (places[1] / "made/manifest.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"manifest\.json is damaged"):
        prepared.open("made")
    assert registry.entry_of("made").state() == "not whole" and registry.entry_of("made").size == "not known"


def test_what_is_absent_says_where_to_get_it(places, monkeypatch, capsys):
    with pytest.raises(DatasetError, match="1175282") as error:
        prepared.open("tnbc")
    assert error.value.not_run
    monkeypatch.delenv("LLP_MIRROR")
    with pytest.raises(DatasetError, match="LLP_MIRROR names no mirror"):
        prepared.open("tnbc")
    with pytest.raises(DatasetError, match="'../made' is no name of a set"):
        prepared.open("../made")
    assert main(["verify", "tnbc"]) == 1
    assert "tnbc is not prepared in" in capsys.readouterr().err


def test_files_of_ones_own_in_the_data_root_are_never_removed(folder, places):
    kept = places[1] / "made/images/mine.png"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"")
    with pytest.raises(DatasetError, match="move it to LLP_MIRROR"):
        prepared.open("made")
    assert kept.exists()


def test_an_interrupted_preparation_is_made_again(folder, places, data):
    (places[1] / ".made.new/images").mkdir(parents=True)
    assert equal(prepared.open("made"), data)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


GREY = np.zeros(SIZES[0], np.uint8)
WRONG_SETS = {
    "size": (lambda f: save(f / "labels/s1_a.png", np.zeros((12, 15), np.uint16)), r"s1_a.*\(12, 15\).*\(12, 16\)"),
    "no label image": (lambda f: (f / "labels/s1_b.png").unlink(), "labels/s1_b.png is missing"),
    "no image": (lambda f: save(f / "labels/x.png", GREY), "x.png has no image"),
    "no images": (lambda f: [p.unlink() for p in (f / "images").iterdir()], "images has no"),
    "unlisted": (lambda f: save(f / "images/x.png", np.dstack([GREY] * 3)), "no row for image 'x'"),
    "listed": (lambda f: (f / "images/s2_a.png").unlink(), "images/s2_a.png is missing"),
    "twice": (lambda f: rewrite(f / "images.csv", "s2_a", "s1_a"), "'s1_a' is there twice"),
    "split": (lambda f: rewrite(f / "images.csv", "s2_a,s2,", "s2_a,s2,dev"), "'dev' is none of"),
    "some splits": (lambda f: rewrite(f / "images.csv", "s2_a,s2,", "s2_a,s2,test"), "'s1_a' has no split"),
    "columns": (lambda f: rewrite(f / "images.csv", "group", "slide"), "no column group"),
    "cells": (lambda f: rewrite(f / "images.csv", "s2_a,s2,", "s2_a"), "line 4 has not as many cells"),
    "grey": (lambda f: save(f / "images/s1_a.png", GREY), "s1_a.png is of mode L"),
    "another kind": (lambda f: (f / "images/s3_a.jpg").touch(), r"images/s3_a\.jpg is not read, \*\.png alone are"),
    "another case": (lambda f: (f / "images/s3_a.PNG").touch(), r"images/s3_a\.PNG is not read"),
    "damaged": (lambda f: (f / "images/s1_a.png").write_bytes(b"\x89PNG\r\n"), "s1_a.png is not a readable image"),
    "colour mask": (lambda f: save(f / "labels/s1_a.png", np.dstack([GREY] * 3)), "s1_a.png is of mode RGB"),
}


@pytest.mark.parametrize("wrong", WRONG_SETS)
def test_a_wrong_set_is_refused_by_name(folder, places, wrong):
    spoil, message = WRONG_SETS[wrong]
    spoil(folder)
    with pytest.raises(DatasetError, match=message):
        prepared.open("made")
    assert not (places[1] / "made").exists()


WRONG_OBJECTS = {
    "s9,1,1,1,a": "image 's9' is not in images/",
    "s1_a,1,1,1,a\ns1_a,1,2,2,b": "line 3: object 1 of 's1_a' is there twice",
    "s1_a,0,1,1,a": "object 0 of 's1_a' is no whole number from 1",
    "s1_a,9223372036854775808,1,1,a": "object 9223372036854775808 of 's1_a' is no whole number from 1 to 2147483647",
    "s1_a,1,12.5,1,a": r"the centre \(12.5, 1.0\) is outside image 's1_a' of 12x16 pixels",
    "s1_a,1,x,1,a": "row is 'x'",
    "s1_a,1,nan,1,a": "row is 'nan'",
}


@pytest.mark.parametrize("rows", WRONG_OBJECTS)
def test_wrong_objects_are_refused_by_line(places, points, rows):
    prepared.write_set(places[0] / "points", points, {})
    (places[0] / "points/objects.csv").write_text(f"image,number,row,column,class\n{rows}\n")
    with pytest.raises(DatasetError, match=WRONG_OBJECTS[rows]):
        prepared.open("points")


@pytest.mark.parametrize("box", ["-1,0,3,3", "0,0,3,17", "3,0,2,3"])
def test_a_box_outside_its_image_is_refused(places, points, box):
    prepared.write_set(places[0] / "points", points, {})
    table = places[0] / "points/objects.csv"
    table.write_text(f"image,number,row,column,class,top,left,bottom,right\ns1_a,1,1,1,a,{box}\n")
    with pytest.raises(DatasetError, match="line 2: the box .* is outside image 's1_a'"):
        prepared.open("points")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("image,number,row,column,class,top,left,bottom", r"objects\.csv has no column right; its columns are image,"),
        ("image,number,row,column,class,class", r"objects\.csv has the column class twice; leave one"),
        ("image,number,row,column,class,top,left,top,bottom,right", r"objects\.csv has the column top twice"),
    ],
)
def test_a_table_with_some_columns_of_a_box_or_one_twice_is_refused(places, points, header, says):
    prepared.write_set(places[0] / "points", points, {})
    (places[0] / "points/objects.csv").write_text(f"{header}\n")
    with pytest.raises(DatasetError, match=says):
        prepared.open("points")


def test_classes_must_be_of_the_objects_in_the_label_images(folder, data):
    places = zip(data.owners(), data.numbers, data.centres.tolist(), strict=True)
    rows = [f"{data.names[i]},{n},{row},{column},{'ab'[n % 2]}" for i, n, (row, column) in places]
    (folder / "objects.csv").write_text("\n".join(["image,number,row,column,class", *rows[1:]]))
    with pytest.raises(DatasetError, match="no row for object 2 of image 's1_a'"):
        prepared.read_set(folder, "made")
    (folder / "objects.csv").write_text("\n".join(["image,number,row,column,class", *rows, "s2_a,4,1,1,a"]))
    with pytest.raises(DatasetError, match="object 4 of image 's2_a' has no pixel"):
        prepared.read_set(folder, "made")


def test_label_images_that_lost_objects_in_8_bits_are_refused(tmp_path):
    many = np.zeros((40, 40), np.int64)
    many[::2, ::2] = np.arange(1, 401).reshape(20, 20)
    cases = {"wrapped": many % 256, "clipped": many.clip(0, 255), "binary": 255 * (many > 0)}
    for name, label in cases.items():
        save(tmp_path / f"{name}.png", label.astype(np.uint8))
        with pytest.raises(DatasetError, match=f"{name}.png has 8 bits"):
            files.read_label_image(tmp_path / f"{name}.png")
    save(tmp_path / "whole.png", many.astype(np.uint16))
    assert np.array_equal(files.read_label_image(tmp_path / "whole.png"), many)
    save(tmp_path / "few.png", np.where(many < 256, many, 0).astype(np.uint8))
    assert files.read_label_image(tmp_path / "few.png").max() == 255


def test_images_of_16_bits_transparent_or_too_large_are_refused(tmp_path, monkeypatch):
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(6 * 2) for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(png)
    with pytest.raises(DatasetError, match="deep.png has 16 bits a channel"):
        files.read_image(tmp_path / "deep.png")
    clear = np.full((4, 4, 4), 200, np.uint8)
    save(tmp_path / "clear.png", clear)
    with pytest.raises(DatasetError, match="clear.png is of mode RGBA"):
        files.read_image(tmp_path / "clear.png")
    clear[..., 3] = 255
    save(tmp_path / "opaque.png", clear)
    assert np.array_equal(files.read_image(tmp_path / "opaque.png"), clear[..., :3])
    monkeypatch.setattr(files, "PIXELS", 15)
    with pytest.raises(DatasetError, match="opaque.png has 4x4 pixels, more than 15"):
        files.read_image(tmp_path / "opaque.png")
