"""The gpu and paper tiers at toy length: they start, stop, go on and end on a machine without a GPU."""

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from papers.rot import train as rot
from shared.config import find, plan
from shared.training import data, loop

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")

TOY = {"dataset": "simulated_images", "width": 4, "epochs": 2, "images_per_batch": 32, "tuning": "none"}
N_TRAIN, N_TEST = 96, 32


def spec_of(tier, loss, bag_size):
    return find("rot", tier, f"cifar10/{loss}/bag{bag_size}/seed0").spec.but(**TOY)


@pytest.fixture(autouse=True)
def few_images(data_root, monkeypatch):
    load = data.datasets.load

    def few(name):
        whole = load(name)
        return SimpleNamespace(
            **{f"{axis}_train": getattr(whole, f"{axis}_train")[:N_TRAIN] for axis in "xy"},
            **{f"{axis}_test": getattr(whole, f"{axis}_test")[:N_TEST] for axis in "xy"},
            sha256=whole.sha256,
            n_classes=whole.n_classes,
        )

    monkeypatch.setattr(data.datasets, "load", few)
    data.data_of.cache_clear()
    yield
    data.data_of.cache_clear()


@pytest.fixture(autouse=True)
def plain_convolutions():
    """Without oneDNN, whose gradient of a strided 1x1 convolution writes past its memory where channels are fewer
    than 16 and lie last (oneDNN issue 6035): at width 4 it crashes. The tiers' own width is 64."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker; many would wait for each other on so few numbers
    with torch.backends.mkldnn.flags(enabled=False):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock takes a second."""
    seconds = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(time=lambda: float(next(seconds))))
    return seconds


@pytest.mark.slow
@pytest.mark.parametrize("bag_size", [1, 16])
@pytest.mark.parametrize("loss", ["kl", "rot"])
@pytest.mark.parametrize("tier", ["gpu", "paper"])
def test_a_run_starts_pauses_and_ends_in_the_numbers_of_one_that_did_not_pause(tier, loss, bag_size, tmp_path, clock):
    spec = spec_of(tier, loss, bag_size)
    assert spec.network == "resnet18" and spec.augment and spec.precision in ("bf16", "fp32")
    straight = rot.train(spec, device="cpu")
    calls, result = 0, None
    while result is None:
        calls += 1
        result = rot.train(
            *(spec,),
            device="cpu",
            key="k",
            checkpoint=tmp_path / "run.pt",
            checkpoint_every=math.inf,
            deadline=next(clock) + 4,
        )
        assert calls < 10
    assert calls > 1
    for part in ("metrics", "curves", "bags", "data"):
        assert getattr(result, part) == getattr(straight, part)

    assert result.curves["epoch"] == [1, 2] and set(result.metrics) == {"last", "bag-validation", "oracle"}
    assert all(0 <= value <= 100 for value in result.curves["test_accuracy"])
    assert result.cost["peak_memory_mb"] > 0 and result.device == "cpu"
    json.dumps({key: getattr(result, key) for key in ("metrics", "curves", "bags", "data", "cost")}, allow_nan=False)


def test_the_gpu_tier_runs_its_network_in_bfloat16_and_its_loss_in_float32(monkeypatch):
    spec, seen = spec_of("gpu", "kl", 16).but(epochs=1), set()
    network_of, loss_of = rot.network_of, rot.loss_of

    def watched_network(*arguments):
        network = network_of(*arguments)
        network.register_forward_hook(lambda module, inputs, output: seen.add(("network", output.dtype)))
        return network

    def watched_loss(spec):
        loss = loss_of(spec)

        def watched(log_p, offsets, proportions):
            seen.add(("loss", log_p.dtype))
            return loss(log_p, offsets, proportions)

        return watched

    monkeypatch.setattr(rot, "network_of", watched_network)
    monkeypatch.setattr(rot, "loss_of", watched_loss)
    rot.train(spec, device="cpu")
    assert seen == {("network", torch.bfloat16), ("loss", torch.float32)}


def test_methods_of_one_seed_see_the_same_bags_and_seeds_do_not():
    labels = np.arange(N_TRAIN) % 10
    kl, other = (spec_of("gpu", loss, 16) for loss in ("kl", "rot"))
    hashes = [rot.bags_of(spec, labels, 10)[0].sha256() for spec in (kl, other, kl.but(seed=1))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_permuted_proportions_keep_the_bags_and_break_the_pairing():
    spec, labels = spec_of("gpu", "kl", 16), np.random.default_rng(0).integers(0, 10, N_TRAIN)
    true, permuted = (rot.bags_of(spec.but(proportions=p), labels, 10)[0] for p in ("given", "permuted"))
    np.testing.assert_array_equal(true.indices, permuted.indices)
    assert not np.array_equal(true.proportions, permuted.proportions)


def test_held_out_bags_are_not_trained_on():
    bags, held_out = rot.bags_of(spec_of("paper", "kl", 16), np.arange(N_TRAIN) % 10, 10)
    assert len(bags) + len(held_out) == N_TRAIN // 16 and len(held_out) == 1
    assert not set(bags.indices) & set(held_out.indices)


def test_a_check_of_the_equations_needs_no_data(monkeypatch):
    monkeypatch.setattr(rot, "check", lambda seed: {"prop2_value_error": 1e-16 * seed})
    (run,) = (run for run in plan("rot", "paper") if run.spec.task == "check")
    result = rot.train(run.spec, device="cpu")
    assert result.metrics == {"last": {"prop2_value_error": 0.0}} and result.cost
