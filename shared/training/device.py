"""Set up the device a run uses, and tell what it took of its memory."""

from __future__ import annotations

import resource
import sys

import torch

from shared.runs.machine import device_of


def prepare_device(name: str = "auto", threads: int | None = None) -> torch.device:
    """Return the device called `name` (cpu, cuda, cuda:N, or auto: CUDA where torch sees it), set up for training.

    TF32, which torch allows for convolutions, is off on every device: fp32 means fp32. A run that may be coarser says
    `precision: bf16`, which is faster than TF32.

    Raises
    ------
    ConfigError
        If there is no device of that name here.
    """
    if threads:
        torch.set_num_threads(threads)
    # With 10 bits of TF32, x + xi d is x at LLP-VAT's xi of 1e-6. These two decide on CUDA alone.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    name = device_of(name)
    if name != "cpu":
        torch.backends.cudnn.benchmark = True
        torch.cuda.reset_peak_memory_stats(name)
    return torch.device(name)


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak in MB: allocated on a CUDA device since `prepare_device`, else resident in the process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
