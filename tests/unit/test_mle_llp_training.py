"""Training by EM (Barucic & Kybic 2022): wrong here, and a run learns from targets that are not the posterior, stops
where the paper does not, goes on to other numbers after a kill, or is another experiment than its record says.
"""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from papers.mle_llp.data import Data
from papers.mle_llp.em import expectation, single, stops_at
from papers.mle_llp.enumeration import enumerated_posterior
from papers.mle_llp.loss import count_loss
from papers.mle_llp.method import lessons, network_of
from papers.mle_llp.task_learning import convergence
from papers.mle_llp.train import train
from shared.bags import Bags, variable_size
from shared.config import plan
from shared.methods import LossMethod, kl_loss
from shared.training import Inputs, Schedule, fit

CPU = torch.device("cpu")
LOSSES = ("supervised", "dllp", "llp_gan", "mle_llp", "mle_direct")
# Every number that a run of the smoke tier depends on, so that the tier may change without these tests.
SETTINGS = (
    {"dataset": "digits", "classes": "3 8", "bags": 30, "smallest": 2, "largest": 12, "test_bags": 0, "seed": 0}
    | {"validation_instances": 20, "counts": "given", "network": "mlp", "hidden": 32, "start": "even", "epochs": 4}
    | {"images_per_batch": 16, "learning_rate": 0.003, "weight_decay": 0, "schedule": "constant", "precision": "fp32"}
)
GAN = {"noise": 100, "generator_width": 16, "proportion_weight": 1, "gan_beta1": 0.5}
OF_ONE_LOSS = {"llp_gan": GAN, "mle_llp": {"stop_change": 0}}
CURVES = {  # of seed 1
    "mle_llp": {
        "train_loss": [0.691655, 0.678053, 0.643772, 0.576059],
        "log_likelihood": [-1.604183, -1.540440, -1.425044, -1.272899],
        "validation_loss": [0.703103, 0.698928, 0.699612, 0.705076],
    },
    "dllp": {
        "train_loss": [0.693723, 0.670964, 0.643130, 0.617256],
        "validation_loss": [0.695964, 0.706025, 0.718361, 0.767766],
    },
}


def spec_of(loss, **more):
    spec = next(run.spec for run in plan("mle_llp", "smoke") if run.method == loss)
    return spec.but(**SETTINGS | OF_ONE_LOSS.get(loss, {}) | more)


def made(n=90, n_classes=2, seed=0):
    """Instances that are their own numbers, and bags of all of them, in another order than theirs."""
    labels = np.random.default_rng(seed).integers(0, n_classes, n)
    inputs = Inputs(np.arange(n, dtype=np.float32)[:, None], CPU)
    data = Data(inputs, labels, n, None, tuple("abcd"[:n_classes]), {})
    return data, variable_size(labels, n_classes, 2, 8, seed=seed)


def wave(numbers):
    return 1 / (1 + np.exp(-2 * np.sin(numbers)))


class Watch:
    """Predictions that are a function `p` of the instance's number; notes what it is to learn."""

    def __init__(self, p=wave):
        self.p, self.seen = p, []

    def predict(self, x):
        positive = torch.from_numpy(self.p(x[:, 0].double().numpy())).float()
        return torch.stack([1 - positive, positive], 1)

    def update(self, batch):
        self.seen.append((batch.x[:, 0].long().numpy(), batch.offsets.numpy(), batch.proportions.numpy().copy()))
        return {"loss": torch.tensor(0.0)}

    def set_learning_rate(self, rate):
        pass


def watch(spec, data, bags, epochs=2):
    """What a method is given, batch by batch."""
    method = Watch()
    learned, more = lessons(spec.loss, data, bags, spec.images_per_batch)
    settings = {"epochs": epochs, "schedule": Schedule("constant", 1.0), "seed": 0, "evaluate": lambda method: {}}
    fit(method, data.inputs, learned, **settings, **more)
    return method.seen


def posteriors(bags):
    """{instance: P(positive | its bag)} under the predictions of `Watch`, by enumeration."""
    found = {}
    for b in range(len(bags)):
        own = bags.indices[bags.offsets[b] : bags.offsets[b + 1]]
        phi, _ = enumerated_posterior(wave(own.astype(float)), round(bags.proportions[b, 1] * len(own)))
        found |= dict(zip(own.tolist(), phi, strict=True))
    return found


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


