"""Transport n instances to K classes exactly, on the K class nodes: successive shortest paths, compiled.

Any class potentials phi make the assignment of every instance to its cheapest class, ``argmin_k c_ik - phi_k``, optimal
for the counts it happens to have. What is wrong with the counts is then sent from classes with too many to classes with
too few along shortest paths (Ahuja, Magnanti & Orlin 1993, Section 9.7). The graph has the classes alone for nodes: the
arc a -> b costs ``min c_ib - c_ia`` over the instances in a. Good potentials leave little to send, so they come from a
few entropic iterations in single precision; bad ones would cost time and change no answer.

Masses are multiples of a power of two, so that all sums of them are exact.
"""

import numpy as np

from shared.transport.bare import compiled

EMPTY, STALE = -1, -2  # no instance makes an arc; it has left
FAR = 2**63 - 1
MUCH = 0.22  # a class, of all that is to be sent: what good potentials leave of fractions is less
LONG, EIGHTH = 4, 0.125  # arcs of a path
MANY = 8  # arcs of a class are found in the time of one, where all are


@compiled
def to_cheapest(r, mass, phi, tied, lines, label, w, members, size, surplus):
    """Put every instance of costs r (n, K) into its cheapest class; `lines` and `label` are what `cheapest` found.

    Reduced costs are taken for ties where they differ by `tied` of the least and the largest potential, or less. The
    first ``size[k]`` of ``members[k]`` become the instances of class k, weights w are 1 there, and `surplus` what a
    class has too much.
    """
    n, n_classes = r.shape
    least, second, far = lines[0], lines[1], 0.0
    for k in range(n_classes):
        row = w[k]
        for i in range(n):
            row[i] = 0
        size[k], surplus[k] = 0, -mass[k]
        far = max(far, abs(phi[k]))
    for i in range(n):
        a, near = label[i], tied * (abs(least[i]) + far)
        if second[i] - least[i] <= near:
            own = r[i]
            for k in range(n_classes):
                if own[k] - phi[k] <= least[i] + near and surplus[k] < surplus[a]:
                    a = k
        w[a, i] = 1
        surplus[a] += 1
        members[a, size[a]] = i
        size[a] += 1


@compiled
def by_paths(r, mass, phi, w, members, size, surplus, target, arc, by, distances, bits, parents, nodes):
    """Send what classes have too much to those that have too little; weights w, members and potentials change in place.

    Where masses are no whole numbers and much is to be sent, whole instances are sent first, then what is left: paths
    of many classes are cut short by every split instance on their way. After such paths eighths are sent in between.

    Costs are r (n, K). The arcs ``arc[a, b]``, min c_ib - c_ia over the instances i of a, and that instance,
    ``by[a, b]``, and what follows are room to work in, of float64 and of integers.
    """
    n_classes, stale, much, whole = len(phi), nodes[0], 0.0, True
    for a in range(n_classes):
        stale[a], target[a] = 1, mass[a]
        much += max(surplus[a], 0.0)
        whole &= mass[a] == np.floor(mass[a])
        for k in range(n_classes):
            arc[a, k], by[a, k] = np.inf, STALE
    part = 0.0 if whole or much < MUCH * n_classes else 1.0
    while True:
        before = 0.0
        for k in range(n_classes):
            after = before + mass[k]
            wanted = np.floor(after / part) * part - np.floor(before / part) * part if part > 0 else mass[k]
            surplus[k] += target[k] - wanted
            target[k], before = wanted, after
        paths, hops = send(r, phi, w, members, size, surplus, arc, by, distances, bits, parents, nodes)
        if part == 0:
            return
        part = EIGHTH if part == 1 and hops > LONG * paths else 0.0


@compiled
def send(r, phi, w, members, size, surplus, arc, by, distances, bits, parents, nodes):
    """Send all surplus, as far as there are ways; return how many paths it took, and of how many arcs in all."""
    stale, parent, carrier, reached, settled = nodes[0], nodes[1], nodes[2], nodes[3], nodes[4]
    paths, hops = 0, 0
    while True:
        renew(r, members, size, arc, by, stale)
        n_reached = shortest_paths(surplus, arc, by, phi, parent, carrier, reached, distances, bits, parents, settled)
        if n_reached == 0:
            return paths, hops
        for at in range(n_reached):
            t = reached[at]
            amount, k = -surplus[t], t
            while parent[k] >= 0:
                amount = min(amount, w[parent[k], carrier[k]])
                k = parent[k]
            amount = max(0.0, min(amount, surplus[k]))
            if amount == 0:  # an earlier path has used this one up
                continue
            surplus[k] -= amount
            surplus[t] += amount
            paths += 1
            k = t
            while parent[k] >= 0:
                i, a = carrier[k], parent[k]
                if w[k, i] == 0:
                    enter(r[i], i, k, members, size, arc, by)
                w[k, i] += amount
                w[a, i] -= amount
                if w[a, i] == 0:
                    leave(i, a, members, size, by)
                    stale[a] = 1
                hops += 1
                k = a


