"""Open and verify cached features of datasets; `shared.training.features` makes them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.datasets.catalogue import DatasetError
from shared.datasets.places import data_root
from shared.datasets.store import verify

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Features:
    """Hold cached features, standardised by the training set.

    Attributes
    ----------
    train, test : (N, F) and (N', F) float16 memory maps.
    sha256 : of both.
    """

    train: np.ndarray
    test: np.ndarray
    sha256: str


def features_folder(name: str, root: Path | None = None) -> Path:
    """Return where the cached features of dataset `name` lie."""
    return data_root(root) / "features" / name


def load_features(
    name: str, root: Path | None = None, manifest: str = "manifest.json", folder: Path | None = None
) -> Features:
    """Open the cached features of dataset `name`, in their place or in another `folder`.

    Their bytes are not read, see `verify_features`.

    Raises
    ------
    DatasetError
        If they are not there or damaged; it says how to make them.
    """
    folder = folder or features_folder(name, root)
    advice = f"run: python -m shared.training.features {name}"
    if not (folder / manifest).is_file():
        raise DatasetError(f"there are no features of {name} in {folder}; {advice}")
    at = folder / manifest
    try:
        sha256 = json.loads(at.read_text(encoding="utf-8"))["sha256"]
        if not isinstance(sha256, str):
            raise ValueError(f"sha256 is {sha256!r}")
        arrays: list[np.ndarray] = []
        for at in (folder / f"{split}.npy" for split in SPLITS):
            arrays.append(array := np.load(at, mmap_mode="r", allow_pickle=False))
            if array.dtype != np.float16 or array.ndim != 2 or at.stat().st_size != array.offset + array.nbytes:
                raise ValueError(f"it holds {array.dtype} {array.shape} in {at.stat().st_size} bytes")
        if arrays[0].shape[1] != arrays[1].shape[1]:
            raise ValueError(f"it has {arrays[1].shape[1]} features where train.npy has {arrays[0].shape[1]}")
    except Exception as error:  # a damaged header makes numpy raise almost anything
        raise DatasetError(f"{at} is damaged ({error}); {advice}") from error
    train, test = arrays
    return Features(train, test, sha256)


def verify_features(name: str, root: Path | None = None, manifest: str = "manifest.json") -> Features:
    """Open the cached features of a dataset and hash every byte of them, or raise DatasetError."""
    found, folder = load_features(name, root, manifest), features_folder(name, root)
    if (sha256 := features_sha256(found.train, found.test)) != found.sha256:
        raise DatasetError(
            f"{folder}: train.npy and test.npy have sha256 {sha256} where {folder / manifest} says {found.sha256}; "
            f"run: python -m shared.training.features {name}"
        )
    return found


def features_sha256(train: np.ndarray, test: np.ndarray) -> str:
    """Return the sha256 of the bytes of both arrays, in C order."""
    digest = hashlib.sha256()
    for array in (train, test):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def measured(name: str, features: bool = False) -> dict[str, str]:
    """Hash every byte of a prepared dataset and, if asked, of its features; {name: sha256} as a record keeps them.

    Raises
    ------
    DatasetError
        If anything is not there or not what its manifest says; it names the file and what to run.
    """
    found = {name: verify(name)}
    return found | {f"features/{name}": verify_features(name).sha256} if features else found
