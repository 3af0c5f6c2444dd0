"""The registry: every method learns an easy task, stops and goes on, and refuses what it cannot be trained on."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from papers.benchmark.builders import NEEDS
from papers.benchmark.course import Problem, train
from papers.benchmark.methods import METHODS, candidates, course, defaults, entry, lacking
from shared.bags import Bags, fixed_size, permuted, variable_size
from shared.networks import MLP
from shared.training import Inputs, accuracy, checkpoint
from tests.pretend import compute_as_elsewhere
from tests.pretend.device import MISSING, NAME

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
CENTRES = {2: np.array([[1.5, 1], [-1.5, -1]]), 3: np.array([[0, 2.5], [2, -1], [-2, -1]])}
each_method = pytest.mark.parametrize("name", METHODS)


def task(n_classes=2, size=4, n=400, seed=0, **more):
    """Gaussians around two or three centres, their bags, and as many points for test with their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, n, p=[0.6, 0.4] if n_classes == 2 else None)
    x = (CENTRES[n_classes][labels] + rng.normal(size=(n, 2))).astype(np.float32)
    half = n // 2
    bags = fixed_size(labels[:half], n_classes, size, seed) if isinstance(size, int) else size(labels[:half])
    settings = {"epochs": 12, "bags_per_batch": 8, "learning_rate": 0.02, "labels": labels, **more}
    problem = Problem(lambda: MLP(2, 16, n_classes), Inputs(x, CPU), bags, **settings)
    return problem, lambda method: {"test_accuracy": accuracy(method, problem.inputs, labels, np.arange(half, n))}


def trained(name, problem, evaluate=lambda method: {}, parameters=None, **more):
    return train(course(name, problem, parameters), problem, evaluate, **more)


@pytest.mark.parametrize(
    ("name", "n_classes"), [*((name, 3) for name in METHODS), *((name, 2) for name in ("mle_llp", "llpfc", "llp_gan"))]
)
def test_a_method_beats_the_class_prior_on_an_easy_task(name, n_classes):
    problem, evaluate = task(n_classes)
    _, curves, seconds = trained(name, problem, evaluate)
    most = 100 * np.bincount(problem.labels[200:]).max() / 200
    reached = curves["test_accuracy"][-1]
    assert curves["epoch"] == list(range(1, len(curves["epoch"]) + 1)) and seconds >= 0
    if entry(name).role == "floor":
        assert reached <= most
        return
    assert len(curves["epoch"]) == problem.epochs, "all methods have as many epochs"
    assert reached > most + 20
    if entry(name).stages == 1:
        assert curves["train_loss"][-1] < curves["train_loss"][0]


@pytest.mark.parametrize("name", ["dllp", "mle_llp"])
def test_permuted_proportions_teach_nothing(name):
    """Of classes that are equally frequent: where one is not, its share alone tells its instances from the others."""
    reached = []
    for seed in range(5):
        problem, evaluate = task(3, n=600, seed=seed, epochs=8)
        problem = replace(problem, bags=permuted(problem.bags, seed))
        reached.append(trained(name, problem, evaluate)[1]["test_accuracy"][-1])
    assert np.mean(reached) < 50  # the prior's 33, and chance; with their own proportions over 90


