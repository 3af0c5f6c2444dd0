"""Recorded holograms: the documented folder is read as it says, and what is wrong is refused by file and image."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from papers.vp_dsd.imaging.holograms import Cells, Holograms, check, find, normalised, read
from papers.vp_dsd.imaging.optics import Optics
from shared.datasets.catalogue import Absent, DatasetError

OPTICS = Optics(0.637, 1.67, 1000.0)
pytestmark = pytest.mark.filterwarnings("ignore:.*wraps around at the borders")  # toys of 12 pixels
SIZE = 12


@pytest.fixture
def intensities():
    return np.random.default_rng(0).integers(50, 250, (4, SIZE, SIZE))


@pytest.fixture
def folder(tmp_path, intensities):
    """Three subjects, four images of four kinds, cells of the second image first."""
    optics = {"wavelength_um": 0.637, "pitch_um": 1.67, "distance_um": 1000}
    (tmp_path / "optics.json").write_text(json.dumps(optics))
    (tmp_path / "subjects.csv").write_text(
        "subject,split,lymphocyte,monocyte,granulocyte\n"
        "ann,train,.3,.1,.6\n"
        "bob,test,0.333,0.083,0.583\n"
        "eve,validation,.25,.05,.7\n"
    )
    (tmp_path / "images.csv").write_text("image,subject\na.npy,bob\nb/b.png,ann\nc.png,ann\nd.tif,eve\n")
    (tmp_path / "cells.csv").write_text(
        "image,row,column,class\nb/b.png,3,4.5,monocyte\na.npy,1,2,granulocyte\nd.tif,0,0,lymphocyte\n"
        "b/b.png,7,8,lymphocyte\n"
    )
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "a.npy", intensities[0].astype(np.float64))
    Image.fromarray(intensities[1].astype(np.uint8)).save(tmp_path / "b/b.png")
    Image.fromarray((200 * intensities[2]).astype(np.uint16)).save(tmp_path / "c.png")
    Image.fromarray(intensities[3].astype(np.float32)).save(tmp_path / "d.tif")
    return tmp_path


def test_the_documented_folder_is_read(folder, intensities):
    found = read(folder)
    assert np.allclose(found.images, normalised(intensities), atol=1e-5)  # whatever the file's unit
    assert found.images.dtype == np.float32
    assert found.subjects.tolist() == [1, 0, 0, 2]
    assert found.proportions[0] == pytest.approx([0.3, 0.1, 0.6])
    assert found.proportions.sum(1) == pytest.approx(1)
    assert [found.numbers(split).tolist() for split in (0, 1, 2)] == [[1, 2], [3], [0]]
    assert found.optics == OPTICS
    assert not found.simulated
    assert found.cells.offsets.tolist() == [0, 1, 3, 3, 4]
    assert found.cells.labels.tolist() == [2, 1, 0, 0]
    assert found.cells.centres.tolist() == [[1, 2], [3, 4.5], [7, 8], [0, 0]]


def test_cells_need_not_be_known(folder):
    (folder / "cells.csv").unlink()
    assert read(folder).cells is None


def test_normalised_holograms_have_mean_zero_and_no_unit(intensities):
    holograms = normalised(intensities)
    assert np.abs(holograms.mean((1, 2))).max() < 1e-6
    assert holograms == pytest.approx(normalised(9.0 * intensities), abs=1e-5)
    assert holograms[0, 2, 3] == pytest.approx(np.sqrt(intensities[0, 2, 3]) / np.sqrt(intensities[0]).mean() - 1, 1e-4)


def test_the_digest_sees_every_array():
    cells = Cells(np.array([0, 1]), np.zeros((1, 2), np.float32), np.array([2]))
    arrays = np.zeros((1, 4, 4), np.float32), np.array([0]), np.array([[0.2, 0.1, 0.7]]), np.array([0])
    one = Holograms(*arrays, OPTICS, cells, simulated=True)
    others = [
        replace(one, images=one.images + 1),
        replace(one, subjects=one.subjects + 1),
        replace(one, proportions=one.proportions[:, ::-1]),
        replace(one, splits=one.splits + 1),
        replace(one, optics=replace(OPTICS, pitch=1.12)),
        replace(one, cells=None),
        replace(one, cells=replace(cells, centres=cells.centres + 1)),
        replace(one, cells=replace(cells, labels=cells.labels - 1)),
    ]
    digests = {made.sha256() for made in [one, *others]}
    assert len(digests) == len(others) + 1
    assert replace(one, images=one.images.copy()).sha256() == one.sha256()


def rewritten(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def saved(name, image):
    return lambda folder: np.save(folder / name, image)


def spoiled(place, value):
    image = np.arange(SIZE * SIZE, dtype=float).reshape(SIZE, SIZE)
    image[place] = value
    return saved("a.npy", image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "optics.json").unlink(), "optics.json is not readable"),
        (rewritten("optics.json", "pitch_um", "pitch"), "optics.json must hold numbers for .*pitch_um"),
        (rewritten("optics.json", "1.67", '"1.67"'), "optics.json must hold numbers"),
        (rewritten("optics.json", "1.67", "-1.67"), "optics.json: pitch is -1.67"),
        (lambda folder: (folder / "subjects.csv").unlink(), "subjects.csv is not readable"),
        (rewritten("subjects.csv", "monocyte", "mono"), "subjects.csv has no column monocyte"),
        (rewritten("subjects.csv", ".3,.1,.6", "30,10,60"), "line 2: .*'ann' sum to 100 .*divide percentages by 100"),
        (rewritten("subjects.csv", ".3,.1,.6", ".3,.1,.5"), "line 2: .*'ann' sum to 0.9"),
        (rewritten("subjects.csv", ".3,.1,.6", "-.1,.1,1"), "line 2: .*not negative"),
        (rewritten("subjects.csv", ".3,.1,.6", ".3,.1,nan"), "line 2: granulocyte is 'nan'"),
        (rewritten("subjects.csv", ".3,.1,.6", ".3,.1"), "line 2 has not as many cells"),
        (rewritten("subjects.csv", "bob,test", "bob,dev"), "line 3: split 'dev' is none of train, validation, test"),
        (rewritten("subjects.csv", "bob,test", "ann,test"), "line 3: subject 'ann' is there twice"),
        (rewritten("images.csv", "a.npy,bob", "a.npy,tom"), "line 2: subject 'tom' is not in subjects.csv"),
        (rewritten("images.csv", "a.npy,bob", "c.png,bob"), "line 4: image 'c.png' is there twice"),
        (rewritten("images.csv", "a.npy", "z.npy"), r"line 2: .*z.npy is missing"),
        (rewritten("images.csv", "a.npy", "../a.npy"), "line 2: '../a.npy' is no plain path"),
        (rewritten("images.csv", "a.npy", "/etc/hosts"), "line 2: '/etc/hosts' is no plain path"),
        (lambda folder: (folder / "images.csv").write_text("image,subject\n"), "images.csv names no images"),
        (lambda folder: (folder / "b/b.png").write_bytes(b"not a picture"), "line 3: .*b.png is not a readable image"),
        (lambda folder: Image.new("RGB", (SIZE, SIZE)).save(folder / "c.png"), "c.png .*mode is RGB, not grey"),
        (saved("a.npy", np.array([{}], object)), "a.npy is not a readable image"),
        (saved("a.npy", np.ones((SIZE, SIZE, 3))), r"a.npy is a float64 array of shape \(12, 12, 3\)"),
        (saved("a.npy", np.ones((SIZE, SIZE + 1))), r"a.npy is a float64 array of shape \(12, 13\)"),
        (saved("a.npy", np.ones((SIZE, SIZE), complex)), "a.npy is a complex128 array"),
        (spoiled((2, 5), -1), "a.npy holds -1.0, which is no intensity"),
        (spoiled((2, 5), np.nan), r"image 0 \(a.npy\) holds nan at row 2, column 5"),
        (spoiled((0, 1), np.inf), r"image 0 \(a.npy\) holds inf at row 0, column 1"),
        (spoiled(..., 7), r"image 0 \(a.npy\) is constant \(7 everywhere\)"),
        (saved("a.npy", np.eye(SIZE + 1)), r"image 1 \(b/b.png\) has 12x12 pixels where 13x13 are expected"),
        (rewritten("cells.csv", "a.npy", "z.npy"), "line 3: image 'z.npy' is not in images.csv"),
        (rewritten("cells.csv", "granulocyte", "neutrophil"), "line 3: class 'neutrophil' is none of lymphocyte"),
        (rewritten("cells.csv", "a.npy,1,2", "a.npy,1,12"), r"line 3: the centre \(1.0, 12.0\) lies outside 'a.npy'"),
        (rewritten("cells.csv", "a.npy,1,2", "a.npy,1,?"), "line 3: column is '\\?'"),
    ],
)
def test_what_is_wrong_is_refused_by_name(folder, change, message):
    change(folder)
    with pytest.raises(DatasetError, match=message):
        read(folder)


def test_an_image_below_zero_is_said_to_be_no_intensity():
    image = np.ones((SIZE, SIZE))
    image[2, 5] = -0.25
    with pytest.raises(DatasetError, match=r"image 0 holds -0.25 at row 2, column 5 where intensities of 0 or more"):
        check([image], Optics(1, 1, 1), SIZE)


def test_images_may_say_their_own_optics(folder):
    rows = "image,subject,pitch_um,wavelength_um\na.npy,bob,1.67,0.637\nc.png,ann,{},0.637\n"
    (folder / "cells.csv").unlink()
    (folder / "images.csv").write_text(rows.format("1.67"))
    assert len(read(folder).images) == 2
    (folder / "images.csv").write_text(rows.format("1.12"))
    with pytest.raises(DatasetError, match=r"image 1 \(c.png\) has the pitch 1.12 um where 1.67 um is expected"):
        read(folder)
    (folder / "images.csv").write_text(rows.format("0.1"))
    with pytest.raises(DatasetError, match=r"images.csv, line 3: pitch 0.1 um"):
        read(folder)


def test_a_set_of_another_sensor_or_size_is_refused(folder):
    assert len(read(folder, OPTICS, SIZE).images) == 4
    for name, value in (("wavelength", 0.53), ("pitch", 1.12), ("distance", 900.0)):
        with pytest.raises(DatasetError, match=rf"image 0 \(a.npy\) has the {name} .* where {value:g} um is expected"):
            read(folder, replace(OPTICS, **{name: value}))
    with pytest.raises(DatasetError, match="12x12 pixels where 128x128"):
        read(folder, size=128)


def test_images_in_memory_are_checked_alike():
    images = np.random.default_rng(0).random((3, 8, 8))
    check(images, OPTICS, 8)
    check(images, OPTICS, 8, [OPTICS] * 3)
    with pytest.raises(DatasetError, match="image 2 has the pitch 1.12"):
        check(images, OPTICS, 8, [OPTICS, OPTICS, replace(OPTICS, pitch=1.12)])
    with pytest.raises(DatasetError, match="image 0 has 8x8 pixels where 9x9"):
        check(images, OPTICS, 9)
    images[1, 3, 4] = np.nan
    with pytest.raises(DatasetError, match="image 1 holds nan at row 3, column 4"):
        check(images, OPTICS, 8)


def test_a_mirror_holds_the_set_or_the_run_is_not_run(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("LLP_MIRROR", raising=False)
    with pytest.raises(Absent, match="wbc_holograms: LLP_MIRROR names no mirror.*ask the authors") as caught:
        find("wbc_holograms")
    assert caught.value.not_run
    mirror = tmp_path / "mirror"
    (mirror / "wbc_holograms_synthetic").mkdir(parents=True)
    monkeypatch.setenv("LLP_MIRROR", str(mirror))
    assert find("wbc_holograms_synthetic") == mirror / "wbc_holograms_synthetic"
    with pytest.raises(Absent, match="holds none of wbc_holograms;"):
        find("wbc_holograms")
