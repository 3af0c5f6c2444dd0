"""Predict the proportions of Table 3: direct regression, regression of density maps, cells at oracle centres.

Every network reads I = T(H) as two channels, real and imaginary part. The regressors take whole images and return
logits whose softmax is the proportions: the KL loss on bags of one image, labelled by the subject's proportions, trains
them. The classifiers take crops around cells, and any loss over bags trains them, encoder and classifier jointly.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers.vp_dsd.detection.layers import ComplexConvs, to_complex
from papers.vp_dsd.learning.classifier import Classifier, symmetric_root
from shared.config import Spec
from shared.networks import ResNet18


def _conv(n_in: int, n_out: int, size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, size, 1, size // 2, bias=False), nn.BatchNorm2d(n_out))


def resnet(depth: int, n_classes: int, width: int = 64) -> nn.Module:
    """Make a residual network (He et al. 2016), (N, 2, H, W) images -> (N, n_classes) logits.

    The 18 layers are `shared.networks.ResNet18`, which has a width; 50, 101 and 152 are torchvision's, untrained, their
    first layer for two channels.
    """
    if depth == 18:
        return ResNet18(n_classes, width, channels=2, large=True)
    if depth not in (50, 101, 152) or width != 64:
        raise ValueError(f"no residual network of {depth} layers, {width} wide: take 18, or 50, 101, 152 of width 64")
    from torchvision import models  # takes a second

    network = getattr(models, f"resnet{depth}")(num_classes=n_classes)
    network.conv1 = nn.Conv2d(2, 64, 7, 2, 3, bias=False)
    return network


def shares(maps: Tensor) -> Tensor:
    """Turn (N, K, H, W) into (N, K) logits whose softmax is the share of each class in the sum of its density map.

    Densities are softplus of `maps`: a rectified map that is zero everywhere never learns again.
    """
    return F.softplus(maps).mean((2, 3)).log()


class CFCRN(nn.Module):
    """Regress as the concatenated fully convolutional network of He et al. 2021, in compact form; 32 is their width.

    It maps (N, 2, H, W) images to (N, n_classes) logits: three halvings, three doublings, each with the maps of its
    size concatenated, then one density map a class. Sides that are no multiple of 8 are lengthened to one, the periodic
    image going on. Left out: the auxiliary networks of the deep
    supervision, which learn from true density maps. Added: more than one class.
    """

    def __init__(self, n_classes: int, width: int = 32):
        super().__init__()
        sizes = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(_conv(a, b, 3) for a, b in zip([2, *sizes], sizes, strict=False))
        self.bottom = _conv(sizes[-1], 4 * sizes[-1], 3)
        self.up = nn.ModuleList(
            _conv(a + b, b, 3) for a, b in zip([4 * sizes[-1], *sizes[:0:-1]], sizes[::-1], strict=True)
        )
        self.last = nn.Conv2d(width, n_classes, 1)

    def maps(self, x: Tensor) -> Tensor:
        """Return densities, (N, 2, H, W) -> (N, n_classes, H, W), sides lengthened, before they are made positive."""
        more = -x.shape[3] % 8, -x.shape[2] % 8
        if any(more):
            x = F.pad(x, (0, more[0], 0, more[1]), mode="circular")
        seen = []
        for layer in self.down:
            x = F.relu(layer(x))
            seen.append(x)
            x = F.max_pool2d(x, 2)
        x = F.relu(self.bottom(x))
        for layer in self.up:
            x = F.relu(layer(torch.cat([F.interpolate(x, scale_factor=2.0), seen.pop()], 1)))
        return self.last(x)

    def forward(self, x: Tensor) -> Tensor:
        return shares(self.maps(x))


class LeNet(nn.Module):
    """Map (M, channels, size, size) to (M, n_classes) logits by LeNet-5, as Habibzadeh et al. 2013 do for white cells.

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
    """Learn jointly a copy of the detector's encoder, the encodings' whitening and a head.

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
        n = 3 * encoder.n_out
        self.whitening = nn.Linear(n, n)
        self.size = 2 * encoder.border + 1

    def encodings(self, x: Tensor) -> Tensor:
        """Encode (M, 2, size, size) crops as (M, 3 d) features."""
        if x.shape[2:] != (self.size, self.size):
            raise ValueError(f"the encoder sees crops of {self.size}x{self.size} pixels, got {tuple(x.shape[2:])}")
        return with_moduli(self.encoder.valid(x))[:, :, 0, 0]

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Whiten the features of the training inputs `x`, as `classifier.whitening` does with fixed encodings."""
        mean, matrix = symmetric_root(self.encodings(x).flatten(0, -2).double())
        self.whitening.weight.copy_(matrix)
        self.whitening.bias.copy_(-matrix @ mean)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.whitening(self.encodings(x)))


def with_moduli(volume: Tensor) -> Tensor:
    """Put the moduli behind (N, 2 d, ...) real and imaginary parts, -> (N, 3 d, ...)."""
    return torch.cat([volume, to_complex(volume).abs()], 1)


class EncodedMaps(Encoded):
    """Make density maps by the detector's encoder: a linear layer on the whitened features of each pixel."""

    def encodings(self, x: Tensor) -> Tensor:
        """Encode (N, 2, L, L) images as (N, L, L, 3 d)."""
        return with_moduli(self.encoder(x)).permute(0, 2, 3, 1)

    def start(self, x: Tensor) -> None:
        """Whiten as `Encoded.start`, on the pixels of 16 images among `x` at most."""
        super().start(x[:: -(-len(x) // 16)])

    def forward(self, x: Tensor) -> Tensor:
        return shares(super().forward(x).permute(0, 3, 1, 2))


class EncodedImage(EncodedMaps):
    """Regress directly by the detector's encoder: the mean of all pixels' features, then the classifier."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.whitening(self.encodings(x).mean((1, 2))))


def network_of(spec: Spec, n_classes: int, encoder: ComplexConvs | None) -> nn.Module:
    """Return the network of a row of Table 3, on the CPU; initialised by the state of torch's generator.

    Parameters
    ----------
    spec : its predictor ("direct", "heatmap", "oracle"), network ("encoder"; "resnet18" to "resnet152", "c_fcrn",
        "lenet"), width (of the residual networks and C-FCRN), crop (pixels, of LeNet), hidden (of the encoder's
        classifier).
    encoder : a new one, or a trained detector's; what "encoder" starts from, None for other networks. `Encoded.start`
        is still to be called.

    Raises
    ------
    ValueError
        When the predictor has no such network.
    """
    predictor, name = spec.predictor, spec.network
    if name == "encoder" and encoder is not None:
        n_features = 3 * encoder.n_out
        if predictor == "oracle":
            return Encoded(encoder, Classifier(n_features, spec.hidden, n_classes))
        if predictor == "heatmap":
            return EncodedMaps(encoder, nn.Linear(n_features, n_classes))
        if predictor == "direct":
            # Means over whole images are small and hardly differ.
            normed = nn.LayerNorm(n_features, elementwise_affine=False)
            return EncodedImage(encoder, nn.Sequential(normed, Classifier(n_features, spec.hidden, n_classes)))
    if predictor == "direct" and name.startswith("resnet"):
        return resnet(int(name.removeprefix("resnet")), n_classes, spec.width).to(memory_format=torch.channels_last)
    if (predictor, name) == ("heatmap", "c_fcrn"):
        return CFCRN(n_classes, spec.width).to(memory_format=torch.channels_last)
    if (predictor, name) == ("oracle", "lenet"):
        return LeNet(n_classes, 2, spec.crop)
    raise ValueError(f"no predictor {predictor!r} with network {name!r} in Table 3")
