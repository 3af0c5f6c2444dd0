"""Datasets that need no download: golden checksums, shapes, flags; and what load refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest

from shared.datasets import DatasetError, fetch, load, verify
from shared.datasets.catalogue import REPO, read_sources
from tests.made_archives import write_sources

GOLDEN = {
    "two_moons": "09577228619c9705423b3245cf3af3570375a0b993f6415d9dc3897b1250c0ca",
    "digits": "a9c794ee6fa8e4c1a06a2f11ecd8c77617fa91404d90f7da8a663a0a78938e49",
    "simulated_images": "502a3b0b5a072ba14cb203e498da75ea22306b0702e9016e2676fd2af06bbc80",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    for name in GOLDEN:
        assert fetch(name, root) == "generated"
    return root


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(root, name):
    assert verify(name, root) == load(name, root).sha256 == GOLDEN[name] == read_sources()[name][0].sha256


@pytest.mark.parametrize(
    "name, n, shape, dtype, n_classes",
    [
        ("two_moons", (2000, 2000), (2,), np.float32, 2),
        ("digits", (1437, 360), (8, 8, 1), np.uint8, 10),
        ("simulated_images", (2000, 500), (32, 32, 3), np.uint8, 10),
    ],
)
def test_shapes(root, name, n, shape, dtype, n_classes):
    dataset = load(name, root)
    assert (len(dataset.x_train), len(dataset.x_test)) == (len(dataset.y_train), len(dataset.y_test)) == n
    assert dataset.image_shape == dataset.x_test.shape[1:] == shape
    assert dataset.n_classes == len(dataset.classes) == n_classes
    assert dataset.x_train.dtype == dataset.x_test.dtype == dtype
    assert dataset.y_train.dtype == dataset.y_test.dtype == np.int64
    assert np.array_equal(np.unique(dataset.y_train), np.arange(n_classes))
    assert dataset.simulated == (name != "digits")
    assert json.loads((root / name / "manifest.json").read_text())["simulated"] == dataset.simulated
    assert dataset.groups_train is None and dataset.groups_test is None and len(dataset.arrays) == 4
    for array in dataset.arrays.values():
        assert isinstance(array, np.memmap) and not array.flags.writeable


def test_digits_are_split_by_class(root):
    dataset = load("digits", root)
    train, test = np.bincount(dataset.y_train), np.bincount(dataset.y_test)
    assert np.all(np.abs(test - 360 * (train + test) / 1797) < 1) and dataset.x_train.max() == 16


def test_simulated_images_can_be_learnt_but_not_from_the_mean_colour(root):
    dataset = load("simulated_images", root)

    def features(x):
        x = x.astype(np.float32) / 255
        edges = [np.abs(x - np.roll(x, shift, axis)).mean((1, 2, 3)) for axis in (1, 2) for shift in (1, 3, 5)]
        return np.column_stack([x.mean((1, 2)), x.std((1, 2)), x[:, 10:22, 10:22].mean((1, 2)), *edges])

    def accuracy(columns):
        train, test = features(dataset.x_train)[:, columns], features(dataset.x_test)[:, columns]
        centre, scale = train.mean(0), train.std(0)
        train, test = (train - centre) / scale, (test - centre) / scale
        near = ((test[:, None] - train[None]) ** 2).sum(-1).argmin(1)
        return (dataset.y_train[near] == dataset.y_test).mean()

    assert accuracy(slice(0, 3)) < 0.5 < 0.7 < accuracy(slice(None))


def test_missing_or_unknown(tmp_path):
    with pytest.raises(DatasetError, match="digits is not prepared .*python -m shared.datasets fetch digits"):
        load("digits", tmp_path)
    with pytest.raises(DatasetError, match="no dataset 'imagenet'; there are cifar10, cifar100"):
        load("imagenet", tmp_path)
    with pytest.raises(DatasetError, match="digits has no way 'npm'"):
        fetch("digits", tmp_path, way="npm")


def damage_size(folder):
    (folder / "train_x.npy").write_bytes((folder / "train_x.npy").read_bytes()[:-1])


def damage_tail(folder):
    (folder / "train_x.npy").write_bytes((folder / "train_x.npy").read_bytes() + b"!")


def damage_dtype(folder):
    np.save(folder / "train_y.npy", np.zeros(1437, np.int32))


def damage_order_of_bytes(folder):
    """The same bytes under a header that says they are turned: the sha256, which is of bytes, would be the same."""
    content = (folder / "train_y.npy").read_bytes()
    (folder / "train_y.npy").write_bytes(content.replace(b"'<i8'", b"'>i8'", 1))


def damage_deep_manifest(folder):
    (folder / "manifest.json").write_text("[" * 100_000)


def damage_shape(folder):
    np.save(folder / "train_y.npy", np.zeros(1436, np.int64))


def damage_pickle(folder):
    np.save(folder / "test_y.npy", np.array([print] * 360))


def damage_manifest(folder):
    (folder / "manifest.json").write_text("[]")


def damage_manifest_hash(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace(GOLDEN["digits"], "0" * 64))


def damage_manifest_array(folder):
    text = json.loads((folder / "manifest.json").read_text())
    text["arrays"]["train_x"]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(text))


def damage_missing(folder):
    (folder / "test_x.npy").unlink()


@pytest.mark.parametrize(
    "damage, message",
    [
        (damage_size, "train_x.npy is damaged"),
        (damage_tail, "train_x.npy: bytes is 92097 where 92096 is expected"),
        (damage_dtype, "train_y.npy: dtype is int32 where int64"),
        (damage_order_of_bytes, "train_y.npy: dtype is >i8 where int64"),
        (damage_deep_manifest, "manifest.json is damaged"),
        (damage_shape, r"train_y.npy: shape is \[1436\] where \[1437\]"),
        (damage_pickle, "test_y.npy is damaged"),
        (damage_manifest, "manifest.json is damaged"),
        (damage_manifest_hash, "manifest.json: sha256 is '0000"),
        (damage_manifest_array, "manifest.json: sha256 is "),
        (damage_missing, "test_x.npy is missing"),
    ],
)
def test_damage_is_named_and_mended(tmp_path, damage, message):
    fetch("digits", tmp_path)
    damage(tmp_path / "digits")
    with pytest.raises(DatasetError, match=f"{message}.*run: python -m shared.datasets fetch digits"):
        load("digits", tmp_path)
    assert fetch("digits", tmp_path) == "generated"
    assert fetch("digits", tmp_path) is None


def test_only_verify_sees_a_changed_value(tmp_path):
    fetch("digits", tmp_path)
    content = bytearray((tmp_path / "digits/train_x.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "digits/train_x.npy").write_bytes(content)
    load("digits", tmp_path)
    with pytest.raises(DatasetError, match="train_x.npy has sha256 .* is recorded"):
        verify("digits", tmp_path)
    assert fetch("digits", tmp_path) == "generated"


def test_load_holds_the_recorded_sha256(tmp_path):
    fetch("digits", tmp_path)
    row = {"name": "digits", "how": "generated", "licence": read_sources()["digits"][0].licence}
    assert load("digits", tmp_path, write_sources(tmp_path / "a.csv", row)).sha256 == GOLDEN["digits"]
    with pytest.raises(DatasetError, match=f"digits has sha256 {GOLDEN['digits']} where 00 is recorded; run"):
        load("digits", tmp_path, write_sources(tmp_path / "a.csv", {**row, "sha256": "00"}))


def test_import_is_light():
    code = "import sys, shared.datasets; print({'torch', 'sklearn', 'pandas', 'scipy', 'PIL'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=REPO, text=True) == "set()\n"
