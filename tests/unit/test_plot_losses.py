"""Symmetric cross-entropy of PLOT against its formula written out and autograd; mixup against its definition."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from papers.plot.loss import LOG_ZERO, Mixup, mixup, sce_loss, symmetric_cross_entropy
from shared.bags import BagError
from shared.methods import Batch, LossMethod, kl_loss
from shared.networks import MLP

WEIGHTS = [(1.0, 1.0), (0.1, 1.0), (6.0, 0.1)]
# One-hot targets, then soft ones; for each of WEIGHTS both readings of log 0.
GOLDEN = [
    *(2.611679580928058, 4.986231751085309, 1.901826188127759, 4.276378358285009, 4.91465131089477, 5.152106527910496),
    *(
        1.6059849728138083,
        1.7426702539727317,
        0.8871315800135084,
        1.023816861172432,
        4.873081850083346,
        4.886750378199238,
    ),
]


def draw(instances=12, n_classes=5, seed=0, soft=False):
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(instances, n_classes, generator=rng, dtype=torch.float64)
    labels = torch.randint(n_classes, (instances,), generator=rng)
    targets = one_hot(labels, n_classes).double()
    if soft:
        targets = (targets + torch.rand(instances, n_classes, generator=rng).double() ** 4).softmax(1)
        targets[::2] = one_hot(labels, n_classes)[::2].double()
    return logits, labels, targets


def by_hand(log_p, targets, alpha, beta, log_zero):
    """The authors' code in NumPy: log of the clipped targets, one entry after another."""
    p, total = np.exp(log_p), 0.0
    for i, k in np.ndindex(*p.shape):
        total -= alpha * targets[i, k] * log_p[i, k] + beta * p[i, k] * math.log(max(targets[i, k], math.exp(log_zero)))
    return total / len(p)


def method_of(kind, *arguments, seed=0, **settings):
    torch.manual_seed(seed)
    network = MLP(6, 8, 3)
    return kind(network, torch.optim.Adam(network.parameters(), 1e-2), *arguments, **settings)


# ------------------------------------------------------------------------------------------- symmetric cross-entropy


@pytest.mark.parametrize("log_zero", LOG_ZERO.values(), ids=LOG_ZERO)
@pytest.mark.parametrize("alpha, beta", WEIGHTS)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_the_formula(soft, alpha, beta, log_zero):
    logits, _, targets = draw(soft=soft)
    log_p = logits.log_softmax(1)
    ours = symmetric_cross_entropy(log_p, targets, alpha=alpha, beta=beta, log_zero=log_zero)
    assert float(ours) == pytest.approx(by_hand(log_p.numpy(), targets.numpy(), alpha, beta, log_zero), rel=1e-13)


def test_without_the_reverse_term_it_is_cross_entropy():
    """It is the proportion loss on bags of one; with classes as labels, torch's own."""
    logits, labels, targets = draw()
    log_p = logits.log_softmax(1)
    ours = symmetric_cross_entropy(log_p, targets, beta=0)
    torch.testing.assert_close(ours, kl_loss(log_p, torch.arange(13), targets), rtol=1e-14, atol=0)
    assert ours == sce_loss(log_p, torch.arange(13), targets, beta=0)
    torch.testing.assert_close(ours, cross_entropy(logits, labels), rtol=1e-14, atol=0)


@pytest.mark.parametrize("log_zero", LOG_ZERO.values(), ids=LOG_ZERO)
def test_the_reverse_term_on_hard_labels_is_the_mean_absolute_error(log_zero):
    """Wang et al. 2019, Section 3.3: RCE = -A (1 - p_y), which is -A / 2 times the absolute error."""
    logits, _, targets = draw()
    p = logits.softmax(1)
    ours = symmetric_cross_entropy(p.log(), targets, alpha=0, log_zero=log_zero)
    torch.testing.assert_close(ours, -log_zero / 2 * (p - targets).abs().sum(1).mean(), rtol=1e-12, atol=0)


