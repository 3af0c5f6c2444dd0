"""Collect the backbones that several papers share, as plain torch modules from inputs to logits."""

from shared.networks.cnn13 import CNN13
from shared.networks.llp_gan import Discriminator, FeatureGenerator, Generator
from shared.networks.mlp import MLP
from shared.networks.patch_features import PatchFeatures
from shared.networks.resnet import ResNet18

__all__ = [
    "CNN13",
    "MLP",
    "Discriminator",
    "FeatureGenerator",
    "Generator",
    "PatchFeatures",
    "ResNet18",
]
