"""The kernel of the binary E-step, in triton's interpreter: torch's code, the lattice in float64, and extremes."""

import pytest
import torch

from papers.mle_llp import fused as own
from papers.mle_llp import poisson_binomial
from papers.mle_llp.lattice import lattice_posterior
from papers.mle_llp.loss import count_loss, posterior
from shared.bags import BagError
from shared.transport import fused
from tests.interpreted import HERE, interpreted, quicken, run_again

if HERE:
    quicken()


@pytest.mark.skipif(HERE, reason="this is the process that it starts")
def test_the_kernel_equals_torch_in_the_interpreter():
    run_again(__file__)


@pytest.fixture
def served(monkeypatch):
    """From here on tensors on the host are the kernel's, unless it is told that they are not."""

    def serve(yes=True):
        monkeypatch.setattr(fused, "DEVICES", ("cpu",) if yes else ("cuda",))

    serve()
    return serve


def draw(sizes, scale=2.0, seed=0):
    """Log-probabilities, offsets, and the counts of labels drawn uniformly."""
    rng = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()])
    log_p = (scale * torch.randn(sum(sizes), 2, generator=rng, dtype=torch.float64)).log_softmax(1)
    positives = torch.tensor([int(torch.randint(n + 1, (1,), generator=rng)) for n in sizes])
    return log_p, offsets, torch.stack([offsets.diff() - positives, positives], 1)


@interpreted
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_interpreted_posteriors_are_those_of_the_lattice_in_both_dtypes(served, scale):
    """Ragged bags of one instance and of many, and of counts from none to all."""
    log_p, offsets, counts = draw([1, 2, 16, 1, 6, 6], scale)
    counts[4], counts[5] = torch.tensor([6, 0]), torch.tensor([0, 6])
    exact, likelihood = lattice_posterior(log_p, offsets, counts)
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 2e-5)):
        phi, log_likelihood = posterior(log_p.to(dtype), offsets, counts)
        assert phi.dtype == log_likelihood.dtype == dtype
        torch.testing.assert_close(phi.double(), exact, atol=tolerance, rtol=0)
        torch.testing.assert_close(log_likelihood.double(), likelihood, atol=1e-5, rtol=tolerance)


@interpreted
def test_interpreted_bags_that_do_not_fit_the_table_together_are_done_in_turns(served, monkeypatch):
    log_p, offsets, counts = draw([8, 3, 1, 7], seed=3)
    together = posterior(log_p, offsets, counts)
    monkeypatch.setattr(poisson_binomial, "TABLE", {"cpu": 30, "cuda": 30})
    for part, other in zip(posterior(log_p, offsets, counts), together, strict=True):
        assert torch.equal(part, other)


@interpreted
@pytest.mark.parametrize(("far", "dtype"), [(1e4, torch.float32), (1e37, torch.float64)])
def test_interpreted_outliers_leave_every_count_possible(served, far, dtype):
    """Such as those of a mask that writes the least float instead of -inf; here a shift is hard to find."""
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)
    x[:2], x[2:5] = far, -far
    log_p = torch.stack([torch.zeros_like(x), x], 1).log_softmax(1).to(dtype).repeat(9, 1)
    y, offsets = torch.arange(9), torch.arange(10) * 8
    phi = posterior(log_p, offsets, torch.stack([8 - y, y], 1))[0][:, 1].view(9, 8)
    torch.testing.assert_close(phi.sum(1), y.to(dtype), atol=1e-4, rtol=0)
    free = phi[(y >= 2) & (y <= 5)]
    assert (free[:, :2] > 1 - 1e-6).all() and (free[:, 2:5] < 1e-6).all()


@interpreted
def test_interpreted_sure_instances_are_exact_and_impossible_bags_are_refused(served):
    p = torch.tensor([0.3, 0.9, 1.0, 0.5, 1.0, 1e-6], dtype=torch.float64)
    log_p, offsets = torch.stack([1 - p, p], 1).log(), torch.tensor([0, 6])
    phi, _ = posterior(log_p, offsets, torch.tensor([[4, 2]]))
    assert phi[:, 1].tolist() == [0, 0, 1, 0, 1, 0]
    with pytest.raises(BagError, match="bag 0: 1 positives of 6 have probability 0"):
        posterior(log_p, offsets, torch.tensor([[5, 1]]))
    log_p[3, 0] = torch.nan
    with pytest.raises(BagError, match="bag 0: 3 positives of 6 have NaN"):
        posterior(log_p, offsets, torch.tensor([[3, 3]]))


@interpreted
def test_interpreted_likelihood_and_its_gradient_are_those_of_torch(served):
    log_p, offsets, counts = draw([1, 4, 9], seed=5)
    found = []
    for yes in (False, True):
        served(yes)
        leaf = log_p.clone().requires_grad_()
        loss = count_loss(leaf, offsets, counts / offsets.diff()[:, None])
        found.append((loss.detach(), *torch.autograd.grad(loss, leaf)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@interpreted
def test_interpreted_no_bags_and_counts_beyond_the_registers_go_to_torch(served):
    none = torch.zeros(0, 2)
    assert not own.takes_on(none, torch.zeros(0, dtype=torch.int64))
    assert posterior(none, torch.tensor([0]), torch.zeros(0, 2, dtype=torch.int64))[0].shape == (0, 2)
    assert own.takes_on(torch.zeros(4, 2), torch.tensor([own.MOST_STATES - 1]))
    assert not own.takes_on(torch.zeros(4, 2), torch.tensor([own.MOST_STATES]))


def test_tensors_on_the_host_are_not_the_kernels():
    assert not own.takes_on(torch.zeros(4, 2), torch.tensor([1]))
