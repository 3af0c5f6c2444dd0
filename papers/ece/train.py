"""One run of the paper, from a spec to its numbers: segmentation or detection with few annotations.

``python -m papers.ece.train --tier quick --only tissue_sim/segmentation`` trains the runs of a tier without a record.
"""

from __future__ import annotations

import torch

from papers.ece import equations
from shared.training import peak_memory_mb, prepare_device


def train(spec: dict, *, device: str = "auto", **session) -> dict | None:
    """Train one run; None if the deadline came first (the checkpoints then hold the rest).

    Parameters
    ----------
    session : key, checkpoint, checkpoint_every, deadline and report, as of `shared.training.fit`.

    Returns
    -------
    What a record keeps: metrics by selection rule, curves, data, cost, device.
    """
    if spec["loss"] == "equations":
        found = equations.check(spec["seed"])
        return {
            "metrics": {"last": {**found, "worst": max(found.values())}},
            "cost": {"train_s": 0.0},
            "says": "checked",
        }
    # Each task has a library of its own, which takes seconds to import, and which the other can do without.
    if spec["task"] == "segmentation":
        from papers.ece.segment import segment as run
    else:
        from papers.ece.detect import detect as run
    where = prepare_device(device)
    result = run(spec, where, session)
    if result is None:
        return None
    result["cost"]["peak_memory_mb"] = round(peak_memory_mb(where), 1)
    return {**result, "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"}


if __name__ == "__main__":
    import sys

    from shared.records import sweep

    sys.exit(sweep.main(["--paper", "ece", *sys.argv[1:]]))
