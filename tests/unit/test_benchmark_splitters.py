"""Splits are of whole bags, and scikit-learn's searches select models without a label of an instance."""

import doctest

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from papers.benchmark import estimator, splitters
from papers.benchmark.methods import candidates
from papers.benchmark.splitters import BagBootstrap, BagKFold, BagShuffleSplit
from papers.benchmark.targets import bag_targets, from_targets
from shared.bags import BagError, variable_size
from tests.unit.test_benchmark_estimator import BAGS, IDS, LABELS, NEW, NEW_LABELS, X, model

pytestmark = pytest.mark.usefixtures("one_thread")

RAGGED = variable_size(LABELS, 3, 2, 9, seed=0, n_bags=40)
N = len(RAGGED.indices)
BAG = np.repeat(np.arange(40), RAGGED.sizes)  # of each of N instances, in their own order
Y = bag_targets(BAG, RAGGED.proportions)
SPLITTERS = [BagKFold(4), BagKFold(4, stratified=True), BagShuffleSplit(6), BagBootstrap(6)]
each_splitter = pytest.mark.parametrize("cv", SPLITTERS, ids=repr)


@each_splitter
def test_a_split_is_of_whole_bags(cv):
    found = list(cv.split(np.zeros(N), Y))
    assert len(found) == cv.get_n_splits()
    for train, test in found:
        assert not set(BAG[train]) & set(BAG[test]) and len(test)
        for part in (train, test):
            bags, counts = np.unique(BAG[part], return_counts=True)
            assert (counts % RAGGED.sizes[bags] == 0).all()
            from_targets(Y[part])
    again = list(cv.split(np.zeros(N), Y))
    assert all(
        np.array_equal(a, b) for one, other in zip(found, again, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_bags_are_named_by_groups_where_y_has_labels():
    named = np.array([f"bag {b:02}" for b in BAG])
    for cv in (BagKFold(4), BagShuffleSplit(6), BagBootstrap(6)):
        by_groups = list(cv.split(np.zeros(N), np.zeros(N), groups=named))
        for one, other in zip(by_groups, cv.split(np.zeros(N), Y), strict=True):
            np.testing.assert_array_equal(one[0], other[0])


def test_folds_hold_every_bag_once_and_are_of_one_size():
    for cv in (BagKFold(7), BagKFold(7, stratified=True)):
        held = [np.unique(BAG[test]) for _, test in cv.split(np.zeros(N), Y)]
        assert sorted(np.concatenate(held)) == list(range(40))
        assert {len(part) for part in held} <= {5, 6}


def test_stratified_folds_have_the_proportions_of_all():
    def spread(stratified, seed):
        cv = BagKFold(5, stratified=stratified, random_state=seed)
        means = [RAGGED.proportions[np.unique(BAG[test])].mean(0) for _, test in cv.split(np.zeros(N), Y)]
        return np.abs(np.array(means) - RAGGED.proportions.mean(0)).max()

    assert max(spread(True, seed) for seed in range(5)) < min(spread(False, seed) for seed in range(5)) / 2


def test_a_bootstrap_holds_out_what_it_has_not_drawn_and_a_bag_drawn_twice_is_two():
    drawn = []
    for train, test in BagBootstrap(40).split(np.zeros(N), Y):
        bags = from_targets(Y[train])
        assert len(bags) == 40
        assert len(np.unique(BAG[test])) == 40 - len(np.unique(BAG[train]))
        np.testing.assert_array_equal(np.sort(BAG[train][bags.indices]), np.sort(BAG[train]))
        for b in range(40):  # every copy holds the instances of one bag, each once
            own = train[bags.indices[bags.offsets[b] : bags.offsets[b + 1]]]
            assert len(set(own)) == len(own) and len(set(BAG[own])) == 1
        drawn.append(len(np.unique(BAG[train])) / 40)
    assert np.mean(drawn) == pytest.approx(1 - np.exp(-1), abs=0.03)


def test_a_shuffle_split_holds_out_the_part_it_was_told():
    for _, test in BagShuffleSplit(3, test_size=0.3).split(np.zeros(N), Y):
        assert len(np.unique(BAG[test])) == 12


def test_a_grid_search_selects_without_labels():
    """The rate at which nothing is learned loses, by the bags' loss alone."""
    y = bag_targets(BAGS)
    grid = {"learning_rate": [1e-7, 0.02], "method": ["dllp", "llpfc"]}
    search = GridSearchCV(model(epochs=5), grid, cv=BagKFold(3), error_score="raise").fit(X, y)
    assert search.best_params_["learning_rate"] == 0.02
    assert search.best_estimator_.score(NEW, NEW_LABELS) > 0.9
    assert search.cv_results_["mean_test_score"].max() < 0
    rot = GridSearchCV(model("rot", epochs=2), {"params": candidates("rot")[:2]}, cv=BagKFold(2)).fit(X, y)
    assert set(rot.best_params_["params"]) == {"alpha"}


def test_scores_are_crossed_over_bags_in_a_pipeline():
    y = bag_targets(IDS, BAGS.proportions)
    scores = cross_val_score(make_pipeline(StandardScaler(), model(epochs=4)), X, y, cv=BagBootstrap(3))
    assert (scores < 0).all() and (scores > -1.2).all()


def test_a_split_that_cuts_bags_is_refused():
    """scikit-learn's own folds would train on proportions of instances that are held out."""
    with pytest.raises(BagError, match="instances here, and its proportions are of them all; split by whole bags"):
        cross_val_score(model(), X, bag_targets(BAGS), cv=KFold(3), error_score="raise")


@pytest.mark.parametrize(
    ("split", "says"),
    [
        (lambda: BagKFold(4).split(X), "pass y=bag_targets"),
        (lambda: BagKFold(4).split(X, BAGS), "Bags cannot be indexed by instance"),
        (lambda: BagKFold(61).split(X, bag_targets(BAGS)), "61 folds of 60 bags cannot be"),
        (lambda: BagKFold(4, stratified=True).split(X, groups=IDS), "stratified by proportions"),
        (lambda: BagBootstrap(4).split(X, groups=np.zeros(240)), "there are 1 bags, and a split needs two"),
        (lambda: iter([BagShuffleSplit(test_size=2)]), "between 0 and 1, got 2"),
        (lambda: iter([BagKFold(0)]), "n_splits must be 1 or more"),
    ],
)
def test_what_cannot_be_split_is_refused(split, says):
    with pytest.raises(ValueError, match=says):
        next(split())


@pytest.mark.parametrize("module", [estimator, splitters], ids=lambda module: module.__name__)
def test_what_the_docstrings_show_runs(module):
    names = {"X": X, "bags": IDS, "proportions": BAGS.proportions}
    (test,) = doctest.DocTestFinder(recurse=False).find(module, module.__name__, globs=names)
    assert len(test.examples) >= 3 and doctest.DocTestRunner().run(test).failed == 0
