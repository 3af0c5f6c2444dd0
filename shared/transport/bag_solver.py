"""Solve bags exactly, each on its own, and certify every answer: `solve_bags` is all of exact transport, compiled.

A bag begins with good potentials (`shared.transport.warm_start`), and what is wrong with the counts they give is sent
along shortest paths (`shared.transport.successive_paths`). Masses are multiples of a power of two, so that all sums of
them are exact.
"""

import numpy as np

from shared.transport.bare import compiled, copy, doubles, flags, floats, ints, longs, vectorised
from shared.transport.constants import MISFIT, ODD
from shared.transport.successive_paths import FAR, by_paths, to_cheapest
from shared.transport.warm_start import BLOCK, CAP, EXPONENTS, small_step, warm_start

NEAR = 1e-3  # of proportions that are counts / n: how close to whole numbers their masses are
CERTIFIED = 1e-9  # gap relative to the cost that the plan carries or to `CAP` small steps; and violation
SUMS = 1e-4  # how close to 1 proportions sum that nothing else need look at
MASS_BITS = 52  # of a bag's mass; the 53rd of float64 is for sums
TIED = 4e-15  # of the largest number: what rounding leaves of a tie
ROUNDING = 2.0**-53
TURNED = 64  # instances whose costs are turned at once
LINES, ROWS, LONG_ROWS = 4, 8, 7  # of one number an instance, and of one a class, that a bag is solved in


