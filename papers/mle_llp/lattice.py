"""Take the E-step for K classes, beyond the paper: Equation 10's posteriors of labels given a bag's class counts.

The paper's bags have two classes and its sum over label vectors grows as 2^n. Here the sum runs over a lattice of count
vectors: how many instances of each class a prefix of the bag holds. Exact, for few classes or small bags.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from papers.mle_llp.plain import plain
from shared.bags import BagError
from shared.bags.check import check_table

TABLE_BYTES = 2**28  # what the tables of bags taken together may occupy; a single bag may need more


@torch.no_grad()
def lattice_posterior(
    log_p: Tensor, offsets: Tensor, counts: Tensor, max_states: int = 100_000
) -> tuple[Tensor, Tensor]:
    """Return P(h_i = k | bag, counts) for instances whose labels are independent given their inputs.

    Parameters
    ----------
    log_p : (M, K) log-probabilities, bag after bag, K >= 1; -inf is a probability of 0. Rows need not sum to 1.
    offsets : (B + 1,) int64 on the host.
    counts : (B, K) int64 on the host, instances of each class; a row sums to the size of its bag.
    max_states : the largest lattice taken on, in count vectors: the product of ``counts + 1`` over all classes but
        the most frequent. Time is states x n x K; memory of one bag, 8 bytes x states x (n + 5 K).

    Returns
    -------
    phi : (M, K) in the dtype of `log_p`, rows sum to 1; exactly 0 or 1 where probabilities or counts leave no choice.
    log_likelihood : (B,) in nats, log of the sum of ``prod_i p_{i, h_i}`` over label vectors h with these counts.

    Raises
    ------
    BagError
        Names the first bag whose counts are negative, do not sum to its size, or have probability 0; whose `log_p`
        holds NaN or +inf; or whose lattice exceeds `max_states`.
    """
    found = plain(log_p, offsets, counts, max_states)
    if found and found[2] is None:
        return found[:2]
    _check(log_p, offsets, counts, max_states)
    order = counts.argsort(dim=1, descending=True, stable=True)
    ordered = counts.gather(1, order)
    phi, log_likelihood, some = found or (torch.empty_like(log_p), log_p.new_empty(len(counts)), None)
    left = torch.arange(len(counts)) if some is None else some
    # float64 whatever the input: float32 knows a logarithm of 1e4 to 1e-3, and phi would be known no better.
    work = log_p.double()
    for chunk in _chunks(offsets.diff()[left], ordered[left]):
        bags = left[chunk]
        rows, posteriors, likelihoods = _solve(work, offsets, bags, order[bags], ordered[bags])
        phi[rows] = posteriors.to(phi.dtype)
        log_likelihood[bags.to(work.device)] = likelihoods.to(phi.dtype)
    impossible = log_likelihood == -torch.inf
    if impossible.any():
        b = int(impossible.nonzero()[0])
        raise BagError(f"bag {b}: counts {counts[b].tolist()} have probability 0")
    return phi, log_likelihood


def _check(log_p: Tensor, offsets: Tensor, counts: Tensor, max_states: int) -> None:
    check_table(log_p, "log_p")
    if offsets.dim() != 1 or counts.shape != (len(offsets) - 1, log_p.shape[1]):
        shapes = f"log_p {tuple(log_p.shape)}, offsets {tuple(offsets.shape)}, counts {tuple(counts.shape)}"
        raise BagError(f"log_p (M, K), offsets (B + 1,) and counts (B, K) do not fit: {shapes}")
    sizes = offsets.diff()
    if int(offsets[0]) != 0 or int(offsets[-1]) != len(log_p) or bool((sizes < 0).any()):
        raise BagError(f"offsets must rise from 0 to the {len(log_p)} instances, got {offsets}")
    wrong = (counts < 0).any(1) | (counts.sum(1) != sizes)
    if wrong.any():
        b = int(wrong.nonzero()[0])
        raise BagError(f"bag {b}: counts {counts[b].tolist()} are not those of {int(sizes[b])} instances")
    improper = ~(log_p < torch.inf).all(1)
    if improper.any():
        i = int(improper.nonzero()[0])
        b = int(torch.searchsorted(offsets, i, right=True)) - 1
        raise BagError(f"bag {b}: log_p of instance {i} is {log_p[i].tolist()}")
    # The product overflows int64 with many classes, so it is compared in logarithms, and told as a Python integer.
    grid = (counts + 1).double().log()
    for b in (grid.sum(1) - grid.amax(1) > math.log(max_states) - 1e-6).nonzero()[:, 0].tolist():
        row, n = counts[b].tolist(), int(sizes[b])
        states = math.prod(y + 1 for y in row) // (max(row) + 1)
        if states > max_states:
            raise BagError(
                f"bag {b}: counts {row} span {states:,} count vectors, above max_states={max_states:,}; they would "
                f"take {states * n * len(row):,} operations ({n} instances, {len(row)} classes). "
                "Take smaller bags or fewer classes, or raise max_states="
            )


def _chunks(sizes: Tensor, ordered: Tensor) -> list[Tensor]:
    """Bags to be solved together: alike within a factor of two in lattice and in size, within TABLE_BYTES."""
    states = (ordered[:, 1:] + 1).prod(1)
    doublings = torch.stack([states, sizes.clamp_min(1)], 1).double().log2().ceil()
    chunks = []
    for kind in doublings.unique(dim=0):
        bags = (doublings == kind).all(1).nonzero()[:, 0]
        slots = int((ordered[bags] > 0).sum(1).max())
        each = 8 * int(states[bags].max()) * (int(sizes[bags].max()) + 5 * slots)
        chunks += bags.split(max(1, TABLE_BYTES // max(each, 1)))
    return chunks


def _solve(log_p: Tensor, offsets: Tensor, bags: Tensor, order: Tensor, counts: Tensor) -> tuple[Tensor, ...]:
    """Return rows of `log_p`, their posteriors, and the log-likelihoods of some bags, classes as in `order`.

    Slot 0 is the most frequent class: its count follows from the number of instances seen and is not in the state.
    """
    device, start, sizes = log_p.device, offsets[bags], offsets.diff()[bags]
    longest, slots = int(sizes.max()), max(1, int((counts > 0).sum(1).max()))
    steps = torch.arange(longest)
    real = (steps < sizes[:, None]).to(device)
    rows = (start[:, None] + steps).clamp_max(len(log_p) - 1).to(device)
    # (b, longest, slots); a place that holds no instance goes to slot 0 with probability 1 and changes no state.
    log_q = log_p[rows].gather(2, order[:, None, :slots].to(device).expand(-1, longest, -1))
    nobody = log_p.new_full((slots,), -torch.inf)
    nobody[0] = 0
    log_q = torch.where(real[:, :, None], log_q, nobody)

    down, up, last = _moves(counts[:, :slots].to(device))
    table = log_p.new_full((len(bags), down.shape[2] + 1), -torch.inf)  # the last place stands for no state
    table[:, 0] = 0
    forward = []
    for i in range(longest):
        forward.append(table[:, :-1])
        table = _closed(_reached(table, down, log_q[:, i]).logsumexp(1))
    log_likelihood = table.gather(1, last).squeeze(1)

    posterior = torch.zeros_like(log_q)
    table = torch.full_like(table, -torch.inf).scatter(1, last, 0.0)
    for i in reversed(range(longest)):
        terms = _reached(table, up, log_q[:, i])
        top = terms.amax(1)
        share = (terms - top.clamp_min(torch.finfo(top.dtype).min)[:, None]).exp_()
        total = share.sum(1).clamp_min(1)  # 0 only where the end is out of reach
        table = _closed(top + total.log())
        visited = (forward.pop() + table[:, :-1]).softmax(1)
        posterior[:, i] = (share @ (visited / total)[:, :, None]).squeeze(2)
    posterior /= posterior.sum(2, keepdim=True)
    absent = torch.zeros(len(bags), longest, log_p.shape[1] - slots, dtype=log_p.dtype, device=device)
    posterior = torch.cat([posterior, absent], 2)
    by_class = torch.zeros_like(posterior).scatter(2, order.to(device)[:, None].expand_as(posterior), posterior)
    return rows[real], by_class[real], log_likelihood


def _moves(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbours in each bag's lattice, one instance less and one more of a slot's class.

    `counts` is (b, slots); a state is the flat index of a count vector over slots 1 on. Returns two (b, slots, states)
    tensors of states, with the number of states where there is no neighbour, and (b, 1) the state of the full counts.
    """
    width = counts + 1
    width[:, 0] = 1
    stride = width.cumprod(1) // width
    total = width.prod(1)[:, None, None]
    none = int(total.max())
    state = torch.arange(none, device=counts.device)
    digit = state // stride[:, :, None] % width[:, :, None]
    stride[:, 0] = 0
    inside = (state < total).expand_as(digit).clone()
    slot0 = torch.arange(counts.shape[1], device=counts.device)[:, None] == 0
    down = torch.where(inside & (slot0 | (digit > 0)), state - stride[:, :, None], none)
    up = torch.where(inside & (slot0 | (digit < width[:, :, None] - 1)), state + stride[:, :, None], none)
    return down, up, total[:, :, 0] - 1


def _reached(table: Tensor, neighbours: Tensor, log_q: Tensor) -> Tensor:
    """(b, slots, states): the logarithm of what comes from each neighbour with the instance in that slot."""
    return table.gather(1, neighbours.flatten(1)).view(neighbours.shape) + log_q[:, :, None]


def _closed(table: Tensor) -> Tensor:
    """Append the place of no state."""
    return torch.nn.functional.pad(table, (0, 1), value=-torch.inf)
