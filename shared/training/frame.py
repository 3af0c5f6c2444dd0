"""Frame every training run: its spec checked, its device ready, what a record keeps of it in one shape."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from shared.config import Spec, read_config
from shared.training import graph
from shared.training.convergence import quarter_gains
from shared.training.device import peak_memory_mb, prepare_device


@dataclass
class Result:
    """Hold what a training run found.

    Attributes
    ----------
    metrics : {selection: {metric: value}}; none of them is a duration, so that a rerun has the same.
    curves : {name: a value for each epoch}, and what figures show of one run.
    bags, data : hashes of the bags it learned from and checksums of the data.
    cluster : what it shares with runs of other seeds, a split or a detector, so that they do not count as independent;
        empty where its seed draws all anew.
    convergence : what each measure still gained in the last quarter (`convergence.quarter_gains`); the frame sets it.
    cost : {name: value} of durations and whatever else depends on the machine.
    device : the name of what it ran on; the frame sets it.
    steps : whether its steps came from a CUDA graph, or why not; empty where nobody asked; the frame sets it.
    says : what the line of its end tells people.
    method : the trained method, whose `state_dict` can be saved; None where nothing is trained.
    """

    metrics: dict[str, dict[str, Any]]
    curves: dict[str, Any] = field(default_factory=dict)
    bags: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    cluster: str = ""
    convergence: dict[str, dict] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    device: str = ""
    steps: str = ""
    says: str = ""
    method: Any = None


def framed(paper: str) -> Callable:
    """Decorate a paper's ``train(spec, device, session) -> Result | None``.

    The decorated function takes ``(spec, *, device="auto", **session)``: a `Spec` or a plain mapping, which is refused
    where it holds an unknown key or lacks one; the name of a device; and the session, key, checkpoint,
    checkpoint_every, deadline and report, as of `shared.training.fit`. It returns the `Result` with the device's name
    and the peak of memory, or None if the deadline came first (the checkpoints then hold the rest).
    """

    def decorate(train: Callable) -> Callable:
        @functools.wraps(train)
        def run(spec: Spec | Mapping[str, Any], *, device: str = "auto", **session: Any) -> Result | None:
            spec = Spec.of(spec, read_config(paper).layout)
            ready = prepare_device(device)
            graph.told.clear()
            result = train(spec, ready, session)
            if result is not None:
                result.convergence = quarter_gains(result.curves)
                result.cost["peak_memory_mb"] = round(peak_memory_mb(ready), 1)
                result.device = torch.cuda.get_device_name(ready) if ready.type == "cuda" else ready.type
                result.steps = "; ".join(dict.fromkeys(graph.told))
            return result

        return run

    return decorate
