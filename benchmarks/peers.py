"""The peers: what other people would call for the same bags, with the package it comes from and what it can do.

POT and scipy are in the lock; the others come with ``make bench PEERS=1`` and are left out, by name, where they are not
installed. All get float64 arrays, or in batches float32 tensors, converted outside the timing; an assignment repeats
the columns of a bag by its counts, which is a part of the work.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import ot
import torch
from ot.batch import solve_batch
from ot.lp.emd_wrap import emd_c
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks.problems import Problem

OPTIONAL = ("geomloss", "lapx", "torch-linear-assignment", "llp-learn")
PROXIMAL = 100_000  # costs in a batch, beyond which POT's batched proximal method takes tens of seconds a call


class Same:
    """Hold bags of one size in every form that a peer wants; rows of a plan have mass 1."""

    def __init__(self, problem: Problem, size: int, whole: bool):
        self.size, self.whole = size, whole
        self.cost, _, self.shares = problem
        self.shape = len(self.shares), size, self.cost.shape[1]

    @cached_property
    def arrays(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(costs (n, K), masses (K,)) of each bag in float64."""
        cost = np.ascontiguousarray(self.cost.double().cpu().numpy()).reshape(self.shape)
        return list(zip(cost, self.masses, strict=True))

    @cached_property
    def masses(self) -> np.ndarray:
        """(B, K) float64; of whole bags the counts."""
        shares = self.shares.double().cpu().numpy()
        masses = self.size * shares / shares.sum(1, keepdims=True)
        return masses.round() if self.whole else masses

    @cached_property
    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Costs (B, n, K) and marginals (B, n) and (B, K) of sum 1, where the problem is."""
        cost = self.cost.view(self.shape)
        columns = torch.from_numpy(self.masses / self.size).to(cost)
        return cost, torch.full_like(cost[:, :, 0], 1 / self.size), columns

    def squares(self) -> np.ndarray:
        """(B, n, n) costs, the columns of each bag repeated by its counts."""
        square = np.empty((self.shape[0], self.size, self.size))
        for bag, (cost, masses) in enumerate(self.arrays):
            square[bag] = cost[:, self.columns_of(masses)]
        return square

    @staticmethod
    def columns_of(masses: np.ndarray) -> np.ndarray:
        return np.repeat(np.arange(len(masses)), masses.astype(np.int64))

    def labelled(self, columns: list[np.ndarray]) -> list[np.ndarray]:
        """The labels that belong to columns of `squares`."""
        return [self.columns_of(m)[c] for (_, m), c in zip(self.arrays, columns, strict=True)]

    def values(self, answer: list | np.ndarray | Tensor) -> np.ndarray:
        """(B,) transport costs <C, P> of plans (n, K) or labels (n,)."""
        return np.array([(plan * cost).sum() for plan, (cost, _) in zip(self.plans(answer), self.arrays, strict=True)])

    def violation(self, answer: list | np.ndarray | Tensor, columns: bool = True) -> float:
        """The worst error of a row's mass and, relative to the bag, of a column's."""
        worst = 0.0
        for plan, masses in zip(self.plans(answer), self.masses, strict=True):
            worst = np.fmax(worst, np.abs(plan.sum(1) - 1).max())
            worst = np.fmax(worst, np.abs(plan.sum(0) - masses).max() / self.size if columns else 0.0)
        return float(worst)

    def plans(self, answer: list | np.ndarray | Tensor) -> list[np.ndarray]:
        found = answer.detach().double().cpu().numpy() if isinstance(answer, Tensor) else answer
        found = [bag.double().cpu().numpy() if isinstance(bag, Tensor) else bag for bag in found]
        return [np.eye(self.shape[2])[bag] if bag.ndim == 1 else bag for bag in found]


@dataclass(frozen=True)
class Peer:
    """What a peer is called, its package on PyPI, how it solves, and whether it can only assign whole counts.

    `most` is how many costs a batch of it may hold: more would take longer than all else in its benchmark.
    """

    name: str
    package: str
    solve: Callable[..., object]
    counts: bool = False
    most: float = float("inf")

    def takes(self, bags: Same) -> bool:
        return self.package not in left_out() and (bags.whole or not self.counts) and bags.cost.numel() <= self.most


def left_out() -> list[str]:
    """The optional packages that are not installed."""
    return [name for name in OPTIONAL if installed(name) is None]


def installed(package: str) -> str | None:
    """Return the version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def packages() -> list[str]:
    """Those whose versions belong into a table of peers."""
    return ["pot", "scipy", *(name for name in OPTIONAL if installed(name))]


def sentence() -> str:
    """Return which peers are there, with versions, and which are left out and how to have them."""
    there = ", ".join(f"{name} {installed(name)}" for name in packages())
    away = ", ".join(left_out())
    return f"peers: {there}" + (
        f"; left out, not installed: {away} (`make bench PEERS=1` installs them)" if away else ""
    )


