"""The E-step of Barucic & Kybic 2022, two classes and more, against enumeration of all label vectors and autograd."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from papers.mle_llp import lattice
from papers.mle_llp.lattice import lattice_posterior
from papers.mle_llp.loss import count_loss, counts_of, posterior
from shared.bags import BagError

SOLVERS = pytest.mark.parametrize("solve", [lattice_posterior, posterior])
SCALES = (1.0, 5.0, 30.0)
INF = torch.inf


def offsets_of(sizes):
    return torch.tensor([0, *itertools.accumulate(sizes)])


def draw(sizes, n_classes, scale=2.0, seed=0, sure=0.0):
    """Bags with the counts of labels drawn with their probabilities; a share `sure` of them is certain of its label."""
    rng = torch.Generator().manual_seed(seed)
    total, offsets = sum(sizes), offsets_of(sizes)
    log_p = (scale * torch.randn(total, n_classes, generator=rng, dtype=torch.float64)).log_softmax(1)
    labels = torch.multinomial(log_p.exp(), 1, generator=rng)[:, 0] if total else torch.zeros(0, dtype=torch.int64)
    certain = torch.rand(total, generator=rng) < sure
    log_p[certain] = one_hot(labels[certain], n_classes).double().log()
    counts = torch.zeros(len(sizes), n_classes, dtype=torch.int64)
    counts.index_add_(0, torch.arange(len(sizes)).repeat_interleave(offsets.diff()), one_hot(labels, n_classes))
    return log_p, offsets, counts


def all_counts(n, n_classes):
    return torch.tensor([c for c in itertools.product(range(n + 1), repeat=n_classes) if sum(c) == n])


def enumerated(log_p, counts):
    """For one bag and (C, K) counts: (C, n, K) posteriors and (C,) log-likelihoods, by summing over K^n labelings."""
    n, n_classes = log_p.shape
    labelings = np.arange(n_classes**n)[:, None] // n_classes ** np.arange(n) % n_classes
    hot = labelings[:, :, None] == np.arange(n_classes)
    joint = np.where(hot, log_p, 0.0).sum((1, 2))
    phi, log_likelihood = np.zeros((len(counts), n, n_classes)), np.full(len(counts), -np.inf)
    found = hot.sum(1) @ (n + 1) ** np.arange(n_classes)
    for row, code in enumerate(counts @ (n + 1) ** np.arange(n_classes)):
        fits = found == code
        top = joint[fits].max()
        if top > -np.inf:
            weight = np.exp(joint[fits] - top)
            phi[row] = np.tensordot(weight, hot[fits], 1) / weight.sum()
            log_likelihood[row] = top + np.log(weight.sum())
    return torch.from_numpy(phi), torch.from_numpy(log_likelihood)


def agree_with_enumeration(solve, log_p, counts, tolerance=1e-10):
    """One bag under every possible row of counts; returns how many were possible."""
    phi, log_likelihood = enumerated(log_p.numpy(), counts.numpy())
    possible = log_likelihood.isfinite()
    copies = int(possible.sum())
    ours = solve(log_p.repeat(copies, 1), torch.arange(copies + 1) * len(log_p), counts[possible])
    torch.testing.assert_close(ours[0], phi[possible].flatten(0, 1), atol=tolerance, rtol=0)
    torch.testing.assert_close(ours[1], log_likelihood[possible], atol=tolerance, rtol=tolerance)
    for row in counts[~possible]:
        with pytest.raises(BagError, match="bag 0"):
            solve(log_p, torch.tensor([0, len(log_p)]), row[None])
    return copies


def binary_log_likelihood(log_p, y):
    """log P(y positives), one instance after another; only counts that can be are in the table, so autograd is safe."""
    table = log_p.new_zeros(1)
    for zero, one in log_p:
        both = torch.logaddexp(table[1:] + zero, table[:-1] + one)
        table = torch.cat([table[:1] + zero, both, table[-1:] + one])[: y + 1]
    return table[y]


def class_log_likelihood(log_p, counts):
    """log P(counts) for one bag, over a dictionary of count vectors."""
    table = {(0,) * log_p.shape[1]: log_p.new_zeros(())}
    for row in log_p:
        ways = {}
        for state, value in table.items():
            for k, p in enumerate(row):
                reached = (*state[:k], state[k] + 1, *state[k + 1 :])
                if reached[k] <= counts[k]:
                    ways.setdefault(reached, []).append(value + p)
        table = {state: torch.stack(values).logsumexp(0) for state, values in ways.items()}
    return table[tuple(counts.tolist())]


@SOLVERS
@pytest.mark.parametrize("scale", SCALES)
def test_two_classes_equal_enumeration_for_every_count(solve, scale):
    for n in range(1, 15):
        log_p, _, _ = draw([n], 2, scale, seed=n)
        assert agree_with_enumeration(solve, log_p, all_counts(n, 2)) == n + 1


@SOLVERS
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("n_classes", [3, 4])
def test_more_classes_equal_enumeration_for_every_count_vector(solve, scale, n_classes):
    for n in range(1, 8):
        log_p, _, _ = draw([n], n_classes, scale, seed=n)
        counts = all_counts(n, n_classes)
        assert agree_with_enumeration(solve, log_p, counts) == len(counts)


@SOLVERS
@pytest.mark.parametrize(("n", "n_classes"), [(1, 2), (4, 2), (9, 2), (1, 3), (5, 3), (5, 4)])
def test_sure_and_unsure_instances_equal_enumeration(solve, n, n_classes):
    """Mixes of 0, 1 and between: every count vector is either solved or refused, as enumeration says."""
    for seed in range(8):
        log_p, _, _ = draw([n], n_classes, seed=seed, sure=seed / 7)
        if seed % 2:  # here and there a class is ruled out without any being certain
            log_p[0, 0] = -INF if log_p[0, 0] < 0 else 0.0
        agree_with_enumeration(solve, log_p, all_counts(n, n_classes))


@SOLVERS
@pytest.mark.parametrize("n_classes", [2, 3])
def test_log_p_need_not_sum_to_one(solve, n_classes):
    """Its columns are free: the gradient with respect to each of them is a posterior."""
    for seed in range(4):
        raw = 4 * torch.randn(6, n_classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        agree_with_enumeration(solve, raw, all_counts(6, n_classes))


@SOLVERS
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("n", [1, 2, 17, 60])
def test_the_binary_posterior_is_the_derivative_of_the_likelihood(solve, scale, n):
    log_p, offsets, drawn = draw([n], 2, scale, seed=n)
    log_p.requires_grad_()
    for y in {0, 1, n // 2, n - 1, n, int(drawn[0, 1])}:
        value = binary_log_likelihood(log_p, y)
        (slope,) = torch.autograd.grad(value, log_p)
        phi, log_likelihood = solve(log_p.detach(), offsets, torch.tensor([[n - y, y]]))
        torch.testing.assert_close(phi, slope, atol=1e-10, rtol=0)
        torch.testing.assert_close(log_likelihood[0], value.detach(), atol=1e-10, rtol=1e-10)


@SOLVERS
@pytest.mark.parametrize(("n", "n_classes"), [(14, 3), (9, 4), (8, 6)])
def test_the_posterior_of_more_classes_is_the_derivative_of_the_likelihood(solve, n, n_classes):
    for scale in SCALES:
        log_p, offsets, counts = draw([n], n_classes, scale, seed=5)
        log_p.requires_grad_()
        value = class_log_likelihood(log_p, counts[0])
        (slope,) = torch.autograd.grad(value, log_p)
        phi, log_likelihood = solve(log_p.detach(), offsets, counts)
        torch.testing.assert_close(phi, slope, atol=1e-10, rtol=0)
        torch.testing.assert_close(log_likelihood[0], value.detach(), atol=1e-10, rtol=1e-10)


def test_the_lattice_and_the_binary_code_agree_on_bags_of_hundreds():
    for scale in (0.1, 1.0, 5.0, 30.0):
        problem = draw([1, 2, 3, 40, 150, 300, 301], 2, scale, seed=8, sure=0.2)
        for ours, other in zip(posterior(*problem), lattice_posterior(*problem), strict=True):
            torch.testing.assert_close(ours, other, atol=1e-10, rtol=1e-10)


@SOLVERS
@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_instances_have_posteriors_of_exactly_0_and_1(solve, n_classes, dtype):
    log_p, offsets, counts = draw([1, 2, 7, 30, 7], n_classes, seed=1, sure=1.0)
    phi, log_likelihood = solve(log_p.to(dtype), offsets, counts)
    assert torch.equal(phi, log_p.exp().to(dtype))
    assert torch.equal(log_likelihood, torch.zeros(5, dtype=dtype))

    log_p, offsets, counts = draw([1, 5, 6, 12, 6], n_classes, seed=2, sure=0.5)
    phi, log_likelihood = solve(log_p.to(dtype), offsets, counts)
    certain = (log_p == 0).any(1)
    assert 5 < certain.sum() < 25
    assert torch.equal(phi[certain], log_p[certain].exp().to(dtype))
    assert phi.isfinite().all() and log_likelihood.isfinite().all()


@SOLVERS
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pure_bag_and_a_bag_of_one_know_their_labels(solve, n_classes, scale, dtype):
    for n in (1, 2, 50):
        log_p, offsets, _ = draw([n], n_classes, scale, seed=n)
        for k in range(n_classes):
            counts = n * one_hot(torch.tensor([k]), n_classes)
            phi, log_likelihood = solve(log_p.to(dtype), offsets, counts)
            assert torch.equal(phi, one_hot(torch.full((n,), k), n_classes).to(dtype))
            torch.testing.assert_close(log_likelihood, log_p[:, k].sum()[None].to(dtype), atol=1e-6, rtol=1e-6)


@SOLVERS
def test_counts_that_certain_instances_use_up_settle_the_others(solve):
    """Two certain positives and two positives: the unsure ones are negative, without rounding."""
    log_p = torch.tensor([0.3, 0.9, 1.0, 0.5, 1.0, 1e-6], dtype=torch.float64)
    log_p = torch.stack([1 - log_p, log_p], 1).log()
    phi, log_likelihood = solve(log_p, torch.tensor([0, 6]), torch.tensor([[4, 2]]))
    assert torch.equal(phi[:, 1], torch.tensor([0, 0, 1, 0, 1, 0], dtype=torch.float64))
    torch.testing.assert_close(log_likelihood.exp()[0].item(), 0.7 * 0.1 * 0.5 * (1 - 1e-6))


@SOLVERS
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("log_odds_of", "counts"),
    [
        (None, [-1, 5]),  # more positives than instances
        (None, [5, -1]),
        (None, [1, 2]),  # three labels for four instances
        (None, [4, 1]),
        (-INF, [3, 1]),  # nobody can be positive
        (-INF, [0, 4]),
        (INF, [1, 3]),  # everybody must be
        (INF, [4, 0]),
    ],
)
def test_an_impossible_bag_is_refused_by_its_number(solve, n_classes, log_odds_of, counts):
    log_p, offsets, fine = draw([3, 200, 4, 4, 1], n_classes, seed=4)
    if log_odds_of is not None:
        sure = torch.tensor([0.0, -INF] if log_odds_of < 0 else [-INF, 0.0], dtype=torch.float64)
        log_p[203:207] = torch.cat([sure, torch.full((n_classes - 2,), -INF)])
    fine[2] = torch.tensor(counts + [0] * (n_classes - 2))
    with pytest.raises(BagError, match=r"\bbag 2\b"):
        solve(log_p, offsets, fine)


@SOLVERS
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("bad", [torch.nan, INF])
def test_a_bag_with_nan_or_infinite_log_p_is_refused_by_its_number(solve, n_classes, bad):
    for k in range(n_classes):
        log_p, offsets, counts = draw([3, 20, 4, 4, 1], n_classes, seed=4)
        log_p[25, k] = bad
        with pytest.raises(BagError, match=r"\bbag 2\b"):
            solve(log_p, offsets, counts)


def test_a_lattice_too_large_is_refused_with_its_size_and_what_to_do():
    log_p, offsets, counts = draw([2, 20, 4], 4, seed=6)
    counts[1] = torch.tensor([5, 6, 5, 4])
    message = r"bag 1: counts \[5, 6, 5, 4\] .*180 count vectors.*14,400 operations.*max_states="
    with pytest.raises(BagError, match=message):
        lattice_posterior(log_p, offsets, counts, max_states=179)
    phi, _ = lattice_posterior(log_p, offsets, counts, max_states=180)
    torch.testing.assert_close(phi[2:22].sum(0), counts[1].double(), atol=1e-10, rtol=0)
    with pytest.raises(BagError, match="bag 0"):  # 2^99 count vectors: told without overflow
        lattice_posterior(torch.zeros(100, 100), torch.tensor([0, 100]), torch.ones(1, 100, dtype=torch.int64))


@pytest.mark.parametrize("bound", [1, 100_000])
def test_the_memory_bound_changes_no_answer(monkeypatch, bound):
    problem = draw([1, 9, 30, 2, 9, 31, 40, 8], 3, seed=7)
    free = lattice_posterior(*problem)
    monkeypatch.setattr(lattice, "TABLE_BYTES", bound)
    for ours, other in zip(lattice_posterior(*problem), free, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_proportions_are_turned_into_counts(dtype):
    sizes = torch.tensor([1, 3, 7, 128, 1000, 1023])
    counts = torch.stack([sizes // 3, sizes // 2, sizes - sizes // 3 - sizes // 2], 1)
    found = counts_of((counts / sizes[:, None]).to(dtype), offsets_of(sizes.tolist()))
    assert found.dtype == torch.int64 and torch.equal(found, counts)


@pytest.mark.parametrize("wrong", [[0.7, 0.3], [0.5, 0.75], [-0.25, 1.25], [torch.nan, 0.5], [0.251, 0.749]])
def test_proportions_that_are_no_counts_are_refused_by_the_bag(wrong):
    proportions = torch.tensor([[0.5, 0.5]] * 2 + [wrong] + [[1.0, 0.0]] * 2)
    offsets = offsets_of([2, 4, 4, 1, 9])
    with pytest.raises(BagError, match=r"\bbag 2\b"):
        counts_of(proportions, offsets)
    with pytest.raises(BagError, match=r"\bbag 2\b"):
        count_loss(torch.full((20, 2), -0.7), offsets, proportions)