@compiled
def shortest_paths(surplus, arc, by, phi, parent, carrier, reached, distances, bits, parents, settled):
    """Run Dijkstra from all classes with too many to all with too few; move the potentials, return how many too few.

    `bits` are those of `distances`: in the same order, as none is negative, and their minimum is faster.

    It returns 0 also where there is no way, as with costs that are not numbers; the certificate then tells.
    """
    n_classes = len(phi)
    wanted, n_reached, at, now = 0, 0, 0.0, 0
    for k in range(n_classes):
        distances[0, k] = 0 if surplus[k] > 0 else np.inf
        parents[0, k] = parent[k] = -1
        settled[k] = 0  # FAR when it is, so that `|` takes it out
        wanted += surplus[k] < 0
    for a in range(n_classes if wanted else 0):
        if surplus[a] > 0:  # of those that reach a class at one distance the last has it, not the first all
            settled[a] = FAR
            relax(a, 0.0, True, arc, phi, distances[now], parents[now], distances[1 - now], parents[1 - now])
            now = 1 - now
    while n_reached < wanted:
        keys, least, a = bits[now], FAR, 0
        for k in range(n_classes):  # in a round of its own it is vectorised
            least = min(least, keys[k] | settled[k])
        if least == FAR:
            return 0
        while keys[a] | settled[a] != least:
            a += 1
        at = distances[now, a]
        if not at < np.inf:
            return 0
        settled[a] = FAR
        p = parents[now, a]
        # Two arcs in a row that move one instance tie with one arc, but are limited by its weight in between.
        while parent[p] >= 0 and by[p, a] == carrier[p]:
            p = parent[p]
        parent[a], carrier[a] = p, by[p, a]
        if surplus[a] < 0:
            reached[n_reached] = a
            n_reached += 1
        relax(a, at, False, arc, phi, distances[now], parents[now], distances[1 - now], parents[1 - now])
        now = 1 - now
    for k in range(n_classes):
        phi[k] += min(distances[now, k], at) - at
    return n_reached


@compiled
def relax(a, at, always, arc, phi, old, before, new, after):
    """Write distances and parents that class a, at this distance, makes shorter, or `always` not longer.

    The settled are no farther than `at` and stay as they are; what becomes their parent is not asked.
    """
    lengths, level = arc[a], phi[a]
    if always:
        for k in range(len(phi)):
            through = at + max(lengths[k] + (level - phi[k]), 0.0)
            new[k] = min(old[k], through)
            after[k] = a if through <= old[k] else before[k]
    else:
        for k in range(len(phi)):
            through = at + max(lengths[k] + (level - phi[k]), 0.0)
            new[k] = min(old[k], through)
            after[k] = a if through < old[k] else before[k]


@compiled
def enter(costs, i, a, members, size, arc, by):
    """Put instance i, of these costs, into class a."""
    members[a, size[a]] = i
    size[a] += 1
    shorten(costs, costs[a], i, arc[a], by[a])


@compiled
def shorten(costs, own, i, arc, by):
    """Let instance i make the arcs that it makes shorter."""
    for k in range(len(arc)):
        difference = costs[k] - own
        by[k] = i if difference < arc[k] else by[k]
        arc[k] = min(arc[k], difference)


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
def renew(r, members, size, arc, by, stale):
    """Find the arcs anew whose instances have left, at costs r (n, K); all of a class if they are many."""
    n_classes = len(size)
    for a in range(n_classes):
        if not stale[a]:
            continue
        stale[a] = 0
        count, lengths, makers, own = 0, arc[a], by[a], members[a]
        for k in range(n_classes):
            count += makers[k] == STALE
        if MANY * count > n_classes:
            for k in range(n_classes):
                lengths[k], makers[k] = np.inf, EMPTY
            for place in range(size[a]):
                i = own[place]
                shorten(r[i], r[i, a], i, lengths, makers)
            continue
        for k in range(n_classes):
            if makers[k] == STALE:
                least, at = np.inf, EMPTY
                for place in range(size[a]):
                    i = own[place]
                    difference = r[i, k] - r[i, a]
                    if difference < least:
                        least, at = difference, i
                lengths[k], makers[k] = least, at
