"""Train a run of the paper: ``python -m papers.ece.train tissue_sim/segmentation/ece-code/f30/seed0 --here``."""

from __future__ import annotations

import torch

from papers.ece.checks import check
from shared.config import Spec
from shared.training import Result, framed


@framed("ece")
def train(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Train one run of either task, or check the equations; see `shared.training.framed`."""
    if spec.task == "check":
        found = check(spec.seed)
        return Result({"last": {**found, "worst": max(found.values())}}, says="checked")
    # Each task has a library of its own, which takes seconds to import, and which the other can do without.
    if spec.task == "segmentation":
        from papers.ece.task_segmentation import segment as run
    else:
        from papers.ece.task_detection import detect as run
    return run(spec, device, session)


if __name__ == "__main__":
    import sys

    from shared.runs.one import main

    sys.exit(main("ece"))
