"""Configuration: tiers, each paper's values with their sources, and the grid of run specs they span.

``config/<tier>.yaml`` says how a tier runs. ``papers/<paper>/config.yaml`` says what it runs: `protocol` holds every
value of the paper with the place it comes from, `tiers` what a tier changes, and its experiments.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import yaml


class ConfigError(Exception):
    """A configuration that cannot be; the message names the file, the key and what to do."""


@dataclass(frozen=True)
class Tier:
    """How a tier runs.

    tier : its name. says : one line for people. device : cpu, cuda or auto. runs_at_once : "cores" (one run on each
    core) or "auto" (as many on one accelerator as pay) or a number. adopt : keep records whose spec is still asked for
    although the code has changed since; the comparison then says so. papers : the only ones it is of; all unless told.
    """

    tier: str
    says: str
    device: str = "auto"
    runs_at_once: str | int = "auto"
    adopt: bool = False
    papers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One training run: its id (also its path and its row), its whole configuration, seconds it may take."""

    id: str
    spec: dict
    seconds: float

    @property
    def spec_hash(self) -> str:
        text = json.dumps(self.spec, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def repository() -> Path:
    """The root of the checkout this file is in."""
    return Path(__file__).resolve().parents[2]


def default_tier() -> str:
    """`LLP_TIER` where set; else "gpu" where a CUDA device is visible and "quick" elsewhere."""
    if tier := os.environ.get("LLP_TIER"):
        return tier
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not shutil.which("nvidia-smi"):
        return "quick"
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return "gpu" if listed.returncode == 0 and "GPU" in listed.stdout else "quick"


def read_yaml(path: Path) -> dict:
    """A YAML mapping, or a ConfigError that names the file and line."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping, not a {type(content).__name__}")
    return content


def check_keys(keys: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse a key that is not known, by name and with the likeliest spelling."""
    known = list(known)
    for key in keys:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
            raise ConfigError(f"{where}: unknown key {key!r}; {hint}")


def tiers(root: Path | None = None) -> list[str]:
    """The names of all tiers, sorted."""
    return sorted(path.stem for path in ((root or repository()) / "config").glob("*.yaml") if path.stem != "schema")


def require_keys(found: Iterable[str], needed: Iterable[str], where: str) -> None:
    """Refuse a section in which a key was forgotten, by the key's name."""
    for key in needed:
        if key not in found:
            raise ConfigError(f"{where}: the key {key!r} is missing")


def load_tier(tier: str, root: Path | None = None) -> Tier:
    """``config/<tier>.yaml``."""
    if tier not in tiers(root):
        raise ConfigError(f"there is no tier {tier!r}; there are {', '.join(tiers(root))}")
    path = (root or repository()) / "config" / f"{tier}.yaml"
    content = read_yaml(path)
    check_keys(content, [f.name for f in fields(Tier)], str(path))
    require_keys(content, ("tier", "says"), str(path))
    if content["tier"] != tier:
        raise ConfigError(f"{path}: `tier` says {content['tier']!r}; it must be {tier!r}, the name of the file")
    papers = content.get("papers", [])
    known = _papers(root)
    if not isinstance(papers, list) or not set(papers) <= set(known):
        raise ConfigError(f"{path}: `papers` says {papers!r}; it must list some of {', '.join(known)}")
    return Tier(**{**content, "papers": tuple(papers)})


def papers_of(tier: Tier, root: Path | None = None) -> list[str]:
    """The papers that a tier is of, sorted."""
    return [paper for paper in _papers(root) if not tier.papers or paper in tier.papers]


def _papers(root: Path | None) -> list[str]:
    return sorted(path.parent.name for path in ((root or repository()) / "papers").glob("*/claims.yaml"))


def _values(section: dict, known: Iterable[str] | None, where: str) -> dict:
    """{key: value} of {key: {value: v, source: s}}; a value without a source is refused."""
    if known is not None:
        check_keys(section, known, where)
    for key, entry in section.items():
        if not isinstance(entry, dict) or set(entry) != {"value", "source"} or not entry["source"]:
            raise ConfigError(f'{where}: {key} must read {{value: ..., source: "Section ..." or "assumed: why"}}')
    return {key: entry["value"] for key, entry in section.items()}


def read_config(paper: str, root: Path | None = None) -> dict:
    """``papers/<paper>/config.yaml``, its top-level keys checked."""
    path = (root or repository()) / "papers" / paper / "config.yaml"
    if not path.exists():
        raise ConfigError(f"there is no paper {paper!r}: {path} does not exist")
    config = read_yaml(path)
    check_keys(config, ("protocol", "tiers"), str(path))
    require_keys(config, ("protocol", "tiers"), str(path))
    return config


def specs(paper: str, tier: str, root: Path | None = None) -> list[dict]:
    """Every spec of a paper's tier, most valuable first: experiments as listed, one seed after the other in each.

    A spec is the protocol, overridden by the tier's settings, by the experiment's `set`, and by one point of its
    `grid`. Its `defaults` hold the tier's value of every key the grid varies.
    """
    config = read_config(paper, root)
    where = f"papers/{paper}/config.yaml"
    protocol = _values(config["protocol"], None, f"{where}: protocol")
    if tier not in config["tiers"]:
        raise ConfigError(f"{where} has no tier {tier!r}; it has {', '.join(config['tiers'])}")
    section = config["tiers"][tier]
    check_keys(section, ("settings", "experiments"), f"{where}: tiers.{tier}")
    require_keys(section, ["experiments"], f"{where}: tiers.{tier}")
    base = {**protocol, **_values(section.get("settings") or {}, protocol, f"{where}: tiers.{tier}.settings")}
    found = []
    for experiment in section["experiments"]:
        at = f"{where}: tiers.{tier}.experiments ({experiment.get('name', 'without a name')})"
        check_keys(experiment, ("name", "grid", "set"), at)
        require_keys(experiment, ["grid"], at)
        own = {**base, **_values(experiment.get("set") or {}, protocol, f"{at}.set")}
        check_keys(experiment["grid"], protocol, f"{at}.grid")
        axes = {key: v if isinstance(v, list) else [v] for key, v in experiment["grid"].items()}
        points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
        points.sort(key=lambda point: point.get("seed", 0))
        found += [{"paper": paper, **own, **point, "defaults": {k: base[k] for k in axes}} for point in points]
    return found


def unique(runs: Iterable[Run]) -> list[Run]:
    """The runs, each id once; one id for two different specs is refused."""
    by_id: dict[str, Run] = {}
    for run in runs:
        if by_id.setdefault(run.id, run).spec != run.spec:
            raise ConfigError(f"two different specs have the id {run.id}")
    return list(by_id.values())
