"""A method is two verbs, `update` and `predict`; GANs, EM and pseudo-labelling fit behind it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of log_p (M, K), offsets (B + 1,) and proportions (B, K)


@dataclass(frozen=True)
class Batch:
    """Hold some bags, ready to learn from.

    Attributes
    ----------
    x : (M, ...) inputs, on the device.
    offsets : (B + 1,) on the host.
    proportions : (B, K).
    """

    x: Tensor
    offsets: Tensor
    proportions: Tensor


class Method(Protocol):
    """The training loop needs this of a method, and no more."""

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from one batch; return named scalars to follow, as tensors, so that nothing waits for a device."""

    def predict(self, x: Tensor) -> Tensor:
        """Return the (N, K) class probabilities of (N, ...) inputs, without learning."""

    def set_learning_rate(self, rate: float) -> None: ...

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


def unchecked(loss: Callable[..., Tensor]) -> Loss:
    """Return a loss over bags without its look at values, which would wait for a device: `Bags` has had one."""
    return partial(loss, check=False) if "check" in inspect.signature(loss).parameters else loss


def tracking(network: nn.Module) -> list[_NormBase]:
    """Return the modules whose running statistics a pass in training mode moves."""
    return [module for module in network.modules() if isinstance(module, _NormBase) and module.track_running_stats]


@contextmanager
def untracked(network: nn.Module):
    """Batch normalisation goes on with the batch's statistics and leaves the running ones, which `predict` uses, alone.

    A pass in training mode over anything but real inputs (fakes, perturbed ones) belongs in here.
    """
    moved = tracking(network)
    for module in moved:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in moved:
            module.track_running_stats = True


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate; where it is a tensor, as a CUDA graph reads it, in its place."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class LossMethod:
    """Train a network by an optimiser and a loss over bags.

    Parameters
    ----------
    loss : function of (log_p (M, K), offsets (B + 1,), proportions (B, K)) -> scalar; see `unchecked`.
    autocast : bool
        Run the network in bfloat16; log-probabilities and the loss stay in float32.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        loss: Loss,
        autocast: bool = False,
    ):
        self.network, self.optimiser, self.loss, self.autocast = network, optimiser, unchecked(loss), autocast
        self.learns: bool | None = None  # what all modules were told

    def _log_p(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16) if self.autocast else nullcontext():
            logits = self.network(x)
        return logits.float().log_softmax(1)

    def _tell(self, learns: bool) -> None:
        # To tell every module costs a twentieth of a small step.
        if not self.learns == learns == self.network.training:
            self.network.train(learns)
            self.learns = learns

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self._tell(True)
        loss = self.loss(self._log_p(batch.x), batch.offsets, batch.proportions)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        self._tell(False)
        return self._log_p(x).exp()

    def set_learning_rate(self, rate: float) -> None:
        set_rate(self.optimiser, rate)

    def capturable(self) -> bool:
        """Return whether a step does the same on every batch of one shape, so that a CUDA graph can replay it."""
        return type(self).update is LossMethod.update

    def state_dict(self) -> dict:
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
