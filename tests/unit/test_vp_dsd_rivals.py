"""The rivals of Tables 1 and 2 on small embeddings: what each is taught, that it learns, and that it can be resumed."""

import copy

import numpy as np
import pytest
import torch

from papers.vp_dsd.learning.classifier import network_of, whitening
from papers.vp_dsd.learning.feature_label import flm_loss, match
from papers.vp_dsd.learning.prototypes import PrototypicalClustering
from papers.vp_dsd.learning.rivals import RIVALS, method_of
from papers.vp_dsd.loss import entropy
from shared.bags import Bags, segment_mean
from shared.config import find
from shared.methods import Batch, kl_loss
from shared.training import Inputs, Schedule, accuracy, fit, predictions
from tests.conftest import of_any_text

CPU = torch.device("cpu")
SETTINGS = {
    "hidden": 16,
    "learning_rate": 0.01,
    "bags_per_batch": 8,
    "flm_entropy": 0.01,
    "flm_weight": 5e-4,
    "flm_share": 0.03,
    "flm_labels": "predicted",
    "pc_noise": 0.1,
    "pc_temperature": 0.1,
    "pc_epsilon": 0.05,
    "transport": "hard",
    "second_loss": "ce",
    "average": 2,
    "mixup": 0,
}


def spec_of(loss, **more):
    """The smoke spec of a loss, with the settings above that it reads."""
    spec = find("vp_dsd", "smoke", f"simulated_holograms/{loss}/seed0").spec
    return spec.but(**{key: value for key, value in SETTINGS.items() if key in spec}, **more)


def cells(n_bags=40, seed=0, concentration=1):
    """Three clusters in ragged bags that are samples of their subject's proportions; one detection in 30 is no cell."""
    rng = np.random.Generator(np.random.PCG64(seed))
    shares, sizes = rng.dirichlet(concentration * np.array([5, 3, 8]), n_bags), rng.integers(8, 24, n_bags)
    labels = np.concatenate([rng.choice(3, n, p=y) for n, y in zip(sizes, shares, strict=True)])
    x = 3 * np.eye(3)[labels] + rng.normal(size=(len(labels), 3))
    labels[::30] = -1
    bags = Bags(np.arange(len(x)), np.concatenate([[0], np.cumsum(sizes)]), shares)
    return Inputs(x.astype(np.float32), CPU), bags, labels


def train(spec, network, epochs, data, **session):
    inputs, bags, labels = data
    method, learned, more = method_of(spec, network, inputs, bags, labels)
    schedule = Schedule("constant", spec.learning_rate)
    settings = {"epochs": epochs, "schedule": schedule, "seed": spec.seed, "evaluate": lambda method: {}}
    return method, fit(method, inputs, learned, **settings, **more, **session)


@pytest.fixture(scope="module")
def data():
    return cells()


@pytest.fixture(scope="module")
def pretrained(data):
    network = network_of(spec_of("kl"), 3, 3, CPU)
    train(spec_of("kl"), network, 15, data)
    return network


def start(loss, pretrained):
    """The network that a loss starts from: one trained with KL if it has epochs of that."""
    spec = spec_of(loss)
    return copy.deepcopy(pretrained) if "pretrain_epochs" in spec else network_of(spec, 3, 3, CPU)


@pytest.mark.parametrize("loss", RIVALS)
def test_every_method_learns_to_tell_the_cells_from_proportions(loss, data, pretrained):
    inputs, _, labels = data
    method, _ = train(spec_of(loss), start(loss, pretrained), 25, data)
    p = predictions(method, inputs, np.arange(len(labels)))
    torch.testing.assert_close(p.sum(1), torch.ones(len(p)))
    assert accuracy(method, inputs, labels, np.flatnonzero(labels >= 0)) > (
        70 if loss == "pc" else 85
    )  # half are of one class


@pytest.mark.parametrize("loss", ["vp_l2", "vp_ce"])
def test_the_vp_loss_ends_surer_of_single_cells_than_kl_where_bags_are_alike(loss, pretrained):
    """Section 3: proportions that hardly vary leave KL near their entropy, 1.02 nats here; VP commits to labels."""
    data = cells(concentration=10)
    everything = np.arange(len(data[2]))
    methods = [train(spec_of(name), copy.deepcopy(pretrained), 10, data)[0] for name in ("kl", loss)]
    of_kl, of_vp = (float(entropy(predictions(method, data[0], everything))) for method in methods)
    assert of_kl > 0.9 and of_vp < 0.6


