"""Tiny datasets under real names, in the prepared layout that `shared.datasets.load` opens in a data root."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np

from shared.datasets import catalogue, store
from shared.datasets.features import features_folder
from shared.datasets.recipes import RECIPES, recipe_of


def images(root, name, n_train, n_test, n_classes, side=32, group=0, channels=3, seed=0):
    """Write a prepared set of random images, lighter from class to class.

    Parameters
    ----------
    root : the data root.
    name : a key of `shared.datasets.RECIPES`.
    n_classes : how many of its classes occur, in turn.
    group : instances in each natural group; 0 where the set has none.
    """
    random, arrays = np.random.RandomState(seed), {}
    for split, n in (("train", n_train), ("test", n_test)):
        labels = np.arange(n) % n_classes
        light = (labels * (155 // n_classes)).reshape(-1, 1, 1, 1)
        noise = random.randint(0, 100, (n, side, side, channels))
        arrays |= {f"{split}_x": (noise + light).astype(np.uint8), f"{split}_y": labels.astype(np.int64)}
        if group:
            arrays[f"{split}_g"] = (np.arange(n) // group).astype(np.int64) + (split == "test") * n_train
    prepared(root, name, arrays)


def prepared(root, name, arrays):
    """Write a set of these arrays: train_x, train_y, test_x, test_y and, with groups, train_g and test_g."""
    root = Path(root)
    assert name in RECIPES, f"{name} is not made of arrays; its prepared layout is another"
    root.mkdir(parents=True, exist_ok=True)
    recipe, (source, *_) = recipe_of(name, sources(root))
    store.place(root, store.describe(recipe, source, store.fingerprint(arrays)), arrays)


def features(root, name, width=16, seed=0):
    """Write random features (N, width) in place of those that ``python -m shared.training.features`` makes."""
    root = Path(root)
    dataset, where = store.load(name, root, sources(root)), features_folder(name, root)
    where.mkdir(parents=True, exist_ok=True)
    random, digest = np.random.RandomState(seed), hashlib.sha256()
    for split, x in (("train", dataset.x_train), ("test", dataset.x_test)):
        array = random.standard_normal((len(x), width)).astype(np.float16)
        np.save(where / f"{split}.npy", array)
        digest.update(array.tobytes())
    manifest = {"dataset": dataset.sha256, "recipe": {"kind": "random"}, "sha256": digest.hexdigest()}
    (where / "manifest.json").write_text(json.dumps(manifest))


def sources(root):
    """Write data/sources.csv without its checksums, which no toy could have, into a data root; return the file."""
    path = Path(root) / "sources.csv"
    with (catalogue.REPO / "data" / "sources.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "sha256": ""} for row in rows)
    return path


def use(root, monkeypatch):
    """Let this process take its data from `root`, whatever their checksums, and from no mirror."""
    monkeypatch.setenv("LLP_DATA", str(root))
    monkeypatch.delenv("LLP_MIRROR", raising=False)
    monkeypatch.setattr(catalogue, "SOURCES", sources(root))
