"""Name the methods of this paper: ``rot/<dataset>/<method>/bag<n>/seed<s>``."""

from __future__ import annotations

from shared.config import Spec


def method(spec: Spec) -> str:
    """Return what tables and claims call a run: its loss, or that it checks the equations.

    ROT at a given alpha for which the rate is chosen is of the sweep over alpha, whatever the alpha.
    """
    if spec.task == "check":
        return "equations"
    if "alpha" in spec and "learning_rate" not in spec and spec.tuning == "rate":
        return f"{spec.loss}-alpha{spec.alpha:g}"
    return spec.loss


def path(spec: Spec, method: str) -> str:
    """Return the part of a run's id between the paper and the seed."""
    return f"random/{method}" if spec.task == "check" else f"{spec.dataset}/{method}/bag{spec.bag_size}"
