"""The runs of each tier: ``ece/<dataset>/<task>/<method>/f<percent>/seed<s>``; f30 sees 30 % of the annotations."""

from __future__ import annotations

from papers.ece.names import SIMULATED
from shared.records.config import Run, specs, unique

# What a run reads, by what it does; a spec holds nothing else.
ALWAYS = ("paper", "dataset", "stand_in", "task", "loss", "seed", "fraction", "target")
RELEASE = ("scale", "disc_radius", "split")
TISSUE = (
    *("side", "train_images", "validation_images", "test_images", "images_per_slide", "targets_least", "targets_most"),
    *("others_least", "others_most", "radius_least", "radius_most", "likeness", "debris", "stain_spread", "blur"),
    *("noise",),
)
TRAINING = ("crop", "batch", "steps", "nominal_epochs", "learning_rate", "lr_schedule")
NETWORK = {
    "segmentation": ("encoder", "encoder_depth", "width", "head"),
    "detection": ("detector", "detector_width", "match_radius"),
}
LOSSES = {
    "ce": (),
    "focal": ("focal_alpha", "focal_gamma"),
    "huber": ("huber_delta",),
    "weak": ("tau", "rounds"),
    "elr": ("elr_beta", "elr_lambda"),
    "constant": ("weight",),
    "ece": ("schedule", "rho", "beta", "sampling", "confidence", "focal", "alpha", "gamma"),
}
YOLLO = "YOLLO's layers are not public: a small network of ultralytics stands in"
SHOWN = ("ce", "ece", "constant")  # in Figure 3, at 30 %


def plan(tier: str) -> list[Run]:
    """Every run of a tier, most valuable first."""
    return unique(_run(spec) for spec in specs("ece", tier))


def keys_of(spec: dict) -> set[str]:
    """The keys that a run of this spec reads."""
    if spec["loss"] == "equations":
        return {"paper", "dataset", "loss", "seed"}
    read = {*ALWAYS, *TRAINING, *NETWORK[spec["task"]], *LOSSES[spec["loss"]]}
    read |= set(TISSUE if spec["dataset"] == SIMULATED else RELEASE)
    drawn = spec["seed"] == 1 and spec["fraction"] == 0.3 and spec["loss"] in SHOWN
    return read | ({"shown"} if drawn else set()) | ({"subset"} if spec["subset"] else set())


def method(spec: dict) -> str:
    """What a table calls a run: its loss, the switches that distinguish its variants, and a head other than the code's.

    ``ece-code`` is the official code's schedule with background sampling, ``ece-sigmoid`` the paper's best schedule
    without; a switch that departs from these two is named after it.
    """
    name = _variant(spec)
    return f"{name}-logit" if spec["task"] == "segmentation" and spec["head"] == "logit" else name


def _variant(spec: dict) -> str:
    loss = spec["loss"]
    if loss == "weak":
        return f"weak{spec['tau']:g}"
    if loss != "ece":
        return loss
    official = spec["schedule"] == "code"
    name = f"ece-{spec['schedule']}" + (f"{spec['rho']:g}" if spec["schedule"] == "fixed" else "")
    if spec["sampling"] != official:
        name += "-sampling" if spec["sampling"] else "-no_sampling"
    if spec["confidence"] != ("margin" if official else "foreground"):
        name += f"-{spec['confidence']}"
    return name if spec["focal"] else f"{name}-no_focal"


def _run(spec: dict) -> Run:
    seconds, splits = spec.pop("seconds"), spec.pop("splits")
    if spec["loss"] == "equations":
        spec = {key: spec[key] for key in keys_of(spec)}
        return Run(f"ece/random/equations/seed{spec['seed']}", spec | {"method": "equations"}, seconds)
    spec["split"] = spec["seed"] % splits
    if spec["task"] == "detection":
        spec["stand_in"] = "; ".join(text for text in (spec["stand_in"], YOLLO) if text)
    spec = {key: value for key, value in spec.items() if key in keys_of(spec)}
    spec |= {"method": method(spec), "simulated": spec["dataset"] == SIMULATED}
    if spec["loss"] == "weak":
        seconds *= spec["rounds"] + 1
    task = "-".join(part for part in (spec["task"], "" if spec["simulated"] else spec["target"]) if part)
    where = f"{spec['dataset']}/{task}/{spec['method']}/f{100 * spec['fraction']:.0f}"
    return Run(f"ece/{where}/seed{spec['seed']}", spec, seconds)
