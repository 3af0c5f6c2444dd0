"""Measure what the E-step and an epoch cost (Table 1), all methods in turn in one process; durations, and no metric."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from papers.mle_llp.data import Data
from papers.mle_llp.enumeration import enumerated_posterior
from papers.mle_llp.loss import counts_of, posterior
from papers.mle_llp.method import lessons, method_of
from papers.mle_llp.names import SIZES, TIMED
from shared.bags import Bags
from shared.config import Spec
from shared.training import Schedule, fit

ENUMERATED = 12  # the paper's largest bag; 20 would take half a second a bag


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def e_step(instances: int, seed: int, device: torch.device) -> dict[str, float]:
    """Return milliseconds for about so many instances in bags of 2 to 1024, by ours and by enumeration while it can.

    Returns
    -------
    e_step_ms_<n> : ours, the median of five.
    enumerate_ms_<n> : timed on bags enough for a tenth of a second and scaled to as many.
    """
    rng, found = np.random.default_rng(seed), {}
    for n in SIZES:
        bags = max(1, instances // n)
        odds = torch.from_numpy(2 * rng.normal(size=bags * n)).float()
        positives = torch.from_numpy((rng.random((bags, n)) < odds.sigmoid().view(bags, n).numpy()).sum(1))
        log_p = torch.stack([F.logsigmoid(-odds), F.logsigmoid(odds)], 1).to(device)
        offsets, counts = torch.arange(bags + 1) * n, torch.stack([n - positives, positives], 1)
        run = partial(posterior, log_p, offsets, counts)
        run()
        found[f"e_step_ms_{n}"] = 1e3 * statistics.median(_seconds(run, device) for _ in range(5))
        if n <= ENUMERATED:
            p, started, done = odds.sigmoid().double().view(bags, n).numpy(), time.perf_counter(), 0
            while done < bags and time.perf_counter() - started < 0.1:
                enumerated_posterior(p[done], int(positives[done]))
                done += 1
            found[f"enumerate_ms_{n}"] = 1e3 * (time.perf_counter() - started) * bags / done
    return {name: round(value, 4) for name, value in found.items()}


def durations(spec: Spec, data: Data, bags: Bags) -> dict[str, float]:
    """Return Table 1: the median time of an epoch of each method, taken in turn, and what part of one is the E-step.

    Returns
    -------
    epoch_s_<method> : seconds.
    ratio_<method> : over DLLP's, the median over rounds.
    e_step_share : of MLE-LLP's epoch, in percent, the posterior alone; the predictions it needs are another forward
        pass over the training set.
    """
    device = data.inputs.device
    constant = Schedule("constant", spec.learning_rate)
    epoch = partial(fit, epochs=1, schedule=constant, seed=0, evaluate=lambda method: {})
    taken: dict[str, list[float]] = {name: [] for name in TIMED}
    epochs = {}
    for name in TIMED:
        learned, more = lessons(name, data, bags, spec.images_per_batch)
        method = method_of(name, spec, data, spec.seed, spec.learning_rate)
        # What a first step sets up is no part of an epoch.
        epoch(method, data.inputs, learned.take(np.arange(2)), bags_per_batch=more["bags_per_batch"])
        epochs[name] = partial(epoch, method, data.inputs, learned, **more)
    for _ in range(spec.rounds):
        for name in TIMED:
            taken[name].append(_seconds(epochs[name], device))
    found = {f"epoch_s_{name}": statistics.median(seconds) for name, seconds in taken.items()}
    for name in TIMED:
        found[f"ratio_{name}"] = statistics.median(a / b for a, b in zip(taken[name], taken["dllp"], strict=True))
    offsets = torch.from_numpy(bags.offsets)
    counts = counts_of(torch.from_numpy(bags.proportions), offsets)
    log_p = torch.full((len(bags.indices), len(data.classes)), 1 / len(data.classes), device=device).log()
    share = statistics.median(_seconds(partial(posterior, log_p, offsets, counts), device) for _ in range(5))
    return found | {"e_step_share": 100 * share / found["epoch_s_mle_llp"]}
