"""The data that runs read, and whether they are what was prepared."""

from __future__ import annotations

from collections.abc import Iterable

from shared.config import Run
from shared.datasets import RECIPES, DatasetError, data_root, load, measured, portable
from shared.datasets.absent import OPTIONAL
from shared.datasets.features import features_folder


def data_read(runs: Iterable[Run]) -> dict[tuple[str, bool], list[str]]:
    """Return {(dataset, whether its cached features are read): ids of the runs that read these}, sorted."""
    found: dict[tuple[str, bool], list[str]] = {}
    for run in runs:
        spec = run.spec.values()
        if "dataset" in spec:
            found.setdefault((spec["dataset"], spec.get("network") == "patch_features"), []).append(run.id)
    return dict(sorted(found.items()))


def absent_data(runs: Iterable[Run]) -> dict[str, str]:
    """Return {run id: what it would say} of runs of sets that may be absent and are; that needs no worker."""
    found: dict[str, str] = {}
    for (name, _), run_ids in data_read(runs).items():
        if name in OPTIONAL and not (data_root() / name / "manifest.json").exists():
            try:
                load(name)
            except DatasetError as error:
                found |= dict.fromkeys(run_ids, portable(error))
    return found


def damaged_data(runs: Iterable[Run]) -> dict[str, str]:
    """Hash every byte of the prepared sets that these runs read, whose records keep the hashes that are said there.

    Returns
    -------
    {run id: sentence} of runs whose data are not what was prepared; it names the file and says what to do. What is not
    prepared, a run says itself; sets without a recipe are hashed whenever they are opened.
    """
    found: dict[str, str] = {}
    for (name, features), run_ids in data_read(runs).items():
        if name in RECIPES and (data_root() / name / "manifest.json").exists():
            try:
                measured(name, features and (features_folder(name) / "manifest.json").exists())
            except (DatasetError, OSError) as error:
                found |= dict.fromkeys(run_ids, str(error))
    return found
