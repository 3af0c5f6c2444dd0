"""Posteriors of labels given a bag's class counts (Equation 10, for any number of classes), compiled, a bag at a time.

The sum over label vectors runs over a lattice of count vectors: how many instances of each class a prefix of the bag
holds. It is made of plain numbers. That is safe because neither a factor for each class nor one for each instance
changes a posterior: the first are chosen so that the counts expected are about those observed, the second so that the
probabilities of an instance sum to 1. Then P(counts) is far from underflow, and as all terms are positive, what
underflows beside it is below rounding. Where it is not so, the bag says so.

A count vector is a flat index of mixed radix over all classes but the most frequent, whose count follows from the
number of instances seen. The classes of small strides make a block of neighbouring states, which one loop runs over.
"""

import math

import numpy as np
from numba import njit

BLOCK = 48  # states of a block, at least, if there are as many
STEPS = 40  # towards factors of the classes
NEAR = 0.5  # of each class, between the counts expected and observed
LEAST = 1e-150  # P(counts) at which plain numbers are believed

compiled = njit(nogil=True, error_model="numpy")
vectorised = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})


@compiled
def shifted(log_q, counts, level, q):
    """Choose logarithms of factors `level` of the classes; write shares q (n, J) and return what they were divided by.

    The logarithm of the product over instances is returned; NaN where an instance has no class at all.
    """
    n, slots = log_q.shape
    expected, scale = np.empty(slots), 0.0
    level[:] = 0
    for step in range(STEPS + 1):
        expected[:], scale = 0, 0.0
        for i in range(n):
            top = -np.inf
            for j in range(slots):
                top = max(top, log_q[i, j] + level[j])
            if not -np.inf < top < np.inf:
                return np.nan
            total = 0.0
            for j in range(slots):
                q[i, j] = math.exp(log_q[i, j] + level[j] - top)
                total += q[i, j]
            for j in range(slots):
                q[i, j] /= total
                expected[j] += q[i, j]
            scale += top + math.log(total)
        far = False
        for j in range(slots):
            far |= abs(expected[j] - counts[j]) > NEAR
        if not far or step == STEPS:
            break
        for j in range(slots):
            level[j] += math.log(counts[j] / max(expected[j], 1e-300))
    return scale


@vectorised
def add(out, factor, values):
    """Add factor times values to out."""
    for s in range(len(out)):
        out[s] += factor * values[s]


@vectorised
def add_product(out, factor, inside, values):
    """Add factor times inside times values to out."""
    for s in range(len(out)):
        out[s] += factor * (inside[s] * values[s])


@vectorised
def multiplied(out, factor, values):
    """Write factor times values into out."""
    for s in range(len(out)):
        out[s] = factor * values[s]


@vectorised
def summed(values, others):
    """Return the sum of the products of two rows."""
    total = 0.0
    for s in range(len(values)):
        total += values[s] * others[s]
    return total


@vectorised
def back(out, factor, inside, ahead, before):
    """Add a step back to `out`; return what passes it, of what is `before`."""
    total = 0.0
    for s in range(len(out)):
        reached = inside[s] * ahead[s]
        total += before[s] * reached
        out[s] += factor * reached
    return total


