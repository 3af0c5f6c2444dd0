"""EasyLLP, LLPFC and MixBag against what their papers claim: enumeration, Bayes' formula, coverage."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from papers.benchmark.loss import (
    MixBag,
    class_prior,
    easy_llp_loss,
    forward_loss,
    half_width,
    interval_loss,
    mixed,
    noisy_labels,
    noisy_prior,
    transition,
)
from shared.bags import BagError, Bags, segment_mean
from shared.methods import Batch, kl_loss

pytestmark = pytest.mark.usefixtures("one_thread")

JOINT = np.array([[0.10, 0.25, 0.05], [0.30, 0.05, 0.25]])  # P(x, y) of two inputs and three classes
LOG_P = torch.tensor([[0.2, -1.0, 0.7], [1.5, 0.1, -0.4]], dtype=torch.float64).log_softmax(1)


# EasyLLP


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("cost", ["ce", "l2"])
def test_the_mean_of_easy_llp_over_all_bags_is_the_supervised_risk(size, cost):
    """The paper's theorem, by enumerating every bag of independent instances."""
    prior = torch.from_numpy(JOINT.sum(0))
    pairs, expected = list(itertools.product(range(2), range(3))), 0.0
    for bag in itertools.product(pairs, repeat=size):
        x, y = (torch.tensor(values) for values in zip(*bag, strict=True))
        z = torch.eye(3, dtype=torch.float64)[y].mean(0, keepdim=True)
        loss = easy_llp_loss(LOG_P[x], torch.tensor([0, size]), z, prior=prior, cost=cost)
        expected += float(loss) * np.prod([JOINT[pair] for pair in bag])
    costs = -LOG_P if cost == "ce" else (LOG_P.exp()[:, None] - torch.eye(3)).square().sum(2)
    assert expected == pytest.approx(float((torch.from_numpy(JOINT) * costs).sum()), abs=1e-12)


def test_without_a_prior_easy_llp_takes_that_of_the_bags():
    offsets, z = torch.tensor([0, 1, 4]), torch.tensor([[0.0, 1, 0], [1 / 3, 0, 2 / 3]], dtype=torch.float64)
    log_p = LOG_P[[0, 1, 1, 0]]
    prior = torch.tensor([1, 1, 2], dtype=torch.float64) / 4
    assert torch.equal(easy_llp_loss(log_p, offsets, z), easy_llp_loss(log_p, offsets, z, prior=prior))
    with pytest.raises(ValueError, match="ce, l2"):
        easy_llp_loss(log_p, offsets, z, cost="l1")


# LLPFC


def group(seed=0, k=3):
    return np.random.default_rng(seed).dirichlet(np.ones(k), k)


def test_transition_matrices_are_bayes_formula():
    """P(bag | class) from the joint distribution, in fractions."""
    z = [[Fraction(1, 2), Fraction(1, 2), Fraction(0)], [Fraction(1, 4), Fraction(3, 4), Fraction(0)]]
    w = [Fraction(1, 3), Fraction(2, 3)]
    joint = {(j, c): w[j] * z[j][c] for j in range(2) for c in range(3)}
    of_class = [sum(joint[j, c] for j in range(2)) for c in range(3)]
    brute = [[joint[j, c] / of_class[c] if of_class[c] else Fraction(0) for j in range(2)] for c in range(3)]
    found = transition(np.array(z, float), np.array(w, float))
    np.testing.assert_allclose(found, np.array(brute, float), atol=1e-15)
    assert found[:2].sum(1) == pytest.approx([1, 1]) and found[2].tolist() == [0, 0]  # no instance is of class 2
    np.testing.assert_array_equal(transition(np.array([z, z], float), np.array([w, w], float)), [found, found])


def test_weights_of_a_group_sum_to_one_and_are_the_best_on_a_grid():
    for seed in range(4):
        z, prior = group(seed), np.random.default_rng(seed + 50).dirichlet(np.ones(3))
        weights = noisy_prior(z, prior)
        assert weights.sum() == pytest.approx(1) and weights.min() > 0
        steps = np.arange(101)
        grid = np.array([(a, b, 100 - a - b) for a in steps for b in steps if a + b <= 100]) / 100
        best = np.square(grid @ z - prior).sum(1).min()
        assert np.square(weights @ z - prior).sum() <= best + 2e-3
    inside = np.array([0.2, 0.5, 0.3]) @ z
    np.testing.assert_allclose(noisy_prior(z, inside) @ z, inside, atol=1e-3)
    assert noisy_prior(z, prior, "uniform").tolist() == [1 / 3] * 3
    with pytest.raises(ValueError, match="approx, uniform"):
        noisy_prior(z, prior, "ideal")


