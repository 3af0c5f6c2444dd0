"""Iterate Algorithm 1 of Dulac-Arnold et al. 2019 on plain numbers, and its derivative, compiled, a bag at a time.

With the kernel (K, N) of a bag and weights w, at every step

    c = kernel v        u = (w / c)^tau        r = kernel^T u        v = 1 / r

A step reads the kernel once: what comes of four of its rows, u of these classes, goes into r while they are in the
nearest cache. A bag stops by itself, so that it neither waits for others nor depends on them.
"""

import math

import numpy as np
from numba import njit

SAFE, STOPPED = 0, 1  # how a bag's steps ended: all made or converged; at numbers that are no longer safe

compiled = njit(nogil=True, error_model="numpy")
vectorised = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})


@vectorised
def over_instances(kernel, v, c):
    """Write kernel v into c (K,)."""
    n_classes, n = kernel.shape
    zero = v[0] * 0
    full = n_classes - n_classes % 4
    for k in range(0, full, 4):
        s0, s1, s2, s3 = zero, zero, zero, zero
        for i in range(n):
            s0 += kernel[k, i] * v[i]
            s1 += kernel[k + 1, i] * v[i]
            s2 += kernel[k + 2, i] * v[i]
            s3 += kernel[k + 3, i] * v[i]
        c[k], c[k + 1], c[k + 2], c[k + 3] = s0, s1, s2, s3
    for k in range(full, n_classes):
        s0 = zero
        for i in range(n):
            s0 += kernel[k, i] * v[i]
        c[k] = s0


@vectorised
def there_and_back(kernel, v, add, w, tau, c, u, r):
    """Write c = kernel v + add, u = w c^-1 to the power tau, and add kernel^T u to r."""
    n_classes, n = kernel.shape
    zero = v[0] * 0
    for k in range(0, n_classes, 4):
        if k + 4 > n_classes:
            for j in range(k, n_classes):
                s0 = zero
                for i in range(n):
                    s0 += kernel[j, i] * v[i]
                c[j] = s0 + add[j]
                u[j] = w[j] / c[j] if tau == 1 else (w[j] / c[j]) ** tau
                u0 = u[j]
                for i in range(n):
                    r[i] += kernel[j, i] * u0
            break
        s0, s1, s2, s3 = zero, zero, zero, zero
        for i in range(n):
            s0 += kernel[k, i] * v[i]
            s1 += kernel[k + 1, i] * v[i]
            s2 += kernel[k + 2, i] * v[i]
            s3 += kernel[k + 3, i] * v[i]
        c[k], c[k + 1], c[k + 2], c[k + 3] = s0, s1, s2, s3
        for j in range(k, k + 4):
            c[j] += add[j]
            u[j] = w[j] / c[j] if tau == 1 else (w[j] / c[j]) ** tau
        u0, u1, u2, u3 = u[k], u[k + 1], u[k + 2], u[k + 3]
        for i in range(n):
            r[i] += (kernel[k, i] * u0 + kernel[k + 1, i] * u1) + (kernel[k + 2, i] * u2 + kernel[k + 3, i] * u3)


@vectorised
def back_and_there(kernel, for_r, slope, for_c, for_v):
    """Write for_c = slope (kernel for_r + for_c), and kernel^T for_c into for_v: the way back through a step."""
    n_classes, n = kernel.shape
    zero = for_r[0] * 0
    for_v[:] = 0
    full = n_classes - n_classes % 4
    for k in range(0, full, 4):
        s0, s1, s2, s3 = zero, zero, zero, zero
        for i in range(n):
            s0 += kernel[k, i] * for_r[i]
            s1 += kernel[k + 1, i] * for_r[i]
            s2 += kernel[k + 2, i] * for_r[i]
            s3 += kernel[k + 3, i] * for_r[i]
        s0, s1 = (s0 + for_c[k]) * slope[k], (s1 + for_c[k + 1]) * slope[k + 1]
        s2, s3 = (s2 + for_c[k + 2]) * slope[k + 2], (s3 + for_c[k + 3]) * slope[k + 3]
        for_c[k], for_c[k + 1], for_c[k + 2], for_c[k + 3] = s0, s1, s2, s3
        for i in range(n):
            for_v[i] += (kernel[k, i] * s0 + kernel[k + 1, i] * s1) + (kernel[k + 2, i] * s2 + kernel[k + 3, i] * s3)
    for k in range(full, n_classes):
        s0 = zero
        for i in range(n):
            s0 += kernel[k, i] * for_r[i]
        s0 = (s0 + for_c[k]) * slope[k]
        for_c[k] = s0
        for i in range(n):
            for_v[i] += kernel[k, i] * s0


