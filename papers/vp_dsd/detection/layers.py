"""Convolve periodic images in complex numbers, and take the local softmax (Section 2.2).

A complex (N, C, H, W) image travels as a real (N, 2 C, H, W) one: the C real parts, then the C imaginary parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def to_real(z: Tensor) -> Tensor:
    """Turn (N, C, H, W) complex into (N, 2 C, H, W) real, in channels-last memory."""
    return torch.cat([z.real, z.imag], 1).contiguous(memory_format=torch.channels_last)


def to_complex(x: Tensor) -> Tensor:
    """Turn (N, 2 C, ...) real into (N, C, ...) complex."""
    return torch.complex(*x.chunk(2, 1))


class _Wrap(torch.autograd.Function):
    """Circular padding; the gradient of torch's own copies the whole image for every border."""

    @staticmethod
    def forward(ctx, x: Tensor, border: int) -> Tensor:
        ctx.border = border
        for axis in (2, 3):
            length = x.shape[axis]
            x = torch.cat([x.narrow(axis, length - border, border), x, x.narrow(axis, 0, border)], axis)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        border = ctx.border
        for axis in (2, 3):
            length = gradient.shape[axis] - 2 * border
            inner = gradient.narrow(axis, border, length).clone()
            inner.narrow(axis, length - border, border).add_(gradient.narrow(axis, 0, border))
            inner.narrow(axis, 0, border).add_(gradient.narrow(axis, length + border, border))
            gradient = inner
        return gradient, None


def wrap(x: Tensor, border: int) -> Tensor:
    """Add `border` pixels of the periodic images (N, C, H, W) on all four sides."""
    if border > min(x.shape[2:]):
        raise ValueError(f"an image of {x.shape[2]} x {x.shape[3]} pixels is smaller than a border of {border}")
    return _Wrap.apply(x, border)


class ComplexFilters(nn.Module):
    """Hold the filters of a complex convolution, that of a real one with blocks [[Re, -Im], [Im, Re]].

    Weights start complex Gaussian, of mean square 1.4^2 / (inputs x size^2), under a Gaussian window: an encoding
    then sits where the cell is. Location is defined only up to a shift that the reconstruction can undo.
    """

    WINDOW = 0.8  # standard deviation in pixels

    def __init__(self, n_in: int, n_out: int, size: int):
        super().__init__()
        axis = torch.arange(size) - (size - 1) / 2
        window = torch.exp(-(axis**2 + axis[:, None] ** 2) / (2 * self.WINDOW**2))
        window = window / window.square().mean().sqrt()
        scale = 1.4 / math.sqrt(2 * n_in * size**2)
        self.weight = nn.Parameter(scale * window * torch.randn(2, n_out, n_in, size, size))

    def blocks(self) -> Tensor:
        """Return the weight (2 outputs, 2 inputs, size, size) of the real convolution."""
        re, im = self.weight
        return torch.cat([torch.cat([re, -im], 1), torch.cat([im, re], 1)], 0)


class ComplexConv(ComplexFilters):
    """Convolve complex images, without padding, so that they shrink."""

    def __init__(self, n_in: int, n_out: int, size: int, bias: bool = True):
        super().__init__(n_in, n_out, size)
        self.bias = nn.Parameter(torch.zeros(2 * n_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.blocks().contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, self.bias)


class SparseComplexConv(ComplexFilters):
    """Convolve as `ComplexConv`, periodic and without bias, an image zero but at M sites: it visits these alone.

    Each site adds its copy of the filters to what lies around it.
    """

    def forward(self, values: Tensor, sites: tuple[Tensor, Tensor, Tensor], shape: tuple[int, int, int]) -> Tensor:
        """Take values (M, 2 inputs) at sites (image, row, column), each (M,), of N images to (N, 2 outputs, H, W).

        `shape` is (N, H, W).
        """
        n, height, width = shape
        weight = self.blocks().flip(2, 3).permute(1, 2, 3, 0)  # (inputs, size, size, outputs)
        copies = values @ weight.flatten(1)
        step = torch.arange(weight.shape[1], device=values.device) - weight.shape[1] // 2
        image, row, column = (number[:, None, None] for number in sites)
        place = (image * height + (row + step[:, None]) % height) * width + (column + step) % width
        out = copies.new_zeros(n * height * width, weight.shape[3])
        out = out.index_add(0, place.flatten(), copies.view(-1, weight.shape[3]))
        return out.view(n, height, width, -1).permute(0, 3, 1, 2)


class ComplexConvs(nn.Module):
    """Chain complex convolutions with a split ReLU (real and imaginary parts apart) between them, none after the last.

    ``net(x)`` takes the image as periodic and keeps its size; ``net.valid(x)`` shrinks it by `border` on each side,
    so that a crop of ``2 border + 1`` pixels gives the one value that the whole image has at the crop's centre.

    Parameters
    ----------
    channels : complex channels from the first layer's input to the last layer's output.
    sizes : odd sizes of the filters, one less than there are channels.
    """

    def __init__(self, channels: Sequence[int], sizes: Sequence[int], bias: bool = True):
        super().__init__()
        even = [size for size in sizes if size % 2 == 0]
        if even or len(sizes) != len(channels) - 1:
            raise ValueError(f"{len(channels)} numbers of channels need one odd filter size less, got {tuple(sizes)}")
        steps = zip(channels, channels[1:], sizes, strict=False)
        self.layers = nn.ModuleList(ComplexConv(n_in, n_out, size, bias) for n_in, n_out, size in steps)
        self.border, self.n_out = sum(size // 2 for size in sizes), channels[-1]

    def valid(self, x: Tensor) -> Tensor:
        """Take (N, 2 C, H, W) to (N, 2 D, H - 2 border, W - 2 border)."""
        for n, layer in enumerate(self.layers):
            x = layer(F.relu(x) if n else x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Take (N, 2 C, H, W) to (N, 2 D, H, W), periodic."""
        return self.valid(wrap(x, self.border))


def _largest(x: Tensor, m: int, axis: int) -> Tensor:
    """Return the largest of m values around each place of an axis of periodic images, by windows that double."""
    length, half = x.shape[axis], m // 2
    window, size = torch.cat([x.narrow(axis, length - half, half), x, x.narrow(axis, 0, half)], axis), 1
    while size < m:
        step = min(size, m - size)  # the last two windows overlap, which a maximum does not mind
        places = window.shape[axis] - step
        window, size = torch.maximum(window.narrow(axis, 0, places), window.narrow(axis, step, places)), size + step
    return window


def patch_max(x: Tensor, m: int) -> Tensor:
    """Return the largest value in the m x m patch, m odd, around each pixel of periodic images (N, H, W)."""
    return _largest(_largest(x, m, 2), m, 1)


def local_log_softmax(strength: Tensor, m: int) -> Tensor:
    """Return the LocalSoftMax (Section 2.2) in logarithms: ``s(x) - log sum exp s`` over the patch around x, exactly.

    The sum is separable: over each row's window, then over each column's. Nothing under- or overflows, whatever the
    strengths. The image is periodic, as the propagation is.

    Parameters
    ----------
    strength : (N, H, W).
    m : odd size of the patch, in pixels.

    Returns
    -------
    (N, H, W), at most 0.
    """
    total = strength
    for axis in (1, 2):
        total = torch.stack([total.roll(step, axis) for step in range(-(m // 2), m // 2 + 1)]).logsumexp(0)
    return strength - total
