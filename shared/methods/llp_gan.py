"""In LLP-GAN one discriminator tells K classes and fakes apart (Liu, Wang, Qi, Tian & Shi, NeurIPS 2019).

The K logits l and a fixed zero logit for "fake" make K + 1 classes: D(x) = Z / (Z + 1) with Z = sum_k exp(l_k).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.bags.check import check_pair
from shared.methods.method import Batch, Loss, unchecked, untracked
from shared.methods.proportion import kl_loss


def adversarial_loss(real: Tensor, fake: Tensor, *, check: bool = True) -> Tensor:
    """Return ``- E log D(real) - E log(1 - D(fake))`` from (M, K) and (N, K) logits; a scalar, in nats.

    It is the (K + 1)-way cross-entropy of "one of the K" on real instances and of "fake" on generated ones.
    Source: the objective of Liu et al. 2019; their release has weight 1 on either term.
    Errors are those of `shared.bags.check.check_pair`; `check` is whether to look at values, too.
    """
    check_pair(real, fake, ("real", "fake"), values=check)
    # The log-sigmoid neither cancels nor underflows; torch's softplus is cut off at 20, which is wrong by 2e-9.
    return -F.logsigmoid(real.logsumexp(1)).mean() - F.logsigmoid(-fake.logsumexp(1)).mean()


def feature_matching(real: Tensor, fake: Tensor, *, check: bool = True) -> Tensor:
    """Return the mean over F features of the squared difference between the means of (M, F) and (N, F); a scalar.

    Source: Salimans et al. 2016, Section 3.1, there a sum; the release of Liu et al. 2019 takes the mean.
    Errors and `check` as in `adversarial_loss`.
    """
    check_pair(real, fake, ("real", "fake"), values=check)
    return (real.mean(0) - fake.mean(0)).square().mean()


class LLPGAN:
    """A discriminator is the classifier, and a generator keeps it busy.

    One `update` is two steps, as in the release. First the discriminator's, on
    ``adversarial_loss + weight * loss``; then the generator's, on `feature_matching`, through the discriminator just
    moved. Both read the same real batch and the same noise, uniform on [-1, 1], as many fakes as real instances; both
    networks are in training mode throughout, and every pass through the discriminator draws its own dropout. Noise and
    dropout come from torch's global generators.

    Of the four passes through the discriminator the first alone, of the real batch for the proportion loss, moves the
    running statistics of a batch normalisation: `predict` then uses those of real inputs, as in any other method, where
    otherwise a half would be of fakes. The release's discriminator, and the one in `shared.networks`, has no batch
    normalisation; there it changes nothing.

    Choices beside the release, whose batch is one bag: with several bags of any sizes, the proportion loss is the mean
    over bags, the adversarial loss and the matched features are means over all instances. The release adds 1e-7 inside
    the proportion loss's logarithm; `kl_loss` is exact in the log domain. The fakes are made once for both steps, since
    the generator does not change between them.

    Images are expected in [-1, 1], where the generator's are: ``Inputs(..., standardise=([127.5] * 3, [127.5] * 3))``.
    The release feeds [0, 1] instead, where a negative pixel gives a fake away. Nothing is scaled here.

    Parameters
    ----------
    discriminator : module from inputs to (N, K) logits, with `features` and `last`; see `shared.networks`.
    generator : module from (N, `generator.noise`) numbers to inputs.
    discriminator_optimiser, generator_optimiser : over the parameters of each; Adam, 3e-4, beta1 0.5 in the release.
    weight : of the proportion loss; 1 in the release.
    loss : the proportion loss, of (log_p (M, K), offsets (B + 1,), proportions (B, K)) -> scalar; KL in the release.
    autocast : bool
        Run the networks in bfloat16; the losses stay in float32.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        generator: nn.Module,
        discriminator_optimiser: torch.optim.Optimizer,
        generator_optimiser: torch.optim.Optimizer,
        weight: float = 1.0,
        autocast: bool = False,
        loss: Loss = kl_loss,
    ):
        self.discriminator, self.generator = discriminator, generator
        self.discriminator_optimiser, self.generator_optimiser = discriminator_optimiser, generator_optimiser
        self.weight, self.autocast, self.loss = weight, autocast, unchecked(loss)
        self.noise = cast(int, generator.noise)

    def _precision(self, x: Tensor) -> AbstractContextManager:
        return torch.autocast(x.device.type, torch.bfloat16) if self.autocast else nullcontext()

    def _features(self, x: Tensor) -> Tensor:
        return cast(Callable[[Tensor], Tensor], self.discriminator.features)(x).float()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take both steps; `loss` is the discriminator's, before its step."""
        self.discriminator.train()
        self.generator.train()
        x = batch.x
        with self._precision(x):
            fake = self.generator(x.new_empty(len(x), self.noise).uniform_(-1, 1))
            on_real = self.discriminator(x).float()
            with untracked(self.discriminator):
                on_fake = self.discriminator(fake.detach()).float()
        adversarial = adversarial_loss(on_real, on_fake, check=False)
        proportion = self.loss(on_real.log_softmax(1), batch.offsets, batch.proportions)
        loss = adversarial + self.weight * proportion
        self.discriminator_optimiser.zero_grad()
        loss.backward()
        self.discriminator_optimiser.step()

        with self._precision(x), untracked(self.discriminator):
            with torch.no_grad():
                real_features = self._features(x)
            fake_features = self._features(fake)
        matching = feature_matching(real_features, fake_features, check=False)
        self.generator_optimiser.zero_grad()
        # Only these: the discriminator's weights get no gradient, and none is computed.
        matching.backward(inputs=[p for p in self.generator.parameters() if p.requires_grad])
        self.generator_optimiser.step()
        scalars = {"loss": loss, "adversarial_loss": adversarial, "proportion_loss": proportion}
        return {name: value.detach() for name, value in {**scalars, "generator_loss": matching}.items()}

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return class probabilities given that x is real: the softmax of the K logits."""
        self.discriminator.eval()
        with self._precision(x):
            logits = self.discriminator(x)
        return logits.float().softmax(1)

    def set_learning_rate(self, rate: float) -> None:
        for optimiser in (self.discriminator_optimiser, self.generator_optimiser):
            for group in optimiser.param_groups:
                group["lr"] = rate

    def _parts(self) -> dict:
        names = ("discriminator", "generator", "discriminator_optimiser", "generator_optimiser")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict:
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
