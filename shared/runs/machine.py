"""Say what this machine lends: CPU cores, and the devices that torch sees."""

from __future__ import annotations

import functools
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from shared.config.files import ConfigError, likeliest

CGROUP = Path("/sys/fs/cgroup")
DEVICES = "cpu, cuda, cuda:N or auto"
_COUNT = "import torch; print(torch.cuda.device_count())"


def cores(cgroup: Path = CGROUP) -> int:
    """Return how many CPU cores this process may use, one or more: by its affinity, and by the quota of a container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, _quota(cgroup))))


def _quota(cgroup: Path) -> float:
    """Cores' worth of time that the control group of this process grants it (version 2, else 1); else infinity."""
    for quota, period in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            texts = [(cgroup / name).read_text(encoding="utf-8") for name in (quota, period) if name]
            granted, of = map(float, " ".join(texts).split())  # "max 100000" of no quota is no number; -1 neither
            return granted / of if granted > 0 < of else math.inf
        except (OSError, ValueError):
            continue
    return math.inf


@functools.cache
def gpus() -> int:
    """Return how many CUDA devices torch sees; asked in a process of its own, since importing torch takes seconds."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not shutil.which("nvidia-smi"):
        return 0
    asked = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True)
    return int(asked.stdout) if asked.returncode == 0 and asked.stdout.strip().isdecimal() else 0


def device_of(name: str) -> str:
    """Return cpu, cuda or cuda:N of what a person or a tier says; auto is cuda where torch sees one, else cpu.

    Raises
    ------
    ConfigError
        If the name is none of these, or this machine has not what it names.
    """
    said = str(name).strip().lower()
    if said == "auto":
        return "cuda" if gpus() else "cpu"
    said = re.sub(r"^gpu(?=$|:)", "cuda", said)
    if said == "cpu":
        return said
    if said == "mps":
        raise ConfigError("device mps is not supported: exact transport and the checks are in float64; use cpu")
    if not re.fullmatch(r"cuda(:\d+)?", said):
        raise ConfigError(f"there is no device {name!r}; {likeliest(said, ('cpu', 'cuda', 'auto'), f'use {DEVICES}')}")
    number = int(said.partition(":")[2] or 0)
    if number >= gpus():
        seen = f"torch sees {gpus()}, numbered from 0" if gpus() else "torch sees no CUDA device here"
        raise ConfigError(f"device {name!r} was asked for, but {seen}; use --device cpu or auto")
    return said
