"""Take the E-step of one bag, compiled: over a large lattice of counts, of which many states are done at once.

A count vector is a flat index of mixed radix over all classes but the most frequent, whose count follows from the
number of instances seen. The classes of small strides make a block of neighbouring states, which one loop runs over.
"""

import math

from shared.transport.bare import compiled, doubles, longs, vectorised

BLOCK = 48  # states of a block, at least, if there are as many
STEPS = 40  # towards factors of the classes
NEAR = 0.5  # of each class, between the counts expected and observed
LEAST = 1e-150  # P(counts) at which plain numbers are believed
SAFE = 230.0  # nats of all label vectors, up to which what underflows is nothing beside `LEAST` even where it counts most


@compiled
def room_of(n, slots, states):
    """The bytes that `alone` works in."""
    return 8 * ((n + 4) * states + 2 * slots * states + 3 * n * slots + 4 * slots)


@compiled
def plain_shares(log_q, q):
    """Write shares q (n, J), the largest of an instance 1, and return the logarithm of what they were divided by."""
    n, slots = log_q.shape
    scale = 0.0
    for i in range(n):
        top = log_q[i, 0]
        for j in range(1, slots):
            top = max(top, log_q[i, j])
        for j in range(slots):
            q[i, j] = math.exp(log_q[i, j] - top)
        scale += top
    return scale


@compiled
def shifted(log_q, counts, level, expected, q):
    """Choose logarithms of factors `level` of the classes; write shares q (n, J) and return what they were divided by.

    The logarithm of the product over instances is returned; NaN where an instance has no class at all.
    """
    n, slots = log_q.shape
    scale = 0.0
    level[:] = 0
    for step in range(STEPS + 1):
        expected[:], scale = 0, 0.0
        for i in range(n):
            top = -math.inf
            for j in range(slots):
                top = max(top, log_q[i, j] + level[j])
            if not -math.inf < top < math.inf:
                return math.nan
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
def lattice(q, counts, table, room, phi):
    """Return P(counts) under shares q (n, J) of slots by falling counts, all positive; write posteriors phi (n, J).

    `table` (n + 1, S) is room for the S states, and at `room` there is more.
    """
    n, slots = q.shape
    stride = longs(room, 1, slots)[0]
    stride[0] = 1
    for j in range(1, slots):
        stride[j] = stride[j - 1] * (counts[j - 1] + 1) if j > 1 else 1
    states = table.shape[1]
    inner = 1  # slots 1 to inner - 1 make a block
    block = 1
    while inner < slots and block < BLOCK:
        block *= counts[inner] + 1
        inner += 1
    blocks = states // block
    two = doubles(room + 8 * slots, 2, states)
    inside = doubles(room + 8 * (slots + 2 * states), inner, block)
    deepest = 0
    for j in range(1, inner):
        deepest += counts[j]
        for s in range(block):
            inside[j, s] = 1.0 if s // stride[j] % (counts[j] + 1) > 0 else 0.0
    digits_at = room + 8 * (slots + 2 * states + inner * block)
    digits, level = longs(digits_at, blocks, slots), longs(digits_at + 8 * blocks * slots, 1, blocks)[0]
    for o in range(blocks):
        level[o] = 0
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
        passed = 0.0
        for j in range(slots):
            phi[i, j] *= q[i, j]
            passed += phi[i, j]
        for j in range(slots):
            phi[i, j] /= passed
    return total


@compiled
def alone(log_q, counts, room, phi):
    """Write posteriors phi (n, J) of a bag, given log-probabilities of its classes by falling counts.

    Returns
    -------
    P(counts) of shares, and the logarithm of what these were divided by; NaN where plain numbers do not serve.
    """
    n, slots = log_q.shape
    states = 1
    for j in range(1, slots):
        states *= counts[j] + 1
    q, level = doubles(room, n, slots), doubles(room + 8 * n * slots, 2, slots)
    table_at = room + 8 * (n * slots + 2 * slots)
    table, more = doubles(table_at, n + 1, states), table_at + 8 * (n + 1) * states
    if n * math.log(slots) < SAFE:
        scale = plain_shares(log_q, q)
        total = lattice(q, counts, table, more, phi) if -math.inf < scale < math.inf else math.nan
        if LEAST < total < math.inf:
            return total, scale
    scale = shifted(log_q, counts, level[0], level[1], q)
    if not scale == scale:
        return math.nan, scale
    for j in range(slots):
        scale -= level[0, j] * counts[j]
    return lattice(q, counts, table, more, phi), scale
