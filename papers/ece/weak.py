"""Supervise weakly (Section 4.2): train, take confident predictions for annotations, train again from scratch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from shared.config import Spec
from shared.training import checkpoint

Labels = list[np.ndarray]  # of each training image: a mask, or boxes
M = TypeVar("M")  # the method that is trained


def rounds_of(spec: Spec) -> int:
    """Return how many times the labels grow: never unless the loss is "weak"."""
    return spec.rounds if spec.loss == "weak" else 0


def trained(
    rounds: int,
    labels: Labels,
    fit_round: Callable[[Labels, int, dict], tuple[M, dict] | None],
    grown: Callable[[Labels, M], Labels],
    session: dict,
) -> tuple[M, dict, Labels, float] | None:
    """Train once, after `rounds` trainings whose confident predictions have joined the labels.

    What a round yields is kept beside the session's checkpoint until the last training is done, so that a stopped run
    goes on where it was.

    Parameters
    ----------
    fit_round : of (labels, number of the round, session): a new (method, what `fit` returns); None at the deadline.
    grown : of (labels, method): the labels with what the method has found.

    Returns
    -------
    (method, what `fit` returned, labels learned from, seconds of all trainings), or None if the deadline came first.
    Among the curves are ``round<number>_test_<measure>`` of the earlier trainings.
    """
    seconds = 0.0
    earlier: dict[str, list] = {}
    for number in range(rounds):
        own, kept, done = dict(session), _kept(session, number), None
        if kept:
            own |= {"checkpoint": kept.with_suffix(".part.pt"), "key": f"{session.get('key', '')}/{number}"}
            done = checkpoint.resume(kept, own["key"])
        if done is None:
            fitted = fit_round(labels, number, own)
            if fitted is None:
                return None
            labels = grown(labels, fitted[0])
            done = {"labels": [torch.from_numpy(some) for some in labels], "train_s": fitted[1]["train_s"]}
            courses = {name: values for name, values in fitted[1]["curves"].items() if name.startswith("test_")}
            done["curves"] = {f"round{number + 1}_{name}": values for name, values in courses.items()}
            if kept:
                checkpoint.keep(kept, {"key": own["key"], **done})
                own["checkpoint"].unlink(missing_ok=True)
        labels, seconds = [some.numpy() for some in done["labels"]], seconds + done["train_s"]
        earlier |= done["curves"]
    fitted = fit_round(labels, rounds, session)
    if fitted is None:
        return None
    for number in range(rounds):
        if kept := _kept(session, number):
            kept.unlink(missing_ok=True)
    method, last = fitted
    return method, last | {"curves": earlier | last["curves"]}, labels, seconds + last["train_s"]


def _kept(session: dict, number: int) -> Path | None:
    return Path(session["checkpoint"]).with_suffix(f".round{number}.pt") if session.get("checkpoint") else None
