"""Sum and average over the instances of each bag, by torch operations that differentiate.

`offsets` live on the host: their values decide shapes, and reading them must not wait for a device.
Bags of one size reshape; other sizes scatter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _bag_of_row(offsets: Tensor, device) -> Tensor:
    sizes = offsets.diff()
    return torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(device, non_blocking=True)


def _sizes_like(values: Tensor, offsets: Tensor) -> Tensor:
    """The sizes of the bags, (B, 1), where the values are and as their type; nobody waits for the copy."""
    return offsets.diff().to(values.device, values.dtype, non_blocking=True)[:, None]


def _one_size(offsets: Tensor) -> int | None:
    sizes = offsets.diff()
    return int(sizes[0]) if len(sizes) and bool((sizes == sizes[0]).all()) else None


def _scattered_sum(values: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    return values.new_zeros(n_bags, values.shape[1]).index_add(0, bag, values)


def segment_sum(values: Tensor, offsets: Tensor) -> Tensor:
    """Sum over the rows of each bag, (M, K) -> (B, K); `offsets` (B + 1,) int64 on the host."""
    size = _one_size(offsets)
    if size is not None:
        return values.view(-1, size, values.shape[1]).sum(1)
    return _scattered_sum(values, _bag_of_row(offsets, values.device), len(offsets) - 1)


def segment_mean(values: Tensor, offsets: Tensor) -> Tensor:
    """Return the mean over the rows of each bag, (M, K) -> (B, K)."""
    return segment_sum(values, offsets) / _sizes_like(values, offsets)


def segment_logmeanexp(values: Tensor, offsets: Tensor) -> Tensor:
    """Return the log of the mean of exp over the rows of each bag, (M, K) -> (B, K), without underflow."""
    size = _one_size(offsets)
    if size == 1:
        return values
    if size is not None:
        return values.view(-1, size, values.shape[1]).logsumexp(1) - math.log(size)
    sizes, bag = _sizes_like(values, offsets), _bag_of_row(offsets, values.device)
    top = values.new_full((len(sizes), values.shape[1]), -torch.inf)
    top = top.scatter_reduce(0, bag[:, None].expand_as(values), values.detach(), "amax")
    top = top.clamp_min(torch.finfo(values.dtype).min)
    return _scattered_sum((values - top[bag]).exp(), bag, len(sizes)).log() + top - sizes.log()
