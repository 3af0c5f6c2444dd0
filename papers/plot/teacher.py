"""Run stage one: DLLP, LLP-VAT or LLP-GAN on the bags, trained once and shared by all that is built on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from papers.plot.data import deviation
from shared.bags import Bags
from shared.config import Spec
from shared.methods import LLPGAN, LLPVAT, LossMethod, kl_loss
from shared.networks import CNN13, MLP, FeatureGenerator, Generator
from shared.training import Inputs, Schedule, axis_seed, checkpoint, fit, seed_torch

StageOne = LLPGAN | LossMethod
FIRST = np.zeros(1, dtype=np.int64)  # the number of an instance whose shape is that of all


class ThreeLayers(nn.Module):
    """The network of Section 5.1 has three hidden layers with ReLU; their width is ours."""

    def __init__(self, n_inputs: int, hidden: int, n_classes: int):
        super().__init__()
        widths = [n_inputs, hidden, hidden, hidden]
        layers = [layer for n in range(3) for layer in (nn.Linear(widths[n], widths[n + 1]), nn.ReLU())]
        self.features, self.last = nn.Sequential(*layers), nn.Linear(hidden, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of the inputs."""
        return self.last(self.features(x))


PERCEPTRONS = {"three_layers": ThreeLayers, "mlp": MLP, "patch_features": MLP}


def network_of(spec: Spec, inputs: Inputs, n_classes: int, axis: str = "initialisation") -> nn.Module:
    """Return the classifier a spec names, initialised by its seed, on the device of the inputs."""
    seed_torch(axis_seed(spec.seed, axis), inputs.device)
    example = inputs.batch(FIRST)
    if spec.network == "cnn13":
        return CNN13(n_classes, spec.width, example.shape[1]).to(memory_format=torch.channels_last).to(inputs.device)
    return PERCEPTRONS[spec.network](example.numel(), spec.hidden, n_classes).to(inputs.device)


def adam(spec: Spec, network: nn.Module, rate: float) -> torch.optim.Adam:
    """Return Adam as Section 5.2 has it, over what is learned of a network."""
    learned = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.Adam(learned, rate, (spec.beta1, 0.999), weight_decay=spec.weight_decay, fused=True)


def method_of(spec: Spec, network: nn.Module, inputs: Inputs, steps: int) -> StageOne:
    """Return the stage-one method a spec names around `network`, to be trained for `steps` updates."""
    rate, bf16 = spec.learning_rate, spec.precision == "bf16"
    optimiser = adam(spec, network, rate)
    if spec.loss == "llp_vat":
        unit = deviation(spec, inputs)  # the release's lengths are of standardised images
        lengths = {"eps": spec.vat_eps * unit, "xi": spec.vat_xi * unit, "floor": spec.vat_floor}
        return LLPVAT(network, optimiser, spec.vat_ramp * steps, spec.vat_weight, **lengths, autocast=bf16)
    if spec.loss == "llp_gan":
        example = inputs.batch(FIRST)
        generator: nn.Module
        if spec.network == "cnn13":
            generator = Generator(example.shape[1], spec.noise, spec.generator_width)
        else:
            generator = FeatureGenerator(spec.noise, spec.generator_width, example.numel())
        generator = generator.to(inputs.device)
        return LLPGAN(network, generator, optimiser, adam(spec, generator, rate), spec.gan_weight, bf16)
    return LossMethod(network, optimiser, {"dllp": kl_loss, "supervised": kl_loss}[spec.loss], bf16)


def classifier(method: StageOne) -> nn.Module:
    """Return the network of a method that labels instances."""
    return method.discriminator if isinstance(method, LLPGAN) else method.network


def train(
    spec: Spec, inputs: Inputs, bags: Bags, n_classes: int, evaluate: Callable, session: dict
) -> tuple[StageOne, dict, float] | None:
    """Return (method after stage one, its curves, its seconds), or None if the deadline came first.

    The weights are kept beside the checkpoints under a name that says what they depend on, code included; runs that
    agree in it read them instead of training.

    Parameters
    ----------
    spec : the stage "teacher" of a spec, which holds nothing else; all of it is in the name of the weights.
    inputs, bags, n_classes : made from that stage alone.
    evaluate, session : as of `shared.training.fit`.
    """
    per_batch = max(1, spec.images_per_batch // spec.bag_size)
    steps = spec.epochs * -(-len(bags) // per_batch)
    method = method_of(spec, network_of(spec, inputs, n_classes), inputs, steps)
    own, kept = dict(session), checkpoint.common("teachers", spec.canonical(), session)
    if kept:
        own["checkpoint"], own["key"] = kept.with_suffix(".part.pt"), kept.stem
        done = checkpoint.resume(kept, kept.stem)
        if done:
            method.load_state_dict(done["method"])
            return method, done["curves"], done["train_s"]
    fitted = fit(
        method,
        inputs,
        bags,
        epochs=spec.epochs,
        bags_per_batch=per_batch,
        schedule=Schedule(spec.schedule, spec.learning_rate),
        seed=spec.seed,
        evaluate=evaluate,
        **own,
    )
    if fitted is None:
        return None
    if kept:
        checkpoint.keep(kept, {"key": kept.stem, "method": method.state_dict(), **fitted})
        own["checkpoint"].unlink(missing_ok=True)
    return method, fitted["curves"], fitted["train_s"]
