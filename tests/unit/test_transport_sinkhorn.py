"""Balanced Sinkhorn against POT, its limits in epsilon, degenerate bags, gradients and honesty about convergence."""

import os
import subprocess
import sys

import numpy as np
import ot
import pytest
import torch

from shared.transport import exact, sinkhorn

RAGGED = [0, 7, 8, 20, 24]


def draw(bounds, classes, seed=0, spread=2.0, zeros=0, dtype=torch.float64):
    """Costs -log softmax of normal logits and Dirichlet proportions, the first `zeros` classes of bag 0 absent."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(bounds[-1], classes, generator=generator, dtype=torch.float64)
    weights = torch.rand(len(bounds) - 1, classes, generator=generator, dtype=torch.float64) + 0.05
    weights[0, :zeros] = 0
    proportions = weights / weights.sum(1, keepdim=True)
    return -logits.log_softmax(1).to(dtype), torch.tensor(bounds), proportions.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.03])
def test_extrapolation_leads_to_the_same_plan_in_fewer_steps_and_never_in_many_more(dtype, epsilon):
    """Where a gradient is wanted the steps are Algorithm 1's own; where none is, they are extrapolated."""
    cost, offsets, proportions = draw([0, 16, 32, 96], 10, dtype=dtype, zeros=2)
    options = {"iterations": 20_000, "tolerance": 1e-5}
    plain = sinkhorn(cost.clone().requires_grad_(), offsets, proportions, epsilon, **options)
    ahead = sinkhorn(cost, offsets, proportions, epsilon, **options)
    assert ahead.converged.equal(plain.converged) and ahead.iterations <= plain.iterations + 20
    if epsilon < 1 and dtype is torch.float64:
        assert ahead.iterations < plain.iterations / 2
    exact_plan = sinkhorn(cost.double(), offsets, proportions.double(), epsilon, iterations=100_000, tolerance=1e-12)
    assert exact_plan.converged.all()
    for bag in range(3):
        rows = slice(offsets[bag], offsets[bag + 1])
        if ahead.converged[bag]:
            assert (ahead.plan[rows] - exact_plan.plan[rows]).abs().max() < 0.02


