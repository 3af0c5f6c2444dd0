"""PLOT uses a 13-layer network with max-pooling (Liu et al. 2021, Section 4): Conv-Large of Miyato et al. 2018."""

from __future__ import annotations

from torch import Tensor, nn


def _conv(n_in: int, n_out: int, leak: float, size: int = 3, padding: int = 1) -> list[nn.Module]:
    # The normalisation takes a bias away again, so there is none.
    conv = nn.Conv2d(n_in, n_out, size, padding=padding, bias=False)
    nn.init.kaiming_normal_(conv.weight, a=leak)
    return [conv, nn.BatchNorm2d(n_out), nn.LeakyReLU(leak)]


class CNN13(nn.Module):
    """Map (N, channels, H, W) images, sides of 12 or more, to (N, n_classes) logits; 3,121,802 weights for 10 classes.

    Nine convolutions, each with batch normalisation and a leaky rectifier: three of 3x3, pooling, three of 3x3 twice as
    wide, pooling, one of 3x3 without a border and two of 1x1. `features` are the (N, width) averages over the last
    maps, `last` takes them to the logits.

    The layers, no biases before a normalisation and He's initial weights are those of the code of Miyato et al. The
    ports called CNN-13 add weight normalisation to every layer, which is left out: under batch normalisation a
    convolution's output is the same whatever the length of its filters, so it would change how fast they turn, not what
    the network can express. Epsilon and momentum of the normalisation are torch's, as in the ports. PLOT's own table of
    layers is in an appendix that could not be read.

    Parameters
    ----------
    width : channels of the first convolutions, and features; those between have 2, 4 and 2 times as many.
    dropout : rate of dropping single activations after either pooling, in training.
    leak : slope of the rectifiers below zero.
    """

    def __init__(self, n_classes: int, width: int = 128, channels: int = 3, dropout: float = 0.5, leak: float = 0.1):
        super().__init__()
        w = width
        self.layers = nn.Sequential(
            *(*_conv(channels, w, leak), *_conv(w, w, leak), *_conv(w, w, leak)),
            *(nn.MaxPool2d(2), nn.Dropout(dropout)),
            *(*_conv(w, 2 * w, leak), *_conv(2 * w, 2 * w, leak), *_conv(2 * w, 2 * w, leak)),
            *(nn.MaxPool2d(2), nn.Dropout(dropout)),
            *_conv(2 * w, 4 * w, leak, padding=0),
            *(*_conv(4 * w, 2 * w, leak, size=1, padding=0), *_conv(2 * w, w, leak, size=1, padding=0)),
        )
        self.last = nn.Linear(w, n_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))
