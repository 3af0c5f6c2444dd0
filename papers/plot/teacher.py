"""Stage one: DLLP, LLP-VAT or LLP-GAN on the bags, trained once and shared by all that is built on it."""

from __future__ import annotations

import torch
from torch import nn

from shared.bags import Bags
from shared.methods import LLPGAN, LLPVAT, LossMethod, Method, kl_loss
from shared.networks import CNN13, MLP, FeatureGenerator, Generator
from shared.training import Inputs, Schedule, axis_seed, checkpoint, fit, seed_torch

# What stage one depends on; two runs that agree in these share its weights.
KEYS = (
    *("dataset", "train_images", "loss", "bag_size", "seed", "validation_fraction", "network", "width", "hidden"),
    *("epochs", "images_per_batch", "learning_rate", "beta1", "weight_decay", "schedule", "augment", "precision"),
    *("vat_weight", "vat_eps", "vat_xi", "vat_ramp", "noise", "generator_width", "gan_weight"),
)


class ThreeLayers(nn.Module):
    """The network of Section 5.1: three hidden layers with ReLU; their width is ours."""

    def __init__(self, n_inputs: int, hidden: int, n_classes: int):
        super().__init__()
        widths = [n_inputs, hidden, hidden, hidden]
        layers = [layer for n in range(3) for layer in (nn.Linear(widths[n], widths[n + 1]), nn.ReLU())]
        self.features, self.last = nn.Sequential(*layers), nn.Linear(hidden, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.features(x))


def network_of(spec: dict, inputs: Inputs, n_classes: int, axis: str = "initialisation") -> nn.Module:
    """The classifier a spec names, initialised by its seed, on the device of the inputs."""
    seed_torch(axis_seed(spec["seed"], axis), inputs.device)
    example = inputs.batch([0])
    if spec["network"] == "cnn13":
        network = CNN13(n_classes, spec["width"], example.shape[1])
        return network.to(inputs.device, memory_format=torch.channels_last)
    kind = ThreeLayers if spec["network"] == "three_layers" else MLP
    return kind(example.numel(), spec["hidden"], n_classes).to(inputs.device)


def adam(spec: dict, network: nn.Module, rate: float) -> torch.optim.Adam:
    """Adam as Section 5.2 has it, over what is learned of a network."""
    learned = [p for p in network.parameters() if p.requires_grad]
    betas, decay = (spec["beta1"], 0.999), spec["weight_decay"]
    return torch.optim.Adam(learned, rate, betas, weight_decay=decay, fused=True)


def method_of(spec: dict, network: nn.Module, inputs: Inputs, steps: int) -> Method:
    """The stage-one method a spec names around `network`, to be trained for `steps` updates."""
    rate, bf16 = spec["learning_rate"], spec["precision"] == "bf16"
    optimiser = adam(spec, network, rate)
    if spec["loss"] == "llp_vat":
        names = {"weight": "vat_weight", "eps": "vat_eps", "xi": "vat_xi"}
        settings = {name: spec[key] for name, key in names.items()}
        return LLPVAT(network, optimiser, spec["vat_ramp"] * steps, **settings, autocast=bf16)
    if spec["loss"] == "llp_gan":
        example = inputs.batch([0])
        if spec["network"] == "cnn13":
            generator = Generator(example.shape[1], spec["noise"], spec["generator_width"])
        else:
            generator = FeatureGenerator(spec["noise"], spec["generator_width"], example.numel())
        generator = generator.to(inputs.device)
        return LLPGAN(network, generator, optimiser, adam(spec, generator, rate), spec["gan_weight"], bf16)
    return LossMethod(network, optimiser, kl_loss, bf16)


def classifier(method: Method) -> nn.Module:
    """The network of a method that labels instances."""
    return method.discriminator if isinstance(method, LLPGAN) else method.network


def train(spec: dict, inputs: Inputs, bags: Bags, n_classes: int, evaluate, session: dict):
    """(method after stage one, its curves, its seconds), or None if the deadline came first.

    The weights are kept beside the checkpoints under a name that says what they depend on, code included; runs that
    agree in it read them instead of training.
    """
    per_batch = max(1, spec["images_per_batch"] // spec["bag_size"])
    steps = spec["epochs"] * -(-len(bags) // per_batch)
    method = method_of(spec, network_of(spec, inputs, n_classes), inputs, steps)
    own, kept = dict(session), checkpoint.common("teachers", {key: spec[key] for key in KEYS}, session)
    if kept:
        own["checkpoint"], own["key"] = kept.with_suffix(".part.pt"), kept.stem
        done = checkpoint.load(kept, kept.stem)
        if done:
            method.load_state_dict(done["method"])
            return method, done["curves"], done["train_s"]
    fitted = fit(
        method,
        inputs,
        bags,
        epochs=spec["epochs"],
        bags_per_batch=per_batch,
        schedule=Schedule(spec["schedule"], spec["learning_rate"]),
        seed=spec["seed"],
        evaluate=evaluate,
        **own,
    )
    if fitted is None:
        return None
    if kept:
        checkpoint.save(kept, {"key": kept.stem, "method": method.state_dict(), **fitted})
        own["checkpoint"].unlink(missing_ok=True)
    return method, fitted["curves"], fitted["train_s"]
