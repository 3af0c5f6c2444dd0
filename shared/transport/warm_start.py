"""Where successive shortest paths begin: class potentials that leave little to send, from a few entropic iterations.

Good potentials save time, bad ones cost it, and none changes an answer.
"""

import numpy as np
from numba import njit

BLOCK = 64  # instances whose exponentials are taken at once
STEPS, FIRST, LAST = 5, 0.5, 0.1  # of the iterations, and their temperatures in mean absolute deviations of the costs
SAMPLE, SAMPLED = 256, 20_000  # rows that they take of bags of fewer costs than the second
CAP, SMALL = 1000, 50  # no capped cost is farther above the least of its row, in small steps; see there
EXPONENTS = 1100  # of float64: from -1073 to 1024

compiled = njit(nogil=True, error_model="numpy")
vectorised = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp", "nnan"})


@compiled
def warm_start(c, mass, first):
    """Return potentials for costs c (K, n): those of `entropic`, or of `capped` costs if the others leave most to send
    and these half of that, as a few huge costs outweigh all others in means and deviations.

    `first` is 0; with 1 only capped costs are tried, and with 2 the answer is 0.
    """
    phi, left = np.zeros(len(mass)), np.inf
    for trial in range(first, 2):
        other = entropic(capped(c, small_step(c)) if trial else c, mass)
        sent = to_send(c, mass, other)
        if sent < left / 2:
            phi, left = other, sent
        if left <= c.shape[1] / 2:
            break
    return phi


@compiled
def to_send(c, mass, phi):
    """Return how much is in the wrong class where every instance is in its cheapest."""
    least, second, label = np.empty(c.shape[1]), np.empty(c.shape[1]), np.empty(c.shape[1], np.int64)
    cheapest(c, phi, least, second, label)
    lacking, total = mass.copy(), 0.0
    for k in label:
        lacking[k] -= 1
    for k in range(len(mass)):
        total += max(lacking[k], 0.0)
    return total


@vectorised
def cheapest(c, phi, least, second, label):
    """Find the two least reduced costs of every instance, and the class of the first."""
    least[:] = c[0] - phi[0]
    second[:], label[:] = np.inf, 0
    for k in range(1, len(phi)):
        for i in range(len(label)):
            reduced = c[k, i] - phi[k]
            label[i] = k if reduced < least[i] else label[i]
            second[i] = min(second[i], max(reduced, least[i]))
            least[i] = min(reduced, least[i])


@vectorised
def entropic(c, mass):
    """Return class potentials of the entropic problem at falling temperatures, on a sample of the rows, in float32.

    Costs lose their row and column means first: those change the potentials and not the plan.
    """
    n_classes, n = c.shape
    stride = max(1, n // SAMPLE) if n * n_classes < SAMPLED else 1
    rows = (n + stride - 1) // stride
    blocks = (rows + BLOCK - 1) // BLOCK
    one, zero = np.float32(1), np.float32(0)
    mean, size = np.empty(n_classes), 0.0
    for k in range(n_classes):
        total = 0.0
        for r in range(rows):
            difference = c[k, r * stride] - c[0, r * stride]
            total += difference
            size += abs(difference)
        mean[k] = total / rows
    # A power of two changes no digit; float32 has no room for costs of 1e-42 or 1e300.
    unit = 1.0 if 1e-15 < size < 1e15 or not 0 < size < np.inf else 2.0 ** np.rint(np.log2(size))
    x, level, spread = np.zeros((blocks, n_classes, BLOCK), np.float32), np.empty(BLOCK, np.float32), 0.0
    for b in range(blocks):
        width = min(BLOCK, rows - b * BLOCK)
        level[:] = 0
        for k in range(n_classes):
            for r in range(width):
                i = (b * BLOCK + r) * stride
                x[b, k, r] = (c[k, i] - c[0, i] - mean[k]) / unit
                level[r] += x[b, k, r] / np.float32(n_classes)
        for k in range(n_classes):
            total = zero
            for r in range(width):
                total += abs(x[b, k, r] - level[r])
            spread += total
    spread /= rows * n_classes
    if not 1e-12 * np.abs(mean).max() / unit < spread < np.inf:
        return mean

    kernel = np.empty((n_classes, BLOCK), np.float32)
    top, total = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    phi, found = np.zeros(n_classes, np.float32), np.empty(n_classes, np.float32)
    for step in range(STEPS):
        temperature = spread * FIRST * (LAST / FIRST) ** (step / (STEPS - 1))
        rate = np.float32(1 / (64 * temperature))
        found[:] = 0
        for b in range(blocks):
            for r in range(BLOCK):
                top[r], total[r] = phi[0] - x[b, 0, r], 0
            for k in range(1, n_classes):
                for r in range(BLOCK):
                    # A sum is stored always, a maximum where it changes, which is five times as slow.
                    top[r] += max(phi[k] - x[b, k, r] - top[r], zero)
            for k in range(n_classes):
                for r in range(BLOCK):
                    # exp(y) = (1 + y / 64)^64 is good enough for a start.
                    e = max(one + (phi[k] - x[b, k, r] - top[r]) * rate, zero)
                    for _ in range(6):
                        e *= e
                    kernel[k, r] = e
                    total[r] += e
            for r in range(BLOCK):
                total[r] = one / total[r]
            total[rows - b * BLOCK :] = 0
            for k in range(n_classes):
                share = zero
                for r in range(BLOCK):
                    share += kernel[k, r] * total[r]
                found[k] += share
        for k in range(n_classes):
            ratio = mass[k] * rows / (n * max(found[k], 1e-30))
            phi[k] += temperature * np.log(min(max(ratio, 1e-3), 1e3))
    return mean + unit * phi


@compiled
def small_step(c):
    """Return a small difference from the least cost of a row to the next: one row in `SMALL` has a smaller one.

    It is a power of two, or inf where no row has a difference that rounding cannot have made.
    """
    steps, found = np.zeros(2 * EXPONENTS, np.int64), 0
    for i in range(c.shape[1]):
        least, second = np.inf, np.inf
        for k in range(c.shape[0]):
            least, second = min(c[k, i], least), min(second, max(c[k, i], least))
        if 1e-6 * abs(least) < second - least < np.inf:
            steps[int(np.ceil(np.log2(second - least))) + EXPONENTS] += SMALL
            found += 1
    step, exponent = np.inf, -EXPONENTS
    while found > 0:
        found -= steps[exponent + EXPONENTS]
        step = 2.0**exponent
        exponent += 1
    return step


@compiled
def capped(c, step):
    """Return costs (K, n) above the least of their row, none above `CAP` steps."""
    above = np.empty_like(c)
    for i in range(c.shape[1]):
        least = np.inf
        for k in range(c.shape[0]):
            least = min(c[k, i], least)
        for k in range(c.shape[0]):
            above[k, i] = min(c[k, i] - least, CAP * step)
    return above
