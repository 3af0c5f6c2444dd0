"""What readers of localised sets once took in silence, in part or for something else: refused by file and value."""

import dataclasses
import os
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from shared.datasets import DatasetError
from shared.datasets.localised import files, prepared
from shared.datasets.localised.releases import CRCHISTO
from tests.unit.test_ece_releases import monuseg, small  # noqa: F401

LABEL = np.zeros((40, 60), np.uint16)
for _number in range(5):
    LABEL[4 + 7 * _number : 9 + 7 * _number, 8:14] = _number + 1
RGB = np.random.RandomState(0).randint(0, 256, (*LABEL.shape, 3)).astype(np.uint8)
HEADER = "image,number,row,column,class"


def refused(name, says, places):
    """Whether a set is refused in these words, without a traceback, and nothing is left."""
    with pytest.raises(DatasetError, match=says):
        prepared.open(name)
    return not (places[1] / name).exists() and not list(places[1].glob(".*.new"))


# ------------------------------------------------------------------------------------------------------------- points


def points(folder, change=lambda key, found: found, matlab=False):
    """Two images of 20 nuclei, each of whose points with a class is a detection's; a change is made by key."""
    detected = np.random.default_rng(0).permutation(24 * 20)[:20, None] // [20, 1] % [24, 20] * [2, 2] + 1.5
    kept = {}
    for image in ("img1", "img2"):
        place = folder / (image if matlab else "images")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).save(place / f"{image}.{'bmp' if matlab else 'png'}")
        found = {"detection": detected, **{kind: detected[5 * n : 5 * n + 5] for n, kind in enumerate(CRCHISTO)}}
        for kind, values in found.items():
            key = f"{image}_{kind}"
            kept[key] = change(key, values.copy())
            if matlab:
                savemat(place / f"{key}.mat", {"detection": kept[key]})
    if not matlab:
        np.savez(folder / "points.npz", **kept)


def spoilt(key, values, row=3):
    values[row, 0] = values[row, 0] if key.startswith("img1") else np.nan
    return values


