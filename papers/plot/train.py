"""Train a run of the paper, stage one and stage two on top of it (Algorithm 1 and Section 5).

``python -m papers.plot.train cifar10/dllp+sce+hard/bag64/seed0 --here``
"""

from __future__ import annotations

import numpy as np
import torch

from papers.plot import student, teacher
from papers.plot.data import bags_of, data_of
from papers.plot.loss import Mixup
from shared.bags import Bags
from shared.config import Spec
from shared.methods import Method, kl_loss
from shared.training import Result, Schedule, accuracy, axis_seed, bag_loss, fit, framed, select, within
from shared.training.data import Data


@framed("plot")
def train(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Train one run; see `shared.training.framed`. Figure 2's runs have the classes found on a grid in their curves."""
    first = spec.stage("teacher")  # what stage one learns from is made from this alone, and so is what it shares
    data = data_of(first, device)
    bags, held_out = bags_of(first, data.y_train, data.n_classes)

    def evaluate(method: Method) -> dict[str, float]:
        scores = {"test_accuracy": accuracy(method, data.test, data.y_test)}
        return scores | ({"validation_loss": bag_loss(method, data.train, held_out)} if len(held_out) else {})

    share = 1.0 if spec.second == "none" else spec.epochs / (spec.epochs + spec.second_epochs)
    trained = teacher.train(first, data.train, bags, data.n_classes, evaluate, within(session, 0, share))
    if trained is None:
        return None
    stage_one, curves, seconds = trained
    method: Method = stage_one
    cost = {"first_s": round(seconds, 3), "train_s": round(seconds, 3)}
    if spec.second != "none":
        method, learned, more = second_stage(spec, stage_one, data, bags)
        fitted = fit(
            method,
            data.train,
            learned,
            epochs=spec.second_epochs,
            schedule=Schedule(spec.schedule, spec.second_learning_rate),
            seed=axis_seed(spec.seed, "stage two"),
            evaluate=evaluate,
            **more,
            **within(session, share, 1),
        )
        if fitted is None:
            return None
        curves = {**fitted["curves"], "first_test_accuracy": curves["test_accuracy"]}
        cost["train_s"] = round(fitted["train_s"], 3)
    metrics = select(curves)
    metrics["last"] |= {name: values[-1] for name, values in curves.items() if name.startswith("td")}
    metrics["last"] |= {f"first_{name}": values[0] for name, values in curves.items() if name.startswith("td")}
    if spec.dataset == "two_moons":
        curves = {**curves, "grid": regions(method, data.train.array.cpu().numpy(), device)}
    return Result(
        metrics,
        curves=curves,
        bags={"train": bags.summary(), "validation": held_out.summary()},
        data=data.checksums,
        cost=cost,
        says=f"{metrics['last']['accuracy']:.1f} %",
        method=method,
    )


def second_stage(spec: Spec, first: teacher.StageOne, data: Data, bags: Bags) -> tuple[Method, Bags, dict]:
    """Return (method, what it learns from, what else `fit` needs) of stage two."""
    rate, bf16 = spec.second_learning_rate, spec.precision == "bf16"
    network = teacher.classifier(first)
    per_batch = {"bags_per_batch": max(1, spec.images_per_batch // spec.bag_size)}
    if spec.second == "continued":
        if spec.mixup:
            first = Mixup(network, teacher.adam(spec, network, rate), kl_loss, spec.mixup, autocast=bf16)
        return first, bags, per_batch
    renew = student.labelling(spec, data.train, bags, data.y_train, first)
    if spec.student == "fresh":
        network = teacher.network_of(spec, data.train, data.n_classes, "student")
    optimiser = teacher.adam(spec, network, rate)
    method = student.Student(network, optimiser, student.loss_of(spec), spec.mixup, spec.average, bf16)
    if spec.second_batches == "bags":
        return method, bags, {**per_batch, "renew": student.by_bag(renew, spec.bag_size)}
    # Any targets: `renew` replaces them before the first epoch.
    targets = np.full((len(bags.indices), data.n_classes), 1 / data.n_classes)
    single = Bags(bags.indices, np.arange(len(bags.indices) + 1), targets)
    return method, single, {"bags_per_batch": spec.images_per_batch, "renew": renew}


def regions(method: Method, points: np.ndarray, device: torch.device, side: int = 60) -> list[int]:
    """Return the class at each of side x side places around the points, row by row from below (Figure 2)."""
    low, high = points.min(0) - 0.3, points.max(0) + 0.3
    x, y = np.meshgrid(*(np.linspace(low[i], high[i], side, dtype=np.float32) for i in (0, 1)))
    found = method.predict(torch.from_numpy(np.stack([x.ravel(), y.ravel()], 1)).to(device))
    return found.argmax(1).cpu().tolist()


if __name__ == "__main__":
    import sys

    from shared.runs.one import main

    sys.exit(main("plot"))
