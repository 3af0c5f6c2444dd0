"""One-to-one matching against a dense Hungarian table and against counting; its speed against that table."""

import time
from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from shared.points.matching import assign, gains, match, pairs_within


def random_of(seed):
    return np.random.Generator(np.random.PCG64(seed))


def points(random, n, side=64.0):
    return random.uniform(0, side, (n, 2)).astype(np.float32)


def apart(found, true, size=None):
    away = np.abs(found[:, None] - true[None]).astype(float)
    if size is not None:
        away = np.minimum(away % size, -away % size)
    return np.hypot(away[..., 0], away[..., 1])


def dense(found, true, radius, size=None):
    """The Hungarian algorithm on the whole table, a pair being worth more than all distances together."""
    distance = apart(found, true, size)
    worth = np.where(distance <= radius, (radius + 1) * (1 + min(distance.shape)) - distance, 0)
    row, column = linear_sum_assignment(worth, maximize=True)
    near = distance[row, column] <= radius
    pairs = np.full(len(found), -1)
    pairs[row[near]] = column[near]
    return pairs


def count_and_total(found, true, pairs, size=None):
    rows = np.flatnonzero(pairs >= 0)
    assert len(np.unique(pairs[rows])) == len(rows)
    return len(rows), apart(found, true, size)[rows, pairs[rows]].sum()


@pytest.mark.parametrize("size", [None, 64])
@pytest.mark.parametrize(("n", "radius"), [(8, 30.0), (60, 3.0), (60, 9.0), (300, 2.5), (300, 6)])
def test_count_and_distance_are_those_of_the_dense_table(n, radius, size):
    for seed in range(5):
        random = random_of(seed)
        found, true = points(random, n + 7), points(random, n)
        ours, theirs = match(found, true, radius, size), dense(found, true, radius, size)
        count, total = count_and_total(found, true, ours, size)
        expected = count_and_total(found, true, theirs, size)
        assert count == expected[0] > 0
        assert total == pytest.approx(expected[1], rel=1e-12)
        assert apart(found, true, size)[ours >= 0, ours[ours >= 0]].max() <= radius


def test_points_on_pixels_tie_and_still_give_the_least_distance():
    for seed in range(5):
        random = random_of(seed)
        found, true = points(random, 200).round(), points(random, 200).round()
        ours = count_and_total(found, true, match(found, true, 4, 64), 64)
        assert ours == pytest.approx(count_and_total(found, true, dense(found, true, 4, 64), 64))


def test_the_border_of_the_radius_and_of_the_image():
    true = np.array([[10.0, 10.0]], np.float32)
    assert match(np.array([[10, 14]], np.float32), true, 4).tolist() == [0]
    assert match(np.array([[10, 14.001]], np.float32), true, 4).tolist() == [-1]
    assert match(true, true, 0).tolist() == [0]
    corner, other = np.array([[0.5, 31]], np.float32), np.array([[31, 0]], np.float32)
    assert match(corner, other, 2).tolist() == [-1] and match(corner, other, 2, 32).tolist() == [0]
    assert match(np.array([[-1e-9, 32.0]]), np.array([[0.0, 0.0]]), 1, 32).tolist() == [0]


def test_neither_side_needs_points():
    none, one = np.empty((0, 2), np.float32), np.zeros((1, 2), np.float32)
    assert match(none, one, 3).shape == (0,) and match(one, none, 3).tolist() == [-1]
    assert match(none, none, 3, 32).shape == (0,)


def test_points_of_different_images_never_meet():
    random = random_of(0)
    found, true = points(random, 120), points(random, 90)
    images = np.sort(random.integers(0, 6, 120)), np.sort(random.integers(0, 6, 90))
    partner = assign(*pairs_within(found, true, 8.0, 64, images), len(found))
    for image in range(6):
        ours, theirs = (np.flatnonzero(numbers == image) for numbers in images)
        expected = match(found[ours], true[theirs], 8.0, 64)
        assert partner[ours].tolist() == [theirs[k] if k >= 0 else -1 for k in expected]


def test_assign_is_the_best_of_all_assignments_for_any_costs():
    """Negative ones as well; a pair more goes before any cost."""
    random = random_of(3)
    for _ in range(30):
        table = np.where(random.random((4, 4)) < 0.5, random.normal(0, 100, (4, 4)), np.nan)
        rows, columns = np.nonzero(~np.isnan(table))
        partner = assign(rows, columns, table[rows, columns], 4)

        def worth(pairs, table=table):
            costs = [table[i, j] for i, j in pairs if j >= 0 and not np.isnan(table[i, j])]
            return len(costs), -sum(costs)

        best = max(worth(enumerate(order)) for order in permutations(range(4)))
        assert worth(enumerate(partner)) == pytest.approx(best)


def test_gains_count_the_pairs_of_every_beginning():
    for seed in range(8):
        random = random_of(seed)
        found, true = points(random, 70, 32.0), points(random, 50, 32.0)
        rows, columns, cost = pairs_within(found, true, 4.0)
        order = random.permutation(70)
        counted = gains(rows, columns, order).cumsum()
        for k in range(70):
            kept = np.isin(rows, order[: k + 1])
            assert counted[k] == (assign(rows[kept], columns[kept], cost[kept], 70) >= 0).sum()


def test_bad_points_and_radii_are_named():
    true = np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"point 1 of `found` is \[nan, 3"):
        match(np.array([[1, 2], [np.nan, 3]]), true, 3)
    with pytest.raises(ValueError, match="point 0 of `true`"):
        match(true, np.array([[np.inf, 0]]), 3)
    for radius in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"radius is {radius}"):
            match(true, true, radius)


def test_many_points_take_no_dense_table():
    """A dense one would hold 9e8 distances."""
    random = random_of(0)
    true = points(random, 30_000, 4000.0)
    found = true[random.permutation(30_000)] + random.normal(0, 1, (30_000, 2)).astype(np.float32)
    started = time.process_time()
    assert (match(found, true, 6.0) >= 0).mean() > 0.99
    assert time.process_time() - started < 10
