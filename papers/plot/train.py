"""One run of the paper: stage one, and stage two on top of it, from a spec to its numbers (Sections 4.3 and 5).

``python -m papers.plot.train --tier quick --only cifar10/dllp`` trains the runs of a tier that have no record.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from papers.plot import student, teacher
from papers.plot.loss import Mixup
from shared import datasets
from shared.bags import Bags, fixed_size, split
from shared.methods import Method, kl_loss
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
    select,
)

AUGMENTATION = Augmentation(shift=4, flip=True)


@functools.lru_cache(maxsize=2)
def data_of(name: str, network: str, augment: bool, device: torch.device):
    """(dataset, training inputs, test inputs, checksums); kept for the next run of the same process."""
    dataset = datasets.load(name)
    checksums = {name: dataset.sha256}
    if network == "patch_features":
        cached = features.load(name)
        checksums[f"features/{name}"] = cached.sha256
        return dataset, Inputs(cached.train, device), Inputs(cached.test, device), checksums
    # From -1 to 1, the range of LLP-GAN's generator.
    scale = ([127.5] * 3, [127.5] * 3) if network == "cnn13" else None
    train = Inputs(dataset.x_train, device, scale, AUGMENTATION if augment else None)
    return dataset, train, Inputs(dataset.x_test, device, (train.mean, train.std) if train.images else None), checksums


def bags_of(spec: dict, labels: np.ndarray, n_classes: int) -> tuple[Bags, Bags]:
    """(training bags, validation bags), drawn again from the spec alone and shared by all methods of a seed."""
    seed, n = spec["seed"], spec["train_images"] or len(labels)
    bags = fixed_size(labels[:n], n_classes, spec["bag_size"], axis_seed(seed, "bags"))
    return split(bags, spec["validation_fraction"], axis_seed(seed, "validation"))


def second_stage(spec: dict, first: Method, inputs: Inputs, bags: Bags, dataset) -> tuple[Method, Bags, dict]:
    """(method, what it learns from, what else `fit` needs) of stage two."""
    rate, bf16 = spec["second_learning_rate"], spec["precision"] == "bf16"
    network = teacher.classifier(first)
    per_batch = {"bags_per_batch": max(1, spec["images_per_batch"] // spec["bag_size"])}
    if spec["second"] == "continued":
        if spec["mixup"]:
            first = Mixup(network, teacher.adam(spec, network, rate), kl_loss, spec["mixup"], autocast=bf16)
        return first, bags, per_batch
    renew = student.labelling(spec, inputs, bags, dataset.y_train, first)
    if spec["student"] == "fresh":
        network = teacher.network_of(spec, inputs, dataset.n_classes, "student")
    optimiser = teacher.adam(spec, network, rate)
    method = student.Student(network, optimiser, student.loss_of(spec), spec["mixup"], spec["average"], bf16)
    targets = np.full((len(bags.indices), dataset.n_classes), 1 / dataset.n_classes)
    single = Bags(bags.indices, np.arange(len(bags.indices) + 1), targets)
    return method, single, {"bags_per_batch": spec["images_per_batch"], "renew": renew}


def train(spec: dict, *, device: str = "auto", **session) -> dict | None:
    """Train one run; None if the deadline came first (the checkpoints then hold the rest).

    Parameters
    ----------
    session : key, checkpoint, checkpoint_every, deadline and report, as of `shared.training.fit`.

    Returns
    -------
    What a record keeps: metrics by selection rule, curves of the last stage, bags, data, cost, device. Figure 2's runs
    have the classes found on a grid besides.
    """
    where = prepare_device(device)
    dataset, inputs, test, checksums = data_of(spec["dataset"], spec["network"], spec["augment"], where)
    if spec["loss"] == "supervised":
        spec = {**spec, "bag_size": 1}
    bags, held_out = bags_of(spec, dataset.y_train, dataset.n_classes)

    def evaluate(method: Method) -> dict[str, float]:
        scores = {"test_accuracy": accuracy(method, test, dataset.y_test)}
        return scores | ({"validation_loss": bag_loss(method, inputs, held_out)} if len(held_out) else {})

    first = teacher.train(spec, inputs, bags, dataset.n_classes, evaluate, session)
    if first is None:
        return None
    method, curves, seconds = first
    cost = {"first_s": round(seconds, 3), "train_s": round(seconds, 3)}
    if spec["second"] != "none":
        method, learned, more = second_stage(spec, method, inputs, bags, dataset)
        fitted = fit(
            method,
            inputs,
            learned,
            epochs=spec["second_epochs"],
            schedule=Schedule(spec["schedule"], spec["second_learning_rate"]),
            seed=axis_seed(spec["seed"], "stage two"),
            evaluate=evaluate,
            **more,
            **session,
        )
        if fitted is None:
            return None
        curves, cost["train_s"] = fitted["curves"], round(fitted["train_s"], 3)
    metrics = select(curves)
    metrics["last"] |= {name: values[-1] for name, values in curves.items() if name.startswith("td")}
    metrics["last"] |= {f"first_{name}": values[0] for name, values in curves.items() if name.startswith("td")}
    if spec["dataset"] == "two_moons":
        curves = {**curves, "grid": regions(method, dataset.x_train, where)}
    return {
        "metrics": metrics,
        "curves": curves,
        "bags": {"train": bags.summary(), "validation": held_out.summary()},
        "data": checksums,
        "cost": {**cost, "peak_memory_mb": round(peak_memory_mb(where), 1)},
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "says": f"{metrics['last']['accuracy']:.1f} %",
    }


def regions(method: Method, points: np.ndarray, device: torch.device, side: int = 60) -> list[int]:
    """The class at each of side x side places around the points, row by row from below (Figure 2)."""
    low, high = points.min(0) - 0.3, points.max(0) + 0.3
    x, y = np.meshgrid(*(np.linspace(low[i], high[i], side, dtype=np.float32) for i in (0, 1)))
    found = method.predict(torch.from_numpy(np.stack([x.ravel(), y.ravel()], 1)).to(device))
    return found.argmax(1).cpu().tolist()


if __name__ == "__main__":
    import sys

    from shared.records import sweep

    sys.exit(sweep.main(["--paper", "plot", *sys.argv[1:]]))
