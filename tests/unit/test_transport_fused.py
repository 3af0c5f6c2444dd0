"""The kernels of the entropic solvers, in triton's interpreter: torch's code, a float64 oracle, and who serves."""

import subprocess
import sys

import pytest
import torch

from papers.rot.loss import rot_loss
from shared.transport import fused, sinkhorn, unbalanced_sinkhorn
from tests.interpreted import HERE, ROOT, interpreted, need_triton, quicken, run_again

RAGGED = [0, 3, 4, 9]  # a bag of one among them
ANSWERS = ("plan", "value", "instance_potential", "class_potential", "violation")

if HERE:
    quicken()


@pytest.mark.skipif(HERE, reason="this is the process that it starts")
def test_the_kernels_equal_torch_in_the_interpreter():
    run_again(__file__)


def draw(bounds, classes, spread=2.0, zeros=0, dtype=torch.float64):
    """Costs, offsets and proportions, the first `zeros` classes of bag 0 absent."""
    generator = torch.Generator().manual_seed(len(bounds))
    logits = spread * torch.randn(bounds[-1], classes, generator=generator, dtype=torch.float64)
    weights = torch.rand(len(bounds) - 1, classes, generator=generator, dtype=torch.float64) + 0.05
    weights[0, :zeros] = 0
    return -logits.log_softmax(1).to(dtype), torch.tensor(bounds), (weights / weights.sum(1, keepdim=True)).to(dtype)


@pytest.fixture
def served(monkeypatch):
    """A function of whether kernels serve, and of the entries of a block: tensors on the host are then theirs."""

    def serve(yes=True, block=None):
        monkeypatch.setattr(fused, "DEVICES", ("cpu",) if yes else ("cuda",))
        if block:
            monkeypatch.setattr(fused, "BLOCK", dict.fromkeys(fused.BLOCK, block))

    return serve


def weighed(answer):
    """A number that every part of an answer moves."""
    weight = torch.linspace(0, 1, answer.plan.numel(), dtype=answer.plan.dtype).view_as(answer.plan)
    potential = answer.class_potential.masked_fill(answer.class_potential.isinf(), 0)
    return (
        answer.value.sum() + (weight * answer.plan).sum() + weight[:, 0] @ answer.instance_potential + potential.sum()
    )


def both(served, solve, cost, proportions, block=None):
    """Answers and gradients of torch's code and of the kernels."""
    found = []
    for yes in (False, True):
        served(yes, block)
        leaves = cost.clone().requires_grad_(), proportions.clone().requires_grad_()
        answer = solve(*leaves)
        total = weighed(answer) if hasattr(answer, "plan") else answer
        slopes = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        found.append((answer, slopes))
    return found


@interpreted
@pytest.mark.parametrize("block", [None, 8])
@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0])
def test_interpreted_answers_and_unrolled_gradients_are_those_of_torch(served, tau, block):
    """Ragged bags, one of a single instance, absent classes; bags that fit a block and bags that do not."""
    cost, offsets, proportions = draw(RAGGED, 4, zeros=2)

    def solve(cost, proportions):
        settings = {"epsilon": 0.7, "tau": tau, "iterations": 5, "check": False}
        return unbalanced_sinkhorn(cost, offsets, proportions, **settings)

    (theirs, slopes), (ours, own) = both(served, solve, cost, proportions, block)
    for name in ANSWERS:
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-12, rtol=1e-12)
    assert torch.equal(ours.converged, theirs.converged) and ours.iterations == theirs.iterations
    assert (ours.plan[:3, :2] == 0).all() and (own[0][:3, :2] == 0).all()
    for mine, other in zip(own, slopes, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-10)


@interpreted
def test_interpreted_balanced_transport_is_that_of_torch(served):
    cost, offsets, proportions = draw(RAGGED, 3, zeros=1)

    def solve(cost, proportions):
        settings = {"iterations": 6, "tolerance": 0.0, "regularised": True, "check": False}
        return sinkhorn(cost, offsets, proportions, 0.8, **settings)

    (theirs, slopes), (ours, own) = both(served, solve, cost, proportions)
    for name in ANSWERS:
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-12, rtol=1e-12)
    for mine, other in zip(own, slopes, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-10)


