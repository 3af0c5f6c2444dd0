"""Tiers: how long a result may take, one file each in `config/`; a paper is in the tiers that its config.yaml has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from shared.config.files import ConfigError, check_keys, likeliest, nearest, read_yaml, repository, require_keys
from shared.files import is_stray, listed

DEVICES = "cpu, cuda, cuda:N or auto"


@dataclass(frozen=True)
class Tier:
    """How a tier runs.

    Attributes
    ----------
    tier : its name.
    says : one line for people.
    device : cpu, cuda, cuda:N or auto.
    runs_at_once : "cores" (one run on each core), "auto" (as many on one accelerator as pay) or a number.
    adopt : keep records whose spec is still asked for although the code has changed since; the comparison says so.
    """

    tier: str
    says: str
    device: str = "auto"
    runs_at_once: str | int = "auto"
    adopt: bool = False


def tiers(root: Path | None = None) -> list[str]:
    """Return the names of all tiers, sorted."""
    return sorted(path.stem for path in listed((root or repository()) / "config", "*.yaml") if path.stem != "schema")


def default_tier() -> str:
    """Return `LLP_TIER` where set; else "gpu" where a CUDA device is visible and "quick" elsewhere."""
    if tier := os.environ.get("LLP_TIER"):
        return tier
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not shutil.which("nvidia-smi"):
        return "quick"
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace")
    return "gpu" if listed.returncode == 0 and "GPU" in listed.stdout else "quick"


def load_tier(tier: str, root: Path | None = None) -> Tier:
    """Read ``config/<tier>.yaml``; an unknown key, or a name that is not the file's, is refused."""
    if tier not in tiers(root):
        close = nearest(tier, tiers(root))
        hint = f"did you mean {close!r}? " if close else ""
        raise ConfigError(f"there is no tier {tier!r}; {hint}there are {', '.join(tiers(root))}")
    path = (root or repository()) / "config" / f"{tier}.yaml"
    content = read_yaml(path)
    check_keys(content, [f.name for f in fields(Tier)], str(path))
    require_keys(content, ("tier", "says"), str(path))
    if content["tier"] != tier:
        raise ConfigError(f"{path}: `tier` says {content['tier']!r}; it must be {tier!r}, the name of the file")
    try:
        return Tier(**{**content, "device": device_name(content.get("device", Tier.device))})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


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


def papers(root: Path | None = None) -> list[str]:
    """Return all papers, sorted: the folders of `papers/` that hold a config.yaml."""
    folder = (root or repository()) / "papers"
    return sorted(path.parent.name for path in folder.glob("*/config.yaml") if not is_stray(path, folder))


def check_paper(paper: str, root: Path | None = None) -> None:
    """Refuse a paper that is not there, with the likeliest name."""
    if paper not in papers(root):
        raise ConfigError(f"there is no paper {paper!r}; {likeliest(paper, papers(root))}")
