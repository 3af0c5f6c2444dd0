"""From a paper's config.yaml to the runs of a tier: the one place where specs are made and named.

``papers/<paper>/config.yaml`` has `sections`, which hold every value of the paper with the place it comes from, and
`tiers`, which say what each tier changes and runs. ``papers/<paper>/names.py`` says what its methods are called.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.config.files import ConfigError, check_keys, likeliest, read_yaml, repository, require_keys
from shared.config.spec import Layout, Section, Spec, check_type
from shared.config.tiers import check_paper, papers

ABOUT_SECTION = ("when", "stage")
ABOUT_TIER = ("stand_in", "seconds", "settings", "experiments")
ABOUT_EXPERIMENT = ("name", "grid", "set", "stand_in", "seconds")


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes
    ----------
    id : its name, which is also its path and its row.
    method : what tables and claims call it.
    spec : its whole configuration.
    seconds : how long it may take, until records know better.
    stand_in : what stands in for the paper's data or network, in words; empty if nothing does.
    experiment : the name of the experiment that asks for it first.
    """

    id: str
    method: str
    spec: Spec
    seconds: float
    stand_in: str = ""
    experiment: str = ""

    @property
    def spec_hash(self) -> str:
        """The hash of its spec."""
        return self.spec.hash


@dataclass(frozen=True)
class Config:
    """A paper's config.yaml, checked.

    Attributes
    ----------
    layout : its sections.
    values : {key: value} of the paper's own protocol.
    sources : {key: the place in the paper, or the reason}.
    tiers : {tier: what it changes and runs}, as in the file.
    at : the file, for messages.
    """

    layout: Layout
    values: Mapping[str, Any]
    sources: Mapping[str, str]
    tiers: Mapping[str, dict]
    at: str


def papers_of(tier: str, root: Path | None = None) -> list[str]:
    """Return the papers whose config.yaml has a tier, sorted."""
    return [paper for paper in papers(root) if tier in read_config(paper, root).tiers]