@compiled
def within(values, bound):
    """Tell whether all lie from 1 / bound to bound; NaN does not."""
    for value in values:  # noqa: SIM110 (compiled as it stands)
        if not 1 / bound <= value <= bound:
            return False
    return True


@vectorised
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


@njit(cache=True, nogil=True, error_model="numpy")
def run(kernel, weight, mass, absent, missing, tau, bound, limits, every, left, u, v, us, columns, vs, done, ends):
    """Make up to ``left[b]`` steps of every bag.

    Parameters
    ----------
    kernel (B, K, N), weight (B, K), absent (B, K), missing (B, N) : see `PlainSteps`
    mass : (B, K) for `farthest`, or (B, 0)
    limits : (B,) `farthest` at which a bag stops, looked at every `every` steps; negative is never
    u, v : (B, K), (B, N) at the start, and then at the end
    us, columns, vs : (B, S, K), (B, S, K), (B, S + 1, N) take all u, c and v, those of the start first; where S is 0,
        none are kept
    done, ends : (B,) steps made and how they ended. Steps since the last look, before numbers became unsafe, do not
        count, and are not in u and v
    """
    keeps, two, one, c = us.shape[1] > 0, np.empty((2, v.shape[1]), v.dtype), np.empty_like(u[0]), np.empty_like(u[0])
    for b in range(len(kernel)):
        done[b], ends[b] = 0, SAFE
        if left[b] == 0:
            continue
        if not within(weight[b], bound * bound):
            ends[b] = STOPPED
            continue
        if keeps:
            vs[b, 0] = v[b]
        else:
            two[0] = v[b]
        for step in range(left[b]):
            if keeps:
                there, now, sums, back = vs[b, step], us[b, step], columns[b, step], vs[b, step + 1]
            else:
                there, now, sums, back = two[step % 2], one, c, two[1 - step % 2]
            back[:] = missing[b]
            there_and_back(kernel[b], there, absent[b], weight[b], tau, sums, now, back)
            for i in range(len(back)):
                back[i] = 1 / back[i]
            if (step + 1) % every == 0 or step + 1 == left[b]:
                if not (within(now, bound) and within(back, bound)):
                    ends[b] = STOPPED
                    break
                done[b] = step + 1
                u[b], v[b] = now, back
                if limits[b] >= 0 and farthest(kernel[b], back, weight[b], tau, now, mass[b], c) <= limits[b]:
                    break


@njit(cache=True, nogil=True, error_model="numpy")
def run_back(kernel, us, columns, vs, tau, done, for_u, for_v, for_columns, for_rows):
    """Go back through the steps that `run` kept.

    for_u (B, K) and for_v (B, N) come in as the slopes of the last u and v and go out as those of the first; where
    steps were made, for_u is 0 then. for_columns (B, S, K) and for_rows (B, S, N) take the slopes of all c and r.
    """
    slope, before = for_u[0].copy(), for_v[0].copy()
    for b in range(len(kernel)):
        for step in range(done[b] - 1, -1, -1):
            v_next = vs[b, step + 1]
            for i in range(len(before)):
                for_rows[b, step, i] = -for_v[b, i] * v_next[i] * v_next[i]
            for k in range(len(slope)):
                slope[k] = -tau * us[b, step, k] / columns[b, step, k]
            back_and_there(kernel[b], for_rows[b, step], slope, for_u[b], for_v[b])
            for_columns[b, step] = for_u[b]
            for_u[b] = 0
