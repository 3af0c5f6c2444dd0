"""Put verdicts into sentences that are the same in every place they stand in."""

from __future__ import annotations

import math
import re

from shared.comparison.claims import DECIDED
from shared.comparison.texts import estimate
from shared.datasets import is_simulated
from shared.report.found import Judged
from shared.tables.bounds import bounds_in_words

ANSWERS = {
    "HOLDS": "Yes",
    "CONTRADICTED": "No",
    "INCONCLUSIVE": "Undecided",
    "NOT COMPARABLE": "Not judged",
    "NOT RUN": "Not run",
}
PICTURE = (
    "Claims in short: each has a scale of its own, where the line is its bound and right of it is what was claimed; "
    "hollow is not comparable with the paper, grey a control, the tick the comparison that keeps a claim from holding."
)
QUANTITY = {
    **dict.fromkeys(("greater", "within"), "difference in"),
    **dict.fromkeys(("ranking", "monotone"), "step in"),
    "ratio": "ratio of",
}


def answer(one: Judged) -> str:
    """Return the answer to a claim's question: yes, no or in its own words, and where that was found."""
    own = one.claim.answers.get(one.verdict.lower(), ANSWERS[one.verdict])
    if one.verdict == "INCONCLUSIVE":
        return ": ".join(filter(None, [own, undecided(one)]))
    return f"{own}, {one.row['setting']}" if one.row["setting"] and one.verdict in DECIDED else own


def undecided(one: Judged) -> str:
    """Return in few words what keeps a claim from being decided; nothing where it is another reason than these."""
    why = one.row["why"]
    if why.startswith("not converged"):
        return "runs still move"
    if "no number of seeds" in why:
        return "too close to tell"
    return "more seeds are needed" if re.search(r"about \d+ more", why) else ""


def in_numbers(one: Judged) -> str:
    """Return the estimate with its interval, where it was claimed to lie, and on how much it rests."""
    if math.isnan(one.number("estimate")):
        return "-"
    parts = [f"{examined(one)}: {_averaged(one)}", f"claimed {bounds(one)}"]
    if _several(one):
        least = f", farthest from it in {one.row['weakest']}" if one.row["weakest"] and one.verdict != "HOLDS" else ""
        parts.append(f"shown in {one.row['cells_hold']} of {one.row['cells']} comparisons{least}")
    compared, named = one.coverage
    if compared < named:
        parts.append(f"judged in {compared} of the claim's {named} comparisons{elsewhere(one)}")
    n, unit = one.row["clusters"], "seed" if one.row["clusters"] == one.row["seeds"] else "cluster"
    return "; ".join([*parts, f"{n} {unit}{'s' * (n != '1')}"])


def in_short(one: Judged) -> str:
    """Return a verdict with what it is on and its estimate, for a line that has no other room for them."""
    if math.isnan(one.number("estimate")):
        return one.row["verdict"]
    compared, named = one.coverage
    part = f", in {compared} of {named} comparisons" * (compared < named)
    return f"{one.row['verdict']}, {_averaged(one)}{part}"


def elsewhere(one: Judged) -> str:
    """Return on which sets the comparisons are that were not made, where these are few and have names."""
    names = dict.fromkeys(re.findall(r"dataset=([\w-]+)", f"{one.row['missing']}; {one.row.get('absent', '')}"))
    said = [f"{name}{', a simulation' * is_simulated(name)}" for name in names]
    return f" (not those on {' and '.join(said)})" if 0 < len(said) < 3 else ""


def examined(one: Judged) -> str:
    """Return what the estimate is of: a measure, or a difference, a step or a ratio of it."""
    claim = one.claim
    if claim.quantity:
        return claim.quantity
    if claim.kind == "same_shape":
        return "gap of the scaled curves" if claim.at_least is None else "Kendall's tau"
    measure = next((side["metric"] for side in claim.sides if "metric" in side), claim.metric)
    return f"{QUANTITY.get(claim.kind, '')} {measure}".strip()


def bounds(one: Judged) -> str:
    """Return where the estimate must lie for the claim to hold."""
    return bounds_in_words(one.claim.kind, *one.bounds)


def control(one: Judged, found: list[Judged]) -> str:
    """Return the control's sentence and its verdict; of a control, and where there is none, that it is so."""
    if one.claim.role == "control":
        return "it is the control"
    beside = [other for other in found if other.claim.id == one.claim.control and other.tier == one.tier]
    return f"{beside[0].claim.says} {beside[0].row['verdict']}" if beside else "none"


def contradiction(one: Judged, found: list[Judged]) -> str:
    """Return a contradicted claim in one sentence, with its control in another."""
    said = one.claim.says.rstrip(".")
    text = f"\u201c{said}\u201d is {one.row['verdict']} ({one.claim.source}): {in_numbers(one)}."
    beside = control(one, found)
    return text + ("" if beside == "none" else f" Control: {beside}.")


def _averaged(one: Judged) -> str:
    """Return the estimate with its interval; where several comparisons have to hold it says that it is their mean."""
    numbers = estimate(one.number("estimate"), one.number("low90"), one.number("high90"), ".3g")
    if one.claim.aggregate == "mean" and one.row["cells"] == "1" and one.coverage[0] > 1:
        return f"{numbers}, the mean of {one.coverage[0]} comparisons"
    return numbers + " on average" * _several(one)


def _several(one: Judged) -> bool:
    return one.row["cells"] not in ("", "0", "1") and one.claim.aggregate != "mean"
