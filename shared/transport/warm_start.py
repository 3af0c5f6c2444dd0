"""Where successive shortest paths begin: class potentials that leave little to send, from a few entropic iterations.

Good potentials save time, bad ones cost it, and none changes an answer.
"""

import numpy as np

from shared.transport.bare import compiled, vectorised

BLOCK = 64  # instances whose exponentials are taken at once
STEPS, FIRST, COOLING = 5, 0.5, 0.67  # iterations in a row, and temperatures in mean absolute deviations of the costs
FEWER, ENOUGH, COLDEST = 0.8, 4, 1e-5  # they go on while so much less is left to send, until it is a fourth of all
FEW = 500  # costs, that bad potentials matter little to
SAMPLE, SAMPLED = 256, 20_000  # rows that they take of bags of fewer costs than the second
HEAVY = 1000  # deviations are so many caps where a few costs outweigh all others
CAP, SMALL = 1000, 50  # no capped cost is farther above the least of its row, in small steps; see there
EXPONENTS = 1100  # of float64: from -1073 to 1024


@compiled
def warm_start(c, mass, first, phi, lines, label, above, wide, x, lanes, steps):
    """Write potentials for costs c (K, n): those of `entropic`, or of `capped` costs if the others leave most to send
    and these half of that, as a few huge costs outweigh all others in means and deviations. Where all differences of
    costs in a row are multiples of one, so are some best potentials: then they are, and costs that tie do so still.

    `first` is 0; with 1 only capped costs are tried, and with 2 the answer is 0. What `cheapest` says of the answer is
    written, too: costs into `lines`, classes into `label`. The rest is room to work in: `above` like c, `wide` (4, K),
    `steps` of 2 `EXPONENTS`, and in float32 `lanes` (3, `BLOCK`) and `x` of K rows of `BLOCK` a block and K more.
    """
    n, step, cap = c.shape[1], common_step(c), np.inf
    left, found, least, second = np.inf, wide[0], lines[0], lines[1]
    for k in range(len(phi)):
        phi[k] = 0.0
    for trial in range(first, 2):
        if trial:
            if cap == np.inf:
                cap = CAP * small_step(c, steps, least, second)
            else:
                two_least(c, least, second)
            capped(c, cap, least, above)
        unit, spread = centre(above if trial else c, wide, x, lanes)
        at, heavy = FIRST, False
        while spread > 0 and not heavy:
            at = anneal(mass, n, spread, at, wide, x, lanes)
            for k in range(len(phi)):
                found[k] = wide[1][k] + unit * wide[2][k]
                if step > 0:
                    found[k] = np.rint(found[k] / step) * step
            cheapest(c, found, least, second, label)
            sent = to_send(mass, label, wide[3])
            if not sent < FEWER * left:
                break
            left = sent
            for k in range(len(phi)):
                phi[k] = found[k]
            if left <= n / ENOUGH or at < COLDEST or step > 0:
                break
            if trial == 0 and cap == np.inf and n * len(phi) >= FEW:
                cap = CAP * small_step(c, steps, least, second)
                heavy = unit * spread > HEAVY * cap
        if (left <= n / 2 and not heavy) or step > 0 or n * len(phi) < FEW:
            break
    cheapest(c, phi, least, second, label)


@compiled
def to_send(mass, label, lacking):
    """Return how much is in the wrong class where instances have these labels."""
    total = 0.0
    for k in range(len(mass)):
        lacking[k] = mass[k]
    for k in label:
        lacking[k] -= 1
    for k in range(len(mass)):
        total += max(lacking[k], 0.0)
    return total


@vectorised
def cheapest(c, phi, least, second, label):
    """Find the two least reduced costs of every instance, and the class of the first."""
    for i in range(len(label)):
        least[i] = c[0, i] - phi[0]
        second[i] = np.inf
        label[i] = 0
    for k in range(1, len(phi)):
        row, shift = c[k], phi[k]
        for i in range(len(label)):
            reduced = row[i] - shift
            label[i] = k if reduced < least[i] else label[i]
            second[i] = min(second[i], max(reduced, least[i]))
            least[i] = min(reduced, least[i])


@vectorised
def centre(c, wide, x, lanes):
    """Write costs (K, n) of a sample of the rows into x, in float32 and some unit, without row and column means, which
    change the potentials and not the plan. Return the unit and the mean absolute deviation in it, 0 where there is none
    to speak of; the column means go into the second row of `wide`, and the potentials, which are 0, into the third.
    """
    n_classes, n = c.shape
    stride, rows = sample(n, n_classes)
    blocks = (rows + BLOCK - 1) // BLOCK
    zero = np.float32(0)
    size, far, first = 0.0, 0.0, c[0]
    mean, phi = wide[1], wide[2]
    for k in range(n_classes):
        total, row = 0.0, c[k]
        for r in range(rows):
            difference = row[r * stride] - first[r * stride]
            total += difference
            size += abs(difference)
        mean[k] = total / rows
        phi[k] = 0.0
        far = max(far, abs(mean[k]))
    # A power of two changes no digit; float32 has no room for costs of 1e-42 or 1e300.
    unit = 1.0 if 1e-15 < size < 1e15 or not 0 < size < np.inf else 2.0 ** np.rint(np.log2(size))
    level, spread, share_of_row = lanes[0], 0.0, np.float32(1 / n_classes)
    broad = breadth(rows)
    for b in range(blocks):
        width = min(BLOCK, rows - b * BLOCK)
        for r in range(broad):
            level[r] = zero
        for k in range(n_classes):
            to, row = x[b * n_classes + k], c[k]
            for r in range(width):
                i = (b * BLOCK + r) * stride
                to[r] = (row[i] - first[i] - mean[k]) / unit
                level[r] += to[r] * share_of_row
            for r in range(width, broad):
                to[r] = zero
        for k in range(n_classes):
            total, to = zero, x[b * n_classes + k]
            for r in range(width):
                total += abs(to[r] - level[r])
            spread += total
    spread /= rows * n_classes
    return unit, (spread if 1e-12 * far / unit < spread < np.inf else 0.0)


