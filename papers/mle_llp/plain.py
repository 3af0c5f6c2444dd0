"""Take the E-step on the CPU by compiled loops: one call from tensors to tensors."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from shared.transport.machine import BLOCK, Loops, compiles

COUNTS = {torch.int64: 0, torch.float32: 4, torch.float64: 8}  # of counts, or of the proportions that give them
WIDE = {torch.float32: False, torch.float64: True}
PROBLEM, ROOM_OF = struct.Struct("=12q"), struct.Struct("=2q")
ROOM = 1 << 21  # bytes, enough for most problems: what more is needed, `loops.solve` says
LATTICE, UNBOUNDED = 100_000, 1 << 62  # count vectors of a bag, of more classes than two and of two
_own = threading.local()


def _found() -> dict[str, Callable]:
    from papers.mle_llp import loops

    return {"solve": loops.solve}


SOURCES = ("loops.py", "side_by_side.py", "one_by_one.py", "lanes.py")
E_STEP = Loops(
    "e-step",
    "the E-step on the CPU",
    {"solve": BLOCK},
    _found,
    [Path(__file__).with_name(name) for name in SOURCES],
    25,
)


def plain(
    log_p: Tensor, offsets: Tensor, counts: Tensor, most_states: int | None = None, of_proportions: bool = False
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Take the E-step of all bags, if they are a problem and on the CPU.

    Parameters
    ----------
    log_p : (M, K) log-probabilities, float32 or float64.
    offsets : (B + 1,) int64.
    counts : (B, K) int64; if `of_proportions`, proportions, float32 or float64, that give counts within 1e-3.
    most_states : of the lattice of a bag's counts; without it `LATTICE`, or `UNBOUNDED` for two classes.

    Returns
    -------
    Posteriors (M, K) and log-likelihoods (B,) in the dtype of `log_p`, and the bags (b,) that plain numbers do not
    serve, or None if there are none. Or None alone: of what is no problem, or is elsewhere, or a lattice too large.
    """
    if not (_fits(log_p, offsets, counts) and (counts.dtype in WIDE) is of_proportions and compiles()):
        return None
    bags, solve = len(counts), E_STEP.calls["solve"]
    log_p, offsets, counts = log_p.detach().contiguous(), offsets.contiguous(), counts.detach().contiguous()
    phi, log_likelihood = torch.empty_like(log_p), torch.empty(bags, dtype=log_p.dtype)
    known = torch.empty(bags, dtype=torch.bool)
    most_states = most_states or (UNBOUNDED if log_p.shape[1] == 2 else LATTICE)
    sizes = bags, *log_p.shape, WIDE[log_p.dtype], COUNTS[counts.dtype], most_states
    parts = offsets, counts, log_p, phi, log_likelihood, known
    problem = PROBLEM.pack(*sizes, *[part.data_ptr() for part in parts])
    left = solve(problem + ROOM_OF.pack(*_room(ROOM)))
    while left < -1:
        more = torch.empty(-left, dtype=torch.uint8)
        left = solve(problem + ROOM_OF.pack(more.data_ptr(), -left))
    if left < 0:
        return None
    return phi, log_likelihood, (~known).nonzero()[:, 0] if left else None


def _room(size: int) -> tuple[int, int]:
    """The address and the size of room that is kept from call to call."""
    try:
        return _own.room
    except AttributeError:
        _own.held = torch.empty(size, dtype=torch.uint8)
        _own.room = _own.held.data_ptr(), size
        return _own.room


def _fits(log_p: Tensor, offsets: Tensor, counts: Tensor) -> bool:
    """Whether these are tensors on the CPU of the kinds and shapes of a problem."""
    return (
        isinstance(log_p, Tensor)
        and isinstance(offsets, Tensor)
        and isinstance(counts, Tensor)
        and log_p.is_cpu
        and offsets.is_cpu
        and counts.is_cpu
        and log_p.layout == offsets.layout == counts.layout == torch.strided
        and log_p.dtype in WIDE
        and counts.dtype in COUNTS
        and offsets.dtype == torch.int64
        and offsets.dim() == 1
        and len(offsets) > 1
        and log_p.dim() == 2
        and log_p.shape[1] > 0
        and counts.shape == (len(offsets) - 1, log_p.shape[1])
    )
