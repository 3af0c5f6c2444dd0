"""Transport n instances to K classes exactly, on the K class nodes: successive shortest paths, compiled.

Any class potentials phi make the assignment of every instance to its cheapest class, ``argmin_k c_ik - phi_k``, optimal
for the counts it happens to have. What is wrong with the counts is then sent from classes with too many to classes with
too few along shortest paths (Ahuja, Magnanti & Orlin 1993, Section 9.7). The graph has the classes alone for nodes: the
arc a -> b costs ``min c_ib - c_ia`` over the instances in a. Good potentials leave little to send, so they come from a
few entropic iterations in single precision; bad ones would cost time and change no answer.

Masses are multiples of a power of two, so that all sums of them are exact.
"""

import numpy as np
from numba import njit

from shared.transport.warm_start import CAP, cheapest, compiled, small_step, vectorised, warm_start

NEAR = 1e-3  # of proportions that are counts / n: how close to whole numbers their masses are
CERTIFIED = 1e-9  # gap relative to the cost that the plan carries or to `CAP` small steps; and violation
MASS_BITS = 52  # of a bag's mass; the 53rd of float64 is for sums
BLOCK = 64  # instances whose costs are turned at once
TIED = 4e-15  # of the largest cost: what rounding leaves of a tie
ROUNDING = 2.0**-53
EMPTY, STALE = -1, -2  # no instance makes an arc; it has left
FAR = 2**63 - 1


@compiled
def solve_bags(first, last, whole, cost, offsets, proportions, plan, value, u, v, gap, violation, certified):
    """Solve the bags from `first` to `last`, writing their parts of what follows the proportions.

    Parameters
    ----------
    whole : proportions this close to counts / n are counts
    cost, plan : (M, K) arrays, float32 or float64
    offsets : (B + 1,) int64 array
    proportions : (B, K) float64 array
    value, u, v : (B,) <C, P>, duals (M,) and (B, K), all like the cost
    gap, violation : (B,) float64 arrays: primal minus dual, worst error of the marginals
    certified : (B,) bool array: whether both are as good as 0, beside what the plan carries and beyond all rounding
    """
    n_classes, longest = cost.shape[1], 0
    for bag in range(first, last):
        longest = max(longest, offsets[bag + 1] - offsets[bag])
    costs, weights, dual = np.empty(n_classes * longest), np.empty(n_classes * longest), np.empty(longest)
    members = np.empty((n_classes, longest), np.int32)
    for bag in range(first, last):
        start, stop = offsets[bag], offsets[bag + 1]
        classes = np.flatnonzero(proportions[bag])
        k, n = len(classes), stop - start
        c, w, size = costs[: k * n].reshape(k, n), weights[: k * n].reshape(k, n), np.empty(k, np.int64)
        for block in range(0, n, BLOCK):
            for j in range(k):
                for i in range(block, min(block + BLOCK, n)):
                    c[j, i] = cost[start + i, classes[j]]
        value[bag], gap[bag], violation[bag], certified[bag] = np.nan, np.nan, np.nan, False
        if not 0 < proportions[bag].sum() < np.inf:
            continue
        (wanted, mass), scale = to_masses(proportions[bag][classes], n, whole), largest(c.reshape(-1))
        for attempt in range(3):
            # Rounding spoils the first where some costs, those of "never", outweigh the others.
            phi = warm_start(c, mass, attempt)
            by_paths(c, mass, phi, 0.0 if attempt else TIED * scale, w, members, size)
            value[bag], gap[bag], violation[bag], carried, lost = certify(c, wanted, phi, w, members, size, dual)
            open_gap = abs(gap[bag]) + lost
            proven = open_gap <= CERTIFIED * carried or open_gap <= CERTIFIED * min(CAP * small_step(c), scale)
            certified[bag] = scale < np.inf and proven and violation[bag] <= CERTIFIED
            if certified[bag]:
                break
        plan[start:stop] = 0
        for j in range(k):
            for i in members[j, : size[j]]:
                plan[start + i, classes[j]] = w[j, i]
        u[start:stop] = dual[:n]
        v[bag][classes] = phi
        for j in np.flatnonzero(proportions[bag] == 0):
            v[bag, j] = (cost[start:stop, j] - dual[:n]).min()


