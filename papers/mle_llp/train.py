"""Train a run of the paper, any task: ``python -m papers.mle_llp.train cifar10-features/dllp/m1000/seed0 --here``."""

from __future__ import annotations

import torch

from papers.mle_llp import task_timing
from papers.mle_llp.checks import check
from papers.mle_llp.data import bags_of, data_of
from papers.mle_llp.task_learning import learn
from shared.config import Spec
from shared.training import Result, framed


@framed("mle_llp")
def train(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Train one run, check the equations, or measure durations; see `shared.training.framed`."""
    if spec.task == "check":
        return Result({"last": check(spec.seed)}, says="checked")
    if spec.task == "e_step":
        return Result({"last": {}}, cost=task_timing.e_step(spec.instances, spec.seed, device), says="measured")
    augment = "augment" in spec and spec.augment
    data = data_of(spec.dataset, spec.classes, spec.network, augment, device)
    if spec.task == "learning":
        result = learn(spec, data, session)
    else:
        bags = bags_of(spec, data, spec.seed, spec.validation_instances)[0]
        cost = task_timing.durations(spec, data, bags)
        result = Result({"last": {}}, bags={"train": bags.summary()}, cost=cost, says="measured")
    if result is not None:
        result.data = data.checksums
    return result


if __name__ == "__main__":
    import sys

    from shared.runs.one import main

    sys.exit(main("mle_llp"))
