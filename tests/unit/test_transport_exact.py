"""Exact transport against linear programming, POT and assignment; its certificate, gradient and independence."""

import pickle
import sys
import time
import warnings
from itertools import pairwise

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog

from shared.transport import exact, machine

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


# ------------------------------------------------------------------------------------------------- many small problems

COSTS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "negative": lambda rng, shape: -5 * rng.random(shape),
    "ties": lambda rng, shape: rng.integers(0, 3, shape).astype(float),
    "constant": lambda rng, shape: np.full(shape, rng.normal()),
    "peaky": lambda rng, shape: rng.exponential(size=shape) ** 6,
    "collapsed": lambda rng, shape: rng.normal(size=shape[1]) + 1e-6 * rng.normal(size=shape),
    "ranked": lambda rng, shape: rng.normal(size=shape[1]) + rng.normal(size=(shape[0], 1)),
    "large": lambda rng, shape: 1e6 * rng.normal(size=shape),
}


def counted(rng, sizes, classes):
    return np.stack([rng.multinomial(n, rng.dirichlet(np.ones(classes))) / n for n in sizes])


def noisy(rng, sizes, classes):
    z = np.abs(counted(rng, sizes, classes) * (1 + 10.0 ** -rng.integers(1, 12) * rng.normal(size=classes)))
    return z / z.sum(1, keepdims=True)


def sparse(rng, sizes, classes):
    z = rng.dirichlet(np.ones(classes), len(sizes)) * (rng.random((len(sizes), classes)) < 0.5)
    z[:, 0] += 1e-3
    return z / z.sum(1, keepdims=True)


PROPORTIONS = {
    "counts": counted,
    "float32 counts": lambda *problem: counted(*problem).astype(np.float32),
    "nearly counts": noisy,
    "fractions": lambda rng, sizes, classes: rng.dirichlet(np.ones(classes), len(sizes)),
    "with zeros": sparse,
}


@pytest.mark.parametrize("shares", PROPORTIONS)
@pytest.mark.parametrize("kind", COSTS)
def test_every_small_problem_is_certified_and_its_plan_and_duals_prove_it(kind, shares):
    """The certificate computed here from plan and duals alone, in float64, and the value by POT."""
    rng = np.random.default_rng([list(COSTS).index(kind), list(PROPORTIONS).index(shares)])
    for classes in (1, 2, 3, 10, 100):
        sizes = rng.choice([1, 2, 3, 8, 33], 60 if classes < 100 else 10)
        edges = np.append(0, sizes.cumsum())
        cost = COSTS[kind](rng, (edges[-1], classes))
        z = PROPORTIONS[shares](rng, sizes, classes)
        ours = exact(*map(torch.from_numpy, (cost, edges, z)))
        assert ours.converged.all()
        for bag, (start, stop) in enumerate(pairwise(edges)):
            c, plan, u = cost[start:stop], ours.plan[start:stop].numpy(), ours.instance_potential[start:stop].numpy()
            masses = (stop - start) * (z[bag] / z[bag].sum(dtype=float))
            if np.abs(masses - masses.round()).max() <= (1e-6 if z.dtype == np.float32 else 1e-12) * (stop - start):
                masses = masses.round()
            v, tolerance = ours.class_potential[bag].numpy(), 1e-9 * (1 + np.abs(plan * c).sum())
            assert (plan >= 0).all()
            np.testing.assert_allclose(plan.sum(1), 1, atol=1e-9)
            np.testing.assert_allclose(plan.sum(0), masses, rtol=0, atol=1e-9 * len(c))
            assert (c - u[:, None] - v).min() >= -tolerance
            assert abs((plan * c).sum() - u.sum() - masses @ v) <= tolerance * len(c)
            assert ours.value[bag].item() == pytest.approx((plan * c).sum(), rel=1e-12, abs=tolerance)
            assert ours.gap[bag] <= tolerance
            assert ours.violation[bag] <= 1e-9
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # POT calls some small problems infeasible
            best, log = ot.emd2(np.ones(len(c)), masses, c - c.min(), log=True)
        if log["warning"] is None:
            assert ours.value[-1].item() == pytest.approx(best + len(c) * c.min(), abs=1e-6 * (1 + np.abs(c).max()))


@pytest.mark.parametrize("classes", [2, 5, 20])
def test_whole_counts_are_an_assignment(classes):
    rng = np.random.default_rng(classes)
    cost, z = rng.normal(size=(120, classes)), counted(rng, [40, 80], classes)
    ours = exact(*map(torch.from_numpy, (cost, np.array([0, 40, 120]), z)))
    assert ((ours.plan == 0) | (ours.plan == 1)).all()
    for bag, rows in enumerate((slice(0, 40), slice(40, 120))):
        columns = np.repeat(np.arange(classes), np.rint(z[bag] * (rows.stop - rows.start)).astype(int))
        chosen = linear_sum_assignment(cost[rows][:, columns])[1]
        assert (ours.plan[rows].argmax(1).numpy() == columns[chosen]).all()


@pytest.mark.parametrize("classes", [2, 3, 10, 60])
def test_fractions_split_fewer_instances_than_classes(classes):
    cost, offsets, proportions = draw([0, 80, 200, 201], classes)
    plan = exact(cost, offsets, proportions).plan
    split = ((plan > 0) & (plan < 1)).any(1).split(offsets.diff().tolist())
    assert 0 < max(part.sum() for part in split) < classes


