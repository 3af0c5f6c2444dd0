"""Run Algorithm 1 of Dulac-Arnold et al. 2019 on plain numbers, and its derivative, in as few operations as there are.

With a kernel (B, K, N) and weights w (B, K, 1), at every step

    c = kernel v        u = (w / c)^tau        r = kernel^T u        v = 1 / r

The derivative is that of the unrolled steps. It is written out because autograd would add an outer product to the
kernel's gradient twice a step: here the vectors are kept and one matrix product at the end adds them all.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

SMALL_TABLE = 400  # numbers; below it torch multiplies matrices by a loop slower than multiply and sum


class PlainSteps(torch.autograd.Function):
    """Make ``PlainSteps.apply(kernel, weight, v, absent, missing, tau, steps) -> u (B, K, 1), v (B, 1, N)``.

    `absent` (B, K, 1) and `missing` (B, 1, N) are 1 where a column or a row of the kernel is empty, else 0, or None:
    added to c and r they keep the scalings of empty columns and rows at 1 (with weight 1).
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
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
        vs[0], table = v, _table(kernel)
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
    def backward(ctx: FunctionCtx, for_u: Tensor, for_v: Tensor) -> tuple[Tensor | None, ...]:
        kernel, weight, us, columns, vs = ctx.saved_tensors
        for_columns, for_rows = torch.empty_like(columns), torch.empty_like(vs[1:])
        table, through_row, through_v = _table(kernel), torch.empty_like(for_u), torch.empty_like(for_v)
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


def _table(kernel: Tensor) -> Tensor | None:
    """Room for products with the kernel; None where matrix products serve.

    Off the CPU they do not: there torch may be told to compute them in 10 bits.
    """
    return None if kernel.device.type == "cpu" and kernel[0].numel() >= SMALL_TABLE else torch.empty_like(kernel)


def _over_instances(kernel: Tensor, v: Tensor, table: Tensor | None, out: Tensor) -> Tensor:
    if table is None:
        return torch.bmm(kernel, v.mT, out=out)
    return torch.sum(torch.mul(kernel, v, out=table), 2, keepdim=True, out=out)


def _over_classes(kernel: Tensor, u: Tensor, table: Tensor | None, out: Tensor) -> Tensor:
    if table is None:
        return torch.bmm(u.mT, kernel, out=out)
    return torch.sum(torch.mul(kernel, u, out=table), 1, keepdim=True, out=out)
