"""Relabelling by transport, hard and soft, against POT, brute force over all labellings and its own limits."""

import itertools
import re
import warnings

import numpy as np
import ot
import pytest
import torch
from torch.nn.functional import one_hot

from papers.plot.labels import LabelHistory, relabel
from shared.bags import BagError
from shared.training import checkpoint
from shared.transport import largest_remainder

INF = torch.inf


def offsets_of(sizes):
    return torch.tensor([0, *itertools.accumulate(sizes)])


def draw(sizes, n_classes, scale=3.0, seed=0, dtype=torch.float64):
    """Log-probabilities and the proportions of labels drawn with them."""
    rng = torch.Generator().manual_seed(seed)
    log_p = (scale * torch.randn(sum(sizes), n_classes, generator=rng, dtype=torch.float64)).log_softmax(1)
    labels = torch.multinomial(log_p.exp(), 1, generator=rng)[:, 0]
    counts = torch.stack([part.bincount(minlength=n_classes) for part in labels.split(list(sizes))])
    return log_p.to(dtype), offsets_of(sizes), counts / counts.sum(1, keepdim=True).to(dtype)


def counts_of(labels, offsets):
    return torch.stack([part.sum(0) for part in labels.split(offsets.diff().tolist())])


def cost_of(labels, log_p, offsets):
    """Transport cost of each bag, 0 times infinity being 0."""
    total = -(labels.double() * log_p.double().masked_fill(labels == 0, 0)).sum(1)
    return torch.stack([part.sum() for part in total.split(offsets.diff().tolist())])


def by_pot(log_p, offsets, counts):
    """Cost of each bag, from a call of ot.emd2."""
    sizes = offsets.diff().tolist()
    bags = zip(log_p.double().split(sizes), counts.double(), strict=True)
    return torch.tensor([ot.emd2(np.ones(len(c)), m.numpy(), (-c).numpy()) for c, m in bags], dtype=torch.float64)


def is_one_hot(labels):
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all())


