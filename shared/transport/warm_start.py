"""Where successive shortest paths begin: class potentials that leave little to send, from a few entropic iterations.

Good potentials save time, bad ones cost it, and none changes an answer.
"""

import numpy as np

from shared.transport.bare import compiled, vectorised

BLOCK = 64  # instances whose exponentials are taken at once
STEPS, FIRST, LAST = 5, 0.5, 0.1  # of the iterations, and their temperatures in mean absolute deviations of the costs
SAMPLE, SAMPLED = 256, 20_000  # rows that they take of bags of fewer costs than the second
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
    n, step = c.shape[1], common_step(c)
    left, found, least, second = np.inf, wide[0], lines[0], lines[1]
    for k in range(len(phi)):
        phi[k] = 0.0
    for trial in range(first, 2):
        if trial:
            capped(c, CAP * small_step(c, steps), above)
        entropic(above if trial else c, mass, found, wide, x, lanes)
        if step > 0:
            for k in range(len(phi)):
                found[k] = np.rint(found[k] / step) * step
        cheapest(c, found, least, second, label)
        sent = to_send(mass, label, wide[2])
        if sent < left / 2:
            left = sent
            for k in range(len(phi)):
                phi[k] = found[k]
        else:
            cheapest(c, phi, least, second, label)
        if left <= n / 2 or step > 0:
            return
    if first == 2:
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
def entropic(c, mass, answer, wide, x, lanes):
    """Write class potentials of the entropic problem at falling temperatures, on a sample of the rows, in float32.

    Costs lose their row and column means first: those change the potentials and not the plan.
    """
    n_classes, n = c.shape
    stride = max(1, n // SAMPLE) if n * n_classes < SAMPLED else 1
    rows = (n + stride - 1) // stride
    blocks = (rows + BLOCK - 1) // BLOCK
    broad = BLOCK if rows > BLOCK else (rows + 7) // 8 * 8
    one, zero = np.float32(1), np.float32(0)
    size, far, first = 0.0, 0.0, c[0]
    mean, phi, found = wide[1], wide[2], wide[3]
    for k in range(n_classes):
        total, row = 0.0, c[k]
        for r in range(rows):
            difference = row[r * stride] - first[r * stride]
            total += difference
            size += abs(difference)
        answer[k] = mean[k] = total / rows
        far = max(far, abs(mean[k]))
    # A power of two changes no digit; float32 has no room for costs of 1e-42 or 1e300.
    unit = 1.0 if 1e-15 < size < 1e15 or not 0 < size < np.inf else 2.0 ** np.rint(np.log2(size))
    level, spread, share_of_row = lanes[0], 0.0, np.float32(1 / n_classes)
    for b in range(blocks):
        width = min(BLOCK, rows - b * BLOCK)
        for r in range(BLOCK):
            level[r] = zero
        for k in range(n_classes):
            to, row = x[b * n_classes + k], c[k]
            for r in range(width):
                i = (b * BLOCK + r) * stride
                to[r] = (row[i] - first[i] - mean[k]) / unit
                level[r] += to[r] * share_of_row
            for r in range(width, BLOCK):
                to[r] = zero
        for k in range(n_classes):
            total, to = zero, x[b * n_classes + k]
            for r in range(width):
                total += abs(to[r] - level[r])
            spread += total
    spread /= rows * n_classes
    if not 1e-12 * far / unit < spread < np.inf:
        return

    shares, top, whole = x[blocks * n_classes :], lanes[1], lanes[2]
    for k in range(n_classes):
        phi[k] = 0
    for step in range(STEPS):
        temperature = spread * FIRST * (LAST / FIRST) ** (step / (STEPS - 1))
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
            ratio = mass[k] * rows / (n * max(found[k], 1e-30))
            phi[k] += temperature * np.log(min(max(ratio, 1e-3), 1e3))
    for k in range(n_classes):
        answer[k] = mean[k] + unit * phi[k]


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
def small_step(c, steps):
    """Return a small difference from the least cost of a row to the next: one row in `SMALL` has a smaller one.

    It is a power of two, or inf where no row has a difference that rounding cannot have made.
    """
    found = 0
    for at in range(len(steps)):
        steps[at] = 0
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
def capped(c, most, above):
    """Write costs (K, n) above the least of their row, none above `most`."""
    for i in range(c.shape[1]):
        least = np.inf
        for k in range(c.shape[0]):
            least = min(c[k, i], least)
        for k in range(c.shape[0]):
            above[k, i] = min(c[k, i] - least, most)
