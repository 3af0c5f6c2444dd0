"""Stage two (Algorithm 1): learn from pseudo-labels, label anew by transport before each epoch."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from papers.plot.labels import LabelHistory, relabel
from papers.plot.loss import Mixup, sce_loss
from shared.bags import Bags
from shared.methods import Method, kl_loss
from shared.training import Inputs, predictions


class Student(Mixup):
    """A network on pseudo-labels, with the last few labels of every training instance in its state."""

    def __init__(self, network: nn.Module, optimiser, loss, concentration: float, average: int, autocast: bool = False):
        super().__init__(network, optimiser, loss, concentration, autocast=autocast)
        self.history = LabelHistory(average)

    def state_dict(self) -> dict:
        return {**super().state_dict(), "history": self.history.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.history.load_state_dict(state["history"])


def loss_of(spec: dict):
    """Cross-entropy or its symmetric form, on bags of one instance."""
    if spec["second_loss"] == "ce":
        return kl_loss
    return partial(sce_loss, alpha=spec["sce_alpha"], beta=spec["sce_beta"], log_zero=spec["log_zero"])


def labelling(spec: dict, inputs: Inputs, bags: Bags, labels: np.ndarray, first: Method):
    """What `fit(..., renew=)` calls before each epoch: predict all instances, transport, average.

    The first labels are those of `first`, stage one's method, which matters to a student that starts afresh.

    The true `labels` of the instances serve the curves alone: td, td_ot and td_ot_<average> are the accuracies, in
    percent, of the predictions, of the labels after transport, and of the mean of the last ones (Figure 3).
    """
    offsets, proportions = torch.from_numpy(bags.offsets), torch.from_numpy(bags.proportions).float()
    true = torch.from_numpy(labels[bags.indices])

    def share_right(q: Tensor) -> float:
        return 100 * float((q.argmax(1).cpu() == true).double().mean())

    def renew(method: Student, curves: dict):
        p = predictions(method if curves["epoch"] else first, inputs, bags.indices)
        q = p
        if spec["transport"] != "none":
            log_p = p.clamp_min(1e-30).log()
            q = relabel(log_p, offsets, proportions.to(p.device), kind=spec["transport"], epsilon=spec["epsilon"])
        mean = method.history.push(q)
        found = {"td": share_right(p), "td_ot": share_right(q), f"td_ot_{spec['average']}": share_right(mean)}
        return mean, found

    return renew