# --------------------------------------------------------------------------------------------------------------- hard


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_classes", [2, 3, 10, 100])
def test_hard_labels_cost_what_the_linear_program_does(n_classes, dtype):
    log_p, offsets, proportions = draw([1, 2, 16, 64, 7, 128, 129, 300, 1], n_classes, dtype=dtype)
    labels, counts = relabel(log_p, offsets, proportions), largest_remainder(proportions, offsets.diff())
    assert labels.dtype == dtype and is_one_hot(labels)
    assert torch.equal(counts_of(labels, offsets).long(), counts)
    torch.testing.assert_close(cost_of(labels, log_p, offsets), by_pot(log_p, offsets, counts), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ties", [False, True], ids=["untied", "tied"])
def test_hard_labels_against_all_labellings(ties):
    """Every bag of up to 5 instances of 3 classes under every possible count: the cheapest of the 3^n."""
    rng = np.random.default_rng(0)
    for n in range(1, 6):
        vectors = np.array(list(itertools.product(range(3), repeat=n)))
        found = np.stack([(vectors == k).sum(1) for k in range(3)], 1)
        possible = np.unique(found, axis=0)
        scores = rng.integers(0, 3, (n, 3)).astype(float) if ties else rng.normal(size=(n, 3))
        totals = scores[np.arange(n), vectors].sum(1)
        best = [totals[(found == row).all(1)].max() for row in possible]
        log_p = torch.from_numpy(scores).repeat(len(possible), 1)
        labels = relabel(log_p, torch.arange(len(possible) + 1) * n, torch.from_numpy(possible / n))
        assert np.allclose(-cost_of(labels, log_p, torch.arange(len(possible) + 1) * n), best, atol=1e-12)


def test_counts_that_are_not_whole_go_to_the_largest_remainders():
    """2.5, 1.3 and 1.2 instances of 5: counts 3, 1, 1, as the remainder of the first is the largest."""
    log_p = torch.tensor([[0.6, 0.3, 0.1]]).log().repeat(5, 1)
    labels = relabel(log_p, torch.tensor([0, 5]), torch.tensor([[0.5, 0.26, 0.24]]))
    assert labels.sum(0).tolist() == [3, 1, 1]


def test_a_class_without_mass_gets_no_label():
    """However sure the predictions are of it, and in a bag of one."""
    log_p = torch.tensor([[0.98, 0.01, 0.01]] * 5).log()
    offsets, proportions = torch.tensor([0, 4, 5]), torch.tensor([[0, 0.5, 0.5], [0, 0, 1.0]])
    for kind in ("hard", "soft"):
        labels = relabel(log_p, offsets, proportions, kind=kind)
        assert (labels[:, 0] == 0).all()
        torch.testing.assert_close(counts_of(labels, offsets), proportions * torch.tensor([[4.0], [1.0]]))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_predictions_that_fit_are_kept(kind):
    """A fixed point: where the most probable classes have the right counts they are the labels; so are labels."""
    log_p, offsets, _ = draw([16, 64, 5], 4)
    sure = one_hot(log_p.argmax(1), 4).double()
    sizes = offsets.diff()[:, None]
    proportions = counts_of(sure, offsets) / sizes
    if kind == "hard":
        assert torch.equal(relabel(log_p, offsets, proportions), sure)
        assert torch.equal(relabel(sure.log(), offsets, proportions), sure)
    else:
        soft = counts_of(log_p.exp(), offsets) / sizes
        torch.testing.assert_close(relabel(log_p, offsets, soft, kind="soft"), log_p.exp(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_order_of_instances_bags_and_classes_does_not_matter(kind):
    sizes = [9, 30, 2]
    log_p, offsets, proportions = draw(sizes, 5)
    labels = relabel(log_p, offsets, proportions, kind=kind, iterations=20_000)
    rng = np.random.default_rng(1)
    classes, order = rng.permutation(5), [2, 0, 1]
    rows = np.concatenate([offsets[b] + rng.permutation(sizes[b]) for b in order])
    problem = log_p[rows][:, classes], offsets_of([sizes[b] for b in order]), proportions[order][:, classes]
    moved = relabel(*problem, kind=kind, iterations=20_000)
    torch.testing.assert_close(moved, labels[rows][:, classes], rtol=0, atol=0 if kind == "hard" else 1e-8)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_constant_in_the_scores_of_an_instance_does_not_matter(kind):
    log_p, offsets, proportions = draw([9, 30, 2], 5)
    shifted = log_p + 50 * torch.randn(len(log_p), 1, generator=torch.Generator().manual_seed(0))
    ours = [relabel(x, offsets, proportions, kind=kind, iterations=20_000) for x in (log_p, shifted)]
    torch.testing.assert_close(*ours, rtol=0, atol=0 if kind == "hard" else 1e-8)


# --------------------------------------------------------------------------------------------- probabilities of zero


def test_a_zero_probability_is_chosen_only_where_nothing_else_is_left():
    """The fewest impossible labels first, then the least cost of the possible ones: over all labellings."""
    rng = np.random.default_rng(0)
    vectors = np.array(list(itertools.product(range(3), repeat=5)))
    found = np.stack([(vectors == k).sum(1) for k in range(3)], 1)
    forced = 0
    for _ in range(60):
        log_p = torch.from_numpy(30 * rng.normal(size=(5, 3))).log_softmax(1)
        log_p[torch.from_numpy(rng.random((5, 3)) < 0.4)] = -INF
        log_p[log_p.isinf().all(1), 0] = 0
        counts = found[rng.integers(len(found))]
        chosen = log_p.numpy()[np.arange(5), vectors[(found == counts).all(1)]]
        impossible = np.isinf(chosen).sum(1)
        best = np.where(np.isinf(chosen), 0, chosen).sum(1)[impossible == impossible.min()].max()
        labels = relabel(log_p, torch.tensor([0, 5]), torch.from_numpy(counts / 5)[None]).bool()
        ours = log_p[labels]
        assert int(ours.isinf().sum()) == impossible.min()
        assert float(ours[ours.isfinite()].sum()) == pytest.approx(best, abs=1e-9)
        forced += impossible.min() > 0
    assert 5 < forced < 55


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_soft_labels_with_zero_probabilities_are_finite(dtype):
    log_p, offsets, proportions = draw([16, 64, 3], 5, dtype=dtype)
    log_p[torch.rand(log_p.shape, generator=torch.Generator().manual_seed(0)) < 0.3] = -INF
    log_p[log_p.isinf().all(1)] = 0
    labels = relabel(log_p, offsets, proportions, kind="soft")
    assert labels.isfinite().all() and (labels >= 0).all()
    fits = torch.tensor([[0.0, -INF], [-INF, 0.0], [-0.7, -0.7]], dtype=dtype)
    even = relabel(fits, torch.tensor([0, 3]), torch.tensor([[0.5, 0.5]], dtype=dtype), kind="soft")
    torch.testing.assert_close(even, torch.tensor([[1, 0], [0, 1], [0.5, 0.5]], dtype=dtype), rtol=0, atol=1e-5)


# --------------------------------------------------------------------------------------------------------------- soft


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 5.0])
def test_soft_labels_are_pots(epsilon):
    log_p, offsets, proportions = draw([16, 64, 1, 30], 6)
    ours = relabel(log_p, offsets, proportions, kind="soft", epsilon=epsilon, iterations=20_000)
    for bag, (start, stop) in enumerate(itertools.pairwise(offsets.tolist())):
        masses = (stop - start) * proportions[bag].numpy()
        cost, present = -log_p[start:stop].numpy(), masses > 0
        theirs = np.zeros(cost.shape)
        theirs[:, present] = ot.sinkhorn(
            np.ones(stop - start), masses[present], cost[:, present], epsilon, numItermax=20_000, stopThr=1e-12
        )
        np.testing.assert_allclose(ours[start:stop].numpy(), theirs, atol=1e-6)


@pytest.mark.parametrize("dtype, tolerance, ulp", [(torch.float32, 2e-5, 1e-6), (torch.float64, 2e-9, 1e-15)])
def test_soft_labels_have_their_marginals(dtype, tolerance, ulp):
    log_p, offsets, proportions = draw([16, 64, 1, 128], 10, dtype=dtype)
    labels = relabel(log_p, offsets, proportions, kind="soft", iterations=5000)
    torch.testing.assert_close(labels.sum(1), torch.ones(len(labels), dtype=dtype), rtol=0, atol=ulp)
    shares = counts_of(labels, offsets) / offsets.diff()[:, None]
    torch.testing.assert_close(shares, proportions, rtol=0, atol=tolerance)
    assert labels.dtype == dtype and (labels >= 0).all()


@pytest.mark.filterwarnings("ignore:soft labels of")
def test_soft_labels_become_the_hard_ones():
    log_p, offsets, proportions = draw([8, 12, 5], 3, scale=1.0, seed=2)
    hard = relabel(log_p, offsets, proportions)
    gaps = []
    for epsilon in (1.0, 0.1, 0.01, 0.003):
        soft = relabel(log_p, offsets, proportions, kind="soft", epsilon=epsilon, iterations=5000)
        gaps.append(float((soft - hard).abs().max()))
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 0.3 and gaps[-1] < 1e-3, gaps


def test_soft_labels_become_the_proportions():
    """Section 3.2: as epsilon grows the plan tends to the product of its marginals."""
    log_p, offsets, proportions = draw([8, 12, 5], 3)
    soft = relabel(log_p, offsets, proportions, kind="soft", epsilon=1e6)
    torch.testing.assert_close(soft, proportions.repeat_interleave(offsets.diff(), 0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("iterations", [60, 400])
def test_a_bag_does_not_wait_for_others(iterations):
    """Bags that converge late are solved apart: each has the labels it has alone, and the warning names the worst."""
    problem = draw([16, 5, 64, 2, 128, 9], 6, seed=4)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        together = relabel(*problem, kind="soft", epsilon=0.3, iterations=iterations)
    cuts, late = problem[1].tolist(), []
    for bag, (start, stop) in enumerate(itertools.pairwise(cuts)):
        alone = problem[0][start:stop], torch.tensor([0, stop - start]), problem[2][bag : bag + 1]
        with warnings.catch_warnings(record=True) as own:
            warnings.simplefilter("always")
            labels = relabel(*alone, kind="soft", epsilon=0.3, iterations=iterations)
        late += [bag] * len(own)
        torch.testing.assert_close(together[start:stop], labels, rtol=0, atol=1e-7)
    assert len(seen) == 1 and 0 < len(late) < 6
    assert f"of {len(late)} of 6 bags" in str(seen[0].message)
    assert int(re.search(r"worst is bag (\d)", str(seen[0].message))[1]) in late


def test_labels_that_miss_the_proportions_warn_once():
    problem = draw([64] * 5, 10)
    with pytest.warns(
        RuntimeWarning, match=r"5 of 5 bags miss the proportions after 2 iterations.* worst is bag \d"
    ) as seen:
        labels = relabel(*problem, kind="soft", epsilon=0.1, iterations=2)
    assert len(seen) == 1 and seen[0].filename == __file__
    torch.testing.assert_close(labels.sum(1), torch.ones(320).double())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relabel(*problem, kind="soft")


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p, o, z: z[2].mul_(0.9), "bag 2: proportions sum to 0.9"),
        (lambda p, o, z: z[1].copy_(torch.tensor([1.5, -0.5, 0])), "bag 1: proportion of class 1 is -0.5"),
        (lambda p, o, z: z[1, 2].fill_(torch.nan), "bag 1: proportion of class 2 is nan"),
        (lambda p, o, z: o[2].fill_(4), "bag 1: empty"),
        (lambda p, o, z: o[2].fill_(3), "bag 1: offsets decrease"),
        (lambda p, o, z: o[3].fill_(8), "bag 2: offsets end at 8, not at M = 9"),
        (lambda p, o, z: p[5, 1].fill_(torch.nan), "bag 1: log-probabilities of instance 5 are .*nan"),
        (lambda p, o, z: p[8, 1].fill_(INF), "bag 2: log-probabilities of instance 8 are .*inf"),
        (lambda p, o, z: p[0].fill_(-INF), "bag 0: log-probabilities of instance 0 are .*-inf"),
    ],
)
def test_bad_bags_are_named(change, message, kind):
    log_p, offsets, proportions = draw([4, 2, 3], 3)
    change(log_p, offsets, proportions)
    with pytest.raises(BagError, match=message):
        relabel(log_p, offsets, proportions, kind=kind)


