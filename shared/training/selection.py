"""Choose among candidate settings by their score on held-out bags in short runs: a stage that runs share."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from shared.training import checkpoint

EXTENSIONS = 3  # candidates more, at most, on the side where the best of a grid is its end


def choose(
    name: str,
    part: dict[str, Any],
    candidates: Sequence[dict[str, Any]],
    score: Callable[[dict[str, Any], dict], float | None],
    session: dict,
    extend: str | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """Return (the candidate of least score, every candidate with its score), or None if the deadline came first.

    Each score is kept as soon as it is known, beside the checkpoints, under a name that says what it depends on, code
    included. Runs that agree in `part` read it instead of training again, also where they ask for fewer candidates; a
    run that was stopped goes on with the candidate it was at, from where that one was. Two runs at once may both train
    a candidate: they find the same score.

    Parameters
    ----------
    name : of the folder of such scores, beside the checkpoints.
    part : everything but the candidate that a score depends on, as `Spec.canonical` of the stage has it.
    candidates : {key: value} each, in the order in which ties are broken: the first wins.
    score : trains a candidate briefly, in the session given (see `shared.training.fit`; its checkpoint and key are the
        candidate's own), and returns its loss on held-out bags, or None if the deadline came. A candidate that diverges
        (FloatingPointError, or a loss that is no finite number) scores infinity.
    session : of the run.
    extend : a key whose values are positive numbers. Where the best candidate is an end of the values that it was tried
        at, the next one beyond, in the ratio of the last two, is tried as well, until the best is inside, or
        `EXTENSIONS` times. One that diverges ends it: the best is inside then.

    Returns
    -------
    best : a copy of the candidate.
    rows : ``{**candidate, "score": score}``, in the order of `candidates`; then those that extend them, as tried.

    Raises
    ------
    ValueError
        Where there are no candidates.
    FloatingPointError
        Where every candidate diverged.
    """
    if not candidates:
        raise ValueError(f"{name}: there are no candidates to choose among")
    kept = checkpoint.common(name, part, session)
    scores: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    steps = len(candidates) + (EXTENSIONS if extend else 0)
    for place in range(steps):
        candidate = candidates[place] if place < len(candidates) else None
        if candidate is None and extend:
            candidate = _beyond(rows, extend)
        if candidate is None:
            break
        scores |= _known(kept)
        which = json.dumps(candidate, sort_keys=True)
        if which not in scores:
            own = within(session, place / steps, (place + 1) / steps)
            if kept:
                digest = hashlib.sha256(which.encode()).hexdigest()[:8]
                own |= {"checkpoint": kept.with_suffix(f".{digest}.part.pt"), "key": f"{kept.stem}-{digest}"}
            try:
                found = score(dict(candidate), own)
            except FloatingPointError:
                found = math.inf
            if found is None:
                return None
            scores[which] = float(found) if math.isfinite(found) else math.inf
            if kept:
                scores = _known(kept) | scores
                checkpoint.keep(kept, {"key": kept.stem, "scores": scores})
                own["checkpoint"].unlink(missing_ok=True)
        rows.append({**candidate, "score": scores[which]})
    best = _best(rows)
    if best["score"] == math.inf:
        raise FloatingPointError(f"{name}: all {len(rows)} candidates diverged, {_worded(candidates)}")
    return {key: value for key, value in best.items() if key != "score"}, rows


def end_of(rows: Sequence[dict[str, Any]], key: str) -> int:
    """Return -1 or 1 where the best of `rows` (of `choose`) has the least or the greatest value tried of `key`, else 0.

    Tried are the values of `key` in the rows that agree with the best in everything else, those that diverged included;
    of one value alone it is 0.
    """
    best, values = _best(rows), _values(rows, key)
    return 0 if len(values) < 2 else (best[key] == values[-1]) - (best[key] == values[0])


def tried(rows: Sequence[dict[str, Any]]) -> dict[str, list]:
    """Return `rows` (of `choose`) as a record keeps them: {"tried_<key>", "tried_score": a value a candidate}.

    The score of a candidate that diverged is None.
    """
    found = {f"tried_{key}": [row[key] for row in rows] for key in rows[0]}
    return found | {"tried_score": [x if math.isfinite(x) else None for x in found["tried_score"]]}


def within(session: dict, start: float, end: float) -> dict:
    """Return the session of a stage that goes from `start` to `end` of a run, in [0, 1], as its reports say."""
    if "report" not in session:
        return dict(session)

    def report(fraction: float, numbers: dict) -> None:
        session["report"](start + (end - start) * fraction, numbers)

    return {**session, "report": report}


def _best(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return min(rows, key=lambda row: row["score"])


def _values(rows: Sequence[dict[str, Any]], key: str) -> list[float]:
    """The values of `key` in rows that agree with the best in everything else, from the least on."""

    def others(row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name not in (key, "score")}

    return sorted({row[key] for row in rows if others(row) == others(_best(rows))})


def _beyond(rows: Sequence[dict[str, Any]], key: str) -> dict[str, Any] | None:
    """The candidate beyond the end that is best; None where the best is inside, or all diverged."""
    best, end = _best(rows), end_of(rows, key)
    if not end or best["score"] == math.inf:
        return None
    last, neighbour = _values(rows, key)[:: -1 if end > 0 else 1][:2]
    beyond = float(f"{last * last / neighbour:.6g}")  # as a person would write it
    return {name: value for name, value in best.items() if name != "score"} | {key: beyond}


def _known(kept) -> dict[str, float]:
    return dict((checkpoint.resume(kept, kept.stem) or {}).get("scores", {})) if kept else {}


def _worded(candidates: Sequence[dict[str, Any]]) -> str:
    first, last = (", ".join(f"{k} {v}" for k, v in candidates[place].items()) for place in (0, -1))
    return f"from {first} to {last}" if len(candidates) > 1 else first
