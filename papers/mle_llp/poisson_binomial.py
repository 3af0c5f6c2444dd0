"""Take the binary E-step (Section 2.3, Equation 10) by dynamic programming: O(n y) for a bag instead of C(n, y).

Given its count, a bag's posterior does not change when all its log-odds are shifted by one number. Each bag is
therefore shifted until its expected count is close to the count observed: P(count) is then at least of order 1/n, and
the programme runs on plain probabilities, in float32, without logarithms and without underflow that matters.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from papers.mle_llp import fused
from papers.mle_llp.plain import plain
from shared.bags import BagError, segment_sum
from shared.bags.check import check_offsets, check_table, check_tensor

# Numbers in the forward table of the bags that are done at once.
TABLE = {"cpu": 1 << 26, "cuda": 1 << 28}


def binary_posterior(log_p: Tensor, offsets: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Return the posterior of every label and the likelihood of every count.

    Parameters
    ----------
    log_p : (M, 2) log-probabilities of negative and positive, bag after bag; -inf is allowed.
    offsets : (B + 1,) int64 on the host.
    positives : (B,) int64 on the host, the y of the paper.

    Returns
    -------
    phi : (M,) P(h_i = 1 | X, y), in the dtype of `log_p`.
    log_likelihood : (B,) log P(y | X), Equation 2, in the dtype of `log_p`.

    Raises
    ------
    BagError
        Naming a bag whose count cannot be: outside 0..n, or of probability zero.
    """
    left = None  # the bags that are; None where no bag has an answer yet
    if isinstance(positives, Tensor) and isinstance(offsets, Tensor) and positives.shape == (len(offsets) - 1,):
        found = plain(log_p, offsets, torch.stack([offsets.diff() - positives, positives], 1))
        if found:
            phi, log_likelihood, left = found[0][:, 1], *found[1:]
            if left is None:
                return phi, log_likelihood
    check_table(log_p, "log_p")
    check_tensor(positives, "positives")
    if len(log_p):
        check_offsets(offsets, len(log_p))
    if log_p.shape[1] != 2 or positives.shape != (len(offsets) - 1,):
        shapes = f"log_p {tuple(log_p.shape)}, offsets {tuple(offsets.shape)}, positives {tuple(positives.shape)}"
        raise BagError(f"log_p (M, 2), offsets (B + 1,) and positives (B,) do not fit: {shapes}")
    sizes = offsets.diff()
    wrong = torch.nonzero((positives < 0) | (positives > sizes)).flatten().tolist()
    if wrong:
        raise BagError(f"bag {wrong[0]} of {sizes[wrong[0]]} instances cannot have {positives[wrong[0]]} positives")
    if left is None:
        phi, log_likelihood = _shifted(log_p, offsets, positives)
    else:
        rows = torch.cat([torch.arange(int(offsets[b]), int(offsets[b + 1])) for b in left.tolist()])
        cuts = torch.nn.functional.pad(sizes[left].cumsum(0), (1, 0))
        phi[rows], log_likelihood[left] = _shifted(log_p[rows], cuts, positives[left])
    impossible = ~log_likelihood.isfinite()
    if impossible.any():
        b = int(impossible.nonzero()[0])
        why = "NaN among its log-probabilities" if log_likelihood[b].isnan() else "probability 0"
        raise BagError(f"bag {b}: {positives[b]} positives of {sizes[b]} have {why}")
    return phi, log_likelihood


