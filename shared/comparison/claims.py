"""Read `claims.yaml`, what a paper asserts beyond its numbers: a list of claims decidable from records.

Each claim has `id`, `says` (its sentence), `source` (section or figure) and `kind`, and any of

    where        selector common to all sides: spec key -> value, list of values, or {min:, max:}
    cells        spec keys that span the grid; the claim is judged in every combination. A list of values in a
                 selector is the grid expected: cells of it without even a planned run are named absent, planned ones
                 without values missing, and the rest is judged. All selectors that list a cell key list the same
    metric       default accuracy
    selection    default last; `cost` reads wall_s, train_s, peak_memory_mb, ...
    aggregate    every (default) | any | mean over the cells | share: at least the `share` of the cells hold
    reduce       mean | max | min over the records that share cell and seed; without it the verdict says that
                 there are several, never averages in silence
    requires     selector the records must meet for the claim to be judged at all, else NOT COMPARABLE; `tier`
                 counts as a spec key
    deterministic    judge from one record, every value by itself, of every cell (at_least, at_most, within)
    still        the most that a side may still gain or lose in the last quarter of its training, in the unit of the
                 measure that converges; else half of the distance between estimate and bound, at most |margin| or,
                 without one, a point of accuracy (see convergence.py)
    converged    {metric: accuracy}: the measure whose course tells whether a side has converged, where the claim's
                 own has none; or false, with because, where the claim's measure has no course
    because      the reason for a margin, a threshold or a tolerance; required with one
    control      id of the claim that is the control the paper left out
    supports     true of a control that supports its claims where it holds ("with permuted proportions nothing is
                 learned"); else, where it holds, it takes their evidence away ("so does a constant weight")
    premise      id of a claim that this one supposes: where that is contradicted this one is NOT COMPARABLE, where it
                 is undecided so is this one
    role         paper (default) | control | extension (ours, beyond the paper); only the paper's own claims
                 can fail a comparison
    question     what a reader asks that this claim answers; claims that share one stand in for each other, in order
    quantity     what the estimate is, in words ("accuracy of KL less that of ROT, points")
    answers      {holds:, contradicted:} in words, where these are not yes and no; only with a question
    note         anything else a reader should know; of a claim that gpu, or of a control that paper, has no runs for:
                 "not in gpu: ..." with the reason (tests/contract/test_tiers.py asks for it)

A side (`left`, `right`, `of`) is a selector that may also hold `metric`, `selection`, `minus` (a selector:
the side becomes a difference of two, paired by seed), `floor` (see same_shape) and, on both sides of a ratio,
`over: seeds` (the side becomes its standard deviation over seeds). A side that fixes a cell key to one value is
the same in every cell along that key.

Kinds, with what is examined per seed:

    greater      left - right > margin (default 0; a negative margin is a tolerance)
    within       |left - right| <= margin
    at_least     of >= threshold
    at_most      of <= threshold
    ratio        left / right, at_least and/or at_most; on the log scale
    ranking      along, order: every pair of values of the key `along`, best first, differs by above margin
    monotone     along, direction (increasing, decreasing): each step along a numeric key is above margin
    same_shape   along, and either margin: both curves, as (value - floor) / (first value - floor), differ by
                 at most margin at every later point; or at_least: Kendall's tau of the two curves
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.comparison.reported import SELECTIONS, InputError
from shared.config.files import parse_yaml
from shared.tables.bounds import OPEN

VERDICTS = ("HOLDS", "CONTRADICTED", "INCONCLUSIVE", "NOT COMPARABLE", "NOT RUN")  # shared/comparison/judging.py
DECIDED = VERDICTS[:2]

# Per kind: keys it must have, keys it may have.
KINDS = {
    "greater": ({"left", "right"}, {"margin"}),
    "within": ({"left", "right", "margin"}, {"deterministic"}),
    "at_least": ({"threshold"}, {"of", "deterministic"}),
    "at_most": ({"threshold"}, {"of", "deterministic"}),
    "ratio": ({"left", "right"}, {"at_least", "at_most"}),
    "ranking": ({"along", "order"}, {"of", "margin"}),
    "monotone": ({"along", "direction"}, {"of", "margin"}),
    "same_shape": ({"left", "right", "along"}, {"margin", "at_least"}),
}
COMMON = {
    *("id", "says", "source", "kind", "where", "cells", "metric", "selection", "aggregate", "reduce"),
    *("share", "still", "converged", "requires", "because", "control", "supports", "premise", "role", "note"),
    *("question", "quantity", "answers"),
}
CHOICES = {
    "aggregate": ("every", "any", "mean", "share"),
    "reduce": ("mean", "max", "min"),
    "role": ("paper", "control", "extension"),
    "direction": ("increasing", "decreasing"),
    "selection": SELECTIONS,
}
NUMBERS = ("margin", "threshold", "at_least", "at_most", "share", "still")
RESERVED = ("metric", "selection", "minus", "floor", "over")  # keys of a side that select no run
SELECTORS = ("where", "left", "right", "of", "requires")
ELSEWHERE = "metric and selection are the claim's or a side's, the others a side's"


Selector = Mapping[str, Any]  # spec key -> value, list of values, or {min:, max:}; of a side also `RESERVED`


@dataclass(frozen=True)
class Claim:
    """Hold one claim; the module's text defines every field."""

    id: str
    says: str
    source: str
    kind: str
    where: dict = field(default_factory=dict)
    left: dict = field(default_factory=dict)
    right: dict = field(default_factory=dict)
    of: dict = field(default_factory=dict)
    cells: tuple = ()
    along: str = ""
    order: tuple = ()
    direction: str = ""
    margin: float | None = None
    threshold: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    metric: str = "accuracy"
    selection: str = "last"
    aggregate: str = "every"
    share: float | None = None
    reduce: str = ""
    still: float | None = None
    converged: dict | bool | None = None
    requires: dict = field(default_factory=dict)
    deterministic: bool = False
    because: str = ""
    control: str = ""
    supports: bool = False
    premise: str = ""
    role: str = "paper"
    question: str = ""
    quantity: str = ""
    answers: dict = field(default_factory=dict)
    note: str = ""

    @property
    def sides(self) -> tuple[Selector, ...]:
        """Return the sides this kind of claim compares: two selectors, or one."""
        return (self.left, self.right) if "left" in KINDS[self.kind][0] else (self.of,)

    @property
    def region(self) -> tuple[float, float, bool]:
        """Return `(low, high, closed)`: where the examined quantity must lie for the claim to hold."""
        if self.kind in OPEN:
            return self.margin or 0.0, math.inf, False
        if self.kind == "at_least":
            return _number(self.threshold), math.inf, True
        if self.kind == "at_most":
            return -math.inf, _number(self.threshold), True
        if self.kind == "ratio":
            low = -math.inf if self.at_least is None else math.log(self.at_least)
            return low, math.inf if self.at_most is None else math.log(self.at_most), True
        if self.kind == "same_shape" and self.at_least is not None:
            return self.at_least, math.inf, True
        return -_number(self.margin), _number(self.margin), True


