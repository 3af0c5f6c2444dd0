"""Checkpoints: written whole or not at all, read without executing anything, valid for one configuration."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import torch


def save(path: Path, state: dict) -> None:
    """Write `state` (tensors, numbers, strings, lists, dicts) to `path`, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with open(part, "wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)


def load(path: Path, key: str) -> dict | None:
    """The state at `path`, or None where there is none, it is damaged, or another configuration wrote it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, pickle.UnpicklingError):
        # What torch raises for a file cut off or altered depends on where: none of it is a checkpoint.
        return None
    return state if isinstance(state, dict) and state.get("key") == key else None
