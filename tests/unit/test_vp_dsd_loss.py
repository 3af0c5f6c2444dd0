"""The VP loss of Pacheco et al. 2024 against linear programs, assignment, supervised cross-entropy and autograd."""

import itertools
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import cross_entropy, one_hot

from papers.vp_dsd.checks import check
from papers.vp_dsd.loss import COSTS, entropy, mse_loss, vertex_costs, vp_loss
from shared.bags import segment_sum
from shared.training import axis_seed

both_costs = pytest.mark.parametrize("cost", COSTS)


def problem(sizes=(5, 9, 3), n_classes=3, seed=0, counts=False):
    """Logits, offsets and proportions: those of random labels, or of the subject the bag is a sample of."""
    rng = torch.Generator().manual_seed(axis_seed(seed, "problem"))
    offsets = torch.tensor([0, *itertools.accumulate(sizes)])
    logits = 2 * torch.randn(sum(sizes), n_classes, generator=rng, dtype=torch.float64)
    labels = torch.randint(n_classes, (sum(sizes),), generator=rng)
    shares = segment_sum(one_hot(labels, n_classes).double(), offsets) / offsets.diff()[:, None]
    if not counts:
        shares = (shares + torch.rand(shares.shape, generator=rng, dtype=torch.float64)) / 2
        shares = shares / shares.sum(1, keepdim=True)
    return logits.requires_grad_(), offsets, shares, labels


def test_equation_1_its_dual_and_its_multipliers_hold_on_random_bags():
    worst = check(seed=0)
    assert worst.pop("splits_beyond") == 0
    assert max(worst.values()) < 1e-8, worst


def test_the_costs_are_cross_entropy_and_squared_distance_to_the_vertices():
    logits = problem(n_classes=4)[0].detach()
    for i, k in itertools.product(range(len(logits)), range(4)):
        p = logits[i].softmax(0)
        assert vertex_costs(logits, "ce")[i, k] == pytest.approx(-math.log(p[k]))
        assert vertex_costs(logits, "l2")[i, k] == pytest.approx(float((p - torch.eye(4)[k]).square().sum()))


@both_costs
def test_with_whole_counts_it_is_the_best_labelling_with_these_counts(cost):
    logits, offsets, shares, _ = problem((6, 4), counts=True)
    best = []
    for b, (start, stop) in enumerate(itertools.pairwise(offsets.tolist())):
        counts = (shares[b] * (stop - start)).round().long()
        columns = torch.arange(3).repeat_interleave(counts)
        costs = vertex_costs(logits, cost)[start:stop, columns].detach().numpy()
        best.append(costs[linear_sum_assignment(costs)].mean())
    assert vp_loss(logits, offsets, shares, cost).item() == pytest.approx(sum(best) / 2)


def test_where_the_predictions_are_right_it_is_supervised_cross_entropy():
    """A bag's exact counts then tell as much as its labels, in value and in gradient."""
    logits, offsets, shares, labels = problem((24,), counts=True)
    with torch.no_grad():
        logits += 20 * one_hot(labels, 3)
    loss, supervised = vp_loss(logits, offsets, shares), cross_entropy(logits, labels)
    torch.testing.assert_close(loss, supervised)
    gradients = (torch.autograd.grad(value, logits)[0] for value in (loss, supervised))
    torch.testing.assert_close(*gradients)


@both_costs
def test_bags_of_one_are_supervised(cost):
    logits, offsets, shares, labels = problem([1] * 7, counts=True)
    expected = vertex_costs(logits, cost).gather(1, labels[:, None]).mean()
    torch.testing.assert_close(vp_loss(logits, offsets, shares, cost), expected)


@both_costs
def test_the_gradient_is_right_away_from_ties(cost):
    logits, offsets, shares, _ = problem()
    assert torch.autograd.gradcheck(lambda x: vp_loss(x, offsets, shares, cost), logits)


