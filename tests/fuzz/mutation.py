"""Damage files as people, disks and attackers do: bytes, words, lines and parts of structures, drawn by a seed."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from typing import Any

NUMBERS = [
    *(0, 1, -1, 2, 3, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64),
]
WORDS = [
    *(b"", b"0", b"-1", b"1", b"2", b"0.5", b"-0.0", b"1e308", b"1e400", b"1e-320", b"nan", b"-inf", b"0x10", b"1_0"),
    *(b"9" * 25, b"9" * 400, b"9" * 5000, b"a", b"a" * 300, b"a" * 70_000, b"true", b"null", b"~", b"[]", b"{}"),
    *(b"../x", b"/x", b"\0", b"\xe9", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b",", b"\r", b"\n\n"),
    *(b"\x1b[2J", b"&a;"),
    *("\u0661".encode(), "\u00b2".encode(), "\u2028".encode(), b"*a", b"!!python/x", b"<Vertex/>"),
    *(b"[" * 5000, b"{a: " * 3000, b"<a>" * 3000),
]
VALUES = [
    *(None, True, False, 0, -1, 1, 0.5, 1e308, 10**30, 10**400, float("nan"), "", "a", "1"),
    *([], [1], {}, {"a": 1}, [[]]),
]


def mutated(random: random.Random, content: bytes, structured: bool) -> bytes:
    """Return content with one to four kinds of damage.

    Parameters
    ----------
    structured : JSON or YAML, of which whole parts are replaced too.
    """
    if structured and random.random() < 0.5 and (text := _restructured(random, content)) is not None:
        return text
    text = _is_text(content)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        kinds = (_word, _word, _word, _line, _byte, _chunk) if text else (_byte, _byte, _number, _number, _chunk, _word)
        content = random.choice(kinds)(random, content)
    return content


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content[:4000].decode()
    except UnicodeDecodeError:
        return False


def _place(random: random.Random, content: bytes) -> int:
    # Headers decide most: half of the places are in the first hundred bytes.
    return random.randrange(min(len(content), random.choice((100, len(content)))) or 1)


def _byte(random: random.Random, content: bytes) -> bytes:
    at = _place(random, content)
    return content[:at] + bytes([random.choice((0, 1, 127, 128, 255, random.randrange(256)))]) + content[at + 1 :]


def _number(random: random.Random, content: bytes) -> bytes:
    at, size = _place(random, content), random.choice((1, 2, 4, 8))
    number = random.choice(NUMBERS) % (1 << 8 * size)
    return content[:at] + number.to_bytes(size, random.choice(("little", "big"))) + content[at + size :]


def _chunk(random: random.Random, content: bytes) -> bytes:
    at = _place(random, content)
    size = random.choice((1, 2, 8, 64, 512, 4096))
    kind = random.randrange(5)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[at + size :]
    if kind == 2:
        return content[: at + size] + content[at:]
    if kind == 3:
        return content[:at] + random.randbytes(size) + content[at:]
    other = _place(random, content)
    return content[:at] + content[other : other + size] + content[at + size :]


def _word(random: random.Random, content: bytes) -> bytes:
    places = [found.span() for found in re.finditer(rb"[\w.+-]+", content)]
    if not places:
        return random.choice(WORDS) + content
    (start, end), (a, b) = random.choice(places), random.choice(places)
    new = random.choice((random.choice(WORDS), random.choice(WORDS), content[a:b]))
    return content[:start] + new + content[end:]


def _line(random: random.Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    kind = random.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(other, lines[at])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines.insert(at, random.choice(WORDS) + b"\n")
    return b"".join(lines)


def _restructured(random: random.Random, content: bytes) -> bytes | None:
    import yaml

    try:
        tree = [copy.deepcopy(yaml.load(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))]
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    for _ in range(random.choice((1, 1, 2))):
        holder, key = random.choice(list(_parts(tree)))
        kind = random.randrange(4)
        if kind < 2:
            holder[key] = copy.deepcopy(random.choice(VALUES))
        elif kind == 2 and len(holder) > 1:
            del holder[key]
        else:
            other, name = random.choice(list(_parts(tree)))
            holder[key] = copy.deepcopy(other[name])
    return json.dumps(tree[0] if tree else None, default=str).encode()


def _parts(holder: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _parts(holder[key])
