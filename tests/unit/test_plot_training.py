"""Both stages of PLOT through `train`: who shares stage one, what stage two learns from, what a kill costs."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from papers.plot import student, teacher
from papers.plot.data import bags_of, data_of, deviation
from papers.plot.train import regions, train
from shared import datasets
from shared.bags import Bags
from shared.config import ConfigError, Spec, SpecError, plan, read_config
from shared.methods import Batch, kl_loss
from shared.training import Augmentation, Inputs, fit
from shared.training import data as shared_data

CPU = torch.device("cpu")
SMOKE = {run.method: run.spec for run in plan("plot", "smoke") if run.spec.seed == 0 and run.spec.bag_size == 16}
MOONS = {run.method: run.spec for run in plan("plot", "smoke") if run.spec.dataset == "two_moons"}


@pytest.fixture(scope="module", autouse=True)
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    datasets.fetch("digits", root)
    datasets.fetch("two_moons", root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLP_DATA", str(root))
        shared_data.data_of.cache_clear()
        yield root
    shared_data.data_of.cache_clear()


def session(folder, name="run", **more):
    return {"key": "spec-code", "checkpoint": folder / ".work/smoke" / f"{name}.pt", **more}


@pytest.mark.parametrize("method", ["dllp", "dllp+sce+hard", "llp_vat+sce+hard", "llp_gan+sce+hard", "dllp+continued"])
def test_it_learns_and_equal_specs_train_to_equal_numbers(method):
    spec = SMOKE[method].but(epochs=8, second_epochs=8) if "+" in method else SMOKE[method].but(epochs=8)
    first, again = train(spec, device="cpu"), train(spec, device="cpu")
    assert first.curves == again.curves and first.metrics["last"]["accuracy"] > 60
    assert set(first.metrics) == {"last", "bag-validation", "oracle"}
    assert set(first.cost) == {"first_s", "train_s", "peak_memory_mb"}
    assert set(first.convergence) == ({"accuracy", "first accuracy"} if "+" in method else {"accuracy"})


def test_a_run_of_two_stages_keeps_the_course_of_stage_one():
    """Whether stage one had come to rest is asked of every run that stands on it."""
    first, second = train(SMOKE["dllp"], device="cpu"), train(SMOKE["dllp+sce+hard"], device="cpu")
    assert second.curves["first_test_accuracy"] == first.curves["test_accuracy"] != second.curves["test_accuracy"]


def test_stage_one_is_trained_once_and_shared(tmp_path, monkeypatch):
    """Ten rows of Table 3 stand on one stage one; another seed, size or code must not share it."""
    trained = []
    monkeypatch.setattr(teacher, "fit", lambda *args, **more: trained.append(more["seed"]) or fit(*args, **more))
    alone = train(SMOKE["dllp+sce+hard"], device="cpu")
    train(SMOKE["dllp"], device="cpu", **session(tmp_path, "a"))
    shared = train(SMOKE["dllp+sce+hard"], device="cpu", **session(tmp_path, "b"))
    train(SMOKE["dllp+ce"], device="cpu", **session(tmp_path, "c"))
    assert trained == [0, 0] and shared.curves == alone.curves and shared.metrics == alone.metrics
    for other in ({"seed": 1}, {"bag_size": 32}, {"learning_rate": 0.001}):
        train(SMOKE["dllp"].but(**other), device="cpu", **session(tmp_path, "d"))
    train(SMOKE["dllp"], device="cpu", **{**session(tmp_path, "e"), "key": "spec-newer"})
    assert len(trained) == 6


def with_knob(spec, section, value):
    """The spec with one more key, `knob`, in a section."""
    layout = read_config("plot").layout
    sections = [replace(s, keys=(*s.keys, "knob")) if s.name == section else s for s in layout.sections]
    return Spec(replace(layout, sections=tuple(sections)), {**read_config("plot").values, **spec, "knob": value})


@pytest.fixture
def teacher_reads_the_knob(monkeypatch):
    """A stage one whose training depends on a value that was added to config.yaml."""
    method_of = teacher.method_of

    def reading(spec, *more):
        method = method_of(spec, *more)
        method.predict = lambda x, predict=method.predict: predict(x).pow(spec.knob)
        return method

    monkeypatch.setattr(teacher, "method_of", reading)


@pytest.mark.parametrize("section", ["stages", "stage_two", "pseudo_labels", "sce"])
def test_stage_one_cannot_read_a_value_that_is_not_in_what_it_is_shared_by(section, teacher_reads_the_knob):
    """Else two runs that differ in it would share weights in silence, and one of the records would be wrong."""
    with pytest.raises(SpecError, match=f"the stage 'teacher' reads 'knob' of the section '{section}'"):
        train(with_knob(SMOKE["dllp+sce+hard"], section, 2), device="cpu")


@pytest.mark.parametrize("section", ["bags", "images", "network", "perceptron", "training"])
def test_runs_that_differ_in_what_stage_one_reads_do_not_share_it(section, teacher_reads_the_knob, tmp_path):
    """Nobody has to list a new value by hand."""
    kept = tmp_path / ".work/teachers"
    for n, value in enumerate([1, -1], 1):
        spec = with_knob(SMOKE["dllp"], section, value)
        found = train(spec, device="cpu", **session(tmp_path, f"run{n}"))
        assert len(list(kept.iterdir())) == n and found.metrics == train(spec, device="cpu").metrics


def test_runs_that_differ_in_stage_two_alone_share_stage_one(tmp_path):
    for n, spec in enumerate(SMOKE[method] for method in SMOKE if method.startswith("dllp")):
        train(spec, device="cpu", **session(tmp_path, f"run{n}"))
    assert n == 11 and len(list((tmp_path / ".work/teachers").iterdir())) == 1


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [2, 30, 75, 110, 135])
@pytest.mark.parametrize("method", ["dllp+sce+hard", "llp_gan+sce+hard"])
def test_killed_in_either_stage_it_ends_in_the_same_numbers(tmp_path, method, at):
    """Stage one, the labels of an epoch and the last five label matrices must all come back."""
    seen = []

    def report(fraction, numbers):
        seen.append(fraction)
        if len(seen) == at:
            raise Killed

    spec, kept = SMOKE[method], session(tmp_path, checkpoint_every=0.0)
    with pytest.raises(Killed):
        train(spec, device="cpu", **kept, report=report)
    resumed, straight = train(spec, device="cpu", **kept), train(spec, device="cpu")
    assert all(getattr(resumed, part) == getattr(straight, part) for part in ("metrics", "curves", "bags"))


def test_a_deadline_stops_either_stage(tmp_path):
    assert train(SMOKE["dllp+sce+hard"], device="cpu", **session(tmp_path, deadline=0.0)) is None
    train(SMOKE["dllp"], device="cpu", **session(tmp_path, "a"))
    assert train(SMOKE["dllp+sce+hard"], device="cpu", **session(tmp_path, "b", deadline=0.0)) is None


class Oracle:
    """Predictions that were right for the first instances and wrong for the rest."""

    def __init__(self, labels, right):
        self.labels, self.right, self.history = labels, right, student.LabelHistory(5)

    def predict(self, x):
        index = x[:, 0].long()
        guess = torch.where(index < self.right, self.labels[index], (self.labels[index] + 1) % 3)
        return 0.05 + 0.85 * torch.nn.functional.one_hot(guess, 3).float()


def labelling(transport, right=20):
    labels = np.arange(30) % 3
    bags = Bags(np.arange(30), np.arange(0, 31, 6), np.full((5, 3), 1 / 3))
    inputs = Inputs(np.arange(30, dtype=np.float32)[:, None], CPU)
    spec = SimpleNamespace(transport=transport, epsilon=1.0, average=5)
    method = Oracle(torch.from_numpy(labels), right)
    return student.labelling(spec, inputs, bags, labels, method), method


@pytest.mark.parametrize("transport", ["hard", "soft"])
def test_every_bag_is_taught_its_proportions(transport):
    renew, method = labelling(transport)
    targets, found = renew(method, {"epoch": []})
    np.testing.assert_allclose(targets.view(5, 6, 3).mean(1), 1 / 3, atol=1e-4)
    assert found["td"] == pytest.approx(100 * 20 / 30) and set(found) == {"td", "td_ot", "td_ot_5"}


def test_without_transport_it_is_taught_its_own_predictions():
    renew, method = labelling("none")
    targets, found = renew(method, {"epoch": []})
    assert torch.equal(targets, method.predict(torch.arange(30.0)[:, None]) / 1.0)
    assert found["td"] == found["td_ot"] == found["td_ot_5"]


def test_minibatches_of_stage_two_are_whole_bags(monkeypatch):
    """Algorithm 1, line 2: each batch has all instances of some bags, each with its own pseudo-label."""
    spec, seen, labelled = SMOKE["dllp+sce+hard"].but(second_epochs=2), [], []
    update, labelling_of = student.Student.update, student.labelling

    def keeping(*arguments):
        renew = labelling_of(*arguments)

        def renewed(method, curves):
            labelled.append(renew(method, curves))
            return labelled[-1]

        return renewed

    def watched(self, batch):
        seen.append((batch.x.clone(), batch.proportions.clone()))
        return update(self, batch)

    monkeypatch.setattr(student.Student, "update", watched)
    monkeypatch.setattr(student, "labelling", keeping)
    result = train(spec, device="cpu")
    data = data_of(spec.stage("teacher"), CPU)
    bags, _ = bags_of(spec.stage("teacher"), data.y_train, 10)
    per_batch = spec.images_per_batch // spec.bag_size
    assert len(seen) == 2 * -(-len(bags) // per_batch) and len(labelled) == 2
    x = data.train.batch(bags.indices).unflatten(0, (len(bags), spec.bag_size))
    for n, (inputs, labels) in enumerate(seen):
        targets = labelled[n // (len(seen) // 2)][0].unflatten(0, (len(bags), spec.bag_size))
        inputs = inputs.unflatten(0, (-1, spec.bag_size))
        which = [next(b for b in range(len(bags)) if torch.equal(x[b], bag)) for bag in inputs]
        assert torch.equal(labels, targets[which])
    assert result.curves["td"][0] > 0


def test_a_student_learns_alike_from_bags_and_from_their_instances():
    found = []
    for whole in (True, False):
        torch.manual_seed(0)
        network = torch.nn.Linear(4, 3)
        method = student.Student(network, torch.optim.SGD(network.parameters(), 0.1), kl_loss, 0.5, 5)
        x, labels = torch.randn(6, 4), torch.randn(6, 3).softmax(1)
        batch = Batch(x, torch.arange(0, 7, 3), labels.view(2, 3, 3)) if whole else Batch(x, torch.arange(7), labels)
        torch.manual_seed(1)
        found.append((float(method.update(batch)["loss"]), network.weight.tolist()))
    assert found[0] == found[1]


def test_steps_of_llp_vat_are_in_standard_deviations_of_the_inputs():
    """The release standardises its images; from -1 to 1 its 6 would be 12 deviations."""
    rng, spec = np.random.default_rng(0), SMOKE["dllp"].stage("teacher")
    images = rng.integers(60, 160, (50, 8, 8, 3)).astype(np.uint8)
    for shift in (0, 4):
        wide = Inputs(images, CPU, ([127.5] * 3, [127.5] * 3), Augmentation(shift=shift))
        assert deviation(spec, wide) == pytest.approx(float(wide.batch(np.arange(50)).std()), rel=0.02)
        assert deviation(spec, Inputs(images, CPU, None, Augmentation(shift=shift))) == pytest.approx(1, abs=1e-6)
    points = rng.normal(size=(2000, 2)).astype(np.float32) * [3, 4]
    assert deviation(spec, Inputs(points.astype(np.float32), CPU)) == pytest.approx(12.5**0.5, rel=0.05)
    vat, data = SMOKE["llp_vat"].stage("teacher"), data_of(SMOKE["llp_vat"].stage("teacher"), CPU)
    method = teacher.method_of(vat, teacher.network_of(vat, data.train, 10), data.train, 10)
    unit = deviation(vat, data.train)
    assert (method.eps, method.xi, method.floor) == (6 * unit, 0.1 * unit, 1e-8) and unit == pytest.approx(1, abs=1e-6)


def test_the_first_labels_are_of_stage_one_and_the_next_of_the_student():
    """A student that starts afresh would otherwise begin with labels of nothing."""
    renew, first = labelling("none", right=30)
    fresh = Oracle(first.labels, right=0)
    assert renew(fresh, {"epoch": []})[1]["td"] == 100
    targets, found = renew(fresh, {"epoch": [1]})
    assert found["td"] == 0
    torch.testing.assert_close(targets.max(1).values, torch.full((30,), 0.475))  # the mean of two that disagree


def test_no_instance_label_reaches_training(monkeypatch):
    """With wrong labels of instances and the same bags, only the reported accuracies change."""
    spec = SMOKE["dllp+sce+hard"]
    before = train(spec, device="cpu")
    labelling_of = student.labelling
    monkeypatch.setattr(student, "labelling", lambda s, i, b, labels, f: labelling_of(s, i, b, 9 - labels, f))
    after = train(spec, device="cpu")
    told = ("train_loss", "test_accuracy", "validation_loss")
    assert all(before.curves[name] == after.curves[name] for name in told)
    assert before.curves["td"] != after.curves["td"]


def test_bags_are_shared_by_all_methods_of_a_seed():
    labels = np.random.default_rng(0).integers(0, 10, 500)
    hashes = {bags_of(spec.but(seed=3), labels, 10)[0].sha256() for spec in SMOKE.values()}
    assert len(hashes) == 1
    assert bags_of(SMOKE["dllp"].but(train_images=100), labels, 10)[0].indices.max() < 100


def test_the_ceiling_is_refused_on_bags_of_many():
    """It would train the proportion loss under the name of the labels."""
    ceiling = next(run.spec for run in plan("plot", "smoke") if run.method == "supervised")
    with pytest.raises(ConfigError, match="bags of 1"):
        train(ceiling.but(bag_size=16), device="cpu")


def test_pixels_are_from_minus_one_to_one_for_the_convolutional_network_alone():
    """The range of LLP-GAN's generator; smaller networks read standardised images."""
    layout, values = read_config("plot").layout, {**read_config("plot").values, "dataset": "digits"}
    images = datasets.load("digits").x_test
    found = data_of(Spec(layout, values), CPU)
    assert torch.equal(
        found.test.batch(np.arange(3)), (torch.from_numpy(images[:3]).float() / 127.5 - 1).permute(0, 3, 1, 2)
    )
    assert found.train.augment == Augmentation(shift=4, flip=True) and found.test.augment == Augmentation()
    small = data_of(SMOKE["dllp"], CPU)
    assert small.train.augment == Augmentation() and abs(float(small.train.batch(np.arange(1437)).mean())) < 1e-5


def test_two_moons_leave_the_regions_of_figure_2():
    result = train(MOONS["dllp"], device="cpu")
    grid = np.array(result.curves["grid"]).reshape(60, 60)
    assert set(np.unique(grid)) <= {0, 1}

    class Left:
        def predict(self, x):
            return torch.stack([(x[:, 0] < 0).float(), (x[:, 1] >= -9).float() * 0.5], 1)

    points = np.array([[-1.0, -1.0], [1.0, 1.0]], np.float32)
    found = np.array(regions(Left(), points, CPU, side=10)).reshape(10, 10)
    assert (found[:, :5] == 0).all() and (found[:, 5:] == 1).all()
