"""Train a method in one stage or several on one network, by `shared.training.fit`, to be stopped and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from papers.mle_llp.em import single
from shared.bags import Bags
from shared.methods import LossMethod, Method
from shared.training import Inputs, Schedule, axis_seed, checkpoint, fit, seed_torch, within
from shared.training.graph import asked


def adam(module: nn.Module, rate: float, beta1: float = 0.9) -> torch.optim.Optimizer:
    """Return Adam over what is learned of a module."""
    return torch.optim.Adam([p for p in module.parameters() if p.requires_grad], rate, (beta1, 0.999), fused=True)


@dataclass(frozen=True)
class Problem:
    """Hold what a method is built for.

    Attributes
    ----------
    network : returns a new network, from inputs to (N, K) logits; called once a method, after torch was seeded.
    inputs : of all instances, on the device to train on.
    bags : to learn from, over these.
    epochs, bags_per_batch, learning_rate : of a method of one stage; stages share the epochs.
    seed : of initialisation, order, noise and whatever a method draws.
    labels : (N,) int64 classes of all inputs, for the ceiling alone; None where nobody knows them.
    optimiser : of (module, learning rate, beta1) -> optimiser.
    bf16 : run networks in bfloat16.
    """

    network: Callable[[], nn.Module]
    inputs: Inputs
    bags: Bags
    epochs: int
    bags_per_batch: int
    learning_rate: float
    seed: int = 0
    labels: np.ndarray | None = None
    optimiser: Callable[..., torch.optim.Optimizer] = adam
    bf16: bool = False

    @property
    def device(self) -> torch.device:
        return self.inputs.device

    @property
    def example(self) -> Tensor:
        """Return a batch of the first input alone."""
        return self.inputs.batch(np.arange(1))

    @property
    def steps(self) -> int:
        """Return the number of updates of a method that learns from whole bags."""
        return self.epochs * -(-len(self.bags) // self.bags_per_batch)

    def new_network(self) -> nn.Module:
        """Return the network as its seed makes it, on the device."""
        seed_torch(axis_seed(self.seed, "initialisation"), self.device)
        return self.network().to(self.device)

    def by_loss(self, network: nn.Module, loss: Callable[..., Tensor]) -> LossMethod:
        """Return the method that trains a network by a loss over bags."""
        return LossMethod(network, self.optimiser(network, self.learning_rate), loss, self.bf16)

    def stage(self, method: Method, epochs: int | None = None, **more) -> Stage:
        """Return a stage on whole bags, of all epochs unless told."""
        return Stage(method, self.bags, self.epochs if epochs is None else epochs, self.bags_per_batch, **more)

    def of_instances(self, stage: Stage, targets: np.ndarray) -> Stage:
        """Return a stage on single instances with targets (M, K), with as many updates an epoch as one on bags."""
        per_batch = max(1, round(self.bags_per_batch * self.bags.sizes.mean()))
        return replace(stage, bags=single(self.bags, targets), bags_per_batch=per_batch)

    def parts(self, first: float) -> tuple[int, int]:
        """Return the epochs of two stages, of which the first has this part; either has one, unless it is 0."""
        before = min(max(round(first * self.epochs), first > 0), self.epochs - 1)
        return before, self.epochs - before


@dataclass(frozen=True)
class Stage:
    """Hold one call of `fit`: a method, what it learns from, and `renew`; `rate_times` is of the learning rate."""

    method: Method
    bags: Bags
    epochs: int
    bags_per_batch: int
    renew: Callable | None = None
    rate_times: float = 1.0


def train(
    course: Sequence[Stage],
    problem: Problem,
    evaluate: Callable[[Method], dict[str, float]] = lambda method: {},
    *,
    schedule: str = "cosine",
    patience: int | None = None,
    session: dict | None = None,
) -> tuple[Method, dict, float] | None:
    """Train all stages, one after another on the same network.

    Parameters
    ----------
    course : as of `papers.benchmark.methods.course`.
    evaluate : as of `fit`.
    schedule : of every stage, a kind of `shared.training.Schedule`.
    patience : end the last stage after so many epochs without a lower ``validation_loss``, which `evaluate` returns.
    session : key, checkpoint, checkpoint_every, deadline and report, as of `fit`.

    Returns
    -------
    The method of the last stage; the curves of all, with epochs counted through (what not all stages have is shorter);
    the seconds of training. None if the deadline came first: the checkpoints hold the rest, the session's the last
    stage, others beside it those before, which are removed at the end.
    """
    curves: dict[str, list] = {}
    kept: list[Path] = []
    session, seconds, total, done = session or {}, 0.0, sum(stage.epochs for stage in course), 0
    for number, stage in enumerate(course):
        own = within(session, done / total, (done + stage.epochs) / total)
        last = number == len(course) - 1
        if session.get("checkpoint") and not last:
            path = Path(session["checkpoint"])
            own |= {"checkpoint": path.with_name(f"{path.stem}.{number}.pt"), "key": f"{session.get('key')}-{number}"}
            kept.append(own["checkpoint"])
        fitted = fit(
            stage.method,
            problem.inputs,
            stage.bags,
            epochs=stage.epochs,
            bags_per_batch=stage.bags_per_batch,
            schedule=Schedule(schedule, problem.learning_rate * stage.rate_times),
            seed=axis_seed(problem.seed, "stage two") if number else problem.seed,
            evaluate=evaluate,
            renew=until(stage, patience) if last and patience else stage.renew,
            **own,
        )
        if fitted is None:
            return None
        if kept and not last:  # as `fit` has it, so that it returns at once when it is called again
            state = {"epoch": stage.epochs, "step": 0, "sums": {}, "renewed": None, "graph": asked(), **fitted}
            checkpoint.keep(kept[-1], {**state, "key": own["key"], "method": stage.method.state_dict()})
        fitted["curves"]["epoch"] = [done + epoch for epoch in fitted["curves"]["epoch"]]
        for name, values in fitted["curves"].items():
            curves[name] = curves.get(name, []) + values
        done += stage.epochs
        seconds += fitted["train_s"]
    for path in kept:
        path.unlink(missing_ok=True)
    return course[-1].method, curves, seconds


def until(stage: Stage, patience: int) -> Callable:
    """Return a `renew` that also ends training after `patience` epochs without a lower validation loss."""
    given = torch.from_numpy(stage.bags.proportions).float()

    def renew(method: Method, curves: dict):
        losses = curves.get("validation_loss", [])
        if losses and len(losses) - 1 - int(np.argmin(losses)) >= patience:
            return None
        return stage.renew(method, curves) if stage.renew else (given, {})

    return renew
