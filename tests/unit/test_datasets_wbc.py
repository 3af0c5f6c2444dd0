"""Stained white blood cells: both layouts and the archive give the same arrays; what is wrong is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from shared.datasets import DatasetError, download, fetch, load, prepare, verify, wbc
from shared.datasets.catalogue import read_sources
from tests.made_archives import serve, write_sources, write_tar

LABELS = np.array([1] * 176 + [2] * 53 + [3] * 48 + [4] * 22 + [5])


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No mirror, an empty data root, no space needed, quick retries."""
    monkeypatch.setattr(prepare, "ensure_space", lambda *args: None)
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setenv("LLP_DATA", str(tmp_path / "root"))
    monkeypatch.delenv("LLP_MIRROR", raising=False)


@pytest.fixture(scope="module")
def images():
    """300 images of 88 to 120 pixels a side, of one colour each outside their centre."""
    random = np.random.RandomState(0)
    made = []
    for height, width in random.randint(88, 121, (wbc.IMAGES, 2)):
        image = np.full((height, width, 3), random.randint(0, 256, 3), np.uint8)
        image[height // 2 :, width // 2 :] = random.randint(0, 256, 3)
        made.append(image)
    return made


def encoded(image, kind):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    return buffer.getvalue()


def files(images, layout, labels=LABELS):
    table = "image ID,class label\r\n" + "".join(f"{i},{label}\r\n" for i, label in enumerate(labels, 1))
    return {layout.labels: table.encode()} | {
        name: encoded(image, layout.kind) for name, image in zip(layout.images, images, strict=True)
    }


def write(folder, content):
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def source(path, **row):
    mirror = "wbc_stained segmentation_WBC segmentation_WBC-master"
    return write_sources(path, {"name": "wbc_stained", "how": "mirror", "mirror": mirror, **row})


def test_every_way_gives_the_same_arrays(tmp_path, monkeypatch, images):
    official, renamed = files(images, wbc.OFFICIAL), files(images, wbc.RENAMED)
    masks = {name.replace(".bmp", ".png"): b"a mask" for name in official if name.endswith(".bmp")}
    write(tmp_path / "a" / "segmentation_WBC-master", official | masks)
    write(tmp_path / "b" / "wbc_stained", renamed)
    tar = write_tar(tmp_path / "c.tar.gz", "segmentation_WBC-c0ffee", {**official, **masks, "README.rst": b"?"})
    sources, found = source(tmp_path / "sources.csv"), []
    for name in "ab":
        monkeypatch.setenv("LLP_MIRROR", str(tmp_path / name))
        assert fetch("wbc_stained", tmp_path / f"root-{name}", sources) == "mirror"
        found.append(verify("wbc_stained", tmp_path / f"root-{name}", sources))
    with serve(c0ffee_tar_gz=tar.read_bytes()) as server:
        sources = source(tmp_path / "served.csv", how="official", url=f"{server.url}/c0ffee.tar.gz", sha256=found[0])
        assert fetch("wbc_stained", tmp_path / "root-c", sources) == "official"
        assert sorted(path.name for path in (tmp_path / "root-c").iterdir()) == [".wbc_stained.lock", "wbc_stained"]
        wrong = source(tmp_path / "wrong.csv", how="official", url=f"{server.url}/c0ffee.tar.gz", sha256="00")
        for _ in range(2):  # an archive that was not checked is not taken for the right one the next time either
            with pytest.raises(DatasetError, match="wbc_stained: the arrays of .* have sha256 .* where 00 is recorded"):
                fetch("wbc_stained", tmp_path / "root-d", wrong)
        assert len(server.asked) == 3
    found.append(verify("wbc_stained", tmp_path / "root-c", sources))
    assert len(set(found)) == 1


def test_a_fifth_of_each_class_is_for_test_and_the_basophil_in_neither(tmp_path, monkeypatch, images):
    write(tmp_path / "wbc_stained", files(images, wbc.RENAMED))
    monkeypatch.setenv("LLP_MIRROR", str(tmp_path))
    sources = source(tmp_path / "sources.csv")
    fetch("wbc_stained", sources=sources)
    dataset = load("wbc_stained", sources=sources)
    assert np.bincount(dataset.y_train).tolist() == [141, 42, 38, 18]
    assert np.bincount(dataset.y_test).tolist() == [35, 11, 10, 4]
    assert dataset.image_shape == (32, 32, 3) and dataset.x_train.dtype == np.uint8 and dataset.groups_train is None
    both = np.concatenate([dataset.x_train, dataset.x_test]).reshape(299, -1)
    expected = np.stack([wbc.reduced(image) for image in images[:299]]).reshape(299, -1)
    assert sorted(map(bytes, both)) == sorted(map(bytes, expected))


@pytest.mark.parametrize("shape", [(96, 96), (120, 96), (96, 120), (97, 120)])
def test_the_centre_square_is_averaged(shape):
    image = np.zeros((*shape, 3), np.uint8)
    top, left = (shape[0] - min(shape)) // 2, (shape[1] - min(shape)) // 2
    square = image[top : top + min(shape), left : left + min(shape)]
    square[:] = np.arange(min(shape))[:, None, None] % 3 * 30
    small = wbc.reduced(image)
    assert small.shape == (32, 32, 3)
    if min(shape) == 96:
        assert (small == 30).all()  # each pixel is the mean of 3x3: 0, 30, 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(b"\r\n7,1\r\n", b"\r\n7,6\r\n"), "line 8 is '7,6' where a new image"),
        (lambda text: text.replace(b"\r\n7,1\r\n", b"\r\n6,1\r\n"), "line 8 is '6,1' where a new image"),
        (lambda text: text.replace(b"\r\n7,1\r\n", b"\r\n301,1\r\n"), "line 8 is '301,1'"),
        (lambda text: text.replace(b"\r\n7,1\r\n", b"\r\n7,1,1\r\n"), "line 8 is '7,1,1'"),
        (lambda text: text.replace(b"\r\n7,1\r\n", b"\r\n7,x\r\n"), "line 8 is '7,x'"),
        (lambda text: text.replace(b"\r\n7,1\r\n", b"\r\n"), "has no class of image 7"),
        (lambda text: b"", "is not readable"),
        (lambda text: b"\xff\xfe", "is not readable"),
    ],
)
def test_labels_that_are_wrong_are_named(change, message):
    table = b"image ID,class label\r\n" + b"".join(b"%d,%d\r\n" % (i, label) for i, label in enumerate(LABELS, 1))
    assert wbc.read_labels(table, "made").tolist() == LABELS.tolist()
    with pytest.raises(DatasetError, match=f"made.*{message}"):
        wbc.read_labels(change(table), "made")


