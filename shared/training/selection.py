"""Choose among candidate settings by their score on held-out bags in short runs: a stage that runs share."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from shared.training import checkpoint


def choose(
    name: str,
    part: dict[str, Any],
    candidates: Sequence[dict[str, Any]],
    score: Callable[[dict[str, Any], dict], float | None],
    session: dict,
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

    Returns
    -------
    best : a copy of the candidate.
    rows : ``{**candidate, "score": score}``, in the order of `candidates`.

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
    for place, candidate in enumerate(candidates):
        scores |= _known(kept)
        which = json.dumps(candidate, sort_keys=True)
        if which in scores:
            continue
        own = within(session, place / len(candidates), (place + 1) / len(candidates))
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
    rows = [{**candidate, "score": scores[json.dumps(candidate, sort_keys=True)]} for candidate in candidates]
    best = min(range(len(rows)), key=lambda place: rows[place]["score"])
    if rows[best]["score"] == math.inf:
        raise FloatingPointError(f"{name}: all {len(rows)} candidates diverged, {_worded(candidates)}")
    return dict(candidates[best]), rows


def within(session: dict, start: float, end: float) -> dict:
    """Return the session of a stage that goes from `start` to `end` of a run, in [0, 1], as its reports say."""
    if "report" not in session:
        return dict(session)

    def report(fraction: float, numbers: dict) -> None:
        session["report"](start + (end - start) * fraction, numbers)

    return {**session, "report": report}


def _known(kept) -> dict[str, float]:
    return dict((checkpoint.resume(kept, kept.stem) or {}).get("scores", {})) if kept else {}


def _worded(candidates: Sequence[dict[str, Any]]) -> str:
    first, last = (", ".join(f"{k} {v}" for k, v in candidates[place].items()) for place in (0, -1))
    return f"from {first} to {last}" if len(candidates) > 1 else first
