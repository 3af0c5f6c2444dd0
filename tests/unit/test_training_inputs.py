"""Inputs: images standardised and augmented as the paper says, and drawn alike on every device."""

import numpy as np
import pytest
import torch

from shared.training import Augmentation, Inputs
from shared.training.inputs import channel_statistics

CPU = torch.device("cpu")
RAW = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
MOVES = Augmentation(shift=1, flip=True)
IMAGES = np.random.default_rng(0).integers(1, 256, (3, 5, 6, 3), dtype=np.uint8)


def moved(image):
    """The 18 images that a shift by at most one pixel and a left-right flip make of one."""
    height, width, _ = image.shape
    for flipped in (image, image[:, ::-1]):
        padded = np.pad(flipped, ((1, 1), (1, 1), (0, 0)))
        for down in range(3):
            for right in range(3):
                yield padded[down : down + height, right : right + width]


def pixels(batch):
    return batch.permute(0, 2, 3, 1).numpy()


def test_channel_statistics_are_numpys():
    mean, std = channel_statistics(IMAGES)
    np.testing.assert_allclose(mean, IMAGES.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, IMAGES.std((0, 1, 2)), rtol=1e-12)
    assert channel_statistics(torch.from_numpy(IMAGES)) == (mean, std)


def test_a_channel_of_one_colour_is_not_divided_by_zero():
    assert channel_statistics(np.full((2, 4, 4, 1), 7, np.uint8)) == ([7.0], [1.0])


def test_images_are_standardised_channel_first():
    inputs = Inputs(IMAGES, CPU)
    x = inputs.batch(np.array([2, 0]))
    assert x.shape == (2, 3, 5, 6) and x.dtype == torch.float32 and len(inputs) == 3
    expected = (IMAGES[[2, 0]] - IMAGES.mean((0, 1, 2))) / IMAGES.std((0, 1, 2))
    np.testing.assert_allclose(pixels(x), expected, rtol=1e-4, atol=1e-5)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_test_images_take_the_statistics_of_the_training_set():
    x = Inputs(IMAGES[:1], CPU, ((10.0, 20.0, 30.0), (2.0, 4.0, 8.0))).batch([0])
    expected = (IMAGES[:1] - np.array([10.0, 20.0, 30.0])) / np.array([2.0, 4.0, 8.0])
    np.testing.assert_allclose(pixels(x), expected, rtol=1e-6)


def test_augmentation_is_one_of_the_eighteen_moves_and_all_of_them_come():
    x = pixels(Inputs(IMAGES, CPU, RAW, augment=MOVES).batch(np.zeros(600, int), seed=1))
    candidates = np.stack(list(moved(IMAGES[0]))).astype(np.float32)
    equal = (x[:, None] == candidates[None]).all((2, 3, 4))
    assert (equal.sum(1) == 1).all(), "an image that no shift and flip makes"
    share = equal.mean(0)
    assert len(share) == 18 and share.min() > 0.02 and share.max() < 0.12
    assert abs(share[9:].sum() - 0.5) < 0.08


def test_each_image_of_a_batch_moves_on_its_own_and_stays_itself():
    x = pixels(Inputs(IMAGES, CPU, RAW, augment=MOVES).batch(np.array([0, 1, 2]), seed=5))
    for image, got in zip(IMAGES, x, strict=True):
        assert any((got == candidate).all() for candidate in moved(image))


def test_pixels_that_come_in_are_black_before_standardising():
    inputs = Inputs(IMAGES, CPU, augment=MOVES)
    x = inputs.batch(np.zeros(50, int), seed=0)
    black = -inputs.mean / inputs.std
    corner = x[:, :, 0, 0]
    assert (corner - black).abs().amax(1).lt(1e-5).any()


def test_the_same_seed_augments_the_same_and_another_does_not():
    inputs, which = Inputs(IMAGES, CPU, augment=MOVES), np.arange(30) % 3
    assert torch.equal(inputs.batch(which, seed=3), inputs.batch(which, seed=3))
    assert not torch.equal(inputs.batch(which, seed=3), inputs.batch(which, seed=4))


def test_augmentation_leaves_the_global_stream_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Inputs(IMAGES, CPU, augment=MOVES).batch([0, 1], seed=3)
    assert torch.equal(torch.rand(3), expected)


def test_nothing_is_augmented_at_evaluation_or_unless_asked():
    plain, augmented = Inputs(IMAGES, CPU), Inputs(IMAGES, CPU, augment=MOVES)
    which = np.array([0, 1, 2])
    assert torch.equal(augmented.batch(which), plain.batch(which))
    assert torch.equal(plain.batch(which, seed=7), plain.batch(which))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.float32])
def test_features_are_cast_as_they_are(dtype):
    features = np.random.default_rng(0).normal(size=(4, 7)).astype(dtype)
    inputs = Inputs(features, CPU, augment=MOVES)
    x = inputs.batch(np.array([3, 1]), seed=0)
    assert x.dtype == torch.float32 and len(inputs) == 4
    np.testing.assert_array_equal(x.numpy(), features[[3, 1]].astype(np.float32))


def test_read_only_memory_maps_are_taken_without_a_warning(tmp_path, recwarn):
    np.save(tmp_path / "x.npy", IMAGES)
    images = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert torch.equal(Inputs(images, CPU).batch([1]), Inputs(IMAGES, CPU).batch([1]))
    assert not recwarn.list


def test_a_wider_shift_cuts_what_padding_and_cropping_would():
    """A border of four, as crops of padded images have it: every move is a window of the padded image."""
    x = pixels(Inputs(IMAGES, CPU, RAW, augment=Augmentation(shift=4)).batch(np.zeros(200, int), seed=1))
    padded = np.pad(IMAGES[0], ((4, 4), (4, 4), (0, 0)))
    windows = np.stack([padded[r : r + 5, c : c + 6] for r in range(9) for c in range(9)])
    assert ((x[:, None] == windows[None]).all((2, 3, 4)).sum(1) >= 1).all()
    assert np.abs(x - IMAGES[0]).max((1, 2, 3)).astype(bool).mean() > 0.9


def test_colour_keeps_within_the_range_and_moves_images_apart():
    x = pixels(Inputs(IMAGES, CPU, RAW, augment=Augmentation(colour=0.4)).batch(np.zeros(50, int), seed=2))
    assert x.min() >= 0 and x.max() <= 255 and x.std(0).min() > 1


def test_blur_smooths_half_of_the_images_and_keeps_a_flat_one_flat():
    blur = Augmentation(blur=2.0)
    x = pixels(Inputs(IMAGES, CPU, RAW, augment=blur).batch(np.zeros(400, int), seed=3))
    same = np.isclose(x, IMAGES[0], atol=1e-3).all((1, 2, 3))
    assert 0.4 < same.mean() < 0.7  # a small width leaves some of the rest as they are
    assert x[~same].std((1, 2, 3)).max() < IMAGES[0].std()
    flat = pixels(Inputs(np.full_like(IMAGES, 9), CPU, RAW, augment=blur).batch(np.zeros(20, int), seed=3))
    np.testing.assert_allclose(flat, 9, rtol=1e-5)


def test_blur_is_scipys_gaussian():
    from scipy.ndimage import gaussian_filter

    from shared.training.augmentation import _blurred

    image = torch.from_numpy(IMAGES[0]).double().permute(2, 0, 1)[None]
    expected = gaussian_filter(image[0].numpy(), (0, 0.9, 0.9), mode="nearest", radius=(0, 2, 2))
    np.testing.assert_allclose(_blurred(image, torch.tensor([0.9]).double())[0].numpy(), expected, rtol=1e-5)
