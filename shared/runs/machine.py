"""Say what this machine lends: CPU cores, and the devices that torch sees."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shared.config.devices import VISIBLE, device_name, has_card, seen
from shared.config.files import ConfigError

CGROUP, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
QUOTAS = (  # quota and period, of version 2 and of version 1
    ("cpu.max",),
    ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
)
# Numba passes over what is no number of threads, except a number below 1, on which it cannot be imported.
if re.fullmatch(r"\s*([-+]?0+|-\d+)\s*", os.environ.get("NUMBA_NUM_THREADS", ""), re.ASCII):
    print(
        f"NUMBA_NUM_THREADS={os.environ.pop('NUMBA_NUM_THREADS')} is passed over: it must be 1 or more", file=sys.stderr
    )


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
    return len(seen().tokens)


def device_of(name: str) -> str:
    """Return cpu, cuda or cuda:N of what a person or a tier says; auto is cuda where torch sees one, else cpu.

    Raises
    ------
    ConfigError
        If the name is none of these, or this machine has not what it names.
    """
    device = device_name(name)
    if device == "auto":
        return "cuda" if has_card() and gpus() else "cpu"
    if device != "cpu" and int(device.partition(":")[2] or 0) >= gpus():
        there = f"torch sees {gpus()}, numbered from 0" if gpus() else "torch sees no CUDA device here"
        why = f" ({seen().why})" if seen().why else ""
        raise ConfigError(f"device {name!r} was asked for, but {there}{why}; use --device cpu or auto")
    return device


def devices_of(name: str) -> tuple[str, ...]:
    """Return the devices that runs go to: the one that is named, or where auto or cuda means several, all of them."""
    device = device_of(name)
    return tuple(f"cuda:{i}" for i in range(gpus())) if device == "cuda" and gpus() > 1 else (device,)


def alone(device: str) -> dict[str, str]:
    """Return the environment in which a process sees of all GPUs the one called cuda:N, then called cuda.

    So nothing of its runs, a kernel launched on the current device or a context opened by a library, lands on another.
    """
    number = device.partition(":")[2]
    return {VISIBLE: seen().tokens[int(number)]} if number else {}


def overlooked(name: str) -> str:
    """Return a sentence where auto means the CPU although nvidia-smi lists a GPU; else nothing."""
    unseen = device_name(name) == "auto" and has_card() and not gpus() and seen().why
    return f"nvidia-smi lists a GPU that torch does not see ({seen().why}): runs go to the CPU" if unseen else ""
