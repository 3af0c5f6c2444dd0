"""Bags: what each maker promises, and that equal seeds draw equal bags on any machine."""

import time

import numpy as np
import pytest
import torch

from shared import bags as B
from shared.methods import kl_loss

LABELS = np.random.default_rng(0).integers(0, 10, 1000)


def counts(bags):
    return bags.proportions * bags.sizes[:, None]


def test_fixed_size_takes_each_instance_at_most_once_and_drops_the_remainder():
    bags = B.fixed_size(LABELS, 10, 64, seed=3)
    assert len(bags) == 1000 // 64 and set(bags.sizes) == {64}
    assert len(set(bags.indices)) == len(bags.indices)
    np.testing.assert_allclose(counts(bags)[2], np.bincount(LABELS[bags.indices[128:192]], minlength=10))


def test_bags_are_golden():
    """The indices behind committed records: a change here would orphan every record."""
    assert B.permutation(8, seed=1).tolist() == [2, 4, 7, 5, 0, 6, 3, 1]
    sha = B.fixed_size(LABELS, 10, 16, seed=7).sha256()
    assert sha == B.fixed_size(LABELS, 10, 16, seed=7).sha256()
    assert sha != B.fixed_size(LABELS, 10, 16, seed=8).sha256()


def test_a_hundred_thousand_bags_take_under_a_second():
    labels = np.random.default_rng(1).integers(0, 10, 800_000)
    start = time.process_time()
    bags = B.fixed_size(labels, 10, 8, seed=0)
    assert len(bags) == 100_000
    assert time.process_time() - start < 1


def test_variable_sizes_cover_the_range():
    bags = B.variable_size(LABELS, 10, 2, 12, seed=0, n_bags=100)
    assert len(bags) == 100 and set(bags.sizes) == set(range(2, 13))
    assert len(set(bags.indices)) == len(bags.indices)
    np.testing.assert_allclose(counts(bags).sum(1), bags.sizes)
    with pytest.raises(B.BagError, match="need .* instances, there are 1000"):
        B.variable_size(LABELS, 10, 2, 12, seed=0, n_bags=1000)
    as_many_as_fit = B.variable_size(LABELS, 10, 2, 12, seed=0)
    assert 1000 - 12 <= len(as_many_as_fit.indices) <= 1000


def test_natural_groups_keep_their_members():
    groups = np.array([5, 2, 5, 9, 2, 2])
    bags = B.natural(groups, np.array([0, 1, 1, 0, 1, 0]), 2)
    assert bags.sizes.tolist() == [3, 2, 1]
    assert bags.indices.tolist() == [1, 4, 5, 0, 2, 3]
    np.testing.assert_allclose(bags.proportions, [[1 / 3, 2 / 3], [0.5, 0.5], [1, 0]])


def test_noise_stays_on_the_simplex_and_moves_by_its_spread():
    bags = B.fixed_size(LABELS, 10, 20, seed=0)
    moved = B.noisy(bags, 0.02, seed=1)
    assert (moved.proportions >= 0).all()
    np.testing.assert_allclose(moved.proportions.sum(1), 1)
    inner = bags.proportions > 0.1
    assert 0.01 < np.std((moved.proportions - bags.proportions)[inner]) < 0.03
    np.testing.assert_allclose(B.noisy(bags, 0, seed=1).proportions, bags.proportions)


def test_permuting_keeps_the_proportions_and_breaks_the_link():
    bags = B.fixed_size(LABELS, 10, 20, seed=0)
    control = B.permuted(bags, seed=1)
    np.testing.assert_array_equal(np.sort(control.proportions, 0), np.sort(bags.proportions, 0))
    assert (control.proportions != bags.proportions).any(1).mean() > 0.8


def test_split_is_by_bag_and_loses_nothing():
    bags = B.variable_size(LABELS, 10, 2, 12, seed=0)
    rest, held = B.split(bags, 0.1, seed=0)
    assert len(held) == round(0.1 * len(bags)) and len(rest) + len(held) == len(bags)
    assert sorted([*rest.indices, *held.indices]) == sorted(bags.indices)
    assert len(B.split(bags, 0, seed=0)[1]) == 0
    with pytest.raises(B.BagError, match="leaves none"):
        B.split(bags.take(np.array([0])), 0.5, seed=0)


def test_bad_bags_are_refused_by_number():
    with pytest.raises(B.BagError, match="bag 1 is empty"):
        B.Bags(np.arange(2), np.array([0, 2, 2]), np.ones((2, 1)))
    with pytest.raises(B.BagError, match="bag 1 are not on the simplex"):
        B.Bags(np.arange(2), np.array([0, 1, 2]), np.array([[1.0, 0], [0.7, 0.7]]))
    with pytest.raises(B.BagError, match="bag size 2000"):
        B.fixed_size(LABELS, 10, 2000, seed=0)
    with pytest.raises(B.BagError, match="labels must lie in 0..4"):
        B.fixed_size(LABELS, 5, 10, seed=0)


@pytest.mark.parametrize("offsets", [[0, 3, 6, 9], [0, 1, 6, 9]])
def test_segments_equal_a_loop_and_differentiate(offsets):
    offsets = torch.tensor(offsets)
    values = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    pieces = [values[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    torch.testing.assert_close(B.segment_mean(values, offsets), torch.stack([p.mean(0) for p in pieces]))
    expected = torch.stack([p.exp().mean(0).log() for p in pieces])
    log_mean, share, bag = B.segment_softmax(values.detach(), offsets)
    assert (bag is None) == (len(set(offsets.diff().tolist())) == 1)
    torch.testing.assert_close(log_mean, expected)
    torch.testing.assert_close(share.reshape(9, 4), torch.cat([p.softmax(0) for p in pieces]))
    assert all(found.isfinite().all() for found in B.segment_softmax(values.detach() * 1000, offsets)[:2])


@pytest.mark.parametrize("offsets", [[0, 3, 6, 9], [0, 1, 6, 9], list(range(10))])
def test_the_gradients_of_the_kl_loss_are_those_of_its_values(offsets):
    offsets, rng = torch.tensor(offsets), torch.Generator().manual_seed(0)
    log_p = torch.randn(9, 4, dtype=torch.float64, generator=rng).log_softmax(1).requires_grad_()
    z = torch.rand(len(offsets) - 1, 4, dtype=torch.float64, generator=rng).requires_grad_()
    torch.autograd.gradcheck(lambda *both: 3 * kl_loss(both[0], offsets, both[1], check=False), (log_p, z))
    pieces = [log_p[a:b].exp().mean(0).log() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    torch.testing.assert_close(kl_loss(log_p, offsets, z, check=False), -(z * torch.stack(pieces)).sum(1).mean())