@compiled
def largest(values):
    """Return the largest modulus. As integers they have the same order and a maximum without branches."""
    top = 0
    for bits in values.view(np.int64):
        top = max(top, bits & FAR)
    return np.array([top]).view(np.float64)[0]


@compiled
def to_masses(proportions, n, whole):
    """Return masses that sum to n, whole numbers where all are within ``whole`` n and `NEAR` of them, and these masses
    as multiples of a power of two that sum to n exactly: the largest takes what rounding leaves.
    """
    masses = n * proportions / proportions.sum()
    counts = np.rint(masses)
    if counts.sum() == n and np.abs(masses - counts).max() <= min(whole * n, NEAR):
        masses = counts
    quantum = 2.0 ** (np.ceil(np.log2(n + 1)) - MASS_BITS)
    rounded = np.rint(masses / quantum) * quantum
    rounded[rounded.argmax()] += n - rounded.sum()
    return masses, rounded


@compiled
def by_paths(c, mass, phi, near, w, members, size):
    """Return optimal weights w of costs c, both (K, n); the potentials change in place.

    Reduced costs within `near` of the least are taken for ties. The first ``size[k]`` of ``members[k]`` become the
    instances of class k.
    """
    n_classes, n = c.shape
    w[:], size[:] = 0, 0
    surplus = -mass
    arc = np.full((n_classes, n_classes), np.inf)  # min c_ib - c_ia over the instances i of a
    by = np.full((n_classes, n_classes), STALE)  # that instance
    stale = np.full(n_classes, True)  # whether such a row has a stale arc
    least, second, label = np.empty(n), np.empty(n), np.empty(n, np.int64)
    cheapest(c, phi, least, second, label)
    for i in range(n):
        a = label[i]
        if second[i] - least[i] <= near:
            for k in range(n_classes):
                if c[k, i] - phi[k] <= least[i] + near and surplus[k] < surplus[a]:
                    a = k
        w[a, i] = 1
        surplus[a] += 1
        members[a, size[a]] = i
        size[a] += 1

    distances, parents = np.empty((2, n_classes)), np.empty((2, n_classes), np.int64)  # before and after a step
    parent, settled, reached = np.empty_like(size), np.empty_like(size), np.empty_like(size)
    carrier = np.empty_like(size)  # the instance that the arc from the parent moves
    while True:
        renew(c, members, size, arc, by, stale)
        n_reached = shortest_paths(surplus, arc, by, phi, parent, carrier, reached, distances, parents, settled)
        if n_reached == 0:
            return
        for t in reached[:n_reached]:
            amount, k = -surplus[t], t
            while parent[k] >= 0:
                amount = min(amount, w[parent[k], carrier[k]])
                k = parent[k]
            amount = max(0.0, min(amount, surplus[k]))
            surplus[k] -= amount
            surplus[t] += amount
            k = t
            while amount > 0 and parent[k] >= 0:  # unless an earlier path has used this one up
                i, a = carrier[k], parent[k]
                if w[k, i] == 0:
                    enter(c, i, k, members, size, arc, by)
                w[k, i] += amount
                w[a, i] -= amount
                if w[a, i] == 0:
                    leave(i, a, members, size, by)
                    stale[a] = True
                k = a


