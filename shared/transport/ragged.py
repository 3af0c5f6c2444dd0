"""Lay ragged bags out as padded tables: one flat array of instances and offsets, (M, ...) <-> (B, longest, ...)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from shared.bags import check_bags
from shared.transport.result import Transport

# Bags are padded to the longest of all up to so many numbers, plus so many times those that there are.
WASTE, TIMES = 200_000, 4
SHORT = 8  # instances: up to so many, bags are padded to the longest of them in any case


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
    offsets, sizes = offsets.to(device, non_blocking=True), sizes.to(device, non_blocking=True)
    slots = None
    if shortest != longest:
        shift = torch.arange(len(sizes), device=sizes.device) * longest - offsets[:-1]
        slots = torch.arange(total, device=sizes.device) + shift.repeat_interleave(sizes, output_size=total)
    return Layout(sizes, longest, slots)


def check_problem(cost: Tensor, offsets: Tensor, proportions: Tensor, *, values: bool = True) -> None:
    """Refuse three tensors that do not state a transport problem; the error names the bag and the value.

    Parameters
    ----------
    cost : (M, K) float32 or float64 tensor, finite
    offsets : (B + 1,) int64 tensor, from 0 to M, increasing (no empty bag)
    proportions : (B, K) tensor, non-negative rows that sum to 1 within 1e-4
    values : whether to look at values, too

    Raises
    ------
    TypeError, BagError
        See `shared.bags.check_bags`; a `BagError` is a ValueError.
    """
    offsets = offsets.cpu() if isinstance(offsets, Tensor) else offsets
    check_bags(cost, offsets, proportions, what="cost", values=values)


def by_size(solve: Callable[..., Transport]) -> Callable[..., Transport]:
    """Let a solver that pads see bags of like sizes together, where one long bag would pad many short ones.

    The answer is that of the bags one by one. The bags of each group iterate until all of them have converged, and
    `iterations` is the most of any.
    """

    @functools.wraps(solve)
    def solved(cost: Tensor, offsets: Tensor, proportions: Tensor, *options, check: bool = True, **more) -> Transport:
        check_problem(cost, offsets, proportions, values=check)
        offsets = offsets.cpu()
        groups = _groups(offsets.diff(), cost.shape[1])
        if len(groups) == 1:
            return solve(cost, offsets, proportions, *options, check=False, **more)
        parts, places, starts, sizes = [], [], offsets[:-1], offsets.diff()
        there = functools.partial(Tensor.to, device=cost.device, non_blocking=True)  # a copy that nobody waits for
        for bags in groups:
            own = torch.cat([sizes.new_zeros(1), sizes[bags].cumsum(0)])
            rows = torch.arange(int(own[-1])) + (starts[bags] - own[:-1]).repeat_interleave(sizes[bags])
            places.append(there(rows))
            parts.append(solve(cost[places[-1]], own, proportions[there(bags)], *options, check=False, **more))
        of_bags, of_rows = there(torch.cat(groups).argsort()), torch.cat(places).argsort()
        return Transport(
            plan=torch.cat([part.plan for part in parts])[of_rows],
            value=torch.cat([part.value for part in parts])[of_bags],
            instance_potential=torch.cat([part.instance_potential for part in parts])[of_rows],
            class_potential=torch.cat([part.class_potential for part in parts])[of_bags],
            violation=torch.cat([part.violation for part in parts])[of_bags],
            converged=torch.cat([part.converged for part in parts])[of_bags],
            iterations=max(part.iterations for part in parts),
        )

    return solved


def _groups(sizes: Tensor, classes: int) -> list[Tensor]:
    """The numbers of the bags of each group; one group unless padding all to the longest costs much."""
    real, padded = int(sizes.sum()) * classes, len(sizes) * int(sizes.max()) * classes
    if padded < WASTE + TIMES * real:
        return [torch.arange(len(sizes))]
    order = sizes.argsort(stable=True)
    rising, cuts = sizes[order], [0]
    while cuts[-1] < len(rising):
        limit = max(SHORT, 2 * int(rising[cuts[-1]]))
        cuts.append(int(torch.searchsorted(rising, limit, right=True)))
    return [order[start:end] for start, end in pairwise(cuts)]


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
