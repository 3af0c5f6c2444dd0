"""Put a comparison into words, the same for a page and for a terminal: counts first, shared reasons as footnotes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from shared.comparison.reported import UNJUDGED, VERDICTS, Reported, as_reported

if TYPE_CHECKING:
    from shared.comparison.claims import Claim
    from shared.comparison.judging import ClaimVerdict
    from shared.comparison.report import Behind, Comparison
    from shared.comparison.verdicts import Verdict

CELL_HEAD = ("table", "row", "column", "metric", "reported", "ours", "difference [95 %]", "verdict", "why")
CLAIM_HEAD = ("claim", "verdict", "estimate [90 %]", "p", "seeds / clusters", "cells", "control", "role")
ROLES = {"paper": "the paper's", "control": "controls", "extension": "extensions"}
LISTED = 6  # missing cells that are named before the rest are counted


class Footnotes:
    """Letters for sentences: why numbers were not judged, what is said of several, in what setting claims were."""

    def __init__(self, comparison: Comparison) -> None:
        self.texts: dict[str, int] = {}
        both = zip(comparison.cells, comparison.behind, strict=True)
        parts = [part for (_, v), behind in both for part in _parts(v, behind)]
        self._often = {part for part, n in Counter(parts).items() if n > 1 and part}
        for behind in comparison.behind:
            self.marks(behind.reasons)
        for _, verdict in comparison.claims:
            self.marks(verdict.caveats)

    def marks(self, sentences: Iterable[str]) -> str:
        """Return the letters of sentences, "a, b"; new ones get the next."""
        places = sorted(self.texts.setdefault(sentence, len(self.texts)) for sentence in sentences)
        return ", ".join(map(_letters, places))

    def short(self, sentences: Iterable[str]) -> str:
        """Return sentences as one text, with letters for those that are said of several numbers."""
        alone = [sentence for sentence in sentences if sentence not in self._often]
        return "; ".join(filter(None, [*alone, self.marks([s for s in sentences if s in self._often])]))

    def lines(self) -> list[tuple[str, str]]:
        """Return (letter, sentence) of all that were asked for."""
        return [(_letters(place), sentence) for sentence, place in self.texts.items()]


def _letters(place: int) -> str:
    """a to z, then aa, ab and so on."""
    first, last = divmod(place, len(ascii_lowercase))
    return (_letters(first - 1) if first else "") + ascii_lowercase[last]


def _parts(verdict: Verdict, behind: Behind) -> list[str]:
    """The sentences on a number that was judged: why, and what its runs assume."""
    return [*verdict.why.split("; "), *[f"assumed: {', '.join(behind.assumed)}"] * bool(behind.assumed)]


def cell_counts(comparison: Comparison, notes: Footnotes) -> Iterator[tuple[str, int, str]]:
    """Return rows (verdict, how many, why) on all reported numbers: the judged, the not comparable, the not run."""
    counts = Counter(v.verdict for _, v in comparison.cells)
    judged = {name: counts[name] for name in VERDICTS if name not in UNJUDGED and counts[name]}
    yield "judged", sum(judged.values()), "; ".join(f"{name} {n}" for name, n in judged.items())
    for name in UNJUDGED:
        both = zip(comparison.cells, comparison.behind, strict=True)
        groups = Counter(notes.marks(behind.reasons) for (_, v), behind in both if v.verdict == name)
        if len(groups) == 1:
            yield name, counts[name], next(iter(groups))
        elif groups:
            yield name, counts[name], "; ".join(f"{marks} ({n})" for marks, n in groups.most_common())


def claim_counts(comparison: Comparison) -> Iterator[tuple[Any, ...]]:
    """Return rows (verdict, how many of the paper's, of controls, of extensions) on all claims, decided ones first."""
    counts = Counter((said(claim, v, comparison), claim.role) for claim, v in comparison.claims)
    order = {said(claim, v, comparison): _rank(v) for claim, v in comparison.claims}
    for word in sorted(order, key=lambda word: (order[word], word)):
        yield word, *(counts[word, role] for role in ROLES)


def _rank(verdict: ClaimVerdict) -> int:
    order = ("HOLDS", "CONTRADICTED", "INCONCLUSIVE", *UNJUDGED)
    return order.index(verdict.verdict)


def said(claim: Claim, verdict: ClaimVerdict, comparison: Comparison) -> str:
    """Return a claim's verdict in words: where it was made, and whether its control undoes it."""
    return ", ".join(filter(None, [verdict.word, reservation(claim, verdict, comparison)]))


def reservation(claim: Claim, verdict: ClaimVerdict, comparison: Comparison) -> str:
    """Return what its control has against a claim that holds, in words: that it holds too, or that it does not."""
    if verdict.verdict != "HOLDS" or not claim.control:
        return ""
    control = comparison.controls[claim.id].verdict
    if next(other.supports for other, _ in comparison.claims if other.id == claim.control):
        return "but its control does not" if control == "CONTRADICTED" else ""
    return "and so does its control" if control == "HOLDS" else ""


def all_cell_texts(comparison: Comparison, notes: Footnotes) -> list[tuple[str, ...]]:
    """Return the nine texts of each reported number; beside one not reproduced stands what its runs assume."""
    return [
        cell_texts(cell, v, behind, notes)
        for (cell, v), behind in zip(comparison.cells, comparison.behind, strict=True)
    ]


def cell_texts(cell: Reported, verdict: Verdict, behind: Behind, notes: Footnotes) -> tuple[str, ...]:
    """Return the texts of one reported number under `CELL_HEAD`."""
    spread = "" if cell.spread is None else f"{cell.spread:g}"
    theirs = as_reported(f"{cell.value:g}", spread, cell.spread_kind, cell.n)
    sd = "" if math.isnan(verdict.sd) else f" ± {verdict.sd:.2f}"
    seeds = f" ({verdict.seeds} seeds)" if verdict.seeds != verdict.n else ""
    ours = f"{verdict.mean:.2f}{sd}, n={verdict.n}{seeds}" if verdict.n else "-"
    why = notes.marks(behind.reasons) if behind.reasons else notes.short(_parts(verdict, behind))
    return (
        *(cell.table, cell.row, cell.column, cell.metric, theirs, ours),
        estimate(verdict.difference, verdict.low, verdict.high, "+.2f"),
        verdict.verdict,
        why,
    )


def assumptions(comparison: Comparison) -> list[str]:
    """Return a line for each key that runs behind a number that was not reproduced assume: the key and the reason."""
    found: dict[str, dict[str, None]] = {}
    for behind in comparison.behind:
        for key, reason in behind.assumed.items():
            found.setdefault(key, {})[reason] = None
    return [f"`{key}`: {'; or '.join(reasons)}" for key, reasons in found.items()]


def all_claim_texts(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the texts of each claim under `CLAIM_HEAD`."""
    return [
        claim_texts(claim, v, kept, comparison)
        for (claim, v), kept in zip(comparison.claims, comparison.kept, strict=True)
    ]


def claim_texts(claim: Claim, verdict: ClaimVerdict, kept: bool | None, comparison: Comparison) -> tuple[str, ...]:
    """Return the texts of one claim under `CLAIM_HEAD`."""
    p = "-" if math.isnan(verdict.p) else f"{verdict.p:.2g}{'*' * bool(kept)}"
    n, units = span(verdict.seeds), span(verdict.clusters)
    more = [f"{n} {what}" for n, what in ((len(verdict.missing), "missing"), (verdict.unplanned, "unplanned")) if n]
    cells = ", ".join([f"{verdict.hold}/{verdict.cells}"] * bool(verdict.cells) + more) or "-"
    control = f"{claim.control}: {comparison.controls[claim.id].word}" if claim.control else "-"
    effect = estimate(verdict.estimate, verdict.low, verdict.high, ".3g")
    seeds = n if n == units else f"{n} / {units}"
    return claim.id, said(claim, verdict, comparison), effect, p, seeds, cells, control, claim.role


def legend(comparison: Comparison) -> str:
    """Return what a reader must know of the columns of the table of claims."""
    tested = sum(kept is not None for kept in comparison.kept)
    return (
        "p is of the verdict's direction, corrected for the number of cells, and never below .5^n, what n seeds "
        "(clusters, where seeds share something) can say without assuming a distribution; a verdict that assumes one "
        f"says so. * marks what Benjamini-Hochberg keeps at 5 % over the {tested} claims tested here. Cells: how "
        "many of those judged hold; missing are those that this tier plans and lacks, unplanned those that the tier "
        "paper alone plans. docs/verdicts.md explains every verdict."
    )


def about_claim(claim: Claim, verdict: ClaimVerdict, notes: Footnotes) -> Iterator[str]:
    """Return what the table does not say of a claim, as sentences: why, its margin, what is missing, its setting."""
    yield f"Why: {verdict.why}"
    if claim.because:
        yield f"Margin: {claim.because}"
    if verdict.missing:
        more = f"; and {len(verdict.missing) - LISTED} more" if len(verdict.missing) > LISTED else ""
        yield f"Missing: {'; '.join(verdict.missing[:LISTED])}{more}"
    if verdict.caveats:
        yield f"Setting: {notes.marks(verdict.caveats)}"
    if claim.note:
        yield claim.note


def estimate(centre: float, low: float, high: float, form: str) -> str:
    """Write a number with its interval, as far as either exists, rounded from what a csv has of them."""
    if math.isnan(centre):
        return "-"
    centre, low, high = (float(f"{value:.6g}") for value in (centre, low, high))
    return f"{centre:{form}}" + ("" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]")


def span(n: tuple[int, int]) -> str:
    """Write fewest and most as one text."""
    low, high = n
    return f"{low}-{high}" if low != high else str(low) if low else "-"
