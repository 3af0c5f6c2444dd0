"""The algorithm of Barucic & Kybic 2022, as the training loop asks for it: wrong here, and a run learns from targets
that are not the posterior, climbs no likelihood, or stops where the paper does not.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from papers.mle_llp.em import expectation, single, stops_at
from papers.mle_llp.loss import count_loss
from papers.mle_llp.train import train
from shared.bags import Bags, variable_size
from shared.methods import LossMethod, kl_loss
from shared.training import Inputs, Schedule, fit
from tests.unit.test_mle_llp_training import CPU, Watch, made, posteriors, spec_of


class TestExpectation:
    """The E-step as the loop asks for it."""

    def test_it_is_the_posterior_of_each_instance_in_the_order_of_the_bags(self):
        data, bags = made()
        phi, _ = expectation(data.inputs, bags)(Watch(), {"epoch": []})
        of_instance = posteriors(bags)
        np.testing.assert_allclose(phi[:, 1], [of_instance[i] for i in bags.indices.tolist()], atol=1e-5)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_its_rows_sum_to_one_and_over_a_bag_to_its_counts(self, n_classes):
        _, bags = made(n_classes=n_classes)
        torch.manual_seed(0)
        method = LossMethod(nn.Linear(1, n_classes), None, kl_loss)
        phi, said = expectation(Inputs(np.random.default_rng(1).normal(size=(90, 1)), CPU), bags)(method, {})
        phi = phi.double().numpy()
        assert phi.shape == (len(bags.indices), n_classes) and phi.min() >= 0 and set(said) == {"log_likelihood"}
        np.testing.assert_allclose(phi.sum(1), 1, atol=1e-6)
        counts = np.round(bags.proportions * bags.sizes[:, None])
        np.testing.assert_allclose(np.add.reduceat(phi, bags.offsets[:-1]), counts, atol=1e-5)
        assert 0.01 < np.abs(phi - np.repeat(bags.proportions, bags.sizes, 0)).max()

    def test_the_likelihood_it_reports_is_minus_the_loss_of_the_counts(self):
        data, bags = made()
        _, said = expectation(data.inputs, bags)(Watch(), {})
        log_p = Watch().predict(data.inputs.batch(bags.indices)).log()
        loss = count_loss(log_p, torch.from_numpy(bags.offsets), torch.from_numpy(bags.proportions))
        assert said["log_likelihood"] == pytest.approx(-float(loss), rel=1e-5)

    def test_from_even_predictions_every_instance_gets_the_proportions_of_its_bag(self):
        data, bags = made()
        phi, said = expectation(data.inputs, bags)(Watch(lambda numbers: np.full(len(numbers), 0.5)), {})
        np.testing.assert_allclose(phi, np.repeat(bags.proportions, bags.sizes, 0), atol=1e-6)
        sizes, positives = bags.sizes.tolist(), np.rint(bags.sizes * bags.proportions[:, 1]).astype(int).tolist()
        ways = [math.comb(n, y) / 2**n for n, y in zip(sizes, positives, strict=True)]
        assert said["log_likelihood"] == pytest.approx(np.mean(np.log(ways)), rel=1e-6)

    def test_a_network_that_is_sure_of_the_wrong_label_is_corrected_and_not_refused(self):
        """Float32 predictions of exactly 0 and 1 meet bags that they contradict: training must go on."""
        data, bags = made()
        phi, said = expectation(data.inputs, bags)(Watch(lambda numbers: np.zeros(len(numbers))), {})
        np.testing.assert_allclose(phi, np.repeat(bags.proportions, bags.sizes, 0), atol=1e-4)
        assert math.isfinite(said["log_likelihood"]) and said["log_likelihood"] < -50


class TestStopping:
    """The paper's epsilon: the change of the mean log-likelihood between two E-steps."""

    @pytest.fixture
    def ask(self):
        """Does the training go on, after these likelihoods and with this epsilon? Also the likelihood of now."""
        data, bags = made()
        now = expectation(data.inputs, bags)(Watch(), {})[1]["log_likelihood"]

        def goes_on(before, change):
            curves = {"log_likelihood": [now + difference for difference in before]} if before else {"epoch": []}
            return expectation(data.inputs, bags, change)(Watch(), curves) is not None

        return goes_on

    def test_it_stops_below_epsilon_and_not_above_whether_it_rises_or_falls(self, ask):
        assert [ask([d], 1e-2) for d in (-1.1e-2, -0.9e-2, 0.0, 0.9e-2, 1.1e-2)] == [True, False, False, False, True]

    def test_only_the_last_change_counts(self, ask):
        assert ask([-5.0, 0.0, -1.0], 0.1) and not ask([-5.0, -1.0, -0.05], 0.1)

    def test_it_never_stops_before_there_are_two(self, ask):
        assert ask([], math.inf)

    def test_at_zero_it_never_stops_even_if_nothing_moves(self, ask):
        assert ask([0.0], 0) and ask([0.0, 0.0, 0.0], 0)

    def test_where_it_would_have_stopped_is_read_from_the_curve(self):
        curve = [-3.0, -2.0, -1.5, -1.49, -1.2, -1.195]
        assert [stops_at(curve, change) for change in (2.0, 0.6, 0.1, 0.008, 0.001, 0)] == [1, 2, 3, 5, None, None]
        assert stops_at([-1.0, -1.0], 0.1) == 1 and stops_at([-1.0, -1.0], 0) is None
        assert stops_at([-1.0], 9.0) is None and stops_at([], 9.0) is None

    def test_a_run_that_stops_is_the_beginning_of_the_run_that_does_not(self, data_root):
        """And what is recorded of a run at equal epochs, its `stop_epoch`, is where the rule does stop."""
        longer = {"epochs": 10, "learning_rate": 0.02}
        whole = train(spec_of("mle_llp", **longer), device="cpu").curves
        moves, lengths = np.abs(np.diff(whole["log_likelihood"])), []
        for change in (9.0, *np.sort(moves)[:2] * 1.001, moves.min() * 0.999):
            curves = train(spec_of("mle_llp", stop_change=float(change), **longer), device="cpu").curves
            n = stops_at(whole["log_likelihood"], change)
            assert curves == {name: values[:n] for name, values in whole.items()}
            lengths.append(n)
        assert lengths[0] == 1 and 1 < lengths[1] < 10 and lengths[3] is None and len(whole["epoch"]) == 10


