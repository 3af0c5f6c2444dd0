"""One run of the paper, from a spec to its numbers: detection, classification from proportions, or regression.

``python -m papers.vp_dsd.train --tier quick --only simulated_holograms/vp`` trains the runs of a tier without a record.
"""

from __future__ import annotations

import torch

from papers.vp_dsd import localise
from papers.vp_dsd.classify import classify
from papers.vp_dsd.learning import equations
from papers.vp_dsd.regress import regress
from shared.training import peak_memory_mb, prepare_device

LOCALISED = {"dsd": localise.detect, "csc": localise.csc, "cellpose": localise.cellpose, "example": localise.example}


def train(spec: dict, *, device: str = "auto", **session) -> dict | None:
    """Train one run; None if the deadline came first (the checkpoints then hold the rest).

    Parameters
    ----------
    session : key, checkpoint, checkpoint_every, deadline and report, as of `shared.training.fit`.

    Returns
    -------
    What a record keeps: metrics by selection rule, curves, bags, data, cost, device.
    """
    if spec["loss"] == "equations":
        found = equations.check(spec["seed"])
        return {
            "metrics": {"last": {**found, "worst": max(found.values())}},
            "cost": {"train_s": 0.0},
            "says": "checked",
        }
    where = prepare_device(device)
    run = LOCALISED.get(spec["loss"], regress if spec.get("predictor") else classify)
    result = run(spec, where, session)
    if result is None:
        return None
    result["cost"]["peak_memory_mb"] = round(peak_memory_mb(where), 1)
    return {**result, "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"}


if __name__ == "__main__":
    import sys

    from shared.records import sweep

    sys.exit(sweep.main(["--paper", "vp_dsd", *sys.argv[1:]]))