@compiled
def lattice(q, counts, table, two, phi):
    """Return P(counts) under shares q (n, J) of slots by falling counts, all positive; write unscaled phi (n, J).

    `table` (n + 1, S) and `two` (2, S) are room for the S states.
    """
    n, slots = q.shape
    stride = np.ones(slots, np.int64)
    for j in range(1, slots):
        stride[j] = stride[j - 1] * (counts[j - 1] + 1) if j > 1 else 1
    states = table.shape[1]
    inner = 1  # slots 1 to inner - 1 make a block
    block = 1
    while inner < slots and block < BLOCK:
        block *= counts[inner] + 1
        inner += 1
    blocks = states // block
    inside = np.empty((inner, block))
    deepest = 0
    for j in range(1, inner):
        deepest += counts[j]
        for s in range(block):
            inside[j, s] = 1.0 if s // stride[j] % (counts[j] + 1) > 0 else 0.0
    digits, level = np.zeros((blocks, slots), np.int64), np.zeros(blocks, np.int64)
    for o in range(blocks):
        for j in range(inner, slots):
            digits[o, j] = o * block // stride[j] % (counts[j] + 1)
            level[o] += digits[o, j]

    table[:] = 0
    table[0, 0] = 1
    for i in range(n):
        for o in range(blocks):
            # Of the most frequent class there are neither fewer than none nor more than its count.
            if level[o] > i + 1 or level[o] + deepest < i + 1 - counts[0]:
                continue
            start, stop = o * block, (o + 1) * block
            out, same = table[i + 1, start:stop], table[i, start:stop]
            multiplied(out, q[i, 0], same)
            for j in range(1, inner):
                step = stride[j]
                add_product(out[step:], q[i, j], inside[j, step:], same[: block - step])
            for j in range(inner, slots):
                if digits[o, j] > 0:
                    add(out, q[i, j], table[i, start - stride[j] : stop - stride[j]])
    total = table[n, states - 1]
    two[:] = 0
    two[n % 2, states - 1] = 1
    for i in range(n - 1, -1, -1):
        ahead, now = two[(i + 1) % 2], two[i % 2]
        phi[i] = 0
        for o in range(blocks):
            start, stop = o * block, (o + 1) * block
            if level[o] > i or level[o] + deepest < i - counts[0]:
                now[start:stop] = 0
                continue
            out, same, before = now[start:stop], ahead[start:stop], table[i, start:stop]
            multiplied(out, q[i, 0], same)
            phi[i, 0] += summed(before, same)
            for j in range(1, inner):
                step = stride[j]
                phi[i, j] += back(out[: block - step], q[i, j], inside[j, step:], same[step:], before[: block - step])
            for j in range(inner, slots):
                if digits[o, j] < counts[j]:
                    other = ahead[start + stride[j] : stop + stride[j]]
                    phi[i, j] += summed(before, other)
                    add(out, q[i, j], other)
        for j in range(slots):
            phi[i, j] *= q[i, j]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def solve(log_p, offsets, counts, phi, log_likelihood, known):
    """Take the E-step of all bags.

    Parameters
    ----------
    log_p (M, K), offsets (B + 1,), counts (B, K) : as of `lattice_posterior`
    phi (M, K), log_likelihood (B,) : take the answer
    known : (B,) takes whether it is one; plain numbers do not serve bags of probability 0, or next to it
    """
    n_classes = counts.shape[1]
    longest, most_table, most_states = 1, 1, 1
    for b in range(len(counts)):
        n, top, states = offsets[b + 1] - offsets[b], 0, 1
        for k in range(n_classes):
            states *= counts[b, k] + 1
            top = max(top, counts[b, k])
        states //= top + 1
        longest, most_states = max(longest, n), max(most_states, states)
        most_table = max(most_table, (n + 1) * states)
    room, room_back = np.empty(most_table), np.empty(2 * most_states)
    log_q, shares = np.empty((longest, n_classes)), np.empty((longest, n_classes))
    found = np.empty((longest, n_classes))
    level, counted = np.empty(n_classes), np.empty(n_classes, np.int64)
    for b in range(len(counts)):
        start, n = offsets[b], offsets[b + 1] - offsets[b]
        order = np.argsort(-counts[b], kind="mergesort")
        slots, states = 0, 1
        for k in order:
            if counts[b, k] > 0:
                counted[slots] = counts[b, k]
                states *= counts[b, k] + 1 if slots > 0 else 1
                slots += 1
        known[b], log_likelihood[b] = slots > 0, 0.0
        if slots == 0:
            known[b] = True
            continue
        for i in range(n):
            for j in range(slots):
                log_q[i, j] = log_p[start + i, order[j]]
        q, phi_q = shares[:n, :slots], found[:n, :slots]
        scale = shifted(log_q[:n, :slots], counted[:slots], level[:slots], q)
        total = np.nan
        if scale == scale:
            table = room[: (n + 1) * states].reshape(n + 1, states)
            two = room_back[: 2 * states].reshape(2, states)
            total = lattice(q, counted[:slots], table, two, phi_q)
        known[b] = total > LEAST
        if not known[b]:
            continue
        log_likelihood[b] = math.log(total) + scale
        for j in range(slots):
            log_likelihood[b] -= level[j] * counted[j]
        for i in range(n):
            phi[start + i] = 0
            row = 0.0
            for j in range(slots):
                row += phi_q[i, j]
            for j in range(slots):
                phi[start + i, order[j]] = phi_q[i, j] / row
