"""Search the learning rate on a grid (Section 3), judged by bags that were held out: a stage that runs share."""

from __future__ import annotations

from papers.mle_llp.data import Data, bags_of
from papers.mle_llp.method import fitted
from shared.config import Spec
from shared.training import bag_loss, choose, end_of, tried

RATE = "learning_rate"


def rate_of(spec: Spec, data: Data, session: dict) -> tuple[float, dict, dict] | None:
    """Return (learning rate of a run, metrics, curves of its choice), or None if the deadline came first.

    Each rate trains `search_epochs` on training bags of a split of its own (`search_seed`), which no repetition has;
    the least proportion loss on bags held out from these wins. Where that is the least or the greatest rate, rates
    beyond are tried too. No label and no test bag of that split is read. All seeds of a method, a dataset and a number
    of bags share the choice. Where the spec asks for no search, the rate is its `learning_rate`.

    Returns
    -------
    metrics : {"chosen_learning_rate", "chosen_learning_rate_end": as of `end_of`}.
    curves : as of `tried`.
    """
    if not spec.choose_rate:
        return spec.learning_rate, {}, {}
    stage = spec.stage("search")

    def score(candidate: dict, session: dict) -> float | None:
        return held_out_loss(stage, data, candidate[RATE], session)

    found = choose("rates", stage.canonical(), [{RATE: rate} for rate in spec.rates], score, session, extend=RATE)
    if found is None:
        return None
    best, rows = found
    return best[RATE], {f"chosen_{RATE}": best[RATE], f"chosen_{RATE}_end": end_of(rows, RATE)}, tried(rows)


def held_out_loss(stage: Spec, data: Data, rate: float, session: dict) -> float | None:
    """Return the proportion loss (`kl_loss`, in nats) on held-out bags after a short training at a rate."""
    train, held_out, _ = bags_of(stage, data, stage.search_seed, stage.search_instances)
    found = fitted(stage, data, train, rate=rate, epochs=stage.search_epochs, seed=stage.search_seed, session=session)
    return None if found is None else bag_loss(found[0], data.inputs, held_out)
