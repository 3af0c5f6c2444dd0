"""One training run of the paper (Section 3), from its spec to its numbers.

``python -m papers.mle_llp.train --tier quick --only cifar10/mle_llp/m1000`` trains what has no record yet.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from papers.mle_llp import equations, timing
from papers.mle_llp.data import Data, bags_of, data_of
from papers.mle_llp.em import expectation, single, stops_at
from papers.mle_llp.posterior import count_loss
from shared.bags import Bags
from shared.methods import LLPGAN, LossMethod, Method, kl_loss
from shared.networks import MLP, Discriminator, FeatureGenerator, Generator, ResNet18
from shared.training import (
    Schedule,
    axis_seed,
    bag_loss,
    fit,
    peak_memory_mb,
    predictions,
    prepare_device,
    seed_torch,
    select,
)

STOP_CHANGE = 1e-4  # Section 2.3
NEARLY = 0.99  # of the final accuracy


def network_of(spec: dict, data: Data) -> nn.Module:
    """The classifier a spec names, initialised by its seed."""
    seed_torch(axis_seed(spec["seed"], "initialisation"), data.inputs.device)
    example, n_classes = data.inputs.batch([0]), len(data.classes)
    if spec["network"] == "discriminator":
        network = Discriminator(n_classes, example.shape[1], spec["width"])
    elif spec["network"] == "resnet18":
        network = ResNet18(n_classes, spec["width"], example.shape[1], large=True, norm=False)
    else:
        network = MLP(example.numel(), spec["hidden"], n_classes)
    if spec["start"] == "even":
        nn.init.zeros_(network.last.weight)
        nn.init.zeros_(network.last.bias)
    return network


def method_of(spec: dict, data: Data) -> Method:
    """The method a spec names, on the device of its data."""
    device, bf16 = data.inputs.device, spec["precision"] == "bf16"
    perceptron = spec["network"] in ("mlp", "patch_features")
    layout = torch.preserve_format if perceptron else torch.channels_last
    network = network_of(spec, data).to(device, memory_format=layout)

    def adam(module: nn.Module, beta1: float = 0.9) -> torch.optim.Adam:
        learned = [p for p in module.parameters() if p.requires_grad]
        decay = spec["weight_decay"]
        return torch.optim.Adam(learned, spec["learning_rate"], (beta1, 0.999), weight_decay=decay, fused=True)

    if spec["loss"] != "llp_gan":
        loss = count_loss if spec["loss"] == "mle_direct" else kl_loss
        return LossMethod(network, adam(network), loss, bf16)
    example = data.inputs.batch([0])
    if perceptron:
        generator = FeatureGenerator(spec["noise"], spec["generator_width"], example.numel())
    else:  # 32x32 images, whatever the size of the real ones: the classifiers end in averages
        generator = Generator(example.shape[1], spec["noise"], spec["generator_width"])
    generator = generator.to(device, memory_format=layout)
    both = (adam(module, spec["gan_beta1"]) for module in (network, generator))
    return LLPGAN(network, generator, *both, spec["proportion_weight"], bf16)


def lessons(spec: dict, data: Data, bags: Bags) -> tuple[Bags, dict]:
    """(the bags a method learns from, what else `fit` needs): single instances, or whole bags and how many at once."""
    if spec["loss"] not in ("supervised", "mle_llp"):
        return bags, {"bags_per_batch": max(1, round(spec["images_per_batch"] / bags.sizes.mean()))}
    alone = single(bags, np.eye(len(data.classes))[data.labels[bags.indices]])
    more = {"bags_per_batch": spec["images_per_batch"]}
    if spec["loss"] == "mle_llp":
        more["renew"] = expectation(data.inputs, bags, spec["stop_change"])
    return alone, more


def scores(method: Method, data: Data, indices: np.ndarray) -> dict[str, float]:
    """Accuracy, and its mean over the classes, in percent."""
    right = predictions(method, data.inputs, indices).argmax(1).cpu().numpy() == data.labels[indices]
    by_class = [right[data.labels[indices] == k].mean() for k in np.unique(data.labels[indices])]
    return {"test_accuracy": 100 * float(right.mean()), "test_class_accuracy": 100 * float(np.mean(by_class))}


def convergence(curves: dict) -> dict[str, float]:
    """What the claims about training ask of a curve of test accuracy.

    epochs_to_99 : the first epoch with 99 % of the final accuracy, the mean of the last three epochs.
    half_accuracy : after half of the epochs.
    unrest : mean absolute change from epoch to epoch over the second half, in points.
    stop_epoch : where the paper's rule would stop; absent if nowhere.
    """
    accuracy = np.array(curves["test_accuracy"])
    found = {"epochs_to_99": int(np.argmax(accuracy >= NEARLY * accuracy[-3:].mean())) + 1}
    found["half_accuracy"] = float(accuracy[(len(accuracy) - 1) // 2])
    late = np.diff(accuracy[len(accuracy) // 2 :])
    if len(late):
        found["unrest"] = float(np.abs(late).mean())
    stop = stops_at(curves.get("log_likelihood", []), STOP_CHANGE)
    return found | ({"stop_epoch": stop} if stop else {})


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
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"
    if spec["loss"] == "e_step":
        measured = timing.e_step(spec["instances"], spec["seed"], where)
        return {"metrics": {"last": measured}, "cost": {"train_s": 0.0}, "device": name, "says": "measured"}
    data = data_of(spec["dataset"], spec["classes"], spec["network"], spec["augment"], where)
    bags, validation, test = bags_of(spec, data)
    kept = {"bags": {"train": bags.summary(), "validation": validation.summary(), "test": test.summary()}}
    kept |= {"data": data.checksums, "device": name}
    if spec["loss"] == "durations":
        measured = timing.durations(spec, data, bags, method_of, lessons)
        cost = {"train_s": 0.0, "peak_memory_mb": round(peak_memory_mb(where), 1)}
        return {"metrics": {"last": measured}, "cost": cost, "says": "measured", **kept}

    method = method_of(spec, data)
    learned, more = lessons(spec, data, bags)
    fitted = fit(
        method,
        data.inputs,
        learned,
        epochs=spec["epochs"],
        schedule=Schedule(spec["schedule"], spec["learning_rate"]),
        seed=spec["seed"],
        evaluate=lambda method: {
            **scores(method, data, test.indices),
            "validation_loss": bag_loss(method, data.inputs, validation),
        },
        **more,
        **session,
    )
    if fitted is None:
        return None
    curves = fitted["curves"]
    metrics = select(curves)
    for chosen in metrics.values():
        chosen["class_accuracy"] = curves["test_class_accuracy"][curves["epoch"].index(chosen["epoch"])]
    metrics["last"] |= convergence(curves)
    cost = {"train_s": round(fitted["train_s"], 3), "peak_memory_mb": round(peak_memory_mb(where), 1)}
    says = f"{metrics['last']['accuracy']:.1f} %"
    return {"metrics": metrics, "curves": curves, "cost": cost, "says": says, **kept}


if __name__ == "__main__":
    import sys

    from shared.records import sweep

    sys.exit(sweep.main(["--paper", "mle_llp", *sys.argv[1:]]))
