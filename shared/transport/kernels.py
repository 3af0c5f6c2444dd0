"""Run Algorithm 1 of Dulac-Arnold et al. 2019 and its derivative as Triton kernels, one program a bag.

With L = -C / epsilon and masses m = n z, the iterations and their end are, in the log domain,

    s_t = log sum_i exp(L_i + log b_{t-1})      log a_t = tau (log m - s_t)      log b_t = -log sum_k exp(L_k + log a_t)
    P = exp(L + log a_T + log b_T)

b is a function of a alone, so a pass over a bag's rows makes an iteration: what is kept from one to the next, and for
the derivative, are K numbers, s_t. Rows come in blocks; a bag that fits one block (`WHOLE`) stays in registers.

This module imports triton; `shared.transport.fused` imports it where it is wanted. Scalars of a launch are float32, so
what must be known to float64 comes in two parts, high and low.
"""

import triton
import triton.language as tl

NOTHING = tl.constexpr(-1e30)  # L of what must carry no mass, as in `shared.transport.scaling`


@triton.jit
def _parts(high, low, like):
    return tl.cast(high, like.dtype.element_ty) + tl.cast(low, like.dtype.element_ty)


@triton.jit
def _bag(cost, offsets, proportions, classes, BLOCK_K: tl.constexpr):
    """Start and size of this program's bag, its classes that are there, and their masses (1 for others)."""
    bag = tl.program_id(0).to(tl.int64)
    start = tl.load(offsets + bag)
    n = (tl.load(offsets + bag + 1) - start).to(tl.int32)
    columns = tl.arange(0, BLOCK_K)
    share = tl.load(proportions + bag * classes + columns, mask=columns < classes, other=0)
    present = share > 0
    mass = tl.where(present, n.to(cost.dtype.element_ty) * share, 1)
    return bag, start, n, columns, present, mass


@triton.jit
def _places(start, first, n, classes, columns, present, BLOCK_N: tl.constexpr):
    """Where the entries of a block lie, which rows there are, and which entries may carry mass."""
    rows = first + tl.arange(0, BLOCK_N)
    real = rows < n
    return (start + rows)[:, None] * classes + columns[None, :], real, real[:, None] & present[None, :]


@triton.jit
def _logs(cost, place, seen, scale):
    return tl.where(seen, tl.load(cost + place, mask=seen, other=0) * scale, NOTHING)