MISLEADING = {  # that a first guess of potentials is bad for, each in another way
    "distances on a line": lambda rng, n, k: (rng.random((n, 1)) - rng.random(k)) ** 2,
    "products": lambda rng, n, k: rng.random((n, 1)) * rng.random(k),
    "heavy tails": lambda rng, n, k: rng.exponential(size=(n, k)) ** 6,
    "ties": lambda rng, n, k: rng.integers(0, 3, (n, k)).astype(float),
}


@pytest.mark.parametrize("kind", MISLEADING)
@pytest.mark.parametrize(("size", "classes"), [(16, 10), (90, 12), (64, 100), (300, 40)])
def test_costs_that_mislead_the_first_guess_are_solved_as_well_as_by_the_network_simplex(kind, size, classes):
    """Fractions, too, which are sent in whole instances first."""
    rng = np.random.default_rng(size)
    for shares in (
        rng.dirichlet(np.ones(classes)),
        np.bincount(rng.integers(0, classes, size), minlength=classes) / size,
    ):
        cost = MISLEADING[kind](rng, size, classes)
        found = exact(torch.from_numpy(cost), torch.tensor([0, size]), torch.from_numpy(shares[None]))
        value, u, v = found.value.item(), found.instance_potential.numpy(), found.class_potential[0].numpy()
        masses = size * shares / shares.sum()
        simplex = ot.emd2(np.ones(size), masses, cost)  # which stops 2e-3 early on heavy tails, so duals must prove
        assert value <= simplex * (1 + 1e-9) + 1e-12
        assert (u[:, None] + v <= cost + 1e-12 * (1 + np.abs(u[:, None]))).all()
        assert u.sum() + masses @ v == pytest.approx(value, rel=1e-9, abs=1e-12 * np.median(cost))


def test_an_answer_stays_when_others_are_asked_for_and_can_be_kept():
    """Its parts are read late, from memory of its own."""
    problem = draw([0, 3, 8], 4)
    first, again = exact(*problem), exact(*problem)
    names = ("plan", "value", "instance_potential", "class_potential", "gap", "violation", "converged")
    expected = {name: getattr(again, name).clone() for name in names}
    exact(*draw([0, 5, 9], 4, seed=1))
    for name in names:
        assert torch.equal(getattr(first, name), expected[name])
        assert torch.equal(getattr(pickle.loads(pickle.dumps(first)), name), expected[name])


def test_slivers_of_mass_take_no_longer_than_whole_counts():
    """n z a little off whole numbers: as many paths of that width, were arcs of one instance not joined.

    Then it takes hundreds of times as long; the factor below leaves room for any machine.
    """
    rng = np.random.Generator(np.random.PCG64(4))
    cost, counts = rng.normal(size=(30, 100, 100)), rng.multinomial(100, np.full(100, 0.01), 30)
    masses = np.abs(counts + 3e-4 * rng.normal(size=counts.shape))
    cost, edges = torch.from_numpy(cost).flatten(0, 1), 100 * torch.arange(31)
    taken = []
    for m in (masses, counts):
        z = torch.from_numpy(m / m.sum(1, keepdims=True))
        rounds = []
        for _ in range(5):
            start = time.perf_counter()
            ours = exact(cost, edges, z)
            rounds.append(time.perf_counter() - start)
        taken.append(min(rounds))
        split = ((ours.plan > 0) & (ours.plan < 1)).any(1).view(30, 100).sum(1)
        assert (split > 10).all() if m is masses else not split.any()
    assert taken[0] < 25 * taken[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_and_columns_may_be_shifted(dtype):
    """c + a + b has the plan of c, also where a and b are all there is to see in float32."""
    cost, offsets, proportions = draw(RAGGED, 5)
    cost = (64 * cost).round().to(dtype)  # shifts by whole numbers are then exact
    shifted = cost + 4096 * torch.arange(24)[:, None] + 512 * torch.arange(5)
    plans = [exact(c, offsets, proportions).plan for c in (cost, shifted)]
    assert plans[0].dtype == dtype
    values = [(plan * cost).sum() for plan in plans]
    torch.testing.assert_close(*values)


def test_the_threads_change_nothing():
    cost, offsets, proportions = draw(list(range(0, 4001, 40)), 7)
    before, answers = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            answers.append(exact(cost, offsets, proportions))
    finally:
        torch.set_num_threads(before)
    for other in answers[1:]:
        assert torch.equal(other.plan, answers[0].plan)
        assert torch.equal(other.class_potential, answers[0].class_potential)
        assert torch.equal(other.gap, answers[0].gap)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_costs_that_are_not_numbers_are_refused_checked_or_not(bad):
    cost, offsets, proportions = draw(RAGGED, 4)
    cost[9, 2] = bad
    with pytest.raises(ValueError, match="bag 2: cost of instance 9, class 2"):
        exact(cost, offsets, proportions)
    with pytest.raises(RuntimeError, match="bag 2: no certified plan.*finite"):
        exact(cost, offsets, proportions, check=False)


def test_without_numba_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    monkeypatch.delitem(machine.EXACT.__dict__, "calls", raising=False)
    with pytest.raises(ModuleNotFoundError, match="pip install numba"):
        exact(*draw([0, 4], 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_answer_comes_back_to_the_gpu():
    cost, offsets, proportions = draw(RAGGED, 4)
    here = exact(cost, offsets, proportions)
    there = exact(cost.cuda().requires_grad_(), offsets, proportions.cuda())
    there.value.sum().backward()
    for name in ("plan", "value", "instance_potential", "class_potential", "gap", "converged"):
        assert getattr(there, name).is_cuda
        assert torch.equal(getattr(there, name).cpu(), getattr(here, name))
