"""Read nuclei that are known by points, as in CRCHisto: pairs x, y in an archive or in MATLAB files, and their classes.

In the set itself 22,362 of 22,444 points with a class are equal to a detection, and one in all is of none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from shared.datasets.catalogue import DatasetError, say
from shared.datasets.localised import files

SAME_NUCLEUS = 12.0  # pixels; classes come with points of their own
ALONE = 0.05  # of an image's points with a class that may be of no detected nucleus; one always may

Points = Callable[[str], np.ndarray]  # key -> (k, 2) float32, row and column


def archived(path: Path, kinds: Sequence[str]) -> Points:
    """Return what gives the points of an archive (.npz) by key, <image>_<kind>.

    Raises
    ------
    DatasetError
        Naming the file and the key: if it is damaged, lacks the key, has one twice or of no known kind, or holds no
        finite pairs (k, 2) there.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = list(archive)
            found = {key: np.asarray(archive[key]) for key in keys}
    except Exception as error:  # damaged archives make the readers raise almost anything
        raise DatasetError(f"{path} is not a readable archive of points ({error}); replace it") from error
    strange = next((key for key in keys if keys.count(key) > 1 or key.rpartition("_")[2] not in kinds), None)
    if strange is not None:
        wrong = "there twice" if keys.count(strange) > 1 else f"of none of the kinds {', '.join(kinds)}"
        raise DatasetError(f"{path}: {strange} is {wrong}; correct the archive")
    checked = {key: files.pairs(values, f"{path}: {key}") for key, values in found.items()}

    def points(key: str) -> np.ndarray:
        if key not in checked:
            raise DatasetError(f"{path} has no {key}; complete the set")
        return checked[key]

    return points


def of_matlab(place: Path, paths: Iterable[Path]) -> Points:
    """Return what gives the points ``detection`` of the MATLAB files of a place by the stem of their names."""
    by_name = files.by_stem(paths)

    def points(key: str) -> np.ndarray:
        if key not in by_name:
            raise DatasetError(f"{place} has no {key}.mat; complete the release")
        return files.read_points(by_name[key], "detection")

    return points


def given(centres: np.ndarray, of_class: list[np.ndarray], where: str) -> np.ndarray:
    """Return (k,) int64 classes of detections, each from one point with a class at most; `where` they are.

    Points far from any detection are left out and said.

    Raises
    ------
    DatasetError
        If these are more than one, and more than a slip here and there: their coordinates are other ones.
    """
    result = np.full(len(centres), len(of_class))
    points = np.concatenate(of_class)
    kinds = np.repeat(np.arange(len(of_class)), [len(found) for found in of_class])
    distances = cdist(points, centres)
    rows, columns = linear_sum_assignment(np.minimum(distances, SAME_NUCLEUS))
    near = distances[rows, columns] < SAME_NUCLEUS
    result[columns[near]] = kinds[rows[near]]
    alone = len(points) - int(near.sum())
    if alone > max(1, ALONE * len(points)):
        raise DatasetError(
            f"{where}: {alone} of {len(points)} points with a class have no detected nucleus of their own within "
            f"{SAME_NUCLEUS:g} pixels; classes and detections are of two images or in two systems; replace them"
        )
    if alone:
        say(f"{where}: {alone} of {len(points)} classes are of no detected nucleus; left out")
    return result
