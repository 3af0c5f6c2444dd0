"""Random bags that solvers are timed on: the same ones each time, of sizes and counts that are typical."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot, pad

# (M, K) scores or costs of instances, (B + 1,) offsets of the bags, and (B, K) counts or proportions of these.
Problem = tuple[Tensor, Tensor, Tensor]


def posterior_problem(classes: int, smallest: int, largest: int, bags: int, device: torch.device) -> Problem:
    """Log-probabilities of instances in bags of random sizes, and the counts of labels drawn with them."""
    generator = Generator().manual_seed(0)
    sizes = torch.randint(smallest, largest + 1, (bags,), generator=generator)
    logits = torch.zeros(int(sizes.sum()), classes)
    free = logits[:, 1:] if classes == 2 else logits
    free.copy_(2 * torch.randn(free.shape, generator=generator))
    log_p = logits.log_softmax(1)
    counts = _counts_of_labels(log_p, sizes, generator)
    return log_p.to(device), pad(sizes.cumsum(0), (1, 0)), counts


def relabel_problem(instances: int, classes: int, smallest: int, largest: int, device: torch.device) -> Problem:
    """Log-probabilities of so many instances in bags of random sizes, and the proportions of labels drawn with them."""
    generator = Generator().manual_seed(0)
    sizes = torch.randint(smallest, largest + 1, (instances // smallest,), generator=generator)
    sizes = sizes[: int((sizes.cumsum(0) <= instances).sum())]
    log_p = (3 * torch.randn(int(sizes.sum()), classes, generator=generator)).log_softmax(1)
    counts = _counts_of_labels(log_p, sizes, generator)
    return log_p.to(device), pad(sizes.cumsum(0), (1, 0)), (counts / sizes[:, None]).to(device)


def transport_problem(bags: int, size: int, classes: int, device: torch.device, fractions: bool = False) -> Problem:
    """Costs, offsets and proportions of one batch: those of random labels, or fractions from a flat Dirichlet."""
    generator = Generator().manual_seed(0)
    cost = -(3 * torch.randn(bags * size, classes, generator=generator)).log_softmax(1)
    labels = torch.randint(classes, (bags, size), generator=generator)
    proportions = one_hot(labels, classes).float().mean(1)
    if fractions:
        proportions = torch.rand(bags, classes, generator=generator).log()
        proportions = proportions / proportions.sum(1, keepdim=True)
    return cost.to(device), torch.arange(bags + 1, device=device) * size, proportions.to(device)


def _squared_distances(dimensions: int) -> Callable[[int, int, Generator], Tensor]:
    def draw(size: int, classes: int, generator: Generator) -> Tensor:
        points, centres = (torch.rand(n, dimensions, generator=generator, dtype=torch.float64) for n in (size, classes))
        return torch.cdist(points, centres) ** 2

    return draw


def _uniform(size: int, classes: int, generator: Generator) -> Tensor:
    return torch.rand(size, classes, generator=generator, dtype=torch.float64)


def _one_huge(size: int, classes: int, generator: Generator) -> Tensor:
    cost = _uniform(size, classes, generator)
    cost[size // 2, classes // 2] = 1e6
    return cost


# Costs (n, K) in float64 of a bag; solvers that are good on one kind may be bad on another.
FAMILIES: dict[str, Callable[[int, int, Generator], Tensor]] = {
    "uniform": _uniform,
    "log-softmax": lambda n, k, g: -(3 * torch.randn(n, k, generator=g, dtype=torch.float64)).log_softmax(1),
    "exponential**6": lambda n, k, g: (-torch.log1p(-_uniform(n, k, g))) ** 6,
    "rank-1": lambda n, k, g: _uniform(n, 1, g) * _uniform(1, k, g),
    "one huge cost": _one_huge,
    "squared distance, line": _squared_distances(1),
    "squared distance, plane": _squared_distances(2),
    "ties": lambda n, k, g: torch.randint(3, (n, k), generator=g).double(),
}


def family_problem(family: str, size: int, classes: int, fractions: bool, device: torch.device) -> Problem:
    """One bag in float64 with costs of a family, and the proportions of random labels or fractions."""
    generator = Generator().manual_seed(0)
    cost = FAMILIES[family](size, classes, generator)
    proportions = one_hot(torch.randint(classes, (1, size), generator=generator), classes).double().mean(1)
    if fractions:
        proportions = -torch.log1p(-_uniform(1, classes, generator))
        proportions = proportions / proportions.sum()
    return cost.to(device), torch.tensor([0, size]), proportions.to(device)


def _counts_of_labels(log_p: Tensor, sizes: Tensor, generator: torch.Generator) -> Tensor:
    """(B, K) counts of labels drawn from the model."""
    labels = torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]
    counts = torch.zeros(len(sizes), log_p.shape[1], dtype=torch.int64)
    bag = torch.arange(len(sizes)).repeat_interleave(sizes)
    return counts.index_put_((bag, labels), torch.tensor(1), accumulate=True)
