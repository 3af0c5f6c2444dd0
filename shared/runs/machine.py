"""Say what this machine lends: CPU cores, and the devices that torch sees."""

from __future__ import annotations

import functools
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shared.config.files import ConfigError
from shared.config.tiers import device_name

CGROUP, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
QUOTAS = (  # quota and period, of version 2 and of version 1
    ("cpu.max",),
    ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
)
_COUNT = "import torch; print(torch.cuda.is_available() and torch.cuda.device_count() or 0)"
# Numba passes over what is no number of threads, except a number below 1, on which it cannot be imported.
if re.fullmatch(r"\s*([-+]?0+|-\d+)\s*", os.environ.get("NUMBA_NUM_THREADS", ""), re.ASCII):
    print(
        f"NUMBA_NUM_THREADS={os.environ.pop('NUMBA_NUM_THREADS')} is passed over: it must be 1 or more", file=sys.stderr
    )
_SIGNS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # of a card, where nvidia-smi is not installed


def cores() -> int:
    """Return how many CPU cores this process may use, one or more: by its affinity, and by the quota of a container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([allowed, *_quotas()])))


def _quotas() -> Iterator[float]:
    """Cores' worth of time that the control groups of this process grant it: its own, and all above."""
    try:
        lines = OWN_GROUP.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    own = [line.split(":", 2)[1:] for line in lines if line.count(":") >= 2]  # "0::/a" or "4:cpu,cpuacct:/a"
    for names, path in [*own, ["cpu", "/"], ["", "/"]]:
        if names and "cpu" not in names.split(","):
            continue
        # In a container the path is the host's, and what the container has is mounted at the root.
        below = PurePosixPath(path.lstrip("/"))
        for root in (CGROUP / names, CGROUP / "cpu") if names else (CGROUP,):
            yield from (_quota(root / group) for group in (below, *below.parents))


def _quota(group: Path) -> float:
    for files in QUOTAS:
        try:
            texts = [(group / name).read_text(encoding="utf-8") for name in files]
            granted, period = map(float, " ".join(texts).split())
        except (OSError, ValueError):  # not there; or "max 100000", which is no quota
            continue
        return granted / period if granted > 0 < period else math.inf
    return math.inf


def gpus() -> int:
    """Return how many CUDA devices torch sees here."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return 0
    if torch := sys.modules.get("torch"):
        return torch.cuda.device_count() if torch.cuda.is_available() else 0  # it may count what it cannot use
    return _asked()


@functools.cache
def _asked() -> int:
    """Ask torch in a process of its own: importing it takes seconds, and what lists runs needs nothing else of it."""
    asked = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, encoding="utf-8", errors="replace")
    return int(asked.stdout) if asked.returncode == 0 and asked.stdout.strip().isdecimal() else 0


def _has_card() -> bool:
    """Whether asking torch can pay: `auto` must not take seconds where there is no card."""
    return bool(shutil.which("nvidia-smi")) or any(map(os.path.exists, _SIGNS))


def device_of(name: str) -> str:
    """Return cpu, cuda or cuda:N of what a person or a tier says; auto is cuda where torch sees one, else cpu.

    Raises
    ------
    ConfigError
        If the name is none of these, or this machine has not what it names.
    """
    device = device_name(name)
    if device == "auto":
        return "cuda" if _has_card() and gpus() else "cpu"
    if device != "cpu" and int(device.partition(":")[2] or 0) >= gpus():
        seen = f"torch sees {gpus()}, numbered from 0" if gpus() else "torch sees no CUDA device here"
        raise ConfigError(f"device {name!r} was asked for, but {seen}; use --device cpu or auto")
    return device
