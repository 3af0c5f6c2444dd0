"""Devices: what people call them, and which of them torch sees here, asked in a process of its own."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

from shared.config.files import ConfigError, likeliest

DEVICES = "cpu, cuda, cuda:N or auto"
VISIBLE = "CUDA_VISIBLE_DEVICES"  # ROCm reads it, too
# Last on standard output, whatever a library prints before; is_available says in a warning why it is not.
ASK = """
import json, warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import torch
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(json.dumps([n, torch.version.cuda or torch.version.hip or "", str(said[-1].message) if said else ""]))
"""
_SIGNS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # of a card, where nvidia-smi is not installed


@dataclass(frozen=True)
class Seen:
    """What torch sees of the GPUs of this machine.

    Attributes
    ----------
    tokens : for each CUDA device what `CUDA_VISIBLE_DEVICES` must be so that a process sees it alone.
    why : where nvidia-smi lists a GPU and torch sees none, the likely reason, a part of a sentence; else nothing.
    """

    tokens: tuple[str, ...] = ()
    why: str = ""


def device_name(said: object) -> str:
    """Return cpu, cuda, cuda:N or auto of what a person or a tier calls a device; whether it is there, is not asked.

    Raises
    ------
    ConfigError
        If it is none of these.
    """
    name = re.sub(r"^gpu(?=$|:)", "cuda", str(said).strip().lower())
    if name == "mps":
        raise ConfigError("device mps is not supported: exact transport and the checks are in float64; use cpu")
    if not re.fullmatch(r"cpu|auto|cuda(:[0-9]{1,4})?", name):
        raise ConfigError(f"there is no device {said!r}; {likeliest(name, ('cpu', 'cuda', 'auto'), f'use {DEVICES}')}")
    return f"cuda:{int(name[5:])}" if ":" in name else name


def has_card() -> bool:
    """Return whether asking torch can pay: what chooses by itself must not take seconds where there is no card."""
    return bool(shutil.which("nvidia-smi")) or any(map(os.path.exists, _SIGNS))


def seen() -> Seen:
    """Return what torch sees here: asked of it where it is imported, else in a process of its own, once."""
    visible = os.environ.get(VISIBLE)
    if visible in ("", "-1"):
        return Seen()
    if torch := sys.modules.get("torch"):
        # It may count what it cannot use.
        return Seen(_tokens(torch.cuda.device_count() if torch.cuda.is_available() else 0, visible))
    return _asked(visible)


@functools.cache
def _asked(visible: str | None) -> Seen:
    """Ask torch in a process of its own: importing it takes seconds, and what lists runs needs nothing else of it."""
    asked = subprocess.run([sys.executable, "-c", ASK], capture_output=True, encoding="utf-8", errors="replace")
    try:
        n, build, said = json.loads(asked.stdout.strip().rpartition("\n")[2])
    except ValueError:
        last = (asked.stderr.strip() or "it said nothing").rpartition("\n")[2]
        return Seen(why=f"asking torch failed ({last[:200]})") if _listed() else Seen()
    return Seen(_tokens(n, visible)) if n else Seen(why=_reason(build, said, visible) if _listed() else "")


def _tokens(n: int, visible: str | None) -> tuple[str, ...]:
    named = [name.strip() for name in visible.split(",")] if visible else [str(i) for i in range(n)]
    if n and all(name.startswith("MIG-") for name in named):
        return tuple(named)  # a process sees one part of a divided card, however many are named
    return tuple(named[:n])  # CUDA reads the list up to the first that is not there


def _listed() -> bool:
    """Whether nvidia-smi, which heeds no CUDA_VISIBLE_DEVICES, lists a GPU."""
    if not shutil.which("nvidia-smi"):
        return False
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout


def _reason(build: str, said: str, visible: str | None) -> str:
    if not build:
        return "this torch is built for CPUs alone; install its CUDA build"
    if "driver" in said.lower() and "too old" in said.lower():
        return f"the driver is too old for CUDA {build}; update it, or install a torch of an earlier CUDA"
    if visible is not None:
        return f"{VISIBLE}={visible} names none that is there"
    return said.strip().partition("\n")[0][:200] or "it does not say why; is the driver's module loaded?"
