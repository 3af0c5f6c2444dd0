"""The E-step of Barucic & Kybic 2022 in float32 and at extremes, its symmetries, its shapes, and the loss it makes."""

import itertools

import pytest
import torch
from torch.nn.functional import one_hot

from papers.mle_llp.lattice import lattice_posterior
from papers.mle_llp.loss import count_loss, posterior

SOLVERS = pytest.mark.parametrize("solve", [lattice_posterior, posterior])
CLASSES = pytest.mark.parametrize("n_classes", [2, 3])
RAGGED = (200, 1, 2, 40, 3, 199, 1, 17, 100, 64, 65)


def offsets_of(sizes):
    return torch.tensor([0, *itertools.accumulate(sizes)])


def logits_of(total, n_classes, scale=2.0, seed=0):
    return scale * torch.randn(total, n_classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def draw(sizes, n_classes, scale=2.0, seed=0):
    """Bags with the counts of labels drawn uniformly, whatever their probabilities; of small bags for many classes."""
    log_p, offsets = logits_of(sum(sizes), n_classes, scale, seed).log_softmax(1), offsets_of(sizes)
    labels = torch.randint(n_classes, (sum(sizes),), generator=torch.Generator().manual_seed(seed + 1))
    counts = torch.zeros(len(sizes), n_classes, dtype=torch.int64)
    counts.index_add_(0, torch.arange(len(sizes)).repeat_interleave(offsets.diff()), one_hot(labels, n_classes))
    return log_p, offsets, counts


def same(ours, other, tolerance=1e-9):
    for a, b in zip(ours, other, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def check_float32(solve, log_p, offsets, counts):
    """float32 against the lattice in float64 on the very same numbers."""
    log_p = log_p.float()
    phi, log_likelihood = solve(log_p, offsets, counts)
    exact, likelihood = lattice_posterior(log_p.double(), offsets, counts)
    assert phi.dtype == log_likelihood.dtype == torch.float32
    assert phi.isfinite().all() and log_likelihood.isfinite().all()
    assert phi.min() >= 0 and phi.max() <= 1
    torch.testing.assert_close(phi.double(), exact, atol=2e-4, rtol=0)
    sums = torch.stack([bag.double().sum(0) for bag in phi.tensor_split(offsets[1:-1])])
    torch.testing.assert_close(sums, counts.double(), atol=0, rtol=1e-3)
    torch.testing.assert_close(log_likelihood.double(), likelihood, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("solve", "n"), [(lattice_posterior, 2), (lattice_posterior, 129), *((posterior, n) for n in (1, 2, 33, 256, 1024))]
)
def test_float32_keeps_its_digits(solve, n):
    """At every scale and shift of the logits, for counts that are tiny, huge, half, and the expected one."""
    bags, counts = [], []
    for scale, shift in itertools.product((1.0, 10.0, 100.0), (0.0, 50.0, -50.0)):
        bag = torch.nn.functional.pad(logits_of(n, 1, scale, seed=n) + shift, (1, 0)).log_softmax(1)
        expected = round(float(bag[:, 1].exp().sum()))
        for y in sorted({0, 1, min(2, n), n // 2, n - 1, n, expected}):
            bags.append(bag)
            counts.append([n - y, y])
    check_float32(solve, torch.cat(bags), torch.arange(len(bags) + 1) * n, torch.tensor(counts))


@pytest.mark.parametrize("scale", [1.0, 30.0, 100.0])
def test_float32_keeps_its_digits_with_more_classes(scale):
    for n, n_classes in ((1, 5), (40, 3), (120, 3), (16, 5)):
        log_p, offsets, counts = draw([n, n], n_classes, scale, seed=n)
        check_float32(lattice_posterior, log_p, offsets, counts)


@pytest.mark.parametrize("seed", range(3))
def test_float32_keeps_its_digits_in_hostile_bags(seed):
    """Two clusters far apart, ties, near-certain instances on the wrong side of the count, outliers, denormals."""
    rng, n = torch.Generator().manual_seed(seed), 300
    noise = torch.randn(n, generator=rng)
    some = torch.rand(n, generator=rng)
    bags = [
        torch.where(some < 0.5, 80.0, -80.0) + noise,
        torch.where(some < 0.01, 1e4, -1e4) + noise,
        torch.zeros(n),
        torch.full((n,), 40.0),
        torch.where(some < 0.1, 103.0, 0.0),
        torch.where(some < 0.9, -95.0, 95.0),
        noise.cumsum(0),
        torch.linspace(-1000, 1000, n),
        1e-6 * noise,
    ]
    logits = torch.nn.functional.pad(torch.cat(bags).double()[:, None], (1, 0))
    for y in (0, 1, 2, 7, 29, 30, 31, n // 2 - 1, n // 2, n // 2 + 1, n - 2, n - 1, n):
        counts = torch.tensor([[n - y, y]] * len(bags))
        check_float32(posterior, logits.log_softmax(1), torch.arange(len(bags) + 1) * n, counts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [1e4, 1e6, 1e10, 1e18, 1e30, 1e37])
def test_finite_outliers_leave_every_count_possible(dtype, far):
    """Such as those of a mask that writes the least float instead of -inf; nothing here has probability 0."""
    x = logits_of(20, 1)
    for plus, minus in ((1, 0), (0, 1), (1, 1), (2, 3)):
        x[:plus], x[plus : plus + minus] = far, -far
        log_p = torch.nn.functional.pad(x, (1, 0)).log_softmax(1).to(dtype).repeat(21, 1)
        y, offsets = torch.arange(21), torch.arange(22) * 20
        phi, _ = posterior(log_p, offsets, torch.stack([20 - y, y], 1))
        phi = phi[:, 1].view(21, 20)
        assert phi.isfinite().all()
        torch.testing.assert_close(phi.sum(1), y.to(dtype), atol=1e-4, rtol=0)
        free = phi[(y >= plus) & (y <= 20 - minus)]
        assert (free[:, :plus] > 1 - 1e-6).all() and (free[:, plus : plus + minus] < 1e-6).all()


def test_float32_does_not_depend_on_the_bags_beside_it():
    """A bag that needs great shifts among ordinary ones must not cost them digits, nor they it."""
    sizes = [100, 128, 70, 128]
    log_p, offsets, counts = draw(sizes, 2, 1.0)
    log_p[100:228] = torch.nn.functional.pad(100 * logits_of(128, 1), (1, 0)).log_softmax(1)
    for y in (0, 1, 64, 127, 128):
        counts[1] = torch.tensor([128 - y, y])
        check_float32(posterior, log_p, offsets, counts)


@SOLVERS
@CLASSES
def test_rows_sum_to_one_and_bags_to_their_counts(solve, n_classes):
    for scale in (1.0, 30.0):
        log_p, offsets, counts = draw([n for n in RAGGED if n <= 100], n_classes, scale)
        phi, log_likelihood = solve(log_p, offsets, counts)
        assert phi.min() >= 0 and phi.max() <= 1 and (log_likelihood < 1e-12).all()
        torch.testing.assert_close(phi.sum(1), torch.ones(len(phi), dtype=torch.float64), atol=1e-12, rtol=0)
        sums = torch.stack([bag.sum(0) for bag in phi.tensor_split(offsets[1:-1])])
        torch.testing.assert_close(sums, counts.double(), atol=1e-9, rtol=1e-9)


@SOLVERS
@CLASSES
def test_a_constant_added_to_the_logits_of_a_bag_changes_no_posterior(solve, n_classes):
    _, offsets, counts = draw([1, 8, 30, 70], n_classes)
    logits = logits_of(109, n_classes)
    phi, _ = solve(logits.log_softmax(1), offsets, counts)
    for constant in (-40.0, -3.0, 0.1, 40.0):
        per_bag = torch.zeros(4, n_classes, dtype=torch.float64)
        per_bag[:, -1] = constant * torch.tensor([1.0, -1.0, 0.5, 1.0])
        shifted = logits + per_bag.repeat_interleave(offsets.diff(), 0)
        moved, _ = solve(shifted.log_softmax(1), offsets, counts)
        torch.testing.assert_close(moved, phi, atol=1e-9, rtol=0)


@SOLVERS
@CLASSES
def test_permuting_the_instances_permutes_their_posteriors(solve, n_classes):
    log_p, offsets, counts = draw([1, 20, 90], n_classes)
    rng = torch.Generator().manual_seed(0)
    order = torch.cat([start + torch.randperm(n, generator=rng) for start, n in ((0, 1), (1, 20), (21, 90))])
    phi, log_likelihood = solve(log_p, offsets, counts)
    same(solve(log_p[order], offsets, counts), (phi[order], log_likelihood))


@SOLVERS
@CLASSES
def test_exchanging_classes_exchanges_their_posteriors(solve, n_classes):
    log_p, offsets, counts = draw([1, 2, 20, 21, 90], n_classes)
    phi, log_likelihood = solve(log_p, offsets, counts)
    for order in itertools.permutations(range(n_classes)):
        same(solve(log_p[:, order], offsets, counts[:, order]), (phi[:, order], log_likelihood))


@SOLVERS
@CLASSES
def test_ragged_bags_equal_bags_one_by_one(solve, n_classes):
    sizes = RAGGED if n_classes == 2 else [min(n, 60) for n in RAGGED]
    log_p, offsets, counts = draw(sizes, n_classes)
    alone = []
    for b, bag in enumerate(log_p.tensor_split(offsets[1:-1])):
        alone.append(solve(bag, torch.tensor([0, len(bag)]), counts[b : b + 1]))
    phi, log_likelihood = (torch.cat(parts) for parts in zip(*alone, strict=True))
    same(solve(log_p, offsets, counts), (phi, log_likelihood), 1e-12)

    order = torch.arange(len(sizes) - 1, -1, -1)
    turned = torch.cat([log_p[offsets[b] : offsets[b + 1]] for b in order])
    turned_phi = torch.cat([phi[offsets[b] : offsets[b + 1]] for b in order])
    ours = solve(turned, offsets_of([sizes[b] for b in order]), counts[order])
    same(ours, (turned_phi, log_likelihood[order]), 1e-12)


@SOLVERS
@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_bags_make_no_posteriors(solve, n_classes, dtype):
    counts = torch.zeros(0, n_classes, dtype=torch.int64)
    phi, log_likelihood = solve(torch.zeros(0, n_classes, dtype=dtype), torch.tensor([0]), counts)
    assert phi.shape == (0, n_classes) and log_likelihood.shape == (0,)
    assert phi.dtype == log_likelihood.dtype == dtype


@SOLVERS
@CLASSES
def test_input_is_read_only_in_any_layout_and_outside_autograd(solve, n_classes):
    log_p, offsets, counts = draw([5, 1, 30], n_classes)
    expected = solve(log_p, offsets, counts)
    wide = torch.stack([log_p, log_p + 1], 2).repeat_interleave(2, 0)[::2, :, 0].requires_grad_()
    across = log_p.T.contiguous().T
    twice = counts.repeat(1, 2).T.contiguous().T[:, :n_classes]
    assert not wide.is_contiguous() and not across.is_contiguous() and not twice.is_contiguous()
    before = [tensor.clone() for tensor in (log_p, offsets, counts)]
    for layout in (wide, across):
        ours = solve(layout, offsets, twice)
        same(ours, expected, 0)
        assert not any(tensor.requires_grad for tensor in ours)
    assert all(torch.equal(*pair) for pair in zip(before, (log_p, offsets, counts), strict=True))


def problem_of_the_loss(sizes, n_classes, scale=2.0):
    log_p, offsets, counts = draw(sizes, n_classes, scale)
    return log_p.requires_grad_(), offsets, counts, counts / offsets.diff()[:, None]


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_the_loss_is_the_mean_of_the_bags_and_its_gradient_the_posterior(n_classes):
    log_p, offsets, counts, proportions = problem_of_the_loss([1, 4, 9, 6], n_classes)
    phi, log_likelihood = posterior(log_p.detach(), offsets, counts)
    loss = count_loss(log_p, offsets, proportions)
    assert loss.shape == ()
    torch.testing.assert_close(loss.detach(), -log_likelihood.mean())
    (slope,) = torch.autograd.grad(3 * loss, log_p)
    torch.testing.assert_close(slope, -3 * phi / 4)
    assert torch.autograd.gradcheck(lambda x: count_loss(x, offsets, proportions), log_p)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_loss_can_be_differentiated_through_a_softmax(n_classes):
    """With respect to logits the gradient is (p - phi) / B: that of the M-step, Equation 11."""
    _, offsets, counts, proportions = problem_of_the_loss([1, 4, 9], n_classes)
    logits = logits_of(14, n_classes).requires_grad_()
    (slope,) = torch.autograd.grad(count_loss(logits.log_softmax(1), offsets, proportions), logits)
    phi, _ = posterior(logits.detach().log_softmax(1), offsets, counts)
    torch.testing.assert_close(slope, (logits.detach().softmax(1) - phi) / 3)


@CLASSES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [60.0, 1e4])
def test_loss_and_gradient_stay_finite_for_confident_wrong_predictions(n_classes, dtype, scale):
    log_p, offsets, _, proportions = problem_of_the_loss([1, 8, 64, 64], n_classes, scale)
    logits = log_p.detach().to(dtype).requires_grad_()
    loss = count_loss(logits.log_softmax(1), offsets, proportions.to(dtype))
    (slope,) = torch.autograd.grad(loss, logits)
    assert loss.dtype == dtype and torch.isfinite(loss) and torch.isfinite(slope).all()
    assert slope.abs().max() <= (1 + 1e-5) / 4


def test_a_sure_prediction_that_is_right_costs_nothing():
    log_p = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0], [-torch.inf, 0.0]], requires_grad=True)
    loss = count_loss(log_p, torch.tensor([0, 3]), torch.tensor([[1 / 3, 2 / 3]]))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(log_p.grad, -log_p.detach().exp())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@SOLVERS
@CLASSES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gpu_agrees_with_the_cpu(solve, n_classes, dtype):
    log_p, offsets, counts = draw([n for n in RAGGED if n <= 100], n_classes)
    log_p = log_p.to(dtype)
    ours = solve(log_p.cuda(), offsets, counts)
    assert all(tensor.is_cuda and tensor.dtype == dtype for tensor in ours)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    same([tensor.cpu() for tensor in ours], solve(log_p, offsets, counts), tolerance)

    leaf = log_p.cuda().requires_grad_()
    count_loss(leaf, offsets, (counts / offsets.diff()[:, None]).cuda()).backward()
    torch.testing.assert_close(leaf.grad.cpu(), -solve(log_p, offsets, counts)[0] / len(counts), atol=1e-4, rtol=0)
