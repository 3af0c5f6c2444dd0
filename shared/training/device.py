"""Set up the device a run uses, and tell what it took of its memory."""

from __future__ import annotations

import resource
import sys

import torch


def prepare_device(name: str = "auto", threads: int | None = None) -> torch.device:
    """Return the device called `name` ("auto": CUDA where visible, else the CPU), set up for training."""
    if threads:
        torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise RuntimeError(f"device {name!r} was asked for, but torch sees no CUDA device; use --device cpu")
        torch.backends.cudnn.benchmark = True
        torch.cuda.reset_peak_memory_stats(name)
    return torch.device(name)


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak in MB: allocated on a CUDA device since `prepare_device`, else resident in the process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