def test_steps_that_extrapolation_led_astray_are_taken_back():
    """As if every extrapolation led far off, and loops ran as they are written: the plain steps go on."""
    script = """
import numpy, torch
from shared.transport import loops, sinkhorn
from tests.unit.test_transport_sinkhorn import draw
called = []
def astray(trace, noise, gram, u):
    called.append(1)
    u *= numpy.linspace(0.1, 10, len(u))
    return True
cost, offsets, proportions = draw([0, 16], 10)
options = {"iterations": 2_000, "tolerance": 1e-6}
plain = sinkhorn(cost.clone().requires_grad_(), offsets, proportions, 0.3, **options)
loops.extrapolated = astray
ours = sinkhorn(cost, offsets, proportions, 0.3, **options)
assert called and ours.converged.all() and ours.iterations < 2 * plain.iterations, (ours.iterations, plain.iterations)
assert (ours.plan - plain.plan).abs().max() < 1e-3
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_plan_is_pots():
    cost, offsets, proportions = draw(RAGGED, 5)
    ours = sinkhorn(cost, offsets, proportions, 0.5)
    assert ours.converged.all()
    for bag in range(4):
        rows = slice(offsets[bag], offsets[bag + 1])
        n = cost[rows].shape[0]
        for solve in (ot.bregman.sinkhorn_knopp, ot.bregman.sinkhorn_log):
            theirs = solve(
                np.ones(n),
                n * proportions[bag].numpy(),
                cost[rows].numpy(),
                0.5,
                stopThr=1e-12,
                numItermax=5000,
            )
            assert np.abs(ours.plan[rows].numpy() - theirs).max() < 1e-7


def test_potentials_make_the_plan_and_marginals_hold():
    cost, offsets, proportions = draw(RAGGED, 5, zeros=2)
    ours = sinkhorn(cost, offsets, proportions, 0.3)
    sizes = offsets.diff()
    bag = torch.arange(4).repeat_interleave(sizes)
    again = ((ours.instance_potential[:, None] + ours.class_potential[bag] - cost) / 0.3).exp()
    assert (again - ours.plan).abs().max() < 1e-12
    columns = torch.zeros(4, 5, dtype=torch.float64).index_add(0, bag, ours.plan)
    off = ((columns - sizes[:, None] * proportions).abs() / sizes[:, None]).amax(1)
    assert (off <= ours.violation + 1e-14).all()
    assert (ours.violation < 1e-9).all()
    value = torch.zeros(4, dtype=torch.float64).index_add(0, bag, (ours.plan * cost).sum(1))
    assert torch.allclose(ours.value, value, rtol=1e-12)


def test_the_regularised_value_is_the_dual_value():
    cost, offsets, proportions = draw([0, 6, 12], 4, zeros=1)
    ours = sinkhorn(cost, offsets, proportions, 0.5, regularised=True)
    support = proportions > 0
    dual = (6 * proportions * ours.class_potential.where(support, 0)).sum(1)
    dual = dual + ours.instance_potential.view(2, 6).sum(1) - 0.5 * 6
    assert torch.allclose(ours.value, dual, atol=1e-7)


def test_small_epsilon_gives_the_exact_labelling():
    cost, offsets, _ = draw([0, 8, 16], 3, seed=1)
    proportions = torch.tensor([[3, 3, 2], [0, 7, 1]], dtype=torch.float64) / 8
    best = exact(cost, offsets, proportions)
    ours = sinkhorn(cost, offsets, proportions, 0.01, iterations=200_000, tolerance=1e-6)
    assert ours.converged.all()
    assert (ours.plan - best.plan).abs().max() < 1e-4
    assert torch.allclose(ours.value, best.value, atol=1e-4)


def test_the_value_approaches_the_optimum_from_above_as_epsilon_falls():
    cost, offsets, proportions = draw(RAGGED, 4, seed=2)
    values = [sinkhorn(cost, offsets, proportions, e, iterations=5000).value for e in (1.0, 0.3, 0.1, 0.03)]
    for larger, smaller in zip(values, values[1:], strict=False):
        assert (smaller <= larger + 1e-9).all()
    assert (values[-1] >= exact(cost, offsets, proportions).value - 1e-6).all()


def test_large_epsilon_gives_the_product():
    cost, offsets, proportions = draw(RAGGED, 4, seed=3)
    ours = sinkhorn(cost, offsets, proportions, 1e6)
    assert torch.allclose(ours.plan, proportions.repeat_interleave(offsets.diff(), 0), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_absent_classes_get_exactly_nothing(dtype):
    cost, offsets, proportions = draw([0, 5, 10], 4, zeros=2, dtype=dtype)
    cost[:5, 0] = 0  # the absent class is the cheapest
    cost.requires_grad_()
    ours = sinkhorn(cost, offsets, proportions, 0.2)
    assert (ours.plan[:5, :2] == 0).all()
    assert (ours.class_potential[0, :2] == -torch.inf).all()
    (ours.value.sum() + ours.plan.square().sum()).backward()
    assert cost.grad.isfinite().all()
    assert (cost.grad[:5, :2] == 0).all()


def test_one_class_and_one_instance():
    one_class = sinkhorn(torch.arange(5.0)[:, None], torch.tensor([0, 2, 5]), torch.ones(2, 1), 0.1)
    assert torch.allclose(one_class.plan, torch.ones(5, 1))
    assert one_class.converged.all()
    proportions = torch.tensor([[0.2, 0.8, 0.0]])
    one_instance = sinkhorn(torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([0, 1]), proportions, 0.1)
    assert torch.allclose(one_instance.plan, proportions)


def test_bags_do_not_see_each_other():
    cost, offsets, proportions = draw(RAGGED, 4, zeros=1)
    together = sinkhorn(cost, offsets, proportions, 0.5, iterations=30, tolerance=0.0)
    for bag in range(4):
        rows = slice(offsets[bag], offsets[bag + 1])
        bounds = torch.tensor([0, rows.stop - rows.start])
        alone = sinkhorn(cost[rows], bounds, proportions[bag : bag + 1], 0.5, iterations=30, tolerance=0.0)
        assert torch.allclose(together.plan[rows], alone.plan, atol=1e-12)
        assert torch.allclose(together.class_potential[bag], alone.class_potential[0], atol=1e-12)
        assert torch.allclose(together.value[bag], alone.value[0], atol=1e-12)


def test_padding_and_reshaping_agree():
    cost, _, proportions = draw([0, 6, 12, 13], 4)
    even = sinkhorn(cost[:12], torch.tensor([0, 6, 12]), proportions[:2], 0.5, iterations=20, tolerance=0.0)
    padded = sinkhorn(cost, torch.tensor([0, 6, 12, 13]), proportions, 0.5, iterations=20, tolerance=0.0)
    assert torch.allclose(even.plan, padded.plan[:12], atol=1e-13)


def test_permuting_instances_and_classes_permutes_the_plan():
    cost, offsets, proportions = draw([0, 9], 5)
    instances, classes = torch.arange(9).roll(4).flip(0), torch.tensor([3, 0, 4, 1, 2])
    plan = sinkhorn(cost, offsets, proportions, 0.5).plan
    moved = sinkhorn(cost[instances][:, classes], offsets, proportions[:, classes], 0.5).plan
    assert torch.allclose(moved, plan[instances][:, classes], atol=1e-10)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_the_log_domain_takes_over_where_plain_numbers_fail(dtype, close):
    # Costs spread over 2000 epsilons: exp(-C / epsilon) underflows even in float64. After equal numbers of iterations
    # both solvers are at the same place, far from the end.
    cost, offsets, proportions = draw([0, 12, 24], 4, spread=10.0)
    for iterations in (1, 11, 60):
        ours = sinkhorn(cost.to(dtype), offsets, proportions.to(dtype), 0.02, iterations=iterations, tolerance=0.0)
        for bag in range(2):
            rows = slice(offsets[bag], offsets[bag + 1])
            theirs = ot.bregman.sinkhorn_log(
                np.ones(12),
                12 * proportions[bag].numpy(),
                cost[rows].numpy(),
                0.02,
                numItermax=iterations,
                stopThr=0,
                warn=False,
            )
            assert np.abs(ours.plan[rows].double().numpy() - theirs).max() < close


@pytest.mark.parametrize(("bags", "size", "classes"), [(2, 1024, 10), (2, 128, 100)])
def test_float32_at_full_size(bags, size, classes):
    bounds = [size * b for b in range(bags + 1)]
    cost, offsets, proportions = draw(bounds, classes, spread=3.0, dtype=torch.float32)
    ours = sinkhorn(cost, offsets, proportions, 0.5)
    assert ours.converged.all()
    assert (ours.violation < 1e-5).all()


def test_unfinished_bags_are_said_to_be_unfinished():
    cost, offsets, proportions = draw([0, 12, 24], 4, spread=10.0)
    proportions[1] = torch.tensor([0, 0, 0, 1.0])  # solved by the first iteration
    ours = sinkhorn(cost, offsets, proportions, 0.05, iterations=3)
    assert ours.converged.tolist() == [False, True]
    assert ours.violation[0] > 1e-3
    assert ours.iterations == 3


def test_iterations_stop_when_all_bags_have_converged():
    cost, offsets, proportions = draw(RAGGED, 3, spread=0.5)
    ours = sinkhorn(cost, offsets, proportions, 1.0)
    assert ours.converged.all()
    assert ours.iterations < 100


@pytest.mark.parametrize("bounds", [[0, 3, 6], [0, 1, 4]])
@pytest.mark.parametrize("regularised", [False, True])
def test_gradient_of_the_value(bounds, regularised):
    cost, offsets, proportions = draw(bounds, 3, zeros=1)

    def value(cost):
        return sinkhorn(cost, offsets, proportions, 0.7, iterations=60, tolerance=0.0, regularised=regularised).value

    assert torch.autograd.gradcheck(value, cost.requires_grad_())


def test_gradient_none_is_the_envelope():
    cost, offsets, proportions = draw(RAGGED, 3, zeros=1)
    cost.requires_grad_()
    unrolled = sinkhorn(cost, offsets, proportions, 0.7, tolerance=1e-13, regularised=True)
    (by_loop,) = torch.autograd.grad(unrolled.value.sum(), cost)
    constant = sinkhorn(cost, offsets, proportions, 0.7, tolerance=1e-13, gradient="none")
    (by_envelope,) = torch.autograd.grad(constant.value.sum(), cost)
    assert not constant.plan.requires_grad
    assert torch.equal(by_envelope, constant.plan)
    assert torch.allclose(by_loop, by_envelope, atol=1e-8)


def test_impossible_settings_are_refused():
    problem = draw([0, 3], 2)
    with pytest.raises(ValueError, match="epsilon > 0"):
        sinkhorn(*problem, 0.0)
    with pytest.raises(ValueError, match="iterations >= 1"):
        sinkhorn(*problem, 1.0, iterations=0)
    with pytest.raises(ValueError, match="gradient"):
        sinkhorn(*problem, 1.0, gradient="implicit")
