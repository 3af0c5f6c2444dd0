"""The runs of each tier: ``plot/<dataset>/<method>/bag<n>/seed<s>``, a method being stage one and what follows it."""

from __future__ import annotations

from shared.records.config import Run, specs, unique

NAMED = ("second_loss", "transport", "mixup", "average", "student")  # what stage two's name says
# What stage two alone reads, and what one stage-one method alone reads.
SECOND = (*NAMED, "second_epochs", "second_learning_rate", "sce_alpha", "sce_beta", "log_zero", "epsilon")
ONLY = {
    "llp_vat": ("vat_weight", "vat_eps", "vat_xi", "vat_ramp"),
    "llp_gan": ("noise", "generator_width", "gan_weight"),
}


def plan(tier: str) -> list[Run]:
    """Every run of a tier, most valuable first."""
    return unique(_run(spec) for spec in specs("plot", tier))


def method(spec: dict) -> str:
    """Stage one, and after a + what stage two adds: ``dllp``, ``dllp+continued``, ``dllp+sce+hard``."""
    if spec["second"] == "none":
        return spec["loss"]
    mixup = "+mixup" if spec["mixup"] else ""
    if spec["second"] == "continued":
        return f"{spec['loss']}+continued{mixup}"
    transport = "" if spec["transport"] == "none" else f"+{spec['transport']}"
    average = "" if spec["average"] == 5 else f"+last{spec['average']}"
    fresh = "+fresh" if spec["student"] == "fresh" else ""
    return f"{spec['loss']}+{spec['second_loss']}{transport}{mixup}{average}{fresh}"


def _run(spec: dict) -> Run:
    defaults, seconds = spec.pop("defaults"), spec.pop("seconds")
    name = method(spec)
    spelt = {*NAMED, "dataset", "loss", "second", "bag_size", "seed"}
    unread = {key for loss, keys in ONLY.items() if loss != spec["loss"] for key in keys}
    unread |= set(SECOND) if spec["second"] == "none" else set()
    for key in sorted(set(defaults) - spelt - unread):
        if spec[key] != defaults[key]:
            name += f"-{spec[key]}" if isinstance(spec[key], str) else f"-{key}{spec[key]}"
    # Keys that a run does not read stay in its spec, for stage one's weights are found by all of them.
    spec = {**spec, "method": name, "simulated": spec["dataset"] == "two_moons"}
    return Run(f"plot/{spec['dataset']}/{name}/bag{spec['bag_size']}/seed{spec['seed']}", spec, seconds)
