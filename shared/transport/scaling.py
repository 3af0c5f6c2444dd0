"""Iterate under both entropic solvers: Dulac-Arnold et al. 2019, Algorithm 1, without overflow.

It is written on log K = -C / epsilon, laid out (B, K, longest) so that both sums of an iteration run over long
rows:

    a <- (n z / (K b))^tau        b <- 1 / (K^T a)

An iteration in the log domain costs ten times one on plain numbers. So the scalings are split, a = a0 u and
b = b0 v: a0 and b0 come from an exact iteration in the log domain and are absorbed in a kernel diag(a0) K
diag(b0), itself a plan, and only u and v are iterated (stabilised scaling: Schmitzer 2019;
Peyré & Cuturi 2019, Remark 4.23 for the log domain). Steps after which u or v left a safe range are done
again in the log domain.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from shared.transport.plain import EVERY, CompiledSteps, PlainSteps, Stop
from shared.transport.ragged import Layout

# log K of what must carry no mass. Finite, so that neither 0 * -inf nor inf - inf can arise in a gradient.
NOTHING = -1e30
SAFE = 0.2  # of the exponents of floating point, for plain scalings


@dataclass(frozen=True)
class Problem:
    """Hold bags as padded tables. Classes of proportion 0 get mass 1 and an empty kernel, so their scaling stays 1."""

    layout: Layout
    epsilon: float
    log_kernel: Tensor  # (B, K, longest), NOTHING where the class is absent or there is no instance
    mass: Tensor  # (B, K, 1) n z, 1 for absent classes
    present: Tensor  # (B, K, 1) bool
    real: Tensor | None  # (B, 1, longest) bool; None when every place holds an instance
    absent: Tensor | None  # (B, K, 1), 1 for absent classes and 0 for others; None when there are none
    missing: Tensor | None  # (B, 1, longest), 1 where there is no instance; None like `real`

    def of(self, bags: Tensor) -> "Problem":
        """Return the tables of some bags; the layout stays that of all."""
        return replace(
            self,
            log_kernel=self.log_kernel[bags],
            mass=self.mass[bags],
            present=self.present[bags],
            real=None if self.real is None else self.real[bags],
            absent=None if self.absent is None else self.absent[bags],
            missing=None if self.missing is None else self.missing[bags],
        )


@dataclass(frozen=True)
class Scaling:
    """Hold the scalings after some iterations, a = a0 u and b = b0 v."""

    log_a0: Tensor  # (B, K, 1)
    log_b0: Tensor  # (B, 1, longest)
    kernel: Tensor  # (B, K, longest) diag(a0) K diag(b0)
    weight: Tensor  # (B, K, 1) n z a0^(1 - 1 / tau), which makes u = (weight / (kernel v))^tau
    u: Tensor  # (B, K, 1)
    v: Tensor  # (B, 1, longest)

    def plan(self) -> Tensor:
        """Return diag(a) K diag(b), (B, K, longest)."""
        return self.kernel * self.u * self.v

    def column_sums(self) -> Tensor:
        """Return the column sums of the plan over u, (B, K, 1)."""
        return (self.kernel * self.v).sum(2, keepdim=True)


def state_problem(cost: Tensor, layout: Layout, proportions: Tensor, epsilon: float) -> Problem:
    """Pad a problem. `cost` (M, K), `proportions` (B, K); differentiable in both."""
    mass = (layout.sizes[:, None] * proportions.to(cost)).unsqueeze(2)
    present = mass > 0
    real = None if layout.slots is None else layout.mask().unsqueeze(1)
    log_kernel = (layout.pad(cost).mT * (-1 / epsilon)).contiguous()
    log_kernel = log_kernel.masked_fill(~(present if real is None else present & real), NOTHING)
    # To ask a GPU would be to wait for it; zeros change no sum.
    absent = None if present.device.type == "cpu" and bool(present.all()) else (~present).to(cost)
    missing = None if real is None else (~real).to(cost)
    return Problem(layout, epsilon, log_kernel, mass.masked_fill(~present, 1), present, real, absent, missing)


@dataclass(frozen=True)
class Goal:
    """Say what is left to converge and when that is little enough; `tolerance` None is never."""

    error: Callable[[Problem, Scaling], Tensor]  # (B,)
    tolerance: float | None
    columns: bool  # the error is that of columns over n, else the move of a class potential in units of cost


def iterate(problem: Problem, tau: float, iterations: int, goal: Goal) -> tuple[Scaling, Tensor]:
    """Run Algorithm 1 from b = 1; gradients flow through the iterations where autograd is on.

    The error is read every 10 iterations. On the CPU a bag stops by itself; elsewhere all stop when all may. Returned
    are the scalings and the iterations that each bag made, (B,) or ().
    """
    scaling = _log_steps(problem, tau, None, 1)
    bags = _bag_by_bag if scaling.kernel.device.type == "cpu" else _together
    return bags(problem, tau, iterations, goal, scaling)


def _bag_by_bag(problem: Problem, tau: float, iterations: int, goal: Goal, scaling: Scaling) -> tuple[Scaling, Tensor]:
    total = torch.ones(len(scaling.u), dtype=torch.int64)
    going = torch.full_like(total, iterations > 1, dtype=torch.bool)
    mass = problem.mass if goal.columns else problem.mass[:, :0]
    unit = problem.layout.sizes if goal.columns else torch.full_like(problem.layout.sizes, 1) / problem.epsilon
    limits = torch.full_like(total, -1) if goal.tolerance is None else goal.tolerance * unit
    # No error is below 0 and all are looked at: a limit of 0 stops where nothing moves any more.
    limits = limits.double().where(limits != 0, -1.0)
    while bool(going.any()):
        stop = Stop((iterations - total) * going, _bound(scaling.u.dtype), limits, mass.detach())
        u, v, done, safe = CompiledSteps.apply(
            scaling.kernel, scaling.weight, scaling.u, scaling.v, problem.absent, problem.missing, tau, stop
        )
        scaling, total = replace(scaling, u=u, v=v), total + done
        going &= ~safe & (total < iterations)
        if bool(going.any()):
            scaling, total, going = _in_logs(problem, tau, iterations, goal, scaling, total, going)
    return scaling, total


def _in_logs(
    problem: Problem, tau: float, iterations: int, goal: Goal, scaling: Scaling, total: Tensor, going: Tensor
) -> tuple[Scaling, Tensor, Tensor]:
    """Make up to `EVERY` steps in the log domain for the bags whose plain numbers were not safe."""
    for steps in (iterations - total)[going].clamp_max(EVERY).unique().tolist():
        bags = (going & ((iterations - total).clamp_max(EVERY) == steps)).nonzero()[:, 0]
        log_b = (scaling.log_b0 + scaling.v.log())[bags]
        moved = _log_steps(problem.of(bags), tau, log_b, steps)
        merged = {field.name: getattr(scaling, field.name) for field in fields(scaling)}
        scaling = Scaling(**{name: part.index_copy(0, bags, getattr(moved, name)) for name, part in merged.items()})
        total = total.index_add(0, bags, torch.full_like(bags, steps))
    going = going & (total < iterations)
    if goal.tolerance is not None:
        going = going & ~(goal.error(problem, scaling) <= goal.tolerance)
    return scaling, total, going


def _together(problem: Problem, tau: float, iterations: int, goal: Goal, scaling: Scaling) -> tuple[Scaling, Tensor]:
    done = 1
    while done < iterations:
        steps = iterations - done if goal.tolerance is None else min(EVERY, iterations - done)
        u, v = PlainSteps.apply(scaling.kernel, scaling.weight, scaling.v, problem.absent, problem.missing, tau, steps)
        moved = replace(scaling, u=u, v=v)
        if not _is_safe(moved):
            moved = _log_steps(problem, tau, scaling.log_b0 + scaling.v.log(), steps)
        scaling = moved
        done += steps
        if goal.tolerance is not None and bool((goal.error(problem, scaling) <= goal.tolerance).all()):
            break
    return scaling, torch.tensor(done)


def _log_steps(problem: Problem, tau: float, log_b: Tensor | None, steps: int) -> Scaling:
    """Make some steps in the log domain from b, or from b = 1 if None, and absorb a and b in the kernel."""
    log_kernel, present, real = problem.log_kernel, problem.present, problem.real
    log_mass = problem.mass.log()
    for _ in range(steps):
        sums, _ = _log_sum_exp(log_kernel if log_b is None else log_kernel + log_b, 2)
        ratio = (log_mass - sums).where(present, 0)
        log_a = tau * ratio
        sums, shares = _log_sum_exp(log_kernel + log_a, 1)
        log_b = -sums if real is None else (-sums).where(real, 0)
    assert log_b is not None, "no step was asked for"
    least = math.exp(_floor(log_kernel))
    kernel = torch.nn.functional.threshold(shares, least, 0, inplace=not shares.requires_grad)
    kernel = kernel if real is None else kernel.where(real, 0)
    if tau == 1:
        weight = problem.mass
    else:  # beyond this it is not safe, and infinite it would spoil the gradient
        most = 0.8 * math.log(torch.finfo(log_kernel.dtype).max)
        weight = (log_mass + (tau - 1) * ratio).clamp(-most, most).exp()
    return Scaling(log_a, log_b, kernel, weight, torch.ones_like(log_a), torch.ones_like(log_b))


def _log_sum_exp(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the logarithm of the sum of e^values along `dim`, and the shares that they have in the sum."""
    top = values.detach().amax(dim, keepdim=True)
    if values.requires_grad:
        terms = (values - top).clamp_min(_floor(values) - 1).exp()
    else:  # tables are not made anew where they need not be kept
        terms = (values - top).clamp_min_(_floor(values) - 1).exp_()
    total = terms.sum(dim, keepdim=True)
    shares = terms / total if values.requires_grad else terms.div_(total)
    return top + total.log(), shares


