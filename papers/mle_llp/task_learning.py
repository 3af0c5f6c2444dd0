"""Train by one of the losses (Section 3): what is evaluated after an epoch, and what the curves say at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from papers.mle_llp.data import Data, bags_of
from papers.mle_llp.em import stops_at
from papers.mle_llp.method import lessons, method_of
from papers.mle_llp.search import rate_of
from shared.config import Spec
from shared.methods import Method
from shared.training import Result, Schedule, bag_loss, checkpoint, fit, predictions, select, within

STOP_CHANGE = 1e-4  # Section 2.3
NEARLY = 0.99  # of the final accuracy
OF_TWO = math.sqrt(math.pi) / 2  # a standard deviation is so many times the mean distance of two draws, if normal


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
    found = {"epochs_to_99": int(np.argmax(accuracy >= NEARLY * accuracy[-3:].mean())) + 1}
    found["half_accuracy"] = float(accuracy[min((epochs - 1) // 2, len(accuracy) - 1)])
    late = np.diff(accuracy[len(accuracy) // 2 :])
    if len(late):
        found["unrest"] = float(np.abs(late).mean())
    stop = stops_at(curves.get("log_likelihood", []), STOP_CHANGE)
    return found | ({"stop_epoch": stop} if stop else {})


@dataclass
class Trained:
    """Hold a trained repetition.

    Attributes
    ----------
    chosen : {metrics, curves} of the search for a learning rate; empty where there was none.
    seconds : of training, the E-step with it, without evaluation and search.
    bags : {part: summary} of the bags.
    """

    method: Method
    curves: dict
    chosen: dict
    seconds: float
    bags: dict[str, dict]


def repetition(spec: Spec, data: Data, session: dict) -> Trained | None:
    """Train by the loss of a spec of the task `learning`; None if the deadline came first.

    The curves of a run on all bags (Figure 1) are kept beside the checkpoints: bands are made of them.
    """
    train, validation, test = bags_of(spec, data, spec.seed, spec.validation_instances)
    share = 0.0
    if spec.choose_rate:
        searched = len(spec.rates) * spec.search_epochs
        share = searched / (searched + spec.epochs)
    found = rate_of(spec, data, within(session, 0, share))
    if found is None:
        return None
    rate, chosen = found
    rate *= spec.rate_times
    method = method_of(spec.loss, spec, data, spec.seed, rate)
    stop_change = spec.stop_change if spec.loss == "mle_llp" else 0.0
    learned, more = lessons(spec.loss, data, train, spec.images_per_batch, stop_change)

    def evaluate(method: Method) -> dict[str, float]:
        held = {"validation_loss": bag_loss(method, data.inputs, validation)} if len(validation) else {}
        return {**scores(method, data, test.indices), **held}

    fitted = fit(
        method,
        data.inputs,
        learned,
        epochs=spec.epochs,
        schedule=Schedule(spec.schedule, rate),
        seed=spec.seed,
        evaluate=evaluate,
        **more,
        **within(session, share, 1),
    )
    if fitted is None:
        return None
    parts = zip(("train", "validation", "test"), (train, validation, test), strict=True)
    summaries = {name: part.summary() for name, part in parts if len(part)}
    kept = _kept(spec, session) if not spec.bags else None
    if kept:
        checkpoint.keep(kept, {"key": kept.stem, "curves": fitted["curves"], "bags": summaries})
    return Trained(method, fitted["curves"], chosen, fitted["train_s"], summaries)


def _kept(spec: Spec, session: dict) -> Path | None:
    """Where the curves of a spec of the task `learning` are kept; None where the session keeps nothing."""
    return checkpoint.common("curves", spec.canonical(), session)


def learn(spec: Spec, data: Data, session: dict) -> Result | None:
    """Train one repetition and say what its curves say; None if the deadline came first."""
    trained = repetition(spec, data, session)
    if trained is None:
        return None
    curves = trained.curves
    metrics = select(curves)
    for chosen in metrics.values():
        chosen["class_accuracy"] = curves["test_class_accuracy"][curves["epoch"].index(chosen["epoch"])]
    metrics["last"] |= convergence(curves, spec.epochs) | trained.chosen.get("metrics", {})
    share = metrics["last"]["epochs_to_99"] / len(curves["epoch"])
    return Result(
        metrics,
        curves={**curves, **trained.chosen.get("curves", {})},
        bags=trained.bags,
        cost={"train_s": round(trained.seconds, 3), "to_99_s": round(share * trained.seconds, 4)},
        says=f"{metrics['last']['accuracy']:.1f} %",
        method=trained.method,
    )


def band(spec: Spec, data: Data, session: dict) -> Result | None:
    """Measure the spread over repetitions (the bands of Figure 1) by two of them, 2 s and 2 s + 1 for the seed s.

    Their curves are read where runs of the same work folder and code have left them, else they are trained. A run that
    stopped before its time keeps its last accuracy, as in the figure.

    Returns
    -------
    Result
        Metrics spread and late_spread: the mean distance of the two test accuracies over all epochs, or over their
        second half, as a standard deviation in points; None if the deadline came first.
    """
    accuracies, bags = [], {}
    held = dict(spec)  # each repetition reads all that the spec of a band holds
    for place in range(2):
        one = spec.but(task="learning", seed=2 * held["seed"] + place)
        kept = _kept(one, session)
        found = checkpoint.resume(kept, kept.stem) if kept else None
        if found is None:
            own = within(session, place / 2, (place + 1) / 2)
            if "checkpoint" in own:
                own["checkpoint"] = own["checkpoint"].with_suffix(f".{place}.pt")
            trained = repetition(one, data, own)
            if trained is None:
                return None
            found = {"curves": trained.curves, "bags": trained.bags}
            if "checkpoint" in own:
                own["checkpoint"].unlink(missing_ok=True)
        seen = found["curves"]["test_accuracy"]
        accuracies.append(np.array(seen + seen[-1:] * (spec.epochs - len(seen))))
        bags |= {f"{name} of seed {one.seed}": summary for name, summary in found["bags"].items()}
    apart = OF_TWO * np.abs(accuracies[0] - accuracies[1])
    metrics = {"spread": float(apart.mean()), "late_spread": float(apart[len(apart) // 2 :].mean())}
    return Result(
        {"last": metrics},
        curves={"epoch": list(range(1, spec.epochs + 1)), "spread": apart.tolist()},
        bags=bags,
        says=f"{metrics['spread']:.2f} points",
    )
