"""Name the methods of this paper: ``ece/<dataset>/<task>/<method>/f<percent>/seed<s>``.

f30 sees 30 % of the annotations; of a real set with a target class, the task is called after it.
"""

from __future__ import annotations

from shared.config import Spec

SIMULATED = "tissue_sim"  # drawn by each run from its seed


def method(spec: Spec) -> str:
    """Return what a table calls a run: its loss, its variant's switches, and a head other than the code's.

    ``ece-code`` is the official code's schedule with background sampling, ``ece-sigmoid`` the paper's best schedule
    without; a switch that departs from these two is named after it.
    """
    if spec.task == "check":
        return "equations"
    name = _variant(spec)
    return f"{name}-logit" if spec.task == "segmentation" and spec.head == "logit" else name


def path(spec: Spec, method: str) -> str:
    """Return the part of a run's id between the paper and the seed."""
    if spec.task == "check":
        return f"random/{method}"
    target = "" if spec.dataset == SIMULATED else spec.target
    task = f"{spec.task}-{target}" if target else spec.task
    return f"{spec.dataset}/{task}/{method}/f{100 * spec.fraction:.0f}"


def _variant(spec: Spec) -> str:
    loss = spec.loss
    if loss == "weak":
        return f"weak{spec.tau:g}"
    if loss != "ece":
        return loss
    official = spec.schedule == "code"
    name = f"ece-{spec.schedule}" + (f"{spec.rho:g}" if spec.schedule == "fixed" else "")
    if spec.sampling != official:
        name += "-sampling" if spec.sampling else "-no_sampling"
    if spec.confidence != ("margin" if official else "foreground"):
        name += f"-{spec.confidence}"
    return name if spec.focal else f"{name}-no_focal"
