"""Round proportions to counts (largest remainder) and plans to labels (the best labelling with these counts)."""

import numpy as np
import torch
from torch import Tensor

from shared.bags.check import check_offsets
from shared.transport.exact import solve


def largest_remainder(proportions: Tensor, sizes: Tensor) -> Tensor:
    """Round the masses n z of every bag to counts that sum to n (Hamilton's method).

    Each class gets the whole part of its mass; what is left goes one by one to the largest remainders, ties to the
    lower class. So masses that rounding has moved off whole numbers return to them, and classes of proportion 0 get
    nothing.

    Parameters
    ----------
    proportions : (B, K) tensor, rows sum to 1 within rounding
    sizes : (B,) int64 tensor

    Returns
    -------
    counts : (B, K) int64 tensor

    Raises
    ------
    ValueError
        Naming the bag whose size is negative or whose proportions are negative, not numbers or sum to 0.
    """
    if proportions.dim() != 2 or sizes.shape != proportions.shape[:1]:
        raise ValueError(
            f"need (B, K) proportions and (B,) sizes, got {tuple(proportions.shape)}, {tuple(sizes.shape)}"
        )
    sizes = sizes.to(proportions.device)
    wrong = ~((proportions >= 0).all(1) & (proportions.sum(1) > 0) & (sizes >= 0))
    if wrong.any():
        bag = int(wrong.nonzero()[0])
        raise ValueError(f"bag {bag}: cannot round {proportions[bag].tolist()} to {sizes[bag].item()} counts")
    shares = proportions.double()
    masses = sizes[:, None] * shares / shares.sum(1, keepdim=True)
    counts = masses.floor().long()
    left = sizes - counts.sum(1)
    short = left.nonzero()[:, 0]  # most bags' masses are whole
    order = (masses - counts)[short].argsort(dim=1, descending=True, stable=True)
    extra = (torch.arange(counts.shape[1], device=counts.device) < left[short, None]).long()
    counts[short] += torch.zeros_like(order).scatter_(1, order, extra)
    return counts


def round_to_labels(plan: Tensor, offsets: Tensor, counts: Tensor) -> Tensor:
    r"""Label every instance such that each bag has exactly its counts and the labels carry the most mass,

    .. math:: \max_y \sum_i P_{i, y_i} \quad \text{s.t.} \quad |\{i : y_i = k\}| = c_k.

    This is transport with whole masses, which the exact solver answers with whole rows (Peyré & Cuturi 2019,
    Section 3.4).

    Parameters
    ----------
    plan : (M, K) tensor, any finite scores
    offsets : (B + 1,) int64 tensor
    counts : (B, K) int64 tensor, rows sum to the bags' sizes

    Returns
    -------
    labels : (M,) int64 tensor on the plan's device

    Raises
    ------
    ValueError
        Naming the bag whose counts are negative or do not sum to its size, or whose plan is not finite.
    """
    check_offsets(offsets.cpu(), len(plan))
    device = plan.device
    if plan.dim() != 2 or counts.shape != (len(offsets) - 1, plan.shape[1]):
        raise ValueError(f"need an (M, K) plan and (B, K) counts, got {tuple(plan.shape)}, {tuple(counts.shape)}")
    wanted, edges = counts.cpu().numpy(), offsets.cpu().numpy()
    wrong = (wanted < 0).any(1) | (wanted.sum(1) != np.diff(edges))
    if wrong.any():
        bag = int(wrong.argmax())
        raise ValueError(f"bag {bag}: counts {wanted[bag].tolist()} for {edges[bag + 1] - edges[bag]} instances")
    plan = plan.detach().cpu()
    if not plan.sum().isfinite():  # one pass in place of three; a sum of finite numbers may be infinite, too
        broken = (~plan.isfinite().all(1)).numpy()
        if broken.any():
            bag = int(np.searchsorted(edges, broken.argmax(), side="right")) - 1
            raise ValueError(f"bag {bag}: the plan is not finite")
    # In their own precision, which the solver widens; of integers and halves there are few.
    scores = plan if plan.dtype in (torch.float32, torch.float64) else plan.double()
    # Most classes of a short bag have no instance, and tables of all would take longer than the labels.
    most, own = max(1, int((wanted > 0).sum(1).max())), None
    if 2 * most <= wanted.shape[1]:
        classes = np.argsort(wanted == 0, axis=1, kind="stable")[:, :most]
        own = torch.from_numpy(np.repeat(classes, np.diff(edges), axis=0))
        scores, wanted = scores.gather(1, own), np.take_along_axis(wanted, classes, 1)
    labels = torch.from_numpy(solve(-scores.numpy(), edges, wanted.astype(np.float64))[0]).argmax(1)
    return (labels if own is None else own.gather(1, labels[:, None])[:, 0]).to(device)
