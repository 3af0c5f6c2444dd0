"""The loop: stopped anywhere it goes on to the same numbers, and reads no checkpoint it should not."""

import itertools
import math
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from shared.bags import Bags, fixed_size
from shared.methods import LossMethod, kl_loss
from shared.training import Augmentation, Inputs, Schedule, axis_seed, checkpoint, fit, loop, seed_torch

CPU = torch.device("cpu")
MOVES = Augmentation(shift=1, flip=True)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (70, 4, 4, 1), dtype=np.uint8)
BAGS = fixed_size(RNG.integers(0, 3, 70), 3, 5, seed=0)  # 14 bags: 5 steps of 3, the last one short
EPOCHS, STEPS = 3, 5


def method(seed=0, loss=kl_loss):
    """Everything that has a state or draws: batch normalisation, dropout, momentum."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
    return LossMethod(network, torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9), loss)


def train(it=None, **more):
    """(method, what `fit` returned)."""
    it = it or method()
    inputs = Inputs(IMAGES, CPU, augment=MOVES)
    everything = np.arange(len(inputs))
    settings = {"epochs": EPOCHS, "bags_per_batch": 3, "schedule": Schedule("cosine", 0.5), "seed": 4, "key": "k"}
    settings["evaluate"] = lambda m: {"first": float(m.predict(inputs.batch(everything))[:, 0].double().sum())}
    return it, fit(it, inputs, BAGS, **{**settings, **more})


@pytest.fixture(scope="module")
def straight():
    it, fitted = train()
    return {"curves": fitted["curves"], "state": it.state_dict()}


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock takes a second."""
    seconds = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(time=lambda: float(next(seconds))))
    return seconds


def test_equal_seeds_train_to_equal_numbers_and_others_do_not(straight):
    it, fitted = train()
    assert fitted["curves"] == straight["curves"] and same(it.state_dict(), straight["state"])
    assert train(seed=5)[1]["curves"] != straight["curves"]


@pytest.mark.parametrize("patience", [3, 4, 7, 12])
def test_stopped_by_the_clock_again_and_again_it_ends_in_the_same_numbers(straight, tmp_path, clock, patience):
    path, calls, fitted = tmp_path / "run.pt", 0, None
    while fitted is None:
        calls += 1
        # A fresh network of another seed: all that matters must come from the checkpoint.
        it = method(seed=0 if calls == 1 else 99)
        deadline = next(clock) + patience
        it, fitted = train(it, checkpoint=path, checkpoint_every=math.inf, deadline=deadline)
        assert calls < 100
    assert 3 <= calls and fitted["curves"] == straight["curves"]
    assert same(it.state_dict(), straight["state"]) and fitted["train_s"] > 0


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(1, EPOCHS * (STEPS + 1)))
def test_killed_after_any_checkpoint_it_ends_in_the_same_numbers(straight, tmp_path, at):
    reports = itertools.count(1)

    def report(fraction, numbers):
        if next(reports) == at:
            raise Killed

    with pytest.raises(Killed):
        train(checkpoint=tmp_path / "run.pt", checkpoint_every=0.0, report=report)
    it, fitted = train(method(seed=99), checkpoint=tmp_path / "run.pt")
    assert fitted["curves"] == straight["curves"] and same(it.state_dict(), straight["state"])


def test_a_deadline_that_has_passed_trains_nothing_and_says_so(tmp_path):
    it = method()
    before = {k: v.clone() for k, v in it.network.state_dict().items()}
    assert train(it, checkpoint=tmp_path / "run.pt", deadline=0.0)[1] is None
    assert same(it.network.state_dict(), before) and (tmp_path / "run.pt").exists()
    assert train(deadline=0.0)[1] is None


def test_training_time_adds_up_over_calls(tmp_path, clock):
    path = tmp_path / "run.pt"
    assert train(checkpoint=path, checkpoint_every=math.inf, deadline=10.0)[1] is None
    saved = torch.load(path, weights_only=True)["train_s"]
    fitted = train(checkpoint=path, checkpoint_every=math.inf)[1]
    assert 5 < saved < fitted["train_s"]


def test_curves_have_one_number_an_epoch_and_the_loss_is_the_mean_over_steps():
    losses = []

    def noted(*bags):
        loss = kl_loss(*bags)
        losses.append(loss.detach())
        return loss

    curves = train(method(loss=noted))[1]["curves"]
    assert curves["epoch"] == [1, 2, 3] and set(curves) == {"epoch", "train_loss", "first"}
    assert len(losses) == EPOCHS * STEPS
    by_hand = [float(torch.stack(losses[i : i + STEPS]).mean()) for i in range(0, len(losses), STEPS)]
    assert curves["train_loss"] == pytest.approx(by_hand, rel=1e-6)


