"""The spec of a run: the values of the sections that hold for it, read by name, and nothing else."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from shared.config.files import ConfigError, kind_of, likeliest


class SpecError(ConfigError, KeyError, AttributeError):
    """A read of what a spec does not hold, or a value that cannot be set."""


@dataclass(frozen=True)
class Section:
    """A section of a paper's config.yaml.

    Attributes
    ----------
    name : its name.
    keys : the keys whose values stand in it.
    when : alternatives, each {key: allowed values} or {key: {"not": refused values}}; it holds where one of them does,
        always if there are none.
    stage : the name of the shared stage that it configures; empty if there is none.
    """

    name: str
    keys: tuple[str, ...]
    when: tuple[Mapping[str, Any], ...] = ()
    stage: str = ""

    def condition(self) -> str:
        """Return its condition in words."""
        return " or ".join(", ".join(f"{k} is {_worded(v)}" for k, v in way.items()) for way in self.when)


@dataclass(frozen=True)
class Sections:
    """The sections of a paper, and what else is known of its keys.

    Attributes
    ----------
    neutral : for the keys that have one, the value that means "as before the key was there".
    one_of : for the keys whose values are a closed set, these.
    whole : the keys whose values are whole numbers.
    """

    paper: str
    sections: tuple[Section, ...]
    neutral: Mapping[str, Any] = field(default_factory=dict)
    one_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()

    def known(self) -> list[str]:
        """Return every key."""
        return [key for section in self.sections for key in section.keys]

    @functools.cached_property
    def _places(self) -> dict[str, Section]:
        return {key: section for section in self.sections for key in section.keys}

    @functools.cached_property
    def _asked(self) -> list[str]:
        """The keys that conditions ask for."""
        return sorted({key for section in self.sections for way in section.when for key in way})

    @functools.cached_property
    def _held(self) -> dict[tuple, tuple[Section, ...]]:
        return {}

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def section_of(self, key: str) -> Section:
        """Return the section that a key stands in; unknown keys are refused with the likeliest name."""
        if section := self._places.get(key):
            return section
        raise SpecError(f"{self.paper}: unknown key {key!r}; {likeliest(key, self.known())}")

    def fitted(self, key: str, value: Any, like: Any, at: str) -> Any:
        """Return a value that `key` may have, a whole number as an int; any other is refused with its place.

        Parameters
        ----------
        like : a value of the same type.
        """
        check_type(key, value, like, at)
        if key in self.one_of and value not in self.one_of[key]:
            raise SpecError(f"{at}: {key} cannot be {value!r}; {likeliest(value, self.one_of[key])}")
        if key in self.whole and isinstance(value, float):
            if not value.is_integer():
                raise SpecError(f"{at}: {key} must be a whole number, and not {value!r}")
            return int(value)
        return value

    def holding(self, values: Mapping[str, Any]) -> tuple[Section, ...]:
        """Return the sections that hold for these values; a condition on a key that does not hold is not met."""
        answers = tuple(repr(values.get(key)) if key in values else "" for key in self._asked)
        if answers not in self._held:
            self._held[answers] = self._holding(values)
        return self._held[answers]

    def _holding(self, values: Mapping[str, Any]) -> tuple[Section, ...]:
        held: set[str] = set()
        keys: set[str] = set()
        more = True
        while more:
            more = False
            for section in self.sections:
                met = not section.when or any(_met(way, values, keys) for way in section.when)
                if met and section.name not in held:
                    held.add(section.name)
                    keys.update(section.keys)
                    more = True
        return tuple(section for section in self.sections if section.name in held)


class Spec:
    """The whole configuration of one run, immutable; `spec.alpha` reads a value.

    A read of a value that the spec does not hold raises a SpecError that says what holds it, or what was meant. What
    was read is noted, so that a test can find values nobody reads. `{**spec}` is a plain dictionary.

    Parameters
    ----------
    layout : of the paper.
    values : a value for every key of the layout, also for those that do not hold; `but` stands on them.
    """

    __slots__ = ("_layout", "_reads", "_sections", "_values", "_view")

    def __init__(self, layout: Sections, values: Mapping[str, Any], _view: str = "", _reads: set[str] | None = None):
        if not values.keys() <= layout._places.keys():
            for key in values:
                layout.section_of(key)  # raises for the first that is unknown
        self._layout, self._values, self._view = layout, dict(values), _view
        held = layout.holding(values)
        self._sections = tuple(s for s in held if s.stage == _view) if _view else held
        self._reads = set() if _reads is None else _reads

    def afresh(self) -> Spec:
        """Return the same spec, of which nobody has read anything."""
        other = object.__new__(Spec)
        other._layout, other._values, other._view = self._layout, self._values, self._view
        other._sections, other._reads = self._sections, set()
        return other

    def __reduce__(self):
        return Spec, (self._layout, self._values, self._view)

    @property
    def paper(self) -> str:
        """The paper whose run this is."""
        return self._layout.paper

    @property
    def unread(self) -> list[str]:
        """The keys that nobody has read so far."""
        return [key for key in self if key not in self._reads]

    def __getitem__(self, key: str) -> Any:
        section = self._layout.section_of(key)
        if all(section is not held for held in self._sections):
            if self._view and section.stage != self._view:
                raise SpecError(f"{self.paper}: the stage {self._view!r} reads {key!r} of the section {section.name!r}")
            raise SpecError(f"{self.paper}: {key!r} is read only where {section.condition()}, which is not so here")
        self._reads.add(key)
        return _own(self._values[key])

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        return self[key]

    def __setattr__(self, key: str, value: Any) -> None:
        if not key.startswith("_"):
            raise SpecError(f"a spec does not change; spec.but({key}=...) makes another")
        object.__setattr__(self, key, value)

    def __contains__(self, key: str) -> bool:
        section = self._layout.section_of(key)
        return any(section is held for held in self._sections)

    def __iter__(self) -> Iterator[str]:
        return (key for section in self._sections for key in section.keys)

    def __len__(self) -> int:
        return sum(len(section.keys) for section in self._sections)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spec) or self.paper != other.paper:
            return False
        return self is other or _json(self.values()) == _json(other.values())  # as in the hash, 1 is not 1.0

    def __hash__(self) -> int:
        return hash((self.paper, self.hash))

    def __repr__(self) -> str:
        return f"Spec({self.paper!r}, {self.values()})"

    def peek(self, key: str) -> Any:
        """Return the value of a key that it holds, which is no reading."""
        return _own(self._values[key])

    def keys(self) -> list[str]:
        """Return the keys it holds."""
        return list(self)

    def values(self) -> dict[str, Any]:
        """Return {key: value} of all it holds, which is no reading."""
        return {key: _own(self._values[key]) for key in self}

    def canonical(self) -> dict[str, Any]:
        """Return {key: value} of what a record keeps and the hash is of: all it holds but neutral values."""
        neutral = self._layout.neutral
        return {k: v for k, v in self.values().items() if k not in neutral or neutral[k] != v}

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of the paper and the canonical values; neutral values change nothing."""
        text = _json({"paper": self.paper, **self.canonical()})
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def section(self, name: str) -> dict[str, Any]:
        """Return the values of one section, all of them read: what a dataclass or a function takes as a whole."""
        for section in self._sections:
            if section.name == name:
                return {key: self[key] for key in section.keys}
        held = [section.name for section in self._sections]
        raise SpecError(f"{self.paper}: the section {name!r} does not hold; {likeliest(name, held)}")

    def stage(self, name: str) -> Spec:
        """Return the part that configures a shared stage: all sections of that stage that hold, and no other value."""
        if name not in (stages := {s.stage for s in self._layout.sections if s.stage}):
            raise SpecError(f"{self.paper}: no section has the stage {name!r}; {likeliest(name, stages)}")
        if self._view and self._view != name:
            raise SpecError(f"{self.paper}: the stage {self._view!r} reads the stage {name!r}")
        return Spec(self._layout, self._values, name, self._reads)

    @property
    def stage_names(self) -> list[str]:
        """The shared stages that a section which holds configures, sorted."""
        return sorted({section.stage for section in self._sections if section.stage})

    def but(self, **changes: Any) -> Spec:
        """Return the spec with other values; the sections that hold are found anew, with the values of its tier.

        Raises
        ------
        SpecError
            For an unknown key, a value that it cannot have, and one that the changed run would not read.
        """
        for key, value in changes.items():
            self._layout.section_of(key)
            changes[key] = self._layout.fitted(key, value, self._values.get(key, value), self.paper)
        return Spec(self._layout, {**self._values, **changes}, self._view)._checked(changes)

    @classmethod
    def of(cls, spec: Spec | Mapping[str, Any], layout: Sections) -> Spec:
        """Return a spec as it is, or that of a plain mapping of its values, of which neutral ones may be left out.

        Raises
        ------
        SpecError
            For an unknown key, a value that it cannot have or the run would not read, and one that is missing, by name.
        """
        if isinstance(spec, Spec):
            if spec.paper != layout.paper:
                raise SpecError(f"a spec of {spec.paper} was given to {layout.paper}")
            return spec
        said = {key: layout.fitted(key, value, value, layout.paper) for key, value in spec.items()}
        return cls(layout, {**layout.neutral, **said})._checked(said)

    def _checked(self, said: Iterable[str]) -> Spec:
        """Return this spec, unless a value that it holds is missing or one that somebody said is not held."""
        for key in self:
            if key not in self._values:
                raise SpecError(f"{self.paper}: the value of {key!r} is missing")
        for key in said:
            if key not in self:
                section = self._layout.section_of(key)
                where = f"where {section.condition()}" if section.when else f"of the section {section.name!r}"
                raise SpecError(f"{self.paper}: {key} would not be read; it is {where}")
        return self


