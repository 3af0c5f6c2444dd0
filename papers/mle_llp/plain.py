"""Take the E-step on the CPU by compiled loops, in one call from tensors to tensors."""

from __future__ import annotations

import struct
import threading

import numpy as np
import torch
from torch import Tensor

KINDS = {torch.int64: 0, torch.float32: 4, torch.float64: 8}
BLOCK = struct.Struct("=14q")
ROOM = 1 << 21  # bytes, enough for most: what more is needed, `solve` says
LATTICE = 100_000  # count vectors of a bag
_own = threading.local()
def _solver():
    from numba import njit
    from papers.mle_llp import loops
    f = loops.solve
    import ctypes
    from numba import types, cfunc
    g = cfunc(types.int64(types.int64))(lambda b: f(b))
    h = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p)(g.address)
    h.keep = g
    return h
_S = []


def plain(log_p: Tensor, offsets: Tensor, counts: Tensor, most_states: int = LATTICE) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Return posteriors (M, K), log-likelihoods (B,), and the bags, (b,), that plain numbers do not serve, or None.

    Counts may be proportions (B, K). None is returned of what is no problem, or not on the CPU.
    """
    if not (
        isinstance(log_p, Tensor) and isinstance(offsets, Tensor) and isinstance(counts, Tensor)
        and log_p.is_cpu and offsets.is_cpu and counts.is_cpu
        and log_p.layout == offsets.layout == counts.layout == torch.strided
        and log_p.dtype in (torch.float32, torch.float64) and offsets.dtype == torch.int64 and counts.dtype in KINDS
        and log_p.dim() == 2 and offsets.dim() == 1 and len(offsets) > 1
        and counts.shape == (len(offsets) - 1, log_p.shape[1])
    ):
        return None
    log_p, offsets, counts = log_p.detach().contiguous(), offsets.contiguous(), counts.detach().contiguous()
    if not _S:
        _S.append(_solver())
    solve=_S[0]
    bags = len(counts)
    phi, log_likelihood, known = torch.empty_like(log_p), log_p.new_empty(bags), torch.empty(bags, dtype=torch.bool)
    places = [part.data_ptr() for part in (offsets, counts, log_p, phi, log_likelihood, known)]
    sizes = bags, *log_p.shape, log_p.dtype == torch.float64, KINDS[counts.dtype], most_states
    if not hasattr(_own, "room"):
        _own.room = torch.empty(ROOM, dtype=torch.uint8)
    room = _own.room
    while True:
        left = solve(BLOCK.pack(*sizes, *places, room.data_ptr(), room.numel()))
        if left >= -1:
            break
        room = torch.empty(-left, dtype=torch.uint8)
    if left < 0:
        return None
    return phi, log_likelihood, (~known).nonzero()[:, 0] if left else None
