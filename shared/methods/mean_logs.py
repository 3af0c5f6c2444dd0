"""Compute the proportion loss and its gradients, compiled, for all bags at once; in float64, whatever their type."""

import math

from shared.transport.bare import compiled, doubles, floats, longs

LOWEST = -1.7e308  # in place of minus infinity, of which a difference would be NaN


@compiled
def mean_logs(block):
    """Write the mean over bags of ``- sum_k z_k log(mean_i p_ik)`` and its gradients.

    Parameters
    ----------
    block : address of four integers and six addresses, one after the other:

        bags, instances, n_classes, wide : B, M, K and whether numbers are in float64, or in float32
        offsets, log_p, proportions, value : of (B + 1,) int64 and (M, K), (B, K) and (1,) numbers
        slope, for_proportions : of (M, K) and (B, K) numbers, or 0 where a gradient is not wanted

    Returns
    -------
    int
        0, or 1 where offsets do not cut the instances into bags, and nothing is written.
    """
    words = longs(block, 1, 10)[0]
    bags, instances, classes = words[0], words[1], words[2]
    bounds = longs(words[4], 1, bags + 1)[0]
    if not cuts(bounds, instances):
        return 1
    log_p, z, value, slope, for_z = words[5], words[6], words[7], words[8], words[9]
    rows, lines = (instances if slope else 0), (bags if for_z else 0)
    if words[3]:
        tables = doubles(log_p, instances, classes), doubles(z, bags, classes), doubles(value, 1, 1)
        over_bags(bounds, *tables, doubles(slope, rows, classes), doubles(for_z, lines, classes))
    else:
        tables = floats(log_p, instances, classes), floats(z, bags, classes), floats(value, 1, 1)
        over_bags(bounds, *tables, floats(slope, rows, classes), floats(for_z, lines, classes))
    return 0


@compiled
def cuts(bounds, instances):
    """Return whether these (B + 1,) cut the instances into bags of one or more."""
    bags = len(bounds) - 1
    fine = bounds[0] == 0 and bounds[bags] == instances
    for bag in range(bags):
        fine &= bounds[bag] < bounds[bag + 1]
    return fine


@compiled
def over_bags(bounds, log_p, z, value, slope, for_z):
    """Write the loss, and what gradients there is room for."""
    (bags, classes), mean = z.shape, 0.0
    for bag in range(bags):
        start, end = bounds[bag], bounds[bag + 1]
        for k in range(classes):
            top, shares, weight = -math.inf, 0.0, -z[bag, k] / bags
            for i in range(start, end):
                top = max(top, float(log_p[i, k]))
            for i in range(start, end):
                log = float(log_p[i, k])
                log = log if not log < LOWEST else LOWEST  # a NaN stays one
                share = math.exp(log - max(top, LOWEST))
                shares += share
                if len(slope):
                    slope[i, k] = share
            log_mean = top + math.log(shares / (end - start))
            if log_mean == -math.inf and weight == 0:
                log_mean = 0.0  # 0 log 0 is 0
            mean += weight * log_mean
            if len(slope):
                for i in range(start, end):
                    slope[i, k] *= weight / shares
            if len(for_z):
                for_z[bag, k] = -log_mean / bags
    value[0, 0] = mean
