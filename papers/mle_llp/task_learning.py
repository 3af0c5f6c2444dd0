"""Train by one of the losses (Section 3): what is evaluated after an epoch, and what the curves say at the end."""

from __future__ import annotations

import numpy as np

from papers.mle_llp.data import Data
from papers.mle_llp.em import stops_at
from papers.mle_llp.method import lessons, method_of
from shared.bags import Bags
from shared.config import Spec
from shared.methods import Method
from shared.training import Result, Schedule, bag_loss, fit, predictions, select

STOP_CHANGE = 1e-4  # Section 2.3
NEARLY = 0.99  # of the final accuracy


def scores(method: Method, data: Data, indices: np.ndarray) -> dict[str, float]:
    """Return the accuracy, and its mean over the classes, in percent."""
    right = predictions(method, data.inputs, indices).argmax(1).cpu().numpy() == data.labels[indices]
    by_class = [right[data.labels[indices] == k].mean() for k in np.unique(data.labels[indices])]
    return {"test_accuracy": 100 * float(right.mean()), "test_class_accuracy": 100 * float(np.mean(by_class))}


def convergence(curves: dict) -> dict[str, float]:
    """Return what the claims about training ask of a curve of test accuracy.

    Returns
    -------
    epochs_to_99 : the first epoch with 99 % of the final accuracy, the mean of the last three epochs.
    half_accuracy : after half of the epochs.
    unrest : mean absolute change from epoch to epoch over the second half, in points.
    stop_epoch : where the paper's rule would stop; absent if nowhere.
    """
    accuracy = np.array(curves["test_accuracy"])
    found = {"epochs_to_99": int(np.argmax(accuracy >= NEARLY * accuracy[-3:].mean())) + 1}
    found["half_accuracy"] = float(accuracy[(len(accuracy) - 1) // 2])
    late = np.diff(accuracy[len(accuracy) // 2 :])
    if len(late):
        found["unrest"] = float(np.abs(late).mean())
    stop = stops_at(curves.get("log_likelihood", []), STOP_CHANGE)
    return found | ({"stop_epoch": stop} if stop else {})


def learn(spec: Spec, data: Data, bags: tuple[Bags, Bags, Bags], session: dict) -> Result | None:
    """Train by the loss of the spec on (training, validation, test) bags; None if the deadline came first."""
    train, validation, test = bags
    method = method_of(spec.loss, spec, data)
    stop_change = spec.stop_change if spec.loss == "mle_llp" else 0.0
    learned, more = lessons(spec.loss, data, train, spec.images_per_batch, stop_change)
    fitted = fit(
        method,
        data.inputs,
        learned,
        epochs=spec.epochs,
        schedule=Schedule(spec.schedule, spec.learning_rate),
        seed=spec.seed,
        evaluate=lambda method: {
            **scores(method, data, test.indices),
            "validation_loss": bag_loss(method, data.inputs, validation),
        },
        **more,
        **session,
    )
    if fitted is None:
        return None
    curves = fitted["curves"]
    metrics = select(curves)
    for chosen in metrics.values():
        chosen["class_accuracy"] = curves["test_class_accuracy"][curves["epoch"].index(chosen["epoch"])]
    metrics["last"] |= convergence(curves)
    return Result(
        metrics,
        curves=curves,
        cost={"train_s": round(fitted["train_s"], 3)},
        says=f"{metrics['last']['accuracy']:.1f} %",
        method=method,
    )
