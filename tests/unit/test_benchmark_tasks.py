"""The benchmark's tasks, kinds of bags, tuning budget and ranks; adding a method or a task is one entry."""

import math

import numpy as np
import pandas
import pytest
import torch

from papers.benchmark import makers, tasks, train
from papers.benchmark.methods import METHODS, Entry, candidates
from papers.benchmark.ranks import critical_difference, mean_ranks
from papers.benchmark.tasks import TASKS, Instances, Task, shipped
from shared.config import plan
from shared.training import Inputs

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
    """A reader's own method on a reader's own data, beside the others, without another edit."""
    x = torch.cat([torch.randn(60, 2) + 2, torch.randn(60, 2) - 2])
    data = Instances(Inputs(x, CPU), np.repeat([0, 1], 60), np.arange(0, 120, 2), np.arange(1, 120, 2), 2)
    monkeypatch.setitem(METHODS, "own", Entry("own", "a test", METHODS["dllp"].build))
    monkeypatch.setitem(TASKS, "toy", Task("toy", "a test", lambda spec, device: data))
    spec = spec_of(method="own", dataset="toy", bag_size=4, epochs=20, learning_rates=[0.03], tuning_tries=1)
    result = train.train(spec, device="cpu")
    assert result.metrics["last"]["accuracy"] > 90 and result.metrics["last"]["chosen_learning_rate"] == 0.03


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