def _floor(values: Tensor) -> float:
    # exp takes 15 times as long where its result underflows, and sums of such numbers are slow too. What is e^floor of
    # the largest term of a sum, or of the mass of an instance, is far below rounding.
    return 0.8 * math.log(torch.finfo(values.dtype).tiny)


def _bound(dtype: torch.dtype) -> float:
    # Within this (the weights are about the column sums) an entry of the kernel that was flushed to 0 is below rounding
    # in every sum, whatever u and v multiply it by.
    return torch.finfo(dtype).max ** SAFE


def _is_safe(scaling: Scaling) -> bool:
    # Comparisons with NaN are false.
    bound = _bound(scaling.u.dtype)
    extremes = [*scaling.u.aminmax(), *scaling.v.aminmax(), *scaling.weight.sqrt().aminmax()]
    low, high = torch.stack(torch.stack(extremes).aminmax()).tolist()
    return 1 / bound <= low and high <= bound


def track(gradient: str, cost: Tensor, proportions: Tensor) -> torch.set_grad_enabled:
    """Return the context of the iterations: ``gradient`` is "unrolled" (autograd sees them) or "none"."""
    if gradient not in ("unrolled", "none"):
        raise ValueError(f'gradient must be "unrolled" or "none", got {gradient!r}')
    if gradient == "none" and proportions.requires_grad and torch.is_grad_enabled():
        raise ValueError("proportions require a gradient, which gradient='none' does not give; detach them")
    wanted = torch.is_grad_enabled() and (cost.requires_grad or proportions.requires_grad)
    return torch.set_grad_enabled(gradient == "unrolled" and wanted)


