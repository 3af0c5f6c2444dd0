"""Run the binary E-step of `papers.mle_llp.poisson_binomial` as a Triton kernel, one program a bag.

The program of a bag finds its shift, runs forward over the instances, keeping P(s positives before i) in its part of
a table, and back. The states are a vector that one step moves by a place.
"""

import triton
import triton.language as tl


@triton.jit
def _sigmoid(x):
    """1 / (1 + e^-x) without overflow; all digits kept at either end."""
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1 / (1 + small), small / (1 + small))


@triton.jit
def _span(odds, start, n, BLOCK_N: tl.constexpr):
    """Of the instances that are not sure: how many, sum, least and greatest; and the number of sure positives."""
    inf: tl.constexpr = float("inf")
    sure, unsure = 0, 0
    total = tl.sum(tl.zeros((BLOCK_N,), odds.dtype.element_ty), 0)
    least, greatest = total + inf, total - inf
    for first in range(0, n, BLOCK_N):
        i = first + tl.arange(0, BLOCK_N)
        x = tl.load(odds + start + i, mask=i < n, other=-inf)
        free = (x > -inf) & (x < inf)
        sure += tl.sum((x == inf).to(tl.int32), 0)
        unsure += tl.sum(free.to(tl.int32), 0)
        total += tl.sum(tl.where(free, x, 0), 0)
        least = tl.minimum(least, tl.min(tl.where(free, x, inf), 0))
        greatest = tl.maximum(greatest, tl.max(tl.where(free, x, -inf), 0))
    return sure, unsure, total, least, greatest


@triton.jit
def _shift(odds, start, n, y, steps, BLOCK_N: tl.constexpr):
    """The shift after which the bag expects y positives, to half of one: Newton in a bracket, then halving it."""
    sure, unsure, total, low, high = _span(odds, start, n, BLOCK_N)
    dtype: tl.constexpr = odds.dtype.element_ty
    count = tl.maximum(unsure, 1).to(dtype)
    inner = tl.maximum(tl.minimum(tl.maximum((y - sure).to(dtype), 0.25), unsure.to(dtype) - 0.25), 0.25)
    part = tl.minimum(tl.maximum(inner / count, 1e-6), 1 - 1e-6)
    level = tl.log(part / (1 - part))
    low, high = level - high, level - low
    # An end of the bracket may be the only float that serves; halving never tries the ends.
    low, high = low - 1 - 1e-6 * tl.abs(low), high + 1 + 1e-6 * tl.abs(high)
    shift = level - total / count
    step = 0
    going = unsure > 0
    while going:
        expected, slope = shift * 0, shift * 0
        for first in range(0, n, BLOCK_N):
            i = first + tl.arange(0, BLOCK_N)
            p = _sigmoid(tl.load(odds + start + i, mask=i < n, other=float("-inf")) + shift)
            expected += tl.sum(p, 0)
            slope += tl.sum(p - p * p, 0)
        excess = expected - y.to(dtype)
        going = tl.abs(excess) > 0.5
        if going:
            low = tl.where(excess < 0, shift, low)
            high = tl.where(excess > 0, shift, high)
            middle = low / 2 + high / 2
            newton = shift - excess / tl.maximum(slope, 1e-30)
            better = (newton > low) & (newton < high) & (step < 12)
            moved = tl.where(better, newton, middle)
            going = (moved != shift) & (step < steps)
            shift = moved
        step += 1
    return tl.where(unsure > 0, shift, 0)


@triton.jit
def posterior(
    odds, offsets, counts, places, table, phi, likelihood, shifts, steps,
    BLOCK_N: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """(M,) log-odds, (B,) counts -> (M,) posteriors, (B,) P(count) under the shifted odds, (B,) shifts.

    `table` has room for n (y + 1) numbers of each bag from `places` (B,) on. The posterior of state s is
    before[s] p after[s + 1] / P(y), where after[s] = P(y in all | s positives up to here).
    """
    bag = tl.program_id(0)
    start = tl.load(offsets + bag)
    n = (tl.load(offsets + bag + 1) - start).to(tl.int32)
    y = tl.load(counts + bag).to(tl.int32)
    states = tl.arange(0, BLOCK_S)
    used = states <= y
    rows = table + tl.load(places + bag) + states
    shift = _shift(odds, start, n, y, steps, BLOCK_N)
    before = tl.where(states == 0, 1, 0).to(odds.dtype.element_ty)
    below, above = tl.maximum(states - 1, 0), tl.minimum(states + 1, BLOCK_S - 1)
    for i in range(n):
        tl.store(rows + i * (y + 1), before, mask=used)
        x = tl.load(odds + start + i) + shift
        p, q = _sigmoid(x), _sigmoid(-x)
        before = before * q + tl.where(states > 0, tl.gather(before, below, 0), 0) * p
        before = tl.where(used, before, 0)
    total = tl.sum(tl.where(states == y, before, 0), 0)
    tl.debug_barrier()  # the rows that other threads of this program stored are read below
    after = tl.where(states == y, 1, 0).to(odds.dtype.element_ty)
    for back in range(n):
        i = n - 1 - back
        x = tl.load(odds + start + i) + shift
        p, q = _sigmoid(x), _sigmoid(-x)
        ahead = tl.where(states < y, tl.gather(after, above, 0), 0)
        row = tl.load(rows + i * (y + 1), mask=used, other=0)
        tl.store(phi + start + i, tl.minimum(tl.sum(row * ahead, 0) * p / total, 1))
        after = tl.where(used, after * q + ahead * p, 0)
    tl.store(likelihood + bag, total)
    tl.store(shifts + bag, shift)
