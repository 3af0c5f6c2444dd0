"""Official releases, made small in their own layout: read as they are, and what is wrong in them refused by name."""

import dataclasses
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from shared.datasets.catalogue import DatasetError
from shared.datasets.localised import files, prepared
from shared.datasets.localised.releases import CONSEP, CRCHISTO, KUMAR, RELEASES

LABEL = np.zeros((9, 14), np.int32)
LABEL[1:4, 2:6] = 1
LABEL[3:7, 8:12] = 2
LABEL[8, 13] = 4


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Releases made here have an image or two where the official ones have many."""
    made = {name: dataclasses.replace(release, images=0) for name, release in RELEASES.items()}
    monkeypatch.setattr(prepared, "RELEASES", made)


@pytest.fixture
def mirror(places):
    return places[0]


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(path, size=LABEL.shape, channels=3):
    pixels = np.random.default_rng(len(str(path.name))).integers(0, 256, (*size, channels)).astype(np.uint8)
    pixels[..., 3:] = 255
    save(path, pixels)
    return pixels[..., :3]


def mat(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, arrays)


def test_tnbc_masks_become_connected_components(mirror):
    folder = mirror / "TNBC_NucleiSegmentation"
    for slide, image in ((1, 1), (1, 2), (2, 1), (12, 1)):
        expected = picture(folder / f"Slide_{slide:02}/{slide:02}_{image}.png", channels=4)
        save(folder / f"GT_{slide:02}/{slide:02}_{image}.png", (255 * (LABEL > 0)).astype(np.uint8))
    (folder / "GT_01/._01_1.png").write_bytes(b"of a Mac")
    data = prepared.open("tnbc")
    assert data.names == ("01_1", "01_2", "02_1") and data.groups == ("01", "01", "02")  # slide 12 is other tissue
    assert np.diff(data.offsets).tolist() == [3, 3, 3] and data.class_names == ("nucleus",)
    assert np.array_equal(data.images[2], expected)
    assert np.array_equal(data.labels[0] > 0, LABEL > 0)
    assert data.boxes[:3].tolist() == [[1, 2, 4, 6], [3, 8, 7, 12], [8, 13, 9, 14]]


def test_a_mask_without_image_and_an_image_without_mask_are_refused(mirror):
    picture(mirror / "tnbc/Slide_01/01_1.png")
    with pytest.raises(DatasetError, match=r"GT_01/01_1\.png is not readable"):
        prepared.open("tnbc")
    for image in (1, 2):
        save(mirror / f"tnbc/GT_01/01_{image}.png", LABEL.astype(np.uint8))
    with pytest.raises(DatasetError, match=r"GT_01/01_2\.png has no image"):
        prepared.open("tnbc")


def regions(*polygons):
    vertices = ("".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in polygon) for polygon in polygons)
    inner = "".join(f'<Region Id="{i}"><Vertices>{v}</Vertices></Region>' for i, v in enumerate(vertices, 1))
    return f'<?xml version="1.0"?><Annotations><Annotation><Regions>{inner}</Regions></Annotation></Annotations>'


SQUARE = ((2, 1), (6, 1), (6, 4), (2, 4))
OVER = ((4, 2), (9, 2), (9, 6), (4, 6))


def monuseg(folder, names=("TCGA-A7-A13E-01Z-00-DX1", "TCGA-18-5592-01Z-00-DX1")):
    for name in names:
        picture(folder / f"Tissue Images/{name}.tif")
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / f"Annotations/{name}.xml").write_text(regions(SQUARE, OVER, ((1, 1), (2, 2)), SQUARE))
    return folder / f"Annotations/{names[0]}.xml"


def test_regions_of_imagescope_become_objects_and_the_first_keeps_a_shared_pixel(mirror):
    monuseg(mirror / "monuseg/MoNuSeg 2018 Training Data")
    data = prepared.open("monuseg")
    assert data.groups == ("TCGA-18-5592", "TCGA-A7-A13E") and data.official is None
    assert data.numbers.tolist() == [1, 2, 1, 2]  # neither two corners nor what another covers makes an object
    expected = np.zeros(LABEL.shape, int)
    expected[2:6, 4:9] = 2
    expected[1:4, 2:6] = 1
    assert np.array_equal(data.labels[0], expected)


def test_a_folder_named_test_is_the_test_set(mirror):
    monuseg(mirror / "monuseg/MoNuSeg 2018 Training Data", ("TCGA-A7-A13E-01Z-00-DX1",))
    monuseg(mirror / "monuseg/MoNuSegTestData", ("TCGA-2Z-A9J9-01A-01-TS1",))
    data = prepared.open("monuseg")
    assert dict(zip(data.groups, data.official, strict=True)) == {"TCGA-A7-A13E": "train", "TCGA-2Z-A9J9": "test"}


def test_kumar_is_the_thirty_images_with_their_split(mirror):
    patients = [f"TCGA-{patient}-01Z-00-DX1" for split in KUMAR.values() for patient in split.split()]
    monuseg(mirror / "monuseg", [*patients, "TCGA-2Z-A9J9-01A-01-TS1"])
    data = prepared.open("kumar")
    assert len(data.names) == 30 and data.official.count("train") == 16 and data.official.count("test") == 14
    assert data.official[data.groups.index("TCGA-RD-A8N9")] == "test"


def test_kumar_of_fewer_images_is_refused(mirror):
    monuseg(mirror / "kumar")
    with pytest.raises(DatasetError, match="kumar has no image of TCGA-21-5784,"):
        prepared.open("kumar")


def inside(corners, row, column):
    """Whether a point is in a polygon: crossings of the ray to its right, edge by edge."""
    odd = False
    for (y0, x0), (y1, x1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (y0 > row) != (y1 > row) and column < x0 + (row - y0) * (x1 - x0) / (y1 - y0):
            odd = not odd
    return odd


def test_polygons_are_filled_at_the_middles_of_pixels():
    random = np.random.default_rng(100)
    for count in (3, 5, 12):
        corners = random.uniform(-3, 17, (count, 2))
        expected = [[inside(corners.tolist(), r + 0.5, c + 0.5) for c in range(14)] for r in range(13)]
        assert np.array_equal(files.filled([corners], (13, 14)), np.array(expected))
    assert not files.filled([np.array([[-5.0, -5], [-5, -1], [-1, -1]])], (4, 4)).any()


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb">]><Annotations>&b;</Annotations>'
WRONG_XML = {
    BOMB: "declares a document type",
    "<Annotations>": "is not a readable ImageScope file",
    regions((("x", 1), (2, 2))): "is not a readable ImageScope file",
    "<a><Region><Vertex X='1'/></Region></a>": "no number for X or Y",
}


@pytest.mark.parametrize("text", WRONG_XML)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_wrong_or_dangerous_xml_is_refused(mirror, text, encoding):
    path = monuseg(mirror / "monuseg")
    path.write_text(text, encoding=encoding)
    message = WRONG_XML[text] if encoding == "utf-8" else "is not UTF-8"
    with pytest.raises(DatasetError, match=rf"A13E.*\.xml.*{message}"):
        prepared.open("monuseg")


def test_image_and_regions_need_each_other(mirror):
    path = monuseg(mirror / "monuseg")
    picture(mirror / "monuseg/Tissue Images/TCGA-00-0000.tif")
    with pytest.raises(DatasetError, match=r"TCGA-00-0000\.tif has no regions"):
        prepared.open("monuseg")
    path.with_name("TCGA-11-1111.xml").write_text(regions(SQUARE))
    with pytest.raises(DatasetError, match=r"TCGA-11-1111\.xml has no image"):
        prepared.open("monuseg")


def text_mask(path, label=LABEL):
    height, width = label.shape
    path.write_text(f"{width} {height}\n" + "\n".join(map(str, label.ravel())) + "\n")


def test_cpm15_masks_of_text_are_read_row_after_row(mirror):
    picture(mirror / "cpm15/image01.png")
    picture(mirror / "cpm15/image01_poly.png")
    text_mask(mirror / "cpm15/image01_mask.txt")
    data = prepared.open("cpm15")
    assert data.names == ("image01",) and np.array_equal(data.labels[0], LABEL)


WRONG_TEXT = {
    "3 2\n0\n0\n": r"image01_mask\.txt says 3x2 pixels and holds 2",
    "3 x\n0": r"image01_mask\.txt is not a mask of whole numbers",
    "1": r"image01_mask\.txt is not a mask",
    "2 1\n0\n0\n": r"image01: the label image has \(1, 2\) pixels, the image \(9, 14\)",
}


@pytest.mark.parametrize("text", WRONG_TEXT)
def test_wrong_masks_of_text_are_refused(mirror, text):
    picture(mirror / "cpm15/image01.png")
    (mirror / "cpm15/image01_mask.txt").write_text(text)
    with pytest.raises(DatasetError, match=WRONG_TEXT[text]):
        prepared.open("cpm15")


@pytest.mark.parametrize("kind", ["mat", "txt"])
def test_cpm17_images_of_one_name_are_told_apart_by_split(mirror, kind):
    for part in ("train", "test"):
        images = mirror / f"cpm17/{part}/{'Images' if kind == 'mat' else ''}"
        picture(images / "image_00.png")
        if kind == "mat":
            mat(mirror / f"cpm17/{part}/Labels/image_00.mat", inst_map=LABEL.astype(float))
        else:
            text_mask(images / "image_00_mask.txt")
    data = prepared.open("cpm17")
    assert data.names == ("test_image_00", "train_image_00") and data.official == ("test", "train")
    assert np.array_equal(data.labels[0], LABEL)


def consep(folder, **changes):
    types = np.where(LABEL == 1, 2, np.where(LABEL > 0, 7, 0))
    types[1, 2] = 5  # one pixel against eleven
    for part in ("Train", "Test"):
        picture(folder / f"{part}/Images/{part.lower()}_1.png", channels=4)
        mat(folder / f"{part}/Labels/{part.lower()}_1.mat", **({"inst_map": LABEL * 1.0, "type_map": types} | changes))


def test_consep_nuclei_have_the_type_of_most_of_their_pixels(mirror):
    consep(mirror / "CoNSeP")
    data = prepared.open("consep")
    assert data.names == ("test_1", "train_1") and data.official == ("test", "train")
    assert [data.class_names[of] for of in data.classes[:3]] == ["inflammatory", "endothelial", "endothelial"]
    assert data.class_names == CONSEP


WRONG_MAT = {
    "fraction": ({"inst_map": LABEL + 0.5}, "inst_map .* is no map of whole numbers"),
    "size": ({"inst_map": LABEL[:5]}, "inst_map of shape"),
    "negative": ({"inst_map": -LABEL}, "is no map of whole numbers"),
    "text": ({"inst_map": "nuclei"}, "no numeric array 'inst_map'"),
    "types": ({"type_map": 9 * (LABEL > 0)}, "type_map holds 9"),
    "untyped": ({"type_map": 1 * (LABEL == 1)}, "object 2 has no type"),
}


@pytest.mark.parametrize("wrong", WRONG_MAT)
def test_wrong_arrays_of_matlab_are_refused(mirror, wrong):
    changes, message = WRONG_MAT[wrong]
    consep(mirror / "consep", **changes)
    with pytest.raises(DatasetError, match=rf"test_1\.mat.*{message}"):
        prepared.open("consep")


@pytest.mark.parametrize("start", [b"MATLAB 7.3 MAT-file", b"\x89HDF\r\n\x1a\n", b"nothing"])
def test_matlab_files_that_cannot_be_read_are_refused(tmp_path, start):
    (tmp_path / "a.mat").write_bytes(start + bytes(200))
    message = "not a readable MATLAB file" if start == b"nothing" else "version 7.3"
    with pytest.raises(DatasetError, match=rf"a\.mat.*{message}"):
        files.read_mat(tmp_path / "a.mat", ("x",))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [0, 8, 11, 14, 65289])
def test_a_type_of_numbers_that_is_none_is_refused_where_the_reader_would_crash(tmp_path, compressed, kind):
    """SciPy ended the process by a signal, and with it whatever else was prepared."""
    mat(tmp_path / "a.mat", other={"a": "text"}, x=LABEL * 1.0, y=np.zeros((0, 2)))
    content = (tmp_path / "a.mat").read_bytes()
    at = content.index(struct.pack("<II", 9, LABEL.size * 8))
    content = content[:at] + struct.pack("<I", kind) + content[at + 4 :]
    if compressed:
        packed, at = b"", 128
        while at < len(content):
            end = at + 8 + struct.unpack_from("<I", content, at + 4)[0]
            part, at = zlib.compress(content[at:end]), end
            packed += struct.pack("<II", 15, len(part)) + part
        content = content[:128] + packed
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.mat has no numeric array 'x'"):
        files.read_mat(tmp_path / "a.mat", ("y", "x"))
    assert files.read_mat(tmp_path / "a.mat", ("y",))[0].shape == (0, 2)


DETECTED = np.array([[3.5, 1.5], [10, 5], [10.5, 5], [13.9, 8.2], [0.2, 0.1]])  # x, y
OF_CLASS = {"epithelial": DETECTED[2:3], "fibroblast": DETECTED[[1]] + 0.1, "others": np.array([[3.4, 1.0]])}


def crchisto(folder, layout):
    points = {"detection": DETECTED} | {kind: OF_CLASS.get(kind, np.zeros((0, 2))) for kind in CRCHISTO}
    for name in ("img10", "img2"):
        if layout == "release":
            picture(folder / f"Detection/{name}/{name}.bmp")
            picture(folder / f"Classification/{name}/{name}.bmp")
            for kind, found in points.items():
                part = "Detection" if kind == "detection" else "Classification"
                mat(folder / f"{part}/{name}/{name}_{kind}.mat", detection=found)
        else:
            picture(folder / f"images/{name}.png")
    if layout != "release":
        archive = {f"{name}_{kind}": found for name in ("img10", "img2") for kind, found in points.items()}
        np.savez(folder / "points.npz", **archive)


@pytest.mark.parametrize("layout", ["release", "points"])
def test_crchisto_centres_get_the_class_of_the_nearest_point(mirror, layout):
    crchisto(mirror / "CRCHistoPhenotypes_2016_04_28", layout)
    data = prepared.open("crchisto")
    assert data.names == ("img2", "img10") and data.labels is None and data.offsets.tolist() == [0, 5, 10]
    assert np.allclose(data.centres[:5], DETECTED[:, ::-1])
    assert [data.class_names[of] for of in data.classes[:5]] == [
        "others",
        "fibroblast",
        "epithelial",
        "unknown",
        "unknown",
    ]


def test_an_image_whose_nuclei_nobody_detected_is_refused(mirror):
    crchisto(mirror / "crchisto", "release")
    picture(mirror / "crchisto/Detection/img7/img7.bmp")
    with pytest.raises(DatasetError, match=r"img7\.bmp has no labels; complete the release"):
        prepared.open("crchisto")


def test_a_centre_outside_its_image_is_refused(mirror):
    crchisto(mirror / "crchisto", "release")
    mat(mirror / "crchisto/Detection/img2/img2_detection.mat", detection=np.array([[3.0, 9.5]]))
    with pytest.raises(DatasetError, match=r"img2_detection\.mat: the centre \(9.5, 3.0\) is outside"):
        prepared.open("crchisto")
    (mirror / "crchisto/Classification/img2/img2_others.mat").unlink()
    mat(mirror / "crchisto/Detection/img2/img2_detection.mat", detection=DETECTED)
    with pytest.raises(DatasetError, match=r"has no img2_others\.mat"):
        prepared.open("crchisto")


def test_nuclick_masks_are_read_from_both_halves(mirror):
    for part, value in (("Train", 1), ("Validation", 255)):
        picture(mirror / f"Hemato_Data/{part}/images/a (1).png")
        save(mirror / f"Hemato_Data/{part}/masks/a (1)_mask.png", (value * (LABEL == 1)).astype(np.uint8))
    data = prepared.open("wbc_nuclick")
    assert data.official == ("train", "test") and len(data.classes) == 2
    assert data.boxes.tolist() == [[1, 2, 4, 6]] * 2


def test_an_image_without_its_mask_is_refused(mirror):
    consep(mirror / "consep")
    picture(mirror / "consep/Train/Images/train_2.png")
    picture(mirror / "cpm15/image01.png")
    picture(mirror / "cpm15/image02.png")
    text_mask(mirror / "cpm15/image01_mask.txt")
    picture(mirror / "wbc_nuclick/Train/images/b.png")
    picture(mirror / "wbc_nuclick/Train/images/a.png")
    save(mirror / "wbc_nuclick/Train/masks/a_mask.png", (LABEL == 1).astype(np.uint8))
    for name, image in (("consep", "train_2"), ("cpm15", "image02"), ("wbc_nuclick", "b")):
        with pytest.raises(DatasetError, match=rf"/{image}\.png has no labels"):
            prepared.open(name)


@pytest.mark.parametrize("name", RELEASES)
def test_an_empty_folder_says_what_is_missing(mirror, name):
    (mirror / name).mkdir()
    with pytest.raises(DatasetError, match=rf"mirror/{name} has no .*; (get it from|it is private .* a copy goes)"):
        prepared.open(name)
