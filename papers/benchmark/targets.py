"""Read the bags of an estimator: `Bags`, ids and proportions, or both in one array that can be indexed by instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from shared.bags import BagError, Bags
from shared.bags.check import check_proportions

FIELDS = ("bag", "size", "proportions")


def bag_targets(bags: Any, proportions: Any = None) -> np.ndarray:
    """Return what `y` of scikit-learn's searches can be: a structured array (M,) with a row an instance.

    Its fields are ``bag``, a number 0..B-1 in the order of sorted ids; ``size``, the instances of that bag, by which a
    bag that a split has cut is seen; ``proportions`` (K,).

    Parameters
    ----------
    bags : (M,) ids of the instances' bags, or `Bags` over all M instances.
    proportions : (B, K) in the order of sorted ids, or (B,) of the second of two classes, or a mapping from id to row;
        none beside `Bags`.

    Raises
    ------
    BagError
        Naming what does not fit: a bag without a row, a row that is no proportions, an instance in no bag.
    """
    bags = bags if isinstance(bags, Bags) else from_ids(bags, proportions)
    n, number = len(bags.indices), np.repeat(np.arange(len(bags)), bags.sizes)
    if not np.array_equal(np.sort(bags.indices), np.arange(n)):
        raise BagError(f"the bags hold {n} instances that are not the numbers 0 to {n - 1}, each once")
    dtype = list(zip(FIELDS, (np.int64, np.int64, (np.float64, (bags.n_classes,))), strict=True))
    y = np.empty(n, dtype)
    for name, values in zip(FIELDS, (number, bags.sizes[number], bags.proportions[number]), strict=True):
        y[name][bags.indices] = values
    return y


def is_of_bags(y: Any) -> bool:
    """Return whether y is `Bags` or of `bag_targets`, and so needs no proportions beside it."""
    return isinstance(y, Bags) or getattr(getattr(y, "dtype", None), "names", None) == FIELDS


def read(y: Any, proportions: Any, instances: int) -> Bags:
    """Return the `Bags` of a y with bags in it, over so many instances; a BagError names what does not fit."""
    if isinstance(y, Bags):
        if proportions is not None:
            raise BagError("Bags have proportions; leave those beside them out")
        if len(y) == 0:
            raise BagError("there are no bags to learn from")
        if y.indices.min() < 0 or y.indices.max() >= instances:
            raise BagError(f"the bags number instances {y.indices.min()} to {y.indices.max()} of {instances}")
        return y
    found = from_targets(y) if is_of_bags(y) else from_ids(y, proportions)
    if len(found.indices) != instances:
        raise BagError(f"X has {instances} instances and y has {len(found.indices)}; y has the bag of each")
    return found


def from_targets(y: np.ndarray) -> Bags:
    """Return the `Bags` of rows of `bag_targets`, as a split left them; a bag may be there several times, whole."""
    numbers, first, bag, found = np.unique(y["bag"], return_index=True, return_inverse=True, return_counts=True)
    sizes = y["size"][first]
    cut = np.flatnonzero(found % sizes)
    if len(cut):
        b = cut[0]
        raise BagError(
            f"bag {numbers[b]} has {found[b]} of its {sizes[b]} instances here, and its proportions are of them all; "
            "split by whole bags, see papers.benchmark.splitters"
        )
    copies = found // sizes
    offsets = np.concatenate([[0], np.cumsum(np.repeat(sizes, copies))])
    return Bags(np.argsort(bag, kind="stable"), offsets, np.repeat(y["proportions"][first], copies, 0))


def from_ids(ids: Any, proportions: Any) -> Bags:
    """Return the `Bags` of (M,) ids and their proportions; see `bag_targets`."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or not len(ids):
        raise BagError(f"bags must be (M,), an id for each instance, got {ids.shape}")
    if ids.dtype.kind == "f" and not np.isfinite(ids).all():
        raise BagError(f"the bag of instance {int(np.argmin(np.isfinite(ids)))} is not finite; every id names a bag")
    names, bag, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Bags(np.argsort(bag, kind="stable"), offsets, _rows(names, proportions))


def _rows(names: np.ndarray, proportions: Any) -> np.ndarray:
    """The proportions (B, K) of the bags of these ids, divided by their sums."""
    if isinstance(proportions, Mapping):
        lacking = [name for name in names.tolist() if name not in proportions]
        if lacking:
            raise BagError(f"bag {lacking[0]!r} has no proportions; the mapping has those of {len(proportions)} bags")
        proportions = [proportions[name] for name in names.tolist()]
    try:
        rows = np.asarray(proportions, float)
    except (TypeError, ValueError):
        raise BagError("proportions must be numbers, (B, K): a row of K for each bag") from None
    if rows.ndim == 1:
        rows = np.stack([1 - rows, rows], 1)
    if rows.ndim != 2 or len(rows) != len(names) or not rows.shape[1]:
        raise BagError(f"{len(names)} bags need as many rows of proportions, got {rows.shape}; rows are of sorted ids")
    check_proportions(torch.from_numpy(rows), rows.shape)
    return rows / rows.sum(1, keepdims=True)