class TestMinibatches:
    """An epoch of EM needs no whole bag; an epoch of the others needs nothing else."""

    @pytest.mark.parametrize("size", [1, 3, 16, 10_000])
    def test_a_bag_may_be_cut_and_each_instance_keeps_its_own_target(self, size):
        data, bags = made()
        seen, of_instance = watch(spec_of("mle_llp", images_per_batch=size), data, bags), posteriors(bags)
        steps = math.ceil((m := len(bags.indices)) / size)
        assert [len(numbers) for numbers, _, _ in seen] == 2 * [*[size] * (steps - 1), m - size * (steps - 1)]
        for epoch in (seen[:steps], seen[steps:]):
            assert sorted(itertools.chain(*(numbers for numbers, _, _ in epoch))) == sorted(bags.indices)
        for numbers, offsets, targets in seen:
            assert np.array_equal(offsets, np.arange(len(numbers) + 1))
            np.testing.assert_allclose(targets[:, 1], [of_instance[i] for i in numbers.tolist()], atol=1e-5)
        bag_of = dict(zip(bags.indices.tolist(), np.repeat(np.arange(len(bags)), bags.sizes).tolist(), strict=True))
        step_of = {i: step for step, (numbers, _, _) in enumerate(seen[:steps]) for i in numbers.tolist()}
        cut = {b for b in range(len(bags)) if len({step_of[i] for i in bag_of if bag_of[i] == b}) > 1}
        assert bool(cut) == (size < m)

    def test_instances_come_in_an_order_of_their_own_in_every_epoch(self):
        data, bags = made()
        seen = watch(spec_of("mle_llp", images_per_batch=10_000), data, bags)
        first, second = (numbers.tolist() for numbers, _, _ in seen)
        assert first != second and bags.indices.tolist() not in (first, second)

    def test_supervised_learns_the_label_of_each_instance(self):
        data, bags = made()
        for numbers, offsets, targets in watch(spec_of("supervised"), data, bags):
            assert np.array_equal(targets.argmax(1), data.labels[numbers]) and set(targets.flat) == {0.0, 1.0}
            assert np.array_equal(offsets, np.arange(len(numbers) + 1))

    @pytest.mark.parametrize("loss", ["dllp", "llp_gan", "mle_direct"])
    def test_the_other_methods_get_whole_bags_and_about_as_many_instances(self, loss):
        data, bags = made()
        seen = watch(spec_of(loss, images_per_batch=16), data, bags, epochs=1)
        known = {tuple(bags.indices[a:b].tolist()): b for a, b in itertools.pairwise(bags.offsets.tolist())}
        got = [tuple(numbers[a:b]) for numbers, offsets, _ in seen for a, b in itertools.pairwise(offsets)]
        assert sorted(got) == sorted(known)
        assert 10 < np.mean([len(numbers) for numbers, _, _ in seen[:-1]]) < 22
        one_by_one = watch(spec_of(loss, images_per_batch=1), data, bags, epochs=1)
        assert {len(offsets) for _, offsets, _ in one_by_one} == {2}

    @pytest.mark.parametrize("size", [2, 1000])
    def test_training_works_with_batches_shorter_than_a_bag_and_longer_than_all(self, size, data_root):
        rate = {2: 0.003, 1000: 0.03}[size]  # 1000: one step an epoch
        spec = spec_of("mle_llp", images_per_batch=size, learning_rate=rate, epochs={2: 2, 1000: 12}[size])
        assert train(spec, device="cpu").metrics["last"]["accuracy"] > 85


