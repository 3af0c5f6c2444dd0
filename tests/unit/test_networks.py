"""Backbones: the sizes the papers state, gradients everywhere, and patch features against one patch at a time."""

import pytest
import torch
from torch import nn

from shared import datasets
from shared.datasets.features import features_folder, load_features
from shared.networks import MLP, PatchFeatures, ResNet18
from shared.training.features import RECIPE, build


def trainable(network):
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def test_resnet18_has_the_size_of_the_paper():
    network = ResNet18(10)
    assert sum(p.numel() for p in trainable(network).values()) == 11_169_162
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in network.modules()) == 17
    assert network.last.in_features == 512


def test_resnet18_trains_no_bias_but_the_last():
    network = ResNet18(10, width=4)
    assert [name for name in trainable(network) if name.endswith("bias")] == ["last.bias"]
    frozen = [p for p in network.parameters() if not p.requires_grad]
    assert len(frozen) == 20 and not any(p.any() for p in frozen)


def test_resnet18_learns_the_shift_of_batch_normalisation_where_told():
    """The usual reading of "no biases": of convolutions. Nothing else differs, what is drawn least of all."""
    networks = []
    for shift in (False, True):
        torch.manual_seed(0)
        networks.append(ResNet18(10, width=4, shift=shift))
    assert all(map(torch.equal, *(network.parameters() for network in networks)))
    more = trainable(networks[1]).keys() - trainable(networks[0]).keys()
    assert more == {name for name, p in networks[0].named_parameters() if not p.requires_grad} and len(more) == 20
    networks[1](torch.randn(8, 3, 32, 32)).log_softmax(1)[:, 0].mean().backward()
    assert all(p.grad.abs().max() > 0 for p in trainable(networks[1]).values())


@pytest.mark.parametrize(("n_classes", "channels", "side"), [(10, 3, 32), (100, 3, 32), (2, 1, 28)])
def test_resnet18_gives_one_logit_a_class(n_classes, channels, side):
    network = ResNet18(n_classes, width=4, channels=channels)
    assert network(torch.randn(2, channels, side, side)).shape == (2, n_classes)


def test_resnet18_learns_with_every_weight():
    torch.manual_seed(0)
    network = ResNet18(10, width=4)
    network(torch.randn(8, 3, 32, 32)).log_softmax(1)[:, 0].mean().backward()
    for name, p in trainable(network).items():
        assert p.grad is not None and p.grad.abs().max() > 0, f"no gradient reaches {name}"


def test_resnet18_in_evaluation_sees_each_image_alone():
    torch.manual_seed(0)
    network = ResNet18(10, width=4)
    x = torch.randn(4, 3, 32, 32)
    network(x)
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(x)[:1], network(x[:1]))


def test_resnet18_downsamples_to_four_by_four_and_no_further():
    network, seen = ResNet18(10, width=4), []
    network.blocks.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    network(torch.randn(1, 3, 32, 32))
    assert seen == [(1, 32, 4, 4)]


def test_mlp_flattens_images_and_has_one_hidden_layer():
    network = MLP(12, 5, 3)
    assert [tuple(p.shape) for p in network.parameters()] == [(5, 12), (5,), (3, 5), (3,)]
    x = torch.randn(7, 3, 2, 2)
    torch.testing.assert_close(network(x), network(x.flatten(1)))
    w1, b1, w2, b2 = network.parameters()
    torch.testing.assert_close(network(x), (x.flatten(1) @ w1.T + b1).clamp_min(0) @ w2.T + b2)


@pytest.fixture(scope="module")
def images():
    """(12, 14, 14, 3) uint8, smooth enough that whitening has something to do."""
    rng = torch.Generator().manual_seed(1)
    coarse = torch.rand(12, 3, 4, 4, generator=rng)
    x = nn.functional.interpolate(coarse, size=(14, 14), mode="bilinear") * 150
    return (x + 10 * torch.rand(x.shape, generator=rng) + 20).permute(0, 2, 3, 1).to(torch.uint8)


@pytest.fixture(scope="module")
def features(images):
    return PatchFeatures.fit(images, n_filters=6, patch=5, n_patches=3000)


