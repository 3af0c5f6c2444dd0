"""One training run of the paper (Section 4.1), from its spec to its numbers.

``python -m papers.rot.train --tier quick --only cifar10/rot/bag64`` trains the runs of a tier that have no record.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from papers.rot import equations
from papers.rot.loss import avgkl_loss, rot_loss
from shared import datasets
from shared.bags import Bags, fixed_size, permuted, split
from shared.methods import LossMethod, kl_loss
from shared.networks import MLP, ResNet18
from shared.training import (
    Augmentation,
    Inputs,
    Schedule,
    accuracy,
    axis_seed,
    bag_loss,
    features,
    fit,
    peak_memory_mb,
    prepare_device,
    seed_torch,
    select,
)
from shared.training.inputs import channel_statistics


def loss_of(spec: dict) -> Callable:
    """The loss a spec names, as a function of (log_p, offsets, proportions)."""
    if spec["loss"] == "rot":
        names = ("alpha", "epsilon", "iterations", "gradient")
        rot = partial(rot_loss, **{name: spec[name] for name in names})
        return (lambda *bags: rot(*bags) / spec["alpha"]) if spec["divide_by_alpha"] else rot
    return {"kl": kl_loss, "avgkl": avgkl_loss}[spec["loss"]]


def bags_of(spec: dict, labels, n_classes: int) -> tuple[Bags, Bags]:
    """(training bags, validation bags), drawn again from the spec alone."""
    seed = spec["seed"]
    bags = fixed_size(labels, n_classes, spec["bag_size"], axis_seed(seed, "bags"))
    if spec["proportions"] == "permuted":
        bags = permuted(bags, axis_seed(seed, "permuted"))
    return split(bags, spec["validation_fraction"], axis_seed(seed, "validation"))


@functools.lru_cache(maxsize=2)
def data_of(name: str, network: str, augment: bool, device: torch.device):
    """(dataset, training inputs, test inputs, checksums); kept for the next run of the same process."""
    dataset = datasets.load(name)
    checksums = {name: dataset.sha256}
    if network == "patch_features":
        cached = features.load(name)
        checksums[f"features/{name}"] = cached.sha256
        return dataset, Inputs(cached.train, device), Inputs(cached.test, device), checksums
    statistics = channel_statistics(dataset.x_train) if dataset.x_train.ndim == 4 else None
    train = Inputs(dataset.x_train, device, statistics, Augmentation(shift=1, flip=True) if augment else None)
    return dataset, train, Inputs(dataset.x_test, device, statistics), checksums


def network_of(spec: dict, inputs: Inputs, n_classes: int) -> nn.Module:
    """The network a spec names, initialised by its seed."""
    seed_torch(axis_seed(spec["seed"], "initialisation"), inputs.device)
    example = inputs.batch([0])
    if spec["network"] == "resnet18":
        return ResNet18(n_classes, spec["width"], channels=example.shape[1])
    return MLP(example.numel(), spec["hidden"], n_classes)


def train(spec: dict, *, device: str = "auto", **session) -> dict | None:
    """Train one run; None if the deadline came first (the checkpoint then holds the rest).

    Parameters
    ----------
    session : key, checkpoint, checkpoint_every, deadline and report, as of `shared.training.fit`.

    Returns
    -------
    What a record keeps: metrics by selection rule, curves, bags, data, cost, device.
    """
    if spec["loss"] == "equations":
        return {"metrics": {"last": equations.check(spec["seed"])}, "cost": {"train_s": 0.0}, "says": "checked"}
    where = prepare_device(device)
    dataset, inputs, test, checksums = data_of(spec["dataset"], spec["network"], spec["augment"], where)
    bags, held_out = bags_of(spec, dataset.y_train, dataset.n_classes)
    memory_format = torch.channels_last if spec["network"] == "resnet18" else torch.preserve_format
    network = network_of(spec, inputs, dataset.n_classes).to(where, memory_format=memory_format)
    optimiser = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad],
        lr=spec["learning_rate"],
        momentum=spec["momentum"],
        weight_decay=spec["weight_decay"],
    )
    method = LossMethod(network, optimiser, loss_of(spec), autocast=spec["precision"] == "bf16")

    def evaluate(method: LossMethod) -> dict[str, float]:
        scores = {"test_accuracy": accuracy(method, test, dataset.y_test)}
        return scores | ({"validation_loss": bag_loss(method, inputs, held_out)} if len(held_out) else {})

    fitted = fit(
        method,
        inputs,
        bags,
        epochs=spec["epochs"],
        bags_per_batch=max(1, spec["images_per_batch"] // spec["bag_size"]),
        schedule=Schedule(spec["schedule"], spec["learning_rate"]),
        seed=spec["seed"],
        evaluate=evaluate,
        **session,
    )
    if fitted is None:
        return None
    metrics = select(fitted["curves"])
    return {
        "metrics": metrics,
        "curves": fitted["curves"],
        "bags": {"train": bags.summary(), "validation": held_out.summary()},
        "data": checksums,
        "cost": {"train_s": round(fitted["train_s"], 3), "peak_memory_mb": round(peak_memory_mb(where), 1)},
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "says": f"{metrics['last']['accuracy']:.1f} %",
    }


if __name__ == "__main__":
    import sys

    from shared.records import sweep

    sys.exit(sweep.main(["--paper", "rot", *sys.argv[1:]]))