@interpreted
def test_interpreted_unrolled_gradient_passes_gradcheck(served):
    cost, offsets, proportions = draw([0, 1, 3], 2)
    served(block=2)

    def functions(cost, proportions):
        settings = {"epsilon": 0.7, "tau": 0.5, "iterations": 3, "check": False}
        answer = unbalanced_sinkhorn(cost, offsets, proportions, **settings)
        return answer.plan, answer.value, answer.instance_potential

    assert torch.autograd.gradcheck(functions, (cost.requires_grad_(), proportions.requires_grad_()), fast_mode=True)


@interpreted
def test_interpreted_each_bag_stops_by_itself_and_says_so(served):
    """A bag that is done does not iterate for its slow neighbour; both are within tolerance of the end."""
    cost, offsets, proportions = draw([0, 4, 8], 3, spread=1.0)
    cost[:4], proportions[0] = 1.0, 1 / 3
    served(False)
    end = sinkhorn(cost, offsets, proportions, 0.3, iterations=2000, gradient="none")
    served()
    ours = sinkhorn(cost, offsets, proportions, 0.3, tolerance=1e-6, gradient="none")
    assert ours.converged.all() and 11 < int(ours.iterations) < 1000
    torch.testing.assert_close(ours.plan, end.plan, atol=1e-4, rtol=0)
    cut = sinkhorn(cost, offsets, proportions, 0.3, iterations=4, tolerance=1e-9, gradient="none")
    assert cut.converged.tolist() == [True, False] and int(cut.iterations) == 4


@interpreted
def test_interpreted_the_value_alone_has_a_gradient_without_unrolling_and_it_is_the_plan(served):
    cost, offsets, proportions = draw(RAGGED, 3, zeros=1)
    served()
    cost.requires_grad_()
    ours = unbalanced_sinkhorn(cost, offsets, proportions, epsilon=0.9, tau=0.4, gradient="none", iterations=4)
    assert ours.value.requires_grad and not any(
        getattr(ours, name).requires_grad for name in ANSWERS if name != "value"
    )
    assert torch.equal(torch.autograd.grad(ours.value.sum(), cost)[0], ours.plan)
    with pytest.raises(ValueError, match="detach"):
        unbalanced_sinkhorn(cost, offsets, proportions.requires_grad_(), epsilon=0.9, tau=0.4, gradient="none")
    with torch.no_grad():
        assert not unbalanced_sinkhorn(
            cost, offsets, proportions, epsilon=0.9, tau=0.4, iterations=2
        ).plan.requires_grad


@interpreted
@pytest.mark.parametrize(("bounds", "classes", "iterations"), [([0, 1024], 10, 3), ([0, 5, 70], 100, 3)])
def test_interpreted_large_bags_and_a_hundred_classes_in_float32(served, bounds, classes, iterations):
    """Values and gradients of bags by blocks, against torch in float64."""
    cost, offsets, proportions = draw(bounds, classes, spread=3.0, zeros=3)

    def solve(cost, proportions):
        settings = {"epsilon": 1.0, "tau": 0.5, "iterations": iterations, "check": False}
        return unbalanced_sinkhorn(cost, offsets, proportions.to(cost), **settings)

    served(False)
    leaf = cost.clone().requires_grad_()
    exact = solve(leaf, proportions)
    (slope,) = torch.autograd.grad(weighed(exact), leaf)
    served()
    short = cost.float().requires_grad_()
    ours = solve(short, proportions)
    (own,) = torch.autograd.grad(weighed(ours), short)
    torch.testing.assert_close(ours.plan.double(), exact.plan, atol=2e-6, rtol=0)
    torch.testing.assert_close(ours.value.double(), exact.value, atol=0, rtol=1e-6)
    torch.testing.assert_close(own.double(), slope, atol=2e-5, rtol=1e-4)
    assert (ours.violation < 1e-6).all()