class TestTrain:
    """One run, from its spec to its numbers."""

    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_method_learns_to_tell_two_digits_apart(self, loss, data_root):
        result = train(spec_of(loss, epochs=8), device="cpu")
        assert result.metrics["last"]["accuracy"] > 85
        curves = result.curves
        shared = {"epoch", "train_loss", "test_accuracy", "test_class_accuracy", "validation_loss"}
        assert shared <= set(curves) and ("log_likelihood" in curves) == (loss == "mle_llp")
        assert curves["epoch"] == list(range(1, 9)) and {len(values) for values in curves.values()} == {8}
        for rule, metrics in result.metrics.items():
            assert metrics["accuracy"] == curves["test_accuracy"][metrics["epoch"] - 1], rule
            assert metrics["class_accuracy"] == curves["test_class_accuracy"][metrics["epoch"] - 1]
        assert set(result.metrics) == {"last", "bag-validation", "oracle"}
        assert convergence(curves, 8).items() <= result.metrics["last"].items()
        assert result.bags["train"]["bags"] == 30
        assert len({bags["sha256"] for bags in result.bags.values()}) == 3
        right = np.array(curves["test_accuracy"]) / 100 * result.bags["test"]["instances"]
        np.testing.assert_allclose(right, np.rint(right), atol=1e-6)  # of test instances and of no others
        assert set(result.data) == {"digits"} and result.device == "cpu"
        assert result.cost["train_s"] > 0 and result.cost["peak_memory_mb"] > 0
        json.dumps([result.metrics, result.curves, result.bags, result.data, result.cost], allow_nan=False)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_one_spec_gives_one_result_and_another_seed_another(self, loss, data_root):
        same = [train(spec_of(loss, epochs=2), device="cpu") for _ in range(2)]
        assert all(getattr(same[0], part) == getattr(same[1], part) for part in ("metrics", "curves", "bags", "data"))
        other = train(spec_of(loss, epochs=2, seed=1), device="cpu")
        assert other.curves != same[0].curves and other.bags != same[0].bags

    def test_methods_of_one_seed_are_given_the_same_bags(self, data_root):
        results = [train(spec_of(loss, epochs=1), device="cpu") for loss in LOSSES]
        assert all(result.bags == results[0].bags for result in results)

    @pytest.mark.parametrize("at", [4, 22])
    @pytest.mark.parametrize("loss", ["mle_llp", "llp_gan"])
    def test_killed_it_goes_on_to_the_same_numbers(self, loss, at, data_root, tmp_path):
        class Killed(BaseException):
            pass

        fractions, spec = [], spec_of(loss, epochs=3)

        def report(fraction, numbers):
            fractions.append(fraction)
            if len(fractions) == at:
                raise Killed

        session = {"key": "k", "checkpoint": tmp_path / "run.pt", "checkpoint_every": 0.0, "report": report}
        with pytest.raises(Killed):
            train(spec, device="cpu", **session)
        resumed, straight = train(spec, device="cpu", **session), train(spec, device="cpu")
        assert fractions == sorted(fractions) and 0 < fractions[at - 1] < 1  # it did not start anew
        assert all(getattr(resumed, part) == getattr(straight, part) for part in ("metrics", "curves", "bags", "data"))

    def test_the_likelihood_itself_is_what_em_climbs(self, data_root):
        of_em, direct = (
            train(spec_of(loss, images_per_batch=10_000, epochs=1), device="cpu").curves
            for loss in ("mle_llp", "mle_direct")
        )
        assert direct["train_loss"][0] == pytest.approx(-of_em["log_likelihood"][0], rel=1e-5)

    def test_permuted_counts_teach_nothing_however_long(self, data_root):
        """The control. Bags of one size, so that there are many to exchange counts with; with true ones they teach."""

        def accuracy(**more):
            spec = spec_of("mle_llp", bags=0, smallest=4, largest=4, **more)
            return train(spec, device="cpu").metrics["last"]["accuracy"]

        assert min(accuracy(seed=seed) for seed in range(3)) > 85
        assert 25 < np.mean([accuracy(seed=seed, counts="permuted", epochs=10) for seed in range(5)]) < 65

    @pytest.mark.parametrize("loss", CURVES)
    def test_the_first_epochs_are_golden(self, loss, data_root):
        """Bags, initialisation, order, E-step and loss together; with other numbers every record is of another run."""
        curves = train(spec_of(loss, seed=1), device="cpu").curves
        for name, values in CURVES[loss].items():
            assert curves[name] == pytest.approx(values, rel=1e-4), name


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
@pytest.mark.parametrize("network", ["discriminator", "resnet18", "mlp"])
def test_an_even_start_predicts_every_class_alike_and_the_default_does_not(network):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    data = Data(Inputs(images, CPU), np.array([0, 1, 2, 0]), 2, None, ("a", "b", "c"), {})
    width = {} if network == "mlp" else {"width": 8}
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        p = {
            start: network_of(spec_of("mle_llp", start=start).but(network=network, **width), data, 0)
            .eval()(data.inputs.batch(np.arange(4)))
            .softmax(1)
            for start in ("even", "default")
        }
    torch.testing.assert_close(p["even"], torch.full((4, 3), 1 / 3))
    assert (p["default"] - 1 / 3).abs().max() > 1e-3
