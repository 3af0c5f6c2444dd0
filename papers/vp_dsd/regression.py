"""The predictors of proportions of Table 3: direct regression, regression of density maps, cells at oracle centres.

Every network reads I = T(H) as two channels, real and imaginary part. The regressors take whole images and return
logits whose softmax is the proportions: the KL loss on bags of one image, labelled by the subject's proportions, trains
them. The classifiers take crops, see `crops`, and any loss over bags trains them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers.vp_dsd.classifier import Classifier
from papers.vp_dsd.complex_layers import ComplexConvs
from papers.vp_dsd.crops import Encoded, LeNet, with_moduli
from shared.networks import ResNet18

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def _conv(n_in: int, n_out: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False), nn.BatchNorm2d(n_out))


class _Bottleneck(nn.Module):
    def __init__(self, n_in: int, n: int, stride: int):
        super().__init__()
        middle = (_conv(n_in, n, 1), nn.ReLU(), _conv(n, n, 3, stride), nn.ReLU())
        self.path = nn.Sequential(*middle, _conv(n, 4 * n, 1))
        self.shortcut = _conv(n_in, 4 * n, 1, stride) if n_in != 4 * n or stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.path(x) + self.shortcut(x))


def resnet(depth: int, n_classes: int, width: int = 64) -> nn.Module:
    """(N, 2, H, W) images -> (N, n_classes) logits: a residual network of 18, 50, 101 or 152 layers (He et al. 2016).

    The 18 layers are `shared.networks.ResNet18`, the others bottlenecks with strides in their 3x3 convolutions.
    """
    if depth == 18:
        return ResNet18(n_classes, width, channels=2, large=True)
    if depth not in DEPTHS:
        raise ValueError(f"no residual network of {depth} layers: take 18, {', '.join(map(str, DEPTHS))}")
    layers = [_conv(2, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    n_in = width
    for stage, blocks in enumerate(DEPTHS[depth]):
        n = width << stage
        for block in range(blocks):
            layers.append(_Bottleneck(n_in, n, 2 if stage and not block else 1))
            n_in = 4 * n
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, n_classes))


def shares(maps: Tensor) -> Tensor:
    """(N, K, H, W) -> (N, K) logits whose softmax is the share of each class in the sum of its density map.

    Densities are softplus of `maps`: a rectified map that is zero everywhere never learns again.
    """
    return F.softplus(maps).mean((2, 3)).log()


class CFCRN(nn.Module):
    """The concatenated fully convolutional regression network of He et al. 2021, in compact form; 32 is their width.

    (N, 2, H, W) images, H and W multiples of 8 -> (N, n_classes) logits: three halvings, three doublings, each with
    the maps of its size concatenated, then one density map a class. Left out: the auxiliary networks of the deep
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
        """(N, 2, H, W) -> (N, n_classes, H, W), densities before they are made positive."""
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


class EncodedMaps(Encoded):
    """Density maps by the detector's encoder: a linear layer on the whitened features of each pixel."""

    def encodings(self, x: Tensor) -> Tensor:
        """(N, 2, L, L) -> (N, L, L, 3 d)."""
        return with_moduli(self.encoder(x)).permute(0, 2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return shares(super().forward(x).permute(0, 3, 1, 2))


class EncodedImage(EncodedMaps):
    """Direct regression by the detector's encoder: the mean of all pixels' features, then the classifier."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.whitening(self.encodings(x).mean((1, 2))))


def network_of(spec: dict, n_classes: int, encoder: ComplexConvs) -> nn.Module:
    """The network of a row of Table 3, on the CPU; initialised by the state of torch's generator.

    Parameters
    ----------
    spec : predictor ("direct", "heatmap", "oracle"), network ("encoder"; "resnet18" to "resnet152", "c_fcrn", "lenet"),
        width (of the residual networks and C-FCRN), crop (pixels, of LeNet), hidden (of the encoder's classifier).
    encoder : a new one, or a trained detector's; what "encoder" starts from. `Encoded.start` is still to be called.

    Raises
    ------
    ValueError
        When the predictor has no such network.
    """
    predictor, name = spec["predictor"], spec["network"]
    n_features = 3 * encoder.layers[-1].weight.shape[1]
    if name == "encoder" and predictor == "oracle":
        return Encoded(encoder, Classifier(n_features, spec["hidden"], n_classes))
    if name == "encoder" and predictor == "heatmap":
        return EncodedMaps(encoder, nn.Linear(n_features, n_classes))
    if name == "encoder" and predictor == "direct":
        # Means over a whole image hardly differ between images.
        normed = nn.BatchNorm1d(n_features, affine=False)
        return EncodedImage(encoder, nn.Sequential(normed, Classifier(n_features, spec["hidden"], n_classes)))
    if predictor == "direct" and name.startswith("resnet"):
        return resnet(int(name.removeprefix("resnet")), n_classes, spec["width"])
    if (predictor, name) == ("heatmap", "c_fcrn"):
        return CFCRN(n_classes, spec["width"])
    if (predictor, name) == ("oracle", "lenet"):
        return LeNet(n_classes, 2, spec["crop"])
    raise ValueError(f"no predictor {predictor!r} with network {name!r} in Table 3")