def test_the_two_readings_of_log_zero():
    assert LOG_ZERO["paper"] == -4 and math.exp(LOG_ZERO["code"]) == pytest.approx(1e-4)
    log_p, targets = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[1.0, 0.0]])
    for log_zero in LOG_ZERO.values():
        ours = symmetric_cross_entropy(log_p, targets, alpha=0, log_zero=log_zero)
        assert float(ours) == pytest.approx(-0.8 * log_zero, rel=1e-6)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_gradient_against_differences(soft):
    logits, _, targets = draw(instances=4, n_classes=3, soft=soft)

    def loss(x):
        return symmetric_cross_entropy(x.log_softmax(1), targets, alpha=0.1, log_zero=LOG_ZERO["code"])

    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
def test_gradients_are_finite_where_predictions_saturate(scale, dtype):
    logits, _, targets = draw(instances=200, soft=True)
    for labels in (targets, one_hot(targets.argmin(1), 5)):
        x = (scale * logits).to(dtype).requires_grad_()
        symmetric_cross_entropy(x.log_softmax(1), labels.to(dtype)).backward()
        assert x.grad.isfinite().all() and x.grad.abs().max() <= 5


def test_a_probability_of_zero_harms_only_where_it_is_the_target():
    log_p = torch.tensor([[0.0, -torch.inf]], requires_grad=True)
    loss = symmetric_cross_entropy(log_p, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss == 0 and log_p.grad.isfinite().all()
    assert symmetric_cross_entropy(log_p, torch.tensor([[0.5, 0.5]])) == torch.inf


def test_golden_values():
    """What the loss was when it was written; the seeds of torch's generators are not involved."""
    log_p = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, -0.5]], dtype=torch.float64).log_softmax(1)
    hard = torch.tensor([[1.0, 0, 0], [1, 0, 0]], dtype=torch.float64)
    soft = torch.tensor([[0.6, 0.4, 0], [0.2, 0.79, 0.01]], dtype=torch.float64)
    values = [
        float(symmetric_cross_entropy(log_p, targets, alpha=alpha, beta=beta, log_zero=log_zero))
        for targets in (hard, soft)
        for alpha, beta in WEIGHTS
        for log_zero in LOG_ZERO.values()
    ]
    assert values == pytest.approx(GOLDEN, rel=1e-12)


def test_what_cannot_be_is_refused():
    p = torch.full((3, 2), 0.5)
    with pytest.raises(ValueError, match=r"must be \(3, 2\), got \(1, 2\)"):
        symmetric_cross_entropy(p.log(), torch.ones(1, 2))
    with pytest.raises(ValueError, match="log_zero < 0"):
        symmetric_cross_entropy(p.log(), p, log_zero=0.0)
    with pytest.raises(BagError, match="bag 1 has 2 instances"):
        sce_loss(p.log(), torch.tensor([0, 1, 3]), p[:2])


# ------------------------------------------------------------------------------------------------------------- mixup


@pytest.mark.parametrize("share_weight", [True, False])
@pytest.mark.parametrize("size", [1, 3])
def test_rows_are_mixed_with_a_permutation_of_them(size, share_weight):
    """Inputs that tell their bag and place: weights and partners are read off the targets and must explain x."""
    bags = 7
    x = torch.arange(bags * size, dtype=torch.float64)[:, None, None] + torch.tensor([[0.0, 100.0]]).double()
    torch.manual_seed(3)
    mixed, targets = mixup(x, torch.eye(bags).double(), 1.0, share_weight=share_weight)
    own = targets.diagonal()
    partner = (targets - torch.diag(own)).argmax(1)
    alone = own > 1 - 1e-12
    partner[alone] = torch.arange(bags)[alone]
    assert sorted(partner.tolist()) == list(range(bags))
    assert len({round(float(w), 6) for w in own[~alone]}) == (1 if share_weight else int((~alone).sum()))
    torch.testing.assert_close(targets.sum(1), torch.ones(bags).double())
    table, weight = x.view(bags, size, 2), own[:, None, None]
    torch.testing.assert_close(mixed.view(bags, size, 2), weight * table + (1 - weight) * table[partner])


def test_mixed_proportions_are_those_of_the_mixed_instances():
    rng = torch.Generator().manual_seed(0)
    labels = one_hot(torch.randint(4, (6, 8), generator=rng), 4).double()
    torch.manual_seed(0)
    mixed, proportions = mixup(labels.flatten(0, 1), labels.mean(1), 0.4, share_weight=False)
    torch.testing.assert_close(mixed.view(6, 8, 4).mean(1), proportions)


