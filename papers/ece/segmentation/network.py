"""Take the Unet of segmentation-models-pytorch, never pre-trained; its import takes seconds, so import where needed."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn


class PlainEncoder(nn.Module, EncoderMixin):
    """Build the contracting path of Ronneberger et al. 2015: two 3 x 3 convolutions a level, 2 x 2 max-pooling between.

    Batch normalisation and padding as in the network of the authors' example, so that maps keep the image's size.
    It hands over one map more than smp's encoders do, that of full resolution: `smp.Unet` then joins it as its last
    skip connection, as the classical network does.

    Parameters
    ----------
    width : channels of the first level; they double with each of the `depth` poolings.
    """

    def __init__(self, width: int, depth: int, output_stride: int = 32):
        super().__init__()
        self._depth, self._in_channels, self._output_stride = depth, 3, output_stride
        channels = [3, *(width * 2**level for level in range(depth + 1))]
        self.levels = nn.ModuleList(_twice(*pair) for pair in zip(channels, channels[1:], strict=False))
        self._out_channels = channels

    @property
    def out_channels(self) -> list[int]:
        return self._out_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return (B, 3, H, W) itself, then the maps of the levels, (B, width 2^l, H / 2^l, W / 2^l)."""
        maps = [x]
        for number, level in enumerate(self.levels):
            maps.append(level(nn.functional.max_pool2d(maps[-1], 2) if number else x))
        return maps


def unet(encoder: str, depth: int, width: int) -> smp.Unet:
    """Return a U-Net, (B, 3, H, W) -> (B, 2, H, W), 0 background, with random weights from torch's global generator.

    Encoder "plain" with width 32 and depth 4 is the network of the authors' example but for its upsampling, which is
    nearest and part of the next convolution here, a transposed convolution there.

    Parameters
    ----------
    encoder : "plain", or the name of one of smp's encoders, e.g. "resnet18".
    depth : poolings; H and W are multiples of 2^depth.
    width : channels of the last level of the decoder, which double with each level before it.

    Raises
    ------
    ValueError
        When there is no such encoder.
    """
    name = encoder
    if encoder == "plain":
        name = f"plain_{width}"
        encoders[name] = {"encoder": PlainEncoder, "params": {"width": width}, "pretrained_settings": {}}
    elif encoder not in encoders:
        raise ValueError(f"encoder {encoder!r} is neither 'plain' nor one of smp's: {', '.join(sorted(encoders))}")
    channels = [width * 2**level for level in reversed(range(depth))]
    return smp.Unet(name, depth, encoder_weights=None, decoder_channels=channels, classes=2)


def _twice(before: int, after: int) -> nn.Sequential:
    layers = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
