"""Algorithm 1: Proposition 1, the optimum of Equation 6, POT, limits in tau, gradients and the fast iteration."""

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import minimize

from shared.transport import sinkhorn, unbalanced_sinkhorn
from shared.transport import unbalanced as module
from shared.transport.ragged import lay_out

RAGGED = [0, 7, 8, 20, 24]


def draw(bounds, classes, seed=0, spread=2.0, zeros=0, dtype=torch.float64):
    """Costs -log softmax of normal logits and random proportions, the first `zeros` classes of bag 0 absent."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(bounds[-1], classes, generator=generator, dtype=torch.float64)
    weights = torch.rand(len(bounds) - 1, classes, generator=generator, dtype=torch.float64) + 0.05
    weights[0, :zeros] = 0
    proportions = weights / weights.sum(1, keepdim=True)
    return -logits.log_softmax(1).to(dtype), torch.tensor(bounds), proportions.to(dtype)


def algorithm_1(cost, offsets, proportions, epsilon, tau, iterations):
    """The paper's lines on one bag after the other, in float64 logarithms; plan, log a, log b."""
    plans, log_as, log_bs = [], [], []
    for rows, z in zip(cost.double().split(offsets.diff().tolist()), proportions.double(), strict=True):
        log_kernel, log_b = -rows / epsilon, torch.zeros(len(rows), dtype=torch.float64)
        log_kernel = log_kernel.masked_fill(z == 0, -torch.inf)
        for _ in range(iterations):
            log_a = tau * ((len(rows) * z).log() - (log_kernel + log_b[:, None]).logsumexp(0))
            log_a = log_a.masked_fill(z == 0, -torch.inf)
            log_b = -(log_kernel + log_a).logsumexp(1)
        plans.append((log_kernel + log_a + log_b[:, None]).exp())
        log_as.append(log_a)
        log_bs.append(log_b)
    return torch.cat(plans), torch.stack(log_as), torch.cat(log_bs)


@pytest.mark.parametrize("bounds", [RAGGED, [0, 6, 12], [0, 1, 2, 3], [0, 40]])
@pytest.mark.parametrize("tau", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("iterations", [1, 2, 75])
def test_it_is_algorithm_1(bounds, tau, iterations):
    cost, offsets, proportions = draw(bounds, 5, zeros=2)
    plan, log_a, log_b = algorithm_1(cost, offsets, proportions, 0.7, tau, iterations)
    for gradient in ("none", "unrolled"):
        ours = unbalanced_sinkhorn(
            cost, offsets, proportions, epsilon=0.7, tau=tau, iterations=iterations, gradient=gradient
        )
        assert torch.allclose(ours.plan, plan, atol=1e-12)
        assert torch.allclose(ours.class_potential, 0.7 * log_a, atol=1e-11)
        assert torch.allclose(ours.instance_potential, 0.7 * log_b, atol=1e-11)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_fixed_point_of_proposition_1(alpha):
    cost, offsets, proportions = draw([0, 9], 4)
    epsilon = 0.8
    tau = 1 / (1 + alpha * epsilon / (1 - alpha))
    ours = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=epsilon, tau=tau, iterations=2000)
    assert ours.converged.all()
    kernel = (-cost / epsilon).exp()
    a, b = (ours.class_potential[0] / epsilon).exp(), (ours.instance_potential / epsilon).exp()
    assert torch.allclose(a, (9 * proportions[0] / (kernel.T @ b)) ** tau, rtol=1e-8)
    assert torch.allclose(b, 1 / (kernel @ a), rtol=1e-12)
    assert torch.allclose(ours.plan, b[:, None] * kernel * a, rtol=1e-10)


def equation_6(plan, cost, proportions, epsilon, alpha):
    """Equation 6 on one bag; all arrays are numpy's."""
    n, mean = len(plan), plan.mean(0)
    entropy = -(plan * (np.log(plan) - 1)).sum()
    divergence = (mean * np.log(mean / proportions) - mean + proportions).sum()
    return alpha / n * ((cost * plan).sum() - epsilon * entropy) + (1 - alpha) * divergence


