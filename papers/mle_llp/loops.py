"""Posteriors of labels given a bag's class counts (Equation 10, for any number of classes), compiled.

The sum over label vectors runs over a lattice of count vectors: how many instances of each class a prefix of the bag
holds. It is made of plain numbers. An instance's probabilities may be divided by their largest, which changes no
posterior, and as all terms are positive, what underflows is below rounding unless P(counts) is next to nothing. Then
each class is multiplied by a factor, too, which changes no posterior either, so that the counts expected are about
those observed. Where that does not help, the bag says so.

Small lattices are run over eight bags at a time (`side_by_side`), others by many states at a time (`one_by_one`).
"""

import math

from papers.mle_llp import one_by_one, side_by_side
from papers.mle_llp.lanes import BYTES, WIDTH
from papers.mle_llp.one_by_one import LEAST, SAFE
from shared.transport.bare import compiled, doubles, flags, floats, longs

MISFIT = -1  # answer in place of a solution
CACHE = 3 << 18  # bytes that eight bags side by side may work in
SMALL = 64  # states that are done side by side however few bags there are
SPARED = 4  # times fewer states that a lattice of several bags must have than those of the bags together
DIGITS, KINDS = 4, 256  # of the numbers that bags are sorted by
NEAREST = 1e-3  # of proportions times a bag's size: how close to whole numbers they are


@compiled
def counted(proportions, sizes, counts):
    """Write the counts (B, K) that proportions are of; tell whether they are of any."""
    for b in range(len(counts)):
        n = sizes[b + 1] - sizes[b]
        for k in range(counts.shape[1]):
            exact = proportions[b, k] * float(n)
            if not -1.0 < exact < 1e15:
                return False
            counts[b, k] = round(exact)
            if abs(exact - counts[b, k]) > NEAREST:
                return False
    return True


@compiled
def proper(log_p):
    """Tell whether no log-probability is NaN or +inf."""
    fine = True
    for i in range(len(log_p)):
        for k in range(log_p.shape[1]):
            fine &= log_p[i, k] < math.inf
    return fine


@compiled
def ordered(counts, order):
    """Write the classes that a bag has, by falling counts; -1 after them."""
    found = 0
    for k in range(len(counts)):
        if counts[k] > 0:
            j = found
            while j > 0 and counts[order[j - 1]] < counts[k]:
                order[j] = order[j - 1]
                j -= 1
            order[j] = k
            found += 1
    for j in range(found, len(order)):
        order[j] = -1
    return found


@compiled
def sorted_by(keys, spare, bags, other, places):
    """Sort bags by their keys of 32 bits, digit by digit; return whether the answer is in `other`."""
    turned = False
    for digit in range(DIGITS):
        places[:] = 0
        for b in range(len(keys)):
            places[keys[b] >> 8 * digit & 255] += 1
        if places[keys[0] >> 8 * digit & 255] == len(keys):
            continue
        at = 0
        for kind in range(KINDS):
            at, places[kind] = at + places[kind], at
        for b in range(len(keys)):
            place = places[keys[b] >> 8 * digit & 255]
            places[keys[b] >> 8 * digit & 255] += 1
            spare[place], other[place] = keys[b], bags[b]
        keys, spare, bags, other, turned = spare, keys, other, bags, not turned
    return turned