@pytest.mark.parametrize("a", [0.01, 0.2, 1.0, 8.0])
def test_weights_follow_the_beta_distribution(a):
    """Variance 1 / (4 (2 a + 1)), read off mixed random signs: E m^2 = E (w^2 + (1 - w)^2)."""
    signs = torch.randint(2, (40_000, 1), generator=torch.Generator().manual_seed(1)) * 2.0 - 1
    torch.manual_seed(0)
    mixed, _ = mixup(signs, signs, a, share_weight=False, check=False)
    assert mixed.isfinite().all() and mixed.abs().max() <= 1
    assert float(mixed.square().mean() / 2 - 1 / 4) == pytest.approx(1 / (4 * (2 * a + 1)), abs=0.005)


def test_the_global_generator_decides():
    x, targets = torch.randn(9, 2), torch.eye(9)
    torch.manual_seed(5)
    first = mixup(x, targets, 1.0)
    torch.manual_seed(5)
    again, other = mixup(x, targets, 1.0), mixup(x, targets, 1.0)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_no_concentration_mixes_and_draws_nothing():
    x, before = torch.randn(4, 2), torch.get_rng_state()
    mixed, targets = mixup(x, torch.eye(4), 0)
    assert mixed is x and torch.equal(targets, torch.eye(4)) and torch.equal(torch.get_rng_state(), before)


def test_images_keep_their_memory_format():
    x = torch.rand(4, 3, 8, 8).to(memory_format=torch.channels_last)
    for size in (1, 2):
        for share_weight in (True, False):
            mixed, _ = mixup(x, torch.eye(4)[: 4 // size], 1.0, share_weight=share_weight)
            assert mixed.is_contiguous(memory_format=torch.channels_last) and mixed.dtype == x.dtype


def test_what_cannot_be_mixed_is_refused():
    x = torch.zeros(5, 2)
    for targets, a in ((torch.eye(2), 1.0), (torch.eye(5), -1.0), (torch.eye(5), math.nan)):
        with pytest.raises(ValueError, match="cannot mix 5 inputs"):
            mixup(x, targets, a)


# -------------------------------------------------------------------------------------------------------- the method


@pytest.mark.parametrize("size, loss", [(1, sce_loss), (4, kl_loss)], ids=["stage two", "stage one"])
def test_the_method_is_a_step_on_the_mixed_batch(size, loss):
    x, proportions = torch.randn(8, 6), torch.rand(8 // size, 3).softmax(1)
    batch = Batch(x, torch.arange(8 // size + 1) * size, proportions)
    ours, plain = method_of(Mixup, loss, 1.0), method_of(LossMethod, loss)
    torch.manual_seed(1)
    mixed, targets = mixup(x, proportions, 1.0)
    torch.manual_seed(1)
    assert torch.equal(ours.update(batch)["loss"], plain.update(Batch(mixed, batch.offsets, targets))["loss"])
    assert torch.equal(ours.predict(x), plain.predict(x))
    assert not torch.equal(mixed, x)


def test_without_mixing_it_is_the_plain_method():
    batch = Batch(torch.randn(8, 6), torch.tensor([0, 8]), torch.tensor([[0.5, 0.25, 0.25]]))
    ours, plain = method_of(Mixup, kl_loss, 0.0), method_of(LossMethod, kl_loss)
    assert torch.equal(ours.update(batch)["loss"], plain.update(batch)["loss"])


def test_the_state_goes_into_a_checkpoint():
    batch = Batch(torch.randn(6, 6), torch.arange(7), torch.eye(3).repeat(2, 1))
    ours, other = method_of(Mixup, sce_loss, 1.0), method_of(Mixup, sce_loss, 1.0, seed=9)
    ours.update(batch)
    other.load_state_dict(ours.state_dict())
    losses = []
    for method in (ours, other):
        torch.manual_seed(2)
        losses.append(method.update(batch)["loss"])
    assert torch.equal(*losses)


def test_ragged_bags_are_refused_by_name():
    method = method_of(Mixup, kl_loss, 1.0)
    with pytest.raises(BagError, match="bag 2 has 1 instances and bag 0 has 2"):
        method.update(Batch(torch.zeros(5, 6), torch.tensor([0, 2, 4, 5]), torch.full((3, 3), 1 / 3)))