@compiled
def solve_bags(block):
    """Solve some bags, writing their parts of the answer.

    Parameters
    ----------
    block : address of what follows, of eight bytes each:

        bags, instances, n_classes : int, B, M and K
        wide, fine : whether the cost is in float64, or in float32; and the proportions
        checked : whether proportions must sum to 1
        whole : float, proportions this close to counts / n are counts
        offsets, proportions : addresses of (B + 1,) int64 and (B, K) numbers
        gap, violation : of (B,) float64: primal minus dual, worst error of the marginals
        certified : of (B,) bytes: whether both are as good as 0, beside what the plan carries and beyond all rounding
        cost, plan : of (M, K) numbers
        value, u, v : of (B,) <C, P>, duals (M,) and (B, K), all like the cost
        first, last : int, the bags from the first to before the last are solved
        room, available : address of memory to work in, and how many bytes it has

    Returns
    -------
    int
        0 if all is well, or how many bags are not certified or have a cost that is not finite; or, with nothing solved,
        `MISFIT` where offsets do not cut the instances into bags, `ODD` where proportions do not sum to 1, and a lower
        number -n where n bytes of room are needed.
    """
    numbers = longs(block, 1, 21)[0]
    bags, instances, n_classes, wide, fine = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    checked, whole = numbers[5], doubles(block, 1, 21)[0, 6]
    offsets, shares, gap, violation, certified = numbers[7], numbers[8], numbers[9], numbers[10], numbers[11]
    cost, plan, value, u, v = numbers[12], numbers[13], numbers[14], numbers[15], numbers[16]
    first, last, room, available = numbers[17], numbers[18], numbers[19], numbers[20]
    bounds, longest = longs(offsets, 1, bags + 1)[0], 1
    if checked and not (
        adds_up(doubles(shares, bags, n_classes)) if fine else adds_up(floats(shares, bags, n_classes))
    ):
        return ODD
    if bounds[0] != 0 or bounds[bags] != instances:
        return MISFIT
    for bag in range(bags):
        size = bounds[bag + 1] - bounds[bag]
        if size < 1 or size > instances:
            return MISFIT
        longest = max(longest, size)
    # The parts of the room, the longest last: of short bags all of it stays in the cache.
    lanes_at = up(room)
    steps_at = lanes_at + 3 * 4 * BLOCK
    rows_at = steps_at + 8 * 2 * EXPONENTS
    long_rows_at = up(rows_at + 8 * ROWS * n_classes)
    arc_at = up(long_rows_at + 8 * LONG_ROWS * n_classes)
    by_at = up(arc_at + 8 * n_classes * n_classes)
    pairs_at = up(by_at + 8 * n_classes * n_classes)
    lines_at = up(pairs_at + 32 * n_classes)
    label_at = up(lines_at + 8 * LINES * longest)
    costs_at = up(label_at + 8 * longest)
    weights_at = up(costs_at + 8 * n_classes * longest)
    members_at = up(weights_at + 8 * n_classes * longest)
    turned_at = up(members_at + 4 * n_classes * longest)
    x_at = up(turned_at + 8 * n_classes * longest)
    needed = x_at + 4 * n_classes * (longest + 2 * BLOCK) - lanes_at + 64  # wherever the room begins
    if needed > available:
        return -needed

    gaps, violations, proofs = doubles(gap, 1, bags)[0], doubles(violation, 1, bags)[0], flags(certified, 1, bags)[0]
    wrong = 0
    lanes, steps = floats(lanes_at, 3, BLOCK), longs(steps_at, 1, 2 * EXPONENTS)[0]
    for bag in range(first, last):
        start, n, k = bounds[bag], bounds[bag + 1] - bounds[bag], 0
        classes = longs(long_rows_at, LONG_ROWS, n_classes)[LONG_ROWS - 1]
        own = doubles(rows_at + 8 * (ROWS - 1) * n_classes, 1, n_classes)[0]
        if fine:
            copy(doubles(shares, bags, n_classes)[bag], own)
        else:
            copy(floats(shares, bags, n_classes)[bag], own)
        for j in range(n_classes):
            if own[j] != 0:
                own[k] = own[j]
                classes[k] = j
                k += 1
        c, w, members = doubles(costs_at, k, n), doubles(weights_at, k, n), ints(members_at, k, n)
        r = doubles(turned_at, n, k)
        if wide:
            take(doubles(cost, instances, n_classes), start, classes, c, r)
        else:
            take(floats(cost, instances, n_classes), start, classes, c, r)
        lines, label = doubles(lines_at, LINES, n), longs(label_at, 1, n)[0]
        rows, long_rows = doubles(rows_at, ROWS - 1, k), longs(long_rows_at, LONG_ROWS, k)
        phi, wanted, mass, size = rows[0], rows[1], rows[2], long_rows[0]
        arc, by, x = doubles(arc_at, k, k), longs(by_at, k, k), floats(x_at, k * ((n + BLOCK - 1) // BLOCK + 1), BLOCK)
        distances, bits, parents = doubles(pairs_at, 2, k), longs(pairs_at, 2, k), longs(pairs_at + 16 * k, 2, k)
        # As integers moduli have the same order, and a maximum without branches.
        steps[0] = largest(longs(costs_at, 1, k * n)[0])
        scale = doubles(steps_at, 1, 1)[0, 0]
        total, gaps[bag], violations[bag], proofs[bag] = np.nan, np.nan, np.nan, 0
        for attempt in range(3 if to_masses(own[:k], n, whole, wanted, mass) and scale < np.inf else 0):
            # Rounding spoils the first where some costs, those of "never", outweigh the others.
            warm_start(c, mass, attempt, phi, lines, label, w, rows[3:7], x, lanes, steps)
            to_cheapest(r, mass, phi, 0.0 if attempt else TIED, lines, label, w, members, size, rows[3])
            by_paths(
                r, mass, phi, w, members, size, rows[3], rows[4], arc, by, distances, bits, parents, long_rows[1:6]
            )
            total, gaps[bag], violations[bag], carried, lost = certify(c, wanted, phi, w, members, size, lines)
            open_gap = abs(gaps[bag]) + lost
            proven = open_gap <= CERTIFIED * carried
            if not proven:
                typical = CAP * small_step(c, steps, lines[2], lines[3])
                proven = open_gap <= CERTIFIED * min(typical, scale)
            if proven and violations[bag] <= CERTIFIED:
                proofs[bag] = 1
                break
        if proofs[bag] and wide:
            matrix, duals = doubles(cost, instances, n_classes), doubles(v, bags, n_classes)[bag]
            answer = doubles(plan, instances, n_classes), doubles(value, 1, bags)[0], doubles(u, 1, instances)[0]
            wrong += put(matrix, bag, start, classes, total, phi, lines[0], w, members, size, *answer, duals)
        elif proofs[bag]:
            matrix, duals = floats(cost, instances, n_classes), floats(v, bags, n_classes)[bag]
            answer = floats(plan, instances, n_classes), floats(value, 1, bags)[0], floats(u, 1, instances)[0]
            wrong += put(matrix, bag, start, classes, total, phi, lines[0], w, members, size, *answer, duals)
        else:
            wrong += 1
    return wrong


@compiled
def up(address):
    """Return the next multiple of 64."""
    return (address + 63) // 64 * 64


@compiled
def adds_up(proportions):
    """Return whether the proportions (B, K) of every bag are none below 0 and of sum 1."""
    for own in proportions:
        total, least = 0.0, 0.0
        for share in own:
            total += share
            least = min(least, share)
        if not (least == 0 and abs(total - 1) <= SUMS):
            return False
    return True


@compiled
def take(cost, start, classes, c, r):
    """Write the costs (M, K) of a bag's classes in float64: r (n, k), and turned, c (k, n)."""
    k, n = c.shape
    for block in range(0, n, TURNED):
        end = min(block + TURNED, n)
        for j in range(k):
            row, column = c[j], classes[j]
            for i in range(block, end):
                row[i] = cost[start + i, column]
                r[i, j] = row[i]


@compiled
def put(cost, bag, start, classes, total, phi, dual, w, members, size, plan, value, u, v):
    """Write plan, value and duals of a bag into those of all, and duals of classes without mass that are feasible.

    Returns whether a cost of these is not finite.
    """
    k, n = w.shape
    value[bag] = total
    for i in range(start, start + n):
        for j in range(len(v)):
            plan[i, j] = 0
    for j in range(k):
        column = classes[j]
        for place in range(size[j]):
            i = members[j, place]
            plan[start + i, column] = w[j, i]
    for i in range(n):
        u[start + i] = dual[i]
    at, wrong = 0, False
    for j in range(len(v)):
        if at < k and classes[at] == j:
            v[j] = phi[at]
            at += 1
        else:
            least = np.inf
            for i in range(n):
                least = min(least, cost[start + i, j] - dual[i])
                wrong |= not abs(cost[start + i, j]) < np.inf
            v[j] = least
    return wrong


@compiled
def largest(bits):
    """Return the bits of the largest modulus of numbers, from theirs."""
    top = 0
    for one in bits:
        top = max(top, one & FAR)
    return top


@compiled
def to_masses(proportions, n, whole, wanted, rounded):
    """Write masses that sum to n, whole numbers where all are within ``whole`` n and `NEAR` of them, and these masses
    as multiples of a power of two that sum to n exactly: the largest takes what rounding leaves.

    Returns False where the proportions are none.
    """
    total, counted, off, k = 0.0, 0.0, 0.0, len(wanted)
    for j in range(k):
        total += proportions[j]
    if not 0 < total < np.inf:
        return False
    for j in range(k):
        wanted[j] = n * proportions[j] / total
        counted += np.rint(wanted[j])
        off = max(off, abs(wanted[j] - np.rint(wanted[j])))
    quantum, most, left = 2.0 ** (np.ceil(np.log2(n + 1)) - MASS_BITS), 0, float(n)
    for j in range(k):
        if counted == n and off <= min(whole * n, NEAR):
            wanted[j] = np.rint(wanted[j])
        rounded[j] = np.rint(wanted[j] / quantum) * quantum
        left -= rounded[j]
        most = j if rounded[j] > rounded[most] else most
    rounded[most] += left
    return True


@compiled
def certify(c, wanted, phi, w, members, size, lines):
    """Return value, gap, violation, <|C|, w> and what rounding may hide of the gap, of weights w (K, n); write duals u
    into the first of `lines`.

    The duals are feasible by construction. The gap is primal minus dual, summed as slack and errors of the marginals,
    which are all about 0, and not as the difference of two large numbers.
    """
    n_classes, n = c.shape
    u, row = lines[0], lines[1]
    lowest(c, phi, u)
    for i in range(n):
        row[i] = 0
    value, gap, violation, carried, lost = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n_classes):
        column = 0.0
        for place in range(size[k]):
            i = members[k, place]
            value += w[k, i] * c[k, i]
            carried += w[k, i] * abs(c[k, i])
            gap += w[k, i] * (c[k, i] - phi[k] - u[i])
            column += w[k, i]
            row[i] += w[k, i]
        gap += (column - wanted[k]) * phi[k]
        violation = max(violation, abs(column - wanted[k]) / n)
        lost += wanted[k] * abs(phi[k])
    for i in range(n):
        gap += (row[i] - 1) * u[i]
        violation = max(violation, abs(row[i] - 1))
        lost += abs(u[i])
    return value, gap, violation, carried, ROUNDING * (lost + carried)


@vectorised
def lowest(c, phi, u):
    """Write the least reduced cost of every instance into u (n,)."""
    for i in range(len(u)):
        u[i] = c[0, i] - phi[0]
    for k in range(1, len(phi)):
        row, shift = c[k], phi[k]
        for i in range(len(u)):
            u[i] = min(row[i] - shift, u[i])