@both_costs
def test_only_the_softmax_counts_and_neither_order_nor_other_bags_do(cost):
    logits, offsets, shares, _ = problem()
    loss = vp_loss(logits, offsets, shares, cost)
    torch.testing.assert_close(vp_loss(logits + torch.randn(len(logits), 1), offsets, shares, cost), loss)
    torch.testing.assert_close(vp_loss(logits.log_softmax(1), offsets, shares, cost), loss)
    shuffled = torch.cat([start + torch.randperm(n) for start, n in zip(offsets, offsets.diff(), strict=False)])
    torch.testing.assert_close(vp_loss(logits[shuffled], offsets, shares, cost), loss)
    torch.testing.assert_close(vp_loss(logits[:, [2, 0, 1]], offsets, shares[:, [2, 0, 1]], cost), loss)
    alone = [
        vp_loss(logits[start:stop], torch.tensor([0, stop - start]), shares[b : b + 1], cost)
        for b, (start, stop) in enumerate(itertools.pairwise(offsets.tolist()))
    ]
    torch.testing.assert_close(torch.stack(alone).mean(), loss)


@both_costs
def test_uninformed_predictions_are_not_its_minimum(cost):
    """Section 2.1: predicting Y everywhere minimises the KL loss; here vertices with the right counts do."""
    _, offsets, shares, labels = problem((40,), counts=True)
    uninformed, vertices = shares.log().expand(40, 3), 30.0 * one_hot(labels, 3).double()
    assert vp_loss(vertices, offsets, shares, cost) < 1e-6 < 0.1 < vp_loss(uninformed, offsets, shares, cost)


@both_costs
def test_one_class_costs_nothing(cost):
    logits, offsets, shares, _ = problem(n_classes=1)
    loss = vp_loss(logits, offsets, shares, cost)
    loss.backward()
    assert float(loss.detach()) == 0 and not logits.grad.any()


@both_costs
def test_confident_and_wrong_in_float32_it_stays_finite_and_moves_the_logits(cost):
    _, offsets, shares, labels = problem((64, 7), counts=True)
    logits = (60.0 * one_hot((labels + 1) % 3, 3)).float().requires_grad_()
    loss = vp_loss(logits, offsets, shares.float(), cost)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all() and (cost == "l2" or logits.grad.any())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda logits, offsets, shares: shares[1].mul_(2), "bag 1: proportions sum to 2"),
        (lambda logits, offsets, shares: shares[1, 2].fill_(-0.2), "bag 1: proportion of class 2 is -0.2"),
        (lambda logits, offsets, shares: shares[0, 1].fill_(torch.nan), "bag 0: proportion of class 1 is nan"),
        (lambda logits, offsets, shares: offsets[2].fill_(5), "bag 1: empty"),
        (lambda logits, offsets, shares: logits[6, 1].fill_(torch.nan), "bag 1: logits of instance 6, class 1 is nan"),
        (lambda logits, offsets, shares: logits[15, 1].fill_(torch.inf), "bag 2: logits of instance 15, class 1"),
        (lambda logits, offsets, shares: offsets[3].fill_(16), "bag 2: offsets end at 16, not at M = 17"),
    ],
)
@both_costs
def test_a_bag_that_cannot_be_is_named(cost, spoil, message):
    logits, offsets, shares, _ = problem()
    logits = logits.detach()
    spoil(logits, offsets, shares)
    with pytest.raises(ValueError, match=message):
        vp_loss(logits, offsets, shares, cost)


def test_an_unknown_cost_is_named():
    logits, offsets, shares, _ = problem()
    with pytest.raises(ValueError, match="one of ce, l2, not 'l1'"):
        vp_loss(logits, offsets, shares, "l1")


def test_mse_is_between_the_mean_prediction_and_the_proportions():
    logits, offsets, shares, _ = problem((4, 6))
    p = logits.softmax(1)
    expected = torch.stack([(p[:4].mean(0) - shares[0]) ** 2, (p[4:].mean(0) - shares[1]) ** 2]).mean()
    torch.testing.assert_close(mse_loss(logits.log_softmax(1), offsets, shares), expected)
    assert mse_loss(shares[:1].log().expand(4, 3), torch.tensor([0, 4]), shares[:1]) < 1e-30


def test_entropy_is_in_nats_and_zero_at_a_vertex():
    assert float(entropy(torch.full((5, 3), 1 / 3))) == pytest.approx(math.log(3))
    assert float(entropy(torch.eye(3))) == 0
    assert float(entropy(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))) == pytest.approx(math.log(2) / 2)