@pytest.mark.parametrize(("alpha", "epsilon"), [(0.3, 1.0), (0.7, 0.5)])
def test_optimum_of_equation_6(alpha, epsilon):
    cost, offsets, proportions = draw([0, 5], 3)
    tau = 1 / (1 + alpha * epsilon / (1 - alpha))
    ours = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=epsilon, tau=tau, iterations=500)
    cost, z, plan = cost.numpy(), proportions[0].numpy(), ours.plan.numpy()
    reached = equation_6(plan, cost, z, epsilon, alpha)

    def by_logits(logits):
        free = np.exp(logits.reshape(5, 3))
        return equation_6(free / free.sum(1, keepdims=True), cost, z, epsilon, alpha)

    found = minimize(by_logits, np.zeros(15), method="BFGS", options={"gtol": 1e-9})
    assert reached == pytest.approx(found.fun, abs=1e-9)
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-1):
        for _ in range(20):
            moved = plan * np.exp(size * rng.standard_normal(plan.shape))
            assert equation_6(moved / moved.sum(1, keepdims=True), cost, z, epsilon, alpha) > reached


def test_the_plan_is_pots():
    # POT regularises by KL to 1 (c = 1); the row penalty is infinite, the column penalty rho.
    cost, offsets, proportions = draw(RAGGED, 5)
    epsilon, tau = 0.6, 0.4
    ours = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=epsilon, tau=tau)
    for bag in range(4):
        rows = slice(offsets[bag], offsets[bag + 1])
        n = cost[rows].shape[0]
        theirs = ot.unbalanced.sinkhorn_knopp_unbalanced(
            np.ones(n),
            n * proportions[bag].numpy(),
            cost[rows].numpy(),
            epsilon,
            (float("inf"), epsilon * tau / (1 - tau)),
            c=np.ones((n, 5)),
            stopThr=1e-14,
            numItermax=2000,
        )
        assert np.abs(ours.plan[rows].numpy() - theirs).max() < 1e-9


def test_limits_in_tau():
    cost, offsets, proportions = draw(RAGGED, 4)
    balanced = sinkhorn(cost, offsets, proportions, 0.8, iterations=3000)
    hard = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=0.8, tau=1.0, iterations=3000)
    nearly = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=0.8, tau=1 - 1e-5, iterations=3000)
    assert torch.allclose(hard.plan, balanced.plan, atol=1e-9)
    assert torch.allclose(nearly.plan, balanced.plan, atol=1e-3)
    free = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=0.8, tau=0.0)
    slack = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=0.8, tau=1e-5)
    assert torch.allclose(free.plan, (-cost / 0.8).softmax(1), atol=1e-14)
    assert torch.allclose(slack.plan, free.plan, atol=1e-3)
    assert free.converged.all()


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("bounds", [[0, 3, 6], [0, 2, 6], [0, 1, 2]])
def test_absent_classes_get_exactly_nothing(bounds, tau):
    cost, offsets, proportions = draw(bounds, 4, zeros=2, dtype=torch.float32)
    cost[: bounds[1], 0] = 0
    cost.requires_grad_()
    proportions.requires_grad_()
    ours = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=0.3, tau=tau)
    assert (ours.plan[: bounds[1], :2] == 0).all()
    assert (ours.class_potential[0, :2] == -torch.inf).all()
    (ours.value.sum() + ours.plan.square().sum() + ours.instance_potential.sum()).backward()
    assert cost.grad.isfinite().all()
    assert proportions.grad is None or proportions.grad.isfinite().all()
    assert (cost.grad[: bounds[1], :2] == 0).all()


def test_one_class():
    ours = unbalanced_sinkhorn(
        torch.arange(5.0)[:, None], torch.tensor([0, 2, 5]), torch.ones(2, 1), epsilon=1.0, tau=0.5
    )
    assert torch.allclose(ours.plan, torch.ones(5, 1))
    assert ours.converged.all()


@pytest.mark.parametrize("tau", [0.2, 0.5, 0.95, 1.0])
@pytest.mark.parametrize(("bags", "size", "classes"), [(8, 64, 10), (512, 1, 10), (1, 1024, 10), (2, 128, 100)])
def test_the_fast_iteration_equals_the_log_domain_in_float32(bags, size, classes, tau):
    bounds = [size * b for b in range(bags + 1)]
    cost, offsets, proportions = draw(bounds, classes, spread=3.0, zeros=3, dtype=torch.float32)
    plan, _, _ = algorithm_1(cost, offsets, proportions, 1.0, tau, 75)
    ours = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=1.0, tau=tau, gradient="none")
    assert ours.plan.dtype == torch.float32
    assert (ours.plan - plan).abs().max() < 1e-5
    assert (ours.violation < 1e-6).all()


