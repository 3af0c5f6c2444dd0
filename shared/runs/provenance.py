"""Where a record came from: commit, versions, machine."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import re
import subprocess
import sys
from pathlib import Path

from shared.config.files import repository

NUMBERS = {"family": "cpu family", "model": "model", "stepping": "stepping"}  # of /proc/cpuinfo
PACKAGES = ("torch", "numpy", "scipy", "POT", "numba")


@functools.cache
def commit(root: Path | None = None) -> dict:
    """Return {"commit": its hash or None outside git, "dirty": whether tracked code differed from it}."""

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", *args], cwd=root or repository(), capture_output=True, text=True)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=all", "--", "papers", "shared") if head else None
    return {"commit": head, "dirty": bool(changed)}


@functools.cache
def environment() -> dict:
    """Return versions and the kind of machine, without a host name and without a path."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package.lower()] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package.lower()] = None
    return {
        "python": platform.python_version(),
        **versions,
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": processor(),
    }


def processor() -> str:
    """Return the model of the CPU with its numbers, or the kind of machine where the system does not say.

    Virtual machines call many models by one name; what vectorised code runs on is told apart by the numbers.
    """
    info = Path("/proc/cpuinfo")
    found = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", info.read_text().split("\n\n")[0], re.M)) if info.exists() else {}
    if "model name" not in found:
        return platform.processor() or platform.machine()
    numbers = [f"{name} {found[key]}" for name, key in NUMBERS.items() if key in found]
    return ", ".join([found["model name"].strip(), *numbers])


def numerics() -> dict:
    """Return what decides on the last digits beside versions: vector instructions, threads, and use of TF32.

    `tf32` tells whether CUDA might round to it, in matrix products or in convolutions. The answer is
    empty where nothing has imported torch.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    return {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32),
    }