@compiled
def sample(n, n_classes):
    """Return the stride and the number of the rows that are looked at."""
    stride = max(1, n // SAMPLE) if n * n_classes < SAMPLED else 1
    return stride, (n + stride - 1) // stride


@compiled
def breadth(rows):
    """Return how much of a block is worked on."""
    return BLOCK if rows > BLOCK else (rows + 7) // 8 * 8


@vectorised
def anneal(mass, n, spread, at, wide, x, lanes):
    """Improve class potentials, in the third row of `wide`, of the entropic problem at falling temperatures, from `at`
    deviations on; return where they go on."""
    n_classes = len(mass)
    rows = sample(n, n_classes)[1]
    blocks = (rows + BLOCK - 1) // BLOCK
    broad = breadth(rows)
    one, zero = np.float32(1), np.float32(0)
    phi, found = wide[2], wide[3]
    shares, top, whole = x[blocks * n_classes :], lanes[1], lanes[2]
    for _step in range(STEPS):
        temperature = spread * at
        at *= COOLING
        rate = np.float32(1 / (64 * temperature))
        for k in range(n_classes):
            found[k] = 0
        for b in range(blocks):
            own = x[b * n_classes : (b + 1) * n_classes]
            for r in range(broad):
                top[r], whole[r] = np.float32(phi[0]) - own[0, r], zero
            for k in range(1, n_classes):
                row, shift = own[k], np.float32(phi[k])
                for r in range(broad):
                    # A sum is stored always, a maximum where it changes, which is five times as slow.
                    top[r] += max(shift - row[r] - top[r], zero)
            for k in range(n_classes):
                row, shift, share = own[k], np.float32(phi[k]), shares[k]
                for r in range(broad):
                    # exp(y) = (1 + y / 64)^64 is good enough for a start.
                    e = max(one + (shift - row[r] - top[r]) * rate, zero)
                    e *= e
                    e *= e
                    e *= e
                    e *= e
                    e *= e
                    e *= e
                    share[r] = e
                    whole[r] += e
            for r in range(broad):
                whole[r] = one / whole[r]
            for r in range(min(BLOCK, rows - b * BLOCK), broad):
                whole[r] = zero
            for k in range(n_classes):
                total, share = zero, shares[k]
                for r in range(broad):
                    total += share[r] * whole[r]
                found[k] += total
        for k in range(n_classes):
            ratio = np.float32(min(max(mass[k] * rows / (n * max(found[k], 1e-30)), 1e-3), 1e3))
            root = np.sqrt(np.sqrt(np.sqrt(np.sqrt(ratio))))
            half = (root - one) / (root + one)
            phi[k] += temperature * 32 * half * (one + half * half / 3)  # its logarithm, within 0.3 %
    return at


@compiled
def common_step(c):
    """Return a difference in the first row that divides all differences of costs (K, n) in a row, or 0."""
    n_classes, n = c.shape
    step = np.inf
    for k in range(1, n_classes):
        difference = abs(c[k, 0] - c[0, 0])
        if 0 < difference < step:
            step = difference
    if not step < np.inf:
        return 0.0
    for k in range(1, n_classes):
        for i in range(n):
            times = (c[k, i] - c[0, i]) / step
            if times != np.rint(times):
                return 0.0
    return step


@compiled
def small_step(c, steps, least, second):
    """Return a small difference from the least cost of a row to the next: one row in `SMALL` has a smaller one.

    It is a power of two, or inf where no row has a difference that rounding cannot have made. `least` and `second` (n,)
    take the two.
    """
    two_least(c, least, second)
    found, exponent = 0, EXPONENTS
    for at in range(len(steps)):
        steps[at] = 0
    for i in range(c.shape[1]):
        if 1e-6 * abs(least[i]) < second[i] - least[i] < np.inf:
            above = int(np.ceil(np.log2(second[i] - least[i])))
            steps[above + EXPONENTS] += SMALL
            exponent = min(exponent, above)
            found += 1
    step = np.inf
    while found > 0:
        found -= steps[exponent + EXPONENTS]
        step = 2.0**exponent
        exponent += 1
    return step


@vectorised
def two_least(c, least, second):
    """Find the two least costs (K, n) of every instance."""
    for i in range(len(least)):
        least[i], second[i] = c[0, i], np.inf
    for k in range(1, len(c)):
        row = c[k]
        for i in range(len(least)):
            second[i] = min(second[i], max(row[i], least[i]))
            least[i] = min(row[i], least[i])


@compiled
def capped(c, most, least, above):
    """Write costs (K, n) above the least of their row, none above `most`."""
    for k in range(len(c)):
        row, to = c[k], above[k]
        for i in range(len(least)):
            to[i] = min(row[i] - least[i], most)
