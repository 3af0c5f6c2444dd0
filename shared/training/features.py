"""Cache features of a dataset's images, as standardised float16: ``python -m shared.training.features cifar10``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from shared import datasets
from shared.datasets.features import features_folder, features_sha256, verify_features
from shared.files import remove_parts, sentence_of, whole, write_text
from shared.networks import PatchFeatures

FILTERS, PATCH, PATCHES = 256, 5, 20_000
RECIPE = {
    "kind": "patch_features",
    "n_filters": FILTERS,
    "patch": PATCH,
    "n_patches": PATCHES,
    "seed": 0,
    "version": 2,
}
MADE = "made.json"  # a copy of the manifest
CHUNK = 4  # images; their responses stay in a core's cache


def build(name: str, root: Path | None = None, threads: int | None = None) -> bool:
    """Compute and cache the features of dataset `name`; return False if they were there already, whole."""
    dataset = datasets.load(name, root)
    where = features_folder(name, root)
    wanted = {"dataset": dataset.sha256, "recipe": RECIPE}
    if _stands(name, root, wanted, dataset):
        return False
    features = PatchFeatures.fit(torch.from_numpy(np.array(dataset.x_train)), FILTERS, PATCH, PATCHES)
    n_train, n_test = len(dataset.x_train), len(dataset.x_test)
    out = torch.empty(n_train + n_test, 8 * FILTERS)
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

    try:
        remove_parts(where.parent)
        with whole(where) as part:
            part.mkdir()
            for split, array in arrays.items():
                np.save(part / f"{split}.npy", array)
            manifest = {**wanted, "sha256": features_sha256(**arrays), "seconds": round(time.time() - started, 1)}
            for name_of_copy in (MADE, "manifest.json"):
                (part / name_of_copy).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            shutil.rmtree(where, ignore_errors=True)
    except OSError as error:
        raise datasets.DatasetError(f"features of {name}: {sentence_of(error, where)}") from error
    return True


def _stands(name: str, root: Path | None, wanted: dict, dataset: datasets.Dataset) -> bool:
    """Whether the features that lie there are these, every byte; then their manifest is written again.

    Snakemake removes the manifest before it asks; what stands beside it still says what lies here.
    """
    where = features_folder(name, root)
    try:
        made = (where / MADE).read_text(encoding="utf-8")
        if {key: json.loads(made)[key] for key in wanted} != wanted:
            return False
        found = verify_features(name, root, MADE)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, LookupError, TypeError, datasets.DatasetError) as error:
        print(f"features of {name} are made again: {error}", file=sys.stderr)
        return False
    if (len(found.train), len(found.test)) != (len(dataset.x_train), len(dataset.x_test)):
        return False
    if not (where / "manifest.json").is_file() or (where / "manifest.json").read_bytes() != made.encode():
        write_text(where / "manifest.json", made)
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
    print(f"{features_folder(args.dataset)}: {'made' if made else 'there already'}")


if __name__ == "__main__":
    main()