class TestMaximisation:
    """Equation 11, and what EM promises."""

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_the_loss_is_cross_entropy_to_the_posterior(self, n_classes):
        rng = torch.Generator().manual_seed(0)
        logits = torch.randn(40, n_classes, generator=rng, dtype=torch.float64).requires_grad_()
        phi = torch.rand(40, n_classes, generator=rng, dtype=torch.float64)
        phi[:5] = torch.eye(n_classes)[0]
        phi = phi / phi.sum(1, keepdim=True)
        bags = single(Bags(np.arange(40), np.array([0, 7, 9, 40]), np.eye(n_classes)[[0, 1, 1]]), phi.numpy())
        offsets, targets = torch.from_numpy(bags.offsets), torch.from_numpy(bags.proportions)
        (ours,) = torch.autograd.grad(kl_loss(logits.log_softmax(1), offsets, targets), logits)
        p = logits.softmax(1)
        if n_classes == 2:
            plain = -(phi[:, 1] * p[:, 1].log() + (1 - phi[:, 1]) * (1 - p[:, 1]).log()).mean()
        else:
            plain = nn.functional.cross_entropy(logits, phi)
        torch.testing.assert_close(ours, torch.autograd.grad(plain, logits)[0], atol=1e-12, rtol=0)

    def test_its_first_step_goes_up_the_likelihood(self):
        """At the weights of the E-step, the gradient of the M-step is that of Equation 6 (Fisher's identity)."""
        _, bags = made()
        x = np.random.default_rng(2).normal(size=(90, 3)).astype(np.float32)
        inputs, network = Inputs(x, CPU), nn.Linear(3, 2)
        method = LossMethod(network, None, kl_loss)
        phi, _ = expectation(inputs, bags)(method, {})
        log_p, alone = network(inputs.batch(bags.indices)).log_softmax(1), single(bags, phi.numpy())
        of_em = kl_loss(log_p, torch.from_numpy(alone.offsets), phi)
        of_counts = count_loss(log_p, torch.from_numpy(bags.offsets), torch.from_numpy(bags.proportions))
        for parameter in network.parameters():
            ours, wanted = (torch.autograd.grad(v, parameter, retain_graph=True)[0] for v in (of_em, of_counts))
            torch.testing.assert_close(len(bags.indices) * ours, len(bags) * wanted, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("seed", range(3))
    def test_with_a_full_m_step_the_likelihood_never_falls(self, seed):
        """The loop, `LossMethod` and the E-step together, on a logistic model with many full-batch steps an epoch."""

        class Thorough(LossMethod):
            def update(self, batch):
                return [super(Thorough, self).update(batch) for _ in range(40)][-1]

        rng = np.random.default_rng(seed)
        x = rng.normal(size=(120, 3)).astype(np.float32)
        labels = (rng.random(120) < 1 / (1 + np.exp(-x @ [2.0, -3.0, 0.5]))).astype(int)
        bags, inputs = variable_size(labels, 2, 2, 8, seed=seed), Inputs(x, CPU)
        torch.manual_seed(seed)
        network = nn.Linear(3, 2)
        curves = fit(
            Thorough(network, torch.optim.SGD(network.parameters(), lr=1.0), kl_loss),
            inputs,
            single(bags, np.eye(2)[1 - labels[bags.indices]]),  # wrong on purpose: these targets are renewed
            epochs=15,
            bags_per_batch=len(bags.indices),
            schedule=Schedule("constant", 1.0),
            seed=seed,
            evaluate=lambda method: {},
            renew=expectation(inputs, bags),
        )["curves"]
        likelihood = np.array(curves["log_likelihood"])
        assert np.diff(likelihood).min() > -1e-6 and likelihood[-1] - likelihood[0] > 0.3
