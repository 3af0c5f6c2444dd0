"""Learn from proportions beside a generator: LLP-GAN (Liu et al., NeurIPS 2019) on fixed embeddings, with any loss.

Section 3 calls the VP loss complementary to representation learning such as LLP-GAN's, "see details in the supplement".
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from shared.config import Spec
from shared.methods import LLPGAN
from shared.networks import FeatureGenerator


def beside_a_generator(
    spec: Spec, network: torch.nn.Module, optimiser: torch.optim.Optimizer, loss: Callable, n_inputs: int
) -> LLPGAN:
    """Return the classifier `network` beside a new generator of its (N, n_inputs) features, under an Adam like its own.

    `loss` over bags takes the place of LLP-GAN's KL. The generator's weights come from torch's global generators.
    """
    device = next(network.parameters()).device
    generator = FeatureGenerator(spec.gan_noise, spec.hidden, n_inputs).to(device)
    own = torch.optim.Adam(generator.parameters(), spec.learning_rate, fused=True)
    return LLPGAN(network, generator, optimiser, own, weight=spec.gan_weight, loss=loss)
