"""Predictors of proportions (Table 3). Wrong here, and a crop is not the cell's, a pre-trained encoder starts from
something else, or a network cannot learn from the proportions of its images.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from papers.vp_dsd.data import image_bags
from papers.vp_dsd.detection.layers import ComplexConvs
from papers.vp_dsd.detection.network import DeepSparseDetector, object_images
from papers.vp_dsd.imaging.crops import crops
from papers.vp_dsd.imaging.holograms import Cells, Holograms
from papers.vp_dsd.imaging.optics import Optics
from papers.vp_dsd.learning.rivals import method_of
from papers.vp_dsd.regression.networks import CFCRN, Encoded, LeNet, network_of, resnet, shares, with_moduli
from shared.bags import BagError
from shared.config import find
from shared.training import Inputs, Schedule, fit

CPU = torch.device("cpu")
SETTINGS = {"width": 8, "crop": 16, "hidden": 8}
LEARNING = find("vp_dsd", "smoke", "simulated_holograms/kl/seed0").spec.but(learning_rate=0.001, bags_per_batch=6)
ROWS = [
    ("direct", "resnet18"),
    ("direct", "encoder"),
    ("heatmap", "c_fcrn"),
    ("heatmap", "encoder"),
    ("oracle", "lenet"),
    ("oracle", "encoder"),
]


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return ComplexConvs((1, 3, 3, 3), (5, 5, 3))


def made(n=8, side=32, seed=0):
    """Holograms of two kinds of blood: squares that differ in brightness, by subject one kind or the other."""
    rng = np.random.default_rng(seed)
    images = 0.1 * rng.normal(size=(n, side, side)).astype(np.float32)
    counts = rng.integers(2, 5, n)
    centres = rng.integers(0, side, (counts.sum(), 2)).astype(np.float32)
    image = np.repeat(np.arange(n), counts)
    subjects = np.arange(n) // 2
    for i, (row, column) in zip(image, centres.astype(int), strict=True):
        rows, columns = np.arange(row - 2, row + 3) % side, np.arange(column - 2, column + 3) % side
        images[i][np.ix_(rows, columns)] += 2 + 2 * (subjects[i] % 2)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    proportions = np.where((np.arange(n // 2) % 2)[:, None], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1])
    splits = np.zeros(n // 2, np.int64)
    splits[-1] = 2
    cells = Cells(offsets, centres, 2 * (subjects % 2)[image])
    return Holograms(images, subjects, proportions, splits, Optics(0.637, 1.67, 1000.0), cells, simulated=True)


class TestCrops:
    """Windows of periodic images whose middle pixel is the cell's."""

    def test_they_are_the_pixels_of_the_shifted_image(self):
        images, centres = torch.randn(2, 2, 12, 14), np.array([[0.0, 13.0], [11.4, 0.6], [5.0, 5.0]])
        found = crops(images, np.array([0, 1, 3]), centres, 5)
        for crop, image, (row, column) in zip(found, (0, 1, 1), [(0, 13), (11, 1), (5, 5)], strict=True):
            rolled = images[image].roll((2 - row, 2 - column), (1, 2))
            assert torch.equal(crop, rolled[:, :5, :5])

    @pytest.mark.parametrize("size", [1, 4, 11])
    def test_the_centre_is_at_half_the_size(self, size):
        images = torch.arange(256.0).view(1, 1, 16, 16)
        assert crops(images, np.array([0, 1]), np.array([[15.0, 3.0]]), size)[0, 0, size // 2, size // 2] == 243

    @pytest.mark.parametrize(
        ("offsets", "centres", "size", "says"),
        [
            ([0, 1, 2], [[1, 1], [np.nan, 2]], 3, "image 1 is not finite"),
            ([0, 1], [[1, 1]], 3, "over 2 images"),
            ([0, 1, 3], [[1, 1], [2, 2]], 3, "2 centres"),
            ([0, 1, 2], [[1, 1], [2, 2]], 9, "crops of 9 pixels do not fit images of 8x8"),
        ],
    )
    def test_what_cannot_be_cropped(self, offsets, centres, size, says):
        with pytest.raises(ValueError, match=says):
            crops(torch.zeros(2, 2, 8, 8), np.array(offsets), np.array(centres, float), size)

    def test_a_crop_is_encoded_as_in_the_whole_image(self, encoder):
        """What makes joint training of encoder and classifier cheap; borders included, for images are periodic."""
        holograms = made()
        images = object_images(torch.from_numpy(holograms.images), holograms.optics, 1.0)
        network = Encoded(encoder, torch.nn.Identity())
        cells = holograms.cells
        found = network.encodings(crops(images, cells.offsets, cells.centres, network.size))
        image = np.repeat(np.arange(8), np.diff(cells.offsets))
        row, column = cells.centres.astype(int).T
        torch.testing.assert_close(found, with_moduli(encoder(images))[image, :, row, column])
        with pytest.raises(ValueError, match="crops of 11x11"):
            network(images)


def test_the_image_is_the_propagated_hologram_in_units_of_its_rms():
    """What the detector's encoder is trained on: its weights mean nothing on anything else."""
    holograms, optics = torch.randn(2, 16, 16), Optics(0.637, 1.67, 1000.0)
    detector = DeepSparseDetector(optics, maps=2)
    detector.calibrate(3 * holograms)
    torch.testing.assert_close(object_images(holograms, optics, float(detector.unit)), detector.image(holograms))


class TestBags:
    """One bag an image to learn from, one a subject to be measured on, the subject's label either way."""

    def test_by_image_and_by_subject(self):
        holograms = replace(made(), subjects=np.array([3, 0, 1, 2, 0, 1, 2, 3]))
        cells = holograms.cells.offsets
        learned, measured = image_bags(holograms, 0, cells), image_bags(holograms, 0, cells, by_subject=True)
        assert len(learned) == 6 and len(measured) == 3
        np.testing.assert_array_equal(learned.indices, measured.indices)
        np.testing.assert_array_equal(learned.proportions, holograms.proportions[[0, 0, 1, 1, 2, 2]])
        np.testing.assert_array_equal(learned.sizes, np.diff(cells)[[1, 4, 2, 5, 3, 6]])
        np.testing.assert_array_equal(measured.sizes, learned.sizes.reshape(3, 2).sum(1))
        np.testing.assert_array_equal(image_bags(holograms, 2, by_subject=True).indices, [0, 7])
        assert len(image_bags(holograms, 1)) == 0 == len(image_bags(holograms, 1, by_subject=True))

    def test_empty_images_are_left_out_and_empty_subjects_refused(self):
        offsets = np.array([0, 0, 2, 3, 4, 4, 5, 6, 7])
        assert image_bags(made(), 0, offsets).sizes.tolist() == [2, 1, 1, 1]
        with pytest.raises(BagError, match="images of subject 1"):
            image_bags(made(), 0, np.array([0, 1, 2, 2, 2, 3, 4, 5, 6]))


def spec_of(predictor, network, **more):
    """A spec of a row of Table 3, with the settings above that it reads."""
    spec = find("vp_dsd", "smoke", "simulated_holograms/oracle-encoder-kl/seed0").spec
    spec = spec.but(predictor=predictor, network=network)
    return spec.but(**{key: value for key, value in {**SETTINGS, **more}.items() if key in spec})


def task(predictor, network, encoder):
    """A row's network, its inputs and its training bags."""
    torch.manual_seed(1)
    holograms = made()
    width = 16 if network == "resnet18" else 8
    model = network_of(spec_of(predictor, network, width=width), 3, encoder if network == "encoder" else None)
    x = object_images(torch.from_numpy(holograms.images), holograms.optics, 1.0)
    cells = holograms.cells.offsets if predictor == "oracle" else None
    if predictor == "oracle":
        x = crops(x, cells, holograms.cells.centres, getattr(model, "size", SETTINGS["crop"]))
    if network == "encoder":
        model.start(x)
    return model, Inputs(x, CPU), image_bags(holograms, 0, cells)


@pytest.mark.parametrize(("predictor", "network"), ROWS)
def test_every_row_of_table_3_learns_from_proportions(predictor, network, encoder):
    model, inputs, bags = task(predictor, network, encoder)
    assert model(inputs.batch(bags.indices[:5])).shape == (5, 3)
    method, bags, more = method_of(LEARNING, model, inputs, bags, np.full(len(inputs), -1))
    schedule = Schedule("constant", LEARNING.learning_rate)
    fitted = fit(method, inputs, bags, epochs=6, schedule=schedule, seed=0, evaluate=lambda method: {}, **more)
    losses = fitted["curves"]["train_loss"]
    assert losses[-1] < losses[0] - 0.01


@pytest.mark.parametrize("predictor", ["direct", "heatmap", "oracle"])
def test_a_trained_encoder_is_where_it_starts_and_stays_as_it_was(predictor, encoder):
    model, inputs, _ = task(predictor, "encoder", encoder)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())
    model(inputs.batch(np.arange(4))).square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad.abs().max() > 0  # jointly learned
            parameter -= parameter.grad
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_features_start_white(encoder):
    """Without it the rare class is lost in directions of small variance."""
    network = Encoded(encoder, torch.nn.Identity())
    x = torch.randn(500, 2, 11, 11)
    network.start(x)
    features = network(x).detach()
    torch.testing.assert_close(features.mean(0), torch.zeros(9), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.T.cov(correction=0), torch.eye(9), atol=1e-3, rtol=0)


