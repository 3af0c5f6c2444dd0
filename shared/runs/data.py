"""The data that runs read, and whether they are what was prepared."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.config import Run
from shared.datasets import RECIPES, DatasetError, data_root, load, measured, portable
from shared.datasets.absent import OPTIONAL
from shared.datasets.catalogue import read_sources
from shared.datasets.features import features_folder
from shared.datasets.places import mirror_root
from shared.files import listed


def data_read(runs: Iterable[Run]) -> dict[tuple[str, bool], list[str]]:
    """Return {(dataset, whether its cached features are read): ids of the runs that read these}, sorted."""
    found: dict[tuple[str, bool], list[str]] = {}
    for run in runs:
        spec = run.spec.values()
        if "dataset" in spec:
            found.setdefault((spec["dataset"], spec.get("network") == "patch_features"), []).append(run.id)
    return dict(sorted(found.items()))


def data_hash(run: Run) -> str:
    """Return a hash of the data that a run would read now, as their manifests say; nothing where it reads none.

    A checkpoint is of one of them. A set without a manifest, which is read where it lies, is told by the sizes and
    times of its files.
    """
    said: list[str] = []
    for name, features in data_read([run]):
        places = [data_root() / name, *([root / name] if (root := mirror_root()) else [])]
        said.append(next(filter(None, map(_told, places)), ""))
        said += [_told(features_folder(name))] if features else []
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16] if any(said) else ""


def _told(folder: Path) -> str:
    """What tells the set in a folder from another: its manifest's sha256, else its files; nothing if there is none."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return str(manifest["sha256"])
    except FileNotFoundError:
        files = [(path.relative_to(folder).as_posix(), path.stat()) for path in listed(folder, "**/*")]
        return "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files)
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # damaged: the run says so itself


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


def mixed_data(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence on each set of which records have several contents, or another than data/sources.csv has."""
    contents: dict[str, Counter] = {}
    for record in found:
        for name, checksum in (record.get("data") or {}).items():
            contents.setdefault(name, Counter())[checksum] += 1
    known = read_sources()
    for name, counts in sorted(contents.items()):
        ways = known.get(name, ())
        drawn = any(way.how == "drawn" for way in ways)  # from the seed of each run
        if drawn or name.startswith("features/"):  # which have a machine's last digits
            continue
        vouched = {way.sha256 for way in ways if way.sha256}
        if len(counts) > 1 or (vouched and not counts.keys() <= vouched):
            each = ", ".join(f"{n} of {checksum[:8]}" for checksum, n in sorted(counts.items()))
            more = f"; data/sources.csv has {', '.join(sorted(way[:8] for way in vouched))}" if vouched else ""
            yield f"the records of {name} are of other data than one set, by checksum {each}{more}: train them again"
