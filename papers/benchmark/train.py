"""Train one method on one task: ``python -m papers.benchmark.train digits/rot/random16/seed0 --here``."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from papers.benchmark import course as courses
from papers.benchmark.course import Problem
from papers.benchmark.makers import bags_of
from papers.benchmark.methods import candidates, course, entry, lacking
from papers.benchmark.tasks import FEATURES, TASKS, Instances, of_classes
from shared.bags import Bags, permuted
from shared.config import Spec
from shared.methods import Method
from shared.networks import MLP, ResNet18
from shared.training import Result, accuracy, axis_seed, bag_loss, choose, framed, select, tried, within

STAGE = "selection"
NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {"resnet18": ResNet18}  # of images: (classes, width)


def network_of(spec: Spec, data: Instances) -> Callable[[], nn.Module]:
    """Return what makes the network of a run: one of images, or a head on numbers."""
    name = spec.network if "network" in spec else FEATURES
    if name == FEATURES:
        return partial(MLP, data.inputs.batch(np.arange(1)).numel(), spec.hidden, data.n_classes)
    if name not in NETWORKS:
        raise ValueError(f"network {name!r} is none of {', '.join([FEATURES, *NETWORKS])}")
    return partial(NETWORKS[name], data.n_classes, spec.width)


def problem_of(spec: Spec, data: Instances, bags: Bags, rate: float, *, seed: int, updates: int) -> Problem:
    """Return what a method is built for: the same network, budget and order for all.

    The budget is a number of updates, of which whole epochs come nearest; two at least, for methods of two stages.
    """
    per_batch = max(1, round(spec.instances_per_batch / bags.sizes.mean()))
    epochs = max(2, round(updates / -(-len(bags) // per_batch)))
    labels = data.labels if entry(spec.method).role == "ceiling" else None
    return Problem(network_of(spec, data), data.inputs, bags, epochs, per_batch, rate, seed, labels)


def tries(spec: Spec) -> list[dict[str, Any]]:
    """Return what a method chooses among, the same number for every method that has as many: `tuning_tries`.

    Every rate with the defaults first, then pairs of a rate and a point of the method's grid, drawn without replacement
    by the method's name. The floor has nothing to choose.
    """
    known, most = entry(spec.method), spec.tuning_tries
    if known.role == "floor":
        return [{"learning_rate": spec.learning_rates[0]}]
    default = {key: value.default for key, value in known.parameters.items() if len(value.grid) > 1}
    first = [{"learning_rate": rate, **default} for rate in spec.learning_rates]
    rest = [{"learning_rate": rate, **point} for rate in spec.learning_rates for point in candidates(spec.method)]
    rest = [one for one in rest if one not in first]
    random.Random(axis_seed(0, "tries", spec.method)).shuffle(rest)
    return (first + rest)[:most]


def fitted(
    spec: Spec,
    chosen: dict[str, Any],
    problem: Problem,
    evaluate: Callable[[Method], dict[str, float]],
    session: dict,
) -> tuple[Method, dict, float] | None:
    """Train a method with a rate and hyper-parameters; None if the deadline came first."""
    parameters = {key: value for key, value in chosen.items() if key != "learning_rate"}
    problem = replace(problem, learning_rate=chosen["learning_rate"])
    return courses.train(course(spec.method, problem, parameters), problem, evaluate, session=session)


def selected(spec: Spec, data: Instances, session: dict) -> tuple[dict[str, Any], list[dict]] | None:
    """Return (the rate and hyper-parameters of least loss of held-out bags after a short run, all that was tried).

    The bags are a draw of their own out of the training instances, all seeds share the choice, and no label of an
    instance is looked at. None if the deadline came first.
    """
    stage = spec.stage(STAGE)
    bags, held = bags_of(stage, data, stage.selection_seed, stage.selection_fraction)
    problem = problem_of(stage, data, bags, 1.0, seed=stage.selection_seed, updates=stage.selection_updates)

    def score(candidate: dict[str, Any], own: dict) -> float | None:
        done = fitted(stage, candidate, problem, lambda method: {}, own)
        return done and bag_loss(done[0], data.inputs, held)

    return choose("selections", stage.canonical(), tries(stage), score, session)


@framed("benchmark")
def train(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Train one run; see `shared.training.framed`. What was tried is in its curves."""
    data = of_classes(TASKS[spec.dataset].instances(spec, device), spec.classes)
    bags, held = bags_of(spec, data, spec.seed, spec.validation_fraction)
    if spec.proportions == "permuted":
        bags = permuted(bags, axis_seed(spec.seed, "permuted"))
    problem = problem_of(spec, data, bags, 1.0, seed=spec.seed, updates=spec.updates)
    if reason := lacking(spec.method, problem):
        raise ValueError(reason)
    started, short = time.time(), len(tries(spec.stage(STAGE))) * spec.selection_updates
    share = short / (short + spec.updates)
    found = selected(spec, data, within(session, 0, share))
    if found is None:
        return None
    best, rows = found
    selection_s = time.time() - started

    def evaluate(method: Method) -> dict[str, float]:
        scores = {"test_accuracy": accuracy(method, data.inputs, data.labels, data.test)}
        return scores | {"validation_loss": bag_loss(method, data.inputs, held)}

    session = within(session, share, 1)
    done = fitted(spec, best, problem, evaluate, session)
    if done is None:
        return None
    method, curves, seconds = done
    metrics = select(curves)
    metrics["last"] |= {f"chosen_{key}": value for key, value in best.items() if isinstance(value, int | float)}
    return Result(
        metrics,
        curves=curves | tried(rows),
        bags={"train": bags.summary(), "validation": held.summary()},
        data=data.checksums,
        cost={
            "train_s": round(seconds, 3),
            "selection_s": round(selection_s, 3),
            "step_ms": round(1e3 * seconds / problem.steps, 4),
        },
        says=f"{metrics['last']['accuracy']:.1f} %",
        method=method,
    )


if __name__ == "__main__":
    import sys

    from shared.runs.one import main

    sys.exit(main("benchmark"))
