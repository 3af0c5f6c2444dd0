"""Sum and average over the instances of each bag, by operations that differentiate.

`offsets` live on the host: their values decide shapes, and reading them must not wait for a device.
Bags of one size reshape; other sizes scatter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def one_size(offsets: Tensor) -> int | None:
    """Return the size that all bags have, or None where they differ or there are none; `offsets` (B + 1,) int64."""
    cuts = offsets.numpy()  # for a few bags, NumPy answers in a third of the time
    sizes = cuts[1:] - cuts[:-1]
    return int(sizes[0]) if len(sizes) and bool((sizes == sizes[0]).all()) else None


def bag_of_row(offsets: Tensor, device: torch.device) -> Tensor:
    """Return the number of the bag of each instance, (M,), on `device`; nobody waits for the copy."""
    sizes = offsets.diff()
    return torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(device, non_blocking=True)


def sizes_like(values: Tensor, offsets: Tensor) -> Tensor:
    """Return the sizes of the bags, (B,), where the values are and as their type; nothing is sent if they are one."""
    size = one_size(offsets)
    if size is not None:
        return values.new_full((len(offsets) - 1,), size)
    return offsets.diff().to(values.device, values.dtype, non_blocking=True)


def offsets_on(offsets: Tensor, device: torch.device) -> Tensor:
    """Return the offsets (B + 1,) on `device`; made there if bags have one size: a CUDA graph can send nothing."""
    size = one_size(offsets)
    if size is not None and device.type != "cpu":
        return torch.arange(0, size * len(offsets), size, device=device)
    # Not to wait is safe: memory that is not pinned has been read when the call returns, and nobody alters offsets.
    return offsets.to(device, non_blocking=True)


def _scattered_sum(values: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    return values.new_zeros(n_bags, values.shape[1]).index_add(0, bag, values)


def segment_sum(values: Tensor, offsets: Tensor) -> Tensor:
    """Sum over the rows of each bag, (M, K) -> (B, K); `offsets` (B + 1,) int64 on the host."""
    size = one_size(offsets)
    if size is not None:
        return values.reshape(-1, size, values.shape[1]).sum(1)
    return _scattered_sum(values, bag_of_row(offsets, values.device), len(offsets) - 1)


def segment_mean(values: Tensor, offsets: Tensor) -> Tensor:
    """Return the mean over the rows of each bag, (M, K) -> (B, K)."""
    size = one_size(offsets)
    if size is not None:
        return values.reshape(-1, size, values.shape[1]).sum(1) / size
    return segment_sum(values, offsets) / sizes_like(values, offsets)[:, None]


def segment_softmax(values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Take the softmax down the rows of each bag, without overflow or underflow; no gradient flows through it.

    Returns
    -------
    log_mean : (B, K) the log of the mean of exp over the rows of each bag.
    share : exp of each value over its bag's sum, (B, n, K) where all bags have n rows, else (M, K): the gradient of
        log_mean with respect to the values.
    bag : (M,) the bag of each row, None where all bags have one size.
    """
    size, floor = one_size(offsets), torch.finfo(values.dtype).min
    if size is not None:
        rows = values.reshape(-1, size, values.shape[1])
        share = rows.clamp_min(floor).softmax(1)
        # The greatest value has the share 1 / sum exp(value - greatest).
        return rows.amax(1) - share.amax(1).log() - math.log(size), share, None
    bag = bag_of_row(offsets, values.device)
    top = values.new_full((len(offsets) - 1, values.shape[1]), -torch.inf)
    top.scatter_reduce_(0, bag[:, None].expand_as(values), values, "amax")
    terms = (values.clamp_min(floor) - top.clamp_min(floor)[bag]).exp_()
    total = _scattered_sum(terms, bag, len(top))
    return top + total.log() - sizes_like(values, offsets).log()[:, None], terms / total[bag], bag
