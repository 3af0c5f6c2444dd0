"""Write tables in Markdown as lines of text: what does not need pandas for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def grid(head: Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Return the lines of a table; a bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(text).replace("|", "\\|") for text in line) + " |" for line in lines]
