"""Compute Relax-OT, Dulac-Arnold et al. 2019, Equation 6 by Algorithm 1, and its gradient, compiled, all bags at once.

With L = log p / epsilon turned to (K, n), masses m = n z and tau as of `rot_tau`, a step of the algorithm is

    c = K v        u = (m / c)^tau        r = K^T u        v = 1 / r,        K = e^L, v = 1 at first,

and U = diag(v) K^T diag(u) in the end. The first step is made in logarithms and absorbed, K' = diag(a) K diag(b), so
that u and v begin at 1; the others are made of plain numbers, in float64 whatever the type of log p. Neither a nor b
has a part in the derivative, for the answer depends on neither. Where numbers leave a safe range the answer says so.
"""

import math

from shared.methods.mean_logs import cuts
from shared.transport.bare import compiled, doubles, floats, longs, vectorised
from shared.transport.loops import add_one, farthest, over_instances, there_and_back, within

SAFE = 1e60  # u, v and their inverses: products of three are numbers
LEAST = -700.0  # e^LEAST is a normal number
EVERY = 10  # steps between looks, as in `shared.transport.scaling`
NO_GRADIENT, ENVELOPE, UNROLLED = 0, 1, 2
MISFIT, UNSAFE = 1, 2


@compiled
def relax_bags(block):
    """Write the mean over bags of Equation 6 and its gradient with respect to log p.

    Parameters
    ----------
    block : address of eleven integers, four floats and an integer, one after the other:

        bags, instances, n_classes, wide : B, M, K and whether log p is in float64, or in float32
        offsets, log_p, proportions, value, slope : of (B + 1,) int64 and (M, K), (B, K), (1,) and (M, K) numbers
        gradient : `NO_GRADIENT`, that at the optimum (`ENVELOPE`) or that of all steps (`UNROLLED`)
        iterations : int
        alpha, epsilon, tau, tolerance : floats; below 0, and all iterations are made, see `farthest`
        room : address of as many float64 as `papers.rot.loss` reckons for the longest bag

    Returns
    -------
    int
        0; `MISFIT` where offsets do not cut the instances into bags, `UNSAFE` where plain numbers do not do.
    """
    words, numbers = longs(block, 1, 16)[0], doubles(block, 1, 16)[0]
    bags, instances, n_classes, wide, gradient = words[0], words[1], words[2], words[3], words[9]
    bounds, total, epsilon = longs(words[4], 1, bags + 1)[0], 0.0, numbers[12]
    if not cuts(bounds, instances):
        return MISFIT
    for bag in range(bags):
        start, n = bounds[bag], bounds[bag + 1] - bounds[bag]
        there, mass = longs(words[15], 1, n_classes)[0], doubles(words[15] + 8 * n_classes, 1, n_classes)[0]
        logs, room = doubles(words[15] + 16 * n_classes, n_classes, n), words[15] + 8 * n_classes * (2 + n)
        if wide:
            z, log_p = doubles(words[6], bags, n_classes)[bag], doubles(words[5], instances, n_classes)
            classes = take(log_p, start, z, epsilon, there, mass, logs)
        else:
            z, log_p = floats(words[6], bags, n_classes)[bag], floats(words[5], instances, n_classes)
            classes = take(log_p, start, z, epsilon, there, mass, logs)
        total += relax(logs[:classes], mass[:classes], bags, gradient, words[10], numbers[11:15], room)
        if not -math.inf < total < math.inf:
            return UNSAFE
        if gradient and wide:
            put(logs, there[:classes], start, doubles(words[8], instances, n_classes))
        elif gradient:
            put(logs, there[:classes], start, floats(words[8], instances, n_classes))
    if wide:
        doubles(words[7], 1, 1)[0, 0] = total / bags
    else:
        floats(words[7], 1, 1)[0, 0] = total / bags
    return 0


@compiled
def take(log_p, start, z, epsilon, there, mass, logs):
    """Write which classes a bag has, their masses and L, and return how many they are."""
    n, classes = logs.shape[1], 0
    for k in range(len(z)):
        if z[k] > 0:
            there[classes], mass[classes] = k, n * z[k]
            for i in range(n):
                logs[classes, i] = log_p[start + i, k] / epsilon
            classes += 1
    return classes


@compiled
def put(logs, there, start, slope):
    """Write what took the place of L, and 0 for other classes."""
    n = logs.shape[1]
    for i in range(start, start + n):
        for k in range(slope.shape[1]):
            slope[i, k] = 0
    for j in range(len(there)):
        for i in range(n):
            slope[start + i, there[j]] = logs[j, i]