WRONG_POINTS = {
    "confidence": (
        lambda _, v: np.c_[v, np.full(len(v), 0.9)],
        r"img1_detection(\.mat: detection)? has the shape \(20, 3\) where pairs",
    ),
    "transposed": (
        lambda _, v: v.T.copy(),
        r"img1_detection(\.mat: detection)? has the shape \(2, 20\) where pairs x, y are expected",
    ),
    "flat": (lambda _, v: v.ravel(), r"img1_detection(\.mat: detection)? has the shape \((1, )?40,?\) where pairs"),
    "not finite": (spoilt, r"img2_detection(\.mat: detection)? of type float64: row 3 is not finite"),
    "no class, not finite": (
        lambda k, v: spoilt(k, v) if k.endswith("detection") else v[:0],
        r"img2_detection(\.mat: detection)? of type float64: row 3 is not finite",
    ),
    "infinite class": (
        lambda k, v: v / (0 if k == "img2_others" else 1),
        r"img2_others(\.mat: detection)? of type float64: row 0 is not finite",
    ),
    "complex": (lambda _, v: v + 1j, "img1_detection(.mat has no numeric array| of type complex128)"),
    "elsewhere": (
        lambda k, v: v if k.endswith("detection") else v + 300,
        "20 of 20 points with a class have no detected nucleus of their own within 12 pixels; classes and",
    ),
    "exchanged": (
        lambda k, v: v if k.endswith("detection") else v[:, ::-1] + [300, 0],
        "img1_detection.*points with a class have no detected nucleus",
    ),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("matlab", [False, True])
@pytest.mark.parametrize("wrong", WRONG_POINTS)
def test_points_that_are_no_pairs_or_not_of_the_nuclei_are_refused_by_key(places, wrong, matlab):
    """Three columns became half as many points again, two rows other centres, NaN a traceback or a broken set."""
    change, says = WRONG_POINTS[wrong]
    points(places[0] / "crchisto", change, matlab)
    assert refused("crchisto", rf"crchisto/.*{says}", places)


@pytest.mark.parametrize("matlab", [False, True])
def test_points_as_they_are_and_one_class_astray_pass(places, capsys, matlab):
    points(places[0] / "crchisto", lambda k, v: np.r_[v, [[59, 39]]] if k == "img2_others" else v, matlab)
    data = prepared.open("crchisto")
    assert np.bincount(data.classes).tolist() == [10] * 4
    assert "1 of 21 classes are of no detected nucleus; left out" in capsys.readouterr().err


WRONG_ARCHIVES = {
    "img1_lymphocyte.npy": (b"", "img1_lymphocyte is of none of the kinds detection, epithelial, fibroblast"),
    "img1_detection.npy": (b"", "img1_detection is there twice; correct the archive"),
    "readme_detection": (b"text", r"readme_detection has the shape \(\) where pairs"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("member", WRONG_ARCHIVES)
def test_what_else_is_in_an_archive_of_points_is_refused_by_name(places, member):
    """A kind that is misspelt was left out, of two members of one name one was read, a text was a traceback."""
    points(places[0] / "crchisto")
    content, says = WRONG_ARCHIVES[member]
    with zipfile.ZipFile(places[0] / "crchisto/points.npz", "a") as archive:
        archive.writestr(member, content or archive.read("img1_detection.npy"))
    assert refused("crchisto", rf"points\.npz.*({says})", places)


@pytest.mark.parametrize("matlab", [False, True])
def test_an_image_that_is_there_twice_is_refused_by_both_names(places, matlab):
    folder = places[0] / "crchisto"
    points(folder, matlab=matlab)
    points(folder / "old", matlab=matlab)
    (folder / "old/points.npz").unlink(missing_ok=True)
    ending = r"detection\.mat" if matlab else r"\.png"
    assert refused("crchisto", rf"/img1\S*{ending} and .*/old/.*/img1\S*{ending} have one name; move the one", places)


def test_a_tissue_image_and_its_copy_of_other_colours_are_refused_by_both_names(places):
    """The latter was read, whichever it was."""
    table = monuseg(places[0] / "monuseg")
    copy = places[0] / f"monuseg/normalised/{table.stem}.tif"
    copy.parent.mkdir()
    copy.write_bytes((places[0] / f"monuseg/Tissue Images/{table.stem}.tif").read_bytes())
    says = rf"Tissue Images/{table.stem}\.tif and .*/normalised/{table.stem}\.tif have one name; move the one"
    assert refused("monuseg", says, places)
    copy.unlink()
    (again := places[0] / f"monuseg/z/{table.name}").parent.mkdir()
    again.write_bytes(table.read_bytes())
    assert refused("monuseg", rf"Annotations/{table.stem}\.xml and .*/z/{table.stem}\.xml have one name", places)


# -------------------------------------------------------------------------------------------------------------- links


def own(folder, rows=None, names=("a", "b")):
    for name in names:
        for kind, pixels in (("images", RGB), ("labels", LABEL)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{name}.png")
    if rows is not None:
        (folder / "objects.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("parts", [("images/b.png", "labels/b.png"), ("labels/b.png",), ("objects.csv",), ("labels",)])
def test_a_link_to_nothing_is_named_and_not_left_out(places, parts):
    """Image and label both links to nothing: the set had one image less, and nobody was told."""
    folder = own(places[0] / "own", [f"{name},{n},{7 * n - 1},10,x" for name in "ab" for n in range(1, 6)])
    for part in parts:
        (folder / part).rename(places[0].parent / part.replace("/", "_"))
        (folder / part).symlink_to("../.git/annex/objects/x")
    assert refused(
        "own", rf"own/{parts[0]} is a link to nothing, \.\./\.git/annex/objects/x; .*`git annex get`", places
    )


@pytest.mark.parametrize("table", ["images.csv", "objects.csv"])
def test_a_table_that_is_a_link_to_nothing_is_named(places, table):
    """The splits and groups, or the classes, were those of a set without the table."""
    (own(places[0] / "own") / table).symlink_to("nowhere")
    assert refused("own", rf"{table} is a link to nothing", places)


def test_a_link_to_nothing_in_place_of_a_set_is_named(places):
    (places[0] / "tnbc").symlink_to("nowhere")
    assert refused("tnbc", "mirror/tnbc is a link to nothing", places)


def test_a_folder_of_a_release_may_be_a_link(places):
    """What lay in it was not seen, at whatever depth but the first."""
    monuseg(places[0] / "monuseg/part one", ["TCGA-A7-A13E-01Z-00-DX1"])
    monuseg(places[0].parent / "elsewhere", ["TCGA-18-5592-01Z-00-DX1"])
    (places[0] / "monuseg/part two").symlink_to(places[0].parent / "elsewhere")
    assert len(prepared.open("monuseg").names) == 2


# ------------------------------------------------------------------------------------------------------------- tables


def rows_of(number=lambda n: n, row=lambda n: 7 * n - 1, column=lambda n: 10, kind=lambda n: "xy"[n % 2]):
    return [f"{name},{number(n)},{row(n)},{column(n)},{kind(n)}" for name in "ab" for n in range(1, 6)]


WRONG_ROWS = {
    "other numbers": (rows_of(number=lambda n: 6 - n), "line 6: the centre .34.0, 10.0. .* lies outside object 1 of"),
    "exchanged": (rows_of(row=lambda n: 10, column=lambda n: 7 * n - 1), "line 4: the centre .* lies outside object 3"),
    "of another size": (
        rows_of(row=lambda n: (7 * n - 1) / 4),
        "line 2: .* outside object 1 of image 'a', which covers",
    ),
    "no class": (
        rows_of(kind=lambda n: " " if n == 3 else "x"),
        "line 4: the class is empty; give it, or write 'unknown'",
    ),
    "two cases": (rows_of(kind=lambda n: "aA"[n % 2]), "the classes 'A' and 'a' differ in case or form only"),
    "two blanks": (
        rows_of(kind=lambda n: ["a  b", "a b"][n % 2]),
        "the classes 'a b' and 'a  b' differ in case or form",
    ),
    "two forms": (
        rows_of(kind=lambda n: unicodedata.normalize(["NFC", "NFD"][n % 2], "é")),
        r"the classes ('e\\u0301'|'\\xe9'| and ){3} differ",
    ),
    "one class, some objects": (rows_of(kind=lambda n: "x")[1:], "no row for object 1 of image 'a'; add it"),
    "one class, other numbers": (rows_of(number=lambda n: 6 - n, kind=lambda n: "x"), "line 6: the centre"),
}


@pytest.mark.parametrize("wrong", WRONG_ROWS)
def test_classes_are_of_the_objects_where_their_rows_lie(places, wrong):
    """Numbers of another program gave each object the class of some other one."""
    rows, says = WRONG_ROWS[wrong]
    own(places[0] / "own", rows)
    assert refused("own", rf"own/objects\.csv.*{says}", places)


@pytest.mark.parametrize("shift", [-0.5, 0, 0.5])
def test_rows_that_count_from_corners_or_from_middles_pass(places, shift):
    own(places[0] / "own", rows_of(row=lambda n: 7 * n - 0.5 + shift, column=lambda n: 11 + shift))
    data = prepared.open("own")
    assert data.class_names == ("x", "y") and data.classes.tolist() == [1, 0, 1, 0, 1] * 2


def test_a_centre_outside_the_box_of_its_own_row_is_refused(places):
    folder = own(places[0] / "own")
    for path in (folder / "labels").iterdir():
        path.unlink()
    (folder / "labels").rmdir()
    (folder / "objects.csv").write_text(f"{HEADER},top,left,bottom,right\na,1,5,30,x,3,1,8,9\nb,1,5,5,x,3,1,8,9\n")
    assert refused("own", r"line 2: the centre \(5.0, 30.0\) .* lies outside the box \(3.0, 1.0, 8.0, 9.0\)", places)


WRONG_IMAGES = {
    "image,group,splits\na,1,train\nb,2,test": "has a column 'splits'; if it is split, call it so",
    "image,group, split\na,1,train\nb,2,test": "has a column ' split'; if it is split",
    "image,group,Split\na,1,train\nb,2,test": "has a column 'Split'",
    "image,group,split\na,1,train\nb,1,test": "group '1' is in the splits train and, by image 'b', test; a group must",
    "image,group\na,P1\nb,p1": "the groups 'P1' and 'p1' differ in case or form only; write one of them",
}


@pytest.mark.parametrize("text", WRONG_IMAGES)
def test_a_split_or_a_group_that_would_be_lost_is_refused(places, text):
    """A split under another name was none, and one patient written in two ways was two, in training and in test."""
    (own(places[0] / "own") / "images.csv").write_text(text)
    assert refused("own", rf"own/images\.csv:? {WRONG_IMAGES[text]}", places)


@pytest.mark.parametrize("name", ["c.jp2", "c.mrxs", "c.JPEG", "more/c.png", "more/c.tif"])
def test_an_image_that_would_not_be_read_is_named(places, name):
    """Of the images some went unread: those in a folder of images/, and those of a kind that nobody had thought of."""
    path = own(places[0] / "own") / "images" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    (path.parent / "notes.txt").touch()
    assert refused("own", rf"own/images/{name} is not read, .*; (convert|move) it", places)


def test_a_copy_of_a_prepared_set_of_which_a_part_is_there_is_refused(places):
    """Its manifest says how much there was."""
    folder = own(places[0] / "made")
    prepared.prepare("made")
    (places[1] / "made").rename(places[0] / "own")
    folder = places[0] / "own"
    for path in ("images/b.png", "labels/b.png", "images.csv"):
        (folder / path).unlink()
    says = r"own/manifest\.json says 2 images and 10 objects where 1 and 5 are there; complete the set, or remove"
    assert refused("own", says, places)
    (folder / "manifest.json").write_text("[]")
    assert refused("own", r"own/manifest\.json is damaged .*; replace or remove it", places)
    (folder / "manifest.json").unlink()
    assert len(prepared.open("own").names) == 1


def test_one_of_several_pages_is_not_taken_for_the_image(tmp_path):
    """Of a stack the first was read; smaller pages, previews, are no other images."""
    first, other, preview = (Image.fromarray(pixels) for pixels in (RGB, 255 - RGB, RGB[::2, ::2].copy()))
    first.save(tmp_path / "pyramid.tif", save_all=True, append_images=[preview])
    assert np.array_equal(files.read_image(tmp_path / "pyramid.tif"), RGB)
    for name in ("stack.tif", "moving.png"):
        first.save(tmp_path / name, save_all=True, append_images=[other])
        with pytest.raises(DatasetError, match=rf"{name} has several pages of 60x40 pixels; save the one that is"):
            files.read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["c\n", " c", "c\udcff", "c\u00a0"])
def test_a_name_that_no_table_can_hold_is_refused(places, name):
    """A set was written that could not be opened, and stayed; or there was a traceback."""
    own(places[0] / "own", names=["a", name])
    assert refused("own", r"mirror/own: the name of image '.*' has signs that no table can hold; rename it", places)


def test_a_set_that_does_not_read_back_as_it_was_is_not_kept(places, monkeypatch):
    own(places[0] / "own")
    write = prepared.write_set
    monkeypatch.setattr(
        prepared,
        "write_set",
        lambda folder, data, about: write(folder, dataclasses.replace(data, groups=("x", "x")), about),
    )
    assert refused("own", r"own: what was written to .*/\.own\.new reads back as something else", places)


@pytest.mark.parametrize("table", ["images.csv", "objects.csv"])
def test_a_folder_in_place_of_a_table_is_named(places, table):
    (own(places[0] / "own") / table).mkdir()
    assert refused("own", rf"own/{table} is a folder where a table is read", places)


def test_label_images_that_lost_their_numbers_and_empty_files_are_named(places):
    """A JPEG changes numbers at borders; what was said of an empty file held the address of an object in memory."""
    folder = own(places[0] / "own")
    Image.fromarray(LABEL.astype(np.uint8)).save(folder / "labels/b.png", "JPEG")
    assert refused("own", r"labels/b\.png is not a readable image of the kinds PNG, TIFF, BMP; replace it", places)
    (folder / "images/a.png").write_bytes(b"")
    assert refused("own", r"images/a\.png is empty; replace it", places)


def test_two_images_of_one_name_in_two_forms_of_unicode_are_refused(places):
    own(places[0] / "own", names=[unicodedata.normalize(form, "é") for form in ("NFC", "NFD")])
    assert refused("own", r"own has the images .* and '.*', one name in two forms of Unicode; rename one", places)


def test_a_pickle_in_an_archive_of_points_is_not_run(places, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    points(places[0] / "crchisto")
    with np.load(places[0] / "crchisto/points.npz") as archive:
        kept = dict(archive)
    np.savez(places[0] / "crchisto/points.npz", **{**kept, "img1_detection": np.array([Hostile()], dtype=object)})
    assert refused("crchisto", r"points\.npz is not a readable archive of points", places)
    assert not (tmp_path / "owned").exists()
