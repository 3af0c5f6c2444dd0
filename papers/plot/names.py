"""Name the methods of this paper: ``plot/<dataset>/<method>/bag<n>/seed<s>``."""

from __future__ import annotations

from shared.config import Spec


def method(spec: Spec) -> str:
    """Return stage one, and after a + what stage two adds: ``dllp``, ``dllp+continued``, ``dllp+sce+hard``."""
    if spec.second == "none":
        return spec.loss
    mixup = "+mixup" if spec.mixup else ""
    if spec.second == "continued":
        return f"{spec.loss}+continued{mixup}"
    transport = "" if spec.transport == "none" else f"+{spec.transport}"
    average = "" if spec.average == 5 else f"+last{spec.average}"
    fresh = "+fresh" if spec.student == "fresh" else ""
    return f"{spec.loss}+{spec.second_loss}{transport}{mixup}{average}{fresh}"


def path(spec: Spec, method: str) -> str:
    """Return the part of a run's id between the paper and the seed."""
    return f"{spec.dataset}/{method}/bag{spec.bag_size}"