@interpreted
@pytest.mark.parametrize("spread", [3.0, 200.0])
def test_interpreted_75_iterations_in_float32_keep_the_digits_of_a_float64_oracle(served, spread):
    cost, offsets, proportions = draw([0, 6], 4, spread=spread, zeros=1, dtype=torch.float32)
    served()
    ours = unbalanced_sinkhorn(cost.requires_grad_(), offsets, proportions, epsilon=1.0, tau=0.9)
    log_kernel = -cost.detach().double().masked_fill(proportions == 0, torch.inf)
    log_b = torch.zeros(6, 1, dtype=torch.float64)
    for _ in range(75):
        log_a = 0.9 * ((6 * proportions.double()).log() - (log_kernel + log_b).logsumexp(0))
        log_a = log_a.masked_fill(proportions[0] == 0, -torch.inf)
        log_b = -(log_kernel + log_a).logsumexp(1, keepdim=True)
    torch.testing.assert_close(
        ours.plan.detach().double(), (log_kernel + log_a + log_b).exp(), atol=1e-5 * spread, rtol=0
    )
    (slope,) = torch.autograd.grad(ours.value.sum(), cost)
    assert slope.isfinite().all()


@interpreted
@pytest.mark.parametrize("gradient", ["unrolled", "envelope"])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_interpreted_relax_ot_is_that_of_torch_and_so_is_its_gradient(served, alpha, gradient):
    cost, offsets, proportions = draw(RAGGED, 3, zeros=1)

    def loss(cost, proportions):
        z = proportions if gradient == "unrolled" else proportions.detach()
        return rot_loss(-cost, offsets, z, alpha=alpha, iterations=6, gradient=gradient)

    (theirs, slopes), (ours, own) = both(served, loss, cost, proportions)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(own[0], slopes[0], atol=1e-12, rtol=1e-9)


def test_only_a_gpu_is_served_and_only_what_fits():
    """Tensors on the host, or on a device that triton does not know, go to torch; so do halves and vast problems."""
    assert not fused.serves(torch.zeros(4, 3))
    assert not fused.serves(torch.zeros(4, 3, device="meta"))


@interpreted
def test_interpreted_what_does_not_fit_is_not_served(served):
    served()
    assert fused.serves(torch.zeros(4, 3))
    assert not fused.serves(torch.zeros(4, 3, dtype=torch.float16))
    assert not fused.serves(torch.zeros(1, fused.MOST_CLASSES + 1))
    assert not fused.serves(torch.zeros(4, 3), kept=fused.MOST_KEPT)


def test_importing_transport_and_losses_imports_no_triton():
    code = "import sys, shared.transport, papers.rot.loss, papers.mle_llp.loss; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.skipif(HERE, reason="the interpreter runs anywhere")
def test_where_triton_fails_it_is_said_once_and_torch_serves(monkeypatch):
    """As without a compiler on the machine, or with a card that is too old."""
    need_triton()
    if torch.cuda.is_available():
        pytest.skip("triton works here")
    fused.works.cache_clear()
    monkeypatch.setattr(fused, "DEVICES", ("cpu",))
    cost, offsets, proportions = draw(RAGGED, 3)
    with pytest.warns(UserWarning, match="triton fails on cpu, so losses use torch") as warned:
        for _ in range(2):
            assert not fused.serves(cost)
            unbalanced_sinkhorn(cost, offsets, proportions, epsilon=1.0, tau=0.5, iterations=2)
    assert len(warned) == 1
    fused.works.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bounds", [[0, 7, 8, 20, 24], [0, 1024], [0, 64, 128, 1000]])
def test_the_gpu_agrees_with_the_cpu(dtype, bounds):
    cost, offsets, proportions = draw(bounds, 10, zeros=3, dtype=dtype)
    assert fused.serves(cost.cuda())
    found = []
    for device in ("cpu", "cuda"):
        leaf = cost.to(device, copy=True).requires_grad_()
        answer = unbalanced_sinkhorn(leaf, offsets, proportions.to(device), epsilon=0.7, tau=0.6)
        (slope,) = torch.autograd.grad(weighed(answer), leaf)
        found.append([*(getattr(answer, name).detach().cpu() for name in ANSWERS), slope.cpu()])
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, atol=tolerance, rtol=tolerance)
