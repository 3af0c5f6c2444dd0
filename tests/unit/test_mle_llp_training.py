"""Training runs of Barucic & Kybic 2022: wrong here, and a minibatch has other targets than its instances', a run goes
on to other numbers after a kill, or is another experiment than its record says.
"""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from papers.mle_llp.data import Data
from papers.mle_llp.enumeration import enumerated_posterior
from papers.mle_llp.method import lessons, network_of
from papers.mle_llp.task_learning import convergence
from papers.mle_llp.train import train
from shared.bags import variable_size
from shared.config import plan
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