def read_claims(path: str | Path) -> list[Claim]:
    """Read and validate a `claims.yaml`.

    Returns
    -------
    list of Claim

    Raises
    ------
    InputError
        Naming the file, the claim, the key and what to write instead.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file; write [] in it if the paper claims nothing")
    entries = parse_yaml(path, InputError)
    if not isinstance(entries, list):
        raise InputError(f"{path}: must be a list of claims, each starting with '- id:'")
    claims = [_claim(entry, f"{path}, claim {i}") for i, entry in enumerate(entries, 1)]
    ids = [claim.id for claim in claims]
    for claim in claims:
        if ids.count(claim.id) > 1:
            raise InputError(f"{path}: the id {claim.id} is used twice; give each claim its own")
        for key in ("control", "premise"):
            if getattr(claim, key) and getattr(claim, key) not in ids:
                raise InputError(f"{path}, claim {claim.id}: {key} {getattr(claim, key)} is no claim of this file")
    return claims


def _claim(entry: Any, where: str) -> Claim:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: must be a mapping that starts with 'id:'")
    where = f"{where} ({entry['id']})" if entry.get("id") else where

    def check(ok: object, key: str, instead: str) -> None:
        if not ok:
            raise InputError(f"{where}, key {key}: {entry.get(key)!r} {instead}")

    for key in ("id", "says", "source", "kind"):
        check(isinstance(entry.get(key), str) and entry[key], key, "must be a sentence or a name")
    check(entry["kind"] in KINDS, "kind", f"is not one of {', '.join(KINDS)}")
    must, may = KINDS[entry["kind"]]
    for key in sorted(must - entry.keys()):
        check(False, key, f"must be given for a claim of kind {entry['kind']}")
    for key in entry.keys() - COMMON - must - may:
        known = ", ".join(sorted(COMMON | must | may))
        check(False, key, f"means nothing for a claim of kind {entry['kind']}; it takes {known}")
    for key, allowed in CHOICES.items():
        check(key not in entry or entry[key] in allowed, key, f"is not one of {', '.join(allowed)}")
    for key in NUMBERS:
        check(key not in entry or _is_number(entry[key]), key, "is not a number")
    for key in SELECTORS:
        check(_is_selector(entry.get(key, {})), key, "is not a selector: values, lists, or {min:, max:}")
    for key in ("cells", "order"):
        check(isinstance(entry.get(key, []), list), key, "must be a list")
    for key in ("deterministic", "supports"):
        check(isinstance(entry.get(key, False), bool), key, "must be true or false")
    if any(entry.get(key) for key in NUMBERS) or entry.get("converged") is False:
        check(entry.get("because"), "because", "must give the reason for the margin, threshold or tolerance")
    check(entry.get("still", 1) > 0, "still", "must be above zero")
    course = entry.get("converged", False)
    named = isinstance(course, Mapping) and course.keys() == {"metric"} and isinstance(course["metric"], str)
    check(course is False or named, "converged", "must be false, or {metric:} with the name of a measure")
    answers = entry.get("answers", {})
    texts = isinstance(answers, Mapping) and all(isinstance(text, str) and text for text in answers.values())
    check(texts and answers.keys() <= {"holds", "contradicted"}, "answers", "must be {holds:, contradicted:}, in words")
    check(bool(entry.get("question")) or not answers, "answers", "goes with a question")
    for key in ("question", "quantity"):
        check(isinstance(entry.get(key, ""), str), key, "must be a sentence")
    check(("share" in entry) == (entry.get("aggregate") == "share"), "share", "goes with aggregate: share")
    check(0 < entry.get("share", 1) <= 1, "share", "must be a share of the cells, above 0 and at most 1")
    if entry["kind"] == "ratio":
        bounds = [entry[key] for key in ("at_least", "at_most") if key in entry]
        check(bounds and min(bounds) > 0, "at_most", "at_least, at_most or both must be given, above zero")
    spreads = [side.get("over") for side in (entry.get("left", {}), entry.get("right", {}), entry.get("of", {}))]
    if any(spreads):
        alike = entry["kind"] == "ratio" and spreads == ["seeds", "seeds", None]
        check(alike, "left", "may hold over: seeds only in a ratio, and only with the other side")
    _check_sides(entry, check)
    alone = not entry.get("deterministic") or entry.get("aggregate", "every") == "every"
    check(alone, "aggregate", "does not go with deterministic, which judges every value by itself; leave one out")
    if entry["kind"] == "same_shape":
        check(("margin" in entry) != ("at_least" in entry), "margin", "give either margin or at_least")
    if entry["kind"] in ("within", "same_shape"):
        check(entry.get("margin", 1) > 0, "margin", "must be above zero")
    if entry["kind"] == "ranking":
        check(len(entry["order"]) > 1, "order", "must list two values or more, best first")
    lists = {key: tuple(entry[key]) for key in ("cells", "order") if key in entry}
    return Claim(**{**entry, **lists})


def _check_sides(entry: Mapping, check: Callable[[object, str, str], None]) -> None:
    """Refuse what a selector says and nobody would read."""
    for key in ("where", "requires"):
        for name in RESERVED:
            check(name not in entry.get(key, {}), key, f"selects runs, so that {name} means nothing in it; {ELSEWHERE}")
    sides = {key: entry[key] for key in ("left", "right", "of") if key in entry}
    for key, side in sides.items():
        for name in ("minus", "floor", "over"):
            check(name not in side.get("minus", {}), key, f"subtracts, and {name} means nothing of what is subtracted")
        scaled = entry["kind"] == "same_shape" and "at_least" not in entry
        check("floor" not in side or scaled, key, "may hold floor only in a same_shape with a margin")
    parts = {"where": entry.get("where", {}), **sides}
    parts |= {f"{key}, minus": side["minus"] for key, side in sides.items() if "minus" in side}
    for cell in (*entry.get("cells", []), entry.get("along")):
        lists = {key: part[cell] for key, part in parts.items() if isinstance(part.get(cell), list | Mapping)}
        for key in list(lists)[1:]:
            first = next(iter(lists))
            check(
                _alike(lists[key], lists[first]),
                key.split(",")[0],
                f"has other values of the cell key {cell} than {first}, and a cell has one for both; list them in one "
                "place and give the other a single value, pair by another key, or write several claims",
            )


def _alike(some: Any, others: Any) -> bool:
    """Whether two selectors of several values name the same, in whatever order."""
    if isinstance(some, list) and isinstance(others, list):
        return all(one in others for one in some) and all(one in some for one in others)
    return some == others


def concerns(claim: Claim, about: Selector) -> bool:
    """Return whether a claim selects a run; `about` holds its spec's values, its method and its tier."""
    subtracted = [{**side, **side["minus"]} for side in claim.sides if "minus" in side]
    return selects(claim.requires, about) and any(
        selects({**claim.where, **side}, about) for side in (*claim.sides, *subtracted)
    )


def selects(selector: Selector, about: Selector) -> bool:
    """Return whether a run meets a selector; a key that the run has not is met by None alone."""
    return all(_meets(about.get(key), want) for key, want in selector.items() if key not in RESERVED)


def _meets(value: Any, want: Any) -> bool:
    if isinstance(want, Mapping):
        return _is_number(value) and want.get("min", -math.inf) <= value <= want.get("max", math.inf)
    return value in want if isinstance(want, list) else value == want


def _number(bound: float | None) -> float:
    """A bound that claims of this kind have: `KINDS` asks for it."""
    assert bound is not None
    return bound


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _is_selector(selector: Any) -> bool:
    if not isinstance(selector, Mapping):
        return False
    for key, value in selector.items():
        if key == "minus":
            if not _is_selector(value):
                return False
        elif isinstance(value, Mapping) and not (value.keys() <= {"min", "max"} and value):
            return False
    return True
