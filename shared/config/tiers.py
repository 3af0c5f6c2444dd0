"""Tiers: how long a result may take, one file each in `config/`; a paper is in the tiers that its config.yaml has."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from shared.config.devices import device_name, has_card, seen
from shared.config.files import ConfigError, check_keys, likeliest, nearest, read_yaml, repository, require_keys
from shared.files import is_stray, listed


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
    shards : how many jobs of Snakemake a paper's training is; a job takes all devices that it sees.
    """

    tier: str
    says: str
    device: str = "auto"
    runs_at_once: str | int = "auto"
    adopt: bool = False
    shards: int = 1


def tiers(root: Path | None = None) -> list[str]:
    """Return the names of all tiers, sorted."""
    return sorted(path.stem for path in listed((root or repository()) / "config", "*.yaml") if path.stem != "schema")


def default_tier() -> str:
    """Return `LLP_TIER` where set; else "gpu" where torch sees a CUDA device and "quick" elsewhere."""
    return os.environ.get("LLP_TIER") or ("gpu" if has_card() and seen().tokens else "quick")


def add_tier(parser: argparse.ArgumentParser, root: Path | None = None) -> None:
    """Add ``--tier NAME`` to a parser; torch is asked for the default only where nobody names a tier."""
    told = "LLP_TIER, else gpu where torch sees a GPU and quick elsewhere, unless told"
    # A default that is a text goes through `type`, and only where the option is not given.
    parser.add_argument(
        "--tier",
        type=lambda name: name or default_tier(),
        default="",
        help=f"one of {', '.join(tiers(root))}; {told}",
    )


def load_tier(tier: str, root: Path | None = None) -> Tier:
    """Read ``config/<tier>.yaml``; an unknown key, a value that cannot be and a name not the file's are refused."""
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
    for key, fits, wanted in _VALUES:
        if not fits(value := content.get(key, getattr(Tier, key, ""))):
            raise ConfigError(f"{path}: `{key}` must be {wanted}, not {value!r}")
    content["shards"] = number_of_shards(content.get("shards", Tier.shards), str(path))
    try:
        return Tier(**{**content, "device": device_name(content.get("device", Tier.device))})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


_VALUES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("says", lambda value: isinstance(value, str), "a text"),
    ("adopt", lambda value: isinstance(value, bool), "true or false"),  # "false" in quotes would be true
    ("runs_at_once", lambda value: bool(re.fullmatch(r"cores|auto|[1-9]\d*", str(value))), "a number, cores or auto"),
)


def number_of_shards(said: object, at: str) -> int:
    """Return a number of shards as a tier or a person says it, or refuse it by its place."""
    if not re.fullmatch(r"[1-9]\d*", str(said)):
        raise ConfigError(f"{at}: `shards` must be a number above 0, not {said!r}")
    return int(str(said))


def papers(root: Path | None = None) -> list[str]:
    """Return all papers, sorted: the folders of `papers/` that hold a config.yaml."""
    folder = (root or repository()) / "papers"
    return sorted(path.parent.name for path in folder.glob("*/config.yaml") if not is_stray(path, folder))


def check_paper(paper: str, root: Path | None = None) -> None:
    """Refuse a paper that is not there, with the likeliest name."""
    if paper not in papers(root):
        raise ConfigError(f"there is no paper {paper!r}; {likeliest(paper, papers(root))}")
