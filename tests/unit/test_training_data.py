"""A prepared set as a network reads it, and the frame around a run, which gives every record one shape."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shared.config import ConfigError, Spec, SpecError, find
from shared.networks import PatchFeatures
from shared.training import Augmentation, Result, data, framed
from shared.training.inputs import channel_statistics

CPU = torch.device("cpu")
MOVES = Augmentation(shift=1, flip=True)
RNG = np.random.default_rng(0)
IMAGES = SimpleNamespace(
    x_train=RNG.integers(0, 256, (12, 4, 5, 3), dtype=np.uint8),
    x_test=RNG.integers(0, 256, (5, 4, 5, 3), dtype=np.uint8),
    y_train=np.arange(12) % 3,
    y_test=np.arange(5) % 3,
    n_classes=3,
    sha256="of the images",
)
POINTS = SimpleNamespace(**{**vars(IMAGES), "x_train": RNG.normal(size=(12, 2)), "x_test": RNG.normal(size=(5, 2))})
FEATURES = SimpleNamespace(
    train=RNG.normal(size=(12, 7)).astype(np.float16),
    test=RNG.normal(size=(5, 7)).astype(np.float16),
    sha256="of the features",
)
ALL = np.arange(5)


@pytest.fixture(autouse=True)
def sets(monkeypatch):
    """Two sets in memory; the names of those that were loaded."""
    loaded = []

    def load(name):
        loaded.append(name)
        return {"images": IMAGES, "points": POINTS}[name]

    monkeypatch.setattr(data.datasets, "load", load)
    monkeypatch.setattr(data.datasets, "load_features", lambda name: FEATURES)
    data.data_of.cache_clear()
    yield loaded
    data.data_of.cache_clear()


def test_images_are_standardised_by_the_training_set():
    found = data.data_of("images", CPU)
    mean, std = (np.array(values) for values in channel_statistics(IMAGES.x_train))
    for inputs, images in ((found.train, IMAGES.x_train), (found.test, IMAGES.x_test)):
        expected = (images[ALL] - mean) / std
        np.testing.assert_allclose(inputs.batch(ALL).permute(0, 2, 3, 1).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert len(found.train) == 12 and len(found.test) == 5 and found.n_classes == 3
    assert found.y_train is IMAGES.y_train and found.y_test is IMAGES.y_test
    assert found.checksums == {"images": "of the images"}


def test_symmetric_pixels_lie_between_minus_one_and_one():
    found = data.data_of("images", CPU, scale=data.SYMMETRIC)
    expected = IMAGES.x_test / 127.5 - 1
    np.testing.assert_allclose(found.test.batch(ALL).permute(0, 2, 3, 1).numpy(), expected, rtol=1e-5, atol=1e-6)
    assert data.scaling(IMAGES.x_train, data.SYMMETRIC) == ([127.5] * 3, [127.5] * 3)


def test_only_the_training_images_move():
    found = data.data_of("images", CPU, augment=MOVES)
    assert not torch.equal(found.train.batch(ALL, seed=1), found.train.batch(ALL))
    assert torch.equal(found.test.batch(ALL, seed=1), found.test.batch(ALL))


def test_points_are_read_as_they_are_and_do_not_move():
    found = data.data_of("points", CPU, augment=MOVES)
    np.testing.assert_array_equal(found.train.batch(ALL, seed=1).numpy(), POINTS.x_train[ALL].astype(np.float32))


def test_cached_features_stand_in_for_the_images_and_their_checksum_is_kept_too():
    found = data.data_of("images", CPU, features=True, augment=MOVES)
    np.testing.assert_array_equal(found.test.batch(ALL, seed=1).numpy(), FEATURES.test.astype(np.float32))
    assert found.checksums == {"images": "of the images", "features/images": "of the features"}
    dataset, train, test, checksums = data.arrays_of("images", features=True)
    assert (dataset, train, test, checksums) == (IMAGES, FEATURES.train, FEATURES.test, found.checksums)


def test_a_part_of_the_filters_gives_what_these_filters_alone_would_give(monkeypatch):
    """Columns of other filters, or in another order, would be another network under the same name."""
    images = torch.from_numpy(RNG.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8))
    some = PatchFeatures.fit(images, n_filters=6, patch=3, n_patches=200)
    few = PatchFeatures(some.filters[:2], some.shift[:2], some.noise)
    of_all = SimpleNamespace(train=some(images).numpy(), test=some(images[:5]).numpy(), sha256="of the features")
    monkeypatch.setattr(data.datasets, "load_features", lambda name: of_all)
    found = data.data_of("images", CPU, features=True, filters=2)
    np.testing.assert_allclose(found.train.batch(ALL).numpy(), few(images)[ALL].numpy(), rtol=1e-4, atol=1e-5)
    assert found.test.batch(ALL).shape == (5, 16) and found.checksums["features/images"] == "of the features"
    with pytest.raises(data.datasets.DatasetError, match="filters 7: the cached features have 6, ask for fewer"):
        data.data_of("images", CPU, features=True, filters=7)


def test_the_next_run_of_a_process_takes_the_same_data(sets):
    first = data.data_of("images", CPU)
    assert data.data_of("images", CPU) is first and sets == ["images"]
    assert data.data_of("images", CPU, augment=MOVES) is not first
    again = data.data_of("images", CPU, augment=Augmentation(shift=1, flip=True))
    assert again is data.data_of("images", CPU, augment=MOVES) and sets == ["images", "images"]


class TestFramed:
    """What a decorated train function is called with and gives back."""

    @pytest.fixture
    def spec(self):
        return find("rot", "smoke", "digits/rot/bag4/seed0").spec

    @pytest.fixture
    def calls(self):
        return []

    @pytest.fixture
    def train(self, calls):
        @framed("rot")
        def train(spec, device, session):
            """Train."""
            calls.append((spec, device, session))
            return None if session.get("deadline") == 0 else Result({"last": {"accuracy": 1.0}}, cost={"train_s": 2.0})

        return train

    def test_it_gets_the_spec_a_ready_device_and_the_session(self, train, calls, spec):
        train(spec, device="cpu", key="k", deadline=5.0)
        assert calls == [(spec, CPU, {"key": "k", "deadline": 5.0})] and calls[0][0] is spec
        assert train.__doc__ == "Train." and train.__name__ == "train"

    def test_the_result_says_on_what_and_how_much_memory_it_took(self, train, spec):
        result = train(spec, device="cpu")
        assert result.device == "cpu" and result.metrics == {"last": {"accuracy": 1.0}}
        assert result.cost["train_s"] == 2.0 and result.cost["peak_memory_mb"] > 10
        assert (result.curves, result.bags, result.data, result.says, result.method) == ({}, {}, {}, "", None)

    def test_results_share_nothing(self, train, spec):
        train(spec, device="cpu").curves["epoch"] = [1]
        assert train(spec, device="cpu").curves == {}

    def test_a_run_that_was_stopped_has_no_result(self, train, spec):
        assert train(spec, device="cpu", deadline=0) is None

    def test_a_plain_mapping_becomes_a_spec_and_must_be_whole(self, train, calls, spec):
        train({**spec}, device="cpu")
        assert isinstance(calls[0][0], Spec) and calls[0][0] == spec and calls[0][0].unread == list(spec)
        for wrong, message in (
            ({**spec, "alfa": 0.4}, r"unknown key 'alfa'; did you mean 'alpha'\?"),
            ({key: spec[key] for key in spec if key != "alpha"}, "the value of 'alpha' is missing"),
            ({**spec, "width": 64}, "width would not be read; it is where network is 'resnet18'"),
        ):
            with pytest.raises(SpecError, match=message):
                train(wrong, device="cpu")
        assert len(calls) == 1

    def test_a_device_that_is_not_there_stops_before_anything_trains(self, train, calls, spec):
        with pytest.raises(ConfigError, match="device 'cuda' was asked for, .* use --device cpu"):
            train(spec, device="cuda")
        assert calls == []
