"""The runs of each tier, with the ids their records go by: ``rot/<dataset>/<method>/bag<n>/seed<s>``."""

from __future__ import annotations

from shared.records.config import Run, specs, unique

AXES = ("dataset", "loss", "bag_size", "seed")  # what an id spells out; any other key that varies joins the method
EQUATIONS = ("paper", "dataset", "loss", "seed")  # all that a check without training depends on
ROT_ONLY = ("alpha", "epsilon", "iterations", "gradient", "divide_by_alpha")


def plan(tier: str) -> list[Run]:
    """Every run of a tier, most valuable first."""
    return unique(_run(spec) for spec in specs("rot", tier))


def _run(spec: dict) -> Run:
    defaults, seconds = spec.pop("defaults"), spec.pop("seconds")
    method = spec["loss"]
    if spec["loss"] == "equations":
        spec = {key: spec[key] for key in EQUATIONS} | {"method": method}
        return Run(f"rot/{spec['dataset']}/{method}/seed{spec['seed']}", spec, 5.0)
    for key in sorted(defaults):
        if key not in AXES and spec[key] != defaults[key]:
            method += f"-{spec[key]}" if isinstance(spec[key], str) else f"-{key}{spec[key]}"
    if spec["loss"] != "rot":
        spec = {key: value for key, value in spec.items() if key not in ROT_ONLY}
    spec = {**spec, "method": method, "simulated": "simulated" in spec["dataset"]}
    return Run(f"rot/{spec['dataset']}/{method}/bag{spec['bag_size']}/seed{spec['seed']}", spec, seconds)
