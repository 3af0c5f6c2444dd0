"""Serve the binary E-step on a GPU by one launch, in place of two or three an instance of the longest bag."""

import torch
from torch import Tensor

from shared.transport.fused import on, serves

MOST_STATES = 4096  # of the rarer class and one: what the registers of a program hold
HALVINGS = {torch.float32: 300, torch.float64: 2200}  # of the widest bracket of a shift until floats end, and to spare


def takes_on(log_p: Tensor, fewer: Tensor) -> bool:
    """Tell whether the kernel takes on log-probabilities (M, 2) where they lie, with such counts (B,) on the host."""
    return serves(log_p) and len(log_p) > 0 and int(fewer.max()) < MOST_STATES


def programme(odds: Tensor, offsets: Tensor, fewer: Tensor, room: int) -> tuple[Tensor, Tensor, Tensor]:
    """Run the programme of all bags, as many at once as have room.

    Parameters
    ----------
    odds : (M,) log-odds of the rarer class.
    offsets, fewer : (B + 1,) and (B,) int64 on the host: the bags, and their counts of that class.
    room : numbers that the forward tables of the bags done at once may have.

    Returns
    -------
    Posteriors (M,), P(count) (B,) of the shifted odds, and shifts (B,).
    """
    from papers.mle_llp import kernels

    sizes, device = offsets.diff(), odds.device
    phi, (likelihood, shift) = torch.empty_like(odds), odds.new_empty(2, len(fewer))
    ends = (sizes * (fewer + 1)).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    states = 1 << int(fewer.max()).bit_length()
    blocks = {"BLOCK_N": min(1024, 1 << (int(sizes.max()) - 1).bit_length()), "BLOCK_S": max(2, states)}
    first = 0
    while first < len(fewer):
        last = max(first + 1, int(torch.searchsorted(ends, starts[first] + room, right=True)))
        places = starts[first:last] - starts[first]
        cuts, counts, places = (
            part.to(device, non_blocking=True) for part in (offsets[first : last + 1], fewer[first:last], places)
        )
        table = odds.new_empty(int(ends[last - 1] - starts[first]))
        with on(device):
            kernels.posterior[(last - first,)](
                *(odds, cuts, counts, places, table, phi, likelihood[first:], shift[first:], HALVINGS[odds.dtype]),
                **blocks,
                num_warps=min(8, max(1, max(blocks.values()) // 128)),
            )
        first = last
    return phi, likelihood, shift