def _shifted(log_p: Tensor, offsets: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """As `binary_posterior`, by torch or, on a GPU, by one launch; what cannot be has no finite log-likelihood."""
    sizes = offsets.diff()
    there = partial(Tensor.to, device=log_p.device, non_blocking=True)  # a copy that nobody waits for
    # Counting the rarer class halves the states.
    swap = positives > sizes // 2
    fewer = torch.where(swap, sizes - positives, positives)
    swapped = there(swap.repeat_interleave(sizes))
    negative, positive = log_p.unbind(1)
    other, one = torch.where(swapped, positive, negative), torch.where(swapped, negative, positive)
    room = TABLE.get(log_p.device.type, TABLE["cuda"])
    solve = fused.programme if fused.takes_on(log_p, fewer) else _in_groups
    phi, likelihood, shift = solve(one - other, offsets, fewer, room)
    phi = torch.where(swapped, 1 - phi, phi)
    phi = phi.masked_fill(negative == -torch.inf, 1.0).masked_fill(positive == -torch.inf, 0.0)
    # Whole sums of large terms of both signs: in float64, or the shift would eat the digits.
    shift, sizes_there = shift.double(), there(sizes)
    scale = torch.logaddexp(other.double(), one.double() + shift.repeat_interleave(sizes_there, output_size=len(log_p)))
    scale = segment_sum(scale[:, None], offsets)[:, 0] - shift * there(fewer)
    log_likelihood = (likelihood.double().log() + scale).to(log_p)
    pure = fewer == 0
    if pure.any():
        pure_there = there(pure)
        pure_rows = pure_there.repeat_interleave(sizes_there, output_size=len(log_p))
        phi = torch.where(pure_rows, swapped.to(log_p), phi)
        log_likelihood = torch.where(pure_there, segment_sum(other[:, None], offsets)[:, 0], log_likelihood)
    return phi, log_likelihood


def _in_groups(odds: Tensor, offsets: Tensor, fewer: Tensor, room: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `fused.programme`, by torch: bags that are alike together."""
    # One more place, a sure negative: what pads bags that are smaller than the largest of their group.
    padded = torch.nn.functional.pad(odds, (0, 1), value=-torch.inf)
    phi, likelihood, shift = torch.zeros_like(padded), odds.new_zeros(len(fewer)), odds.new_zeros(len(fewer))
    sizes, there = offsets.diff(), partial(Tensor.to, device=odds.device, non_blocking=True)
    for group in _alike(sizes, fewer, room):
        place = offsets[group] + torch.arange(int(sizes[group].max()))[:, None]
        place = there(torch.where(place < offsets[group + 1], place, len(odds)))
        some, y, group_there = padded.take(place), there(fewer[group]), there(group)
        moved = _shift(some, y)
        p, q = torch.sigmoid(some + moved), torch.sigmoid(-some - moved)
        post, total = _programme(p, q, y, int(fewer[group].max()), int(fewer[group].min()))
        phi.put_(place, post)
        likelihood[group_there], shift[group_there] = total, moved
    return phi[:-1], likelihood, shift


def _alike(sizes: Tensor, fewer: Tensor, table: int):
    """Groups of bags, of one size within a factor of two, whose forward table fits; each as indices."""
    order = torch.argsort(sizes * (int(sizes.max()) + 1) + fewer) if len(sizes) else torch.arange(0)
    octave = sizes[order].clamp_min(16).sub(1).double().log2().floor()
    for group in torch.split(order, torch.unique_consecutive(octave, return_counts=True)[1].tolist()):
        states = (int(sizes[group].max()) + 1) * (int(fewer[group].max()) + 2)
        yield from torch.split(group, max(1, table // states))


def _shift(odds: Tensor, y: Tensor) -> Tensor:
    """(n, B) log-odds -> (B,) shifts after which every bag expects its y positives, to half of one.

    Any shift is exact; this one keeps P(y) of order 1/n. Newton's method, in a bracket of all log-odds at first, then,
    where outliers made that too wide, in one around the y-th largest.
    """
    sure, never = odds == torch.inf, odds == -torch.inf
    unsure, target = ~(sure | never), y.to(odds)
    n = unsure.sum(0)
    inner = torch.minimum((y - sure.sum(0)).clamp_min(0.25), n - 0.25).clamp_min(0.25)
    level = torch.logit(inner / n.clamp_min(1), 1e-6).to(odds)
    low = level - odds.masked_fill(~unsure, -torch.inf).amax(0)
    high = level - odds.masked_fill(~unsure, torch.inf).amin(0)
    start = level - odds.masked_fill(~unsure, 0.0).sum(0) / n.clamp_min(1)
    shift, far = _newton(odds, target, start, low, high, 12)
    far &= n > 0
    if not bool(far.any()):
        return shift.masked_fill(n == 0, 0.0)
    descending = torch.nn.functional.pad(odds.sort(0, descending=True).values, (0, 0, 1, 1))
    descending[0], descending[-1] = torch.inf, -torch.inf
    room = math.log(2 * len(odds))
    low = -descending.gather(0, y[None] + 1)[0] - room
    high = -descending.gather(0, y[None])[0] + room
    low, high = torch.where(low.isinf(), high, low), torch.where(high.isinf(), low, high)
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    again, _ = _newton(odds, target, low / 2 + high / 2, low, high, 40)
    return torch.where(far, again, shift).nan_to_num(0.0, 0.0, 0.0)


def _newton(odds: Tensor, target: Tensor, shift: Tensor, low: Tensor, high: Tensor, steps: int):
    """(shift, where it is still far) after some steps, each halving the bracket where Newton's would leave it."""
    for _ in range(steps):
        p = torch.sigmoid(odds + shift)
        excess = p.sum(0) - target
        far = excess.abs() > 0.5
        if not bool(far.any()):
            break
        low, high = torch.where(excess < 0, shift, low), torch.where(excess > 0, shift, high)
        step = shift - excess / (p - p * p).sum(0)
        shift = torch.where(far, torch.where((step > low) & (step < high), step, low / 2 + high / 2), shift)
    return shift, far


def _programme(p: Tensor, q: Tensor, y: Tensor, most: int, least: int) -> tuple[Tensor, Tensor]:
    """(n, B) probabilities of one and the other class, counts y in least..most -> (n, B) posteriors, (B,) P(y).

    before[i, 1 + s] = P(s positives before instance i); after[s] = P(y in all | s positives up to here).
    Only the s that can still end at a count in least..most are touched; a row of zeros stands for s = -1.
    """
    n, bags = p.shape
    # Not zeroed as a whole: no place is read that was not written, and touching them all costs as much as the rest.
    before = p.new_empty(n + 1, most + 2, bags)
    before[:, 0], before[0, 1:], before[0, 1] = 0, 0, 1
    for i in range(n):
        low, high = max(0, least - (n - i)), min(i, most)
        row, new = before[i], before[i + 1]
        top = min(high + 1, most)
        torch.mul(row[low : top + 1], p[i], out=new[low + 1 : top + 2])
        new[low + 1 : high + 2].addcmul_(row[low + 1 : high + 2], q[i])
    total = before[n].gather(0, y[None] + 1)[0]
    after = p.new_zeros(most + 2, bags).scatter_(0, y[None], 1.0)
    spare, product = torch.zeros_like(after), torch.empty_like(after)
    phi = torch.empty_like(p)
    for i in reversed(range(n)):
        low, high = max(0, least - (n - i)), min(i, most)
        # s before instance i, s + 1 after it.
        ahead = after[low + 1 : high + 2]
        torch.mul(before[i, low + 1 : high + 2], ahead, out=product[low : high + 1])
        torch.sum(product[low : high + 1], 0, out=phi[i])
        torch.mul(after[low : high + 1], q[i], out=spare[low : high + 1])
        spare[low : high + 1].addcmul_(ahead, p[i])
        after, spare = spare, after
    return (phi.mul_(p) / total).clamp_(max=1), total
