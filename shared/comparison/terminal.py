"""Print a comparison in the terminal: aligned, as wide as the window, coloured only where a person is looking."""

import os
import shutil
import sys
import textwrap

from shared.comparison import writing

COLOURS = {
    **dict.fromkeys(("REPRODUCED", "HOLDS"), "32"),
    **dict.fromkeys(("NOT REPRODUCED", "CONTRADICTED", "FAILED"), "31"),
    **dict.fromkeys(("SMALL DIFFERENCE", "INCONCLUSIVE"), "33"),
    **dict.fromkeys(("NOT COMPARABLE", "NOT RUN"), "2"),
}
HEAD = ("table", "row", "column", "metric", "reported", "ours", "difference [95 %]", "verdict", "why")
NARROWEST = 24


def show(comparison, out=sys.stdout, width=None):
    """Print one comparison to `out`."""
    width = width or shutil.get_terminal_size((100, 24)).columns
    coloured = out.isatty() and "NO_COLOR" not in os.environ
    lines = [f"{comparison.paper}, tier {comparison.tier}"]
    lines += [line for fact in comparison.facts for line in _wrapped(fact, width, "  ")]
    if comparison.cells:
        lines += ["", *cells(writing.all_cell_texts(comparison), width)]
    if assumed := writing.assumptions(comparison):
        lines += ["", "  assumed where a number was not reproduced, since the paper does not say it:"]
        lines += [line for key in assumed for line in _wrapped(key, width, "    - ")]
    for claim, verdict in comparison.claims:
        lines += ["", *claim_lines(claim, verdict, comparison, width)]
    for line in lines:
        print(_colour(line) if coloured else line, file=out)


def cells(rows, width):
    """Lay out the table of reported numbers; `why` wraps beside the rest, or below it in a narrow window."""
    columns = list(zip(HEAD[:-1], *(row[:-1] for row in rows), strict=True))
    widths = [max(map(len, column)) for column in columns]
    indent = sum(widths) + 2 * len(widths)
    beside = width - indent >= NARROWEST
    for row in (HEAD, *rows):
        start = "  ".join(text.ljust(w) for text, w in zip(row[:-1], widths, strict=True))
        why = textwrap.wrap(row[-1], width - indent if beside else max(NARROWEST, width - 4)) or [""]
        if beside:
            yield f"{start}  {why[0]}".rstrip()
            yield from (" " * indent + line for line in why[1:])
        else:
            yield start.rstrip()
            yield from ("    " + line for line in why if row is not HEAD)


def claim_lines(claim, verdict, comparison, width):
    """Lay out one claim: its verdict and numbers, its sentence, the reason, and what to know beside."""
    name, said, effect, better, seeds, count = writing.claim_texts(claim, verdict)
    role = "" if claim.role == "paper" else f" ({claim.role})"
    yield f"{said:<14}  {name}{role}"
    if verdict.cells:
        yield f"    estimate {effect}, improvement {better}, seeds {seeds}, cells {count}"
    yield from _wrapped(f"{claim.says} ({claim.source})", width, "    ")
    yield from _wrapped(verdict.why, width, "    ")
    for note in writing.notes(claim, verdict, comparison):
        yield from _wrapped(note, width, "    - ")


def _wrapped(text, width, indent):
    return textwrap.wrap(
        text,
        max(NARROWEST, width),
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_on_hyphens=False,
    )


def _colour(line):
    for verdict in sorted(COLOURS, key=len, reverse=True):
        if verdict in line:
            return line.replace(verdict, f"\033[{COLOURS[verdict]}m{verdict}\033[0m", 1)
    return line
