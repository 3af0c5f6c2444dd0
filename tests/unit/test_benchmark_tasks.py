"""The benchmark's tasks, kinds of bags, tuning budget and ranks; adding a method or a task is one entry."""

import dataclasses
import math

import numpy as np
import pandas
import pytest
import torch

from papers.benchmark import makers, tasks, train
from papers.benchmark.methods import METHODS, Entry, candidates, lacking
from papers.benchmark.ranks import critical_difference, mean_ranks
from papers.benchmark.tasks import TASKS, Instances, Task, shipped
from papers.ece import tissue
from shared.config import plan
from shared.training import Inputs
from tests.conftest import of_any_text
from tests.contract.paper_tier import ece

LABELS = np.random.default_rng(0).integers(0, 3, 400)
CPU = torch.device("cpu")


def entropy(bags):
    p = bags.proportions.clip(1e-12)
    return float(-(p * np.log(p)).sum(1).mean())


def spec_of(**values):
    run = next(run for run in plan("benchmark", "smoke") if run.spec.method == "dllp" and run.spec.bags == "random")
    return run.spec.but(**values)


def test_bags_follow_the_labels_the_more_the_smaller_the_concentration():
    found = [entropy(makers.dirichlet(LABELS, 3, 8, concentration, 0)) for concentration in (0.05, 1, 100)]
    assert found[0] < 0.5 * found[1] < found[2]
    own = makers.dirichlet(LABELS, 3, 8, 0.5, 1)
    bags = zip(own.offsets, own.offsets[1:], strict=False)
    counts = np.stack([np.bincount(LABELS[own.indices[a:b]], minlength=3) for a, b in bags])
    assert np.allclose(counts / 8, own.proportions)


def test_bags_of_neighbours_hold_instances_that_are_alike():
    x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    own = makers.neighbours(x, LABELS, 3, 8, 0)
    spread = x[torch.from_numpy(own.indices)].view(50, 8, 5).std(1).mean()
    assert spread < x.std(0).mean() and len(set(own.indices)) == 400


def test_sizes_of_a_heavy_tail_have_many_small_bags_and_few_large_ones():
    sizes = makers.heavy_tailed(np.zeros(20_000, int), 1, 16, 0).sizes
    assert np.median(sizes) < 8 and sizes.max() > 20 * np.median(sizes) and sizes.min() >= 1


@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
def test_a_table_is_split_by_class_and_standardised_over_its_training_part(name):
    data = TASKS[name].instances(None, CPU)
    assert not set(data.train) & set(data.test) and len(data.train) + len(data.test) == len(data.labels)
    x = data.inputs.batch(data.train)
    assert x.mean(0).abs().max() < 1e-5 and (x.std(0, correction=0) - 1).abs().max() < 1e-4
    share = [np.bincount(data.labels[part], minlength=data.n_classes) / len(part) for part in (data.train, data.test)]
    assert np.abs(share[0] - share[1]).max() < 0.03


def test_every_method_has_the_same_budget_and_begins_with_its_defaults():
    for name, entry in METHODS.items():
        spec = spec_of(method=name, tuning_tries=6).stage("selection")
        found = train.tries(spec)
        most = 1 if entry.role == "floor" else min(6, len(spec.learning_rates) * len(candidates(name)))
        assert len(found) == most and found == train.tries(spec), name
        defaults = {key: value.default for key, value in entry.parameters.items() if len(value.grid) > 1}
        assert {key: found[0][key] for key in defaults} == defaults


def test_a_method_and_a_task_are_added_by_one_entry_each(monkeypatch):
    """A reader's own method on a reader's own data, beside the others: an entry, and a name in config.yaml."""
    x = torch.cat([torch.randn(60, 2) + 2, torch.randn(60, 2) - 2])
    data = Instances(Inputs(x, CPU), np.repeat([0, 1], 60), np.arange(0, 120, 2), np.arange(1, 120, 2), 2)
    monkeypatch.setitem(METHODS, "own", Entry("own", "a test", METHODS["dllp"].build))
    monkeypatch.setitem(TASKS, "toy", Task("toy", "a test", lambda spec, device: data))
    spec = of_any_text(spec_of()).but(
        method="own", dataset="toy", bag_size=4, updates=60, learning_rates=[0.03], tuning_tries=1
    )
    result = train.train(spec, device="cpu")
    assert result.metrics["last"]["accuracy"] > 90 and result.metrics["last"]["chosen_learning_rate"] == 0.03


def test_every_task_has_the_same_number_of_updates_whatever_its_size():
    """Epochs would give wine forty updates and two moons five hundred."""
    run = next(run for run in plan("benchmark", "quick") if run.id == "benchmark/digits/dllp/random16/seed0")
    for n in (140, 1500, 5000):
        data = Instances(Inputs(torch.zeros(n, 2), CPU), np.arange(n) % 2, np.arange(n), np.arange(0), 2)
        bags, _ = makers.bags_of(run.spec, data, 0, 0.1)
        problem = train.problem_of(run.spec, data, bags, 0.1, seed=0, updates=300)
        assert abs(problem.steps - 300) <= len(bags) / problem.bags_per_batch / 2 + 1


