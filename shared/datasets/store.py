"""Keep prepared datasets on disk: four .npy files, six with groups, and a manifest a folder; load, verify, place."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.datasets.catalogue import ARRAYS, GROUPS, Arrays, DatasetError, Recipe, Source, say
from shared.datasets.places import data_root
from shared.datasets.recipes import recipe_of


def load(
    name: str, root: str | Path | None = None, sources: str | Path | None = None, folder: Path | None = None
) -> "Dataset":
    """Open a prepared dataset, in its place or in another `folder`, as read-only memory maps.

    The manifest is held against the catalogue and the recorded sha256, the files against the manifest by
    dtype, shape and size; `verify` also hashes every byte.

    Raises
    ------
    DatasetError
        If the dataset is not prepared, damaged, or not the recorded one; the message says what to run.
    """
    recipe, (source, *_) = recipe_of(name, sources)
    folder = folder or data_root(root) / name
    advice = f"run: python -m shared.datasets fetch {name}"
    if not (folder / "manifest.json").is_file():
        raise DatasetError(f"{name} is not prepared in {folder}; {advice}")
    manifest = _read_manifest(folder, recipe, source, advice)
    if source.sha256 and manifest["sha256"] != source.sha256:
        found = manifest["sha256"]
        raise DatasetError(f"{folder} has sha256 {found} where {source.sha256} is recorded; {advice}")
    found = manifest["arrays"]
    x_train, y_train, x_test, y_test, *groups = (_open(folder / f"{a}.npy", found[a], advice) for a in found)
    sha256 = manifest["sha256"]
    return Dataset(name, x_train, y_train, x_test, y_test, recipe.classes, sha256, source.simulated, *groups)


def verify(
    name: str, root: str | Path | None = None, sources: str | Path | None = None, folder: Path | None = None
) -> str:
    """Load a dataset and hash every byte; return the sha256 of its arrays or raise DatasetError."""
    folder = folder or data_root(root) / name
    dataset = load(name, root, sources, folder)
    recorded = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["arrays"]
    for array, found in fingerprint(dataset.arrays).items():
        if found != recorded[array]:
            raise DatasetError(
                f"{folder}/{array}.npy has sha256 {found['sha256']} "
                f"where {recorded[array]['sha256']} is recorded; run: python -m shared.datasets fetch {name}"
            )
    return dataset.sha256


def present(arrays: Collection[str]) -> tuple[str, ...]:
    """Return the names of the arrays a dataset has, in their order on record: of `ARRAYS`, then of `GROUPS` or none."""
    return ARRAYS + (GROUPS if any(group in arrays for group in GROUPS) else ())


def fingerprint(arrays: Arrays) -> dict[str, dict[str, Any]]:
    """Return dtype, shape and sha256 (of the bytes in C order, little-endian) of each array."""
    return {
        array: {
            "dtype": arrays[array].dtype.name,
            "shape": list(arrays[array].shape),
            "sha256": hashlib.sha256(np.ascontiguousarray(arrays[array]).data).hexdigest(),
        }
        for array in present(arrays)
    }


def describe(recipe: Recipe, source: Source, arrays: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the manifest that belongs to these fingerprints; it is the same whatever way the data came."""
    names = present(arrays)
    lines = "".join(f"{a} {arrays[a]['dtype']} {arrays[a]['shape']} {arrays[a]['sha256']}\n" for a in names)
    return {
        "name": source.name,
        "version": source.version,
        "licence": source.licence,
        "simulated": source.simulated,
        "parameters": dict(recipe.parameters),
        "classes": list(recipe.classes),
        "n": {"train": arrays["train_x"]["shape"][0], "test": arrays["test_x"]["shape"][0]},
        "arrays": {array: arrays[array] for array in names},
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }


def place(root: Path, manifest: dict[str, Any], arrays: Arrays) -> None:
    """Write a dataset beside its place and move it there whole; to be called under `lock`."""
    name = manifest["name"]
    new = root / f".{name}.new"
    try:
        new.mkdir()
        for array in manifest["arrays"]:
            with (new / f"{array}.npy").open("wb") as file:
                np.lib.format.write_array(file, arrays[array], version=(1, 0), allow_pickle=False)
        (new / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        exchange(root, name)
    finally:
        recover(root, name)


def exchange(root: Path, name: str) -> None:
    """Put the complete new folder of a dataset in its place; to be called under `lock`, with `recover` after it."""
    folder, new, old = root / name, root / f".{name}.new", root / f".{name}.old"
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)


def recover(root: Path, name: str) -> None:
    """Undo or finish what a `place` left that was killed or failed; to be called under `lock`."""
    folder, new, old = root / name, root / f".{name}.new", root / f".{name}.old"
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    for rest in (new, old):
        if rest.exists():
            shutil.rmtree(rest)


@contextlib.contextmanager
def lock(root: Path, name: str) -> Iterator[None]:
    """Let one process at a time prepare a dataset; the kernel frees the lock of a killed one."""
    path = root / f".{name}.lock"
    with path.open("ab") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{name}: waiting for another process that prepares it ({path})")
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems have no locks
            say(f"{name}: {root} cannot be locked ({error.strerror}); let no other process prepare {name} now")
        yield


def _read_manifest(folder: Path, recipe: Recipe, source: Source, advice: str) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        expected = describe(recipe, source, manifest["arrays"])
        wrong = next((key for key in expected if manifest.get(key) != expected[key]), None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged ({type(error).__name__}: {error}); {advice}") from error
    if wrong:
        raise DatasetError(
            f"{path}: {wrong} is {manifest.get(wrong)!r} where {expected[wrong]!r} is expected; {advice}"
        )
    return expected


def _open(path: Path, recorded: dict[str, Any], advice: str) -> np.memmap:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        # By its name alone, values in the other order of bytes would pass: the sha256 is of bytes.
        dtype = array.dtype.name if array.dtype.newbyteorder("<") == array.dtype else array.dtype.str
        found = {"dtype": dtype, "shape": list(array.shape), "bytes": path.stat().st_size}
        expected = {
            "dtype": recorded["dtype"],
            "shape": recorded["shape"],
            "bytes": array.offset + array.nbytes,
        }
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; {advice}") from error
    except Exception as error:  # a damaged header makes numpy raise almost anything
        raise DatasetError(f"{path} is damaged ({error}); {advice}") from error
    for key in found:
        if found[key] != expected[key]:
            raise DatasetError(f"{path}: {key} is {found[key]} where {expected[key]} is expected; {advice}")
    return array


@dataclass(frozen=True, eq=False)
class Dataset:
    """Hold a dataset.

    Attributes
    ----------
    x_train, x_test : (N, ...) uint8 images N H W C or float32 points.
    y_train, y_test : (N,) int64 in 0..K-1.
    sha256 : of all arrays.
    simulated : true where they are drawn from a model.
    groups_train, groups_test : (N,) int64, the natural group of each instance, None in a dataset without groups.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    sha256: str
    simulated: bool
    groups_train: np.ndarray | None = None
    groups_test: np.ndarray | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays under their names on disk."""
        arrays = (self.x_train, self.y_train, self.x_test, self.y_test, self.groups_train, self.groups_test)
        named = zip(ARRAYS + GROUPS, arrays, strict=True)
        return {name: array for name, array in named if array is not None}

    @property
    def n_classes(self) -> int:
        """Return K."""
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Return the shape of one instance: (H, W, C) of an image, (2,) of a point."""
        return self.x_train.shape[1:]
