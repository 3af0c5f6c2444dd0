"""Let small losses on the CPU be one call of compiled code: there an operator of torch costs more than its numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

MOST = 2**15  # numbers of a table: of more, torch takes exponentials several at once and on several threads
MEAN_LOGS = Path(__file__).with_name("mean_logs.py")
KINDS = (torch.float32, torch.float64)


def fits(table: Tensor, offsets: Tensor, proportions: Tensor, times: int = 1) -> bool:
    """Tell whether compiled code takes a table (M, K), offsets and proportions as they lie.

    Then they have the form of a problem, see `shared.bags.check_bags`, but for the values of the offsets. It takes
    `times` as many numbers as `MOST`.
    """
    return (
        type(table) is type(offsets) is type(proportions) is Tensor
        and table.is_cpu
        and offsets.is_cpu
        and proportions.is_cpu
        and table.dtype in KINDS
        and proportions.dtype == table.dtype
        and offsets.dtype == torch.int64
        and table.layout == offsets.layout == proportions.layout == torch.strided
        and table.dim() == 2
        and offsets.dim() == 1
        and 0 < table.numel() <= MOST * times
        and proportions.shape == (len(offsets) - 1, table.shape[1])
        and len(proportions) > 0
        and table.is_contiguous()
        and offsets.is_contiguous()
        and proportions.is_contiguous()
        and _compiles()
    )


@cache
def _compiles() -> bool:
    return find_spec("numba") is not None


def differentiable_once(backward: Callable[..., tuple[Tensor | None, ...]]) -> Any:
    """Return torch's `once_differentiable`, which takes longer than a small loss, but where no graph is made."""
    guarded = once_differentiable(backward)

    @wraps(backward)
    def chosen(ctx: FunctionCtx, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        return (guarded if torch.is_grad_enabled() else backward)(ctx, *slopes)

    return staticmethod(chosen)
