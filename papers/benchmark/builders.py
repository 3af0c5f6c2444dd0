"""Build the stages of each method on one network; what `papers.benchmark.methods` registers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from papers.benchmark.course import Problem, Stage
from papers.benchmark.loss import MixBag, class_prior, easy_llp_loss, forward_loss, regrouping
from papers.mle_llp.em import expectation
from papers.mle_llp.lattice import lattice_posterior
from papers.mle_llp.loss import counts_of
from papers.plot import student
from papers.vp_dsd.learning.prototypes import PrototypicalClustering
from shared.bags import BagError, Bags
from shared.config import Spec
from shared.methods import LLPGAN, LLPVAT, Batch, kl_loss
from shared.networks import FeatureGenerator, Generator

MOST_STATES = inspect.signature(lattice_posterior).parameters["max_states"].default


class ClassPrior:
    """Predict the classes' shares among all instances of the bags, whatever the input."""

    def __init__(self, bags: Bags, device: torch.device):
        self.prior = torch.from_numpy(class_prior(bags)).float().to(device)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Learn nothing; `loss` is `kl_loss` of the constant prediction."""
        log_p = self.predict(batch.x).clamp_min(1e-30).log()
        return {"loss": kl_loss(log_p, batch.offsets, batch.proportions, check=False)}

    def predict(self, x: Tensor) -> Tensor:
        """Return the same (N, K) row for all inputs."""
        return self.prior.expand(len(x), -1)

    def set_learning_rate(self, rate: float) -> None:
        """Do nothing: there is none."""

    def state_dict(self) -> dict:
        """Return the prior."""
        return {"prior": self.prior}

    def load_state_dict(self, state: dict) -> None:
        """Take another prior."""
        self.prior = state["prior"].to(self.prior)


def over_bags(loss_of: Callable[..., Callable]) -> Callable[..., tuple[Stage, ...]]:
    """Return the `build` of a loss over bags, made of (problem, **hyper-parameters), after a `warm_up` by `kl_loss`."""

    def build(problem: Problem, warm_up: float = 0.0, **parameters: Any) -> tuple[Stage, ...]:
        network, (before, after) = problem.new_network(), problem.parts(warm_up)
        method = problem.by_loss(network, loss_of(problem, **parameters))
        return (*_warm_up(problem, network, before), problem.stage(method, after))

    return build


def plain(loss: Callable[..., Tensor]) -> Callable[..., tuple[Stage, ...]]:
    """Return the `build` of a loss over bags whose hyper-parameters are its keywords."""
    return over_bags(lambda problem, **parameters: partial(loss, **parameters) if parameters else loss)


def _warm_up(problem: Problem, network: nn.Module, epochs: int) -> tuple[Stage, ...]:
    return (problem.stage(problem.by_loss(network, kl_loss), epochs),) if epochs else ()


def prior_alone(problem: Problem) -> tuple[Stage, ...]:
    """Return a stage of one epoch that learns nothing but the prior."""
    return (problem.stage(ClassPrior(problem.bags, problem.device), 1),)


def supervised(problem: Problem) -> tuple[Stage, ...]:
    """Return a stage on the class of every instance, with as many updates as a stage on bags."""
    assert problem.labels is not None, "as `_lacks_labels` asks"
    stage = problem.stage(problem.by_loss(problem.new_network(), kl_loss))
    return (problem.of_instances(stage, np.eye(problem.bags.n_classes)[problem.labels[problem.bags.indices]]),)


def easy_llp(problem: Problem, cost: str) -> Callable[..., Tensor]:
    """Return `easy_llp_loss` with the prior of all bags to learn from."""
    prior = torch.from_numpy(class_prior(problem.bags)).float().to(problem.device)
    return partial(easy_llp_loss, prior=prior, cost=cost)


def llpfc(problem: Problem, noise: str, every: int) -> tuple[Stage, ...]:
    """Return a stage by `forward_loss`, whose groups are drawn anew every so many epochs."""
    method = problem.by_loss(problem.new_network(), forward_loss)
    return (problem.stage(method, renew=regrouping(problem.bags, problem.seed, noise, every)),)


def mixbag(problem: Problem, **parameters: Any) -> tuple[Stage, ...]:
    """Return a stage of `MixBag`, on two bags at once or more: one alone would be mixed with itself."""
    network = problem.new_network()
    optimiser = problem.optimiser(network, problem.learning_rate)
    stage = problem.stage(MixBag(network, optimiser, **parameters, autocast=problem.bf16))
    return (replace(stage, bags_per_batch=max(2, stage.bags_per_batch)),)


def mle_llp(problem: Problem) -> tuple[Stage, ...]:
    """Return a stage on single instances, whose targets are the posteriors of papers/mle_llp before each epoch."""
    method = problem.by_loss(problem.new_network(), kl_loss)
    stage = problem.stage(method, renew=expectation(problem.inputs, problem.bags))
    return (problem.of_instances(stage, _any_targets(problem)),)


def _any_targets(problem: Problem) -> np.ndarray:
    """Targets that `renew` replaces before the first epoch."""
    return np.full((len(problem.bags.indices), problem.bags.n_classes), 1 / problem.bags.n_classes)


def pc(problem: Problem, warm_up: float, **parameters: Any) -> tuple[Stage, ...]:
    """Return the stages of prototypical clustering, on the network that KL has trained before."""
    network, (before, after) = problem.new_network(), problem.parts(warm_up)
    method = PrototypicalClustering(network, problem.optimiser(network, problem.learning_rate), **parameters)
    return (*_warm_up(problem, network, before), problem.stage(method, after))


def plot(problem: Problem, first: float, rate_times: float, mixup: float, **parameters: Any) -> tuple[Stage, ...]:
    """Return stage one, DLLP, and stage two on pseudo-labels, for which `first` of the epochs is stage one's."""
    network, (before, after) = problem.new_network(), problem.parts(first)
    spec = cast(Spec, SimpleNamespace(log_zero=-4.0, **parameters))  # of which `student` reads values by name
    optimiser = problem.optimiser(network, problem.learning_rate)
    method = student.Student(network, optimiser, student.loss_of(spec), mixup, spec.average, problem.bf16)
    renew = student.labelling(spec, problem.inputs, problem.bags, problem.labels, method)
    second = problem.stage(method, after, renew=renew, rate_times=rate_times)
    sizes = set(problem.bags.sizes.tolist())
    if len(sizes) == 1:  # Algorithm 1 has minibatches of whole bags, which `Student` takes of one size
        second = problem.stage(method, after, renew=student.by_bag(renew, *sizes), rate_times=rate_times)
    else:
        second = problem.of_instances(second, _any_targets(problem))
    return (*_warm_up(problem, network, before), second)


