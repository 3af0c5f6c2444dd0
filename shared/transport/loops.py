"""Iterate Algorithm 1 of Dulac-Arnold et al. 2019 on plain numbers, and its derivative, compiled, a bag at a time.

With the kernel (K, N) of a bag and weights w, at every step

    c = kernel v        u = (w / c)^tau        r = kernel^T u        v = 1 / r

A step reads the kernel once: what comes of four of its rows, u of these classes, goes into r while they are in the
nearest cache. A bag stops by itself, so that it neither waits for others nor depends on them.

Where only the limit is asked for, log u is extrapolated at every look (reduced rank extrapolation: Sidi 2017, Chapter
2), which at small epsilon takes a half to a thirtieth of the steps. What was farther from converged at the next look is
taken back, and after each time in a row twice as many looks pass without: the plain steps converge.
"""

import math

from shared.transport.bare import compiled, copy, vectorised
from shared.transport.constants import SAFE, STOPPED, TERMS

FAR = 700.0  # of log u: e^FAR is a number


@vectorised
def of_four(rows, k, v):
    """Return the products of four rows, from the k-th on, with v."""
    s0, s1, s2, s3 = v[0] * 0, v[0] * 0, v[0] * 0, v[0] * 0
    for i in range(len(v)):
        s0 += rows[k, i] * v[i]
        s1 += rows[k + 1, i] * v[i]
        s2 += rows[k + 2, i] * v[i]
        s3 += rows[k + 3, i] * v[i]
    return s0, s1, s2, s3


@vectorised
def of_one(row, v):
    """Return the product of a row with v."""
    total = v[0] * 0
    for i in range(len(v)):
        total += row[i] * v[i]
    return total


@vectorised
def add_four(rows, k, by, r):
    """Add four rows, from the k-th on, times their numbers in `by`, to r."""
    b0, b1, b2, b3 = by[k], by[k + 1], by[k + 2], by[k + 3]
    for i in range(len(r)):
        r[i] += (rows[k, i] * b0 + rows[k + 1, i] * b1) + (rows[k + 2, i] * b2 + rows[k + 3, i] * b3)


@vectorised
def add_one(row, by, r):
    """Add a row times a number to r."""
    for i in range(len(r)):
        r[i] += row[i] * by


@compiled
def over_instances(kernel, v, c):
    """Write kernel v into c (K,)."""
    full = len(c) - len(c) % 4
    for k in range(0, full, 4):
        c[k], c[k + 1], c[k + 2], c[k + 3] = of_four(kernel, k, v)
    for k in range(full, len(c)):
        c[k] = of_one(kernel[k], v)


@compiled
def there_and_back(kernel, v, add, w, tau, c, u, r):
    """Write c = kernel v + add, u = w c^-1 to the power tau, and add kernel^T u to r."""
    full = len(c) - len(c) % 4
    for k in range(0, full, 4):
        c[k], c[k + 1], c[k + 2], c[k + 3] = of_four(kernel, k, v)
        for j in range(k, k + 4):
            c[j] += add[j]
            u[j] = w[j] / c[j] if tau == 1 else (w[j] / c[j]) ** tau
        add_four(kernel, k, u, r)
    for k in range(full, len(c)):
        c[k] = of_one(kernel[k], v) + add[k]
        u[k] = w[k] / c[k] if tau == 1 else (w[k] / c[k]) ** tau
        add_one(kernel[k], u[k], r)


@compiled
def back_and_there(kernel, for_r, slope, for_c, for_v):
    """Write for_c = slope (kernel for_r + for_c), and kernel^T for_c into for_v: the way back through a step."""
    full = len(for_c) - len(for_c) % 4
    for_v[:] = 0
    for k in range(0, full, 4):
        s0, s1, s2, s3 = of_four(kernel, k, for_r)
        for_c[k], for_c[k + 1] = (s0 + for_c[k]) * slope[k], (s1 + for_c[k + 1]) * slope[k + 1]
        for_c[k + 2], for_c[k + 3] = (s2 + for_c[k + 2]) * slope[k + 2], (s3 + for_c[k + 3]) * slope[k + 3]
        add_four(kernel, k, for_c, for_v)
    for k in range(full, len(for_c)):
        for_c[k] = (of_one(kernel[k], for_r) + for_c[k]) * slope[k]
        add_one(kernel[k], for_c[k], for_v)


