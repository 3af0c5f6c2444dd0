"""Take the E-step of one bag, compiled: over a large lattice of counts, of which many states are done at once.

A count vector is a flat index of mixed radix over all classes but the most frequent, whose count follows from the
number of instances seen. The classes of small strides make a block of neighbouring states, which one loop runs over.
"""

import math

from papers.mle_llp.lanes import BYTES, WIDTH, fill, fused, load, store, where
from shared.transport.bare import compiled, doubles, longs

BLOCK = 48  # states of a block, at least, if there are as many
STEPS = 40  # towards factors of the classes
NEAR = 0.5  # of each class, between the counts expected and observed
LEAST = 1e-150  # P(counts) at which plain numbers are believed
SAFE = 230.0  # logarithm of the label vectors of a bag, up to which what underflows is nothing beside `LEAST`


@compiled
def room_of(n, slots, states):
    """The bytes, at most, that `alone` works in."""
    padded = (WIDTH + BLOCK) * (1 + states // BLOCK)  # a block has at least so many states, and less than eight more
    padded = max(padded, 2 * states)
    return 8 * (n * slots + 3 * slots + (2 * slots + n + 8) * padded + states * (slots + 1)) + BYTES * (slots + 1)


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


@compiled
def reached(block, o, i, level, most, inner):
    """The part of a block, by eights, that a path can be in after i instances; of one class in a block, only that."""
    if inner > 2:
        return 0, block
    low, high = max(0, i - most - level[o]), i - level[o]
    return low // WIDTH * WIDTH, min(block, high // WIDTH * WIDTH + WIDTH)


@compiled
def closed(at, low, high, block):
    """Write zeros on either side of a part of a block, where the next step reads."""
    if low > 0:
        store(at + 8 * (low - WIDTH), fill(0.0))
    if high < block:
        store(at + 8 * high, fill(0.0))


@compiled
def forward(q, counts, stride, inner, block, digits, level, deepest, masks, table):
    """Fill in the table, of which rows lie at addresses `table` + 8 (blocks x block) i."""
    n, slots = q.shape
    blocks = len(level)
    for s in range(0, blocks * block, WIDTH):
        store(table + 8 * s, fill(0.0))
    doubles(table, 1, 1)[0, 0] = 1.0
    for i in range(n):
        here, there = table + 8 * blocks * block * i, table + 8 * blocks * block * (i + 1)
        for o in range(blocks):
            at, out = here + 8 * o * block, there + 8 * o * block
            # Of the most frequent class there are neither fewer than none nor more than its count.
            if level[o] > i + 1 or level[o] + deepest < i + 1 - counts[0]:
                for s in range(0, block, WIDTH):
                    store(out + 8 * s, fill(0.0))
                continue
            low, high = reached(block, o, i + 1, level, counts[0], inner)
            closed(out, low, high, block)
            share = fill(q[i, 0])
            for s in range(low, high, WIDTH):
                store(out + 8 * s, share * load(at + 8 * s))
            for j in range(1, inner):
                share, less, mask = fill(q[i, j]), at - 8 * stride[j], masks + 16 * j * block
                for s in range(low, high, WIDTH):
                    value = where(mask + 8 * s, load(less + 8 * s))
                    store(out + 8 * s, fused(share, value, load(out + 8 * s)))
            for j in range(inner, slots):
                if digits[o, j] > 0:
                    share, less = fill(q[i, j]), at - 8 * stride[j]
                    for s in range(low, high, WIDTH):
                        store(out + 8 * s, fused(share, load(less + 8 * s), load(out + 8 * s)))


@compiled
def backward(q, counts, stride, inner, block, digits, level, deepest, masks, table, two, sums, phi):
    """Write posteriors, given the table and, in `two`, 1 at the end and 0 elsewhere."""
    n, slots = q.shape
    blocks = len(level)
    for i in range(n - 1, -1, -1):
        here = table + 8 * blocks * block * i
        ahead, now = two + 16 * blocks * block * ((i + 1) % 2), two + 16 * blocks * block * (i % 2)
        for j in range(slots):
            store(sums + BYTES * j, fill(0.0))
        for o in range(blocks):
            at, before, out = ahead + 8 * o * block, here + 8 * o * block, now + 8 * o * block
            if level[o] > i or level[o] + deepest < i - counts[0]:
                for s in range(0, block, WIDTH):
                    store(out + 8 * s, fill(0.0))
                continue
            low, high = reached(block, o, i, level, counts[0], inner)
            closed(out, low, high, block)
            share, total = fill(q[i, 0]), load(sums)
            for s in range(low, high, WIDTH):
                same = load(at + 8 * s)
                total = fused(load(before + 8 * s), same, total)
                store(out + 8 * s, share * same)
            store(sums, total)
            for j in range(1, inner):
                share, total = fill(q[i, j]), load(sums + BYTES * j)
                ahead_of, mask = at + 8 * stride[j], masks + 8 * (2 * j * block + stride[j])
                for s in range(low, high, WIDTH):
                    more = where(mask + 8 * s, load(ahead_of + 8 * s))
                    total = fused(load(before + 8 * s), more, total)
                    store(out + 8 * s, fused(share, more, load(out + 8 * s)))
                store(sums + BYTES * j, total)
            for j in range(inner, slots):
                if digits[o, j] < counts[j]:
                    share, total, ahead_of = fill(q[i, j]), load(sums + BYTES * j), at + 8 * stride[j]
                    for s in range(low, high, WIDTH):
                        more = load(ahead_of + 8 * s)
                        total = fused(load(before + 8 * s), more, total)
                        store(out + 8 * s, fused(share, more, load(out + 8 * s)))
                    store(sums + BYTES * j, total)
        by_lane, passed = doubles(sums, slots, WIDTH), 0.0
        for j in range(slots):
            phi[i, j] = 0
            for lane in range(WIDTH):
                phi[i, j] += by_lane[j, lane]
            phi[i, j] *= q[i, j]
            passed += phi[i, j]
        for j in range(slots):
            phi[i, j] /= passed


@compiled
def blocks_of(counts, slots):
    """The classes in a block and those before it, its states, and these in memory: by eights."""
    inner, states = 1, 1
    while inner < slots and states < BLOCK:
        states *= counts[inner] + 1
        inner += 1
    return inner, states, (states + WIDTH - 1) // WIDTH * WIDTH


@compiled
def lattice(q, counts, room, phi):
    """Return P(counts) under shares q (n, J) of slots by falling counts, all positive; write posteriors phi (n, J)."""
    n, slots = q.shape
    inner, states, block = blocks_of(counts, slots)
    stride, blocks, deepest = longs(room, 1, slots)[0], 1, 0
    for j in range(1, slots):
        if j < inner:
            stride[j] = stride[j - 1] * (counts[j - 1] + 1) if j > 1 else 1
            deepest += counts[j]
        else:
            stride[j] = blocks * block
            blocks *= counts[j] + 1
    sums = (room + 8 * slots + BYTES - 1) // BYTES * BYTES
    masks = sums + BYTES * slots
    table = masks + 16 * slots * block + 8 * block  # before it and after `two` is read, and does not count
    two = table + 8 * (n + 1) * blocks * block
    level_at = two + 8 * (4 * blocks + 1) * block
    level, digits = longs(level_at, 1, blocks)[0], longs(level_at + 8 * blocks, blocks, slots)
    inside = longs(masks, slots, 2 * block)
    for j in range(1, inner):
        for s in range(2 * block):
            inside[j, s] = -1 if s < states and s // stride[j] % (counts[j] + 1) > 0 else 0
    for o in range(blocks):
        rest, level[o] = o, 0
        for j in range(inner, slots):
            digits[o, j] = rest % (counts[j] + 1)
            rest //= counts[j] + 1
            level[o] += digits[o, j]
    forward(q, counts, stride, inner, block, digits, level, deepest, masks, table)
    last = (blocks - 1) * block + states - 1
    total, ends = doubles(table, n + 1, blocks * block)[n, last], doubles(two, 4, blocks * block)
    ends[:] = 0
    ends[2 * (n % 2), last] = 1
    backward(q, counts, stride, inner, block, digits, level, deepest, masks, table, two, sums, phi)
    return total


@compiled
def alone(log_q, counts, room, phi):
    """Write posteriors phi (n, J) of a bag, given log-probabilities of its classes by falling counts.

    Returns
    -------
    P(counts) of shares, and the logarithm of what these were divided by; NaN where plain numbers do not serve.
    """
    n, slots = log_q.shape
    q, level = doubles(room, n, slots), doubles(room + 8 * n * slots, 2, slots)
    room += 8 * (n * slots + 2 * slots)
    if n * math.log(slots) < SAFE:
        scale = plain_shares(log_q, q)
        total = lattice(q, counts, room, phi) if -math.inf < scale < math.inf else math.nan
        if LEAST < total < math.inf:
            return total, scale
    scale = shifted(log_q, counts, level[0], level[1], q)
    if math.isnan(scale):
        return math.nan, scale
    for j in range(slots):
        scale -= level[0, j] * counts[j]
    return lattice(q, counts, room, phi), scale