@pytest.mark.parametrize("loss", RIVALS)
def test_stopped_and_resumed_it_ends_in_the_same_numbers(loss, data, pretrained, tmp_path):
    spec, session = spec_of(loss), {"key": "spec", "checkpoint": tmp_path / "run.pt", "checkpoint_every": 0.0}

    def stop(fraction, numbers):
        if fraction > 0.4:
            raise KeyboardInterrupt

    straight, expected = train(spec, start(loss, pretrained), 4, data)
    with pytest.raises(KeyboardInterrupt):
        train(spec, start(loss, pretrained), 4, data, report=stop, **session)
    resumed, found = train(spec, start(loss, pretrained), 4, data, **session)
    assert found["curves"] == expected["curves"]
    for ours, theirs in zip(resumed.network.parameters(), straight.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("loss", RIVALS)
def test_all_make_equally_many_updates_in_an_epoch(loss, data):
    inputs, bags, labels = data
    _, learned, more = method_of(spec_of(loss), network_of(spec_of("kl"), 3, 3, CPU), inputs, bags, labels)
    assert -(-len(learned) // more["bags_per_batch"]) == 5


def test_only_the_supervised_bound_learns_from_labels_of_cells(data):
    inputs, bags, labels = data
    of_labels, of_none = {}, {}
    for loss in RIVALS:
        for found, known in ((of_labels, labels), (of_none, (labels + 1) % 3)):
            method, _ = train(spec_of(loss), network_of(spec_of("kl"), 3, 3, CPU), 1, (inputs, bags, known))
            found[loss] = predictions(method, inputs, np.arange(50))
    assert [loss for loss in RIVALS if not torch.equal(of_labels[loss], of_none[loss])] == ["supervised"]


def test_the_supervised_bound_leaves_out_what_is_no_cell(data):
    inputs, bags, labels = data
    _, learned, _ = method_of(spec_of("supervised"), network_of(spec_of("kl"), 3, 3, CPU), inputs, bags, labels)
    assert (labels == -1).any() and np.array_equal(learned.indices, np.flatnonzero(labels >= 0))
    np.testing.assert_array_equal(learned.proportions, np.eye(3)[labels[labels >= 0]])


def test_wrong_requests_are_named(data):
    inputs, bags, labels = data
    network = network_of(spec_of("kl"), 3, 3, CPU)
    with pytest.raises(ValueError, match="loss 'vp' is not one of mse, kl"):
        method_of(of_any_text(spec_of("kl")).but(loss="vp"), network, inputs, bags, labels)
    with pytest.raises(ValueError, match="no detection has a label"):
        method_of(spec_of("supervised"), network, inputs, bags, np.full_like(labels, -1))
    with pytest.raises(ValueError, match="one of predicted, every, not 'all'"):
        flm_loss(torch.zeros(2, 3).log_softmax(1), torch.tensor([0, 2]), torch.full((1, 3), 1 / 3), labels="all")


def flm_bags():
    """Two bags; predicted 0 0 0 1 and 2 2 0 0 0, the second without class 0 in its proportions."""
    predicted = torch.tensor([0, 0, 0, 1, 2, 2, 0, 0, 0])
    log_p = (2.0 * torch.eye(3)[predicted]).log_softmax(1)
    return log_p, torch.tensor([0, 4, 9]), torch.tensor([[0.6, 0.2, 0.2], [0.0, 0.5, 0.5]])


def test_flm_teaches_an_instance_its_predicted_class_where_the_bag_has_it():
    log_p, offsets, proportions = flm_bags()
    expected = torch.zeros(9, 3)
    expected[:3, 0], expected[3, 1], expected[4:6, 2] = 1 / 3, 1, 1 / 2
    torch.testing.assert_close(match(log_p, offsets, proportions, share=0.03, labels="predicted"), expected)
    expected[3] = 0  # one of four is no longer frequent
    torch.testing.assert_close(match(log_p, offsets, proportions, share=0.3, labels="predicted"), expected)


def test_flm_as_released_teaches_every_class_of_the_bag_to_all_with_a_frequent_prediction():
    log_p, offsets, proportions = flm_bags()
    expected = torch.cat([torch.full((4, 3), 1 / 4), torch.tensor([0, 1 / 5, 1 / 5]).expand(5, 3)])
    torch.testing.assert_close(match(log_p, offsets, proportions, share=0.03, labels="every"), expected)


def test_flm_adds_up_its_three_terms():
    log_p, offsets, proportions = flm_bags()
    level, best = kl_loss(log_p, offsets, proportions), log_p.max()  # each of three means of NLL is -best
    torch.testing.assert_close(flm_loss(log_p, offsets, proportions, entropy_weight=0, match_weight=0), level / 3)
    expected = (level + 0.1 * entropy(log_p.exp())) / 3 - 0.02 * 3 * best
    torch.testing.assert_close(flm_loss(log_p, offsets, proportions, entropy_weight=0.1, match_weight=0.02), expected)


def clustering(**settings):
    network = network_of(spec_of("pc").but(hidden=8), 3, 3, CPU)
    return PrototypicalClustering(network, torch.optim.Adam(network.parameters(), 0.01), **settings)


def test_cluster_assignments_have_the_proportions_of_their_bag():
    method, (inputs, bags, _) = clustering(), cells()
    similarities = method._similarities(inputs.batch(bags.indices))
    assert similarities.abs().max() <= 1 + 1e-6
    offsets, proportions = torch.from_numpy(bags.offsets), torch.from_numpy(bags.proportions).float()
    assigned = method.assign(similarities, offsets, proportions)
    torch.testing.assert_close(assigned.sum(1), torch.ones(len(assigned)))
    torch.testing.assert_close(segment_mean(assigned, offsets), proportions, atol=5e-3, rtol=0)
    assert not assigned.requires_grad


def test_the_nearest_prototype_is_predicted_whatever_the_lengths():
    method, x = clustering(), torch.randn(20, 3)
    p = method.predict(x)
    z, c = method.network.features(x), method.network.last.weight
    nearest = torch.nn.functional.cosine_similarity(z[:, None], c[None], dim=2)
    torch.testing.assert_close(p, (nearest / 0.1).softmax(1))
    with torch.no_grad():
        c *= torch.tensor([[1.0], [5.0], [0.2]])
    torch.testing.assert_close(method.predict(x), p)


def test_each_view_learns_the_assignment_of_the_other():
    """With the second view far from the first, its own assignment would be another target."""
    method = clustering(noise=3.0)
    x, offsets, proportions = torch.randn(12, 3), torch.tensor([0, 12]), torch.tensor([[0.5, 0.3, 0.2]])
    torch.manual_seed(1)
    views = (x.repeat(2, 1) + 3 * torch.randn(24, 3)).chunk(2)
    s, t = (method._similarities(view) for view in views)
    q, r = (method.assign(similarities, offsets, proportions) for similarities in (s, t))
    expected = -((r * (s / 0.1).log_softmax(1)).sum(1) + (q * (t / 0.1).log_softmax(1)).sum(1)).mean() / 2
    torch.manual_seed(1)
    found = method.update(Batch(x, offsets, proportions))["loss"]
    torch.testing.assert_close(found, expected.detach())


def encodings(n=500, d=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, d, 2, generator=rng) * torch.logspace(0, -1, d)[:, None]
    return torch.view_as_complex(mixed) + (1 + 0.5j)


def test_whitened_features_are_uncorrelated_and_of_unit_variance():
    x = encodings()
    whiten = whitening(x)
    features = whiten(x)
    assert features.shape == (500, 12) and features.dtype == torch.float32
    torch.testing.assert_close(features.mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    variances = torch.linalg.eigvalsh(features.T.double() @ features.double() / 500)
    assert variances.max() < 1 + 1e-4 and variances.median() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(whiten(x[:7]), features[:7])


def test_whitening_does_not_depend_on_the_scale_and_does_not_blow_up_a_dead_channel():
    x = encodings()
    torch.testing.assert_close(whitening(100 * x)(100 * x), whitening(x)(x), atol=1e-3, rtol=1e-3)
    dead = torch.cat([x, torch.full((500, 1), 2 + 1j)], 1)
    features = whitening(dead)(dead)
    assert features.isfinite().all() and features[:, [4, 9, 14]].abs().max() < 1e-3


def test_encodings_that_cannot_be_whitened_are_named():
    x = encodings()
    with pytest.raises(ValueError, match="two encodings or more, got 1"):
        whitening(x[:1])
    with pytest.raises(ValueError, match="all 500 encodings are equal"):
        whitening(x[:1].expand(500, 4))
    with pytest.raises(ValueError, match=r"must be \(M, d\) and complex"):
        whitening(x.real)
    whiten = whitening(x)
    x[3, 1] = torch.nan
    with pytest.raises(ValueError, match="encoding 3 is not finite"):
        whiten(x)


def test_all_losses_of_a_seed_start_from_one_classifier():
    first, again, other = (network_of(spec_of("kl", seed=seed), 5, 3, CPU) for seed in (0, 0, 1))
    assert torch.equal(first.last.weight, again.last.weight) and not torch.equal(first.last.weight, other.last.weight)
    x = torch.randn(4, 5)
    assert first(x).shape == (4, 3) and torch.equal(first.last(first.features(x)), first(x))