@pytest.mark.parametrize("tau", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("spread", [20.0, 60.0, 200.0])
def test_confident_networks_do_not_break_float32(spread, tau):
    cost, offsets, proportions = draw(RAGGED, 6, spread=spread, zeros=1, dtype=torch.float32)
    plan, _, _ = algorithm_1(cost, offsets, proportions, 1.0, tau, 75)
    for gradient in ("none", "unrolled"):
        given = cost.clone().requires_grad_()
        ours = unbalanced_sinkhorn(given, offsets, proportions, epsilon=1.0, tau=tau, gradient=gradient)
        # The plan depends on differences of costs over epsilon: rounding at 16 * spread cannot be undone.
        assert (ours.plan - plan).abs().max() < 1e-5 * spread
        (slope,) = torch.autograd.grad(ours.value.sum(), given)
        assert slope.isfinite().all()


def test_steps_that_leave_the_safe_range_are_done_again_in_the_log_domain(monkeypatch):
    from shared.transport import scaling

    cost, offsets, proportions = draw(RAGGED, 5, zeros=2)
    settings = {"epsilon": 0.7, "tau": 0.6, "iterations": 20}
    fast = unbalanced_sinkhorn(cost, offsets, proportions, **settings)
    monkeypatch.setattr(scaling, "SAFE", -1.0)
    slow = unbalanced_sinkhorn(cost, offsets, proportions, **settings)
    assert torch.allclose(fast.plan, slow.plan, atol=1e-13)
    assert torch.allclose(fast.class_potential, slow.class_potential, atol=1e-12)
    assert torch.allclose(fast.instance_potential, slow.instance_potential, atol=1e-12)


def test_bags_do_not_see_each_other():
    cost, offsets, proportions = draw(RAGGED, 4, zeros=1)
    together = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=1.0, tau=0.5)
    for bag in range(4):
        rows = slice(offsets[bag], offsets[bag + 1])
        bounds = torch.tensor([0, rows.stop - rows.start])
        alone = unbalanced_sinkhorn(cost[rows], bounds, proportions[bag : bag + 1], epsilon=1.0, tau=0.5)
        assert torch.allclose(together.plan[rows], alone.plan, atol=1e-13)
        assert torch.allclose(together.instance_potential[rows], alone.instance_potential, atol=1e-12)
        assert torch.allclose(together.value[bag], alone.value[0], atol=1e-12)


def test_permuting_instances_and_classes_permutes_the_plan():
    cost, offsets, proportions = draw([0, 9], 5)
    instances, classes = torch.arange(9).roll(4).flip(0), torch.tensor([3, 0, 4, 1, 2])
    plan = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=1.0, tau=0.5).plan
    moved = unbalanced_sinkhorn(cost[instances][:, classes], offsets, proportions[:, classes], epsilon=1.0, tau=0.5)
    assert torch.allclose(moved.plan, plan[instances][:, classes], atol=1e-13)


def test_a_tolerance_stops_early_at_the_same_plan():
    cost, offsets, proportions = draw(RAGGED, 4)
    full = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=1.0, tau=0.5, iterations=200)
    early = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=1.0, tau=0.5, iterations=200, tolerance=1e-10)
    assert full.iterations == 200
    assert early.iterations < 60
    assert early.converged.all()
    assert torch.allclose(early.plan, full.plan, atol=1e-9)


def test_unfinished_bags_are_said_to_be_unfinished():
    cost, offsets, proportions = draw([0, 12, 24], 4, spread=5.0)
    cost[12:] = 1.0
    proportions[1] = 0.25
    ours = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=0.1, tau=1.0, iterations=4)
    assert ours.converged.tolist() == [False, True]
    single = unbalanced_sinkhorn(cost[:2], torch.tensor([0, 1, 2]), proportions, epsilon=0.1, tau=0.9, iterations=2)
    assert not single.converged.any()


@pytest.mark.parametrize("bounds", [[0, 3, 6], [0, 1, 4], [0, 1, 2]])
@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_unrolled_gradient(bounds, tau):
    cost, offsets, proportions = draw(bounds, 3, zeros=1)
    share = torch.linspace(0, 1, cost.numel(), dtype=torch.float64).view_as(cost)

    def functions(cost):
        ours = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=0.7, tau=tau, iterations=7)
        return ours.value, (ours.plan * share).sum(), ours.instance_potential

    assert torch.autograd.gradcheck(functions, cost.requires_grad_())


def test_unrolled_gradient_with_respect_to_the_proportions():
    cost, offsets, proportions = draw([0, 3, 7], 3)

    def plan(proportions):
        ours = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=0.7, tau=0.5, iterations=7, check=False)
        return ours.plan

    assert torch.autograd.gradcheck(plan, proportions.requires_grad_())


