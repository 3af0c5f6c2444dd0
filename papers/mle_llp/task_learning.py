"""Train by one of the losses (Section 3): what is evaluated after an epoch, and what the curves say at the end."""

from __future__ import annotations

import numpy as np

from papers.mle_llp.data import Data, bags_of
from papers.mle_llp.em import stops_at
from papers.mle_llp.method import fitted
from papers.mle_llp.search import rate_of
from shared.config import Spec
from shared.methods import Method
from shared.training import Result, bag_loss, predictions, select, within

STOP_CHANGE = 1e-4  # Section 2.3
NEARLY = 0.99  # of the final accuracy


def scores(method: Method, data: Data, indices: np.ndarray) -> dict[str, float]:
    """Return the accuracy, and its mean over the classes, in percent."""
    right = predictions(method, data.inputs, indices).argmax(1).cpu().numpy() == data.labels[indices]
    by_class = [right[data.labels[indices] == k].mean() for k in np.unique(data.labels[indices])]
    return {"test_accuracy": 100 * float(right.mean()), "test_class_accuracy": 100 * float(np.mean(by_class))}


def convergence(curves: dict, epochs: int) -> dict[str, float]:
    """Return what the claims about training ask of a curve of test accuracy.

    Parameters
    ----------
    epochs : that the spec asks for, which all methods of a tier share; a run that stopped before keeps its last values.

    Returns
    -------
    epochs_to_99 : the first epoch with 99 % of the final accuracy, the mean of the last three epochs trained.
    half_accuracy : after half of `epochs` (rounded up), whether or not the run stopped before.
    unrest : mean absolute change from epoch to epoch over the second half of the epochs trained, in points.
    stop_epoch : where the paper's rule would stop; absent if nowhere.
    """
    accuracy = np.array(curves["test_accuracy"])
    found: dict[str, float] = {"epochs_to_99": int(np.argmax(accuracy >= NEARLY * accuracy[-3:].mean())) + 1}
    found["half_accuracy"] = float(accuracy[min((epochs - 1) // 2, len(accuracy) - 1)])
    late = np.diff(accuracy[len(accuracy) // 2 :])
    if len(late):
        found["unrest"] = float(np.abs(late).mean())
    stop = stops_at(curves.get("log_likelihood", []), STOP_CHANGE)
    if stop:
        found["stop_epoch"] = stop
    return found


def learn(spec: Spec, data: Data, session: dict) -> Result | None:
    """Train one repetition and say what its curves say; None if the deadline came first.

    Costs are the seconds of training, the E-step with it, without evaluation and search, and those until the epoch
    `epochs_to_99`.
    """
    train, validation, test = bags_of(spec, data, spec.seed, spec.validation_instances)
    share = 0.0
    if spec.choose_rate:
        searched = len(spec.rates) * spec.search_epochs
        share = searched / (searched + spec.epochs)
    rated = rate_of(spec, data, within(session, 0, share))
    if rated is None:
        return None
    rate, chosen, searched_curves = rated

    def evaluate(method: Method) -> dict[str, float]:
        held = {"validation_loss": bag_loss(method, data.inputs, validation)} if len(validation) else {}
        return {**scores(method, data, test.indices), **held}

    settings = {"rate": rate * spec.rate_times, "epochs": spec.epochs, "seed": spec.seed, "evaluate": evaluate}
    settings["stop_change"] = spec.stop_change if spec.loss == "mle_llp" else 0.0
    trained = fitted(spec, data, train, session=within(session, share, 1), **settings)
    if trained is None:
        return None
    method, (curves, seconds) = trained[0], (trained[1]["curves"], trained[1]["train_s"])
    metrics = select(curves)
    for selected in metrics.values():
        selected["class_accuracy"] = curves["test_class_accuracy"][curves["epoch"].index(selected["epoch"])]
    metrics["last"] |= convergence(curves, spec.epochs) | chosen
    part = metrics["last"]["epochs_to_99"] / len(curves["epoch"])
    parts = zip(("train", "validation", "test"), (train, validation, test), strict=True)
    return Result(
        metrics,
        curves={**curves, **searched_curves},
        bags={name: part.summary() for name, part in parts if len(part)},
        cost={"train_s": round(seconds, 3), "to_99_s": round(part * seconds, 4)},
        says=f"{metrics['last']['accuracy']:.1f} %",
        method=method,
    )
