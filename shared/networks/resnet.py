"""Build ResNet-18 (He et al. 2016), no biases but the last (Dulac-Arnold 2019, 4.1), for small and for large images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def _conv(n_in: int, n_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, stride, padding=size // 2, bias=False)


def _norm(channels: int, norm: bool = True, shift: bool = False) -> nn.Module:
    if not norm:
        return nn.Identity()
    # A shift that is not learned stays at zero; it is frozen rather than absent, because fused kernels want one.
    layer = nn.BatchNorm2d(channels)
    layer.bias.requires_grad_(shift)
    return layer


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int, norm: bool, shift: bool):
        super().__init__()
        self.conv1, self.norm1 = _conv(n_in, n_out, 3, stride), _norm(n_out, norm, shift)
        self.conv2, self.norm2 = _conv(n_out, n_out, 3), _norm(n_out, norm, shift)
        self.stride, self.shortcut = stride, nn.Sequential()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(_conv(n_in, n_out, 1), _norm(n_out, norm, shift))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        # Every other pixel, then 1x1, is the strided 1x1 convolution, whose gradient on a CPU writes past its memory
        # where fewer than 16 channels lie last (oneDNN issue 6035).
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x[:, :, :: self.stride, :: self.stride]))


class ResNet18(nn.Module):
    """Map (N, channels, H, W) images to (N, n_classes) logits; 11.2 million weights at `width` 64.

    `features` are the (N, 8 width) averages over the last maps, `last` takes them to the logits.

    Parameters
    ----------
    large : the stem of the original, 7x7 at stride 2, then pooling; else one 3x3 convolution, the custom for 32x32.
    norm : batch normalisation; without it no layer but the last has a bias.
    shift : learn the shift of batch normalisation, too. "We do not use biases except for the last" (Dulac-Arnold et al.
        2019) may mean that it stays at zero, as here unless told, or only that convolutions have none, as is usual.
    """

    def __init__(
        self,
        n_classes: int,
        width: int = 64,
        channels: int = 3,
        large: bool = False,
        norm: bool = True,
        shift: bool = False,
    ):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        if large:
            self.stem = nn.Sequential(
                *(_conv(channels, width, 7, stride=2), _norm(width, norm, shift), nn.ReLU()),
                nn.MaxPool2d(3, 2, padding=1),
            )
        else:
            self.stem = nn.Sequential(_conv(channels, width, 3), _norm(width, norm, shift), nn.ReLU())
        blocks, n_in = [], width
        for stage, n_out in enumerate(widths):
            blocks.append(_Block(n_in, n_out, 1 if stage == 0 else 2, norm, shift))
            blocks.append(_Block(n_out, n_out, 1, norm, shift))
            n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Linear(n_in, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x)).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))
