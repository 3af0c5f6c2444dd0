"""Find cells by compact convolutional sparse coding with proportion priors (Yellin, Haeffele, Roth & Vidal, CVPR 2018).

An image I = T(H) is a sum of cells, each a real combination of a few atoms of its class at its place, and noise. Cells
are found one by one, each time the one that raises the posterior most, jointly in place and class. What is compact
here: a class's atoms are the principal components of crops around its cells in images of that class alone (purified
samples), not the result of alternating minimisation; coefficients have the Gaussian prior of those crops and are
integrated out; the prior on classes is a Dirichlet-multinomial fitted to the training proportions, where the authors
use blood counts of 300,000 patients; no cell is revisited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from papers.vp_dsd.detection.method import Detections, amplitude_peaks
from papers.vp_dsd.imaging.crops import crops
from papers.vp_dsd.imaging.optics import Optics

START = 2.5  # |I|, in rms, at the centres of the cells that atoms are learned from
APART = 4  # pixels along both axes within which there is no second cell
CORRELATED = 8  # pixels that count as one: what a few atoms leave of a cell is smooth, not white noise


@dataclass(frozen=True)
class Dictionary:
    """Hold what the purified images say of a cell of each class; made by `learn`.

    Attributes
    ----------
    atoms : (K, r, P, P) complex64, orthonormal within a class as vectors of real numbers.
    mean, variance : (K, r) float64, of the coefficients.
    noise : float, variance of the real and of the imaginary part of a pixel beside and between cells.
    concentration : (K,) of the Dirichlet prior on an image's proportions.
    unit : rms of the holograms that all this is in units of.
    """

    atoms: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    noise: float
    concentration: np.ndarray
    unit: float
    optics: Optics

    def code(self, images: np.ndarray, stop: float) -> tuple[Detections, np.ndarray]:
        """Find cells of holograms (n, L, L), until the next one would raise the log-posterior by less than `stop` nats.

        Returns
        -------
        Detections, whose scores are what each cell added to the log-posterior, and (M,) int64 classes.
        """
        coder = _Coder(self)
        found = [coder.cells(image, stop) for image in _focused(images, self.optics, self.unit)]
        offsets = np.cumsum([0] + [len(cells) for cells in found])
        cells = np.array([cell for cells in found for cell in cells]).reshape(-1, 4)
        none = np.zeros((len(cells), 0), np.complex64)
        where, labels, gains = cells[:, 1:3].astype(np.float32), cells[:, 0].astype(np.int64), cells[:, 3]
        return Detections(offsets, where, none, gains.astype(np.float32)), labels


def learn(
    purified: Sequence[np.ndarray],
    proportions: np.ndarray,
    optics: Optics,
    unit: float,
    n_atoms: int = 4,
    size: int = 11,
) -> Dictionary:
    """Learn a dictionary from holograms (n, L, L) of each class alone and the training subjects' proportions (S, K).

    Raises
    ------
    ValueError
        If a class shows fewer cells than it is to have atoms; it names the class.
    """
    parts = []
    for label, images in enumerate(purified):
        found = amplitude_peaks(images, optics, unit, START)
        focused = torch.from_numpy(_focused(images, optics, unit))
        around = crops(focused[:, None], found.offsets, found.centres, size)[:, 0].numpy()
        if len(around) <= n_atoms:
            raise ValueError(f"class {label} shows {len(around)} cells in its purified images; give more of them")
        parts.append(_components(around, n_atoms))
    atoms, mean, variance, noise = (np.stack(part) for part in zip(*parts, strict=True))
    return Dictionary(atoms, mean, variance, float(noise.mean()), dirichlet(proportions), unit, optics)


def dirichlet(proportions: np.ndarray) -> np.ndarray:
    """Return the concentration (K,) of the Dirichlet distribution with the mean and total variance of rows (S, K)."""
    mean, variance = proportions.mean(0), proportions.var(0).sum()
    total = (mean * (1 - mean)).sum() / max(variance, 1e-6) - 1
    return mean * max(total, 1.0)


def _focused(images: np.ndarray, optics: Optics, unit: float) -> np.ndarray:
    """Return T(H) in units of the holograms' rms, (n, L, L) complex64."""
    return optics.to_object(torch.from_numpy(np.asarray(images, np.float32)) / unit).numpy()


