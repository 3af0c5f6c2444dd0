"""Checkpoints are written whole or not at all, read without executing anything, valid for one configuration."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path

import torch

from shared.files import whole


def keep(path: Path, state: dict) -> None:
    """Write `state` (tensors, numbers, strings, lists, dicts) to `path`, atomically."""
    with whole(path) as part, part.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())


def resume(path: Path, key: str) -> dict | None:
    """Return the state at `path`, or None where there is none, it is damaged, or another configuration wrote it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, pickle.UnpicklingError):
        # What torch raises for a file cut off or altered depends on where: none of it is a checkpoint.
        return None
    return state if isinstance(state, dict) and state.get("key") == key else None


def common(folder: str, part: dict, session: dict) -> Path | None:
    """Return where runs whose specs agree in `part`, and whose code agrees, keep what one of them trained for all.

    It lies beside the session's checkpoints, in their `folder`; the name says what it depends on and is its key. It is
    None where the session (see `fit`) keeps no checkpoint.
    """
    if not session.get("checkpoint"):
        return None
    code = session.get("key", "").rpartition("-")[2]
    name = hashlib.sha256(json.dumps([code, part], sort_keys=True).encode()).hexdigest()[:16]
    path = Path(session["checkpoint"])
    work = next((parent for parent in path.parents if parent.name == ".work"), path.parent)
    return work / folder / f"{name}.pt"
