"""Build the methods of Tables 1 and 2 by one call: same network, optimiser, learning rate and number of updates."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from papers.plot import student
from papers.vp_dsd.learning.adversarial import beside_a_generator
from papers.vp_dsd.learning.classifier import Classifier
from papers.vp_dsd.learning.feature_label import flm_loss
from papers.vp_dsd.learning.prototypes import PrototypicalClustering
from papers.vp_dsd.loss import LOSSES
from shared.bags import Bags
from shared.config import Spec
from shared.methods import LossMethod, Method, kl_loss
from shared.training import Inputs

RIVALS = (*LOSSES, "flm", "pc", "plot", "supervised")
REPRESENTATIONS = ("none", "gan", "flm")  # beside KL, VP-L2 and VP-CE


def method_of(
    spec: Spec, network: Classifier, inputs: Inputs, bags: Bags, labels: np.ndarray
) -> tuple[Method, Bags, dict]:
    """Return the method that ``spec.loss`` names, around `network`, with a new Adam.

    Parameters
    ----------
    network : a new one, or, for those that have `pretrain_epochs`, one trained with the KL loss; trained in place.
    inputs : the features of all N detections.
    bags : the training bags over them; for "supervised" only their instances count.
    labels : (N,) true classes, -1 for detections that are no cell. "supervised" learns from them and leaves those out;
        "plot" shows the accuracy of its pseudo-labels in the curves (one that is no cell counts as wrong); the others
        do not see them.

    Returns
    -------
    What `shared.training.fit` needs: the method; the bags to learn from, single instances for "plot" and "supervised";
    and, as keywords, ``bags_per_batch``, such that all make equally many updates in an epoch, and PLOT's ``renew``.

    Raises
    ------
    ValueError
        For an unknown loss, or a supervised run without a labelled instance.
    """
    loss, per_batch = spec.loss, spec.bags_per_batch
    if loss not in RIVALS:
        raise ValueError(f"loss {loss!r} is not one of {', '.join(RIVALS)}")
    optimiser = torch.optim.Adam(network.parameters(), spec.learning_rate, fused=True)
    if loss == "pc":
        settings = {"noise": spec.pc_noise, "temperature": spec.pc_temperature, "epsilon": spec.pc_epsilon}
        return PrototypicalClustering(network, optimiser, **settings), bags, {"bags_per_batch": per_batch}
    if loss not in ("plot", "supervised"):
        over_bags, more = _over_bags(spec), {"bags_per_batch": per_batch}
        if "representation" in spec and spec.representation == "gan":
            n_inputs = inputs.batch(bags.indices[:1]).shape[1]
            return beside_a_generator(spec, network, optimiser, over_bags, n_inputs), bags, more
        return LossMethod(network, optimiser, over_bags), bags, more

    indices = bags.indices if loss == "plot" else bags.indices[labels[bags.indices] >= 0]
    if not len(indices):
        raise ValueError("no detection has a label: a supervised run needs simulated or annotated cells")
    more = {"bags_per_batch": math.ceil(len(indices) / math.ceil(len(bags) / per_batch))}
    if loss == "supervised":
        return LossMethod(network, optimiser, kl_loss), _single(indices, np.eye(bags.n_classes)[labels[indices]]), more
    method = student.Student(network, optimiser, student.loss_of(spec), spec.mixup, spec.average)
    # Any targets: `renew` replaces them before the first epoch.
    targets = np.full((len(indices), bags.n_classes), 1 / bags.n_classes)
    more["renew"] = student.labelling(spec, inputs, bags, labels, method)
    return method, _single(indices, targets), more


def _over_bags(spec: Spec) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the loss over bags that a spec names."""
    representation = spec.representation if "representation" in spec else "none"
    if representation not in REPRESENTATIONS:
        raise ValueError(f"representation {representation!r} is none of {', '.join(REPRESENTATIONS)}")
    if "flm" in (spec.loss, representation):
        settings = {"entropy_weight": spec.flm_entropy, "match_weight": spec.flm_weight, "share": spec.flm_share}
        level = kl_loss if spec.loss == "flm" else LOSSES[spec.loss]
        return partial(flm_loss, **settings, labels=spec.flm_labels, level=level)
    return LOSSES[spec.loss]


def _single(indices: np.ndarray, targets: np.ndarray) -> Bags:
    """Return instances as bags of one, whose proportions are their labels."""
    return Bags(indices, np.arange(len(indices) + 1), targets)