def _deviation(problem: Problem) -> float:
    """The standard deviation of a number of an instance, as the network reads it, over those of the bags."""
    x = problem.inputs.batch(problem.bags.indices[:5000]).flatten(1).double()
    return float(x.var(0, correction=0).mean().sqrt())


def llp_vat(problem: Problem, weight: float, eps: float, xi: float, ramp: float) -> tuple[Stage, ...]:
    """Return a stage of `LLPVAT`, its lengths in deviations of a number, `eps` for the root of how many there are."""
    network, unit = problem.new_network(), _deviation(problem)
    optimiser = problem.optimiser(network, problem.learning_rate)
    lengths = {"eps": eps * unit * problem.example.numel() ** 0.5, "xi": xi * unit or xi}
    method = LLPVAT(network, optimiser, ramp * problem.steps, weight, **lengths, autocast=problem.bf16)
    return (problem.stage(method),)


def llp_gan(problem: Problem, weight: float, noise: int, width: int) -> tuple[Stage, ...]:
    """Return a stage of `LLPGAN` beside a new generator, under optimisers whose beta1 is that of the release, .5."""
    network, example = problem.new_network(), problem.example
    images = example.ndim == 4
    generator = Generator(example.shape[1], noise, width) if images else FeatureGenerator(noise, width, example.numel())
    generator = generator.to(problem.device)
    of_network, of_generator = (
        problem.optimiser(module, problem.learning_rate, beta1=0.5) for module in (network, generator)
    )
    return (problem.stage(LLPGAN(network, generator, of_network, of_generator, weight, problem.bf16)),)


# What not every problem has: each returns what is lacking, in words, or nothing.


def _lacks_labels(problem: Problem) -> str:
    return "" if problem.labels is not None else "it learns from the class of every instance, and none is given"


def _lacks_counts(problem: Problem) -> str:
    try:
        counts_of(torch.from_numpy(problem.bags.proportions), torch.from_numpy(problem.bags.offsets))
    except BagError as error:
        return str(error)
    return ""


def _lacks_lattice(problem: Problem) -> str:
    bags = problem.bags
    if bags.n_classes == 2:
        return ""
    counts = np.sort(np.rint(bags.proportions * bags.sizes[:, None]), 1)[:, :-1]
    states = (counts + 1).prod(1)
    worst = int(states.argmax())
    if states[worst] <= MOST_STATES:
        return ""
    return (
        f"with more than two classes it takes small bags, up to {MOST_STATES:,} count vectors, and bag {worst} of "
        f"{bags.sizes[worst]} instances has {states[worst]:.3g}"
    )


def _lacks_features(problem: Problem) -> str:
    network = problem.network()
    lacking = [name for name in ("features", "last") if not callable(getattr(network, name, None))]
    return f"its network must have {' and '.join(lacking)}, as shared.networks.MLP has" if lacking else ""


def _lacks_vectors(problem: Problem) -> str:
    shape = tuple(problem.example.shape[1:])
    return "" if len(shape) == 1 else f"its inputs must be vectors, not of shape {shape}"


def _lacks_generator(problem: Problem) -> str:
    shape = tuple(problem.example.shape[1:])
    fits = len(shape) == 1 or (len(shape) == 3 and shape[1:] == (32, 32))
    return "" if fits else f"its generator makes vectors or images of 32x32, not inputs of shape {shape}"


def _lacks_groups(problem: Problem) -> str:
    bags = problem.bags
    return "" if len(bags) >= bags.n_classes else f"it groups {bags.n_classes} bags, and there are {len(bags)}"


NEEDS = {
    "labels": _lacks_labels,
    "counts": _lacks_counts,
    "small bags": _lacks_lattice,
    "features": _lacks_features,
    "vectors": _lacks_vectors,
    "generator": _lacks_generator,
    "groups": _lacks_groups,
}
