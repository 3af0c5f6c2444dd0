"""Train over bags in a loop that can stop at any step and go on to the same numbers.

All randomness of a step is drawn from (seed, axis, epoch, step), so a checkpoint needs no generator's state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.bags import Bags, permutation
from shared.methods import Batch, Method
from shared.training import checkpoint as checkpoints
from shared.training.graph import Steps, asked
from shared.training.inputs import Inputs
from shared.training.seeds import axis_seed, seed_torch


@dataclass(frozen=True)
class Schedule:
    """Set the learning rate over training time t in [0, 1).

    Attributes
    ----------
    kind : "halfway" divides the rate by 10 from t = 1/2 on (Dulac-Arnold et al. 2019, Section 4.1); "quarters" halves
        it after every quarter (every 100 of 400 epochs: Liu et al. 2021, Section 5.2); "cosine" warms up over the first
        tenth and falls to 0 along a cosine; "constant".
    """

    kind: str
    rate: float

    def __post_init__(self):
        kinds = ("halfway", "quarters", "cosine", "constant")
        if self.kind not in kinds:
            raise ValueError(f"schedule {self.kind!r} is not one of {', '.join(kinds)}")

    def __call__(self, t: float) -> float:
        if self.kind == "halfway":
            return self.rate if t < 0.5 else self.rate / 10
        if self.kind == "quarters":
            return self.rate / 2 ** int(4 * t)
        if self.kind == "cosine":
            return self.rate * min(1.0, t / 0.1 + 1e-3) * (1 + math.cos(math.pi * t)) / 2
        return self.rate


@dataclass
class State:
    """What a checkpoint holds of a training beside its method.

    Attributes
    ----------
    graph : see `Steps.choice`.
    epoch, step : that come next, from 0.
    sums : {name: of the scalars of the steps of this epoch}.
    train_s : seconds until the last checkpoint.
    renewed : what `renew` returned for this epoch.
    """

    key: str
    graph: str
    epoch: int = 0
    step: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=lambda: {"epoch": []})
    train_s: float = 0.0
    renewed: tuple[Tensor, dict[str, float]] | None = None


def fit(
    method: Method,
    inputs: Inputs,
    bags: Bags,
    *,
    epochs: int,
    bags_per_batch: int,
    schedule: Schedule,
    seed: int,
    evaluate: Callable[[Method], dict[str, float]],
    renew: Callable[[Method, dict], tuple[Tensor, dict[str, float]] | None] | None = None,
    key: str = "",
    checkpoint: Path | None = None,
    checkpoint_every: float = 30.0,
    deadline: float | None = None,
    report: Callable[[float, dict], None] = lambda fraction, numbers: None,
) -> dict | None:
    """Train `method` on `bags` of `inputs`.

    Parameters
    ----------
    evaluate : called after each epoch; its numbers become curves.
    renew : called with the method and the curves so far before each epoch, where the targets follow the predictions
        (EM, pseudo-labels); returns the proportions (B, K) of this epoch and numbers for the curves, or None to stop.
    key : names the configuration; a checkpoint with another key is not resumed.
    checkpoint : where to keep the state, every `checkpoint_every` seconds; removed by the caller when all is done.
    deadline : `time.time()` at which to save and stop.
    report : called with the fraction done and, after each epoch, its numbers for people ({} after a checkpoint).

    Returns
    -------
    ``{"curves": {name: [one number per epoch]}, "train_s": seconds, without evaluation}``, or None if the deadline came
    first.

    Raises
    ------
    FloatingPointError
        When a loss is not finite, naming the epoch.
    """
    steps = math.ceil(len(bags) / bags_per_batch)
    proportions = torch.from_numpy(bags.proportions).float().to(inputs.device)
    state = State(key, asked())
    resumed = checkpoints.resume(checkpoint, key) if checkpoint else None
    if resumed:
        method.load_state_dict(resumed.pop("method"))
        state = State(**resumed)
    taking = Steps(method, bags_per_batch, inputs.device, state.graph)
    started = saved = time.time()

    def save() -> None:
        nonlocal started, saved
        if checkpoint is None:
            return
        state.train_s, state.graph = state.train_s + time.time() - started, taking.choice
        checkpoints.keep(checkpoint, {**vars(state), "method": method.state_dict()})
        started = saved = time.time()

    while state.epoch < epochs:
        epoch = state.epoch
        order = permutation(len(bags), axis_seed(seed, "order", epoch))
        if renew:
            state.renewed = state.renewed or renew(method, state.curves)
            if state.renewed is None:
                break
            proportions = state.renewed[0].to(inputs.device)
        # All bags in the order of the epoch: a step takes a slice.
        dealt, targets = bags.take(order), proportions[torch.from_numpy(order).to(inputs.device, non_blocking=True)]
        while state.step < steps:
            if deadline is not None and time.time() >= deadline:
                save()
                return None
            step = state.step
            cuts = dealt.offsets[step * bags_per_batch : (step + 1) * bags_per_batch + 1]
            seed_torch(axis_seed(seed, "noise", epoch, step), inputs.device)
            method.set_learning_rate(schedule((epoch + step / steps) / epochs))
            scalars = taking.update(
                Batch(
                    inputs.batch(dealt.indices[cuts[0] : cuts[-1]], axis_seed(seed, "augmentation", epoch, step)),
                    torch.from_numpy(cuts - cuts[0]),
                    targets[step * bags_per_batch : (step + 1) * bags_per_batch],
                )
            )
            for name, scalar in scalars.items():
                state.sums[name] = state.sums.get(name, 0) + scalar
            state.step += 1
            if checkpoint and time.time() - saved >= checkpoint_every:
                save()
                report((epoch + state.step / steps) / epochs, {})
        means = {f"train_{name}": float(total) / steps for name, total in state.sums.items()}
        if not all(np.isfinite(list(means.values()))):
            raise FloatingPointError(f"training diverged in epoch {epoch + 1}: {means}")
        state.curves["epoch"].append(epoch + 1)
        renewed = state.renewed[1] if state.renewed else {}
        before = time.time()
        scores = evaluate(method)
        started += time.time() - before
        for name, value in {**means, **renewed, **scores}.items():
            state.curves.setdefault(name, []).append(value)
        state.epoch, state.step, state.sums, state.renewed = epoch + 1, 0, {}, None
        report((epoch + 1) / epochs, {"epoch": epoch + 1, "epochs": epochs, **means, **scores})
    taking.end()
    return {"curves": state.curves, "train_s": state.train_s + time.time() - started}
