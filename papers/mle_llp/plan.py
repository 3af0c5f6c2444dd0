"""The runs of each tier: ``mle_llp/<dataset>/<method>/m<bags>/seed<s>``, or ``bag<n>`` where all bags have one size."""

from __future__ import annotations

from shared.records.config import Run, specs, unique

AXES = ("dataset", "loss", "bags", "smallest", "largest", "seed")  # what an id spells out; other keys join the method
CHECKS = ("paper", "dataset", "loss", "seed", "instances")  # all that the runs without training depend on
ONLY = {  # keys that only some methods read
    "llp_gan": ("noise", "generator_width", "proportion_weight", "gan_beta1"),
    "mle_llp": ("stop_change",),
}


def plan(tier: str) -> list[Run]:
    """Every run of a tier, most valuable first."""
    return unique(_run(spec) for spec in specs("mle_llp", tier))


def _run(spec: dict) -> Run:
    defaults, seconds = spec.pop("defaults"), spec.pop("seconds")
    loss, dataset = spec["loss"], spec["dataset"]
    if loss in ("equations", "e_step"):
        spec = {key: spec[key] for key in CHECKS} | {"method": loss}
        return Run(f"mle_llp/{dataset}/{loss}/seed{spec['seed']}", spec, seconds)
    if loss == "durations":
        spec = {**spec, "method": loss}
        return Run(f"mle_llp/{dataset}/{loss}/seed{spec['seed']}", spec, seconds)
    unread = {key for name, keys in ONLY.items() if name != loss for key in keys}
    method = loss
    for key in sorted(set(defaults) - unread - set(AXES)):
        if spec[key] != defaults[key]:
            method += f"-{spec[key]}" if isinstance(spec[key], str) else f"-{key}{spec[key]}"
    spec = {key: value for key, value in spec.items() if key not in unread}
    one_size = spec["smallest"] == spec["largest"]
    bags = f"bag{spec['largest']}" if one_size else f"m{spec['bags'] or '-all'}"
    spec = {**spec, "method": method, "simulated": "simulated" in dataset}
    return Run(f"mle_llp/{dataset}/{method}/{bags}/seed{spec['seed']}", spec, seconds)
