"""Match one to one what was found with what is there: as many pairs within a limit as can be, the closest such.

Candidate pairs come as sparse triples (rows, columns, cost). They fall apart into connected components, most of them of
a single detection or a single object; only the others need the Hungarian algorithm, so hundreds of thousands of points
can be matched exactly.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


def pairs_within(
    found: np.ndarray,
    true: np.ndarray,
    radius: float,
    size: int | None = None,
    images: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all pairs of a point of `found` (F, 2) and one of `true` (T, 2) of one image, at most `radius` apart.

    Parameters
    ----------
    radius : in the points' unit, included.
    size : side of periodic images; None if they do not wrap around.
    images : the image's number of each point, (F,) and (T,); None if all are of one.

    Returns
    -------
    rows, columns : (P,) int64 places in `found` and in `true`.
    distance : (P,) float64.

    Raises
    ------
    ValueError
        If a point is not finite (its row is named) or `radius` is negative or not finite.
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"radius is {radius} where a number that is not negative is needed")
    trees = []
    for name, points, image in zip(("found", "true"), (found, true), images or (0, 0), strict=True):
        if not np.isfinite(points).all():
            row = int(np.argwhere(~np.isfinite(points))[0, 0])
            raise ValueError(f"point {row} of `{name}` is {points[row].tolist()}; leave it out or correct it")
        places = np.asarray(points, float).reshape(-1, 2)
        if size is not None:
            places = places % size
            places[places >= size] = 0  # a negative place so small that it is rounded up to `size`
        # Images lie apart along a third axis, that one tree holds them all.
        apart = np.broadcast_to(np.asarray(image) * (4 * radius + 1), len(places))
        trees.append(cKDTree(np.column_stack([places, apart]), boxsize=None if size is None else (size, size, 0)))
    if not (len(found) and len(true)):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    # The tree proposes a little too much: whether the border counts in is for the points' own precision to say.
    reach = radius + 1e-5 * (1 + radius) + 1e-6 * max(np.abs(found).max(), np.abs(true).max())
    near = trees[0].sparse_distance_matrix(trees[1], reach, output_type="ndarray")
    rows, columns = near["i"].astype(np.int64), near["j"].astype(np.int64)
    apart = np.abs(found[rows] - true[columns]).astype(float)
    if size is not None:
        apart = np.minimum(apart % size, -apart % size)
    distance = np.hypot(apart[:, 0], apart[:, 1])
    kept = distance <= radius
    return rows[kept], columns[kept], distance[kept]


def assign(rows: np.ndarray, columns: np.ndarray, cost: np.ndarray, n_rows: int) -> np.ndarray:
    """Choose as many candidate pairs as can be, no row and no column twice, of the least total cost among such.

    Parameters
    ----------
    rows, columns : (P,) of the candidate pairs, each pair once.
    cost : (P,) finite, e.g. distances or 1 - IoU.
    n_rows : number of rows, also of those without a candidate.

    Returns
    -------
    (n_rows,) int64 column of each row, or -1.
    """
    partner = np.full(n_rows, -1)
    if not len(rows):
        return partner
    row_names, row = np.unique(rows, return_inverse=True)
    column_names, column = np.unique(columns, return_inverse=True)
    n, total = len(row_names), len(row_names) + len(column_names)
    graph = coo_array((np.ones(len(row), bool), (row, n + column)), shape=(total, total))
    n_components, component = connected_components(graph, directed=False)
    n_ours, row_place = _places(component[:n], n_components)
    n_theirs, column_place = _places(component[n:], n_components)
    order = np.lexsort([cost, component[row]])
    row, column, cost = row[order], column[order], cost[order]
    starts = np.searchsorted(component[row], np.arange(n_components + 1))
    alone = np.minimum(n_ours, n_theirs) == 1  # one pair at most: the cheapest, which comes first
    first = starts[:-1][alone]
    partner[row_names[row[first]]] = column_names[column[first]]
    for k in np.flatnonzero(~alone):
        edges = slice(starts[k], starts[k + 1])
        r, c, price = row[edges], column[edges], cost[edges]
        table = np.full((n_ours[k], n_theirs[k]), -1)  # of the edges
        table[row_place[r], column_place[c]] = np.arange(len(r))
        # A pair is worth more than all costs together: first how many, then how cheap.
        worth = np.append((price[-1] - price[0] + 1) * (1 + min(table.shape)) + price[0] - price, 0)[table]
        pairs = table[linear_sum_assignment(worth, maximize=True)]
        pairs = pairs[pairs >= 0]
        partner[row_names[r[pairs]]] = column_names[c[pairs]]
    return partner


def _places(component: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Members of each component, and the place of each member among those of its own."""
    size = np.bincount(component, minlength=n_components)
    place = np.empty(len(component), np.int64)
    place[np.argsort(component, kind="stable")] = np.arange(len(component)) - np.repeat(size.cumsum() - size, size)
    return size, place


def match(found: np.ndarray, true: np.ndarray, radius: float, size: int | None = None) -> np.ndarray:
    """Return the point of `true` (T, 2) of each of `found` (F, 2), one to one: as many pairs as can be, the closest.

    Returns
    -------
    (F,) int64 row of `true`, or -1 where none is left within `radius`. For `size` and errors see `pairs_within`.
    """
    return assign(*pairs_within(found, true, radius, size), len(found))


def gains(rows: np.ndarray, columns: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Tell which rows enlarge the largest matching by one as they are added in `order`, (n,) bool by place in `order`.

    The cumulative sum is the number of pairs that `assign` makes of the first k rows, for all k at once: rows that can
    be matched together are a matroid, in which no row ever has to be taken back.

    Parameters
    ----------
    rows, columns : (P,) of the candidate pairs.
    order : (n,) all rows, each once.
    """
    by_row = np.argsort(rows, kind="stable")
    ends = np.searchsorted(rows[by_row], np.arange(len(order) + 1))
    candidates = columns[by_row].tolist()
    owner: dict[int, int] = {}  # row of each matched column
    closed: set[int] = set()  # columns from which no free one can be reached any more
    gained = np.zeros(len(order), bool)
    for k, start in enumerate(order.tolist()):
        came: dict[int, int] = {}  # row from which each column was reached
        partner: dict[int, int] = {}  # column given up by each row reached
        queue = [start]
        for row in queue:
            for column in candidates[ends[row] : ends[row + 1]]:
                if column in came or column in closed:
                    continue
                came[column] = row
                if column in owner:
                    partner[owner[column]] = column
                    queue.append(owner[column])
                    continue
                while column is not None:  # along the path, each row takes the column it was reached by
                    row = came[column]
                    owner[column] = row
                    column = partner.get(row)
                gained[k] = True
                break
            if gained[k]:
                break
        if not gained[k]:
            closed.update(came)
    return gained
