"""The runs of each tier: ``vp_dsd/<dataset>/<method>/seed<s>``, with ``n<size>-c<concentration>`` for drawn bags."""

from __future__ import annotations

from papers.vp_dsd.names import HOLOGRAMS, SIMULATED
from shared.records.config import Run, specs, unique

AXES = ("dataset", "loss", "network", "predictor", "bags", "bag_size", "bag_concentration", "seed")  # spelt by an id
# What a run reads, by what it does; a spec holds nothing else.
SIMULATOR = (
    *("size", "pitch", "wavelength", "distance", "distance_spread", "images_per_subject", "cells_least", "cells_most"),
    *("train_subjects", "validation_subjects", "test_subjects", "mean_proportions", "concentration", "monocyte_limit"),
    *("noise", "spread", "debris", "lymphocyte", "monocyte", "granulocyte", "particle"),
)
ENCODER = ("maps", "encoder_kernels")
RECORDED = ("size", "pitch", "wavelength", "distance")  # that its files must agree with
DETECTOR = (
    *(*ENCODER, "head_kernels", "patch", "nms", "threshold_start", "threshold", "strength", "match_radius"),
    *("detector_epochs", "detector_batch", "detector_learning_rate"),
)
CSC = ("purified_images", "atoms", "match_radius")
DONORS = (
    *("train_subjects", "validation_subjects", "test_subjects", "mean_proportions", "concentration", "monocyte_limit"),
    *("donor_cells", "cbc_cells", "components"),
)
CLASSIFIER = ("epochs", "bags_per_batch", "learning_rate", "hidden", "labels", "bags")
DRAWN = ("bag_size", "bag_concentration", "drawn_bags")
RIVALS = {
    "flm": ("flm_entropy", "flm_weight", "flm_share", "flm_labels"),
    "pc": ("pc_noise", "pc_temperature", "pc_epsilon"),
    "plot": ("second_loss", "transport", "epsilon", "average", "mixup", "sce_alpha", "sce_beta", "log_zero"),
}
BAG_LEVEL = ("mse", "kl", "supervised")  # the others start from a network trained with KL
PREDICTOR = (
    *("network", "predictor", "start", "start_on", "predictor_epochs", "predictor_batch", "predictor_images"),
    *("predictor_learning_rate", "hidden", "width", "crop"),
)


def plan(tier: str) -> list[Run]:
    """Every run of a tier, most valuable first."""
    return unique(_run(spec) for spec in specs("vp_dsd", tier))


def keys_of(spec: dict) -> set[str]:
    """The keys that a run of this spec reads."""
    loss, holograms = spec["loss"], spec["dataset"] in HOLOGRAMS
    read = {"paper", "dataset", "loss", "seed"}
    if loss == "equations":
        return read
    drawn = spec["dataset"] == "simulated_holograms"
    read |= {"stand_in", *(SIMULATOR if drawn else RECORDED if holograms else DONORS)}
    if loss in ("dsd", "example"):
        return read | set(DETECTOR)
    if loss in ("csc", "cellpose"):
        return read | set(CSC if loss == "csc" else ())
    if spec["predictor"]:
        return read | set(PREDICTOR) | set(DETECTOR if spec["start"] == "pretrained" else ENCODER)
    read |= {*CLASSIFIER, *(DETECTOR if holograms else ["network"]), *RIVALS.get(loss, ())}
    read |= set(DRAWN if spec["bags"] == "drawn" else ())
    return read if loss in BAG_LEVEL else read | {"pretrain_epochs"}


def method(spec: dict, defaults: dict) -> str:
    """What a table calls a run: predictor, network and loss, and each key in which it differs from its tier."""
    parts = [spec["predictor"], spec["network"], spec["start"].replace("random", "")] if spec["predictor"] else []
    name = "-".join(part for part in (*parts, spec["loss"]) if part)
    for key in sorted(set(defaults) & keys_of(spec) - {*AXES, "start"}):
        if spec[key] != defaults[key]:
            name += f"-{spec[key]}" if isinstance(spec[key], str) else f"-{key}{spec[key]:g}"
    return name


def _run(spec: dict) -> Run:
    defaults, seconds = spec.pop("defaults"), spec.pop("seconds")
    name = method(spec, defaults)
    spec = {key: value for key, value in spec.items() if key in keys_of(spec)}
    where = f"/n{spec['bag_size']}-c{spec['bag_concentration']:g}" if spec.get("bags") == "drawn" else ""
    spec |= {"method": name, "simulated": spec["dataset"] in SIMULATED}
    return Run(f"vp_dsd/{spec['dataset']}/{name}{where}/seed{spec['seed']}", spec, seconds)
