"""Take the E-step of eight bags at once, compiled: what one number is in a loop over a bag are eight here.

The bags may differ in size and counts. All run over the lattice of the largest counts among them, classes by falling
counts; a shorter bag ends in instances that are surely of its first class, and one whose counts are smaller finds its
answer at another place of the table. No bag's answer depends on those beside it.

A row of the lattice are the states that differ in the second class alone. Those that no path from the first state to
the last can pass are left out: of the first class there are neither fewer than none nor more than its count.
"""

from papers.mle_llp.lanes import BYTES, WIDTH, exp, fill, fused, greater, load, store
from shared.transport.bare import compiled, doubles, longs

ROWS = 8  # of numbers, of an instance and class: what `room_of` says beside the tables


@compiled
def room_of(steps, slots, states):
    """The bytes that `together` works in."""
    return BYTES * ((steps + 3) * states + steps * slots + slots + ROWS) + 8 * states * (slots + 1)


@compiled
def exponentials(q_at, steps, slots):
    """Write shares, the largest 1, over their logarithms; return the sums of what was taken from these, as lanes."""
    scale = fill(0.0)
    for i in range(steps):
        at = q_at + i * slots * BYTES
        top = load(at)
        for j in range(1, slots):
            top = greater(load(at + j * BYTES), top)
        scale = scale + top
        for j in range(slots):
            store(at + j * BYTES, exp(load(at + j * BYTES) - top))
    return scale


@compiled
def rows_of(widths, slots, rows, level, digits):
    """Write how many instances of the third class and further ones a row has, and of each."""
    for o in range(rows):
        rest, level[o] = o, 0
        for j in range(2, slots):
            digits[o, j] = rest % widths[j]
            rest //= widths[j]
            level[o] += digits[o, j]


@compiled
def forward(q_at, steps, slots, widths, rows, most, level, digits, table_at):
    """Fill in the table (steps + 1, states): what the instances before a step weigh, by the counts they have."""
    wide = widths[1]
    line = rows * wide * BYTES
    for o in range(rows):
        for d in range(wide):
            store(table_at + (o * wide + d) * BYTES, fill(1.0 if o + d == 0 else 0.0))
    for i in range(steps):
        at, here, there = q_at + i * slots * BYTES, table_at + i * line, table_at + (i + 1) * line
        q0, q1 = load(at), fill(0.0)
        if slots > 1:
            q1 = load(at + BYTES)
        for o in range(rows):
            first, last = max(0, i + 1 - most - level[o]), min(wide - 1, i + 1 - level[o])
            row = o * wide * BYTES
            before = fill(0.0)
            if 0 < first <= last:
                before = load(here + row + (first - 1) * BYTES)
            for d in range(first, last + 1):
                same = load(here + row + d * BYTES)
                store(there + row + d * BYTES, fused(q1, before, q0 * same))
                before = same
            step = wide * BYTES
            for j in range(2, slots):
                if digits[o, j] > 0:
                    qj = load(at + j * BYTES)
                    for d in range(first, last + 1):
                        place = there + row + d * BYTES
                        store(place, fused(qj, load(here + row - step + d * BYTES), load(place)))
                step *= widths[j]
            if -1 <= last < wide - 1:  # the next step reads one state more
                store(there + row + (last + 1) * BYTES, fill(0.0))


@compiled
def backward(q_at, steps, slots, widths, rows, most, level, digits, table_at, two_at, sums_at):
    """Write posteriors over the shares, from the table and, in `two_at`, 1 at the end of each bag and 0 elsewhere."""
    wide = widths[1]
    line = rows * wide * BYTES
    for i in range(steps - 1, -1, -1):
        at, here = q_at + i * slots * BYTES, table_at + i * line
        ahead, now = two_at + (i + 1) % 2 * line, two_at + i % 2 * line
        q0, q1 = load(at), fill(0.0)
        if slots > 1:
            q1 = load(at + BYTES)
        sum0, sum1 = fill(0.0), fill(0.0)
        for j in range(2, slots):
            store(sums_at + j * BYTES, fill(0.0))
        for o in range(rows):
            first, last = max(0, i - most - level[o]), min(wide - 1, i - level[o])
            row = o * wide * BYTES
            if 0 < first <= wide:  # the next step reads one state more
                store(now + row + (first - 1) * BYTES, fill(0.0))
            if first > last:
                continue
            same = load(ahead + row + first * BYTES)
            for d in range(first, last + 1):
                before, more = load(here + row + d * BYTES), fill(0.0)
                if d < wide - 1:
                    more = load(ahead + row + (d + 1) * BYTES)
                sum0, sum1 = fused(before, same, sum0), fused(before, more, sum1)
                store(now + row + d * BYTES, fused(q1, more, q0 * same))
                same = more
            step = wide * BYTES
            for j in range(2, slots):
                if digits[o, j] < widths[j] - 1:
                    qj, total = load(at + j * BYTES), load(sums_at + j * BYTES)
                    for d in range(first, last + 1):
                        more, place = load(ahead + row + step + d * BYTES), now + row + d * BYTES
                        total = fused(load(here + row + d * BYTES), more, total)
                        store(place, fused(qj, more, load(place)))
                    store(sums_at + j * BYTES, total)
                step *= widths[j]
        post0, post1 = q0 * sum0, q1 * sum1
        total = post0 + post1
        for j in range(2, slots):
            post = load(at + j * BYTES) * load(sums_at + j * BYTES)
            store(at + j * BYTES, post)
            total = total + post
        store(at, post0 / total)
        if slots > 1:
            store(at + BYTES, post1 / total)
        for j in range(2, slots):
            store(at + j * BYTES, load(at + j * BYTES) / total)


@compiled
def together(q_at, steps, slots, widths, most, ends, room_at):
    """Turn log-probabilities (steps, slots) of eight bags into posteriors.

    Parameters
    ----------
    q_at : address of lanes
    widths : (slots + 1,) the largest counts and one, from the second class on; there, 1 if there is none
    most : the largest count of the first class, with what a bag ends in
    ends : (8,) the state of each bag's counts
    room_at : address of room; its first 16 numbers take P(counts) of shares and the logarithm of what these were
        divided by
    """
    rows = 1
    for j in range(2, slots):
        rows *= widths[j]
    states = rows * widths[1]
    sums_at = room_at + 2 * BYTES
    table_at = sums_at + slots * BYTES
    two_at = table_at + (steps + 1) * states * BYTES
    level_at = two_at + 2 * states * BYTES
    level, digits = longs(level_at, 1, rows)[0], longs(level_at + 8 * rows, rows, slots)
    rows_of(widths, slots, rows, level, digits)
    store(room_at + BYTES, exponentials(q_at, steps, slots))
    forward(q_at, steps, slots, widths, rows, most, level, digits, table_at)
    total, table = doubles(room_at, 1, WIDTH)[0], doubles(table_at, (steps + 1) * states, WIDTH)
    two = doubles(two_at, 2 * states, WIDTH)
    two[:] = 0
    for lane in range(WIDTH):
        total[lane] = table[steps * states + ends[lane], lane]
        two[steps % 2 * states + ends[lane], lane] = 1
    backward(q_at, steps, slots, widths, rows, most, level, digits, table_at, two_at, sums_at)
