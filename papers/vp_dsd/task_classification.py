"""Learn to classify cells from the proportions of bags (Section 2.1): one run of Tables 1 and 2."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from papers.vp_dsd.data import Data, data_of
from papers.vp_dsd.learning import classifier
from papers.vp_dsd.learning.donors import assigned_proportions, proportion_error
from papers.vp_dsd.learning.rivals import method_of
from papers.vp_dsd.loss import entropy
from papers.vp_dsd.names import CLASSES
from shared.bags import Bags
from shared.config import Spec
from shared.methods import Method
from shared.training import Result, Schedule, axis_seed, bag_loss, fit, predictions, select
from shared.transport import exact

SHOWN = 300  # predictions of single test cells that a record keeps for Figure 2
SUBJECTS = 100  # test subjects, at most, whose predicted and true proportions it keeps


def measure(method: Method, data: Data) -> dict[str, float]:
    """Return what tables say of the test subjects and of the held-out bags.

    Accuracies in percent, over detections that are cells; entropy of predictions in nats; error of the subjects'
    proportions after hard assignment, over all detections, and the mean share assigned to a class, in points.
    """
    test = data.test
    p = predictions(method, data.inputs, test.indices).cpu()
    labels = data.labels[test.indices]
    right = p.argmax(1).numpy() == labels
    by_class = {k: 100 * float(right[labels == k].mean()) for k in np.unique(labels[labels >= 0])}
    found = {f"test_accuracy_{CLASSES[k]}": value for k, value in by_class.items()}
    if by_class:
        found["test_class_accuracy"] = float(np.mean(list(by_class.values())))
        found["test_least_accuracy"] = min(by_class.values())
    assigned = assigned_proportions(p.numpy(), test.offsets)
    found |= {f"test_predicted_{name}": 100 * float(x) for name, x in zip(CLASSES, assigned.mean(0), strict=True)}
    error = proportion_error(assigned, test.proportions)
    found["test_error"] = error.pop("average")
    found |= {f"test_error_{name}": value for name, value in error.items()}
    found["test_entropy"] = float(entropy(p))
    return found | {"validation_loss": bag_loss(method, data.inputs, data.validation)}


def selected(curves: dict, chosen_by: str) -> dict:
    """Return every test metric under each selection rule; `oracle` has the best `chosen_by`, an error the least."""
    names = [name for name in curves if name.startswith("test_")]
    sign = -1 if "error" in chosen_by else 1
    found = select({**curves, "chosen": [sign * value for value in curves[chosen_by]]}, "chosen", "chosen")
    return {
        rule: {"epoch": chosen["epoch"]}
        | {name.removeprefix("test_"): curves[name][curves["epoch"].index(chosen["epoch"])] for name in names}
        for rule, chosen in found.items()
    }


def classify(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Learn a classifier of cells from proportions (Section 2.1); Tables 1 and 2."""
    data = data_of(spec, device, session)
    if data is None:
        return None
    for dtype in (torch.float32, torch.float64):
        # The first call compiles; that is no training.
        exact(torch.zeros(1, 1, dtype=dtype), torch.tensor([0, 1]), torch.ones(1, 1))
    inputs, train, schedule = data.inputs, data.train, Schedule("constant", spec.learning_rate)
    network = classifier.network_of(spec, inputs.batch(np.array([0])).shape[1], len(CLASSES), device)
    before = spec.pretrain_epochs if "pretrain_epochs" in spec else 0
    seconds, common = 0.0, {"schedule": schedule, "seed": spec.seed}
    if before:
        kl = spec.but(loss="kl", representation="none")
        method, bags, more = method_of(kl, network, inputs, train, data.labels)
        first = fit(method, inputs, bags, epochs=before, evaluate=lambda method: {}, **common, **more)
        assert first is not None  # it has no deadline
        seconds, common["seed"] = first["train_s"], axis_seed(spec.seed, "after pre-training")
    method, bags, more = method_of(spec, network, inputs, train, data.labels)
    with warnings.catch_warnings():
        # Sinkhorn's at a small epsilon, in every epoch; by how much they miss is in the paper's README.
        warnings.filterwarnings("ignore", "soft labels of")
        fitted = fit(
            method,
            inputs,
            bags,
            epochs=spec.epochs - before,
            evaluate=lambda method: measure(method, data),
            **common,
            **more,
            **session,
        )
    if fitted is None:
        return None
    curves, seconds = fitted["curves"], seconds + fitted["train_s"]
    curves["epoch"] = [before + epoch for epoch in curves["epoch"]]
    metrics = selected(curves, "test_class_accuracy" if "test_class_accuracy" in curves else "test_error")
    metrics["last"] |= without_learning(data.train, data.test) | data.about
    if spec.seed == 0 and spec.bags == "images":
        curves = {**curves, "proportions": proportions(method, data)}
        if "test_class_accuracy" in curves:
            curves["simplex"] = shown(method, data)
    return Result(
        metrics,
        curves=curves,
        bags={"train": data.train.summary(), "validation": data.validation.summary(), "test": data.test.summary()},
        data=data.checksums,
        cluster=data.cluster,
        cost={"train_s": round(seconds, 3)},
        says=f"error {metrics['last']['error']:.1f}",
        method=method,
    )


def without_learning(train: Bags, test: Bags) -> dict[str, float]:
    """Return the mean entropy of test subjects' proportions, and their error if all had the training subjects' mean."""
    constant = proportion_error(np.broadcast_to(train.proportions.mean(0), test.proportions.shape), test.proportions)
    found = {"constant_error": constant.pop("average")}
    found |= {f"constant_error_{name}": value for name, value in constant.items()}
    return found | {"proportion_entropy": float(entropy(torch.from_numpy(test.proportions)))}


def shown(method: Method, data: Data) -> list[list[float]]:
    """Return some predictions, evenly spaced over the test cells, as rows of K probabilities and the true class."""
    known = data.test.indices[data.labels[data.test.indices] >= 0]
    some = known[:: max(1, len(known) // SHOWN)][:SHOWN]
    p = predictions(method, data.inputs, some).cpu().double()
    return [[*(round(x, 4) for x in row), int(k)] for row, k in zip(p.tolist(), data.labels[some], strict=True)]


def proportions(method: Method, data: Data) -> list[list[float]]:
    """Return rows of K predicted and K true proportions of some test subjects, evenly spaced, after hard assignment."""
    test = data.test
    assigned = assigned_proportions(predictions(method, data.inputs, test.indices).cpu().numpy(), test.offsets)
    both = np.concatenate([assigned, test.proportions], 1)[:: -(-len(assigned) // SUBJECTS)]
    return both.astype(float).round(4).tolist()
