"""ResNet-18 (He et al. 2016) with the stem for 32x32 images and no biases but the last (Dulac-Arnold 2019, 4.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def _conv(n_in: int, n_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, stride, padding=size // 2, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    # "No biases" is read as: the shift of batch normalisation stays at zero. It is frozen rather than absent,
    # because fused kernels want one.
    norm = nn.BatchNorm2d(channels)
    norm.bias.requires_grad_(False)
    return norm


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = _conv(n_in, n_out, 3, stride), _norm(n_out)
        self.conv2, self.norm2 = _conv(n_out, n_out, 3), _norm(n_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(_conv(n_in, n_out, 1, stride), _norm(n_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """(N, 3, 32, 32) images -> (N, n_classes) logits; 11.2 million weights at `width` 64.

    The stem is one 3x3 convolution without pooling, the custom for images this small; the paper does not say.
    On a CPU keep `width` at 16 or more: below it oneDNN's strided 1x1 convolutions are known to crash.
    """

    def __init__(self, n_classes: int, width: int = 64, channels: int = 3):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.stem = nn.Sequential(_conv(channels, width, 3), _norm(width), nn.ReLU())
        blocks, n_in = [], width
        for stage, n_out in enumerate(widths):
            blocks += [_Block(n_in, n_out, 1 if stage == 0 else 2), _Block(n_out, n_out, 1)]
            n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Linear(n_in, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.stem(x)).mean((2, 3)))
