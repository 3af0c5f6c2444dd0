"""From a paper's config.yaml to the runs of a tier: the one place where specs are made and named.

``papers/<paper>/config.yaml`` has `sections`, which hold every value of the paper with the place it comes from, and
`tiers`, which say what each tier changes and runs. ``papers/<paper>/names.py`` says what its methods are called.

A value of a section reads {value, source} and may have

    neutral:  the value that means "as before the key was there": it changes no id and no hash.
    one_of:   of a text, the list of all values it may have.
    free:     of a text that may be anything, what it is, in words. `complete.lacking` asks for this or for `one_of`.
    real:     true, where a value that is written whole may be any number; else it stays whole.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import itertools
import keyword
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.config.files import ConfigError, check_keys, likeliest, mapping, read_yaml, repository, require_keys
from shared.config.spec import Section, Sections, Spec
from shared.config.tiers import check_paper, papers

ABOUT_SECTION = ("when", "stage")
ABOUT_VALUE = ("neutral", "one_of", "free", "real")  # a tier or an experiment says none of them again
ABOUT_RUNS = ("stand_in", "differs", "seconds")
ABOUT_TIER = (*ABOUT_RUNS, "settings", "experiments")
ABOUT_EXPERIMENT = ("name", "grid", "set", *ABOUT_RUNS)


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
    differs : how the protocol departs from the paper's in what the numbers depend on, in words; empty if it does not.
    experiment : the name of the experiment that asks for it first.
    """

    id: str
    method: str
    spec: Spec
    seconds: float
    stand_in: str = ""
    differs: str = ""
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
    unsaid : the keys of texts that have neither `one_of` nor `free`.
    """

    layout: Sections
    values: Mapping[str, Any]
    sources: Mapping[str, str]
    tiers: Mapping[str, dict]
    at: str
    unsaid: tuple[str, ...] = ()


def papers_of(tier: str, root: Path | None = None) -> list[str]:
    """Return the papers whose config.yaml has a tier, sorted."""
    return [paper for paper in papers(root) if tier in read_config(paper, root).tiers]


def read_config(paper: str, root: Path | None = None) -> Config:
    """Read ``papers/<paper>/config.yaml``; what is unknown, missing, there twice or without a source is refused."""
    check_paper(paper, root)
    return _read(paper, (root or repository()) / "papers" / paper / "config.yaml", config_stamp(paper, root))


@functools.lru_cache(maxsize=64)
def _read(paper: str, path: Path, _stamp: str) -> Config:
    content, at = read_yaml(path), f"papers/{paper}/config.yaml"
    check_keys(content, ("sections", "tiers"), at)
    require_keys(content, ("sections", "tiers"), at)
    sections, values, sources = [], {}, {}
    marks: dict[str, dict[str, Any]] = {mark: {} for mark in ABOUT_VALUE}
    for name, section in mapping(content["sections"], f"{at}: sections").items():
        here = f"{at}: sections.{name}"
        entries = {key: entry for key, entry in mapping(section, here).items() if key not in ABOUT_SECTION}
        for key, entry in entries.items():
            if key in values:
                raise ConfigError(f"{here}: {key!r} stands in another section, too")
            if not key.isidentifier() or key.startswith("_") or keyword.iskeyword(key) or hasattr(Spec, key):
                raise ConfigError(f"{here}: {key!r} cannot be the name of a value; choose another")
            values[key], sources[key] = _value(key, entry, here, ABOUT_VALUE)
            _check_marks(key, entry, here)
            for mark in entry.keys() & marks.keys():
                marks[mark][key] = entry[mark]
        ways = _ways(section["when"], here) if "when" in section else []
        stage = section.get("stage", "")
        if not isinstance(stage, str) or ("stage" in section and not stage):
            raise ConfigError(f"{here}: `stage` must be the name of a shared stage, not {stage!r}")
        sections.append(Section(name, tuple(entries), tuple(ways), stage))
    neutral, one_of = marks["neutral"], {key: tuple(allowed) for key, allowed in marks["one_of"].items()}
    whole = {k for k, v in values.items() if isinstance(v, int) and not isinstance(v, bool) and k not in marks["real"]}
    layout = Sections(paper, tuple(sections), neutral, one_of, frozenset(whole))
    for section in sections:
        for key in section.keys:
            for value in (values[key], neutral.get(key, values[key])):
                layout.fitted(key, value, values[key], f"{at}: sections.{section.name}")
        for way in section.when:
            _check_way(way, layout, values, f"{at}: sections.{section.name}.when")
    unsaid = (key for key, value in values.items() if isinstance(value, str) and key not in one_of | marks["free"])
    for tier, own in mapping(content["tiers"], f"{at}: tiers").items():
        _check_tier(own, f"{at}: tiers.{tier}")
    return Config(layout, values, sources, content["tiers"], at, tuple(unsaid))


def _check_tier(own: Any, at: str) -> None:
    """Refuse a tier of another shape; what its keys and values may be is checked where its runs are made."""
    check_keys(mapping(own, at), ABOUT_TIER, at)
    require_keys(own, ["experiments"], at)
    _check_about(own, at)
    mapping(own.get("settings") or {}, f"{at}.settings")
    if not isinstance(own["experiments"], list) or not own["experiments"]:
        raise ConfigError(f"{at}.experiments must be a list of {{name: ..., grid: ...}}, not {own['experiments']!r}")
    for n, experiment in enumerate(own["experiments"]):
        named = isinstance(experiment, dict) and experiment.get("name")
        here = f"{at}.experiments ({named or f'number {n + 1}'})"
        check_keys(mapping(experiment, here), ABOUT_EXPERIMENT, here)
        require_keys(experiment, ["name", "grid"], here)
        if not isinstance(named, str):
            raise ConfigError(f"{here}: `name` must be a text, not {experiment['name']!r}")
        _check_about(experiment, here)
        mapping(experiment["grid"], f"{here}.grid")
        mapping(experiment.get("set") or {}, f"{here}.set")


def _check_about(about: Mapping[str, Any], at: str) -> None:
    seconds = about.get("seconds", 1)
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise ConfigError(f"{at}: `seconds` must be a number above 0, not {seconds!r}")
    for key in ("stand_in", "differs"):
        if not isinstance(about.get(key, ""), str):
            raise ConfigError(f"{at}: `{key}` must be a text, not {about[key]!r}")


def _ways(when: Any, at: str) -> list[Mapping[str, Any]]:
    ways = when if isinstance(when, list) else [when]
    for way in ways or [None]:
        if not isinstance(way, Mapping) or not way:
            raise ConfigError(f"{at}: `when` must be {{key: value or list}}, or a list of such")
        for key, wanted in way.items():
            if isinstance(wanted, Mapping) and set(wanted) != {"not"}:
                raise ConfigError(f"{at}: `when` of {key} must be a value, a list, or {{not: ...}}")
    return ways


def _check_way(way: Mapping[str, Any], layout: Sections, values: Mapping[str, Any], at: str) -> None:
    """Refuse a condition on an unknown key, and one that no value can meet."""
    check_keys(way, values, at)
    for key, wanted in way.items():
        wanted = wanted["not"] if isinstance(wanted, Mapping) else wanted
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if not allowed:
            raise ConfigError(f"{at}: {key} is compared with an empty list")
        for value in allowed:
            layout.fitted(key, value, values[key], at)


def _check_marks(key: str, entry: Mapping[str, Any], at: str) -> None:
    """Refuse what is said of a value and cannot be meant of one like it."""
    value, allowed, free = entry["value"], entry.get("one_of"), entry.get("free")
    text = isinstance(value, str)
    texts = [one for one in allowed if isinstance(one, str)] if isinstance(allowed, list) else []
    if "one_of" in entry and not (text and texts == allowed and len({*texts}) == len(texts)):
        raise ConfigError(f"{at}: `one_of` of {key} must list texts, each once, and be of a text; not {allowed!r}")
    if "free" in entry and not (text and isinstance(free, str) and free.strip() and "one_of" not in entry):
        raise ConfigError(f"{at}: `free` of {key} must say what a text without `one_of` is, not {free!r}")
    if "real" in entry and not (entry["real"] is True and isinstance(value, int) and not isinstance(value, bool)):
        raise ConfigError(f"{at}: `real` of {key} must be true, and be of a number that is written whole")


def _value(key: str, entry: Any, at: str, more: Iterable[str] = ()) -> tuple[Any, str]:
    if not isinstance(entry, dict) or not {"value", "source"} <= set(entry) <= {"value", "source", *more}:
        raise ConfigError(f'{at}: {key} must read {{value: ..., source: "Section ..." or "assumed: why"}}')
    source = entry["source"].strip() if isinstance(entry["source"], str) else ""
    if source.removeprefix("assumed").strip(" :.,") == "":
        raise ConfigError(f'{at}: the source of {key} must name a place in the paper or say why: "assumed: ..."')
    _check_plain(key, entry["value"], at)
    return entry["value"], source


def _check_plain(key: str, value: Any, at: str) -> None:
    """Refuse what a record cannot hold, and a number that YAML reads as a text: it wants 1.0e-4 for 1e-4."""
    if isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_plain(key, inner, at)
    elif isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        raise ConfigError(f"{at}: {key} is the text {value!r} to YAML; a number with an exponent reads 1.0e-4")
    elif not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"{at}: {key} must be a text, a number, true or false, or a list of such, not {value!r}")


def _changed(config: Config, changes: Mapping | None, at: str) -> dict[str, Any]:
    """{key: value} of what a tier or an experiment sets."""
    found = {}
    for key, entry in (changes or {}).items():
        check_keys([key], config.values, at)
        value, _ = _value(key, entry, at)
        found[key] = config.layout.fitted(key, value, config.values[key], at)
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
    check_paper(paper, root)
    return list(_plan(paper, tier, root or repository(), config_stamp(paper, root)))


def config_stamp(paper: str, root: Path | None = None) -> str:
    """Return a hash of a paper's config.yaml and names.py: what plans are kept by in a process."""
    folder, digest = (root or repository()) / "papers" / paper, hashlib.sha256()
    for path in (folder / "config.yaml", folder / "names.py"):
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


