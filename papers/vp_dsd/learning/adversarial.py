"""Learn from proportions beside a generator: LLP-GAN (Liu et al., NeurIPS 2019) on fixed embeddings, with any loss.

Section 3 calls the VP loss complementary to representation learning such as LLP-GAN's, "see details in the supplement".
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shared.config import Spec
from shared.methods import Batch
from shared.methods.llp_gan import LLPGAN, adversarial_loss, feature_matching
from shared.networks import FeatureGenerator


class BagGAN(LLPGAN):
    """Do as `LLPGAN` does, its loss of proportions replaced by another over bags.

    Parameters
    ----------
    loss : function of (log_p (M, K), offsets (B + 1,), proportions (B, K)) -> scalar; `LLPGAN` has the KL loss.
    """

    def __init__(self, *args, loss: Callable[[Tensor, Tensor, Tensor], Tensor], **more):
        super().__init__(*args, **more)
        self.loss = loss

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take both steps; `loss` is the discriminator's, before its step."""
        x = batch.x
        self.discriminator.train()
        self.generator.train()
        fake = self.generator(x.new_empty(len(x), self.generator.noise).uniform_(-1, 1))
        on_real, on_fake = self.discriminator(x), self.discriminator(fake.detach())
        over_bags = self.loss(on_real.log_softmax(1), batch.offsets, batch.proportions)
        loss = adversarial_loss(on_real, on_fake) + self.weight * over_bags
        self.discriminator_optimiser.zero_grad()
        loss.backward()
        self.discriminator_optimiser.step()
        with torch.no_grad():
            features = self.discriminator.features(x)
        matching = feature_matching(features, self.discriminator.features(fake))
        self.generator_optimiser.zero_grad()
        matching.backward(inputs=list(self.generator.parameters()))
        self.generator_optimiser.step()
        return {"loss": loss.detach(), "bag_loss": over_bags.detach(), "generator_loss": matching.detach()}


def beside_a_generator(
    spec: Spec, network: torch.nn.Module, optimiser: torch.optim.Optimizer, loss: Callable, n_inputs: int
) -> BagGAN:
    """Return the classifier `network` beside a new generator of its (N, n_inputs) features, under an Adam like its own.

    The generator's weights come from torch's global generators.
    """
    device = next(network.parameters()).device
    generator = FeatureGenerator(spec.gan_noise, spec.hidden, n_inputs).to(device)
    own = torch.optim.Adam(generator.parameters(), spec.learning_rate, fused=True)
    return BagGAN(network, generator, optimiser, own, weight=spec.gan_weight, loss=loss)
