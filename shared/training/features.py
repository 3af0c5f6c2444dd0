"""Cache features of a dataset's images, as standardised float16: ``python -m shared.training.features cifar10``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from shared import datasets
from shared.networks import PatchFeatures

RECIPE = {
    "kind": "patch_features",
    "n_filters": 256,
    "patch": 5,
    "n_patches": 20_000,
    "seed": 0,
    "version": 2,
}
CHUNK = 4  # images; their responses stay in a core's cache


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


def folder(name: str, root: Path | None = None) -> Path:
    """Return where the cached features of dataset `name` lie."""
    return (root or datasets.data_root()) / "features" / name


def load_features(name: str, root: Path | None = None) -> Features:
    """Open the cached features of dataset `name`; an error says how to make them if they are not there."""
    where = folder(name, root)
    try:
        manifest = json.loads((where / "manifest.json").read_text())
    except FileNotFoundError:
        raise datasets.DatasetError(f"{where} is not there: run `python -m shared.training.features {name}`") from None
    train, test = (np.load(where / f"{split}.npy", mmap_mode="r") for split in ("train", "test"))
    return Features(train, test, manifest["sha256"])


def build(name: str, root: Path | None = None, threads: int | None = None) -> bool:
    """Compute and cache the features of dataset `name`; return False if they were there already."""
    dataset = datasets.load(name, root)
    where = folder(name, root)
    wanted = {"dataset": dataset.sha256, "recipe": RECIPE}
    try:
        made = (where / "made.json").read_text()
        if {k: json.loads(made)[k] for k in wanted} == wanted:
            # Snakemake removes the manifest before it asks; what stands beside it still says what lies here.
            part = where / f".manifest.{os.getpid()}.part"
            part.write_text(made)
            os.replace(part, where / "manifest.json")
            return False
    except (FileNotFoundError, KeyError, json.JSONDecodeError):
        pass
    features = PatchFeatures.fit(
        torch.from_numpy(np.array(dataset.x_train)), RECIPE["n_filters"], RECIPE["patch"], RECIPE["n_patches"]
    )
    n_train, n_test = len(dataset.x_train), len(dataset.x_test)
    out = torch.empty(n_train + n_test, 8 * RECIPE["n_filters"])
    jobs = [(dataset.x_train, i, i) for i in range(0, n_train, CHUNK)]
    jobs += [(dataset.x_test, i, n_train + i) for i in range(0, n_test, CHUNK)]

    def compute(job) -> None:
        images, start, target = job
        x = torch.from_numpy(np.array(images[start : start + CHUNK]))
        with torch.inference_mode():
            out[target : target + len(x)] = features(x)

    threads = threads or os.cpu_count() or 1
    started = shown = time.time()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for done, _ in enumerate(pool.map(compute, jobs), 1):
            if time.time() - shown > 5 or done == len(jobs):
                shown = time.time()
                left = (shown - started) * (len(jobs) - done) / done
                print(f"features of {name}: {100 * done / len(jobs):3.0f} %, {left:.0f} s left", file=sys.stderr)
    mean, std = out[:n_train].mean(0), out[:n_train].std(0)
    out.sub_(mean).div_(torch.where(std > 0, std, 1.0))
    arrays = {"train": out[:n_train].half().numpy(), "test": out[n_train:].half().numpy()}

    part = where.with_name(f"{where.name}.{os.getpid()}.part")
    part.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    for split, array in arrays.items():
        np.save(part / f"{split}.npy", array)
        digest.update(array.tobytes())
    manifest = {**wanted, "sha256": digest.hexdigest(), "seconds": round(time.time() - started, 1)}
    for name_of_copy in ("made.json", "manifest.json"):
        (part / name_of_copy).write_text(json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(where, ignore_errors=True)
    os.replace(part, where)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m shared.training.features", description=__doc__)
    parser.add_argument("dataset", help="an image dataset that has been fetched")
    parser.add_argument("--threads", type=int, help="CPU threads; all cores unless told")
    args = parser.parse_args()
    try:
        made = build(args.dataset, threads=args.threads)
    except datasets.DatasetError as error:
        parser.exit(1, f"{error}\n")
    print(f"{folder(args.dataset)}: {'made' if made else 'there already'}")


if __name__ == "__main__":
    main()