def _components(crops: np.ndarray, n_atoms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return principal components about zero of (M, P, P) crops, mean and variance of coefficients, noise variance."""
    flat = np.concatenate([crops.real, crops.imag], 1).reshape(len(crops), -1).astype(np.float64)
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    top = vectors[:, ::-1][:, :n_atoms]
    coefficients = flat @ top
    noise = values[:-n_atoms].sum() / (flat.shape[1] - n_atoms)
    size = crops.shape[-1]
    atoms = np.moveaxis(top.T.reshape(n_atoms, 2, size, size), 1, 0)
    return (atoms[0] + 1j * atoms[1]).astype(np.complex64), coefficients.mean(0), coefficients.var(0), noise


class _Coder:
    """The greedy search, with what depends on the dictionary alone worked out once."""

    def __init__(self, dictionary: Dictionary):
        self.dictionary = dictionary
        self.n_classes, self.n_atoms, self.size, _ = dictionary.atoms.shape
        self.flat = dictionary.atoms.reshape(-1, self.size, self.size)
        side = 2 * self.size - 1
        spectra = np.fft.fft2(self.flat, (side, side))
        # products[j, i, s]: what atom j at distance s sees of atom i
        products = np.fft.ifft2(spectra[None] * spectra[:, None].conj()).real
        self.products = np.fft.fftshift(products, (2, 3))
        self.reach = np.arange(side) - self.size + 1
        self.apart = np.arange(-APART, APART + 1)

    def evidence(self, correlations: np.ndarray) -> np.ndarray:
        """Turn (K r, ...) coefficients into the (K, ...) log Bayes factor of a cell of each class against none."""
        d = self.dictionary
        shape = (self.n_classes, self.n_atoms) + (1,) * (correlations.ndim - 1)
        c = correlations.reshape(self.n_classes, self.n_atoms, *correlations.shape[1:])
        mean, wide = d.mean.reshape(shape), (d.variance + d.noise).reshape(shape)
        terms = c**2 / d.noise - (c - mean) ** 2 / wide - np.log(wide / d.noise)
        return terms.sum(1) / (2 * CORRELATED)

    def cells(self, image: np.ndarray, stop: float) -> list[tuple[int, int, int, float]]:
        """Return (class, row, column, gain) of the cells of an (L, L) image, in the order in which they are found."""
        d, side = self.dictionary, len(image)
        if side < len(self.reach):
            raise ValueError(f"an image of {side} pixels is too small for atoms of {self.size}")
        spectra = np.fft.fft2(self.flat, image.shape).conj()
        correlations = np.fft.ifft2(np.fft.fft2(image) * spectra).real
        correlations = np.roll(correlations, (self.size // 2, self.size // 2), (1, 2))
        evidence = self.evidence(correlations)
        taken, counts = np.zeros(image.shape, bool), np.zeros(self.n_classes)
        found: list[tuple[int, int, int, float]] = []
        while True:
            prior = np.log((d.concentration + counts) / (d.concentration + counts).sum())
            gains = evidence.reshape(self.n_classes, -1).max(1) + prior
            label = int(gains.argmax())
            if gains[label] < stop:
                return found
            row, column = divmod(int(evidence[label].argmax()), side)
            found.append((label, row, column, float(gains[label])))
            counts[label] += 1
            own = slice(label * self.n_atoms, (label + 1) * self.n_atoms)
            change = np.tensordot(correlations[own, row, column], self.products[:, own], (0, 1))
            near = (slice(None), (row + self.reach)[:, None] % side, (column + self.reach) % side)
            taken[(row + self.apart)[:, None] % side, (column + self.apart) % side] = True
            correlations[near] -= change
            evidence[near] = np.where(taken[near[1:]], -np.inf, self.evidence(correlations[near]))
