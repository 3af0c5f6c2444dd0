"""Name methods, ``vp_dsd/<dataset>/<method>/seed<s>``, in words that need neither torch nor NumPy."""

from __future__ import annotations

from shared.config import Spec

CLASSES = ("lymphocyte", "monocyte", "granulocyte")
VARIED = ("learning_rate", "noise", "spread")  # keys of a grid that name a control and no method
SPLITS = ("train", "validation", "test")
HOLOGRAMS = ("simulated_holograms", "wbc_holograms_synthetic", "wbc_holograms")


def method(spec: Spec) -> str:
    """Return what tables and claims call a run: its loss behind predictor, network and start, or its detector."""
    if spec.task == "check":
        return "equations"
    if spec.task == "detection":
        return spec.detector
    if spec.task == "regression":
        start = ["pretrained"] if "start" in spec and spec.start == "pretrained" else []
        return "-".join([spec.predictor, spec.network, *start, spec.loss])
    return "example" if spec.task == "example" else spec.loss


def is_varied(method: str) -> bool:
    """Return whether a method's rate or the difficulty of its cells is another than the tier's: a control, no rival."""
    return any(f"-{key}" in method for key in VARIED)


def path(spec: Spec, method: str) -> str:
    """Return the part of a run's id between the paper and the seed; drawn bags have their size and concentration."""
    if spec.task == "check":
        return f"random/{method}"
    drawn = "bags" in spec and spec.bags == "drawn"
    return f"{spec.dataset}/{method}" + (f"/n{spec.bag_size}-c{spec.bag_concentration:g}" if drawn else "")
