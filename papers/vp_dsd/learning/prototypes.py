"""Learn by prototypical contrastive clustering, PC: LLP-Co (La Rosa & Oliveira, AAAI 2022) on fixed embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from shared.methods import Batch, LossMethod, kl_loss
from shared.transport import sinkhorn

ITERATIONS = 100  # of Sinkhorn's algorithm, at most


class PrototypicalClustering(LossMethod):
    """Every class is a prototype; each of two views of an instance predicts the other's cluster assignment.

    An embedding is a point z on the unit sphere, its similarity to prototype c_k on the same sphere ``z . c_k``. The
    assignments of a view are entropic transport of its similarities under the *exact proportions of the bag* in place
    of SwAV's equipartition; the loss is the cross-entropy of ``softmax(z . c / temperature)`` with the assignments of
    the other view, mean over instances and views. At inference an instance belongs to the nearest prototype.

    Choices on fixed embeddings, in want of public code: a view is the features plus Gaussian noise; the hidden layers
    of the shared classifier are the projection and the weights of its last layer the prototypes (its bias is unused),
    so that the network and its pre-training are those of all rivals; temperature and epsilon are SwAV's.

    Parameters
    ----------
    network : module with `features`, and a linear `last` whose weights are the prototypes.
    noise : standard deviation of a view, in units of the whitened features; drawn from torch's global generators.
    temperature : of the prediction.
    epsilon : strength of the entropy in the assignment, in units of similarity.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        noise: float = 0.1,
        temperature: float = 0.1,
        epsilon: float = 0.05,
    ):
        super().__init__(network, optimiser, kl_loss)
        self.noise, self.temperature, self.epsilon = noise, temperature, epsilon

    def _similarities(self, x: Tensor) -> Tensor:
        features, prototypes = self.network.get_submodule("features"), self.network.get_parameter("last.weight")
        return normalize(features(x)) @ normalize(prototypes).T

    def _log_p(self, x: Tensor) -> Tensor:
        return (self._similarities(x) / self.temperature).log_softmax(1)

    def assign(self, similarities: Tensor, offsets: Tensor, proportions: Tensor) -> Tensor:
        """Assign instances to clusters, (M, K): rows sum to 1, means over a bag are its proportions."""
        return sinkhorn(
            -similarities.detach(),
            offsets,
            proportions,
            self.epsilon,
            iterations=ITERATIONS,
            gradient="none",
            check=False,
        ).plan

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self.network.train()
        both = batch.x.repeat(2, 1)
        similarities = self._similarities(both + self.noise * torch.randn_like(both))
        offsets = torch.cat([batch.offsets, batch.offsets[-1] + batch.offsets[1:]])
        assigned = self.assign(similarities, offsets, batch.proportions.repeat(2, 1))
        # Bags of one instance whose probabilities are the assignments of the other view.
        log_p = (similarities / self.temperature).log_softmax(1)
        loss = self.loss(log_p, torch.arange(len(both) + 1), assigned.roll(len(batch.x), 0))
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.detach()}
