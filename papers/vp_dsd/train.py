"""Train a run of the paper: ``python -m papers.vp_dsd.train simulated_holograms/vp_ce/seed0 --here``."""

from __future__ import annotations

import torch

from papers.vp_dsd.checks import check
from papers.vp_dsd.task_classification import classify
from papers.vp_dsd.task_detection import localise
from papers.vp_dsd.task_example import example
from papers.vp_dsd.task_regression import regress
from shared.config import Spec
from shared.training import Result, framed

TASKS = {"classification": classify, "detection": localise, "regression": regress, "example": example}


@framed("vp_dsd")
def train(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Train one run, or check the claim of Section 2.1; see `shared.training.framed`."""
    if spec.task == "check":
        found = check(spec.seed)
        return Result({"last": {**found, "worst": max(found.values())}}, says="checked")
    if spec.task not in TASKS:
        raise ValueError(f"task {spec.task!r} is none of {', '.join([*TASKS, 'check'])}")
    return TASKS[spec.task](spec, device, session)


if __name__ == "__main__":
    import sys

    from shared.runs.one import main

    sys.exit(main("vp_dsd"))
