"""Lay ragged bags out as padded tables: one flat array of instances and offsets, (M, ...) <-> (B, longest, ...)."""

from dataclasses import dataclass

import torch
from torch import Tensor

SUM_TOLERANCE = 1e-4  # proportions are often float32 averages over many instances


def pad(values: Tensor, offsets: Tensor, fill: float = 0.0) -> tuple[Tensor, Tensor]:
    """Lay the instances of every bag in one row of a table.

    Parameters
    ----------
    values : (M, ...) tensor
    offsets : (B + 1,) int64 tensor
        Bag b holds the instances ``offsets[b]`` to ``offsets[b + 1] - 1``.
    fill : float
        Value of the places that hold no instance.

    Returns
    -------
    table : (B, longest, ...) tensor, a view of `values` when all bags have one size
    mask : (B, longest) bool tensor, True where there is an instance
    """
    layout = lay_out(offsets, values.device)
    return layout.pad(values, fill), layout.mask()


def unpad(table: Tensor, offsets: Tensor) -> Tensor:
    """Undo `pad`: (B, longest, ...) -> (M, ...), in the order of the instances."""
    return lay_out(offsets, table.device).unpad(table)


def lay_out(offsets: Tensor, device: torch.device | None = None) -> "Layout":
    """Read the offsets once; on a GPU this is the one wait for the device that ragged bags need."""
    sizes = offsets.diff()
    shortest, longest, total = torch.stack([sizes.min(), sizes.max(), offsets[-1]]).tolist()
    offsets, sizes = offsets.to(device), sizes.to(device)
    slots = None
    if shortest != longest:
        shift = torch.arange(len(sizes), device=sizes.device) * longest - offsets[:-1]
        slots = torch.arange(total, device=sizes.device) + shift.repeat_interleave(sizes, output_size=total)
    return Layout(sizes, longest, slots)


def check_problem(cost: Tensor, offsets: Tensor, proportions: Tensor) -> None:
    """Raise ValueError, naming the bag and the value, unless the three tensors state a transport problem.

    Parameters
    ----------
    cost : (M, K) float32 or float64 tensor, finite
    offsets : (B + 1,) int64 tensor, from 0 to M, increasing (no empty bag)
    proportions : (B, K) tensor, non-negative rows that sum to 1 within 1e-4
    """
    if cost.dim() != 2 or cost.shape[1] == 0 or cost.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"cost must be (M, K) in float32 or float64, got {tuple(cost.shape)} in {cost.dtype}")
    check_offsets(offsets, len(cost))
    bags, classes = len(offsets) - 1, cost.shape[1]
    if proportions.shape != (bags, classes):
        raise ValueError(f"proportions must be ({bags}, {classes}), got {tuple(proportions.shape)}")
    # A finite sum is cheaper to see; an infinite one may be that of large numbers.
    if not cost.sum().isfinite() and not cost.isfinite().all():
        i, k = (~cost.isfinite()).nonzero()[0].tolist()
        bag = int(torch.searchsorted(offsets, torch.tensor(i, device=offsets.device), right=True)) - 1
        raise ValueError(f"bag {bag}: cost of instance {i}, class {k} is {cost[i, k].item()}")
    if not (proportions >= 0).all():
        bag, k = (~(proportions >= 0)).nonzero()[0].tolist()
        raise ValueError(f"bag {bag}: proportion of class {k} is {proportions[bag, k].item():g}")
    totals = proportions.sum(1)
    off = ~((totals - 1).abs() <= SUM_TOLERANCE)
    if off.any():
        bag = int(off.nonzero()[0])
        raise ValueError(f"bag {bag}: proportions sum to {totals[bag].item():.6g}, not 1")


def check_offsets(offsets: Tensor, instances: int) -> None:
    """Raise ValueError unless `offsets` cuts `instances` instances into bags that are not empty."""
    if offsets.dim() != 1 or len(offsets) < 2 or offsets.dtype != torch.int64:
        raise ValueError(f"offsets must be (B + 1,) in int64, got {tuple(offsets.shape)} in {offsets.dtype}")
    sizes = offsets.diff()
    if (sizes < 0).any():
        bag = int((sizes < 0).nonzero()[0])
        raise ValueError(f"bag {bag}: offsets decrease, {offsets[bag].item()} to {offsets[bag + 1].item()}")
    if (sizes == 0).any():
        bag = int((sizes == 0).nonzero()[0])
        raise ValueError(f"bag {bag}: empty, offsets {offsets[bag].item()} twice")
    if offsets[0] != 0:
        raise ValueError(f"bag 0: offsets start at {offsets[0].item()}, not 0")
    if offsets[-1] != instances:
        last = len(sizes) - 1
        raise ValueError(f"bag {last}: offsets end at {offsets[-1].item()}, not at M = {instances}")


@dataclass(frozen=True)
class Layout:
    """Tell where the instances lie in the table; `slots` is None when bags of one size make it a plain reshape."""

    sizes: Tensor  # (B,)
    longest: int
    slots: Tensor | None  # (M,) places in the flattened table

    def pad(self, values: Tensor, fill: float = 0.0) -> Tensor:
        shape = (len(self.sizes), self.longest, *values.shape[1:])
        if self.slots is None:
            return values.reshape(shape)
        table = values.new_full((shape[0] * shape[1], *shape[2:]), fill)
        return table.index_copy(0, self.slots, values).reshape(shape)

    def unpad(self, table: Tensor) -> Tensor:
        flat = table.flatten(0, 1)
        return flat if self.slots is None else flat.index_select(0, self.slots)

    def mask(self) -> Tensor:
        return torch.arange(self.longest, device=self.sizes.device) < self.sizes[:, None]

    def bag_sum(self, values: Tensor) -> Tensor:
        """Sum over each bag, (M,) -> (B,)."""
        return self.pad(values).sum(1)
