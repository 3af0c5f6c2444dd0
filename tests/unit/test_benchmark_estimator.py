"""The estimator: the repository's own numbers, scikit-learn's manners, one sentence for what cannot be."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from papers.benchmark.estimator import BagClassifier
from papers.benchmark.methods import METHODS
from papers.benchmark.targets import bag_targets
from papers.mle_llp.method import fitted
from shared.bags import BagError, Bags, fixed_size, variable_size
from shared.networks import MLP
from shared.training import Inputs, bag_loss

pytestmark = pytest.mark.usefixtures("one_thread")


def clouds(n=240, seed=0):
    """(X, labels) of three Gaussians."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return (np.array([[0, 2.5], [2, -1], [-2, -1]])[labels] + rng.normal(size=(n, 2))).astype(np.float32), labels


X, LABELS = clouds()
NEW, NEW_LABELS = clouds(seed=1)
BAGS = fixed_size(LABELS, 3, 4, seed=0)
IDS = np.empty(len(X), int)  # of the bag of each instance
IDS[BAGS.indices] = np.repeat(np.arange(len(BAGS)), BAGS.sizes)


def model(method="dllp", **more):
    return BagClassifier(method, **{"epochs": 8, "learning_rate": 0.02, "device": "cpu", **more})


@parametrize_with_checks([BagClassifier(epochs=8, learning_rate=0.03, device="cpu")])
def test_scikit_learns_own_checks(estimator, check):
    """All that apply: none is expected to fail."""
    check(estimator)


@pytest.mark.parametrize("loss", ["dllp", "mle_llp"])
def test_its_numbers_are_those_of_the_repository(loss):
    """Bit for bit those of papers/mle_llp, whose Adam it has, on bags of any sizes."""
    bags = variable_size(LABELS, 3, 2, 6, seed=0)
    data = SimpleNamespace(inputs=Inputs(X, torch.device("cpu")), labels=LABELS, classes=(0, 1, 2))
    spec = {"loss": loss, "precision": "fp32", "network": "mlp", "hidden": 16, "start": "default", "weight_decay": 0}
    spec |= {"schedule": "constant", "images_per_batch": round(8 * bags.sizes.mean())}
    method, found = fitted(SimpleNamespace(**spec), data, bags, rate=0.01, epochs=3, seed=5, session={})
    settings = {"hidden": 16, "epochs": 3, "learning_rate": 0.01, "schedule": "constant", "random_state": 5}
    ours = model(loss, bags_per_batch=8, **settings).fit(X, bags)
    assert ours.history_ == found["curves"]
    np.testing.assert_array_equal(ours.predict_proba(NEW), method.predict(torch.from_numpy(NEW)).numpy())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_is_cloned_and_comes_back_from_a_pickle(method):
    y = LABELS if METHODS[method].role == "ceiling" else BAGS
    first = model(method, epochs=3)
    again = clone(first).fit(X, y)
    p = first.fit(X, y).predict_proba(NEW)
    assert p.shape == (240, 3) and p.sum(1) == pytest.approx(np.ones(240))
    for other in (again, pickle.loads(pickle.dumps(first))):
        np.testing.assert_array_equal(other.predict_proba(NEW), p)
    assert first.classes_.tolist() == [0, 1, 2] and first.n_features_in_ == 2


def test_bags_are_the_same_however_they_are_given():
    names = np.array([f"patient {i:03}" for i in IDS])
    rows = {f"patient {i:03}": row for i, row in enumerate(BAGS.proportions)}
    expected = model().fit(X, IDS, BAGS.proportions).predict_proba(NEW)
    for y, proportions in (
        (IDS.tolist(), BAGS.proportions.astype(np.float32).tolist()),
        (names, BAGS.proportions),
        (names, dict(reversed(rows.items()))),
        (bag_targets(IDS, BAGS.proportions), None),
        (bag_targets(BAGS), None),
    ):
        np.testing.assert_allclose(model().fit(X, y, proportions).predict_proba(NEW), expected, atol=1e-5)
    two = fixed_size(LABELS % 2, 2, 4, seed=0)
    share = model().fit(X, IDS, two.proportions[:, 1]).predict_proba(NEW)
    np.testing.assert_array_equal(share, model().fit(X, IDS, two.proportions).predict_proba(NEW))


def test_a_score_is_accuracy_of_labels_and_minus_the_loss_of_bags():
    fit = model(classes=["a", "b", "c"]).fit(X, BAGS)
    names = np.array(["a", "b", "c"])[NEW_LABELS]
    assert fit.score(NEW, names) == np.mean(fit.predict(NEW) == names) > 0.9
    bags = fixed_size(NEW_LABELS, 3, 4, seed=0)
    loss = bag_loss(fit.method_, Inputs(NEW, torch.device("cpu")), bags)
    assert fit.score(NEW, bags) == fit.score(NEW, bag_targets(bags)) == -loss
    assert fit.score(NEW, IDS, BAGS.proportions) < -loss  # the proportions of other points
    with pytest.raises(BagError, match="proportions are of 2 classes, the model was fitted to 3"):
        fit.score(NEW, IDS, np.full((60, 2), 0.5))


def test_states_of_chance_are_kept_apart():
    """A seed is a run's; other seeds are others; a generator is drawn from; torch's own generator is left as it was."""
    torch.manual_seed(7)
    before = torch.get_rng_state()
    p = [model(random_state=s).fit(X, BAGS).predict_proba(NEW) for s in (0, 0, 1, np.random.RandomState(3))]
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(p[0], p[1])
    assert not np.allclose(p[0], p[2]) and not np.allclose(p[0], p[3])
    again = model(random_state=np.random.RandomState(3)).fit(X, BAGS).predict_proba(NEW)
    np.testing.assert_array_equal(p[3], again)
    assert model(random_state=None).fit(X, BAGS).n_iter_ == 8


