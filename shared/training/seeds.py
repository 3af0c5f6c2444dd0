"""Draw data split, bags, initialisation and batch order apart from one integer, by named axis."""

from __future__ import annotations

import hashlib

import torch


def axis_seed(seed: int, *axis: str | int) -> int:
    """Return the seed of one axis of randomness, in 0..2**63 - 1; e.g. ``axis_seed(0, "order", epoch)``.

    Adding an axis, or drawing more from one, moves no other.
    """
    text = "/".join(str(part) for part in (seed, *axis))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the global generators of the host and of `device`.

    It does without `torch.manual_seed`, which without CUDA keeps a stack trace of every call for later, which costs a
    tenth of a small step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)