@functools.lru_cache(maxsize=64)
def _plan(paper: str, tier: str, root: Path, _stamp: str) -> tuple[Run, ...]:
    config, names = read_config(paper, root), names_of(paper, root)
    if tier not in config.tiers:
        raise ConfigError(f"{config.at} has no tier {tier!r}; it has {', '.join(config.tiers)}")
    section, at = config.tiers[tier], f"{config.at}: tiers.{tier}"
    base = {**config.values, **_changed(config, section.get("settings"), f"{at}.settings")}
    by_id: dict[str, Run] = {}
    for experiment in section["experiments"]:
        here = f"{at}.experiments ({experiment['name']})"
        own = {**base, **_changed(config, experiment.get("set"), f"{here}.set")}
        check_keys(experiment["grid"], config.values, f"{here}.grid")
        axes = {key: v if isinstance(v, list) else [v] for key, v in experiment["grid"].items()}
        for key, points in axes.items():
            if not points:
                raise ConfigError(f"{here}.grid: the list of {key} is empty")
            for value in points:
                _check_plain(key, value, f"{here}.grid")
            axes[key] = [config.layout.fitted(key, value, config.values[key], f"{here}.grid") for value in points]
        points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
        points.sort(key=lambda point: point.get("seed", 0))
        about = {**section, **experiment}
        runs = [_run(config.layout, {**own, **point}, base, axes, names, about) for point in points]
        for key in axes:
            if not any(key in run.spec for run in runs):
                condition = config.layout.section_of(key).condition()
                raise ConfigError(f"{here}.grid: no run reads {key!r}; it is where {condition}")
        for run in runs:
            if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", run.id):
                raise ConfigError(f"{here}: the id {run.id!r} cannot be a path; see names.py")
            if by_id.setdefault(run.id, run).spec != run.spec:
                raise ConfigError(f"{here}: two different specs have the id {run.id}")
    return tuple(by_id.values())