def slowly(features, image):
    """The features of one (H, W, C) image, patch by patch in float64."""
    size = features.filters.shape[-1]
    filters, shift = features.filters.double(), features.shift.double()
    side = image.shape[0] - size + 1
    half = side // 2
    positive = torch.zeros(2, 2, len(filters), dtype=torch.float64)
    negative = torch.zeros_like(positive)
    for row in range(2 * half):
        for column in range(2 * half):
            patch = image[row : row + size, column : column + size].permute(2, 0, 1).double()
            patch = (patch - patch.mean()) / (patch.var() + features.noise).sqrt()
            response = (filters * patch).sum((1, 2, 3)) - shift
            positive[row // half, column // half] += (response - features.threshold).clamp_min(0)
            negative[row // half, column // half] += (-response - features.threshold).clamp_min(0)
    return torch.cat([positive.flatten(), negative.flatten()]) / half**2


def test_patch_features_equal_one_patch_at_a_time(images, features):
    expected = torch.stack([slowly(features, image) for image in images[:2]])
    torch.testing.assert_close(features(images[:2]).double(), expected, rtol=1e-4, atol=1e-4)


def test_patch_features_are_eight_numbers_a_filter_and_not_negative(images, features):
    y = features(images)
    assert y.shape == (12, 8 * 6) and y.dtype == torch.float32
    assert y.min() >= -1e-6 and (y > 0).any(0).float().mean() > 0.5


def test_patch_features_do_not_see_brightness(images, features):
    torch.testing.assert_close(features(images), features(images + 40), rtol=1e-3, atol=2e-3)


def test_patch_features_of_a_flat_image_are_finite(features):
    assert features(torch.full((1, 14, 14, 3), 255, dtype=torch.uint8)).isfinite().all()


def test_the_dictionary_is_free_of_means(images, features):
    assert features.filters.mean((1, 2, 3)).abs().max() < 1e-6
    patches = images.permute(0, 3, 1, 2).double().unfold(2, 5, 1).unfold(3, 5, 1)
    patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
    patches = (patches - patches.mean(1, keepdim=True)) / (patches.var(1, keepdim=True) + 10).sqrt()
    response = patches @ features.filters.double().flatten(1).T - features.shift
    assert (response.mean(0).abs() < 0.1 * response.std(0)).all()


def test_the_dictionary_is_drawn_by_its_seed(images, features):
    same = PatchFeatures.fit(images, n_filters=6, patch=5, n_patches=3000)
    other = PatchFeatures.fit(images, n_filters=6, patch=5, n_patches=3000, seed=1)
    assert torch.equal(same.filters, features.filters) and not torch.equal(other.filters, features.filters)


def test_cached_features_are_what_their_recorded_version_says(images, features):
    """Changed values need a new version in `shared.training.features.RECIPE`, or old caches stay in use unseen."""
    assert RECIPE["version"] == 2
    torch.testing.assert_close(features(images).double().sum().item(), 30.96608, rtol=1e-3, atol=0)


def test_features_are_made_once_and_known_again_without_their_manifest(tmp_path):
    """Snakemake removes the manifest of an outdated job before it runs it."""
    datasets.fetch("simulated_images", tmp_path)
    assert build("simulated_images", tmp_path, threads=1) and not build("simulated_images", tmp_path)
    manifest = features_folder("simulated_images", tmp_path) / "manifest.json"
    before = manifest.read_bytes()
    manifest.unlink()
    assert not build("simulated_images", tmp_path) and manifest.read_bytes() == before
    assert load_features("simulated_images", tmp_path).train.shape == (2000, 8 * RECIPE["n_filters"])


def test_resnet18_for_large_images_has_no_biases_without_normalisation():
    """The classifier of photos in Barucic & Kybic 2022, as in their code."""
    network = ResNet18(2, width=16, large=True, norm=False)
    assert [name for name in trainable(network) if name.endswith("bias")] == ["last.bias"]
    x = torch.zeros(2, 3, 120, 96)
    assert network.blocks(network.stem(x)).shape == (2, 128, 4, 3) and network(x).shape == (2, 2)
    torch.testing.assert_close(network(x), network.last(network.features(x)))