def by_emd(bags: Same) -> list[np.ndarray]:
    ones = np.ones(bags.size)
    return [ot.emd(ones, masses, cost) for cost, masses in bags.arrays]


def by_emd_unchecked(bags: Same) -> list[np.ndarray]:
    """The compiled network simplex, without POT's conversions and checks."""
    ones = np.ones(bags.size)
    return [emd_c(ones, masses, cost, 100_000, 1, None, None)[0] for cost, masses in bags.arrays]


def by_assignment(bags: Same) -> list[np.ndarray]:
    labels = []
    for cost, masses in bags.arrays:
        columns = bags.columns_of(masses)
        labels.append(columns[linear_sum_assignment(cost[:, columns])[1]])
    return labels


def by_lapx(bags: Same) -> list[np.ndarray]:
    import lap

    _, _, columns = lap.lapjvr_batch(bags.squares(), n_threads=torch.get_num_threads())
    return bags.labelled(columns)


def by_torch_assignment(bags: Same) -> list[np.ndarray]:
    from torch_linear_assignment import batch_linear_assignment

    columns = batch_linear_assignment(torch.from_numpy(bags.squares()).to(bags.cost.device)).cpu().numpy()
    return bags.labelled(list(columns))


def by_batch(bags: Same, method: str, epsilon: float | None, iterations: int, tolerance: float = 0.0) -> Tensor:
    """POT on all bags at once, its plans scaled to rows of mass 1."""
    cost, rows, columns = bags.batch
    settings = {"max_iter": iterations, "tol": tolerance, "method": method, "grad": "detach"}
    return bags.size * solve_batch(cost, epsilon, rows, columns, **settings).plan


def by_geomloss(bags: Same, epsilon: float, iterations: int) -> Tensor:
    from geomloss.ot import solve_batch as solve

    cost, rows, columns = bags.batch
    return bags.size * solve(cost, reg=epsilon, a=rows, b=columns, max_iter=iterations).plan


def by_sinkhorn(bags: Same, epsilon: float, iterations: int) -> list[np.ndarray]:
    ones, settings = np.ones(bags.size), {"numItermax": iterations, "stopThr": 0, "warn": False}
    return [ot.sinkhorn(ones, masses, cost, epsilon, **settings) for cost, masses in bags.arrays]


def by_unbalanced(bags: Same, tau: float, iterations: int, gradient: bool) -> list[np.ndarray] | list[Tensor]:
    """Rows hard and columns soft, as `unbalanced_sinkhorn` at epsilon 1; with a gradient, on tensors and back."""
    soft = {"reg": 1.0, "reg_m": (float("inf"), tau / (1 - tau)), "numItermax": iterations, "stopThr": 0}
    plans = []
    for cost, masses in bags.arrays:
        if not gradient:
            start = np.ones_like(cost)
            plans.append(ot.unbalanced.sinkhorn_knopp_unbalanced(start[:, 0], masses, cost, c=start, **soft))
            continue
        c, start = torch.from_numpy(cost).requires_grad_(), torch.ones(cost.shape, dtype=torch.float64)
        masses = torch.from_numpy(masses)
        plan = ot.unbalanced.sinkhorn_knopp_unbalanced(start[:, 0], masses, c, c=start, **soft)
        (plan * c).sum().backward()
        plans.append(plan.detach())
    return plans


def dllp_epochs(x: np.ndarray, bags: np.ndarray, proportions: np.ndarray, hidden: int, epochs: int) -> None:
    """Train llp-learn's DLLP, one bag a step, in this process and in silence."""
    from llp_learn.dllp import DLLP

    peer = DLLP(1e-3, epochs, "simple-mlp", hidden_layer_sizes=(hidden,), device="cpu", random_state=0)
    peer.n_jobs = 0
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        peer.fit(x, bags, proportions)


EXACT = (
    Peer("POT loop", "pot", by_emd),
    Peer("POT loop, no checks", "pot", by_emd_unchecked),
    Peer("scipy assignment", "scipy", by_assignment, counts=True),
    Peer("lapx jvr batch", "lapx", by_lapx, counts=True),
    Peer("torch-linear-assignment", "torch-linear-assignment", by_torch_assignment, counts=True),
    Peer("POT batch, proximal", "pot", lambda bags: by_batch(bags, "proximal", None, 1000, 1e-5), most=PROXIMAL),
)
SCALING = (
    Peer("POT loop, float64", "pot", by_sinkhorn),
    Peer("POT batch, plain", "pot", lambda *problem: by_batch(problem[0], "sinkhorn", *problem[1:])),
    Peer("POT batch, log", "pot", lambda *problem: by_batch(problem[0], "log_sinkhorn", *problem[1:])),
    Peer("geomloss batch", "geomloss", by_geomloss),
)
UNBALANCED = (Peer("POT loop, float64", "pot", by_unbalanced),)
