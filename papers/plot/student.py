"""Run stage two (Algorithm 1): learn from pseudo-labels, label anew by transport before each epoch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from papers.plot.labels import LabelHistory, relabel
from papers.plot.loss import Mixup, sce_loss
from shared.bags import Bags
from shared.config import Spec
from shared.methods import Batch, Method, kl_loss
from shared.methods.method import Loss
from shared.training import Inputs, predictions


class Student(Mixup):
    """Train a network on pseudo-labels and keep the last few labels of every training instance.

    A batch holds instances, bags of one whose proportions (M, K) are the pseudo-labels, or whole bags of n instances
    with those of each, (B, n, K), which are then learned from as B n instances (Algorithm 1).
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        loss: Loss,
        concentration: float,
        average: int,
        autocast: bool = False,
    ):
        super().__init__(network, optimiser, loss, concentration, autocast=autocast)
        self.history = LabelHistory(average)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from one batch of instances or of whole bags, mixed over all its instances."""
        if batch.proportions.dim() == 3:
            labels = batch.proportions.flatten(0, 1)
            batch = Batch(batch.x, torch.arange(len(labels) + 1), labels)
        return super().update(batch)

    def state_dict(self) -> dict:
        """Return the state, the last labels included."""
        return {**super().state_dict(), "history": self.history.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state."""
        super().load_state_dict(state)
        self.history.load_state_dict(state["history"])


def loss_of(spec: Spec) -> Loss:
    """Return cross-entropy or its symmetric form, on bags of one instance."""
    if spec.second_loss == "ce":
        return kl_loss
    return partial(sce_loss, alpha=spec.sce_alpha, beta=spec.sce_beta, log_zero=spec.log_zero)


def labelling(spec: Spec, inputs: Inputs, bags: Bags, labels: np.ndarray | None, first: Method) -> Callable:
    """Return what `fit(..., renew=)` calls before each epoch: it predicts all instances, transports and averages.

    Parameters
    ----------
    spec : of any paper, with `transport`, `average` and, where transport is soft, `epsilon`.
    inputs, bags : what is labelled.
    labels : true classes of all inputs. They serve the curves alone: td, td_ot and td_ot_<average> are the accuracies,
        in percent, of the predictions, of the labels after transport, and of the mean of the last ones (Figure 3); None
        where nobody knows them.
    first : stage one's method, which makes the first labels; that matters to a student that starts afresh.
    """
    offsets, proportions = torch.from_numpy(bags.offsets), torch.from_numpy(bags.proportions).float()
    true = None if labels is None else torch.from_numpy(labels[bags.indices])
    kind, average = spec.transport, spec.average
    settings = {"epsilon": spec.epsilon} if kind == "soft" else {}

    def renew(method: Student, curves: dict) -> tuple[Tensor, dict[str, float]]:
        p = predictions(method if curves["epoch"] else first, inputs, bags.indices)
        q = p
        if kind != "none":
            log_p = p.clamp_min(1e-30).log()
            q = relabel(log_p, offsets, proportions.to(p.device), kind=kind, **settings)
        mean = method.history.push(q)
        if true is None:
            return mean, {}
        labelled = {"td": p, "td_ot": q, f"td_ot_{average}": mean}
        return mean, {name: _share_right(table, true) for name, table in labelled.items()}

    return renew


def _share_right(q: Tensor, true: Tensor) -> float:
    # Of many classes NumPy finds the likeliest, the first of equals like torch, in a third of the time.
    return 100 * float((torch.from_numpy(q.cpu().numpy().argmax(1)) == true).double().mean())


def by_bag(renew: Callable, size: int) -> Callable:
    """Return a `renew` whose labels (M, K) come as (B, size, K), those of the instances of each bag: see `Student`."""

    def renewed(method: Student, curves: dict) -> tuple[Tensor, dict[str, float]]:
        labels, numbers = renew(method, curves)
        return labels.unflatten(0, (-1, size)), numbers

    return renewed