def test_a_network_of_ones_own_is_copied_or_made():
    given = MLP(2, 5, 3)
    weights = given.last.weight.clone()
    fit = model(network=given).fit(X, BAGS)
    assert torch.equal(given.last.weight, weights) and fit.method_.network.last.in_features == 5
    assert clone(fit).network is not given
    made = model(network=lambda shape, n_classes: nn.Linear(shape[0], n_classes), epochs=40).fit(X, BAGS)
    assert isinstance(made.method_.network, nn.Linear) and made.score(NEW, NEW_LABELS) > 0.9
    with pytest.raises(ValueError, match="method 'pc' cannot be trained here: its network must have features and last"):
        made.set_params(method="pc").fit(X, BAGS)


def test_images_are_standardised_by_those_it_was_fitted_to():
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 60, (240, 4, 4, 1)) + 60 * LABELS[:, None, None, None]).astype(np.uint8)
    fit = model(epochs=4).fit(images, BAGS)
    assert fit.score(images, LABELS) > 0.9
    np.testing.assert_allclose(fit.predict_proba(images[:3]), fit.predict_proba(images)[:3], atol=1e-6)


def test_training_ends_when_held_out_bags_get_no_better_and_keeps_the_best():
    few = fixed_size(LABELS[:80], 3, 8, seed=0)
    fit = model(epochs=200, learning_rate=0.1, validation_fraction=0.3, patience=5, schedule="constant").fit(X, few)
    losses = fit.history_["validation_loss"]
    assert fit.n_iter_ == len(losses) == int(np.argmin(losses)) + 1 + 5 < 200
    held = [fit.score(X, few.take(np.array(which))) for which in ([0], range(10))]
    assert np.isfinite(held).all()
    # A schedule that knows the length would differ: the same number of epochs at the constant rate ends in the best.
    best = model(
        epochs=int(np.argmin(losses)) + 1, learning_rate=0.1, validation_fraction=0.3, patience=200, schedule="constant"
    ).fit(X, few)
    np.testing.assert_array_equal(best.predict_proba(NEW), fit.predict_proba(NEW))


def test_a_line_an_epoch_says_how_long_it_will_go_on(capsys):
    model("plot", epochs=4, verbose=1, validation_fraction=0.2).fit(X, BAGS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("epoch 1 of 2: train_loss ") and "validation_loss" in lines[0]
    assert lines[-1].endswith("about 0 s left")


def bad(ids=IDS, proportions=BAGS.proportions, x=X, **settings):
    return lambda: model(**settings).fit(x, ids, proportions)


HALF = np.full((60, 2), 0.5)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (bad(proportions=BAGS.proportions[1:]), r"60 bags need as many rows of proportions, got \(59, 3\)"),
        (bad(proportions=2 * BAGS.proportions), "bag 0: proportions sum to 2, not 1; divide each row by its sum"),
        (
            bad(proportions=np.where(IDS[:60, None] == 0, np.nan, BAGS.proportions)),
            "bag [0-9]+: proportion of class 0 is nan",
        ),
        (bad(proportions={0: [1, 0, 0]}), "bag 1 has no proportions; the mapping has those of 1 bags"),
        (bad(proportions=[["a", "b"]]), "proportions must be numbers"),
        (bad(ids=IDS[:-1]), "X has 240 instances and y has 239; y has the bag of each"),
        (bad(ids=IDS[:, None]), r"bags must be \(M,\), an id for each instance, got \(240, 1\)"),
        (bad(ids=np.where(IDS == 3, np.nan, IDS)), "the bag of instance [0-9]+ is not finite"),
        (bad(ids=BAGS), "Bags have proportions"),
        (
            bad(ids=Bags(np.array([0, 240]), np.array([0, 2]), HALF[:1]), proportions=None),
            "number instances 0 to 240 of 240",
        ),
        (bad(ids=bag_targets(BAGS)[1:], x=X[1:], proportions=None), "bag [0-9]+ has 3 of its 4 instances here"),
        (bad(ids=None, proportions=None), "requires y to be passed"),
        (
            bad(ids=["a"] * 239 + ["b"], proportions=None, classes=["a"]),
            "label 'b' of instance 239 is none of the classes",
        ),
        (bad(method="supervised"), r"method 'supervised' learns from the class of every instance: fit\(X, labels\)"),
        (bad(method="rotten"), "there is no method 'rotten'; did you mean 'rot'"),
        (bad(params={"alpha": 1}), "method 'dllp' has no hyper-parameter 'alpha'; it has none"),
        (bad(classes=["a", "b"]), "proportions are of 3 classes, and classes names 2"),
        (bad(epochs=0), "epochs must be 1 or more, got 0"),
        (bad(bags_per_batch=0), "bags_per_batch must be 1 or more, got 0"),
        (bad(validation_fraction=1.0), r"fraction must lie in \[0, 1\), got 1.0"),
        (bad(schedule="linear"), "schedule 'linear' is not one of"),
        (
            bad(method="mle_llp", proportions=np.full((60, 3), 1 / 3)),
            "method 'mle_llp' cannot be trained here: bag 0 of 4",
        ),
        (bad(method="llpfc", ids=np.zeros(240), proportions=[[0.5, 0.25, 0.25]]), "it groups 3 bags, and there are 1"),
        (
            lambda: bag_targets(Bags(np.array([0, 0]), np.array([0, 2]), HALF[:1])),
            "2 instances that are not the numbers 0 to 1",
        ),
    ],
)
def test_what_is_no_problem_is_refused_in_one_sentence(act, says):
    with pytest.raises(ValueError, match=says) as error:
        act()
    assert "\n" not in str(error.value)
