"""Put verdicts into sentences that are the same in every place they stand in."""

from __future__ import annotations

import math

from shared.comparison.claims import DECIDED
from shared.comparison.texts import estimate
from shared.report.found import Judged
from shared.tables.bounds import bounds_in_words

ANSWERS = {
    "HOLDS": "Yes",
    "CONTRADICTED": "No",
    "INCONCLUSIVE": "Undecided",
    "NOT COMPARABLE": "Not judged",
    "NOT RUN": "Not run",
}
QUANTITY = {
    **dict.fromkeys(("greater", "within"), "difference in"),
    **dict.fromkeys(("ranking", "monotone"), "step in"),
    "ratio": "ratio of",
}


def answer(one: Judged) -> str:
    """Return the answer to a claim's question: yes, no or in its own words, and where that was found."""
    own = one.claim.answers.get(one.verdict.lower(), ANSWERS[one.verdict])
    return f"{own}, {one.row['setting']}" if one.row["setting"] and one.verdict in DECIDED else own


def in_numbers(one: Judged) -> str:
    """Return the estimate with its interval, where it was claimed to lie, and on how much it rests."""
    if math.isnan(one.number("estimate")):
        return "-"
    parts = [f"{examined(one)}: {_averaged(one)}", f"claimed {bounds(one)}"]
    if _several(one):
        least = f", least in {one.row['weakest']}" if one.row["weakest"] and one.verdict != "HOLDS" else ""
        parts.append(f"shown in {one.row['cells_hold']} of {one.row['cells']} comparisons{least}")
    compared, named = one.coverage
    if compared < named:
        parts.append(f"judged in {compared} of the claim's {named} comparisons")
    n, unit = one.row["clusters"], "seed" if one.row["clusters"] == one.row["seeds"] else "cluster"
    return "; ".join([*parts, f"{n} {unit}{'s' * (n != '1')}"])


def in_short(one: Judged) -> str:
    """Return a verdict with what it is on and its estimate, for a line that has no other room for them."""
    if math.isnan(one.number("estimate")):
        return one.row["verdict"]
    compared, named = one.coverage
    part = f", in {compared} of {named} comparisons" * (compared < named)
    return f"{one.row['verdict']}, {_averaged(one)}{part}"


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
    return numbers + " on average" * _several(one)


def _several(one: Judged) -> bool:
    return one.row["cells"] not in ("", "0", "1") and one.claim.aggregate != "mean"
