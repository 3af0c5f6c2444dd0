"""Where a record came from: commit, versions, machine."""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.config.files import repository
from shared.datasets import portable
from shared.files import is_stray

CODE = ("papers", "shared")
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")

NUMBERS = {"family": "cpu family", "model": "model", "stepping": "stepping"}  # of /proc/cpuinfo
PACKAGES = ("torch", "numpy", "scipy", "POT", "numba")


class NoAnswer(Exception):
    """Git does not say what it is asked; the text is its sentence, without a path of this machine."""


@functools.cache
def commit(root: Path | None = None) -> dict:
    """Return {"commit": a hash, "dirty": whether code of `papers` or `shared` differs from it}.

    Code that git does not track or is told to ignore counts. What git does not answer is None; "git" is its sentence.
    """
    root, head = root or repository(), None
    try:
        head = _git(root, "-c", "log.showSignature=false", "log", "-1", "--format=%H").strip()
        if not (tracked := _git(root, "ls-files", "-v", "-z", "--", *CODE).split("\0")[:-1]):
            head = None
            raise NoAnswer("the repository around this folder does not track its code")
        if hidden := [line[2:] for line in tracked if line[0] == "S" or line[0].islower()]:
            raise NoAnswer(f"git is told not to look at {hidden[0]}; git update-index --no-assume-unchanged lets it")
        asked = ("--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignored", "--", *CODE)
        changes = _git(root, "-c", "core.fsmonitor=false", "status", *asked).split("\0")[:-1]
        top = root / _git(root, "rev-parse", "--show-cdup").strip()
    except NoAnswer as error:
        return {"commit": head, "dirty": None, "git": str(error)}
    return {"commit": head, "dirty": any(line[:2] not in ("??", "!!") or _is_code(top, line[3:]) for line in changes)}


def _git(root: Path, *args: str) -> str:
    # A hook of git, or a person, may have set where another repository lies.
    env = {name: value for name, value in os.environ.items() if name not in ELSEWHERE} | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *args], cwd=root, env=env, capture_output=True, encoding="utf-8", errors="replace", timeout=60
        )
    except FileNotFoundError:
        raise NoAnswer("there is no git") from None
    except subprocess.TimeoutExpired:
        raise NoAnswer("git did not answer within a minute") from None
    except OSError as error:
        raise NoAnswer(f"git cannot be run: {error.strerror}") from None
    if done.returncode:
        said = re.findall(r"^fatal: (.+)", done.stderr, re.M) or done.stderr.split("\n")
        raise NoAnswer(portable(said[0]) or f"git ended with {done.returncode}")
    return done.stdout


def _is_code(top: Path, name: str) -> bool:
    """Whether Python could import a file that git does not track; of a folder, git does not say what is in it."""
    if is_stray(top / name, top):
        return False
    return name.endswith(tuple(importlib.machinery.all_suffixes())) or (top / name).is_dir()


def origin(code: Mapping) -> str:
    """Return in words where the code of a record came from: ``commit 3a9a4fe with local changes``."""
    name = f"commit {str(code.get('commit') or 'unknown')[:7]}"
    if code.get("commit") and code.get("dirty", False) is None:
        return f"{name}, git did not say whether as it is"
    return f"{name} with local changes" if code.get("dirty") else name


@functools.cache
def environment() -> dict:
    """Return versions and the kind of machine, without a host name and without a path."""
    versions: dict[str, str | None] = {}
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
    said = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    found = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", said.split("\n\n")[0], re.M))
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
