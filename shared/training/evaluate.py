"""Evaluate by instance accuracy and loss on held-out bags, and select an epoch by three rules."""

from __future__ import annotations

import numpy as np
import torch

from shared.bags import Bags
from shared.methods import Method, kl_loss
from shared.training.inputs import Inputs

AT_ONCE = 500  # inputs that are predicted together
NUMBERS = 2_000 * 3 * 32 * 32  # of inputs that are on a GPU: 2,000 images of CIFAR, whose layers take some .5 GB each


def predictions(method: Method, inputs: Inputs, indices: np.ndarray, batch: int | None = None) -> torch.Tensor:
    """Return the (N, K) class probabilities of the inputs numbered `indices`, (N,), `batch` at a time.

    Unless told, these are `AT_ONCE`, on a GPU as many more as hold `NUMBERS`, which saves it launches.
    """
    if batch is None:
        many = inputs.device.type == "cuda" and NUMBERS // max(1, inputs.array[:1].numel())
        batch = max(AT_ONCE, many)
    parts = [method.predict(inputs.batch(indices[i : i + batch])) for i in range(0, len(indices), batch)]
    return torch.cat(parts)


def accuracy(method: Method, inputs: Inputs, labels: np.ndarray, indices=None, batch: int | None = None) -> float:
    """Return in percent of how many inputs (those numbered `indices`, if given) the likeliest class is their label."""
    indices = np.arange(len(inputs)) if indices is None else indices
    p = predictions(method, inputs, indices, batch)
    return 100 * float((p.argmax(1).cpu() == torch.from_numpy(np.asarray(labels)[indices])).double().mean())


def bag_loss(method: Method, inputs: Inputs, bags: Bags, batch: int | None = None) -> float:
    """Return the proportion loss (`kl_loss`) of whole bags, in nats: what can be validated without instance labels."""
    p = predictions(method, inputs, bags.indices, batch)
    log_p = p.clamp_min(1e-30).log()
    target = torch.from_numpy(bags.proportions).to(log_p)
    return float(kl_loss(log_p, torch.from_numpy(bags.offsets), target, check=False))


def select(curves: dict, metric: str = "test_accuracy", name: str = "accuracy") -> dict:
    """Return the metric under each selection rule: {rule: {name: value, "epoch": epoch}}.

    Returns
    -------
    last : the last epoch.
    bag-validation : the epoch of least loss on held-out bags, where there are any.
    oracle : the best epoch on the test set, an upper bound that no practitioner has.
    """
    values = curves[metric]
    chosen = {"last": len(values) - 1, "oracle": int(np.argmax(values))}
    if "validation_loss" in curves:
        chosen["bag-validation"] = int(np.argmin(curves["validation_loss"]))
    return {rule: {name: values[i], "epoch": curves["epoch"][i]} for rule, i in chosen.items()}
