"""Ragged bags: padding there and back, and what is said about a problem that is none."""

import sys
from itertools import chain

import pytest
import torch

from shared.transport import check_problem, exact, pad, ragged, sinkhorn, unbalanced_sinkhorn, unpad


def test_ragged_bags_are_padded_and_come_back():
    values, offsets = torch.arange(12.0).view(6, 2), torch.tensor([0, 1, 4, 6])
    table, mask = pad(values, offsets, fill=-1.0)
    assert table.shape == (3, 3, 2)
    assert mask.tolist() == [[True, False, False], [True, True, True], [True, True, False]]
    assert torch.equal(table[1], values[1:4])
    assert (table[~mask] == -1).all()
    assert torch.equal(unpad(table, offsets), values)


def test_bags_of_one_size_are_reshaped_without_a_copy():
    values, offsets = torch.arange(12.0).view(6, 2), torch.tensor([0, 2, 4, 6])
    table, mask = pad(values, offsets)
    assert table.shape == (3, 2, 2)
    assert mask.all()
    assert table.data_ptr() == values.data_ptr()
    assert torch.equal(unpad(table, offsets), values)


@pytest.mark.parametrize("bounds", [[0, 1, 4, 6], [0, 3, 6]])
def test_gradients_pass_through_padding(bounds):
    values, offsets = torch.linspace(-1, 1, 12, dtype=torch.float64).view(6, 2), torch.tensor(bounds)
    assert torch.autograd.gradcheck(lambda x: unpad(pad(x, offsets)[0] ** 2, offsets), values.requires_grad_())


def test_vectors_and_integers_can_be_padded():
    table, _ = pad(torch.tensor([5, 6, 7]), torch.tensor([0, 2, 3]), fill=-1)
    assert table.tolist() == [[5, 6], [7, -1]]


COST = torch.zeros(5, 2)
OFFSETS = torch.tensor([0, 2, 5])
PROPORTIONS = torch.tensor([[0.5, 0.5], [0.25, 0.75]])


def with_value(tensor, place, value):
    tensor = tensor.clone()
    tensor[place] = value
    return tensor


@pytest.mark.parametrize("solve", [lambda *p: sinkhorn(*p, 1.0, check=False), lambda *p: exact(*p, check=False)])
def test_without_a_check_shapes_are_still_checked(solve):
    for wrong in (PROPORTIONS[:1], PROPORTIONS[0], PROPORTIONS[:, :1]):
        with pytest.raises(ValueError, match="proportions"):
            solve(COST, OFFSETS, wrong)


@pytest.mark.parametrize(
    ("cost", "offsets", "proportions", "message"),
    [
        (with_value(COST, (3, 1), torch.nan), OFFSETS, PROPORTIONS, "bag 1: .*instance 3, class 1 is nan"),
        (with_value(COST, (1, 0), torch.inf), OFFSETS, PROPORTIONS, "bag 0: .*instance 1, class 0 is inf"),
        (with_value(COST, (2, 0), -torch.inf), OFFSETS, PROPORTIONS, "bag 1: .*instance 2.* is -inf"),
        (COST, OFFSETS, torch.tensor([[0.5, 0.5], [1.5, -0.5]]), "bag 1: proportion of class 1 is -0.5"),
        (COST, OFFSETS, with_value(PROPORTIONS, (0, 1), torch.nan), "bag 0: proportion of class 1 is nan"),
        (COST, OFFSETS, with_value(PROPORTIONS, (1, 1), 0.7), "bag 1: proportions sum to 0.95"),
        (COST, torch.tensor([0, 2, 2, 5]), PROPORTIONS[[0, 0, 1]], "bag 1: empty, offsets 2 twice"),
        (COST, torch.tensor([0, 4, 2, 5]), PROPORTIONS[[0, 0, 1]], "bag 1: offsets decrease, 4 to 2"),
        (COST, torch.tensor([1, 2, 5]), PROPORTIONS, "bag 0: offsets start at 1"),
        (COST, torch.tensor([0, 2, 6]), PROPORTIONS, "bag 1: offsets end at 6, not at M = 5"),
        (COST, OFFSETS.float(), PROPORTIONS, "offsets must be in int64"),
        (COST, torch.tensor([0]), PROPORTIONS, "offsets must be"),
        (COST[:, 0], OFFSETS, PROPORTIONS, "cost must be"),
        (COST.half(), OFFSETS, PROPORTIONS, "cost is in float16, .*cost.float()"),
        (COST, OFFSETS, PROPORTIONS[:1], r"proportions must be \(2, 2\), got \(1, 2\)"),
    ],
)
def test_errors_name_the_bag_and_the_value(cost, offsets, proportions, message):
    solvers = [
        check_problem,
        exact,
        lambda *problem: sinkhorn(*problem, 1.0),
        lambda *problem: unbalanced_sinkhorn(*problem, epsilon=1.0, tau=0.5),
    ]
    for solve in solvers:
        with pytest.raises((TypeError, ValueError), match=message):
            solve(cost, offsets, proportions)


