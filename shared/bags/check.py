"""Refuse what is no problem over bags: one check for every loss and solver, which names the bag, the value, the remedy.

What costs nothing (types, shapes, host offsets) is always checked, values only if asked for: on a GPU they are waited
for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shared.bags.bags import BagError

SUM_TOLERANCE = 1e-4  # proportions are often float32 averages over many instances
LOG_TOLERANCE = 1e-4  # log-probabilities that rounding has put above 0
ROW_TOLERANCE = 0.05  # of the sum of a row's probabilities; those computed in bfloat16 are off by .02


def check_bags(
    log_p: Tensor,
    offsets: Tensor,
    proportions: Tensor,
    *,
    values: bool = True,
    finite: bool = False,
    what: str = "log_p",
) -> None:
    """Refuse what a loss over bags cannot be of.

    Parameters
    ----------
    log_p : (M, K) float32 or float64 log-probabilities, no NaN, none above 0, rows that sum to 1.
    offsets : (B + 1,) int64 on the host, from 0 to M, rising: no bag is empty.
    proportions : (B, K) float32 or float64, none negative, rows that sum to 1.
    values : whether to look at values, too.
    finite : whether log_p must be finite; -inf is the log of a probability of 0.
    what : the name of the first argument; unless it is log_p, it holds scores of any sign and must be finite.

    Raises
    ------
    TypeError
        If anything is not a tensor, or of the wrong kind of number, or the offsets are not on the host.
    BagError
        If shapes do not fit, or a value cannot be; it names the bag.
    """
    check_table(log_p, what)
    check_offsets(offsets, len(log_p))
    check_proportions(proportions, (len(offsets) - 1, log_p.shape[1]), values)
    if not values:
        return
    if what != "log_p" or finite:
        check_finite(log_p, offsets, what)
    if what == "log_p":
        check_logs(log_p, offsets)


def check_pair(one: Tensor, other: Tensor, names: tuple[str, str], values: bool, rows: bool = False) -> None:
    """Refuse two tables (M, K) and (N, K) without instances, of different K or, if `rows`, M, or not finite."""
    for table, name in zip((one, other), names, strict=True):
        check_table(table, name)
        if not len(table):
            raise BagError(f"{name} has no instances, {tuple(table.shape)}")
        if values:
            check_finite(table, torch.tensor([0, len(table)]), name)
    if one.shape[1] != other.shape[1] or (rows and len(one) != len(other)):
        raise BagError(f"{names[0]} {tuple(one.shape)} and {names[1]} {tuple(other.shape)} do not fit each other")


def check_amounts(**amounts: float) -> None:
    """Refuse weights, by name, that are not finite and 0 or more; a ValueError."""
    for name, value in amounts.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and 0 or more, got {value}")


def check_table(table: Tensor, what: str) -> None:
    """Refuse what is not an (M, K) tensor in float32 or float64."""
    check_tensor(table, what)
    if table.dtype in (torch.float16, torch.bfloat16):
        raise TypeError(f"{what} is in {_name(table.dtype)}, too coarse for sums over bags; pass {what}.float()")
    if table.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{what} must be in float32 or float64, got {_name(table.dtype)}; pass {what}.float()")
    if table.dim() != 2 or table.shape[1] == 0:
        raise BagError(f"{what} must be (M, K), got {tuple(table.shape)}: a row for each instance")


def check_offsets(offsets: Tensor, instances: int) -> None:
    """Refuse offsets that do not cut `instances` instances into bags of one or more, or are not on the host."""
    check_tensor(offsets, "offsets")
    if offsets.dtype != torch.int64:
        raise TypeError(f"offsets must be in int64, got {_name(offsets.dtype)}; pass offsets.long()")
    if offsets.device.type != "cpu":
        raise TypeError(f"offsets are on {offsets.device} and must be on the host; pass offsets.cpu(), once")
    if offsets.dim() != 1 or len(offsets) < 2:
        raise BagError(f"offsets must be (B + 1,), got {tuple(offsets.shape)}: where bags start, and the last ends")
    cuts = offsets.numpy()  # for a few bags, NumPy answers in a quarter of the time
    sizes = cuts[1:] - cuts[:-1]
    if sizes.min() < 1:
        bag = int((sizes < 1).argmax())
        start, end = cuts[bag : bag + 2].tolist()
        wrong = f"empty, offsets {start} twice; leave it out" if start == end else f"offsets decrease, {start} to {end}"
        raise BagError(f"bag {bag}: {wrong}")
    if cuts[0] != 0:
        raise BagError(f"bag 0: offsets start at {cuts[0]}, not 0")
    if cuts[-1] != instances:
        raise BagError(f"bag {len(sizes) - 1}: offsets end at {cuts[-1]}, not at M = {instances}")


def check_proportions(proportions: Tensor, shape: tuple[int, int], values: bool = True) -> None:
    """Refuse proportions that are not of a shape (B, K) or, if values are asked for, rows that are none."""
    check_tensor(proportions, "proportions")
    if proportions.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"proportions must be in float32 or float64, got {_name(proportions.dtype)}; of counts, pass counts / "
            "counts.sum(1, keepdim=True), of one label an instance, one_hot(labels, K).float()"
        )
    if proportions.shape != shape:
        raise BagError(f"proportions must be {shape}, got {tuple(proportions.shape)}: a row for each bag")
    if not values:
        return
    found = proportions.detach()
    totals = found.sum(1)
    fine = ((totals - 1).abs() <= SUM_TOLERANCE) & (found >= 0).all(1)
    if fine.all():
        return
    bag = int((~fine).nonzero()[0])
    wrong = (~(found[bag] >= 0)).nonzero()
    if len(wrong):
        raise BagError(f"bag {bag}: proportion of class {int(wrong[0])} is {found[bag, wrong[0]].item():g}, below 0")
    raise BagError(f"bag {bag}: proportions sum to {totals[bag].item():.6g}, not 1; divide each row by its sum")


def check_finite(table: Tensor, offsets: Tensor, what: str) -> None:
    """Refuse a table (M, K) with a value that is not finite; the error names its bag, instance and class."""
    # A finite sum is cheaper to see; an infinite one may be that of large numbers.
    if not table.sum().isfinite() and not table.isfinite().all():
        raise BagError(_of_entry(table, ~table.isfinite(), offsets, what))


def check_logs(log_p: Tensor, offsets: Tensor, what: str = "log_p") -> None:
    """Refuse a table (M, K) whose rows are no log-probabilities; the error names bag, instance and class."""
    log_p = log_p.detach()
    rows = log_p.exp().sum(1)
    low, high = rows.aminmax() if len(rows) else (rows.new_ones(()), rows.new_ones(()))
    if low >= 1 - ROW_TOLERANCE and high <= 1 + ROW_TOLERANCE and (high <= 1 or log_p.amax() <= LOG_TOLERANCE):
        return  # with rows of at most 1, no entry is above 0; a NaN is in the least and the most
    wrong = ~(log_p <= LOG_TOLERANCE)
    if wrong.any():
        raise BagError(f"{_of_entry(log_p, wrong, offsets, what)}, no log-probability; pass logits.log_softmax(1)")
    i = int((~((rows - 1).abs() <= ROW_TOLERANCE)).nonzero()[0])
    raise BagError(
        f"bag {_bag_of(i, offsets)}: probabilities of instance {i} sum to {rows[i].item():.4g}, not 1; "
        "pass logits.log_softmax(1)"
    )


def _of_entry(table: Tensor, wrong: Tensor, offsets: Tensor, what: str) -> str:
    i, k = wrong.nonzero()[0].tolist()
    return f"bag {_bag_of(i, offsets)}: {what} of instance {i}, class {k} is {table[i, k].item():g}"


def _bag_of(instance: int, offsets: Tensor) -> int:
    return int(torch.searchsorted(offsets.cpu(), torch.tensor(instance), right=True)) - 1


def check_tensor(value: object, what: str) -> None:
    """Refuse what is no dense tensor."""
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        make = "torch.from_numpy" if kind == "ndarray" else "torch.tensor"
        raise TypeError(f"{what} must be a torch tensor, got {kind}; pass {make}({what})")
    if value.layout != torch.strided:
        raise TypeError(f"{what} is sparse; pass {what}.to_dense()")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
