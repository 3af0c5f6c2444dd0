"""Name the methods of the benchmark: ``benchmark/<task>/<method>/<bags>/seed<s>``."""

from __future__ import annotations

from shared.config import Spec


def method(spec: Spec) -> str:
    """Return what tables and claims call a run: its entry in the registry."""
    return spec.method


def path(spec: Spec, method: str) -> str:
    """Return the part of a run's id between the benchmark and the seed."""
    task = "-".join([spec.dataset, *spec.classes.split()])
    return f"{task}/{method}/{setting(spec)}"


def setting(spec: Spec) -> str:
    """Return the name of a kind of bags: "random16", "dirichlet16-c0.1", "random16-noise0.1"."""
    name = spec.bags if spec.bags == "natural" else f"{spec.bags}{spec.bag_size}"
    name += f"-c{spec.concentration:g}" if spec.bags == "dirichlet" else ""
    return name + (f"-noise{spec.noise:g}" if spec.noise else "")
