"""Build LLP-GAN's discriminator and generator for 32x32 images (Liu et al., NeurIPS 2019), after their release.

The layers are those of the release for CIFAR-10, and so are Glorot's uniform weights and zero biases to start from. A
discriminator has `features`, (N, ...) inputs -> (N, F), and `last`, features -> logits; a generator has `noise`, the
size of its input.
"""

from __future__ import annotations

from torch import Tensor, nn

LEAK = 0.2


def _conv(n_in: int, n_out: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    # At stride 2 an even side is padded before, where the release's framework pads behind: its mirror image.
    return [nn.Conv2d(n_in, n_out, size, stride, padding=size // 2), nn.LeakyReLU(LEAK)]


def _deconv(n_in: int, n_out: int, bias: bool = False) -> nn.ConvTranspose2d:
    # Twice the side, exactly; at the border the mirror image of the release, as in `_conv`.
    return nn.ConvTranspose2d(n_in, n_out, 5, stride=2, padding=2, output_padding=1, bias=bias)


def _norm(kind: type[nn.BatchNorm1d | nn.BatchNorm2d], channels: int) -> nn.Module:
    # The defaults of the release's layer: a shift, no scale, epsilon and momentum of 1e-3.
    norm = kind(channels, eps=1e-3, momentum=1e-3)
    norm.weight.requires_grad_(False)
    return norm


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Discriminator(nn.Module):
    """Map (N, channels, H, W) images in [-1, 1] to (N, n_classes) logits; 781,642 weights for 10 classes.

    Nine convolutions with leaky rectifiers and no normalisation: 3x3 to a quarter of the side, then two of 1x1, and a
    global average, which leaves `width` features whatever the size of the image.

    Parameters
    ----------
    width : channels of the first convolutions, and features.
    dropout : rates of dropping single pixels of the input, and single activations before the second and third block.
    """

    def __init__(self, n_classes: int, channels: int = 3, width: int = 64, dropout: tuple[float, float] = (0.2, 0.5)):
        super().__init__()
        w = width
        self.layers = nn.Sequential(
            nn.Dropout(dropout[0]),
            *(*_conv(channels, w), *_conv(w, w), *_conv(w, w, stride=2)),
            nn.Dropout(dropout[1]),
            *(*_conv(w, 2 * w), *_conv(2 * w, 2 * w), *_conv(2 * w, 2 * w, stride=2)),
            nn.Dropout(dropout[1]),
            *(*_conv(2 * w, 4 * w), *_conv(4 * w, 2 * w, size=1), *_conv(2 * w, w, size=1)),
        )
        self.last = nn.Linear(w, n_classes)
        _initialise(self)

    def features(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


class Generator(nn.Module):
    """Map (N, noise) numbers in [-1, 1] to (N, channels, 32, 32) images in (-1, 1); 4,933,379 trained weights.

    A dense layer to 4x4, three deconvolutions of 5x5, batch normalisation before every leaky rectifier. It trains on
    batches of two or more.

    Parameters
    ----------
    width : channels of the last hidden map; those before have 2 and 4 times as many.
    """

    def __init__(self, channels: int = 3, noise: int = 100, width: int = 128):
        super().__init__()
        self.noise = noise
        w = width
        self.layers = nn.Sequential(
            *(nn.Linear(noise, 64 * w, bias=False), _norm(nn.BatchNorm1d, 64 * w), nn.LeakyReLU(LEAK)),
            nn.Unflatten(1, (4 * w, 4, 4)),
            *(_deconv(4 * w, 2 * w), _norm(nn.BatchNorm2d, 2 * w), nn.LeakyReLU(LEAK)),
            *(_deconv(2 * w, w), _norm(nn.BatchNorm2d, w), nn.LeakyReLU(LEAK)),
            *(_deconv(w, channels, bias=True), nn.Tanh()),
        )
        _initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class FeatureGenerator(nn.Module):
    """This stand-in makes cached features for `MLP`: (N, noise) -> (N, n_outputs), of any sign and size."""

    def __init__(self, noise: int, hidden: int, n_outputs: int):
        super().__init__()
        self.noise = noise
        self.layers = nn.Sequential(nn.Linear(noise, hidden), nn.ReLU(), nn.Linear(hidden, n_outputs))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)
