"""Steps from a CUDA graph, with a pretend capture: the numbers of eager steps, and eager steps where it cannot be."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from papers.plot.loss import mixup
from shared.bags import fixed_size, variable_size
from shared.methods import LossMethod, kl_loss
from shared.runs.assemble import record_of
from shared.training import Augmentation, Inputs, Result, Schedule, fit, graph

CPU, RATE = torch.device("cpu"), 0.125  # as a float32 it is the same number
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (70, 4, 4, 1), dtype=np.uint8), RNG.integers(0, 3, 70)
BAGS = fixed_size(LABELS, 3, 5, seed=0)  # 14 bags: 5 steps of 3, the last one short
EPOCHS, STEPS = 3, 5


class Pretend:
    """What torch.cuda does, without a GPU: a capture takes no step, and what is replayed reads the same tensors."""

    def __init__(self, error=None):
        self.error, self.aside_, self.captured, self.replayed = error, 0, 0, 0

    def aside(self, step):
        self.aside_ += 1
        return step()

    def capture(self, step):
        self.captured += 1
        if self.error:
            raise self.error

        def replay():
            self.replayed += 1
            return step()

        return replay


@pytest.fixture
def seam(monkeypatch):
    monkeypatch.setenv(graph.SWITCH, "1")
    monkeypatch.setitem(graph.SEAMS, "cpu", it := Pretend())
    graph.told.clear()
    return it


def network(*more):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), *more, nn.Linear(8, 3))


def sgd(net):
    return torch.optim.SGD(net.parameters(), RATE, momentum=0.9, fused=True)


def adam(net):
    return torch.optim.Adam(net.parameters(), RATE, fused=True)


def train(optimiser=sgd, *layers, bags=BAGS, kind=LossMethod, loss=kl_loss, **more):
    """All that a training leaves: curves and state."""
    net = network(*layers)
    it, inputs = kind(net, optimiser(net), loss), Inputs(IMAGES, CPU, augment=Augmentation(shift=1, flip=True))
    settings = {"epochs": EPOCHS, "bags_per_batch": 3, "schedule": Schedule("constant", RATE), "seed": 4, "key": "k"}
    settings["evaluate"] = lambda m: {"first": float(m.predict(inputs.batch(np.arange(70)))[:, 0].double().sum())}
    done = fit(it, inputs, bags, **settings, **more)
    return done and [done["curves"], *(value.clone() for value in net.state_dict().values())]


def same(one, other):
    return one[0] == other[0] and all(map(torch.equal, one[1:], other[1:]))


@pytest.fixture
def eager(monkeypatch):
    """What the same training comes to where nobody asks for a graph."""

    def of(*args, **more):
        with monkeypatch.context() as patch:
            patch.delenv(graph.SWITCH)
            told = list(graph.told)
            found = train(*args, **more)
            assert graph.told == told  # records of today do not change
            return found

    return of


@pytest.mark.parametrize("optimiser", [sgd, adam])
def test_replayed_steps_give_the_numbers_of_eager_ones_and_the_short_batch_is_eager(seam, eager, optimiser):
    assert same(train(optimiser), eager(optimiser))
    assert graph.told == ["CUDA graph"]
    assert (seam.aside_, seam.captured, seam.replayed) == (3, 1, EPOCHS * (STEPS - 1) - 3)


def test_where_the_capture_fails_it_goes_on_eagerly_and_says_why_once(seam, eager):
    seam.error = RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be ...")
    assert same(train(adam), eager(adam))
    why = "its step cannot be captured: operation not permitted when stream is capturing"
    assert (seam.captured, graph.told) == (1, [f"eager, for {why}"])


class Other(LossMethod):
    """A method that takes steps of its own."""

    def update(self, batch):
        mixup(batch.x, batch.proportions.repeat_interleave(5, 0), 1.0)
        return super().update(batch)


RAGGED = variable_size(LABELS, 3, 2, 6, seed=0)
EAGER = {
    "dropout": ({"layers": (nn.Dropout(),)}, "a step draws random numbers"),
    "another method": ({"kind": Other}, "Other does not say that its step can be captured"),
    "ragged bags": ({"bags": RAGGED}, "there were not 4 steps of one shape"),
}


@pytest.mark.parametrize(("case", "why"), EAGER.values(), ids=EAGER)
def test_what_cannot_be_captured_is_eager_from_the_start(seam, eager, case, why):
    layers = case.pop("layers", ())
    assert same(train(sgd, *layers, **case), eager(sgd, *layers, **case))
    assert (seam.captured, graph.told) == (0, [f"eager, for {why}"])


def test_a_device_without_graphs_is_said(seam, monkeypatch, eager):
    monkeypatch.delitem(graph.SEAMS, "cpu")
    assert same(train(), eager())
    assert graph.told == ["eager, for there are no graphs on cpu"]


@pytest.mark.parametrize("at", ["1", ""])
def test_a_run_that_goes_on_chooses_again_what_it_chose_before(seam, eager, monkeypatch, tmp_path, at):
    """Also where it is asked for something else, for a graph may round otherwise."""
    monkeypatch.setenv(graph.SWITCH, at)
    ticks = iter(range(10_000))
    monkeypatch.setattr("shared.training.loop.time", SimpleNamespace(time=lambda: float(next(ticks))))
    path = tmp_path / "run.pt"
    assert train(checkpoint=path, deadline=22.0) is None and path.exists()
    monkeypatch.setenv(graph.SWITCH, "" if at else "1")
    found = train(checkpoint=path)
    assert graph.told == (["CUDA graph"] if at else []) and bool(seam.captured) == bool(at)
    assert same(found, eager())


def test_a_word_that_means_nothing_is_refused(monkeypatch):
    monkeypatch.setenv(graph.SWITCH, "yes")
    with pytest.raises(ValueError, match="LLP_GRAPH is 'yes'; 1 asks for a CUDA graph"):
        train()


def test_a_record_says_which_of_both_it_was_where_somebody_asked():
    spec = SimpleNamespace(canonical=dict, hash="h")
    run = SimpleNamespace(id="a", method="kl", stand_in="", differs="", spec=spec)
    said = [record_of(run, "c", 1.0, Result({}, steps=steps))["environment"] for steps in ("", "CUDA graph")]
    assert "steps" not in said[0] and said[1] == {**said[0], "steps": "CUDA graph"}