def test_a_copy_that_is_incomplete_or_damaged(tmp_path, monkeypatch, images):
    folder, sources = tmp_path / "wbc_stained", source(tmp_path / "sources.csv")
    monkeypatch.setenv("LLP_MIRROR", str(tmp_path))
    with pytest.raises(DatasetError, match="holds none of wbc_stained segmentation_WBC"):
        fetch("wbc_stained", sources=sources)
    content = files(images, wbc.RENAMED)
    folder.mkdir()
    with pytest.raises(DatasetError, match="wbc_stained has neither 'Class Labels of Dataset 1.csv' nor"):
        fetch("wbc_stained", sources=sources)
    write(folder, {name: content[name] for name in (wbc.RENAMED.labels, *wbc.RENAMED.images[:-1])})
    with pytest.raises(DatasetError, match="300.png is missing; complete the mirror"):
        fetch("wbc_stained", sources=sources)
    write(folder, content)
    for data, message in (
        (content["Dataset_1/001.png"][:-200], "001.png is not a readable PNG"),
        (encoded(images[0], "BMP"), "001.png is not a readable PNG"),
        (encoded(np.zeros((501, 500, 3), np.uint8), "PNG"), "001.png has 500x501 pixels, more than 250000"),
        (bytes(1_000_001), "001.png has more than 1000000 bytes"),
    ):
        write(folder, {"Dataset_1/001.png": data})
        with pytest.raises(DatasetError, match=message):
            fetch("wbc_stained", sources=sources)


def test_both_ways_are_recorded_with_one_checksum():
    ways = read_sources()["wbc_stained"]
    assert [way.how for way in ways] == ["mirror", "official"]
    assert {way.sha256 for way in ways} == {"f54ce2fc692cc0edcb8e8d83a3bc270dea0e8ade9785e1004f4a198ca6288891"}
