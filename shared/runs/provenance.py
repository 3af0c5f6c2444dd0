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
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "papers", "shared") if head else None
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
    """Return the model of the CPU, or the kind of machine where the system does not say."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def numerics() -> dict:
    """Return what decides on the last digits beside versions: threads, and whether matrix products use TF32.

    A process that has not imported torch computed nothing with it, and need not wait for it now.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    return {"threads": torch.get_num_threads(), "tf32": bool(torch.backends.cuda.matmul.allow_tf32)}
