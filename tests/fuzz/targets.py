"""What reads other people's files: for each kind a small good folder, its reader, and what the reader may raise."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from papers.ece import subsets
from papers.vp_dsd.imaging import holograms
from shared import datasets
from shared.comparison.claims import read_claims
from shared.comparison.reported import InputError, read_reported
from shared.config import ConfigError, load_tier, plan, repository
from shared.config.outputs import read_outputs
from shared.datasets import archives, cifar, features, images_of_groups, store, wbc
from shared.datasets.catalogue import DatasetError, read_sources
from shared.datasets.localised import files, prepared, releases
from shared.datasets.localised.localised import Localised, objects, of_labels
from shared.records import store as records
from tests.conftest import TOY_CONFIG, TOY_NAMES, a_run, write_record
from tests.made_archives import made_batches, npm_members, pickled, write_tar

KINDS = {"png": "PNG", "tif": "TIFF", "bmp": "BMP", "jpg": "JPEG"}
LABEL = np.kron([[0, 1, 0, 2], [3, 0, 4, 0], [0, 5, 0, 6]], np.ones((4, 4))).astype(np.uint16)
RGB = np.random.RandomState(0).randint(0, 256, (*LABEL.shape, 3)).astype(np.uint8)
ROWS = ("train_batch", "test_batch")
REGION = (
    '<Annotation><Regions><Region Id="{}" Type="{}" NegativeROA="{}"><Vertices><Vertex X="1.5" Y="2" Z="0"/>'
    '<Vertex X="9" Y="2"/><Vertex X="9.25" Y="8"/><Vertex X="1" Y="8"/></Vertices></Region></Regions></Annotation>'
)


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes
    ----------
    make : writes good files into an empty folder.
    read : reads them all, and asserts what holds of whatever it takes.
    error : what it may raise, in one sentence.
    untouched : files that are not damaged, by their ends.
    inside : damage what a gzip holds, not the gzip.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    error: type[Exception] = DatasetError
    untouched: tuple[str, ...] = ()
    inside: bool = False


def _image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, KINDS[path.suffix[1:]])


def _text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _pickles(folder: Path) -> None:
    images = np.random.RandomState(0).randint(0, 9, (2, 32, 32, 3)).astype(np.uint8)
    for protocol in (None, 0, 2, 4):
        (folder / f"batch{protocol}").write_bytes(pickled(images, [1, 2], "labels", protocol))


def _read_pickles(folder: Path) -> None:
    for path in folder.iterdir():
        batch = archives.read_pickle(path.read_bytes(), str(path))
        found = archives.pixels(batch.get("data"), (2, 3072), str(path))
        labels = archives.whole_numbers(batch.get("labels"), 2, 10, str(path))
        assert found.dtype == np.uint8 and found.shape == (2, 3072) and set(labels) <= set(range(10))


def _tar(folder: Path) -> None:
    write_tar(folder / "a.tar.gz", "made", {"one": b"1" * 700, "two": b"2"})
    (folder / "b.tar").write_bytes(gzip.decompress((folder / "a.tar.gz").read_bytes()))


def _read_tar(folder: Path) -> None:
    for path in folder.iterdir():
        assert {name for name, _ in archives.read_tar(path, {"made/one", "made/two"})} == {"made/one", "made/two"}


def _layout() -> cifar.OfficialFiles:
    return cifar.OfficialFiles("made", dict.fromkeys(ROWS, 3), "labels", tuple("0123456789"))


def _npm(folder: Path) -> None:
    images, labels = made_batches("cifar10")["test_batch"]
    write_tar(folder / "made.tgz", "package", npm_members(dict.fromkeys(ROWS, (images[:3], labels[:3]))))


def _read_npm(folder: Path) -> None:
    found = cifar._from_npm(_layout(), folder / "made.tgz")
    assert {name: array.shape for name, array in found.items()} == {
        **dict.fromkeys(("train_x", "test_x"), (3, 32, 32, 3)),
        **dict.fromkeys(("train_y", "test_y"), (3,)),
    }


def _images(folder: Path) -> None:
    for ending in KINDS:
        _image(folder / f"rgb.{ending}", RGB)
        _image(folder / f"grey.{ending}", LABEL.astype(np.uint8))
    _image(folder / "label16.png", LABEL)
    _image(folder / "label16.tif", LABEL)
    _image(folder / "label32.tif", LABEL.astype(np.int32))
    _image(folder / "binary.png", LABEL > 0)
    Image.fromarray(RGB).save(folder / "deflated.tif", "TIFF", compression="tiff_adobe_deflate")


def _read_images(folder: Path) -> None:
    for path in folder.iterdir():
        for read in (files.read_image, files.read_label_image, files.read_mask, _decode):
            with contextlib.suppress(DatasetError):
                found = read(path)
                assert found.dtype == (np.uint8 if found.ndim == 3 else np.int32)
                assert found.ndim == 2 or found.shape[2] == 3
                if found.ndim == 2:
                    of_labels("made", ["a"], [np.zeros((*found.shape, 3), np.uint8)], [found])
        files.read_image(path) if path.name.startswith(("rgb", "deflated")) else _read_mask(path)


def _read_mask(path: Path) -> None:
    if path.suffix != ".jpg":
        files.read_mask(path)


def _decode(path: Path) -> np.ndarray:
    if path.suffix == ".png":
        archives.read_png(path.read_bytes(), LABEL.shape, str(path))
    return archives.decode_image(path.read_bytes(), KINDS[path.suffix[1:]], 10_000, str(path))


def _matlab(folder: Path) -> None:
    from scipy.io import savemat

    for compressed in (True, False):
        arrays = {
            "inst_map": LABEL.astype(float),
            "type_map": (LABEL > 0) * (1.0 + LABEL % 3),
            "detection": np.array([[1.5, 2], [3, 4]]),
        }
        savemat(folder / f"{compressed}.mat", arrays, do_compression=compressed)
    savemat(folder / "4.mat", {"detection": np.array([[1.5, 2]])}, format="4")


def _read_matlab(folder: Path) -> None:
    for path in folder.iterdir():
        found = files.read_points(path, "detection")
        assert found.dtype == np.float32 and found.shape[1:] == (2,)
        if path.stem != "4":
            label, types = files.read_mat(path, ("inst_map", "type_map"))
            label = releases._whole(label, path, "inst_map", LABEL.shape)
            assert (releases._types(releases._whole(types, path, "type_map", LABEL.shape), label, path) >= 0).all()


def _outlines(folder: Path) -> None:
    _text(folder / "a.xml", "<Annotations>", *(REGION.format(i, i % 6, i % 2) for i in range(7)), "</Annotations>")


def _read_outlines(folder: Path) -> None:
    drawn = files.read_outlines(folder / "a.xml")
    label = files.filled(drawn.regions, (12, 16), drawn.holes)
    assert label.dtype == np.int32 and 0 <= label.min() <= label.max() <= len(drawn.regions)


def _text_mask(folder: Path) -> None:
    _text(folder / "a_mask.txt", "16 12", *(" ".join(map(str, row)) for row in LABEL))


def _read_text_mask(folder: Path) -> None:
    found = files.read_text_mask(folder / "a_mask.txt")
    assert found.dtype == np.int32
    of_labels("made", ["a"], [np.zeros((*found.shape, 3), np.uint8)], [found])


def _own_set(folder: Path) -> None:
    for name in ("a", "b"):
        _image(folder / f"labelled/images/{name}.png", RGB)
        _image(folder / f"labelled/labels/{name}.png", LABEL)
        _image(folder / f"boxes/images/{name}.png", RGB)
    found = [(i, *places.tolist()) for i, places in zip(*objects(LABEL.astype(np.int32))[:2], strict=True)]
    rows = [f"{name},{i},{row},{column},{'xy'[i % 2]}" for name in "ab" for i, row, column in found]
    _text(folder / "labelled/objects.csv", "image,number,row,column,class", *rows)
    rows = [f"{name},{i},2,3.5,{'xy'[i % 2]},0,0,5,7.5" for name in "ab" for i in range(1, 7)]
    _text(folder / "boxes/objects.csv", "image,number,row,column,class,top,left,bottom,right", *rows)
    for kind in ("labelled", "boxes"):
        _text(folder / kind / "images.csv", "image,group,split", "a,g1,train", "b,g2,test")


def _read_own_set(folder: Path) -> None:
    for kind in ("labelled", "boxes"):
        found = prepared.read_set(folder / kind, "made")
        m = int(found.offsets[-1])
        assert np.isfinite(found.centres).all() and np.isfinite(found.boxes).all() and (found.numbers > 0).all()
        assert len(found.classes) == len(found.numbers) == len(found.centres) == len(found.boxes) == m
        found.sha256()


def _points(folder: Path) -> None:
    _image(folder / "images/img1.png", RGB)
    found = {kind: np.array([[i, 2.0]]) for i, kind in enumerate(releases.CRCHISTO)}
    found["detection"] = np.concatenate(list(found.values()))
    np.savez(folder / "points.npz", **{f"img1_{kind}": pairs for kind, pairs in found.items()})


def _read_points(folder: Path) -> None:
    found = releases.read_crchisto(folder, "crchisto", releases.RELEASES["crchisto"])
    assert np.isfinite(found.centres).all() and len(found.classes) == len(found.centres)


def _cells(folder: Path) -> None:
    _text(folder / "labels.csv", "image ID,class label", *(f"{i},{1 + i % 5}" for i in range(1, wbc.IMAGES + 1)))


def _read_cells(folder: Path) -> None:
    found = wbc.read_labels((folder / "labels.csv").read_bytes(), str(folder / "labels.csv"))
    assert found.shape == (wbc.IMAGES,) and 1 <= found.min() <= found.max() <= 5


def _faces(folder: Path) -> None:
    _image(folder / "a.jpg", np.zeros((160, 200, 3), np.uint8))
    _image(folder / "b.jpg", np.ones((160, 200, 3), np.uint8))
    row = "90\t60\t110\t60\t28\t1"
    _text(folder / "PersonData.txt", "a.jpg", row, row.replace("28", "10"), "b.jpg", row, row)


def _read_faces(folder: Path) -> None:
    for photo, rows in images_of_groups.read_rows(folder / "PersonData.txt"):
        if kept := images_of_groups.bag(rows):
            assert all(face.shape == (120, 96, 3) for face in images_of_groups.crops(photo, kept))


def _holograms(folder: Path) -> None:
    images = np.random.default_rng(0).integers(50, 250, (4, 12, 12))
    _text(folder / "optics.json", '{"wavelength_um": 0.637, "pitch_um": 1.67, "distance_um": 100}')
    columns = "subject,split,lymphocyte,monocyte,granulocyte,concentration"
    _text(folder / "subjects.csv", columns, "ann,train,.3,.1,.6,5", "bob,test,0.333,0.083,0.583,6")
    _text(folder / "images.csv", "image,subject,pitch_um", "a.npy,bob,1.67", "b.png,ann,1.67", "d.tif,ann,1.67")
    _text(folder / "cells.csv", "image,row,column,class", "b.png,3,4.5,monocyte", "a.npy,1,2,granulocyte")
    _text(folder / "purified.csv", "image,class", *(f"b.png,{name}" for name in holograms.CLASSES))
    np.save(folder / "a.npy", images[0].astype(np.float64))
    _image(folder / "b.png", images[1].astype(np.uint8))
    _image(folder / "d.tif", images[3].astype(np.float32))


def _read_holograms(folder: Path) -> None:
    found = holograms.read(folder)
    assert np.isfinite(found.images).all() and found.images.dtype == np.float32
    assert np.allclose(found.proportions.sum(1), 1) and found.cells.offsets[-1] == len(found.cells.labels)


def _arrays(folder: Path) -> None:
    datasets.fetch("two_moons", folder)
    (folder / ".two_moons.lock").unlink()
    arrays = {name: np.zeros((3, 2), np.float16) + i for i, name in enumerate(features.SPLITS)}
    at = features.features_folder("two_moons", folder)
    at.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(at / f"{name}.npy", array)
    _text(at / "manifest.json", json.dumps({"dataset": "", "sha256": features.features_sha256(**arrays)}))


def _read_arrays(folder: Path) -> None:
    sha256 = store.verify("two_moons", folder)
    found = store.load("two_moons", folder)
    features.verify_features("two_moons", folder)
    cached = features.load_features("two_moons", folder)
    # What passes all checks is what was written, value by value.
    assert sha256 == _MOONS and (np.abs(found.x_train) < 3).all() and set(np.unique(found.y_test)) == {0, 1}
    assert np.abs(found.x_train).max() > 0.5 and np.abs(found.x_test).max() > 0.5
    assert not cached.train.any() and (cached.test == 1).all()


_MOONS = read_sources()["two_moons"][0].sha256


def _prepared_manifest(folder: Path) -> None:
    _text(folder / "manifest.json", '{"format": 1, "name": "a", "images": 2, "objects": 3, "classes": {"a": 3},')
    with (folder / "manifest.json").open("a") as file:
        file.write('"sha256": "abc"}')


def _record(folder: Path) -> None:
    write_record(folder, a_run())
    records.write_index(folder, [a_run().id])


def _read_record(folder: Path) -> None:
    index = records.read_index(folder)
    found = records.find_record(folder, a_run().id, index)
    assert found.state != records.DAMAGED or (found.why.startswith(str(folder)) and "\n" not in found.why)
    for record in records.read_records(folder):
        assert record["metrics"]["last"]["accuracy"] is not None
    records.load_record(records.record_path(folder, a_run().id))


def _paper(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        at = repository() / "papers" / "rot" / name
        (folder / "papers" / "rot").mkdir(parents=True)
        (folder / "papers" / "rot" / name).write_bytes(at.read_bytes())

    return make


def _config(folder: Path) -> None:
    (folder / "papers" / "toy").mkdir(parents=True)
    _text(folder / "papers/toy/config.yaml", TOY_CONFIG)
    _text(folder / "papers/toy/names.py", TOY_NAMES)


def _tier(folder: Path) -> None:
    _text(folder / "config/tiny.yaml", "tier: tiny", "says: a line", "device: cuda:1", "runs_at_once: 2", "adopt: true")


def _subset(folder: Path) -> None:
    with (folder / "subset.csv").open("w", encoding="utf-8") as file:
        subsets.write_subset(file, _data(), np.linspace(0.1, 1, 12))


def _data() -> Localised:
    return of_labels("made", ["a", "b"], [RGB, RGB], [LABEL, LABEL])


def _read_subset(folder: Path) -> None:
    entries = subsets.read_subset(folder / "subset.csv", _data())
    assert entries.shape == (12,) and (((entries >= 0) & (entries <= 1)) | np.isinf(entries)).all()


TARGETS = {
    "pickle": Target(_pickles, _read_pickles),
    "tar": Target(_tar, _read_tar),
    "tar-inside": Target(_tar, _read_tar, untouched=(".tar",), inside=True),
    "npm": Target(_npm, _read_npm, inside=True),
    "images": Target(_images, _read_images),
    "matlab": Target(_matlab, _read_matlab),
    "xml": Target(_outlines, _read_outlines),
    "text-mask": Target(_text_mask, _read_text_mask),
    "own-set": Target(_own_set, _read_own_set),
    "points": Target(_points, _read_points),
    "cells": Target(_cells, _read_cells),
    "subset": Target(_subset, _read_subset),
    "faces": Target(_faces, _read_faces),
    "holograms": Target(_holograms, _read_holograms),
    "arrays": Target(_arrays, _read_arrays),
    "prepared-manifest": Target(_prepared_manifest, prepared.manifest),
    "sources": Target(
        lambda folder: (folder / "sources.csv").write_bytes((repository() / "data/sources.csv").read_bytes()),
        lambda folder: read_sources(folder / "sources.csv"),
    ),
    "record": Target(_record, _read_record, ConfigError),
    "config": Target(_config, lambda folder: plan("toy", "tiny", folder), ConfigError, untouched=(".py",)),
    "tier": Target(_tier, lambda folder: load_tier("tiny", folder), ConfigError),
    "outputs": Target(_paper("outputs.yaml"), lambda folder: read_outputs("rot", folder), ConfigError),
    "claims": Target(_paper("claims.yaml"), lambda folder: read_claims(folder / "papers/rot/claims.yaml"), InputError),
    "reported": Target(
        _paper("reported.csv"), lambda folder: read_reported(folder / "papers/rot/reported.csv"), InputError
    ),
}
