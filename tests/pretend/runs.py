"""Train runs of papers on the device `pretend`, at toy length, and count what their steps wait for."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import types
from collections import Counter
from collections.abc import Iterator
from unittest.mock import patch

import torch

from shared.config import find
from shared.training import Schedule, frame, loop
from tests.contract.paper_tier import shrunk
from tests.pretend.device import NAME, counting

# What is counted: {name: (paper, id of a run of its tier `paper`, changes to its toy length)}.
METHODS = {
    "KL": ("rot", "cifar10/kl/bag16/seed0", {}),
    "ROT, unrolled": ("rot", "cifar10/rot/bag16/seed0", {}),
    "ROT, envelope": ("rot", "cifar10/rot/bag16/seed0", {"gradient": "envelope"}),
    "PLOT, stage two": ("plot", "cifar10/dllp+sce+hard/bag64/seed0", {}),
    "LLP-VAT": ("plot", "cifar10/llp_vat/bag64/seed0", {}),
    "LLP-GAN": ("plot", "cifar10/llp_gan/bag64/seed0", {}),
    "MLE-LLP, M-step": ("mle_llp", "cifar10/mle_llp/m1000/seed0", {}),
    "MLE-LLP, direct": ("mle_llp", "cifar10/mle_direct/m1000/seed0", {}),
    "VP-CE": ("vp_dsd", "wbc_stained/vp_ce/seed0", {"bags_per_batch": 2}),
    "FLM": ("vp_dsd", "wbc_stained/flm/seed0", {"bags_per_batch": 2}),
    "DSD, the detector": ("vp_dsd", "simulated_holograms/dsd/seed0", {"detector_batch": 2}),
    "ECE, segmentation": ("ece", "tnbc/segmentation/ece-code/f30/seed0", {"batch": 1}),
    "ECE, ELR": ("ece", "tnbc/segmentation/elr/f30/seed0", {"batch": 1}),
    "ECE, detection": ("ece", "tnbc/detection/ece-code/f30/seed0", {"batch": 1}),
}
SHORT = {  # by paper, beside its own toy length
    "rot": {"epochs": 1},
    "plot": {"epochs": 1, "second_epochs": 1},
    "mle_llp": {"epochs": 1, "choose_rate": False, "images_per_batch": 16},
    "vp_dsd": {"epochs": 1, "pretrain_epochs": 0},
    "ece": {},
}


@contextlib.contextmanager
def offered() -> Iterator[None]:
    """Let runs be asked for with ``device="pretend"``."""
    real = frame.prepare_device

    def prepare(name: str) -> torch.device:
        return (real("cpu"), torch.device(f"{NAME}:0"))[1] if name == NAME else real(name)

    with patch.object(frame, "prepare_device", prepare):
        yield


@contextlib.contextmanager
def ticking() -> Iterator[None]:
    """Let the clock of the training loop go on by a second whenever it is read, so that a deadline is a step."""
    with patch.object(loop, "time", types.SimpleNamespace(time=itertools.count().__next__)):
        yield


def train(spec, device: str, **session):
    """Train a run of the paper that a spec is of; the device may be `pretend`."""
    with offered():
        return importlib.import_module(f"papers.{spec.paper}.train").train(spec, device=device, **session)


def waits(name: str) -> list[Counter]:
    """Return what each step of one of `METHODS` counted (see `counting`), those of the last training of its run.

    The paper's toy data must be in place. A step goes from one look at the learning rate to the next within an epoch;
    the first of a training, which may set something up, is left out.
    """
    paper, run, changes = METHODS[name]
    module = importlib.import_module(f"tests.contract.paper_tier.{paper}")
    spec = shrunk(module, find(paper, "paper", run).spec)
    spec = spec.but(**{key: value for key, value in {**SHORT[paper], **changes}.items() if key in spec})
    marks: list[tuple[float, Counter] | None] = []
    rate, order = Schedule.__call__, loop.permutation

    def looked(schedule, t):
        marks.append((t, Counter(counted)))
        return rate(schedule, t)

    def ordered(*arguments):
        marks.append(None)  # an epoch ends
        return order(*arguments)

    with patch.object(Schedule, "__call__", looked), patch.object(loop, "permutation", ordered), counting() as counted:
        train(spec, NAME)
    starts = [n for n, mark in enumerate(marks) if mark and mark[0] == 0]
    pairs = itertools.pairwise(marks[starts[-1] + 1 :])
    return [after[1] - before[1] for before, after in pairs if before and after]


def total(step: Counter, kind: str) -> int:
    """Return how often a step counted a kind."""
    return sum(number for (found, *_), number in step.items() if found == kind)