@torch.no_grad()
def row_violation(problem: Problem, scaling: Scaling) -> Tensor:
    """Return max |row sum - 1| of each bag, (B,)."""
    off = (scaling.plan().sum(1) - 1).abs()
    return (off if problem.real is None else off.where(problem.real.squeeze(1), 0)).amax(1)


@torch.no_grad()
def column_violation(problem: Problem, scaling: Scaling) -> Tensor:
    """Return max |column sum - n z| / n of each bag, (B,)."""
    off = (scaling.u * scaling.column_sums() - problem.mass).abs().where(problem.present, 0)
    return off.squeeze(2).amax(1) / problem.layout.sizes


def solution(
    problem: Problem, cost: Tensor, scaling: Scaling, regularised: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return plan (M, K), value (B,), instance potential (M,) and class potential (B, K) of the scalings.

    The value is <C, P>, or <C, P> + epsilon sum P (log P - 1). Where the iterations were not tracked, P and
    log P are constants and the gradient of either value with respect to the cost is P.
    """
    layout, table = problem.layout, scaling.plan()
    plan = layout.unpad(table.mT)
    log_a, log_b = scaling.log_a0 + scaling.u.log(), scaling.log_b0 + scaling.v.log()
    value = layout.bag_sum((plan * cost).sum(1))
    if regularised:
        value = value + problem.epsilon * (table * (problem.log_kernel + log_a + log_b - 1)).sum((1, 2))
    instance_potential = problem.epsilon * layout.unpad(log_b.squeeze(1))
    class_potential = (problem.epsilon * log_a).masked_fill(~problem.present, -torch.inf).squeeze(2)
    return plan, value, instance_potential, class_potential