@each_method
def test_bags_of_any_sizes_are_learned_from(name):
    problem, _ = task(3, lambda labels: variable_size(labels, 3, 1, 9, seed=0), epochs=2)
    _, curves, _ = trained(name, problem)
    assert np.isfinite(curves["train_loss"]).all()


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize(
    "name", ["class_prior", "avgkl", "pc", "easy_llp", "llpfc", "mixbag"]
)  # others: tests/contract
def test_it_learns_the_same_on_a_device_that_is_not_the_cpu(name, monkeypatch):
    compute_as_elsewhere(monkeypatch)
    problem, _ = task(3, epochs=2)
    there = replace(problem, inputs=Inputs(problem.inputs.array.numpy(), torch.device(f"{NAME}:0")))
    (ours, curves, _), (other, expected, _) = (trained(name, one) for one in (there, problem))
    p = ours.predict(there.inputs.array)
    assert p.device.type == NAME and curves["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
    torch.testing.assert_close(p.cpu(), other.predict(problem.inputs.array), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", [name for name, one in METHODS.items() if one.stages > 1 or one.renews or name == "llp_gan"]
)
def test_killed_in_any_stage_it_ends_in_the_same_numbers(name, tmp_path):
    problem, evaluate = task(epochs=4)
    straight, expected, _ = trained(name, problem, evaluate)

    class Killed(Exception):
        pass

    def kill(at):
        def report(fraction, numbers):
            if fraction > at:
                raise Killed

        return report

    session = {"checkpoint": tmp_path / "run.pt", "key": "k", "checkpoint_every": 0.0}
    for at in (0.3, 0.8):
        with pytest.raises(Killed):
            trained(name, problem, evaluate, session={**session, "report": kill(at)})
    assert list(tmp_path.glob("*.pt"))
    method, curves, _ = trained(name, problem, evaluate, session=session)
    assert curves == expected
    assert torch.equal(method.predict(problem.inputs.array), straight.predict(problem.inputs.array))
    assert {path.name for path in tmp_path.glob("*.pt")} <= {"run.pt"}, "which is the caller's"


def test_a_first_stage_that_is_done_is_not_trained_again(tmp_path):
    problem, evaluate = task(epochs=4)
    session = {"checkpoint": tmp_path / "run.pt", "key": "k", "checkpoint_every": 1e9}
    said = []

    def until_the_second(fraction, numbers):
        said.append(fraction)
        if fraction > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained("plot", problem, evaluate, session={**session, "report": until_the_second})
    said.clear()
    trained("plot", problem, evaluate, session={**session, "report": lambda fraction, numbers: said.append(fraction)})
    assert min(said) > 0.5
    assert trained("plot", problem, evaluate, session={**session, "deadline": time.time() - 1}) is None


def test_patience_ends_the_last_stage_alone():
    problem, _ = task(epochs=20)
    losses = iter([3, 2, 1, 1, 1.5, 1.2, 1.1, *[0] * 99])
    _, curves, _ = trained("dllp", problem, lambda method: {"validation_loss": next(losses)}, patience=3)
    assert curves["validation_loss"] == [3, 2, 1, 1, 1.5, 1.2]
    _, curves, _ = trained("plot", problem, lambda method: {"validation_loss": 1.0}, patience=2)
    assert len(curves["epoch"]) == 10 + 3


def test_the_exact_program_is_the_vertex_proportion_loss_without_its_warm_up():
    problem, _ = task(3, epochs=4)
    _, exact, _ = trained("exact_lp", problem)
    _, vertex, _ = trained("vp_ce", problem, parameters={"warm_up": 0})
    assert exact["train_loss"] == pytest.approx(vertex["train_loss"], rel=1e-4)


@each_method
def test_an_entry_says_where_its_values_come_from(name):
    one = entry(name)
    assert one.title and one.source and set(one.needs) <= set(NEEDS) and one.role in ("method", "floor", "ceiling")
    for key, parameter in one.parameters.items():
        assert parameter.source, key
        assert parameter.default in parameter.grid, f"{key}: a search must be able to find the default"
    problem, _ = task(epochs=4)
    stages = course(name, problem)
    assert len(stages) == one.stages and bool(stages[-1].renew) == one.renews
    for candidate in candidates(name):
        course(name, problem, candidate)
        assert defaults(name, candidate).items() >= candidate.items()


def test_a_batch_of_mixbag_has_a_bag_to_mix_with():
    (stage,) = course("mixbag", replace(task()[0], bags_per_batch=1))
    assert stage.bags_per_batch == 2


def test_titles_are_names_of_their_own():
    titles = [one.title for one in METHODS.values()]
    assert len(set(titles)) == len(titles)


def test_what_cannot_be_is_refused_by_name():
    problem, _ = task()
    for name, parameters, says in (
        ("rott", {}, "there is no method 'rott'; did you mean 'rot'"),
        ("rot", {"alhpa": 1}, "method 'rot' has no hyper-parameter 'alhpa'; did you mean 'alpha'"),
        ("dllp", {"alpha": 1}, "method 'dllp' has no hyper-parameter 'alpha'; it has none"),
    ):
        with pytest.raises(ValueError, match=says):
            course(name, problem, parameters)


class Bare(nn.Linear):
    """A network without `features`."""


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("supervised", {"labels": None}, "learns from the class of every instance, and none is given"),
        ("pc", {"network": lambda: Bare(2, 2)}, "its network must have features and last, as shared.networks.MLP has"),
        ("llp_gan", {"inputs": Inputs(np.zeros((400, 3, 8, 8), np.float32), CPU)}, "images of 32x32, not .* 8, 8"),
        ("pc", {"inputs": Inputs(np.zeros((400, 3, 8, 8), np.float32), CPU)}, "must be vectors"),
        ("mle_llp", {"bags": Bags(np.arange(3), np.array([0, 3]), np.array([[0.5, 0.5]]))}, "bag 0 of 3 instances has"),
        ("count_likelihood", {"bags": Bags(np.arange(200), np.array([0, 200]), np.full((1, 4), 0.25))}, "small bags"),
        (
            "llpfc",
            {"bags": Bags(np.arange(3), np.array([0, 3]), np.array([[1 / 3, 2 / 3]]))},
            "groups 2 bags, and there are 1",
        ),
    ],
)
def test_a_problem_that_a_method_cannot_be_trained_on_is_refused_before_training(name, change, says):
    problem = replace(task()[0], **change)
    with pytest.raises(ValueError, match=f"method '{name}' cannot be trained here: .*{says}"):
        course(name, problem)
    assert lacking("dllp", problem) == ""


def test_mle_llp_of_two_classes_takes_large_bags():
    labels = np.arange(2000) % 2
    problem, _ = task()
    large = replace(problem, bags=fixed_size(labels, 2, 1000, 0))
    assert lacking("mle_llp", large) == ""


def test_a_checkpoint_of_another_configuration_is_not_gone_on_with(tmp_path):
    problem, _ = task(epochs=4)
    path = tmp_path / "run.pt"
    session = {"checkpoint": path, "key": "k", "checkpoint_every": 0.0, "deadline": time.time() + 1e9}
    for name in ("run.pt", "run.0.pt"):
        checkpoint.keep(tmp_path / name, {"key": "other", "method": {}})
    assert trained("plot", problem, session=session)[1] == trained("plot", problem)[1]


def test_a_first_stage_of_other_code_or_data_is_not_gone_on_with(tmp_path):
    problem, _ = task(epochs=4)

    def to_the_second(fraction, numbers):
        if fraction > 0.7:
            raise KeyboardInterrupt

    def session(key, **more):
        return {"checkpoint": tmp_path / "run.pt", "key": key, "checkpoint_every": 1e9, **more}

    with pytest.raises(KeyboardInterrupt):
        trained("plot", problem, session=session("spec-old", report=to_the_second))
    assert (tmp_path / "run.0.pt").exists()
    said = []
    trained("plot", problem, session=session("spec-new", report=lambda fraction, numbers: said.append(fraction)))
    assert min(said) < 0.5, "the first stage of other code was taken"