def read_config(paper: str, root: Path | None = None) -> Config:
    """Read ``papers/<paper>/config.yaml``; what is unknown, missing, there twice or without a source is refused."""
    check_paper(paper, root)
    path = (root or repository()) / "papers" / paper / "config.yaml"
    return _read(paper, path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _read(paper: str, path: Path, _changed: int) -> Config:
    content, at = read_yaml(path), f"papers/{paper}/config.yaml"
    check_keys(content, ("sections", "tiers"), at)
    require_keys(content, ("sections", "tiers"), at)
    sections, values, sources, neutral = [], {}, {}, {}
    for name, section in content["sections"].items():
        here = f"{at}: sections.{name}"
        entries = {key: entry for key, entry in section.items() if key not in ABOUT_SECTION}
        for key, entry in entries.items():
            if key in values:
                raise ConfigError(f"{here}: {key!r} stands in another section, too")
            if not key.isidentifier() or hasattr(Spec, key):
                raise ConfigError(f"{here}: {key!r} cannot be the name of a value; choose another")
            values[key], sources[key] = _value(key, entry, here)
            if "neutral" in entry:
                check_type(key, entry["neutral"], entry["value"], here)
                neutral[key] = entry["neutral"]
        when = section.get("when") or []
        sections.append(Section(name, tuple(entries), tuple(_ways(when, here)), section.get("stage", "")))
    for section in sections:
        for way in section.when:
            check_keys(way, values, f"{at}: sections.{section.name}.when")
    layout = Layout(paper, tuple(sections), neutral)
    for tier, own in content["tiers"].items():
        here = f"{at}: tiers.{tier}"
        check_keys(own, ABOUT_TIER, here)
        require_keys(own, ["experiments"], here)
    return Config(layout, values, sources, content["tiers"], at)


def _ways(when: Mapping | list, at: str) -> list[Mapping[str, Any]]:
    ways = when if isinstance(when, list) else [when]
    for way in ways:
        if not isinstance(way, Mapping) or not way:
            raise ConfigError(f"{at}: `when` must be {{key: value or list}}, or a list of such")
        for key, wanted in way.items():
            if isinstance(wanted, Mapping) and set(wanted) != {"not"}:
                raise ConfigError(f"{at}: `when` of {key} must be a value, a list, or {{not: ...}}")
    return ways


def _value(key: str, entry: Any, at: str, more: Iterable[str] = ("neutral",)) -> tuple[Any, str]:
    if not isinstance(entry, dict) or not {"value", "source"} <= set(entry) <= {"value", "source", *more}:
        raise ConfigError(f'{at}: {key} must read {{value: ..., source: "Section ..." or "assumed: why"}}')
    source = str(entry["source"] or "").strip()
    if source.removeprefix("assumed").strip(" :") == "":
        raise ConfigError(f"{at}: the source of {key} must name a place in the paper or say why: \"assumed: ...\"")
    return entry["value"], source


def _changed(config: Config, changes: Mapping | None, at: str) -> dict[str, Any]:
    """{key: value} of what a tier or an experiment sets."""
    found = {}
    for key, entry in (changes or {}).items():
        check_keys([key], config.values, at)
        found[key], _ = _value(key, entry, at, ())
        check_type(key, found[key], config.values[key], at)
    return found


def plan(paper: str, tier: str, root: Path | None = None) -> list[Run]:
    """Return every run of a paper's tier, most valuable first: experiments as listed, in each one seed after the other.

    A run's values are those of the sections, changed by the tier's `settings`, by the experiment's `set`, and by one
    point of its `grid`.

    Raises
    ------
    ConfigError
        For an unknown key or tier, one id for two specs, and a grid whose axis no run reads.
    """
    config = read_config(paper, root)
    return list(_plan(paper, tier, root or repository(), config_stamp(paper, root)))


def config_stamp(paper: str, root: Path | None = None) -> int:
    """Return when a paper's config.yaml was changed: what plans are kept by."""
    return ((root or repository()) / "papers" / paper / "config.yaml").stat().st_mtime_ns


@functools.lru_cache(maxsize=64)
def _plan(paper: str, tier: str, root: Path, _stamp: int) -> tuple[Run, ...]:
    config, names = read_config(paper, root), names_of(paper)
    if tier not in config.tiers:
        raise ConfigError(f"{config.at} has no tier {tier!r}; it has {', '.join(config.tiers)}")
    section, at = config.tiers[tier], f"{config.at}: tiers.{tier}"
    base = {**config.values, **_changed(config, section.get("settings"), f"{at}.settings")}
    by_id: dict[str, Run] = {}
    for experiment in section["experiments"]:
        here = f"{at}.experiments ({experiment.get('name', 'without a name')})"
        check_keys(experiment, ABOUT_EXPERIMENT, here)
        require_keys(experiment, ["name", "grid"], here)
        own = {**base, **_changed(config, experiment.get("set"), f"{here}.set")}
        check_keys(experiment["grid"], config.values, f"{here}.grid")
        axes = {key: v if isinstance(v, list) else [v] for key, v in experiment["grid"].items()}
        for key, points in axes.items():
            like = config.values[key]
            for value in points if not isinstance(like, list) else ():
                check_type(key, value, like, f"{here}.grid")
        points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
        points.sort(key=lambda point: point.get("seed", 0))
        about = {**section, **experiment}
        runs = [_run(config.layout, {**own, **point}, base, axes, names, about) for point in points]
        for key in axes:
            if not any(key in run.spec for run in runs):
                condition = config.layout.section_of(key).condition()
                raise ConfigError(f"{here}.grid: no run reads {key!r}; it is where {condition}")
        for run in runs:
            if by_id.setdefault(run.id, run).spec != run.spec:
                raise ConfigError(f"{here}: two different specs have the id {run.id}")
    return tuple(by_id.values())


def _run(layout: Layout, values: dict, base: Mapping, axes: Iterable[str], names: Any, about: Mapping) -> Run:
    """Name a run: by its paper's words, and by each key of the grid that differs from its tier and is not in these."""
    spec, said = Spec(layout, values), Spec(layout, values)
    method, _ = names.method(said), names.path(said, "")
    seed = said.seed if "seed" in said else 0
    for key in sorted(set(axes) - {"dataset"}):
        if key in said and key in said.unread and said[key] != base[key]:
            value = said[key]
            text = f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
            method += f"-{text}" if isinstance(value, str) else f"-{key}{text}"
    run_id = f"{spec.paper}/{names.path(said, method)}/seed{seed}"
    return Run(run_id, method, spec, float(about.get("seconds", 60)), about.get("stand_in", ""), about["name"])


def names_of(paper: str) -> Any:
    """Import ``papers.<paper>.names``, which defines `method(spec)` and `path(spec, method)`."""
    try:
        return importlib.import_module(f"papers.{paper}.names")
    except ModuleNotFoundError as error:
        if error.name and not f"papers.{paper}.names".startswith(error.name):
            raise
        raise ConfigError(f"papers/{paper}/names.py is missing; it says what the paper's methods are called") from None


def find(paper: str, tier: str, run_id: str, root: Path | None = None) -> Run:
    """Return a run of a tier by its id, with or without the paper's name in front; unknown ids are refused."""
    runs = {run.id: run for run in plan(paper, tier, root)}
    wanted = run_id if run_id.startswith(f"{paper}/") else f"{paper}/{run_id}"
    if wanted not in runs:
        raise ConfigError(f"tier {tier} of {paper} has no run {run_id!r}; {_hint(wanted, runs)}")
    return runs[wanted]


def _hint(wanted: str, runs: Mapping[str, Run]) -> str:
    hint = likeliest(wanted, runs)
    return hint if hint.startswith("did") else f"`--list` names its {len(runs)} runs"