@compiled
def shortest_paths(surplus, arc, by, phi, parent, carrier, reached, distances, parents, settled):
    """Run Dijkstra from all classes with too many to all with too few; move the potentials, return how many too few.

    It returns 0 also where there is no way, as with costs that are not numbers; the certificate then tells.
    """
    n_classes = len(phi)
    bits = distances.view(np.int64)  # in the same order, as none is negative; their minimum is faster
    wanted, n_reached, at, now = 0, 0, 0.0, 0
    for k in range(n_classes):
        distances[0, k] = 0 if surplus[k] > 0 else np.inf
        parents[0, k] = parent[k] = -1
        settled[k] = 0  # FAR when it is, so that `|` takes it out
        wanted += surplus[k] < 0
    while n_reached < wanted:
        a, least = -1, FAR
        for k in range(n_classes):
            key = bits[now, k] | settled[k]
            if key < least:
                a, least = k, key
        if a < 0 or not distances[now, a] < np.inf:
            return 0
        at = distances[now, a]
        settled[a] = FAR
        before, p = parents[now], parents[now, a]
        if p >= 0:
            # Two arcs in a row that move one instance tie with one arc, but are limited by its weight in between.
            while parent[p] >= 0 and by[p, a] == carrier[p]:
                p = parent[p]
            parent[a], carrier[a] = p, by[p, a]
        if surplus[a] < 0:
            reached[n_reached] = a
            n_reached += 1
        old, new, after = distances[now], distances[1 - now], parents[1 - now]
        for k in range(n_classes):
            # The settled are no farther than `at` and stay as they are.
            through = at + max(arc[a, k] + (phi[a] - phi[k]), 0.0)
            new[k] = min(old[k], through)
            after[k] = a if through < old[k] else before[k]
        now = 1 - now
    for k in range(n_classes):
        phi[k] += min(distances[now, k], at) - at
    return n_reached


@compiled
def enter(c, i, a, members, size, arc, by):
    """Put instance i into class a."""
    members[a, size[a]] = i
    size[a] += 1
    for k in range(len(size)):
        difference = c[k, i] - c[a, i]
        if difference < arc[a, k]:
            arc[a, k], by[a, k] = difference, i


@compiled
def leave(i, a, members, size, by):
    """Take instance i out of class a; its arcs wait for `renew`."""
    place = 0
    while members[a, place] != i:
        place += 1
    size[a] -= 1
    members[a, place] = members[a, size[a]]
    for k in range(len(size)):
        if by[a, k] == i:
            by[a, k] = STALE


@compiled
def renew(c, members, size, arc, by, stale):
    """Find the arcs anew whose instances have left."""
    for a in range(len(size)):
        if not stale[a]:
            continue
        stale[a] = False
        own = c[a]
        for k in range(len(size)):
            if by[a, k] == STALE:
                least, at, other = np.inf, EMPTY, c[k]
                for place in range(size[a]):
                    i = members[a, place]
                    difference = other[i] - own[i]
                    if difference < least:
                        least, at = difference, i
                arc[a, k], by[a, k] = least, at


@compiled
def certify(c, wanted, phi, w, members, size, u):
    """Return value, gap, violation, <|C|, w> and what rounding may hide of the gap, of weights w (K, n); write duals u.

    The duals are feasible by construction. The gap is primal minus dual, summed as slack and errors of the marginals,
    which are all about 0, and not as the difference of two large numbers.
    """
    n_classes, n = c.shape
    lowest(c, phi, u[:n])
    row = np.zeros(n)
    value, gap, violation, carried, lost = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n_classes):
        column = 0.0
        for i in members[k, : size[k]]:
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
    u[:] = c[0] - phi[0]
    for k in range(1, len(phi)):
        for i in range(len(u)):
            u[i] = min(c[k, i] - phi[k], u[i])


def cached(sources):
    """Return `solve_bags`, compiled once for all processes while `sources`, a number, stays the same.

    Numba looks for changes in this file alone, and at what a function closes over.
    """

    @njit(cache=True, nogil=True, error_model="numpy")
    def solve(first, last, whole, cost, offsets, proportions, plan, value, u, v, gap, violation, certified):
        if sources >= 0:
            solve_bags(first, last, whole, cost, offsets, proportions, plan, value, u, v, gap, violation, certified)

    return solve
