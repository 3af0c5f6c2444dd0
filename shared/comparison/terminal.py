"""Print a comparison in the terminal: aligned, as wide as the window, coloured only where a person is looking."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from shared.comparison import texts
from shared.comparison.claims import Claim
from shared.comparison.report import Comparison
from shared.comparison.verdicts import number_of

COLOURS = {
    **dict.fromkeys(("REPRODUCED", "CONSISTENT", "HOLDS"), "32"),
    **dict.fromkeys(("NOT REPRODUCED", "INCONSISTENT", "CONTRADICTED", "FAILED"), "31"),
    **dict.fromkeys(("SMALL DIFFERENCE", "INCONCLUSIVE"), "33"),
    **dict.fromkeys(("NOT COMPARABLE", "NOT RUN"), "2"),
}
NARROWEST = 24


def show(comparison: Comparison, out: TextIO = sys.stdout, width: int | None = None) -> None:
    """Print one comparison to `out`."""
    width = width or shutil.get_terminal_size((100, 24)).columns
    coloured = out.isatty() and "NO_COLOR" not in os.environ
    notes = texts.Footnotes(comparison)
    counts, rows = list(texts.cell_counts(comparison, notes)), texts.all_cell_texts(comparison, notes)
    about = [list(texts.about_claim(claim, v, notes)) for claim, v in comparison.claims]
    lines = [f"{comparison.paper}, tier {comparison.tier}"]
    if rows:
        lines += [f"  {number_of(len(rows), 'reported number')}"]
        lines += [
            line for name, n, why in counts for line in _wrapped(f"{n:4} {name}: {why}".rstrip(": "), width, "  ")
        ]
    if about:
        lines += [f"  {number_of(len(about), 'claim')}: {', '.join(texts.ROLES.values())}"]
        lines += [f"  {' '.join(f'{n:4}' for n in ns)} {word}" for word, *ns in texts.claim_counts(comparison)]
    lines += [line for fact in comparison.facts for line in _wrapped(fact, width, "  ")]
    lines += [line for letter, text in notes.lines() for line in _wrapped(f"{letter}  {text}", width, "  ")]
    if rows:
        lines += ["", *cells(rows, width)]
    if assumed := texts.assumptions(comparison):
        lines += ["", "  assumed where a number was not reproduced, since the paper does not say it:"]
        lines += [line for key in assumed for line in _wrapped(key, width, "    - ")]
    for (claim, _), own, sentences in zip(comparison.claims, texts.all_claim_texts(comparison), about, strict=True):
        lines += ["", *claim_lines(claim, own, sentences, width)]
    for line in lines:
        print(_colour(line) if coloured else line, file=out)


def cells(rows: Sequence[tuple[str, ...]], width: int) -> Iterator[str]:
    """Lay out the table of reported numbers; `why` stands beside the rest if it fits there, else it wraps below."""
    columns = list(zip(texts.CELL_HEAD[:-1], *(row[:-1] for row in rows), strict=True))
    widths = [max(map(len, column)) for column in columns]
    indent = sum(widths) + 2 * len(widths)
    for row in (texts.CELL_HEAD, *rows):
        start = "  ".join(text.ljust(w) for text, w in zip(row[:-1], widths, strict=True))
        beside = width - indent >= min(NARROWEST, len(row[-1]))
        why = textwrap.wrap(row[-1], width - indent if beside else max(NARROWEST, width - 4)) or [""]
        if beside:
            yield f"{start}  {why[0]}".rstrip()
            yield from (" " * indent + line for line in why[1:])
        else:
            yield start.rstrip()
            yield from ("    " + line for line in why if row is not texts.CELL_HEAD)


def claim_lines(claim: Claim, own: tuple[str, ...], sentences: Iterable[str], width: int) -> Iterator[str]:
    """Lay out one claim: its verdict and numbers, its sentence, and what to know beside."""
    name, word, effect, p, seeds, count, control, _ = own
    role = "" if claim.role == "paper" else f" ({claim.role})"
    yield f"{word}  {name}{role}"
    if seeds != "-":
        yield from _wrapped(f"estimate {effect}, p {p}, seeds {seeds}, cells {count}", width, "    ")
    if claim.control:
        yield from _wrapped(f"control {control}", width, "    ")
    yield from _wrapped(f"{claim.says} ({claim.source})", width, "    ")
    for sentence in sentences:
        yield from _wrapped(sentence, width, "    - ")


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        max(NARROWEST, width),
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_on_hyphens=False,
    )


def _colour(line: str) -> str:
    for verdict in sorted(COLOURS, key=len, reverse=True):
        if verdict in line:
            return line.replace(verdict, f"\033[{COLOURS[verdict]}m{verdict}\033[0m", 1)
    return line
