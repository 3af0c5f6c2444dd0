"""Run Algorithm 1 of Dulac-Arnold et al. 2019 on plain numbers, and its derivative, in as few operations as there are.

With a kernel (B, K, N) and weights w (B, K, 1), at every step

    c = kernel v        u = (w / c)^tau        r = kernel^T u        v = 1 / r

The derivative is that of the unrolled steps. It is written out because autograd would add an outer product to the
kernel's gradient twice a step: here the vectors are kept and one matrix product at the end adds them all. On the CPU
the steps are compiled (`shared.transport.loops`); elsewhere torch multiplies and sums, for its matrix products may be
told to compute in 10 bits there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from shared.transport.constants import STOPPED, TERMS
from shared.transport.context import Context
from shared.transport.machine import Loops

EVERY = 10  # steps between looks at whether numbers are safe and bags have converged


def _found() -> dict[str, Callable]:
    from shared.transport.loops import run, run_back

    return {"run4": run, "run8": run, "run_back4": run_back, "run_back8": run_back}


RUN = "T[3] T[2] T[2] T[2] T[2] T f8 f8[1] i8 i8[1] T[2] T[2] T[3] T[3] T[3] i8[1] i8[1] T[2] f8 f8[2] f8[2]"
RUN_BACK = "T[3] T[3] T[3] T[3] T i8[1] T[2] T[2] T[3] T[3] T[1]"
KINDS = {
    f"{name}{size}": kinds.replace("T", f"f{size}")
    for name, kinds in (("run", RUN), ("run_back", RUN_BACK))
    for size in (4, 8)
}
LOOPS = Path(__file__).with_name("loops.py")
COMPILED = Loops("scaling", "entropic transport", KINDS, _found, [LOOPS], 10)


class _OfSteps(Context, Protocol):
    tau: float


class PlainSteps(torch.autograd.Function):
    """Make ``PlainSteps.apply(kernel, weight, v, absent, missing, tau, steps) -> u (B, K, 1), v (B, 1, N)``.

    `absent` (B, K, 1) and `missing` (B, 1, N) are 1 where a column or a row of the kernel is empty, else 0, or None:
    added to c and r they keep the scalings of empty columns and rows at 1 (with weight 1).
    """

    @staticmethod
    def forward(
        ctx: _OfSteps,
        kernel: Tensor,
        weight: Tensor,
        v: Tensor,
        absent: Tensor | None,
        missing: Tensor | None,
        tau: float,
        steps: int,
    ) -> tuple[Tensor, Tensor]:
        kept = steps if any(ctx.needs_input_grad[:3]) else 1
        us, columns = (kernel.new_empty(kept, *weight.shape) for _ in range(2))
        vs = kernel.new_empty(kept + 1, *v.shape)
        vs[0], table = v, torch.empty_like(kernel)
        places = list(zip(us, columns, vs[1:], strict=True)) * (steps // kept)
        for u, column, v_next in places:
            _over_instances(kernel, v, table, column)
            if absent is not None:
                column += absent
            torch.div(weight, column, out=u)
            if tau != 1:
                u.pow_(tau)
            v = _over_classes(kernel, u, table, v_next)
            if missing is not None:
                v += missing
            v.reciprocal_()
        ctx.save_for_backward(kernel, weight, us, columns, vs)
        ctx.tau = tau
        return us[-1].clone(), vs[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: _OfSteps, for_u: Tensor, for_v: Tensor) -> tuple[Tensor | None, ...]:
        kernel, weight, us, columns, vs = ctx.saved_tensors
        for_columns, for_rows = torch.empty_like(columns), torch.empty_like(vs[1:])
        table, through_row, through_v = torch.empty_like(kernel), torch.empty_like(for_u), torch.empty_like(for_v)
        u_slope, v_slope = us / columns * -ctx.tau, -vs[1:].square()  # du / dc and dv / dr of all steps
        for step in reversed(range(len(us))):
            torch.mul(for_v, v_slope[step], out=for_rows[step])
            _over_instances(kernel, for_rows[step], table, through_row)
            for_u = for_u + through_row if step == len(us) - 1 else through_row
            torch.mul(for_u, u_slope[step], out=for_columns[step])
            for_v = _over_classes(kernel, for_columns[step], table, through_v)
        for_weight = -(for_columns * columns).sum(0) / weight
        left = torch.cat([for_columns, us]).squeeze(3).permute(1, 2, 0)
        right = torch.cat([vs[:-1], for_rows]).squeeze(2).transpose(0, 1)
        return torch.bmm(left, right), for_weight, for_v, None, None, None, None


def _over_instances(kernel: Tensor, v: Tensor, table: Tensor, out: Tensor) -> Tensor:
    return torch.sum(torch.mul(kernel, v, out=table), 2, keepdim=True, out=out)


def _over_classes(kernel: Tensor, u: Tensor, table: Tensor, out: Tensor) -> Tensor:
    return torch.sum(torch.mul(kernel, u, out=table), 1, keepdim=True, out=out)


@dataclass(frozen=True)
class Stop:
    """Say when the steps of a bag end: at the numbers that are left, at unsafe ones, or once it has converged."""

    left: Tensor  # (B,) int64 steps
    bound: float  # of u and v from above and, inverted, from below
    limits: Tensor  # (B,) on what is left to converge; negative where all steps are made
    mass: Tensor  # (B, K, 1) to measure that by masses of columns; (B, 0, 1) by logarithms of their scalings


class CompiledSteps(torch.autograd.Function):
    """Make ``CompiledSteps.apply(kernel, weight, u, v, absent, missing, tau, stop) -> u, v, done (B,), safe (B,)``.

    It is `PlainSteps` on the CPU, where every bag stops by itself. A bag that ends at unsafe numbers gives back those
    of its last look, and `done` steps led to them.
    """

    @staticmethod
    def forward(
        ctx: _OfSteps,
        kernel: Tensor,
        weight: Tensor,
        u: Tensor,
        v: Tensor,
        absent: Tensor | None,
        missing: Tensor | None,
        tau: float,
        stop: Stop,
    ) -> tuple[Tensor, ...]:
        bags, classes, longest = kernel.shape
        kept = int(stop.left.max()) if any(ctx.needs_input_grad[:4]) else 0
        us, columns = (kernel.new_empty(bags, kept, classes) for _ in range(2))
        vs = kernel.new_empty(bags, kept + 1 if kept else 0, longest)
        u_end, v_end = u.clone(memory_format=torch.contiguous_format), v.clone(memory_format=torch.contiguous_format)
        done, ends = torch.empty_like(stop.left), torch.empty_like(stop.left)
        absent = torch.zeros_like(u) if absent is None else absent
        missing = torch.zeros_like(v) if missing is None else missing
        given = (kernel, weight.squeeze(2), stop.mass.squeeze(2), absent.squeeze(2), missing.squeeze(1))
        until = tau, stop.bound, stop.limits.contiguous(), EVERY, stop.left.contiguous()
        places = u_end.squeeze(2), v_end.squeeze(1), us, columns, vs, done, ends
        room = kernel.new_empty(4, max(classes, longest))
        ahead = (torch.empty(size, dtype=torch.float64) for size in ((TERMS + 2, classes), (TERMS + 1, TERMS)))
        run = COMPILED.calls[f"run{kernel.element_size()}"]
        run(
            *(tensor.contiguous() for tensor in given), *until, *places, room, torch.finfo(kernel.dtype).eps / 4, *ahead
        )
        if kept:
            most = int(done.max())
            ctx.save_for_backward(kernel, weight, us[:, :most], columns[:, :most], vs[:, : most + 1], done)
            ctx.tau = tau
        ctx.mark_non_differentiable(done, ends)
        return u_end, v_end, done, ends != STOPPED

    @staticmethod
    @once_differentiable
    def backward(ctx: _OfSteps, for_u: Tensor, for_v: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        kernel, weight, us, columns, vs, done = (tensor.contiguous() for tensor in ctx.saved_tensors)
        for_u, for_v = (slope.clone(memory_format=torch.contiguous_format) for slope in (for_u, for_v))
        for_columns, for_rows = torch.zeros_like(columns), torch.zeros_like(vs[:, 1:])
        slopes = for_u.squeeze(2), for_v.squeeze(1), for_columns, for_rows, kernel.new_empty(kernel.shape[1])
        COMPILED.calls[f"run_back{kernel.element_size()}"](kernel, us, columns, vs, ctx.tau, done, *slopes)
        made = torch.arange(us.shape[1]) < done[:, None]  # what lies beyond a bag's last step was never written
        us, columns, before = (t.masked_fill(~made[:, :, None], 0) for t in (us, columns, vs[:, :-1]))
        for_weight = -(for_columns * columns).sum(1)[:, :, None] / weight.where(done[:, None, None] > 0, 1)
        left, right = torch.cat([for_columns, us], 1), torch.cat([before, for_rows], 1)
        return torch.bmm(left.mT, right), for_weight, for_u, for_v, None, None, None, None