def test_float32_averages_pass():
    proportions = torch.full((2, 2), 0.5) + torch.tensor([3e-5, 0])
    check_problem(COST, OFFSETS, proportions)


TAIL = [3, 500, 1, 5, 5, 9, 2, 17, 5, 2000, *([5] * 300)]


@pytest.mark.parametrize("gradient", ["unrolled", "none"])
@pytest.mark.parametrize(
    "solve",
    [
        lambda *problem, **more: sinkhorn(*problem, 0.5, iterations=30, tolerance=0, **more),
        lambda *problem, **more: unbalanced_sinkhorn(*problem, epsilon=0.5, tau=0.7, iterations=30, **more),
    ],
)
def test_one_long_bag_changes_no_answer_and_no_gradient_of_the_short_ones(solve, gradient, monkeypatch):
    """Natural bags have heavy tails: padded to the longest, 500 bags of 5 beside one of 5,000 took 1.9 GB."""
    torch.manual_seed(0)
    offsets = torch.tensor([0, *TAIL]).cumsum(0)
    cost = torch.randn(offsets[-1], 3, dtype=torch.float64, requires_grad=True)
    z = torch.rand(len(TAIL), 3, dtype=torch.float64) * (torch.rand(len(TAIL), 3) < 0.8) + 1e-3
    z = z / z.sum(1, keepdim=True)
    weights = torch.randn(len(TAIL), dtype=torch.float64)

    def answer():
        found = solve(cost, offsets, z, gradient=gradient)
        (slope,) = torch.autograd.grad(found.value @ weights, cost)
        return [found.plan, found.value, found.instance_potential, found.class_potential, found.violation, slope]

    seen, original = [], ragged.lay_out
    for module in (sys.modules[f"shared.transport.{name}"] for name in ("sinkhorn", "unbalanced")):
        monkeypatch.setattr(module, "lay_out", lambda o, device: seen.append(o.diff().tolist()) or original(o, device))
    grouped = answer()
    assert len(seen) > 3 and sorted(chain(*seen)) == sorted(TAIL)
    assert all(max(sizes) <= max(ragged.SHORT, 2 * min(sizes)) for sizes in seen)
    monkeypatch.setattr(ragged, "WASTE", 10**12)
    for ours, padded in zip(grouped, answer(), strict=True):
        torch.testing.assert_close(ours, padded, rtol=1e-9, atol=1e-11)


def test_bags_of_like_sizes_stay_in_one_table():
    assert len(ragged._groups(torch.tensor([4, 4, 4]), 3)) == 1
    assert len(ragged._groups(torch.tensor([2, 12] * 5000), 10)) == 1
    assert len(ragged._groups(torch.tensor([5] * 500 + [5000]), 10)) == 2
