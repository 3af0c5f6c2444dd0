"""Build each method: its network, its optimiser, and what it learns from (Section 3).

The loss is an argument beside the spec, for the timing of Table 1 builds all of them from one spec.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Required, TypedDict

import numpy as np
import torch
from torch import nn

from papers.mle_llp.data import Data
from papers.mle_llp.em import expectation, single
from papers.mle_llp.loss import count_loss
from shared.bags import Bags
from shared.config import Spec
from shared.methods import LLPGAN, LossMethod, Method, kl_loss
from shared.networks import MLP, Discriminator, FeatureGenerator, Generator, ResNet18
from shared.training import Schedule, axis_seed, fit, seed_torch

PERCEPTRONS = ("mlp", "patch_features")
OF_INSTANCES = ("supervised", "mle_llp")  # the losses whose minibatches may cut a bag in two
FIRST = np.zeros(1, np.int64)  # an input, for the shape of all


class Lessons(TypedDict, total=False):
    """What `fit` needs to know of a loss beside the bags it learns from."""

    bags_per_batch: Required[int]
    renew: Callable


def network_of(spec: Spec, data: Data, seed: int) -> nn.Module:
    """Return the classifier a spec names, initialised by a seed."""
    seed_torch(axis_seed(seed, "initialisation"), data.inputs.device)
    example, n_classes = data.inputs.batch(FIRST), len(data.classes)
    network: Discriminator | ResNet18 | MLP
    if spec.network == "discriminator":
        network = Discriminator(n_classes, example.shape[1], spec.width)
    elif spec.network == "resnet18":
        network = ResNet18(n_classes, spec.width, example.shape[1], large=True, norm=False)
    else:
        network = MLP(example.numel(), spec.hidden, n_classes)
    if spec.start == "even":
        nn.init.zeros_(network.last.weight)
        nn.init.zeros_(network.last.bias)
    return network


def method_of(loss: str, spec: Spec, data: Data, seed: int, learning_rate: float) -> Method:
    """Return the method that trains by a loss, on the device of its data; `spec` may be its stage "search"."""
    device, bf16 = data.inputs.device, spec.precision == "bf16"
    perceptron = spec.network in PERCEPTRONS
    layout = torch.preserve_format if perceptron else torch.channels_last
    network = network_of(spec, data, seed).to(memory_format=layout).to(device)

    def adam(module: nn.Module, beta1: float = 0.9) -> torch.optim.Adam:
        learned = [p for p in module.parameters() if p.requires_grad]
        betas = (beta1, 0.999)
        return torch.optim.Adam(learned, learning_rate, betas, weight_decay=spec.weight_decay, fused=True)

    if loss != "llp_gan":
        return LossMethod(network, adam(network), count_loss if loss == "mle_direct" else kl_loss, bf16)
    example = data.inputs.batch(FIRST)
    generator: FeatureGenerator | Generator
    if perceptron:
        generator = FeatureGenerator(spec.noise, spec.generator_width, example.numel())
    else:  # 32x32 images, whatever the size of the real ones: the classifiers end in averages
        generator = Generator(example.shape[1], spec.noise, spec.generator_width)
    generator.to(memory_format=layout).to(device)
    of_network, of_generator = adam(network, spec.gan_beta1), adam(generator, spec.gan_beta1)
    return LLPGAN(network, generator, of_network, of_generator, spec.proportion_weight, bf16)


def lessons(loss: str, data: Data, bags: Bags, images_per_batch: int, stop_change: float = 0.0) -> tuple[Bags, Lessons]:
    """Return (the bags a method learns from, what else `fit` needs).

    The bags are single instances where a minibatch may cut a bag, else whole bags, as many at once as hold
    `images_per_batch` on average. `stop_change` is that of `expectation`.
    """
    if loss not in OF_INSTANCES:
        return bags, {"bags_per_batch": max(1, round(images_per_batch / bags.sizes.mean()))}
    alone = single(bags, np.eye(len(data.classes))[data.labels[bags.indices]])
    more: Lessons = {"bags_per_batch": images_per_batch}
    if loss == "mle_llp":
        more["renew"] = expectation(data.inputs, bags, stop_change)
    return alone, more


def fitted(
    spec: Spec,
    data: Data,
    bags: Bags,
    *,
    rate: float,
    epochs: int,
    seed: int,
    session: dict,
    evaluate: Callable[[Method], dict[str, float]] = lambda method: {},
    stop_change: float = 0.0,
) -> tuple[Method, dict] | None:
    """Train the method of a spec, which may be its stage "search", on bags; return (method, what `fit` returns).

    It is None if the deadline came first. `evaluate` and `session` are those of `fit`, `stop_change` of `expectation`.
    """
    method = method_of(spec.loss, spec, data, seed, rate)
    learned, more = lessons(spec.loss, data, bags, spec.images_per_batch, stop_change)
    schedule = Schedule(spec.schedule, rate)
    how = {**more, **session}
    found = fit(method, data.inputs, learned, epochs=epochs, schedule=schedule, seed=seed, evaluate=evaluate, **how)
    return None if found is None else (method, found)
