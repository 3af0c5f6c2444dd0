"""Where a record came from: commit, versions, machine."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

from shared.records.config import repository

PACKAGES = ("torch", "numpy", "scipy", "POT")


@functools.cache
def commit(root: Path | None = None) -> dict:
    """{"commit": its hash or None outside git, "dirty": whether tracked code differed from it}."""

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
    """Versions and the kind of machine; no host name and no path."""
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
    }
