"""Exact transport against linear programming, its envelope gradient and its certificate."""

import sys

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from shared.transport import exact, largest_remainder
from shared.transport.exact import solve_bag

RAGGED = [0, 7, 8, 20, 24]


def draw(bounds, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cost = 2 * torch.randn(bounds[-1], classes, generator=generator, dtype=torch.float64)
    weights = torch.rand(len(bounds) - 1, classes, generator=generator, dtype=torch.float64)
    weights[0, 0] = 0
    return cost, torch.tensor(bounds), weights / weights.sum(1, keepdim=True)


def linear_program(cost, masses):
    n, classes = cost.shape
    rows, columns = np.kron(np.eye(n), np.ones(classes)), np.kron(np.ones(n), np.eye(classes))
    sums = np.concatenate([np.ones(n), masses])
    return linprog(cost.ravel(), A_eq=np.concatenate([rows, columns]), b_eq=sums, method="highs").fun


@pytest.mark.parametrize("shift", [0.0, 50.0, -50.0])
def test_the_value_is_the_linear_programs(shift):
    cost, offsets, proportions = draw(RAGGED, 5)
    ours = exact(cost + shift, offsets, proportions)
    assert ours.converged.all()
    assert (ours.violation < 1e-12).all()
    for bag in range(4):
        rows = slice(offsets[bag], offsets[bag + 1])
        n = rows.stop - rows.start
        best = linear_program(cost[rows].numpy() + shift, n.item() * proportions[bag].numpy())
        assert ours.value[bag].item() == pytest.approx(best, abs=1e-8)


def test_potentials_certify_the_plan():
    cost, offsets, proportions = draw(RAGGED, 5)
    ours = exact(cost, offsets, proportions)
    bag = torch.arange(4).repeat_interleave(offsets.diff())
    slack = cost - ours.instance_potential[:, None] - ours.class_potential[bag]
    assert (slack[proportions[bag] > 0] > -1e-9).all()
    assert (slack * ours.plan).abs().max() < 1e-9
    assert ours.class_potential.isfinite().all()


def test_whole_masses_give_labels_even_from_float32():
    counts = torch.tensor([[3, 3, 4], [0, 1, 9]])
    cost, offsets, _ = draw([0, 10, 20], 3)
    ours = exact(cost.float(), offsets, counts.float() / 10)
    assert ((ours.plan == 0) | (ours.plan == 1)).all()
    assert torch.equal(ours.plan.view(2, 10, 3).sum(1).long(), counts)
    assert (ours.violation == 0).all()
    assert (ours.plan[:10].sum(0) == counts[0]).all()


def test_small_bags_with_negative_costs_are_feasible():
    generator = torch.Generator().manual_seed(0)
    offsets = torch.cumsum(torch.tensor([0] + [1, 2] * 100), 0)
    cost = -5 * torch.rand(300, 3, generator=generator, dtype=torch.float64)
    choice = torch.randint(3, (200,), generator=generator)
    proportions = torch.nn.functional.one_hot(choice, 3).double()
    ours = exact(cost, offsets, proportions)
    bag = torch.arange(200).repeat_interleave(offsets.diff())
    assert ours.converged.all()
    assert torch.equal(ours.plan, proportions[bag])


def test_one_class_ties_and_many_classes():
    offsets = torch.tensor([0, 3])
    assert torch.equal(exact(torch.arange(3.0)[:, None], offsets, torch.ones(1, 1)).plan, torch.ones(3, 1))
    tied = exact(torch.ones(3, 2), offsets, torch.tensor([[1 / 3, 2 / 3]]))
    assert tied.value.item() == pytest.approx(3)
    cost, offsets, proportions = draw([0, 128], 100)
    ours = exact(cost, offsets, proportions)
    assert ours.converged.all()
    assert ours.value.item() == pytest.approx(linear_program(cost.numpy(), 128 * proportions[0].numpy()), abs=1e-7)


def test_the_gradient_of_the_value_is_the_plan():
    cost, offsets, proportions = draw(RAGGED, 4)
    cost.requires_grad_()
    ours = exact(cost, offsets, proportions)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(ours.value @ weights, cost)
    assert not ours.plan.requires_grad
    assert torch.equal(gradient, ours.plan * weights.repeat_interleave(offsets.diff())[:, None])
    assert torch.autograd.gradcheck(lambda c: exact(c, offsets, proportions).value, cost)


def test_bags_do_not_see_each_other_and_order_does_not_matter():
    cost, offsets, proportions = draw(RAGGED, 4)
    together = exact(cost, offsets, proportions)
    instances, classes = torch.arange(12).roll(5).flip(0), torch.tensor([3, 0, 1, 2])
    alone = exact(cost[8:20][instances][:, classes], torch.tensor([0, 12]), proportions[2:3][:, classes])
    assert torch.allclose(together.plan[8:20][instances][:, classes], alone.plan, atol=1e-12)


@pytest.mark.filterwarnings("ignore:numItermax")
def test_a_solver_cut_short_does_not_claim_the_optimum():
    cost, offsets, proportions = draw([0, 64], 10)
    assert not exact(cost, offsets, proportions, iterations=2).converged.any()


@pytest.mark.filterwarnings("ignore:Problem infeasible")
def test_infeasible_bags_are_named(monkeypatch):
    import ot

    def infeasible(a, b, cost, **_):
        return np.zeros_like(cost), {"result_code": 0, "warning": "Problem infeasible"}

    monkeypatch.setattr(ot, "emd", infeasible)
    with pytest.raises(RuntimeError, match="bag 0: no transport plan.*infeasible"):
        exact(*draw([0, 4], 3))


def test_the_seam_solves_plain_arrays():
    plan, u, v, optimal = solve_bag(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 1.0]))
    assert optimal
    assert np.array_equal(plan, np.eye(2))
    assert u.sum() + v.sum() == pytest.approx(0)


@pytest.mark.parametrize("counts", [True, False], ids=["counts", "fractions"])
def test_without_pot_highs_finds_the_same_plan(monkeypatch, counts):
    """A machine with torch, NumPy and SciPy alone must reach the same vertex."""
    rng = torch.Generator().manual_seed(0)
    offsets = torch.tensor([0, 5, 17])
    cost = torch.rand(17, 4, generator=rng, dtype=torch.float64)
    proportions = torch.rand(2, 4, generator=rng, dtype=torch.float64).softmax(1)
    if counts:
        sizes = offsets.diff()
        proportions = largest_remainder(proportions, sizes).double() / sizes[:, None]
    by_pot = exact(cost, offsets, proportions)
    monkeypatch.setitem(sys.modules, "ot", None)
    by_highs = exact(cost, offsets, proportions)
    assert by_highs.converged.all()
    torch.testing.assert_close(by_highs.plan, by_pot.plan, atol=1e-9, rtol=0)
    torch.testing.assert_close(by_highs.value, by_pot.value)