def test_a_run_may_keep_some_classes_and_numbers_them_in_the_order_asked_for():
    data = Instances(
        Inputs(torch.arange(8.0)[:, None], CPU),
        np.array([0, 1, 2, 0, 1, 2, 0, 2]),
        np.arange(5),
        np.arange(5, 8),
        3,
        names=("ant", "bee", "cow"),
    )
    own = tasks.of_classes(data, "cow ant")
    assert own.train.tolist() == [0, 2, 3] and own.test.tolist() == [5, 6, 7] and own.n_classes == 2
    assert own.labels[own.train].tolist() == [1, 0, 1] and own.labels[own.test].tolist() == [0, 1, 0]
    assert tasks.of_classes(data, "") is data
    with pytest.raises(ValueError, match="there is no dog; there are ant, bee, cow"):
        tasks.of_classes(data, "dog ant")


def test_nuclei_of_stained_tissue_lie_in_bags_that_are_images(tmp_path, monkeypatch):
    drawn = tissue.simulate(ece.RECIPE, 0)
    whole = dataclasses.replace(drawn, classes=np.arange(len(drawn.classes)) % 3, class_names=("a", "unknown", "b"))
    monkeypatch.setattr(tasks.prepared, "open", lambda name: whole)
    tasks._nuclei.cache_clear()
    data = TASKS["crchisto"].instances(spec_of(), CPU)
    tasks._nuclei.cache_clear()
    known = whole.classes != 1
    assert data.names == ("a", "b") and (data.labels == whole.classes[known] // 2).all()
    assert (data.groups == whole.owners()[known]).all() and not set(data.groups[data.train]) & set(
        data.groups[data.test]
    )
    own, _ = makers.bags_of(spec_of(bags="natural"), data, 0, 0.0)
    assert sorted(own.sizes) == sorted(np.unique(data.groups[data.train], return_counts=True)[1])


def held_by(spec, n=6_000):
    """Instances with a task's shape, without its data: what decides which methods can be trained on them."""
    sizes = {"wine": (133, 3), "breast_cancer": (427, 2), "digits": (1437, 10), "wbc_stained": (239, 4)}
    sizes |= {"two_moons": (2000, 2), "cifar10": (n, 10), "cifar100": (n, 100), "simulated_holograms": (2400, 3)}
    many, n_classes = sizes.get(spec.dataset, (n, 4))
    n_classes = len(spec.classes.split()) or n_classes
    images = "network" in spec and spec.network == "resnet18"
    x = np.zeros((many, 32, 32, 3), np.uint8) if images else np.zeros((many, 6), np.float32)
    part = np.arange(many)
    inputs = Inputs(x, CPU, ([0.0] * 3, [1.0] * 3)) if images else Inputs(x, CPU)
    labels = np.random.default_rng(0).integers(0, n_classes, many)
    return Instances(inputs, labels, part, part, n_classes, groups=part // 200)


@pytest.mark.parametrize("tier", ["quick", "cpu", "gpu"])
def test_every_run_of_a_tier_can_be_trained_on_the_bags_it_asks_for(tier):
    """LLPFC wants as many bags as classes, likelihoods small bags: a plan that forgets it fails after hours."""
    wrong, held, made = {}, {}, {}
    for run in plan("benchmark", tier):
        spec, stage = run.spec, run.spec.stage(train.STAGE)
        if spec.seed:
            continue
        if (spec.dataset, spec.classes) not in held:
            held[spec.dataset, spec.classes] = held_by(spec)
        data = held[spec.dataset, spec.classes]
        for own, seed, part in ((spec, spec.seed, "validation"), (stage, stage.selection_seed, "selection")):
            key = (spec.dataset, spec.classes, run.id.split("/")[3], part)
            if key not in made:
                made[key] = makers.bags_of(own, data, seed, own[f"{part}_fraction"])
            bags, kept = made[key]
            reason = lacking(spec.method, train.problem_of(own, data, bags, 1.0, seed=seed, updates=1))
            if reason or not len(kept):
                wrong[run.id] = reason or "no held-out bags"
    assert wrong == {}


def test_a_task_without_natural_bags_says_so():
    with pytest.raises(makers.BagError, match="the task wine has no natural bags"):
        makers.bags_of(spec_of(bags="natural"), shipped("wine")(None, CPU), 0, 0.1)


def test_cells_of_simulated_holograms_lie_in_bags_that_are_images(monkeypatch):
    holograms = next(run for run in plan("benchmark", "cpu") if run.spec.dataset == "simulated_holograms")
    spec = holograms.spec.but(train_subjects=3, test_subjects=2)
    data = tasks.cells(spec, CPU)
    own, held = makers.bags_of(spec.but(bags="natural"), data, 0, 0.0)
    assert len(own) == 6 and not len(held) and set(own.indices) == set(data.train)
    assert data.inputs.batch(data.test).isfinite().all() and math.isclose(own.proportions[0].sum(), 1)


def test_mean_ranks_are_over_problems_that_all_have_and_ties_share_theirs():
    none = math.nan
    columns = {"a": [3.0, 2.0, 1.0], "b": [3.0, 1.0, 0.0], "c": [1.0, none, 2.0], "d": [0.0, none, none]}
    values = pandas.DataFrame(columns)
    found = mean_ranks(values).set_index("method").mean_rank
    assert found.to_dict() == {"a": 1.75, "c": 2.0, "b": 2.25} and "d" not in found


def test_the_critical_difference_is_demsars():
    """Table 5 (a) of Demsar 2006: q is 2.569 for four classifiers; 14 data sets."""
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=2e-3)
    assert math.isnan(critical_difference(4, 1)) and math.isnan(critical_difference(1, 5))