@triton.jit
def _begin(
    cost, offsets, proportions, classes, scale_high, scale_low, tau_high, tau_low, first,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """What every program begins with: its bag, the numbers that two float32 carry, and its rows from `first` on."""
    bag, start, n, columns, present, mass = _bag(cost, offsets, proportions, classes, BLOCK_K)
    scale, tau = _parts(scale_high, scale_low, cost), _parts(tau_high, tau_low, cost)
    place, real, seen = _places(start, first, n, classes, columns, present, BLOCK_N)
    logs = _logs(cost, place, seen, scale)
    return bag, start, n, columns, columns < classes, present, mass, tl.log(mass), scale, tau, place, real, seen, logs


@triton.jit
def _rows(logs, log_a):
    """The rows of the plan, exact to rounding, and log b."""
    terms = logs + log_a[None, :]
    top = tl.max(terms, 1)
    shares = tl.exp(terms - top[:, None])
    total = tl.sum(shares, 1)
    return shares / total[:, None], -(top + tl.log(total))


@triton.jit
def _add_to_columns(logs, real, log_b, top, total):
    """Add a block to column sums held as exp(top) total."""
    terms = tl.where(real[:, None], logs + log_b[:, None], float("-inf"))
    high = tl.maximum(top, tl.max(terms, 0))
    return high, total * tl.exp(top - high) + tl.sum(tl.exp(terms - high[None, :]), 0)


@triton.jit
def _column_logs(
    logs, real, log_a, cost, start, n, classes, columns, present, scale,
    FROM_ONE: tl.constexpr, WHOLE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """s of the next iteration: from b = 1, or from the b that follows from a."""
    top = tl.full((BLOCK_K,), float("-inf"), log_a.dtype)
    total = tl.zeros((BLOCK_K,), log_a.dtype)
    if WHOLE:
        log_b = tl.zeros((BLOCK_N,), log_a.dtype)
        if not FROM_ONE:
            _, log_b = _rows(logs, log_a)
        top, total = _add_to_columns(logs, real, log_b, top, total)
    else:
        for first in range(0, n, BLOCK_N):
            place, there, seen = _places(start, first, n, classes, columns, present, BLOCK_N)
            block = _logs(cost, place, seen, scale)
            log_b = tl.zeros((BLOCK_N,), log_a.dtype)
            if not FROM_ONE:
                _, log_b = _rows(block, log_a)
            top, total = _add_to_columns(block, there, log_b, top, total)
    return top + tl.log(total)


@triton.jit
def _to_converge(sums, log_a, log_mass, mass, present, n, tau, scale, BALANCED: tl.constexpr):
    """Worst error of a column over n, or the farthest move of a class potential, in units of cost."""
    if BALANCED:
        off = tl.abs(tl.exp(log_a + sums) - mass) / n.to(mass.dtype)
    else:
        off = tl.abs(tau * (log_mass - sums) - log_a) / -scale
    return tl.max(tl.where(present, off, 0), 0)


@triton.jit
def forward(
    cost, offsets, proportions, history, plan, log_a_out, log_b_out, columns_out, value, entropy, violation, error,
    done_out, classes, iterations, scale_high, scale_low, tau_high, tau_low, tolerance, every,
    KEEP: tl.constexpr, STOPS: tl.constexpr, BALANCED: tl.constexpr, PLAN: tl.constexpr,
    WHOLE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """All iterations of a bag, and what follows from the last; `history` (B, T, K) gets the s_t if KEEP."""
    bag, start, n, columns, inside, present, mass, log_mass, scale, tau, place, real, seen, logs = _begin(
        cost, offsets, proportions, classes, scale_high, scale_low, tau_high, tau_low, 0, BLOCK_N, BLOCK_K
    )
    kept = history + bag * iterations * classes + columns

    sums = _column_logs(
        logs, real, log_mass, cost, start, n, classes, columns, present, scale, True, WHOLE, BLOCK_N, BLOCK_K
    )
    log_a = tl.where(present, tau * (log_mass - sums), 0)
    if KEEP:
        tl.store(kept, sums, mask=inside)
    sums = _column_logs(
        logs, real, log_a, cost, start, n, classes, columns, present, scale, False, WHOLE, BLOCK_N, BLOCK_K
    )
    done = 1
    going = done < iterations
    while going:
        log_a = tl.where(present, tau * (log_mass - sums), 0)
        if KEEP:
            tl.store(kept + done * classes, sums, mask=inside)
        done += 1
        sums = _column_logs(
            logs, real, log_a, cost, start, n, classes, columns, present, scale, False, WHOLE, BLOCK_N, BLOCK_K
        )
        going = done < iterations
        if STOPS:  # noqa: SIM102 (decided when it is compiled)
            if (done - 1) % every == 0:
                left = _to_converge(sums, log_a, log_mass, mass, present, n, tau, scale, BALANCED)
                going = going & ((left <= tolerance) == 0)

    carried = tl.zeros((BLOCK_K,), mass.dtype)
    costs = tl.sum(carried, 0)
    negative_entropy, off = costs, costs
    for first in range(0, n, BLOCK_N):
        if not WHOLE:
            place, real, seen = _places(start, first, n, classes, columns, present, BLOCK_N)
            logs = _logs(cost, place, seen, scale)
        shares, log_b = _rows(logs, log_a)
        shares = tl.where(seen, shares, 0)
        if PLAN:
            tl.store(plan + place, shares, mask=real[:, None] & inside[None, :])
            rows = start + first + tl.arange(0, BLOCK_N)
            tl.store(log_b_out + rows, log_b, mask=real)
        carried += tl.sum(shares, 0)
        costs += tl.sum(tl.sum(shares * logs, 1), 0) / scale
        negative_entropy += tl.sum(tl.sum(shares * (logs + log_a[None, :] + log_b[:, None]), 1), 0)
        off = tl.maximum(off, tl.max(tl.where(real, tl.abs(tl.sum(shares, 1) - 1), 0), 0))
    left = _to_converge(sums, log_a, log_mass, mass, present, n, tau, scale, BALANCED)
    if BALANCED:
        left = tl.max(tl.where(present, tl.abs(carried - mass), 0), 0) / n.to(mass.dtype)
        off = tl.maximum(off, left)
    tl.store(log_a_out + bag * classes + columns, log_a, mask=inside)
    tl.store(columns_out + bag * classes + columns, carried, mask=inside)
    tl.store(value + bag, costs)
    tl.store(entropy + bag, negative_entropy)
    tl.store(violation + bag, off)
    tl.store(error + bag, left)
    tl.store(done_out + bag, done)


@triton.jit
def _last(
    logs, seen, place, rows, real, log_a, by_columns, scale, of_value, of_entropy, of_plan, of_log_b,
    HAS_PLAN: tl.constexpr,
):  # fmt: skip
    """d / dL through the plan of the last iteration, and the plan; log a held."""
    shares, log_b = _rows(logs, log_a)
    shares = tl.where(seen, shares, 0)
    known = tl.where(seen, logs, 0)
    slope = of_value / scale * known + by_columns[None, :]
    slope += of_entropy * tl.where(seen, known + log_a[None, :] + log_b[:, None] + 1, 0)
    if HAS_PLAN:
        slope += tl.load(of_plan + place, mask=seen, other=0)
    through = tl.sum(slope * shares, 1)
    if HAS_PLAN:
        through += tl.load(of_log_b + rows, mask=real, other=0)
    return (slope - through[:, None]) * shares, shares


@triton.jit
def _step_back(logs, seen, log_a, sums, gamma):
    """d / dL through s_t = `sums` and, from there, b_{t-1}, which `log_a` = log a_{t-1} made; both parts apart."""
    shares, log_b = _rows(logs, log_a)
    found = tl.where(seen, gamma[None, :] * tl.exp(tl.where(seen, logs + log_b[:, None] - sums[None, :], 0)), 0)
    return -found, tl.where(seen, tl.sum(found, 1)[:, None] * shares, 0)


@triton.jit
def backward(
    cost, offsets, proportions, history, gammas, done_in, of_plan, of_log_b, of_columns, of_value, of_entropy,
    of_log_a, for_cost, for_log_mass, classes, iterations, scale_high, scale_low, tau_high, tau_low,
    HAS_PLAN: tl.constexpr, WHOLE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The derivative of all iterations of a bag: `gammas` (B, T, K), d / d log m, and d / dC if the bag is WHOLE."""
    bag, start, n, columns, inside, present, mass, log_mass, scale, tau, place, real, seen, logs = _begin(
        cost, offsets, proportions, classes, scale_high, scale_low, tau_high, tau_low, 0, BLOCK_N, BLOCK_K
    )
    line = bag * iterations * classes + columns
    done = tl.load(done_in + bag)

    weight, weight_entropy = tl.load(of_value + bag), tl.load(of_entropy + bag)
    by_columns = tl.load(of_columns + bag * classes + columns, mask=inside, other=0)
    for_log_a = tl.load(of_log_a + bag * classes + columns, mask=inside, other=0)
    sums = tl.load(history + line + (done - 1) * classes, mask=inside, other=0)
    log_a = tl.where(present, tau * (log_mass - sums), 0)
    for_logs = tl.zeros((BLOCK_N, BLOCK_K), mass.dtype)
    carried = for_logs
    for first in range(0, n, BLOCK_N):
        if not WHOLE:
            place, real, seen = _places(start, first, n, classes, columns, present, BLOCK_N)
            logs = _logs(cost, place, seen, scale)
        rows = start + first + tl.arange(0, BLOCK_N)
        for_logs, carried = _last(
            logs, seen, place, rows, real, log_a, by_columns, scale, weight, weight_entropy, of_plan, of_log_b, HAS_PLAN
        )
        for_log_a += tl.sum(for_logs, 0)
    total = tl.zeros((BLOCK_K,), mass.dtype)
    for back in range(done):
        step = done - 1 - back
        gamma = tl.where(present, tau * for_log_a, 0)
        tl.store(gammas + line + step * classes, gamma, mask=inside)
        total += gamma
        if step > 0:
            before = tl.load(history + line + (step - 1) * classes, mask=inside, other=0)
            log_a = tl.where(present, tau * (log_mass - before), 0)
            for_log_a = tl.zeros((BLOCK_K,), mass.dtype)
            if WHOLE:
                direct, through = _step_back(logs, seen, log_a, sums, gamma)
                for_logs += direct + through
                for_log_a += tl.sum(through, 0)
            else:
                for first in range(0, n, BLOCK_N):
                    place, real, seen = _places(start, first, n, classes, columns, present, BLOCK_N)
                    block = _logs(cost, place, seen, scale)
                    _, through = _step_back(block, seen, log_a, sums, gamma)
                    for_log_a += tl.sum(through, 0)
            sums = before
        elif WHOLE:
            for_logs -= tl.where(seen, gamma[None, :] * tl.exp(tl.where(seen, logs - sums[None, :], 0)), 0)
    tl.store(for_log_mass + bag * classes + columns, total, mask=inside)
    if WHOLE:
        slope = weight * carried + scale * for_logs
        tl.store(for_cost + place, slope, mask=real[:, None] & inside[None, :])


@triton.jit
def backward_blocks(
    cost, offsets, proportions, history, gammas, done_in, of_plan, of_log_b, of_columns, of_value, of_entropy, for_cost,
    classes, iterations, scale_high, scale_low, tau_high, tau_low,
    HAS_PLAN: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """d / dC of one block of rows of a bag, from the gammas that `backward` left."""
    first = tl.program_id(1) * BLOCK_N
    bag, start, n, columns, inside, present, _, log_mass, scale, tau, place, real, seen, logs = _begin(
        cost, offsets, proportions, classes, scale_high, scale_low, tau_high, tau_low, first, BLOCK_N, BLOCK_K
    )
    if first < n:
        line = bag * iterations * classes + columns
        done = tl.load(done_in + bag)
        weight, weight_entropy = tl.load(of_value + bag), tl.load(of_entropy + bag)
        by_columns = tl.load(of_columns + bag * classes + columns, mask=inside, other=0)

        sums = tl.load(history + line, mask=inside, other=0)
        gamma = tl.load(gammas + line, mask=inside, other=0)
        for_logs = -tl.where(seen, gamma[None, :] * tl.exp(tl.where(seen, logs - sums[None, :], 0)), 0)
        log_a = tl.where(present, tau * (log_mass - sums), 0)
        for step in range(1, done):
            sums = tl.load(history + line + step * classes, mask=inside, other=0)
            gamma = tl.load(gammas + line + step * classes, mask=inside, other=0)
            direct, through = _step_back(logs, seen, log_a, sums, gamma)
            for_logs += direct + through
            log_a = tl.where(present, tau * (log_mass - sums), 0)
        rows = start + first + tl.arange(0, BLOCK_N)
        last, shares = _last(
            logs, seen, place, rows, real, log_a, by_columns, scale, weight, weight_entropy, of_plan, of_log_b, HAS_PLAN
        )
        slope = weight * shares + scale * (for_logs + last)
        tl.store(for_cost + place, slope, mask=real[:, None] & inside[None, :])


@triton.jit
def probe(mark):
    """Write 1: what `shared.transport.fused.works` asks for."""
    tl.store(mark, 1.0)