def test_bad_settings_are_refused():
    problem = draw([4, 2], 3)
    with pytest.raises(ValueError, match="hard or soft, not 'firm'"):
        relabel(*problem, kind="firm")
    with pytest.raises(ValueError, match="epsilon > 0"):
        relabel(*problem, kind="soft", epsilon=0.0)
    with pytest.raises(BagError, match=r"proportions must be \(2, 3\)"):
        relabel(*problem[:2], problem[2][:1])


def test_nothing_is_changed_and_no_gradient_asked_for():
    log_p, offsets, proportions = draw([4, 2], 3)
    log_p.requires_grad_()
    before = log_p.detach().clone()
    for kind in ("hard", "soft"):
        assert not relabel(log_p, offsets, proportions, kind=kind).requires_grad
    assert torch.equal(log_p, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_labels_on_a_gpu(kind):
    log_p, offsets, proportions = draw([4, 64, 200], 10)
    there = relabel(log_p.cuda(), offsets, proportions.cuda(), kind=kind)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), relabel(log_p, offsets, proportions, kind=kind), rtol=0, atol=1e-8)


# ------------------------------------------------------------------------------------------------ golden, and history


def test_golden_values():
    """What the labels were when this was written."""
    p = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.2, 0.5, 0.3]], dtype=torch.float64)
    problem = p.log(), torch.tensor([0, 4]), torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64)
    assert relabel(*problem).argmax(1).tolist() == [0, 1, 2, 1]
    soft = [
        [0.3893539857, 0.4753070353, 0.1353389789],
        [0.2823376384, 0.6031654327, 0.1144969289],
        [0.2630828493, 0.2248123650, 0.5121047857],
        [0.0652255266, 0.6967151670, 0.2380593064],
    ]
    torch.testing.assert_close(relabel(*problem, kind="soft").tolist(), soft, rtol=0, atol=1e-7)


