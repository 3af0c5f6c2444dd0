"""What surrounds a cell: crops of images around centres, and the networks of Table 3 that classify them.

With oracle detections the centres are the true ones. Trained from the proportions alone, encoder and classifier
jointly, by any loss over bags of crops.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from papers.vp_dsd.detection.layers import ComplexConvs, to_complex
from papers.vp_dsd.imaging.holograms import Holograms
from papers.vp_dsd.learning.classifier import FLOOR
from shared.bags import BagError, Bags


def crops(images: Tensor, offsets: np.ndarray, centres: np.ndarray, size: int) -> Tensor:
    """(M, C, size, size) windows of periodic images (n, C, H, W) whose pixel ``size // 2`` is a cell's nearest pixel.

    Parameters
    ----------
    offsets : (n + 1,) image i has the cells ``offsets[i]`` to ``offsets[i + 1]``.
    centres : (M, 2) row and column of each cell, in pixels.

    Raises
    ------
    ValueError
        When a centre is not finite, naming the image, or cells and images do not fit each other.
    """
    n, _, height, width = images.shape
    if len(offsets) != n + 1 or offsets[0] != 0 or offsets[-1] != len(centres) or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets must run from 0 to the {len(centres)} centres over {n} images, got {offsets}")
    if not 1 <= size <= min(height, width):
        raise ValueError(f"crops of {size} pixels do not fit images of {height}x{width}")
    image = np.repeat(np.arange(n), np.diff(offsets))
    lost = np.flatnonzero(~np.isfinite(centres).all(1))
    if len(lost):
        raise ValueError(f"centre {centres[lost[0]]} in image {image[lost[0]]} is not finite; remove the cell")
    first = torch.from_numpy(np.rint(centres).astype(np.int64) - size // 2)
    step = torch.arange(size)
    rows, columns = (first[:, :1] + step) % height, (first[:, 1:] + step) % width
    image, rows, columns = (t.to(images.device) for t in (torch.from_numpy(image), rows, columns))
    return images.permute(0, 2, 3, 1)[image[:, None, None], rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def image_bags(holograms: Holograms, split: int, offsets: np.ndarray | None = None, by_subject: bool = False) -> Bags:
    """Bags of what a split's images hold: one an image, to learn from, or one a subject, to be measured on.

    The label is the subject's proportions either way. Images that hold nothing are left out.

    Parameters
    ----------
    offsets : (n + 1,) image i has the instances ``offsets[i]`` to ``offsets[i + 1]``; every image is its own one
        instance if None.

    Raises
    ------
    BagError
        When a subject's images hold nothing, naming the subject.
    """
    offsets = np.arange(len(holograms.images) + 1) if offsets is None else offsets
    numbers = holograms.numbers(split)
    numbers = numbers[np.argsort(holograms.subjects[numbers], kind="stable")]
    sizes, subjects = np.diff(offsets)[numbers], holograms.subjects[numbers]
    held = np.bincount(subjects, sizes, len(holograms.proportions))
    for subject in np.unique(subjects):
        if not held[subject]:
            raise BagError(f"no cell in the images of subject {subject}: detect more, or leave the subject out")
    indices = np.concatenate([np.empty(0, np.int64), *(np.arange(offsets[i], offsets[i + 1]) for i in numbers)])
    subjects, sizes = subjects[sizes > 0], sizes[sizes > 0]
    if by_subject:
        subjects, start = np.unique(subjects, return_index=True)
        sizes = np.add.reduceat(sizes, start) if len(start) else sizes
    return Bags(indices, np.concatenate([[0], np.cumsum(sizes)]), holograms.proportions[subjects])


class LeNet(nn.Module):
    """(M, channels, size, size) -> (M, n_classes) logits by LeNet-5, which Habibzadeh et al. 2013 apply to white cells.

    Rectified units and maximum pooling stand for its sigmoids and subsampling. 32 pixels are its size; 16 the least.
    """

    def __init__(self, n_classes: int, channels: int = 2, size: int = 32):
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2
        if side < 1:
            raise ValueError(f"LeNet needs crops of at least 16 pixels, got {size}")
        maps = (nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2))
        dense = (nn.Flatten(), nn.Linear(16 * side**2, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU())
        self.features = nn.Sequential(*maps, *dense)
        self.last = nn.Linear(84, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


class Encoded(nn.Module):
    """A copy of the detector's encoder, the encodings' whitening and a head, all learned jointly.

    An encoding's features are its real parts, imaginary parts and moduli; `start` sets their whitening, a linear
    layer that learns on. Here the encoder sees crops as large as its receptive field, `size`: their one encoding is
    the one that the whole image has at the crop's centre.

    Parameters
    ----------
    encoder : random or trained.
    head : from (..., 3 d) features.
    """

    def __init__(self, encoder: ComplexConvs, head: nn.Module):
        super().__init__()
        self.encoder, self.head = copy.deepcopy(encoder), head
        n = 3 * encoder.layers[-1].weight.shape[1]
        self.whitening = nn.Linear(n, n)
        self.size = 2 * encoder.border + 1

    def encodings(self, x: Tensor) -> Tensor:
        """(M, 2, size, size) crops -> (M, 3 d) features."""
        if x.shape[2:] != (self.size, self.size):
            raise ValueError(f"the encoder sees crops of {self.size}x{self.size} pixels, got {tuple(x.shape[2:])}")
        return with_moduli(self.encoder.valid(x))[:, :, 0, 0]

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Whiten the features of the training inputs `x`, as `classifier.whitening` does with fixed encodings."""
        found = self.encodings(x).flatten(0, -2).double()
        values, vectors = torch.linalg.eigh(found.T.cov(correction=0))
        matrix = (vectors * values.clamp_min(FLOOR * values.mean()).rsqrt()) @ vectors.T
        self.whitening.weight.copy_(matrix)
        self.whitening.bias.copy_(-matrix @ found.mean(0))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.whitening(self.encodings(x)))


def with_moduli(volume: Tensor) -> Tensor:
    """(N, 2 d, ...) real and imaginary parts -> (N, 3 d, ...) with the moduli behind them."""
    return torch.cat([volume, to_complex(volume).abs()], 1)
