"""Split by whole bags, in scikit-learn's manner: what proportions are of must not be cut.

>>> from sklearn.model_selection import GridSearchCV
>>> from papers.benchmark.estimator import BagClassifier
>>> from papers.benchmark.splitters import BagKFold
>>> from papers.benchmark.targets import bag_targets
>>> y = bag_targets(bags, proportions)
>>> search = GridSearchCV(BagClassifier(), {"learning_rate": [1e-3, 1e-2]}, cv=BagKFold(4)).fit(X, y)

A row of `y` says which bag an instance is in, so a split gives instances, all of each bag, and needs no `groups`; with
another `y` these are the bags' ids. The score is minus the loss of the held-out bags: no label of an instance is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from papers.benchmark.targets import is_of_bags
from shared.bags import BagError, Bags

Parts = Iterator[tuple[np.ndarray, np.ndarray]]  # (to train on, held out), numbers of bags or of instances


class _Splitter:
    """Split bags by `_parts`, which yields the numbers of those to train on and of those held out."""

    def __init__(self, n_splits: int, random_state: Any):
        if n_splits < 1:
            raise ValueError(f"n_splits must be 1 or more, got {n_splits}")
        self.n_splits, self.random_state = n_splits, random_state

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Parts:
        """Yield (training instances, held-out instances) as numbers, bag after bag.

        Parameters
        ----------
        y : of `papers.benchmark.targets.bag_targets`, else `groups` has the bags.
        groups : (M,) ids of the instances' bags.
        """
        numbers, first, rows = self._bags(y, groups)
        shares = y["proportions"][first] if is_of_bags(y) else None
        for train, test in self._parts(len(numbers), shares, _generator(self.random_state)):
            yield np.concatenate([rows[b] for b in train]), np.concatenate([rows[b] for b in test])

    def _bags(self, y: Any, groups: Any) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """(ids, an instance of each bag, all its instances)."""
        if isinstance(y, Bags):
            raise BagError("Bags cannot be indexed by instance; pass y=bag_targets(bags)")
        if groups is None and not is_of_bags(y):
            raise BagError("a split by bags needs them: pass y=bag_targets(bags, proportions), or groups=bags")
        ids = y["bag"] if groups is None else np.asarray(groups)
        numbers, first, bag, sizes = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
        rows = np.split(np.argsort(bag, kind="stable"), np.cumsum(sizes)[:-1])
        self._check(len(numbers))
        return numbers, first, rows

    def _check(self, n_bags: int) -> None:
        if n_bags < 2:
            raise BagError(f"there are {n_bags} bags, and a split needs two or more")

    def _parts(self, n_bags: int, shares: np.ndarray | None, rng: np.random.RandomState) -> Parts:
        raise NotImplementedError


class BagKFold(_Splitter):
    """Hold out each of `n_splits` parts of the bags once, drawn at random; their numbers differ by one at most.

    With `stratified` the parts' mean proportions are alike: bags, the most unusual first, go to the part whose sum of
    deviations from the mean they balance best among those with the fewest bags.
    """

    def __init__(self, n_splits: int = 5, *, stratified: bool = False, random_state: Any = 0):
        super().__init__(n_splits, random_state)
        self.stratified = stratified

    def _check(self, n_bags: int) -> None:
        if not 2 <= self.n_splits <= n_bags:
            raise BagError(f"{self.n_splits} folds of {n_bags} bags cannot be: from 2 to as many as there are bags")

    def _parts(self, n_bags: int, shares: np.ndarray | None, rng: np.random.RandomState) -> Parts:
        part = np.empty(n_bags, np.int64)
        order = rng.permutation(n_bags)
        part[order] = np.arange(n_bags) % self.n_splits
        if self.stratified:
            if shares is None:
                raise BagError("folds are stratified by proportions: pass y=bag_targets(bags, proportions)")
            part = _balanced(shares - shares.mean(0), order, self.n_splits)
        for fold in range(self.n_splits):
            yield np.flatnonzero(part != fold), np.flatnonzero(part == fold)


class BagShuffleSplit(_Splitter):
    """Hold out a random part of the bags, `n_splits` times anew."""

    def __init__(self, n_splits: int = 10, *, test_size: float = 0.2, random_state: Any = 0):
        super().__init__(n_splits, random_state)
        if not 0 < test_size < 1:
            raise ValueError(f"test_size is a part of the bags, between 0 and 1, got {test_size}")
        self.test_size = test_size

    def _parts(self, n_bags: int, shares: np.ndarray | None, rng: np.random.RandomState) -> Parts:
        held = min(max(1, round(self.test_size * n_bags)), n_bags - 1)
        for _ in range(self.n_splits):
            order = rng.permutation(n_bags)
            yield np.sort(order[held:]), np.sort(order[:held])


class BagBootstrap(_Splitter):
    """Train on as many bags drawn with replacement, hold out those not drawn, `n_splits` times.

    A bag that is drawn twice is two bags to `papers.benchmark.estimator.BagClassifier`, not one of twice the size.
    """

    def __init__(self, n_splits: int = 10, *, random_state: Any = 0):
        super().__init__(n_splits, random_state)

    def _parts(self, n_bags: int, shares: np.ndarray | None, rng: np.random.RandomState) -> Parts:
        for _ in range(self.n_splits):
            drawn, left = np.zeros(0, np.int64), np.zeros(0, np.int64)
            while not len(left):  # of two bags half of the draws are one of each
                drawn = np.sort(rng.randint(n_bags, size=n_bags))
                left = np.setdiff1d(np.arange(n_bags), drawn)
            yield drawn, left


def _generator(random_state: Any) -> np.random.RandomState:
    return random_state if isinstance(random_state, np.random.RandomState) else np.random.RandomState(random_state)


def _balanced(deviations: np.ndarray, order: np.ndarray, folds: int) -> np.ndarray:
    """Return the fold of each bag; ties of size fall to the order, ties of balance to the first fold."""
    part, sums, counts = np.empty(len(order), np.int64), np.zeros((folds, deviations.shape[1])), np.zeros(folds)
    sizes = np.linalg.norm(deviations, axis=1)
    for b in order[np.argsort(-sizes[order], kind="stable")]:
        open_ = np.flatnonzero(counts == counts.min())
        chosen = open_[np.argmin(sums[open_] @ deviations[b])]
        part[b] = chosen
        sums[chosen] += deviations[b]
        counts[chosen] += 1
    return part