def test_history_is_the_mean_of_the_last():
    rng = torch.Generator().manual_seed(0)
    matrices = [one_hot(torch.randint(3, (6,), generator=rng), 3).float() for _ in range(8)]
    history = LabelHistory(5)
    for i, labels in enumerate(matrices):
        torch.testing.assert_close(history.push(labels), torch.stack(matrices[max(0, i - 4) : i + 1]).mean(0))
    assert history.kept.shape == (5, 6, 3) and history.count == 8
    assert torch.equal(LabelHistory(1).push(matrices[0]), matrices[0])


@pytest.mark.parametrize("at", [0, 2, 7])
def test_history_goes_on_from_a_checkpoint(tmp_path, at):
    """To the last bit; and what goes on does not write into the state it came from."""
    rng = torch.Generator().manual_seed(0)
    matrices = [torch.rand(6, 3, generator=rng).softmax(1) for _ in range(10)]
    whole, first, second = LabelHistory(5), LabelHistory(5), LabelHistory(5)
    wanted = [whole.push(labels) for labels in matrices]
    for labels in matrices[:at]:
        first.push(labels)
    checkpoint.keep(tmp_path / "state.pt", {"key": "", "history": first.state_dict()})
    second.load_state_dict(checkpoint.resume(tmp_path / "state.pt", "")["history"])
    assert torch.equal(torch.stack([second.push(labels) for labels in matrices[at:]]), torch.stack(wanted[at:]))
    third, kept = LabelHistory(5), second.kept.clone()
    third.load_state_dict(second.state_dict())
    third.push(matrices[0])
    assert torch.equal(second.kept, kept)


def test_history_refuses_what_does_not_fit():
    history = LabelHistory(2)
    history.push(torch.eye(3))
    with pytest.raises(ValueError, match=r"labels are \(2, 2\), those before were \(3, 3\)"):
        history.push(torch.eye(2))
    with pytest.raises(ValueError, match="keeps 2 label matrices, not 5"):
        LabelHistory(5).load_state_dict(history.state_dict())
    with pytest.raises(ValueError, match="at least one"):
        LabelHistory(0)