@pytest.mark.parametrize("n_bags", [6, 7])
def test_every_bag_is_in_a_group_and_has_its_column_of_the_groups_matrix(n_bags):
    rng = np.random.default_rng(1)
    bags = Bags(np.arange(2 * n_bags), np.arange(n_bags + 1) * 2, rng.dirichlet(np.ones(3), n_bags))
    rows = noisy_labels(bags, seed=3, kind="approx")
    fits = np.zeros(n_bags, int)
    for members in itertools.combinations(range(n_bags), 3):
        weights = noisy_prior(bags.proportions[list(members)], class_prior(bags))
        of_bags = np.concatenate([transition(bags.proportions[list(members)], weights).T, 3 * weights[:, None]], 1)
        fits[list(members)] += np.isclose(rows[list(members)], of_bags).all(1)
    assert fits.tolist() == [1] * n_bags
    assert n_bags % 3 or rows[:, -1].sum() == pytest.approx(n_bags)
    assert not np.allclose(rows, noisy_labels(bags, seed=4))


def test_the_forward_corrected_loss_is_that_of_the_noisy_label():
    z = group()
    weights = np.array([0.5, 0.2, 0.3])
    t = torch.from_numpy(transition(z, weights))
    noise = torch.cat([t.T, 3 * torch.from_numpy(weights)[:, None]], 1)
    log_p, offsets = LOG_P[[0, 1, 1, 0, 0]], torch.tensor([0, 2, 3, 5])
    by_hand = 0.0
    for j, (start, end) in enumerate(itertools.pairwise(offsets.tolist())):
        of_bag = [-np.log(sum(float(t[k, j] * log_p[i, k].exp()) for k in range(3))) for i in range(start, end)]
        by_hand += weights[j] * np.mean(of_bag)
    assert float(forward_loss(log_p, offsets, noise)) == pytest.approx(by_hand)
    with pytest.raises(BagError, match=r"noise must be \(3, 4\), got \(3, 3\)"):
        forward_loss(log_p, offsets, noise[:, 1:])


@pytest.mark.parametrize("kind", ["uniform", "approx"])
def test_the_minimiser_of_the_forward_corrected_loss_is_the_clean_posterior(kind):
    """The paper's consistency, over all functions of an input that takes four values."""
    given_class = np.array([[8, 1, 1, 2], [1, 6, 2, 3], [2, 2, 7, 1]]) / 12  # P(x | y)
    prior = np.array([0.3, 0.3, 0.4])
    z = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.0, 0.25, 0.75]])
    weights = noisy_prior(z, prior, kind)
    noise = torch.from_numpy(np.concatenate([transition(z, weights).T, 3 * weights[:, None]], 1))
    copies = np.rint(z @ given_class * 48).astype(int)  # of each input in each bag: whole by the choice above
    np.testing.assert_allclose(copies / 48, z @ given_class)
    x = torch.from_numpy(np.concatenate([np.repeat(np.arange(4), row) for row in copies]))
    joint = (weights @ z)[:, None] * given_class
    clean = torch.from_numpy((joint / joint.sum(0)).T)

    def loss_at(logits):
        return forward_loss(logits.log_softmax(1)[x], torch.tensor([0, 48, 96, 144]), noise)

    # The loss is convex in the probabilities, so where its gradient is zero it is least.
    logits = clean.log().requires_grad_()
    least = loss_at(logits)
    least.backward()
    assert logits.grad.abs().max() < 1e-12
    torch.manual_seed(0)
    others = [float(loss_at(logits.detach() + 0.1 * torch.randn(4, 3)).detach()) for _ in range(50)]
    assert min(others) > float(least.detach())
    if kind == "approx":
        np.testing.assert_allclose(weights @ z, prior, atol=2e-3)  # so it is the posterior of all bags


# MixBag


def ragged():
    sizes = torch.tensor([40, 10, 25, 1])
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, int(sizes.sum())))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    return labels, offsets, segment_mean(torch.eye(3, dtype=torch.float64)[labels], offsets)