@compiled
def within(values, bound):
    """Tell whether all lie from 1 / bound to bound; NaN does not."""
    for value in values:  # noqa: SIM110 (compiled as it stands)
        if not 1 / bound <= value <= bound:
            return False
    return True


@compiled
def farthest(kernel, v, w, tau, u, mass, c):
    """Return what is left to converge: of a column's mass, or, without masses, of the logarithm of its scaling.

    What has no mass in its kernel is absent and has nothing left.
    """
    over_instances(kernel, v, c)
    most = 0.0
    for k in range(len(u)):
        if c[k] > 0:
            off = abs(u[k] * c[k] - mass[k]) if len(mass) else abs(tau * math.log(w[k] / c[k]) - math.log(u[k]))
            most = max(most, off)
    return most


@compiled
def extrapolated(trace, noise, gram, u):
    """Write u whose logarithm is where the last steps lead, TERMS + 2 of log u in `trace`; return whether it could.

    It is the combination of steps whose moves cancel best, by least squares; what lies below rounding, `noise` times
    the greatest of log u, is no move. `trace` becomes the moves and `gram` (TERMS + 1, TERMS) the normal equations.
    """
    most, total = 0.0, 0.0
    for k in range(len(u)):
        most = max(most, abs(trace[TERMS + 1, k]))
        u[k] = trace[TERMS + 1, k]
        for j in range(TERMS + 1):
            trace[j, k] = trace[j + 1, k] - trace[j, k]
    for i in range(TERMS):
        for j in range(TERMS + 1):
            gram[j, i] = 0
        for k in range(len(u)):
            change = trace[i + 1, k] - trace[i, k]
            for j in range(i + 1):
                gram[j, i] += change * (trace[j + 1, k] - trace[j, k])
            gram[TERMS, i] += change * trace[TERMS, k]
        total += gram[i, i]
    ridge = 1e-10 * total + len(u) * (noise * most) * (noise * most)
    for i in range(TERMS):
        gram[i, i] += ridge
        if not gram[i, i] > 0:
            return False
        for j in range(i + 1, TERMS):
            by = gram[i, j] / gram[i, i]
            for h in range(j, TERMS):
                gram[j, h] -= by * gram[i, h]
            gram[TERMS, j] -= by * gram[TERMS, i]
    for i in range(TERMS - 1, -1, -1):
        for j in range(i + 1, TERMS):
            gram[TERMS, i] -= gram[i, j] * gram[TERMS, j]
        gram[TERMS, i] /= gram[i, i]
    for k in range(len(u)):
        far = u[k] * 1.0
        for i in range(TERMS):
            far -= gram[TERMS, i] * trace[i + 1, k]
        if not -FAR < far < FAR:
            return False
        u[k] = math.exp(far)
    return True


@compiled
def scale_rows(kernel, u, missing, v):
    """Write v = 1 / (kernel^T u + missing)."""
    copy(missing, v)
    for k in range(len(u)):
        add_one(kernel[k], u[k], v)
    for i in range(len(v)):
        v[i] = 1 / v[i]


