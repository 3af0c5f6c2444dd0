"""Reading YAML, and refusing what it says by name: the file, the key and the likeliest spelling."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from shared.files import Sentence, read_text


class ConfigError(Sentence):
    """A configuration that cannot be; the message names the file, the key and what to do."""


def repository() -> Path:
    """Return the root of the checkout this file is in."""
    return Path(__file__).resolve().parents[2]


_Loader: Any = yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader


class _UniqueKeys(_Loader):
    """YAML in which a key that is there twice is an error, not a silent loss of the first."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict | set):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(path: Path, error: Callable[[str], Exception]) -> Any:
    """Return what a YAML file holds, or raise `error`, which names the file and line; a key that is twice is one."""
    try:
        return yaml.load(read_text(path, error), _UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError) as wrong:
        raise error(f"{path} is not YAML: {' '.join(str(wrong).split())}") from None


def read_yaml(path: Path) -> dict:
    """Read a YAML mapping, or raise a ConfigError that names the file and line."""
    content = parse_yaml(path, ConfigError)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping, not {kind_of(content)}")
    return content


def mapping(content: Any, at: str) -> dict[str, Any]:
    """Return `content`, which must be a mapping of names; anything else is refused with its place."""
    if not isinstance(content, dict):
        raise ConfigError(f"{at} must be a mapping, not {kind_of(content)}")
    for key in content:
        if not isinstance(key, str):
            raise ConfigError(
                f"{at}: {key!r} is {kind_of(key)} to YAML and cannot be a name; quote it or choose another"
            )
    return content


def kind_of(content: Any) -> str:
    """Return what a YAML content is, in words: "a list", "an int", "empty"."""
    name = type(content).__name__
    return "empty" if content is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def nearest(text: str, known: Iterable[str], alike: float = 0.6) -> str | None:
    """Return the known text that is most like another, None where none is alike by that much, of 1."""
    return next(iter(difflib.get_close_matches(text, sorted(map(str, known)), 1, alike)), None)


def likeliest(key: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return what a person may have meant by `key`, else `otherwise`, which is all that is known unless told."""
    known = sorted(map(str, known))
    if close := nearest(str(key), known):
        return f"did you mean {close!r}?"
    return f"known are {', '.join(known)}" if otherwise is None else otherwise


def check_keys(keys: Iterable[str], known: Iterable[str], at: str) -> None:
    """Refuse a key that is not known, by name and with the likeliest spelling."""
    known = list(known)
    for key in keys:
        if key not in known:
            raise ConfigError(f"{at}: unknown key {key!r}; {likeliest(key, known)}")


def require_keys(found: Iterable[str], needed: Iterable[str], at: str) -> None:
    """Refuse a mapping in which a key was forgotten, by the key's name."""
    for key in needed:
        if key not in found:
            raise ConfigError(f"{at}: the key {key!r} is missing")
