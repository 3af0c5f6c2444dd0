"""Exact transport where numbers are far apart, tiny or huge: never a wrong plan with a certificate."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from shared.transport import exact, sinkhorn, unbalanced_sinkhorn


def assigned(cost, counts):
    """The labels of the best labelling with these counts, by scipy on costs of one scale."""
    seats = np.repeat(np.arange(len(counts)), counts)
    return seats[linear_sum_assignment(cost[:, seats])[1]]


def forbidden(rng, n, classes, huge, share=0.3):
    """(costs, where they are forbidden, counts that some labelling without a forbidden cost has)."""
    cost = rng.standard_normal((n, classes))
    labels = rng.integers(classes, size=n)
    never = rng.random((n, classes)) < share
    never[np.arange(n), labels] = False
    return np.where(never, huge, cost), never, np.bincount(labels, minlength=classes)


def proportions(counts):
    return torch.from_numpy(np.atleast_2d(counts / counts.sum()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("huge", [1e4, 1e9, 1e14, 1e17, 1e20, 1e30, 1e38, 1e300])
def test_one_huge_cost_among_small_ones_is_never_carried(huge, dtype):
    """Half of the plans were wrong at 1e20, each with a certificate."""
    if dtype == torch.float32 and huge > 1e38:
        pytest.skip("no float32")
    rng = np.random.default_rng(0)
    for n, classes, share in itertools.product((8, 33, 200), (2, 3, 10, 40), (0.01, 0.3, 0.7, 0.95)):
        cost, never, counts = forbidden(rng, n, classes, huge, share)
        cost = torch.from_numpy(cost).to(dtype)
        found = exact(cost, torch.tensor([0, n]), proportions(counts))
        modest = np.where(never, 1e4, cost.double().numpy())
        best = modest[np.arange(n), assigned(modest, counts)].sum()
        assert not found.plan.numpy()[never].any()
        np.testing.assert_allclose(float(found.value), best, rtol=3e-6 if dtype == torch.float32 else 1e-9, atol=1e-6)


@pytest.mark.parametrize("huge", [1.0, 1e6, 1e20])
@pytest.mark.parametrize("tiny", [1e-9, 1e-11, 1e-13, 1e-100])
def test_tiny_costs_beside_an_ordinary_one_that_is_never_carried(tiny, huge):
    """A gap of 1e-9 once passed for none where all that the plan carried was less."""
    rng = np.random.default_rng(2)
    for n, classes in itertools.product((8, 33, 80), (2, 7, 19)):
        cost, never, counts = forbidden(rng, n, classes, 1e4)
        cost -= cost.min()
        found = exact(torch.from_numpy(np.where(never, huge, tiny * cost)), torch.tensor([0, n]), proportions(counts))
        best = cost[np.arange(n), assigned(np.where(never, 1e6, cost), counts)].sum()
        assert (found.plan.numpy() * cost).sum() == pytest.approx(best)


def test_a_huge_cost_that_must_be_paid_is_paid_once():
    cost = np.array([[1e20, 0.0], [1e20, 1.0], [1e20, 0.5]])
    found = exact(torch.from_numpy(cost), torch.tensor([0, 3]), torch.tensor([[1 / 3, 2 / 3]], dtype=torch.float64))
    assert float(found.value) == 1e20 and found.plan[:, 0].sum() == 1


@pytest.mark.parametrize("factor", [1e-42, 1e-30, 1e-12, 1e12, 1e30, 1e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_common_factor_of_all_costs_changes_no_plan(factor, dtype):
    """In one batch with ordinary bags, which a bag of tiny or huge costs once took along."""
    rng = np.random.default_rng(1)
    cost = rng.random((60, 5)).round(2)  # exact in steps of a denormal, too
    counts = np.array([[12, 12, 12, 12, 12], [20, 10, 10, 10, 10]])
    scaled = torch.from_numpy(np.concatenate([cost, cost * factor])).to(dtype)
    found = exact(scaled, torch.tensor([0, 60, 120]), torch.from_numpy(counts / 60))
    for rows, wanted in ((slice(0, 60), counts[0]), (slice(60, 120), counts[1])):
        ours = scaled[rows].double().numpy()
        best = ours[np.arange(60), assigned(ours / ours.max(), wanted)].sum()
        np.testing.assert_allclose((found.plan[rows].double().numpy() * ours).sum(), best, rtol=1e-6)


def test_costs_from_the_least_to_the_largest_number_have_a_plan():
    cost = torch.tensor([[5e-324, 1e308], [1e-300, 1.0], [1e300, 1e-10], [0.0, 1e200]], dtype=torch.float64)
    found = exact(cost, torch.tensor([0, 4]), torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    assert found.plan.argmax(1).tolist() == [0, 1, 1, 0] and float(found.value) == pytest.approx(1.0)


def test_proportions_in_float64_keep_what_float32_would_round_away():
    z = torch.tensor([[1 - 9e-7, 9e-7]], dtype=torch.float64)
    cost = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    found = exact(cost, torch.tensor([0, 2]), z)
    np.testing.assert_allclose(found.plan.sum(0), 2 * z[0], rtol=0, atol=1e-14)
    assert float(found.value) == pytest.approx(1.8e-6, rel=1e-9)
    counts = torch.tensor([[0.1, 0.9]])
    ten = exact(torch.zeros(10, 2), torch.tensor([0, 10]), counts)
    assert ten.plan.sum(0).tolist() == [1, 9], "float32 does not hold 0.1"
    assert exact(torch.zeros(10, 2), torch.tensor([0, 10]), counts.double().round(decimals=1)).plan.sum(0)[0] == 1


def test_the_gradient_with_respect_to_proportions_is_that_of_differences():
    torch.manual_seed(0)
    cost, offsets = torch.randn(23, 4, dtype=torch.float64), torch.tensor([0, 9, 23])
    z = torch.tensor([[0.13, 0.27, 0.41, 0.19], [0.07, 0.33, 0.21, 0.39]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(exact(cost, offsets, z).value @ torch.tensor([1.0, 3.0]).double(), z)
    way = torch.randn(2, 4, dtype=torch.float64)
    step = 1e-6
    ahead, behind = (exact(cost, offsets, z.detach() + s * step * way).value for s in (1, -1))
    expected = ((ahead - behind) / (2 * step)) @ torch.tensor([1.0, 3.0]).double()
    torch.testing.assert_close((slope * way).sum(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "solve",
    [
        lambda *p: sinkhorn(*p, 1.0, gradient="none"),
        lambda *p: unbalanced_sinkhorn(*p, epsilon=1.0, tau=0.5, gradient="none"),
    ],
)
def test_proportions_get_a_gradient_or_an_error(solve):
    z = torch.tensor([[0.5, 0.5]], requires_grad=True)
    with pytest.raises(ValueError, match="proportions require a gradient, which gradient='none' does not give"):
        solve(torch.zeros(2, 2), torch.tensor([0, 2]), z)


@pytest.mark.parametrize("row", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_without_a_check_a_row_that_is_none_is_still_named(row):
    z = torch.tensor([[0.5, 0.5], row])
    with pytest.raises(RuntimeError, match="bag 1: no certified plan"):
        exact(torch.zeros(4, 2), torch.tensor([0, 2, 4]), z, check=False)


@pytest.mark.parametrize("offsets", [[0, 2, 5], [1, 2, 4], [0, 3, 2, 4], [0, 4]])
def test_without_a_check_nothing_reads_other_memory(offsets):
    with pytest.raises(ValueError, match="these do not fit, or a bag is empty"):
        exact(torch.zeros(4, 2), torch.tensor(offsets), torch.full((2, 2), 0.5), check=False)