@compiled
def run(
    kernel, weight, mass, absent, missing, tau, bound, limits, every, left, u, v, us, columns, vs, done, ends, room,
    noise, trace, gram,
):  # fmt: skip
    """Make up to ``left[b]`` steps of every bag.

    Parameters
    ----------
    kernel (B, K, N), weight (B, K), absent (B, K), missing (B, N) : see `PlainSteps`
    mass : (B, K) for `farthest`, or (B, 0)
    limits : (B,) `farthest` at which a bag stops, looked at every `every` steps; negative is never. Where it may stop
        and no steps are kept, they are extrapolated
    u, v : (B, K), (B, N) at the start, and then at the end
    us, columns, vs : (B, S, K), (B, S, K), (B, S + 1, N) take all u, c and v, those of the start first; where S is 0,
        none are kept
    done, ends : (B,) steps made and how they ended. Steps since the last look, before numbers became unsafe, do not
        count, and are not in u and v
    room : (4, max(K, N)) to work in
    noise, trace, gram : rounding of u, (TERMS + 2, K) and (TERMS + 1, TERMS) float64, see `extrapolated`
    """
    keeps, (classes, n) = us.shape[1] > 0, kernel.shape[1:]
    one, c = room[2, :classes], room[3, :classes]
    for b in range(len(kernel)):
        done[b], ends[b] = 0, SAFE
        if left[b] == 0:
            continue
        if not within(weight[b], bound * bound):
            ends[b] = STOPPED
            continue
        first = vs[b, 0] if keeps else room[0, :n]
        copy(v[b], first)
        ahead, helps, error, doubt, rest = False, limits[b] >= 0 and not keeps and every > TERMS + 1, math.inf, 1, 0
        for step in range(left[b]):
            if keeps:
                there, now, sums, back = vs[b, step], us[b, step], columns[b, step], vs[b, step + 1]
            else:
                there, now, sums, back = room[step % 2, :n], one, c, room[1 - step % 2, :n]
            copy(missing[b], back)
            there_and_back(kernel[b], there, absent[b], weight[b], tau, sums, now, back)
            for i in range(len(back)):
                back[i] = 1 / back[i]
            recent = step % every - every + TERMS + 2
            if helps and recent >= 0:
                for k in range(classes):
                    trace[recent, k] = math.log(now[k])
            if (step + 1) % every == 0 or step + 1 == left[b]:
                last, safe = error, within(now, bound) and within(back, bound)
                if safe and limits[b] >= 0:
                    error = farthest(kernel[b], back, weight[b], tau, now, mass[b], c)
                if ahead and not (safe and error <= last):
                    ahead, error, doubt, rest = False, last, 2 * doubt, 2 * doubt
                    done[b] = step + 1
                    copy(v[b], back)
                    continue
                if not safe:
                    ends[b] = STOPPED
                    break
                done[b] = step + 1
                copy(now, u[b])
                copy(back, v[b])
                if limits[b] >= 0 and error <= limits[b]:
                    break
                if ahead:
                    doubt = max(doubt // 2, 1)
                ahead = False
                if rest > 0:
                    rest -= 1
                elif helps and step + 1 < left[b]:
                    ahead = extrapolated(trace, noise, gram, now) and within(now, bound)
                if ahead:
                    scale_rows(kernel[b], now, missing[b], back)


@compiled
def run_back(kernel, us, columns, vs, tau, done, for_u, for_v, for_columns, for_rows, slope):
    """Go back through the steps that `run` kept.

    for_u (B, K) and for_v (B, N) come in as the slopes of the last u and v and go out as those of the first; where
    steps were made, for_u is 0 then. for_columns (B, S, K) and for_rows (B, S, N) take the slopes of all c and r.
    slope (K,) is room to work in.
    """
    for b in range(len(kernel)):
        for step in range(done[b] - 1, -1, -1):
            v_next = vs[b, step + 1]
            for i in range(len(v_next)):
                for_rows[b, step, i] = -for_v[b, i] * v_next[i] * v_next[i]
            for k in range(len(slope)):
                slope[k] = -tau * us[b, step, k] / columns[b, step, k]
            back_and_there(kernel[b], for_rows[b, step], slope, for_u[b], for_v[b])
            copy(for_u[b], for_columns[b, step])
            for_u[b, :] = 0