def _run(layout: Sections, values: dict, base: Mapping, axes: Iterable[str], names: Any, about: Mapping) -> Run:
    """Name a run: by its paper's words, and by each key of the grid that differs from its tier and is not in these."""
    spec = Spec(layout, values)
    said = spec.afresh()
    method, _ = names.method(said), names.path(said, "")
    seed = said.seed if "seed" in said else 0
    for key in sorted(set(axes) - {"dataset"}):
        if key in said and key in said.unread and said[key] != base[key]:
            value = said[key]
            text = f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
            method += f"-{text}" if isinstance(value, str) else f"-{key}{text}"
    run_id = f"{spec.paper}/{names.path(said, method)}/seed{seed}"
    stand_in, differs = about.get("stand_in", ""), about.get("differs", "")
    return Run(run_id, method, spec, float(about.get("seconds", 60)), stand_in, differs, about["name"])


def sources_of(run: Run, tier: str, root: Path | None = None) -> dict[str, str]:
    """Return {key: source} of all a run's spec holds: its experiment's, else its tier's, else its section's."""
    config = read_config(run.spec.paper, root)
    own = config.tiers[tier]
    experiment = next(e for e in own["experiments"] if e["name"] == run.experiment)
    changed = {**(own.get("settings") or {}), **(experiment.get("set") or {})}
    said = {**config.sources, **{key: entry["source"].strip() for key, entry in changed.items()}}
    return {key: said[key] for key in run.spec}


def module_of(paper: str, name: str, root: Path | None = None) -> Any:
    """Import a module of a paper: ``papers.<paper>.<name>``, or of another root than the repository, the file there."""
    path = (root or repository()) / "papers" / paper / f"{name}.py"
    if not path.is_file():
        raise ConfigError(f"papers/{paper}/{name}.py is missing; the README says what a paper needs")
    if root in (None, repository()):
        return importlib.import_module(f"papers.{paper}.{name}")
    found = importlib.util.spec_from_file_location(f"{name} of {paper}", path)
    assert found and found.loader  # as of any .py that is a file
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def names_of(paper: str, root: Path | None = None) -> Any:
    """Import a paper's names.py, which defines `method(spec)` and `path(spec, method)`."""
    return module_of(paper, "names", root)


def find(paper: str, tier: str, run_id: str, root: Path | None = None) -> Run:
    """Return a run of a tier by its id, with or without the paper's name in front; unknown ids are refused."""
    runs = {run.id: run for run in plan(paper, tier, root)}
    wanted = run_id if run_id.startswith(f"{paper}/") else f"{paper}/{run_id}"
    if wanted not in runs:
        hint = f"`--list` names its {len(runs)} runs"
        raise ConfigError(f"tier {tier} of {paper} has no run {run_id!r}; {likeliest(wanted, runs, hint)}")
    return runs[wanted]