def check_type(key: str, value: Any, like: Any, at: str) -> None:
    """Refuse a value of another type than the one in the configuration."""
    number = (int, float)
    same = isinstance(value, bool) == isinstance(like, bool) and (
        isinstance(value, type(like)) or (isinstance(value, number) and isinstance(like, number))
    )
    if not same:
        raise SpecError(f"{at}: {key} must be like {like!r}, {kind_of(like)}, and not {value!r}")


def _own(value: Any) -> Any:
    """Return a value that its reader may change: a list or a mapping is copied, since all specs have the same one."""
    return copy.deepcopy(value) if isinstance(value, list | dict) else value


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def _met(way: Mapping[str, Any], values: Mapping[str, Any], held: set[str]) -> bool:
    return all(key in held and key in values and _allows(wanted, values[key]) for key, wanted in way.items())


def _allows(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, Mapping):
        return not _allows(wanted["not"], value)
    return value in wanted if isinstance(wanted, list) else value == wanted


def _worded(wanted: Any) -> str:
    if isinstance(wanted, Mapping):
        return f"not {_worded(wanted['not'])}"
    return " or ".join(map(repr, wanted)) if isinstance(wanted, list) else repr(wanted)


def parse_changes(pairs: Iterable[str], spec: Spec) -> dict[str, Any]:
    """Return {key: value} of ``key=value`` texts as typed in a shell, each of the type that the key has."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign:
            raise SpecError(f"--set {pair}: write key=value")
        if key in found:
            raise SpecError(f"--set {pair}: {key} is given twice, first as {found[key]!r}; say which")
        spec._layout.section_of(key)
        like, found[key] = spec._values[key], text
        if not isinstance(like, str):
            try:
                found[key] = yaml.safe_load(text)
            except yaml.YAMLError:
                raise SpecError(f"--set {pair}: {text!r} is no value") from None
        if isinstance(like, int | float) and isinstance(found[key], str):
            with contextlib.suppress(ValueError):
                number = float(text)  # YAML reads 1e-4 as a text
                found[key] = int(number) if isinstance(like, int) and number.is_integer() else number
    return found
