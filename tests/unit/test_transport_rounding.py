"""Counts by largest remainder and labels by rounding: exact counts, best labels, named errors."""

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from shared.transport import exact, largest_remainder, round_to_labels


@pytest.mark.parametrize(
    ("proportions", "size", "counts"),
    [
        ([0.5, 0.3, 0.2], 10, [5, 3, 2]),
        ([0.47, 0.33, 0.20], 10, [5, 3, 2]),
        ([1 / 3, 1 / 3, 1 / 3], 4, [2, 1, 1]),
        ([0.0, 0.5, 0.5], 3, [0, 2, 1]),
        ([0.0, 1e-9, 1.0], 7, [0, 0, 7]),
        ([0.4, 0.6], 0, [0, 0]),
        ([0.26, 0.37, 0.37], 1, [0, 1, 0]),
    ],
)
def test_counts_by_hand(proportions, size, counts):
    ours = largest_remainder(torch.tensor([proportions]), torch.tensor([size]))
    assert ours.dtype == torch.int64
    assert ours.tolist() == [counts]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_survive_division(dtype):
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 1025, (500,), generator=generator)
    labels = [torch.randint(100, (n,), generator=generator) for n in sizes.tolist()]
    counts = torch.stack([y.bincount(minlength=100) for y in labels])
    assert torch.equal(largest_remainder(counts.to(dtype) / sizes[:, None].to(dtype), sizes), counts)


def test_counts_keep_to_the_quota():
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(500, 30, generator=generator).pow(4)
    weights[weights < 0.1] = 0
    weights[:, 0] += 1e-3
    proportions = weights / weights.sum(1, keepdim=True)
    sizes = torch.randint(0, 5000, (500,), generator=generator)
    counts = largest_remainder(proportions, sizes)
    assert torch.equal(counts.sum(1), sizes)
    assert ((counts - sizes[:, None] * proportions).abs() < 1.01).all()
    assert (counts[proportions == 0] == 0).all()


def test_wrong_proportions_are_named():
    good = [0.5, 0.5]
    for bad, size in (([-0.5, 1.5], 3), ([torch.nan, 1.0], 3), ([0.0, 0.0], 3), (good, -1)):
        with pytest.raises(ValueError, match="bag 1: cannot round"):
            largest_remainder(torch.tensor([good, bad]), torch.tensor([3, size]))
    with pytest.raises(ValueError, match="need"):
        largest_remainder(torch.tensor([good]), torch.tensor([3, 3]))


def random_problem(seed, sizes, classes):
    rng = np.random.default_rng(seed)
    counts = np.stack([rng.multinomial(n, rng.dirichlet(np.ones(classes))) for n in sizes])
    plan = rng.dirichlet(np.ones(classes), sum(sizes))
    return torch.from_numpy(plan), torch.tensor([0, *np.cumsum(sizes)]), torch.from_numpy(counts)


@pytest.mark.parametrize("seed", range(10))
def test_labels_are_the_best_with_their_counts(seed):
    plan, offsets, counts = random_problem(seed, [6, 1, 5], 3)
    labels = round_to_labels(plan, offsets, counts)
    for bag in range(3):
        rows = slice(offsets[bag], offsets[bag + 1])
        assert torch.equal(labels[rows].bincount(minlength=3), counts[bag])
        pool = torch.arange(3).repeat_interleave(counts[bag]).tolist()
        table = plan[rows].tolist()
        best = max(sum(p[k] for p, k in zip(table, y, strict=True)) for y in set(permutations(pool)))
        carried = plan[rows].gather(1, labels[rows, None]).sum().item()
        assert carried == pytest.approx(best, abs=1e-12)


def test_ties_and_large_bags_have_exact_counts():
    for plan in (torch.full((1024, 10), 0.1), random_problem(0, [1024], 10)[0].float()):
        counts = random_problem(3, [1024], 10)[2]
        labels = round_to_labels(plan, torch.tensor([0, 1024]), counts)
        assert labels.dtype == torch.int64
        assert torch.equal(labels.bincount(minlength=10), counts[0])


def test_labels_carry_the_mass_of_an_assignment():
    plan, offsets, counts = random_problem(5, [40], 6)
    columns = np.repeat(np.arange(6), counts[0])
    best = plan.numpy()[:, columns][linear_sum_assignment(-plan.numpy()[:, columns])].sum()
    labels = round_to_labels(plan, offsets, counts)
    assert plan.gather(1, labels[:, None]).sum().item() == pytest.approx(best, abs=1e-12)


def test_a_split_plan_becomes_whole_labels():
    """What exact transport with fractional masses returns is no labelling; this makes it one."""
    rng = np.random.default_rng(0)
    cost, z = torch.from_numpy(rng.normal(size=(50, 8))), torch.from_numpy(rng.dirichlet(np.ones(8), 1))
    offsets = torch.tensor([0, 50])
    plan = exact(cost, offsets, z).plan
    assert ((plan > 0) & (plan < 1)).any()
    counts = largest_remainder(z, offsets.diff())
    labels = round_to_labels(plan, offsets, counts)
    assert torch.equal(labels.bincount(minlength=8), counts[0])
    whole = plan.amax(1) == 1
    assert (labels[whole] == plan.argmax(1)[whole]).double().mean() > 0.9


def test_wrong_counts_are_named():
    plan, offsets, counts = random_problem(0, [4, 5], 3)
    with pytest.raises(ValueError, match=r"bag 1: counts \[1, 1, 1\] for 5 instances"):
        round_to_labels(plan, offsets, torch.stack([counts[0], torch.tensor([1, 1, 1])]))
    with pytest.raises(ValueError, match="bag 0: counts"):
        round_to_labels(plan, offsets, torch.stack([torch.tensor([-1, 4, 1]), counts[1]]))
    broken = plan.clone()
    broken[6, 1] = torch.nan
    with pytest.raises(ValueError, match="bag 1: the plan is not finite"):
        round_to_labels(broken, offsets, counts)
    with pytest.raises(ValueError, match="need"):
        round_to_labels(plan, offsets, counts[:1])
    with pytest.raises(ValueError, match="bag 1: offsets end"):
        round_to_labels(plan[:8], offsets, counts)