def test_unrolled_gradient_in_the_log_domain(monkeypatch):
    from shared.transport import scaling

    monkeypatch.setattr(scaling, "SAFE", -1.0)
    cost, offsets, proportions = draw([0, 1, 4], 3, zeros=1)

    def value(cost):
        return unbalanced_sinkhorn(cost, offsets, proportions, epsilon=0.7, tau=0.4, iterations=5).value

    assert torch.autograd.gradcheck(value, cost.requires_grad_())


def test_gradient_none_is_the_envelope():
    cost, offsets, proportions = draw([0, 5], 3)
    alpha, epsilon = 0.4, 0.9
    tau = 1 / (1 + alpha * epsilon / (1 - alpha))
    cost.requires_grad_()
    settings = {"epsilon": epsilon, "tau": tau, "iterations": 300}
    plan = unbalanced_sinkhorn(cost, offsets, proportions, **settings).plan
    mean = plan.mean(0)
    loss = alpha / 5 * ((cost * plan).sum() + epsilon * (plan * (plan.log() - 1)).sum())
    loss = loss + (1 - alpha) * (mean * (mean / proportions[0]).log() - mean + proportions[0]).sum()
    (by_loop,) = torch.autograd.grad(loss, cost)
    constant = unbalanced_sinkhorn(cost, offsets, proportions, **settings, gradient="none")
    assert not constant.plan.requires_grad
    (slope,) = torch.autograd.grad(constant.value.sum(), cost)
    assert torch.equal(slope, constant.plan)
    assert torch.allclose(by_loop, alpha / 5 * slope, atol=1e-10)


def test_impossible_settings_are_refused():
    problem = draw([0, 3], 2)
    for wrong in ({"epsilon": 0.0}, {"tau": 1.1}, {"tau": -0.1}, {"iterations": 0}):
        with pytest.raises(ValueError, match="need epsilon > 0, 0 <= tau <= 1 and iterations >= 1"):
            unbalanced_sinkhorn(*problem, **{"epsilon": 1.0, "tau": 0.5} | wrong)


@pytest.mark.parametrize("iterations", [9, 60])
def test_single_instances_in_closed_form_equal_the_iteration(monkeypatch, iterations):
    cost, offsets, proportions = draw([0, 1, 2, 3], 4, zeros=2)
    settings = {"epsilon": 0.7, "tau": 0.6, "iterations": iterations}
    closed = unbalanced_sinkhorn(cost, offsets, proportions, **settings)

    def pretend(offsets, device):
        layout = lay_out(offsets, device)
        return type(layout)(layout.sizes, 2, torch.arange(3) * 2)

    monkeypatch.setattr(module, "lay_out", pretend)
    looped = unbalanced_sinkhorn(cost, offsets, proportions, **settings)
    for name in ("plan", "value", "instance_potential", "class_potential"):
        assert torch.allclose(getattr(closed, name), getattr(looped, name), atol=1e-13)
    assert torch.equal(closed.converged, looped.converged)
    assert closed.converged.all() == (iterations == 60)


def test_ordinary_problems_stay_out_of_the_slow_log_domain(monkeypatch):
    from shared.transport import scaling

    lengths, log_steps = [], scaling._log_steps
    monkeypatch.setattr(scaling, "_log_steps", lambda *a: lengths.append(a[3]) or log_steps(*a))
    cost, offsets, proportions = draw(RAGGED, 6, spread=3.0, zeros=3, dtype=torch.float32)
    unbalanced_sinkhorn(cost, offsets, proportions, epsilon=1.0, tau=0.5)
    assert lengths == [1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bounds", [RAGGED, [0, 64, 128], [0, 1, 2, 3]])
@pytest.mark.parametrize("solve", [unbalanced_sinkhorn, sinkhorn])
def test_the_gpu_agrees_with_the_cpu(bounds, solve):
    settings = {"epsilon": 0.7, "tau": 0.5} if solve is unbalanced_sinkhorn else {"epsilon": 0.7}
    slopes, plans = [], []
    for device in ("cpu", "cuda"):
        cost, offsets, proportions = (tensor.to(device) for tensor in draw(bounds, 10, zeros=2))
        cost.requires_grad_()
        ours = solve(cost, offsets, proportions, **settings)
        plans.append(ours.plan.detach().cpu())
        slopes.append(torch.autograd.grad(ours.value.sum(), cost)[0].cpu())
    assert torch.allclose(*plans, atol=1e-10)
    assert torch.allclose(*slopes, atol=1e-9)
