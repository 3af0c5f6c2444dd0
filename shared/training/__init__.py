"""Train and evaluate: seeds by named axis, inputs on one device, checkpoints, the loop."""

from shared.training.augmentation import Augmentation
from shared.training.device import peak_memory_mb, prepare_device
from shared.training.evaluate import accuracy, bag_loss, predictions, select
from shared.training.frame import Result, framed
from shared.training.inputs import Inputs
from shared.training.loop import Schedule, fit
from shared.training.seeds import axis_seed, seed_torch
from shared.training.selection import choose, end_of, tried, within

__all__ = [
    "Augmentation",
    "Inputs",
    "Result",
    "Schedule",
    "accuracy",
    "axis_seed",
    "bag_loss",
    "choose",
    "end_of",
    "fit",
    "framed",
    "peak_memory_mb",
    "predictions",
    "prepare_device",
    "seed_torch",
    "select",
    "tried",
    "within",
]
