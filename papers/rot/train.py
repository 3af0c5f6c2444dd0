"""Train a run of the paper (Section 4.1): ``python -m papers.rot.train cifar10/rot/bag64/seed0 --here``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from papers.rot.checks import check
from papers.rot.data import bags_of, data_of
from papers.rot.loss import avgkl_loss, rot_loss
from shared.config import Spec
from shared.methods import LossMethod, kl_loss
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
)


def loss_of(spec: Spec) -> Callable:
    """Return the loss a spec names, as a function of (log_p, offsets, proportions)."""
    if spec.loss == "rot":
        rot = partial(
            rot_loss, alpha=spec.alpha, epsilon=spec.epsilon, iterations=spec.iterations, gradient=spec.gradient
        )
        return (lambda *bags: rot(*bags) / spec.alpha) if spec.divide_by_alpha else rot
    return {"kl": kl_loss, "avgkl": avgkl_loss}[spec.loss]


def network_of(spec: Spec, inputs: Inputs, n_classes: int) -> nn.Module:
    """Return the network a spec names, initialised by its seed."""
    seed_torch(axis_seed(spec.seed, "initialisation"), inputs.device)
    example = inputs.batch([0])
    if spec.network == "resnet18":
        return ResNet18(n_classes, spec.width, channels=example.shape[1])
    return MLP(example.numel(), spec.hidden, n_classes)


@framed("rot")
def train(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Train one run, or check the equations; see `shared.training.framed`."""
    if spec.task == "check":
        return Result({"last": check(spec.seed)}, says="checked")
    data = data_of(spec, device)
    bags, held_out = bags_of(spec, data.y_train, data.n_classes)
    memory_format = torch.channels_last if spec.network == "resnet18" else torch.preserve_format
    network = network_of(spec, data.train, data.n_classes).to(device, memory_format=memory_format)
    optimiser = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad],
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
    )
    method = LossMethod(network, optimiser, loss_of(spec), autocast=spec.precision == "bf16")

    def evaluate(method: LossMethod) -> dict[str, float]:
        scores = {"test_accuracy": accuracy(method, data.test, data.y_test)}
        return scores | ({"validation_loss": bag_loss(method, data.train, held_out)} if len(held_out) else {})

    fitted = fit(
        method,
        data.train,
        bags,
        epochs=spec.epochs,
        bags_per_batch=max(1, spec.images_per_batch // spec.bag_size),
        schedule=Schedule(spec.schedule, spec.learning_rate),
        seed=spec.seed,
        evaluate=evaluate,
        **session,
    )
    if fitted is None:
        return None
    metrics = select(fitted["curves"])
    return Result(
        metrics,
        curves=fitted["curves"],
        bags={"train": bags.summary(), "validation": held_out.summary()},
        data=data.checksums,
        cost={"train_s": round(fitted["train_s"], 3)},
        says=f"{metrics['last']['accuracy']:.1f} %",
        method=method,
    )


if __name__ == "__main__":
    import sys

    from shared.runs.one import main

    sys.exit(main("rot"))