def test_a_mixture_holds_a_part_of_a_bag_and_the_rest_of_another_and_has_their_proportions():
    _, offsets, z = ragged()
    bag_of = torch.arange(4).repeat_interleave(offsets.diff())
    torch.manual_seed(0)
    for _ in range(50):
        rows, cuts, mixtures, margin = mixed(offsets, z, 0.95)
        assert mixtures.sum(1).tolist() == pytest.approx([1] * 4)
        for b in range(4):
            own = rows[cuts[b] : cuts[b + 1]]
            assert len(own.unique()) == len(own)  # without replacement
            bags, counts = bag_of[own].unique(return_counts=True)
            assert len(bags) == 2 and b in bags
            counts = dict(zip(bags.tolist(), counts.tolist(), strict=True))
            assert all(n <= offsets.diff()[bag] for bag, n in counts.items())
            share = {bag: n / len(own) for bag, n in counts.items()}
            torch.testing.assert_close(mixtures[b], sum(share[bag] * z[bag] for bag in share))
            width = sum(share[k] * 1.959964 * (z[k] * (1 - z[k]) / counts[k]).sqrt() for k in share)
            torch.testing.assert_close(margin[b], width, rtol=1e-6, atol=1e-12)


def test_a_mixture_has_its_proportions_on_average_and_within_the_interval_as_often_as_it_says():
    labels, offsets, z = ragged()
    torch.manual_seed(1)
    off, inside = torch.zeros(3, dtype=torch.float64), []
    for _ in range(400):
        rows, cuts, mixtures, margin = mixed(offsets, z, 0.9)
        found = segment_mean(torch.eye(3, dtype=torch.float64)[labels[rows]], cuts) - mixtures
        off += found.mean(0) / 400
        inside.append((found.abs() <= margin + 1e-12).double().mean())
    assert off.abs().max() < 0.005
    assert np.mean(inside) > 0.85  # 90 %, of shares that are whole numbers by few


def test_the_interval_is_that_of_a_share():
    found = half_width(torch.tensor([[0.5, 0.8]]), torch.tensor([25]), 0.95)
    assert found.tolist()[0] == pytest.approx([0.1959964, 0.1567971])
    assert half_width(torch.tensor([[1.0, 0.0]]), torch.tensor([7])).tolist() == [[0, 0]]


def test_inside_the_interval_nothing_is_lost_and_outside_what_kl_loses():
    log_p = torch.tensor([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]], dtype=torch.float64).log().requires_grad_()
    offsets, z = torch.tensor([0, 1, 2]), torch.tensor([[0.5, 0.4, 0.1], [0.8, 0.1, 0.1]], dtype=torch.float64)
    loss = interval_loss(log_p, offsets, z, margin=0.11)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(kl_loss(log_p.detach()[1:], torch.tensor([0, 1]), z[1:])) / 2)
    assert log_p.grad[0].tolist() == [0, 0, 0] and log_p.grad[1].abs().sum() > 0
    assert torch.equal(interval_loss(log_p, offsets, z), kl_loss(log_p, offsets, z))


def test_a_class_predicted_too_often_is_predicted_less_also_where_it_alone_is_outside():
    """With the bag's other classes left out, its own term of the cross-entropy would raise it further."""
    logits = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log().requires_grad_()
    z, margin = torch.tensor([[0.3, 0.35, 0.35]], dtype=torch.float64), 0.15
    interval_loss(logits.log_softmax(1), torch.tensor([0, 1]), z, margin=margin).backward()
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1]


def test_without_weight_mixbag_is_dllp_and_one_bag_is_mixed_with_itself():
    _, offsets, z = ragged()
    network = torch.nn.Linear(2, 3)
    batch = Batch(torch.randn(76, 2), offsets, z.float())
    method = MixBag(network, torch.optim.SGD(network.parameters(), 0.0), weight=0.0)
    scalars = method.update(batch)
    assert torch.equal(scalars["loss"], kl_loss(network(batch.x).log_softmax(1), offsets, z.float()))
    assert MixBag(network, method.optimiser).update(Batch(batch.x[:40], offsets[:2], z[:1].float()))["loss"].isfinite()
    with pytest.raises(ValueError, match="confidence in"):
        MixBag(network, method.optimiser, confidence=1.0)