@compiled
def solve(block):
    """Take the E-step of all bags.

    Parameters
    ----------
    block : address of what follows, of eight bytes each:

        bags, instances, n_classes : int, B, M and K
        wide : whether log_p is in float64, or in float32
        of_counts : 0 for counts in int64, 4 or 8 for proportions in float32 or float64
        most_states : of a lattice that is taken on
        offsets, counts : addresses of (B + 1,) int64 and (B, K)
        log_p, phi : of (M, K) numbers
        log_likelihood : of (B,) numbers like them
        known : of (B,) bytes, take whether there is an answer: plain numbers do not serve bags of probability 0, or
            next to it
        room, available : address of memory to work in, and how many bytes it has

    Returns
    -------
    int
        How many bags have no answer; or, with nothing solved, `MISFIT` where this is no problem, and a lower number -n
        where n bytes of room are needed.
    """
    given = longs(block, 1, 14)[0]
    bags, instances, n_classes = given[0], given[1], given[2]
    wide, of_counts, most_states = given[3], given[4], given[5]
    bounds, room, end = longs(given[6], 1, bags + 1)[0], given[12], given[12] + given[13]
    longest = 0
    for b in range(bags):
        n = bounds[b + 1] - bounds[b]
        if n < 1 or n > instances:
            return MISFIT
        longest = max(longest, n)
    if bounds[0] != 0 or bounds[bags] != instances:
        return MISFIT
    slots = min(n_classes, longest)
    counts_at = room
    keys_at = counts_at + (8 * bags * n_classes if of_counts else 0)
    order_at = keys_at + 8 * (4 * bags + KINDS)
    free = (order_at + 8 * (bags * slots + slots + 1 + WIDTH) + BYTES - 1) // BYTES * BYTES
    if free > end:
        return room - free - CACHE
    counts = longs(counts_at if of_counts else given[7], bags, n_classes)
    if of_counts == 4 and not counted(floats(given[7], bags, n_classes), bounds, counts):
        return MISFIT
    if of_counts == 8 and not counted(doubles(given[7], bags, n_classes), bounds, counts):
        return MISFIT
    if wide and not proper(doubles(given[8], instances, n_classes)):
        return MISFIT
    if not wide and not proper(floats(given[8], instances, n_classes)):
        return MISFIT
    keys, order = longs(keys_at, 4, bags), longs(order_at, bags, slots)
    needed = CACHE
    for b in range(bags):
        n, total, top, states = bounds[b + 1] - bounds[b], 0, 0, 1.0
        for k in range(n_classes):
            if counts[b, k] < 0:
                return MISFIT
            total, top, states = total + counts[b, k], max(top, counts[b, k]), states * (counts[b, k] + 1)
        states /= top + 1
        if total != n or states > most_states + 0.5:
            return MISFIT
        found = ordered(counts[b], order[b])
        keys[0, b], keys[2, b] = min(n, 65535) << 16 | min(int(states), 65535), b
        if not fits(n, found, int(states)):
            needed = max(needed, 8 * 2 * n * found + one_by_one.room_of(n, found, int(states)))
    if free + needed > end:
        return room - free - needed
    turned = sorted_by(keys[0], keys[1], keys[2], keys[3], longs(keys_at + 32 * bags, 1, KINDS)[0])
    turn = keys[3] if turned else keys[2]
    return in_turns(given, bounds, counts, turn, order, order_at + 8 * bags * slots, free)


@compiled
def fits(steps, slots, states):
    """Tell whether a lattice is one for eight bags side by side."""
    if steps * math.log(slots) > SAFE:
        return False
    return BYTES * steps * slots + side_by_side.room_of(steps, slots, states) < CACHE


