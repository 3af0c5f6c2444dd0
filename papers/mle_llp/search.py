"""Search the learning rate on a grid (Section 3), judged by bags that were held out: a stage that runs share."""

from __future__ import annotations

import math

from papers.mle_llp.data import Data, bags_of
from papers.mle_llp.method import lessons, method_of
from shared.config import Spec
from shared.training import Schedule, bag_loss, choose, fit


def rate_of(spec: Spec, data: Data, session: dict) -> tuple[float, dict] | None:
    """Return (learning rate of a run, what a record keeps of its choice), or None if the deadline came first.

    Each rate trains `search_epochs` on training bags of a split of its own (`search_seed`), which no repetition has;
    the least proportion loss on bags held out from these wins. No label and no test bag of that split is read. All
    seeds of a method, a dataset and a number of bags share the choice. Where the spec asks for no search, the rate is
    its `learning_rate`.
    """
    if not spec.choose_rate:
        return spec.learning_rate, {}
    stage = spec.stage("search")

    def score(candidate: dict, session: dict) -> float | None:
        return held_out_loss(stage, data, candidate["learning_rate"], session)

    candidates = [{"learning_rate": rate} for rate in spec.rates]
    found = choose("rates", stage.canonical(), candidates, score, session)
    if found is None:
        return None
    best, rows = found
    losses = [row["score"] if math.isfinite(row["score"]) else None for row in rows]
    curves = {"searched_rate": [row["learning_rate"] for row in rows], "searched_loss": losses}
    return best["learning_rate"], {"metrics": best, "curves": curves}


def held_out_loss(stage: Spec, data: Data, learning_rate: float, session: dict) -> float | None:
    """Return the proportion loss (`kl_loss`, in nats) on held-out bags after a short training at a rate."""
    train, held_out, _ = bags_of(stage, data, stage.search_seed, stage.search_instances)
    method = method_of(stage.loss, stage, data, stage.search_seed, learning_rate)
    learned, more = lessons(stage.loss, data, train, stage.images_per_batch)
    fitted = fit(
        method,
        data.inputs,
        learned,
        epochs=stage.search_epochs,
        schedule=Schedule(stage.schedule, learning_rate),
        seed=stage.search_seed,
        evaluate=lambda method: {},
        **more,
        **session,
    )
    return None if fitted is None else bag_loss(method, data.inputs, held_out)
