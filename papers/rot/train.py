"""Train a run of the paper (Section 4.1): ``python -m papers.rot.train cifar10/rot/bag64/seed0 --here``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import nn

from papers.rot import tuning
from papers.rot.checks import check
from papers.rot.data import bags_of, data_of
from papers.rot.loss import avgkl_loss, rot_loss
from shared.bags import Bags
from shared.config import Spec
from shared.methods import LossMethod, Method, kl_loss
from shared.networks import MLP, ResNet18
from shared.training import (
    Inputs,
    Result,
    Schedule,
    accuracy,
    axis_seed,
    bag_loss,
    fit,
    framed,
    seed_torch,
    select,
    within,
)
from shared.training.data import Data


def loss_of(spec: Spec, alpha: float | None = None) -> Callable:
    """Return the loss a spec names, as a function of (log_p, offsets, proportions); of ROT at another alpha if told."""
    if spec.loss == "rot":
        alpha = spec.alpha if alpha is None else alpha
        rot = partial(rot_loss, alpha=alpha, epsilon=spec.epsilon, iterations=spec.iterations, gradient=spec.gradient)
        return (lambda *bags, check=True: rot(*bags, check=check) / alpha) if spec.divide_by_alpha else rot
    return {"kl": kl_loss, "avgkl": avgkl_loss}[spec.loss]


def network_of(spec: Spec, inputs: Inputs, n_classes: int, seed: int | None = None) -> nn.Module:
    """Return the network a spec names, initialised by its seed, or by another."""
    seed_torch(axis_seed(spec.seed if seed is None else seed, "initialisation"), inputs.device)
    example = inputs.batch(np.arange(1))
    if spec.network == "resnet18":
        shift = spec.normalisation == "scale+shift"
        return ResNet18(n_classes, spec.width, channels=example.shape[1], shift=shift)
    return MLP(example.numel(), spec.hidden, n_classes)


def fitted(
    spec: Spec,
    values: Mapping[str, float],
    data: Data,
    bags: Bags,
    evaluate: Callable[[Method], dict[str, float]],
    *,
    seed: int,
    epochs: int,
    session: dict,
) -> tuple[LossMethod, dict] | None:
    """Train on bags; returns (the method, what `fit` says), or None if the deadline came first.

    Parameters
    ----------
    spec : of a run, or its stage "selection".
    values : the "learning_rate" and, of ROT, "alpha".
    evaluate, session : as of `shared.training.fit`.
    """
    device, rate = data.train.device, values["learning_rate"]
    memory_format = torch.channels_last if spec.network == "resnet18" else torch.preserve_format
    network = network_of(spec, data.train, data.n_classes, seed).to(memory_format=memory_format).to(device)
    optimiser = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad],
        lr=rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        fused=True,
    )
    loss = loss_of(spec, values["alpha"]) if "alpha" in values else loss_of(spec)
    method = LossMethod(network, optimiser, loss, autocast=spec.precision == "bf16")
    done = fit(
        method,
        data.train,
        bags,
        epochs=epochs,
        bags_per_batch=max(1, spec.images_per_batch // spec.bag_size),
        schedule=Schedule(spec.schedule, rate),
        seed=seed,
        evaluate=evaluate,
        **session,
    )
    return None if done is None else (method, done)


@framed("rot")
def train(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Train one run, or check the equations; see `shared.training.framed`. What was tried is in its curves."""
    if spec.task == "check":
        return Result({"last": check(spec.seed)}, says="checked")
    data = data_of(spec, device)
    bags, held_out = bags_of(spec, data.y_train, data.n_classes)
    found: dict[str, float] = {}
    searched: dict[str, list] = {}
    cost: dict[str, float] = {}
    if spec.tuning == "none":
        values = {"learning_rate": spec.learning_rate}
    else:
        started, short = time.time(), len(tuning.candidates(spec)) * spec.selection_epochs
        share = short / (short + spec.epochs)
        chosen = tuning.chosen(spec, data, fitted, within(session, 0, share))
        if chosen is None:
            return None
        values, ends, searched = chosen
        session = within(session, share, 1)
        found = {f"chosen_{key}": value for key, value in values.items()}
        found |= {f"chosen_{key}_end": end for key, end in ends.items()}
        cost["selection_s"] = round(time.time() - started, 3)

    def evaluate(method: Method) -> dict[str, float]:
        scores = {"test_accuracy": accuracy(method, data.test, data.y_test)}
        return scores | ({"validation_loss": bag_loss(method, data.train, held_out)} if len(held_out) else {})

    done = fitted(spec, values, data, bags, evaluate, seed=spec.seed, epochs=spec.epochs, session=session)
    if done is None:
        return None
    method, fit_ = done
    metrics = select(fit_["curves"])
    metrics["last"] |= found
    return Result(
        metrics,
        curves=fit_["curves"] | searched,
        bags={"train": bags.summary(), "validation": held_out.summary()},
        data=data.checksums,
        cost={"train_s": round(fit_["train_s"], 3), **cost},
        says=f"{metrics['last']['accuracy']:.1f} %",
        method=method,
    )


if __name__ == "__main__":
    import sys

    from shared.runs.one import main

    sys.exit(main("rot"))