def test_every_bag_is_seen_once_an_epoch_in_another_order_each():
    seen = []

    class Watch:
        def update(self, batch):
            sizes = batch.offsets.diff()
            assert batch.x.shape[0] == sizes.sum() and len(sizes) == len(batch.proportions)
            seen.extend(batch.x.reshape(len(sizes), -1)[:, 0].tolist())
            return {"loss": torch.tensor(0.0)}

        def set_learning_rate(self, rate):
            pass

    ids = np.arange(70, dtype=np.float32)[:, None]
    fit(
        *(Watch(), Inputs(ids, CPU), Bags(np.arange(70), np.arange(0, 71, 5), BAGS.proportions)),
        epochs=2,
        bags_per_batch=4,
        schedule=Schedule("constant", 1.0),
        seed=0,
        evaluate=lambda m: {},
    )
    first, second = seen[:14], seen[14:]
    assert sorted(first) == sorted(second) == list(range(0, 70, 5)) and first != second


def test_progress_is_reported_after_each_epoch_and_ends_at_one():
    fractions, numbers = [], []

    def report(fraction, said):
        fractions.append(fraction)
        numbers.append(said)

    curves = train(report=report)[1]["curves"]
    assert fractions == pytest.approx([1 / 3, 2 / 3, 1])
    for epoch, said in enumerate(numbers):
        assert said == {"epochs": 3, **{name: values[epoch] for name, values in curves.items()}}


def test_after_a_checkpoint_progress_is_reported_without_numbers(tmp_path):
    reports = []
    train(checkpoint=tmp_path / "run.pt", checkpoint_every=0.0, report=lambda *said: reports.append(said))
    assert [bool(numbers) for _, numbers in reports] == ([False] * STEPS + [True]) * EPOCHS
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions) and fractions[-1] == 1


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_epoch(poison):
    calls = itertools.count()

    def bursts(*bags, check=True):
        return kl_loss(*bags, check=check) * (poison if next(calls) == STEPS + 2 else 1.0)

    with pytest.raises(FloatingPointError, match=r"training diverged in epoch 2: {'train_loss': (nan|inf)}"):
        train(method(loss=bursts))


STATE = {"key": "k", "epoch": 3, "curves": {"epoch": [1, 2]}, "method": {"w": torch.arange(2000.0)}}