@compiled
def relax(logs, mass, bags, gradient, iterations, options, room):
    """Return Equation 6 of a bag, NaN where numbers were not safe; its gradient over B takes the place of `logs`."""
    (classes, n), kept = logs.shape, iterations if gradient == UNROLLED else 1
    alpha, epsilon, tau, tolerance = options[0], options[1], options[2], options[3]
    kernel, table = doubles(room, classes, n), doubles(room + 8 * classes * n, classes, n)
    room += 16 * classes * n
    us, columns = doubles(room, kept, classes), doubles(room + 8 * kept * classes, kept, classes)
    vs, room = doubles(room + 16 * kept * classes, kept, n), room + 8 * kept * (2 * classes + n)
    of_classes, of_rows = doubles(room, 5, classes), doubles(room + 8 * 5 * classes, 2, n)
    log_a, weight, none, by_class, through = of_classes[0], of_classes[1], of_classes[2], of_classes[3], of_classes[4]
    log_b, sums = of_rows[0], of_rows[1]

    absorb(logs, mass, tau, kernel, weight, log_a, log_b, sums)
    us[0, :], vs[0, :], none[:] = 1, 1, 0
    last = 0
    if not within(weight, SAFE * SAFE):
        return math.nan
    for step in range(1, iterations if tau > 0 else 1):
        before, last = (step - 1, step) if gradient == UNROLLED else (0, 0)
        u, v = us[last], sums
        v[:] = 0
        there_and_back(kernel, vs[before], none, weight, tau, columns[last], u, v)
        for i in range(n):
            vs[last, i] = 1 / v[i]
        if step % EVERY == 0 or step == iterations - 1:
            if not (within(u, SAFE) and within(vs[last], SAFE)):
                return math.nan
            if tolerance >= 0 and farthest(kernel, vs[last], weight, tau, u, none[:0], by_class) * epsilon <= tolerance:
                break

    # As log U = L + log a + log b, tr(C^T U) - epsilon H(U) is epsilon times the sum of U (log a + log b).
    u, v, instance, bag = us[last], vs[last], 0.0, 0.0
    over_instances(kernel, v, by_class)
    for k in range(classes):
        carried, log_a[k] = u[k] * by_class[k], log_a[k] + math.log(u[k])
        far = math.log(carried / mass[k]) if carried > 0 else 0.0
        instance += carried * log_a[k]
        bag += carried / n * far
        by_class[k] = (1 - alpha) / n * far + alpha / n * epsilon * log_a[k]
    for i in range(n):
        instance += log_b[i] + math.log(v[i])
    if gradient == ENVELOPE:
        for k in range(classes):
            for i in range(n):
                logs[k, i] = -alpha / n / bags * kernel[k, i] * u[k] * v[i]
    elif gradient == UNROLLED:
        begin_back(kernel, u, v, by_class, alpha / n * epsilon, table, through, sums)
        for step in range(last, 0, -1):
            for k in range(classes):
                by_class[k] = tau * through[k] / columns[step, k]
            step_back(kernel, us[step - 1], vs[step - 1], by_class, table, through, sums)
        end_back(logs, kernel, table, through, tau, epsilon * bags)
    return alpha / n * epsilon * instance + (1 - alpha) * bag


@compiled
def absorb(logs, mass, tau, kernel, weight, log_a, log_b, top):
    """Make the first step, from v = 1, in logarithms; write K' and m a^(1 - 1 / tau), of which u is made henceforth."""
    classes, n = logs.shape
    log_b[:], top[:] = 0, -math.inf
    for k in range(classes):
        most, total = -math.inf, 0.0
        for i in range(n):
            most = max(most, logs[k, i])
        for i in range(n):
            total += math.exp(logs[k, i] - most)
        ratio = math.log(mass[k]) - most - math.log(total)
        log_a[k], weight[k] = tau * ratio, math.exp(math.log(mass[k]) + (tau - 1) * ratio)
        for i in range(n):
            top[i] = max(top[i], logs[k, i] + log_a[k])
    for k in range(classes):
        for i in range(n):
            share = logs[k, i] + log_a[k] - top[i]
            kernel[k, i] = 0.0 if share < LEAST else math.exp(share)
            log_b[i] += kernel[k, i]
    for k in range(classes):
        for i in range(n):
            kernel[k, i] /= log_b[i]
    for i in range(n):
        log_b[i] = -top[i] - math.log(log_b[i])


@vectorised
def begin_back(kernel, u, v, by_class, direct, table, through, mean):
    """Go back through U = diag(v) K^T diag(u) and v, which u makes, from the slopes `by_class` (K,) of its columns.

    `table` takes the slope with respect to L, over K', and `direct` of U itself; `through` that to log u.
    """
    mean[:] = 0
    for k in range(len(u)):
        add_one(kernel[k], u[k] * by_class[k], mean)
    for i in range(len(v)):
        mean[i] *= v[i]
    for k in range(len(u)):
        total = 0.0
        for i in range(len(v)):
            slope = by_class[k] - mean[i]
            table[k, i] = u[k] * v[i] * (slope - direct)
            total += kernel[k, i] * v[i] * slope
        through[k] = u[k] * total


@vectorised
def step_back(kernel, u, v, by_class, table, through, sums):
    """Go back through a step that began at u and v; `by_class` (K,) is the slope with respect to -log c, over c."""
    sums[:] = 0
    for k in range(len(u)):
        add_one(kernel[k], by_class[k], sums)
    for i in range(len(v)):
        sums[i] *= v[i]
    for k in range(len(u)):
        total = 0.0
        for i in range(len(v)):
            total += kernel[k, i] * v[i] * sums[i]
            table[k, i] += v[i] * (sums[i] * u[k] - by_class[k])
        through[k] = u[k] * total


@compiled
def end_back(logs, kernel, table, through, tau, over):
    """Go back through the first step, and write the slope with respect to L, divided, in the place of L."""
    classes, n = logs.shape
    for k in range(classes):
        most, total = -math.inf, 0.0
        for i in range(n):
            most = max(most, logs[k, i])
        for i in range(n):
            logs[k, i] = math.exp(logs[k, i] - most)
            total += logs[k, i]
        for i in range(n):
            logs[k, i] = (kernel[k, i] * table[k, i] - tau * through[k] * logs[k, i] / total) / over
