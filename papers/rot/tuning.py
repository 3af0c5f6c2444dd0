"""Choose the learning rate and alpha from the grids of Section 4.1 by the loss on held-out bags after short runs."""

from __future__ import annotations

from collections.abc import Callable

from papers.rot.data import selection_bags_of
from shared.config import Spec
from shared.training import bag_loss, choose, end_of, tried
from shared.training.data import Data

STAGE = "selection"


def candidates(spec: Spec) -> list[dict[str, float]]:
    """Return what a spec chooses among: the rates, with every alpha of the grid or with the one that is given."""
    rates = [{"learning_rate": rate} for rate in spec.learning_rates]
    if spec.loss != "rot":
        return rates
    alphas = spec.alphas if spec.tuning == "rate+alpha" else [spec.alpha]
    return [rate | {"alpha": alpha} for alpha in alphas for rate in rates]


def chosen(
    spec: Spec, data: Data, fitted: Callable, session: dict
) -> tuple[dict[str, float], dict[str, int], dict[str, list]] | None:
    """Return (rate and alpha, where they lie on their grids, what was tried), or None if the deadline came first.

    The score is the proportion loss of held-out bags after the last epoch of a short run, whatever loss trains, so that
    all alphas are measured alike. The bags are a draw of their own out of the training images, and all seeds share the
    choice; the test set is not looked at.

    Parameters
    ----------
    fitted : trains, as `papers.rot.train.fitted` does.
    session : as of `shared.training.fit`.

    Returns
    -------
    best : {"learning_rate": number} and, of ROT, "alpha".
    ends : for each of these -1 where it is the least of the values tried beside it, 1 where it is the greatest, else 0.
        The grids are the paper's and are not extended.
    tried : as of `shared.training.tried`.
    """
    stage = spec.stage(STAGE)
    bags, held_out = selection_bags_of(stage, data.y_train, data.n_classes)
    epochs, seed = stage.selection_epochs, stage.selection_seed

    def score(candidate: dict[str, float], own: dict) -> float | None:
        def evaluate(method) -> dict[str, float]:
            return {"validation_loss": bag_loss(method, data.train, held_out)}

        done = fitted(stage, candidate, data, bags, evaluate, seed=seed, epochs=epochs, session=own)
        return done and done[1]["curves"]["validation_loss"][-1]

    found = choose("selections", stage.canonical(), candidates(spec), score, session)
    if found is None:
        return None
    best, rows = found
    return best, {key: end_of(rows, key) for key in best}, tried(rows)
