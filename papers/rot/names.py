"""Name the methods of this paper: ``rot/<dataset>/<method>/bag<n>/seed<s>``."""

from __future__ import annotations

from shared.config import Spec


def method(spec: Spec) -> str:
    """Return what tables and claims call a run: its loss, or that it checks the equations."""
    return "equations" if spec.task == "check" else spec.loss


def path(spec: Spec, method: str) -> str:
    """Return the part of a run's id between the paper and the seed."""
    return f"random/{method}" if spec.task == "check" else f"{spec.dataset}/{method}/bag{spec.bag_size}"