def test_residual_networks_read_two_channels():
    for depth in (18, 152):
        with torch.device("meta"):
            assert resnet(depth, 3)(torch.randn(2, 2, 64, 64)).shape == (2, 3)


def test_density_maps_sum_to_proportions():
    maps = torch.randn(2, 3, 8, 8)
    density = torch.nn.functional.softplus(maps).sum((2, 3))
    torch.testing.assert_close(shares(maps).softmax(1), density / density.sum(1, keepdim=True))
    network = CFCRN(3, 4).eval()
    x = torch.randn(2, 2, 16, 24)
    assert network.maps(x).shape == (2, 3, 16, 24)
    torch.testing.assert_close(network(x), shares(network.maps(x)))
    odd = x[..., :20]  # recorded images have any side: the periodic image goes on
    torch.testing.assert_close(network.maps(odd), network.maps(torch.cat([odd, odd[..., :4]], -1)))


def test_lenet_is_that_of_32_pixels():
    assert sum(p.numel() for p in LeNet(10, channels=1).parameters()) == 61_706  # LeNet-5 with full connections
    with pytest.raises(ValueError, match="at least 16 pixels, got 15"):
        LeNet(3, size=15)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("direct", "lenet"), "no predictor 'direct' with network 'lenet'"),
        (("oracle", "c_fcrn"), "no predictor 'oracle'"),
        (("direct", "resnet50"), "50 layers, 8 wide: take 18, or 50, 101, 152 of width 64"),
    ],
)
def test_rows_that_table_3_does_not_have(row, says):
    with pytest.raises(ValueError, match=says):
        network_of(spec_of(*row), 3, None)