@compiled
def in_turns(given, bounds, counts, turn, order, some_at, room):
    """Solve bags in their turn, as many together as is cheap; return how many have no answer."""
    bags, slots = order.shape
    known = flags(given[11], 1, bags)[0]
    widths, chosen = longs(some_at, 1, slots + 1)[0], longs(some_at + 8 * (slots + 1), 1, WIDTH)[0]
    first = without = 0
    while first < bags:
        some, steps, most, states, singly = 0, 0, 0, 0, 0
        widths[:] = 1
        while first + some < bags and some < WIDTH:
            b = turn[first + some]
            n, found, own, joint = bounds[b + 1] - bounds[b], 0, 1, 1
            for j in range(slots):
                width = counts[b, order[b, j]] + 1 if order[b, j] >= 0 else 1
                found += 1 if width > 1 else 0
                if j > 0:
                    own, joint = own * width, joint * max(widths[j], width)
            longest, slotted = max(steps, n), max(most, found)
            if (some > 0 and longest * joint > steps * states + n * own) or not fits(longest, slotted, joint):
                break
            for j in range(1, found):
                widths[j] = max(widths[j], counts[b, order[b, j]] + 1)
            chosen[some] = b
            steps, most, states, singly, some = longest, slotted, joint, singly + own, some + 1
        if some == 0 or states > max(SMALL, singly // SPARED):
            some = max(some, 1)
            for place in range(first, first + some):
                known[turn[place]] = one(given, bounds, counts, order, turn[place], room)
        else:
            chosen_bags = chosen[:some]
            eight(given, known, bounds, counts, order, chosen_bags, widths, steps, most, room)
        for place in range(first, first + some):
            without += 1 - known[turn[place]]
        first += some
    return without


@compiled
def taken(given, start, n, order, slots, steps, step, q):
    """Write the log-probabilities of a bag, classes as in `order`, every `step` numbers from the first of q.

    After its instances come some, up to `steps`, that are surely of its first class; classes after its own have none.
    """
    for i in range(steps):
        for j in range(slots):
            q[(i * slots + j) * step] = 0.0 if j == 0 and i >= n else -math.inf
    if given[3]:
        copied(doubles(given[8], given[1], given[2])[start : start + n], order, slots, step, q)
    else:
        copied(floats(given[8], given[1], given[2])[start : start + n], order, slots, step, q)


@compiled
def copied(log_p, order, slots, step, q):
    """Do what `taken` does, for the instances themselves."""
    for i in range(len(log_p)):
        for j in range(slots):
            if order[j] >= 0:
                q[(i * slots + j) * step] = log_p[i, order[j]]


@compiled
def written(given, bag, start, n, order, slots, step, q, likelihood):
    """Write the answer of a bag, whose posteriors are every `step` numbers from the first of q."""
    if given[3]:
        doubles(given[10], 1, given[0])[0, bag] = likelihood
        spread(q, step, order, slots, doubles(given[9], given[1], given[2])[start : start + n])
    else:
        floats(given[10], 1, given[0])[0, bag] = likelihood
        spread(q, step, order, slots, floats(given[9], given[1], given[2])[start : start + n])


@compiled
def spread(q, step, order, slots, phi):
    """Do what `written` does, for the posteriors."""
    for i in range(len(phi)):
        phi[i] = 0
        for j in range(slots):
            if order[j] >= 0:
                phi[i, order[j]] = q[(i * slots + j) * step]


@compiled
def one(given, bounds, counts, order, bag, room):
    """Solve a bag by itself, and tell whether that was possible."""
    start, n, slots = bounds[bag], bounds[bag + 1] - bounds[bag], 0
    while slots < order.shape[1] and order[bag, slots] >= 0:
        slots += 1
    post_at, fall_at = room + 8 * n * slots, room + 16 * n * slots
    fall = longs(fall_at, 1, slots)[0]
    for j in range(slots):
        fall[j] = counts[bag, order[bag, j]]
    taken(given, start, n, order[bag], slots, n, 1, doubles(room, 1, n * slots)[0])
    post = doubles(post_at, n, slots)
    total, scale = one_by_one.alone(doubles(room, n, slots), fall, fall_at + 8 * slots, post)
    if not LEAST < total < math.inf:
        return False
    written(given, bag, start, n, order[bag], slots, 1, doubles(post_at, 1, n * slots)[0], math.log(total) + scale)
    return True


@compiled
def eight(given, known, bounds, counts, order, chosen, widths, steps, slots, room):
    """Solve up to eight bags side by side; in other lanes than theirs is the first once more."""
    ends, q_at = longs(room, 1, WIDTH)[0], room + BYTES
    room, most = q_at + BYTES * steps * slots, 0
    for lane in range(WIDTH):
        bag = chosen[lane if lane < len(chosen) else 0]
        start, n = bounds[bag], bounds[bag + 1] - bounds[bag]
        most = max(most, counts[bag, order[bag, 0]] + steps - n)
        ends[lane], stride = 0, 1
        for j in range(1, slots):
            if order[bag, j] >= 0:
                ends[lane] += stride * counts[bag, order[bag, j]]
            stride *= widths[j]
        q = doubles(q_at + 8 * lane, 1, WIDTH * steps * slots)[0]
        taken(given, start, n, order[bag], slots, steps, WIDTH, q)
    side_by_side.together(q_at, steps, slots, widths, most, ends, room)
    found = doubles(room, 2, WIDTH)
    for lane in range(len(chosen)):
        bag, total = chosen[lane], found[0, lane]
        start, n = bounds[bag], bounds[bag + 1] - bounds[bag]
        known[bag] = LEAST < total < math.inf
        if known[bag]:
            q, likelihood = doubles(q_at + 8 * lane, 1, WIDTH * steps * slots)[0], math.log(total) + found[1, lane]
            written(given, bag, start, n, order[bag], slots, WIDTH, q, likelihood)
