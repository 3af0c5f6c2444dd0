"""Name the methods of this paper, and what training measures and tables show under the same names.

An id is ``mle_llp/<dataset>/<method>/m<bags>/seed<s>``, ``m-all`` where all bags train, and ``bag<n>`` in place of
``m<bags>`` where all bags have one size; ``<dataset>-features`` where frozen features stand in for its images. Tables
need no torch for it.
"""

from __future__ import annotations

from shared.config import Spec

TIMED = ("supervised", "dllp", "llp_gan", "mle_llp")  # the methods of Table 1
SIZES = (2, 4, 8, 12, 16, 32, 64, 128, 256, 512, 1024)  # of the bags in the timing of the E-step


def inputs(dataset: str, network: str) -> str:
    """Return what ids, tables and figures call what a network reads: a dataset, or frozen features of it."""
    return f"{dataset}-features" if network == "patch_features" else dataset


def method(spec: Spec) -> str:
    """Return what tables and claims call a run: its loss, or what it checks or measures."""
    if spec.task == "learning":
        return spec.loss
    return "equations" if spec.task == "check" else spec.task


def path(spec: Spec, method: str) -> str:
    """Return the part of a run's id between the paper and the seed."""
    if "dataset" not in spec:
        return f"random/{method}"
    read = inputs(spec.dataset, spec.network)
    if spec.task == "durations":
        return f"{read}/{method}"
    bags = f"m{spec.bags or '-all'}"
    if "smallest" in spec and spec.smallest == spec.largest:
        bags = f"bag{spec.largest}"
    return f"{read}/{method}/{bags}"
