"""The losses of Dulac-Arnold et al. 2019 against the paper's equations, enumeration and autograd in float64."""

import itertools

import pytest
import torch

from papers.rot import checks
from papers.rot.loss import avgkl_loss, relax_lp_loss, rot_loss, rot_tau
from shared.bags import segment_sum
from shared.methods import kl_loss

ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9)


def problem(sizes, n_classes=4, seed=0, scale=2.0):
    rng = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *itertools.accumulate(sizes)])
    log_p = (scale * torch.randn(sum(sizes), n_classes, generator=rng, dtype=torch.float64)).log_softmax(1)
    labels = torch.randint(n_classes, (sum(sizes),), generator=rng)
    one_hot = torch.nn.functional.one_hot(labels, n_classes).double()
    z = segment_sum(one_hot, offsets) / offsets.diff()[:, None]
    return log_p.requires_grad_(), offsets, z


def equation_6(u, log_p, z, alpha, epsilon):
    """Equation 6 for one bag, term by term as printed, but for H: Shannon's, without the paper's constant."""
    n = len(u)
    entropy = -torch.special.xlogy(u, u).sum()
    q = u.sum(0) / n
    kl = (torch.special.xlogy(q, q) - torch.special.xlogy(q, z) - q + z).sum()
    return alpha / n * (-(u * log_p).sum() - epsilon * entropy) + (1 - alpha) * kl


@pytest.mark.parametrize("alpha", ALPHAS)
def test_proposition_2_at_bags_of_one_rot_is_alpha_times_cross_entropy(alpha):
    log_p, offsets, z = problem([1] * 12)
    rot, entropy = rot_loss(log_p, offsets, z, alpha=alpha), alpha * kl_loss(log_p, offsets, z)
    torch.testing.assert_close(rot, entropy, atol=1e-6, rtol=0)
    for loss in (rot, rot_loss(log_p, offsets, z, alpha=alpha, gradient="envelope")):
        of_loss, of_entropy = (torch.autograd.grad(x, log_p, retain_graph=True)[0] for x in (loss, entropy))
        torch.testing.assert_close(of_loss, of_entropy, atol=1e-6, rtol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("epsilon", [0.3, 1.0])
def test_rot_is_the_minimum_of_equation_6(alpha, epsilon):
    """Against an oracle that knows nothing of scalings: gradient descent over soft labels."""
    log_p, offsets, z = problem([7], seed=1)
    held = log_p.detach()
    logits = held.clone().requires_grad_()
    present = z[0] > 0
    optimiser = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def soft_labels():
        return logits.masked_fill(~present, -torch.inf).softmax(1)

    def closure():
        optimiser.zero_grad()
        value = equation_6(soft_labels()[:, present], held[:, present], z[0][present], alpha, epsilon)
        value.backward()
        return value

    optimiser.step(closure)
    rot = rot_loss(log_p, offsets, z, alpha=alpha, epsilon=epsilon, iterations=3000)
    torch.testing.assert_close(rot, closure().detach(), atol=3e-6, rtol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_envelope_gradient_is_alpha_u_over_n_and_meets_the_unrolled_one(alpha):
    log_p, offsets, z = problem([5, 9, 3])
    unrolled, envelope = (
        rot_loss(log_p, offsets, z, alpha=alpha, iterations=500, gradient=g) for g in ("unrolled", "envelope")
    )
    torch.testing.assert_close(unrolled, envelope, atol=1e-5, rtol=0)
    gradients = [torch.autograd.grad(loss, log_p)[0] for loss in (unrolled, envelope)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=0)
    # - alpha U / n, averaged over three bags; every row of U sums to one.
    torch.testing.assert_close(
        gradients[1].sum(1), -alpha / 3 / offsets.diff().double().repeat_interleave(offsets.diff())
    )


def test_rot_differentiates_through_its_iterations():
    log_p, offsets, z = problem([3, 4], n_classes=3)
    assert (z == 0).any()  # an absent class must not make a NaN
    torch.autograd.gradcheck(lambda x: rot_loss(x, offsets, z, alpha=0.5, iterations=6), log_p)


@pytest.mark.parametrize("gradient", ["unrolled", "envelope"])
@pytest.mark.parametrize("size", [1, 8, 1024])
def test_rot_stays_finite_in_float32_for_confident_wrong_predictions(gradient, size):
    log_p, offsets, z = problem([size] * 2, n_classes=10, scale=60)
    log_p = log_p.detach().float().requires_grad_()
    loss = rot_loss(log_p, offsets, z.float(), alpha=0.1, gradient=gradient)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(log_p.grad).all()


def test_equation_5_is_the_least_cost_of_all_labelings_with_the_right_counts():
    log_p, offsets, z = problem([6, 6], n_classes=3, seed=3)
    best = []
    for b in range(2):
        costs, counts = -log_p[6 * b : 6 * b + 6].detach(), (z[b] * 6).round()
        labelings = torch.tensor(list(itertools.product(range(3), repeat=6)))
        fits = (torch.nn.functional.one_hot(labelings, 3).sum(1) == counts).all(1)
        best.append(costs.gather(1, labelings[fits].T).mean(0).min())
    loss = relax_lp_loss(log_p, offsets, z)
    torch.testing.assert_close(loss, torch.stack(best).mean())
    (gradient,) = torch.autograd.grad(loss, log_p)
    plan = -gradient * 2 * 6
    assert torch.minimum(plan, 1 - plan).abs().max() < 1e-9  # one-hot: the relaxation is tight


def test_equation_5_lies_under_equation_6_as_epsilon_vanishes_and_alpha_drops():
    """alpha -> 0 makes the class marginal hard; epsilon -> 0 removes the entropy: Relax-OT / alpha -> Equation 5."""
    log_p, offsets, z = problem([6], n_classes=3, seed=3)
    lp = relax_lp_loss(log_p, offsets, z)
    near = rot_loss(log_p, offsets, z, alpha=1e-3, epsilon=0.01, iterations=20_000) / 1e-3
    torch.testing.assert_close(near, lp, atol=0.02, rtol=0)


def test_avgkl_and_kl_agree_at_bags_of_one_and_order_by_jensen():
    log_p, offsets, z = problem([1] * 6)
    torch.testing.assert_close(avgkl_loss(log_p, offsets, z), kl_loss(log_p, offsets, z))
    log_p, offsets, z = problem([4, 7])
    pieces = [(log_p[:4], z[0]), (log_p[4:], z[1])]
    torch.testing.assert_close(
        avgkl_loss(log_p, offsets, z), torch.stack([-(row @ target).mean() for row, target in pieces]).mean()
    )
    assert avgkl_loss(log_p, offsets, z) > kl_loss(log_p, offsets, z)


def test_the_propositions_hold_on_random_predictions():
    worst = checks.check(seed=0)
    assert max(worst.values()) < 1e-6, worst


@pytest.mark.parametrize(("alpha", "epsilon"), [(0, 1), (1.1, 1), (0.5, 0)])
def test_parameters_out_of_range_are_refused(alpha, epsilon):
    with pytest.raises(ValueError, match=f"alpha={alpha}, epsilon={epsilon}"):
        rot_tau(alpha, epsilon)
    log_p, offsets, z = problem([2])
    with pytest.raises(ValueError, match="unrolled or envelope"):
        rot_loss(log_p, offsets, z, alpha=0.5, gradient="implicit")
