"""Propagation: exact, invertible, and equal to a diffraction integral that knows no Fourier transform."""

import cmath
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from papers.vp_dsd.imaging.optics import Optics, propagate
from papers.vp_dsd.imaging.simulator import Recipe, simulate

OPTICS = Optics(wavelength=0.637, pitch=1.67, distance=1000.0)
pytestmark = pytest.mark.usefixtures("one_thread")


def random_fields(*shape, dtype=torch.complex128):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 1e-5), (torch.complex128, 1e-12)])
def test_t_keeps_energy_and_has_an_exact_inverse(dtype, tolerance):
    fields = random_fields(2, 3, 48, 32, dtype=dtype)
    images = OPTICS.to_object(fields)
    assert images.dtype == dtype
    assert images.norm().item() == pytest.approx(fields.norm().item(), rel=tolerance)
    assert (OPTICS.to_sensor(images) - fields).abs().max() < tolerance * 10
    assert (OPTICS.to_object(OPTICS.to_sensor(fields)) - fields).abs().max() < tolerance * 10


def test_a_real_hologram_keeps_its_precision():
    assert OPTICS.to_object(torch.rand(8, 8)).dtype == torch.complex64
    assert OPTICS.to_object(torch.rand(8, 8, dtype=torch.float64)).dtype == torch.complex128
    hologram = torch.rand(1, 16, 16)
    assert torch.allclose(OPTICS.to_sensor(OPTICS.to_object(hologram)).real, hologram, atol=1e-6)


def test_gradients_travel_back_to_the_sensor():
    hologram = torch.rand(1, 6, 5, dtype=torch.float64, requires_grad=True)
    error = random_fields(1, 6, 5)
    (OPTICS.to_object(hologram) * error.conj()).real.sum().backward()
    assert torch.allclose(hologram.grad, OPTICS.to_sensor(error).real)


def test_light_arrives_where_the_rayleigh_sommerfeld_integral_says():
    """A tilted narrow beam, so that its direction, curvature and carrier all count; 300 um, no paraxial terms left."""
    optics, size, waist = replace(OPTICS, distance=300.0), 128, 6.0
    axis = (np.arange(size) - size // 2) * optics.pitch
    y, x = axis[:, None], axis[None, :]
    field = np.exp(-(x**2 + y**2) / waist**2 + 2j * math.pi * 0.05 * x)
    found = optics.to_sensor(torch.from_numpy(field)[None])[0].numpy()

    wave_number = 2 * math.pi / optics.wavelength
    for row, column in ((64, 64), (64, 70), (60, 67), (72, 75)):
        r = np.sqrt((x - axis[column]) ** 2 + (y - axis[row]) ** 2 + optics.distance**2)
        kernel = optics.distance / (2 * math.pi * r**2) * (1 / r - 1j * wave_number) * np.exp(1j * wave_number * r)
        integral = (field * kernel).sum() * optics.pitch**2 * cmath.exp(-1j * wave_number * optics.distance)
        assert abs(found[row, column] - integral) < 1e-3


def test_each_field_travels_its_own_distance():
    fields = random_fields(2, 16, 24)
    travelled = propagate(fields, OPTICS.wavelength, OPTICS.pitch, [1000.0, -400.0])
    assert torch.allclose(travelled[0], OPTICS.to_sensor(fields[0]))
    assert torch.allclose(travelled[1], replace(OPTICS, distance=400.0).to_object(fields[1]))
    twice = propagate(travelled, OPTICS.wavelength, OPTICS.pitch, [-1000.0, 400.0])
    assert torch.allclose(twice, fields)


def test_nothing_moves_relative_to_the_borders():
    fields = random_fields(1, 16, 24)
    rolled = OPTICS.to_object(fields.roll((5, -7), (1, 2)))
    assert torch.allclose(rolled, OPTICS.to_object(fields).roll((5, -7), (1, 2)))


@pytest.mark.parametrize("kind", ["lymphocyte", "monocyte", "granulocyte"])
def test_a_cell_is_sharp_at_its_centre_and_only_after_t(kind):
    kinds = ("lymphocyte", "monocyte", "granulocyte")
    shares = tuple(0.98 if name == kind else 0.01 for name in kinds)
    alone = Recipe(mean_proportions=shares, concentration=1e6, monocyte_limit=1.0, cells_least=1, cells_most=1)
    alone = replace(alone, debris=0, noise=0, spread=0, distance_spread=0, size=96)
    made = simulate(replace(alone, train_subjects=4, validation_subjects=0, test_subjects=0), seed=5)
    images = made.optics.to_object(torch.from_numpy(made.images)).abs().numpy()
    assert len(made.cells.labels) == len(images) == 8
    for image, hologram, centre in zip(images, made.images, made.cells.centres, strict=True):
        weight = image**2 * (image > image.max() / 2)  # the bright part, seen from the cell
        places = np.argwhere(weight > 0)
        away = (places - centre + 48) % 96 - 48
        middle = (weight[tuple(places.T)][:, None] * away).sum(0) / weight.sum()
        assert np.hypot(*middle) < 1
        assert np.abs(away).max() < 8
        assert image.max() > 2 * np.abs(hologram).max()


@pytest.mark.parametrize(
    ("lengths", "name"),
    [
        ((0.0, 1.67, 1000.0), "wavelength is 0"),
        ((0.637, -1.0, 1000.0), "pitch is -1"),
        ((0.637, 1.67, math.nan), "distance is nan"),
        ((0.637, 0.4, 1000.0), "pitch 0.4 um"),
    ],
)
def test_impossible_optics_are_refused_by_name(lengths, name):
    with pytest.raises(ValueError, match=name):
        Optics(*lengths)


def test_a_distance_for_each_field_is_needed():
    with pytest.raises(ValueError, match="2 fields and 1 distances"):
        propagate(random_fields(2, 8, 8), 0.637, 1.67, [1.0])