class TestCheckpoint:
    """What is read back, and what is left alone."""

    @pytest.fixture
    def path(self, tmp_path):
        checkpoint.keep(tmp_path / "deep" / "run.pt", STATE)
        return tmp_path / "deep" / "run.pt"

    def test_it_comes_back_and_nothing_lies_beside_it(self, path):
        assert same(checkpoint.resume(path, "k"), STATE)
        assert [p.name for p in path.parent.iterdir()] == ["run.pt"]

    def test_of_another_configuration_it_is_not_resumed(self, path):
        assert checkpoint.resume(path, "other") is None

    def test_where_there_is_none_training_starts_anew(self, tmp_path):
        assert checkpoint.resume(tmp_path / "none.pt", "k") is None

    def test_cut_off_anywhere_it_is_ignored(self, path):
        whole = path.read_bytes()
        for length in [*range(0, 200, 7), *range(200, len(whole) - 1, 97), len(whole) - 1]:
            path.write_bytes(whole[:length])
            assert checkpoint.resume(path, "k") is None, f"cut off at {length}"

    def test_with_flipped_bytes_it_raises_nothing(self, path):
        whole, draw = path.read_bytes(), np.random.default_rng(0)
        for at in draw.choice(len(whole), 300, replace=False):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ int(draw.integers(1, 256))]) + whole[at + 1 :])
            assert isinstance(checkpoint.resume(path, "k"), dict | None)

    @pytest.mark.parametrize(
        "content",
        [b"not a checkpoint at all\n", b"\x00" * 300, b"PK\x03\x04" + b"\x00" * 100, bytes(range(256))],
        ids=["text", "zeros", "zip", "bytes"],
    )
    def test_of_other_content_it_is_ignored(self, path, content):
        path.write_bytes(content)
        assert checkpoint.resume(path, "k") is None

    @pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), {"epoch": 1}], ids=["list", "tensor", "no key"])
    def test_of_another_shape_it_is_ignored(self, path, content):
        torch.save(content, path)
        assert checkpoint.resume(path, "k") is None

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    @pytest.mark.parametrize("wrapped", [True, False], ids=["torch.save", "pickle"])
    def test_code_in_it_is_not_executed(self, path, tmp_path, wrapped):
        class Hostile:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'owned'}",)

        with open(path, "wb") as stream:
            (torch.save if wrapped else pickle.dump)({"key": "k", "method": Hostile()}, stream)
        assert checkpoint.resume(path, "k") is None
        assert not (tmp_path / "owned").exists()

    def test_a_save_that_fails_keeps_the_one_before(self, path, monkeypatch):
        def full(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            checkpoint.keep(path, {**STATE, "epoch": 4})
        assert checkpoint.resume(path, "k")["epoch"] == 3


def test_a_run_beside_a_damaged_checkpoint_trains_from_the_start(straight, tmp_path):
    (tmp_path / "run.pt").write_bytes(b"damaged")
    assert train(checkpoint=tmp_path / "run.pt")[1]["curves"] == straight["curves"]


def test_schedules_have_the_values_they_are_documented_with():
    halfway, cosine, constant = (Schedule(kind, 0.4) for kind in ("halfway", "cosine", "constant"))
    assert [halfway(t) for t in (0.0, 0.499, 0.5, 0.99)] == pytest.approx([0.4, 0.4, 0.04, 0.04])
    assert [constant(t) for t in (0.0, 0.5, 0.99)] == [0.4] * 3
    assert cosine(0.0) == pytest.approx(0.4e-3)
    assert cosine(0.05) == pytest.approx(0.4 * 0.501 * (1 + math.cos(0.05 * math.pi)) / 2)
    assert cosine(0.5) == pytest.approx(0.2) and cosine(1.0) == pytest.approx(0.0)
    assert max(cosine(t / 1000) for t in range(1000)) <= 0.4
    assert [Schedule("quarters", 0.4)(t) for t in (0.0, 0.24, 0.25, 0.5, 0.99)] == [0.4, 0.4, 0.2, 0.1, 0.05]


def test_a_schedule_that_is_not_there_is_refused_by_name():
    with pytest.raises(ValueError, match="schedule 'linear' is not one of halfway, quarters, cosine, constant"):
        Schedule("linear", 0.1)


def test_the_rate_follows_the_schedule_step_by_step():
    rates, it = [], method()
    it.set_learning_rate = rates.append
    train(it, schedule=Schedule("halfway", 1.0), epochs=2)
    assert rates == [1.0] * STEPS + [0.1] * STEPS


def test_seeds_of_axes_are_golden():
    """What bags, weights and batch orders of committed records were drawn from."""
    assert axis_seed(0, "bags") == 1935994864679126388
    assert axis_seed(3, "augmentation", 2, 17) == 8017647100377680700


def test_axes_are_drawn_apart_and_fit_every_generator():
    axes = [(seed, axis, i) for seed in range(5) for axis in ("order", "noise", "bags") for i in range(20)]
    seeds = {axis_seed(*axis) for axis in axes}
    assert len(seeds) == len(axes) and all(0 <= seed < 2**63 for seed in seeds)
    assert axis_seed(1, "a") != axis_seed(11, "a") and axis_seed(1, "a", 23) != axis_seed(1, "a", 2, 3)
    torch.manual_seed(max(seeds))
    np.random.PCG64(max(seeds))


def test_seeding_for_speed_draws_what_torch_itself_would_draw():
    torch.manual_seed(123)
    expected = torch.rand(4)
    seed_torch(123, CPU)
    assert torch.equal(torch.rand(4), expected)


def labelling(stop_after=None):
    """Targets that follow the predictions: what `renew` returns depends on the method and on the epochs behind it."""

    def renew(it, curves):
        done = len(curves["epoch"])
        if done == stop_after:
            return None
        p = it.predict(Inputs(IMAGES, CPU).batch(BAGS.indices)).view(len(BAGS), 5, 3).mean(1)
        return p.softmax(1), {"sharpness": float(p.max()) + done}

    return renew


@pytest.mark.parametrize("at", range(1, EPOCHS * (STEPS + 1)))
def test_renewed_targets_outlive_a_kill(tmp_path, at):
    """Stopped in mid-epoch, the targets of that epoch go on; renewed there they would be another method's."""
    straight = train(renew=labelling())
    reports = itertools.count(1)

    def report(fraction, numbers):
        if next(reports) == at:
            raise Killed

    with pytest.raises(Killed):
        train(renew=labelling(), checkpoint=tmp_path / "run.pt", checkpoint_every=0.0, report=report)
    it, fitted = train(method(seed=99), renew=labelling(), checkpoint=tmp_path / "run.pt")
    assert fitted["curves"] == straight[1]["curves"] and same(it.state_dict(), straight[0].state_dict())
    assert len(fitted["curves"]["sharpness"]) == EPOCHS and fitted["curves"] != train()[1]["curves"]


def test_renew_can_end_the_training():
    curves = train(renew=labelling(stop_after=2))[1]["curves"]
    assert curves["epoch"] == [1, 2] and {len(values) for values in curves.values()} == {2}


def test_one_scalar_of_several_that_is_not_finite_stops_the_run():
    it = method()
    update = it.update
    it.update = lambda batch: update(batch) | {"penalty": torch.tensor(float("nan"))}
    with pytest.raises(FloatingPointError, match="training diverged in epoch 1: .*'train_penalty': nan"):
        train(it)
