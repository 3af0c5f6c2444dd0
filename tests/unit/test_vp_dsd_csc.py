"""Convolutional sparse coding: it finds what was planted, weighs evidence against the prior, and knows when to stop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from papers.vp_dsd.detection.csc import APART, CORRELATED, Dictionary, _Coder, dirichlet, learn
from papers.vp_dsd.detection.matching import match, scores, true_labels
from papers.vp_dsd.imaging.optics import Optics
from papers.vp_dsd.imaging.simulator import Recipe, purified, simulate, subject_proportions

OPTICS = Optics(0.637, 1.67, 200.0)
SIDE, P, K, R = 48, 7, 3, 2


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def made(noise=0.01, concentration=(1.0, 1.0, 1.0)):
    """A dictionary of random atoms whose coefficients scatter around (3, 0)."""
    random = rng()
    vectors = np.linalg.qr(random.normal(size=(K, 2 * P * P, R)))[0]
    parts = vectors.transpose(0, 2, 1).reshape(K, R, 2, P, P)
    atoms = (parts[:, :, 0] + 1j * parts[:, :, 1]).astype(np.complex64)
    mean = np.tile([3.0, 0.0], (K, 1))
    return Dictionary(atoms, mean, np.full((K, R), 0.1), noise, np.array(concentration), 1.0, OPTICS)


def hologram(dictionary, cells, noise=0.0, seed=1):
    """I of cells (class, row, column)."""
    random, image = rng(seed), np.zeros((SIDE, SIDE), np.complex64)
    step = np.arange(P) - P // 2
    for label, row, column in cells:
        coefficients = np.array([3.0, 0.0]) + 0.3 * random.normal(size=R)
        patch = np.tensordot(coefficients, dictionary.atoms[label], 1)
        image[(row + step)[:, None] % SIDE, (column + step) % SIDE] += patch
    return image + noise * (random.normal(size=image.shape) + 1j * random.normal(size=image.shape))


def found(dictionary, image, stop=0.0):
    return _Coder(dictionary).cells(image.astype(np.complex64), stop)


PLANTED = [(0, 10, 10), (1, 10, 16), (2, 30, 5), (0, 0, 47), (1, 40, 30), (2, 35, 31)]


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_planted_cells_are_found_with_their_classes(noise):
    """Overlapping atoms and one across the border: each residual must be updated where the cell was taken away."""
    dictionary = made(noise=0.01 + noise**2)
    cells = found(dictionary, hologram(dictionary, PLANTED, noise), stop=5.0)
    assert sorted(cell[:3] for cell in cells) == sorted(PLANTED)


def test_local_updates_are_the_correlations_of_the_residual():
    """One cell taken away: what is left of the correlations is that of the image without its projection."""
    dictionary = made()
    image = hologram(dictionary, PLANTED[:2])
    coder, step = _Coder(dictionary), np.arange(P) - P // 2

    def coefficients(image, row, column):
        patch = image[(row + step)[:, None] % SIDE, (column + step) % SIDE]
        return (coder.flat.conj() * patch).sum((1, 2)).real

    (label, row, column, _), (second, *where, gain) = found(dictionary, image, stop=5.0)
    projection = np.tensordot(coefficients(image, row, column).reshape(K, R)[label], dictionary.atoms[label], 1)
    image[(row + step)[:, None] % SIDE, (column + step) % SIDE] -= projection
    evidence = coder.evidence(coefficients(image, *where)[:, None])[second, 0]
    prior = dictionary.concentration + np.eye(K)[label]
    assert abs(row - where[0]) < P and abs(column - where[1]) < P
    assert gain == pytest.approx(evidence + np.log(prior / prior.sum())[second], rel=1e-4)


def test_the_evidence_is_that_of_gaussians():
    """Against the densities themselves: c is N(mean, variance + noise) of a cell, N(0, noise) of none."""
    dictionary, c = made(), rng().normal(size=K * R) * 2
    wide, noise = dictionary.variance + dictionary.noise, dictionary.noise
    normal = torch.distributions.Normal
    values = torch.from_numpy(c.reshape(K, R))
    cell = normal(torch.from_numpy(dictionary.mean), torch.from_numpy(wide).sqrt()).log_prob(values)
    none = normal(torch.zeros(()), torch.tensor(noise).sqrt()).log_prob(values)
    expected = (cell - none).sum(1).numpy() / CORRELATED
    np.testing.assert_allclose(_Coder(dictionary).evidence(c[:, None])[:, 0], expected, rtol=1e-5)


def test_an_empty_image_has_no_cell_and_a_high_bar_none_either():
    dictionary = made()
    assert found(dictionary, np.zeros((SIDE, SIDE))) == []
    assert found(dictionary, hologram(dictionary, PLANTED), stop=1e6) == []


def test_no_two_cells_in_one_place():
    dictionary = made()
    cells = found(dictionary, hologram(dictionary, PLANTED, 0.5), stop=-20.0)
    places = np.array([cell[1:3] for cell in cells])
    apart = np.abs(places[:, None] - places[None])
    apart = np.minimum(apart, SIDE - apart).max(2)
    assert len(cells) > 10 and apart[~np.eye(len(cells), dtype=bool)].min() > APART


def test_the_prior_decides_where_the_image_does_not():
    """Two classes with the same atoms: the likelier one takes all cells."""
    dictionary = made(concentration=(1.0, 10.0, 1.0))
    atoms = dictionary.atoms.copy()
    atoms[0] = atoms[1]
    twins = replace(dictionary, atoms=atoms)
    image = hologram(dictionary, [(1, 10, 10), (1, 25, 25), (1, 40, 10)])
    assert {cell[0] for cell in found(twins, image, 5.0)} == {1}
    other = replace(twins, concentration=np.array([10.0, 1.0, 1.0]))
    assert {cell[0] for cell in found(other, image, 5.0)} == {0}


def test_code_reads_holograms_and_keeps_images_apart():
    """Through T, in units of the rms: a real hologram holds half of the field and its twin image."""
    dictionary = made(noise=0.05)
    fields = [hologram(dictionary, cells) for cells in ([(1, 10, 10)], [], [(0, 20, 20), (2, 36, 40)])]
    images = OPTICS.to_sensor(torch.from_numpy(np.stack(fields))).real.numpy()
    detections, labels = dictionary.code(2 * images, stop=3.0)
    assert detections.offsets.tolist() == [0, 1, 1, 3] and sorted(labels[1:]) == [0, 2] and labels[0] == 1
    assert detections.centres[0].tolist() == [10, 10] and (detections.scores >= 3).all()
    doubled, _ = replace(dictionary, unit=2.0).code(4 * images, stop=3.0)
    np.testing.assert_allclose(doubled.scores, detections.scores, rtol=1e-3)


def test_it_learns_simulated_cells_from_purified_blood_and_finds_them_in_mixtures():
    """Far above what |I| alone or the largest class would give; every class is recognised."""
    recipe = Recipe(train_subjects=20, validation_subjects=0, test_subjects=3, images_per_subject=2)
    data = simulate(replace(recipe, train_subjects=0), seed=100)
    proportions = np.array([subject_proportions(recipe, seed) for seed in range(20)])
    alone = [purified(recipe, label, 6, seed=100).images for label in range(3)]
    dictionary = learn(alone, proportions, data.optics, float(np.sqrt(np.mean(data.images**2))))
    flat = np.concatenate([dictionary.atoms.real, dictionary.atoms.imag], 2).reshape(3, 4, -1)
    np.testing.assert_allclose(flat @ flat.transpose(0, 2, 1), np.tile(np.eye(4), (3, 1, 1)), atol=1e-5)
    found, labels = dictionary.code(data.images, stop=15.0)
    pairs = match(found, data.cells, 4, 128)
    true = true_labels(pairs, data.cells)
    assert scores(pairs, len(data.cells.centres))["f1"] > 0.85
    assert all((labels[true == k] == k).mean() > 0.4 for k in range(3))
    assert np.mean([(labels[true == k] == k).mean() for k in range(3)]) > 0.65


def test_prior_of_proportions_recovers_its_concentration():
    alpha = np.array([12.0, 3.4, 24.6])
    np.testing.assert_allclose(dirichlet(rng().dirichlet(alpha, 20_000)), alpha, rtol=0.05)
    constant = dirichlet(np.array([[0.3, 0.1, 0.6]] * 4))
    np.testing.assert_allclose(constant / constant.sum(), [0.3, 0.1, 0.6])


def test_what_cannot_be_learned_or_coded_is_refused_by_name():
    blank = np.zeros((2, SIDE, SIDE), np.float32)
    with pytest.raises(ValueError, match="class 0 shows 0 cells"):
        learn([blank], np.ones((1, 1)), OPTICS, 1.0)
    with pytest.raises(ValueError, match="12 pixels is too small for atoms of 7"):
        found(made(), np.zeros((12, 12)))
