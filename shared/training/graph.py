"""Replay training steps from a CUDA graph, where a person asks for it by ``LLP_GRAPH=1`` and a step can be captured.

A step of a small network is bound by the host, which starts some hundred kernels; a graph starts them all at once. See
docs/gpu.md. What is captured are steps of one shape: whole batches of bags of one size. Others go on eagerly.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor

from shared.bags.segments import one_size
from shared.methods import Batch, Method

SWITCH = "LLP_GRAPH"
GRAPH = "CUDA graph"  # what a record says of steps that were replayed
WARM = 3  # steps before the capture: what they compile, choose and allocate stays out of it

Step = Callable[[], dict[str, Tensor]]
told: list[str] = []  # what the trainings of this run were told, for its record


class Capturable(Method, Protocol):
    """A method whose steps can be captured, if it says so."""

    optimiser: torch.optim.Optimizer

    def capturable(self) -> bool:
        """Return whether a step does the same on every batch of one shape."""


class Cuda:
    """Go through torch.cuda: the one place that needs a GPU."""

    @staticmethod
    def aside(step: Step) -> dict[str, Tensor]:
        """Take a step on a stream of its own, as torch asks for before a capture."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            scalars = step()
        torch.cuda.current_stream().wait_stream(stream)
        return scalars

    @staticmethod
    def capture(step: Step) -> Step:
        """Return what replays a step, which is recorded and not taken; its scalars are overwritten by the next."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            scalars = step()

        def replay() -> dict[str, Tensor]:
            graph.replay()
            return scalars

        return replay


SEAMS = {"cuda": Cuda}  # by type of device


def asked() -> str:
    """Return `GRAPH` where the environment asks for it, else nothing.

    Raises
    ------
    ValueError
        If LLP_GRAPH is neither 1 nor 0.
    """
    said = os.environ.get(SWITCH, "")
    if said not in ("", "0", "1"):
        raise ValueError(f"{SWITCH} is {said!r}; 1 asks for a CUDA graph of the training step, 0 or nothing does not")
    return GRAPH if said == "1" else ""


class Steps:
    """Take the steps of one training, eagerly or from a graph.

    Parameters
    ----------
    bags : of a whole batch; the shorter one that ends an epoch is never captured.
    choice : of the checkpoint of a training that goes on, else `asked()`: nothing, `GRAPH`, or why not.

    Attributes
    ----------
    choice : the same, once it was tried; a sentence that begins with "eager" names why not.
    """

    def __init__(self, method: Method, bags: int, device: torch.device, choice: str):
        self.method, self.bags, self.device, self.choice = method, bags, device, choice
        self.shape: tuple | None = None  # of the steps that are captured
        self.warm = 0
        self.captured: tuple[Batch, Step] | None = None  # the batch that the graph reads, and what replays it
        self.groups: list[dict[str, Any]] = []  # of the parameters, in the optimiser
        self.seam = SEAMS.get(device.type)
        if choice != GRAPH:
            return
        if self.seam is None:
            self._eagerly(f"there are no graphs on {device.type}")
        elif not _can(method):
            self._eagerly(f"{type(method).__name__} does not say that its step can be captured")
        else:
            self.groups = method.optimiser.param_groups
            for group in self.groups:  # a number would be a constant of the graph
                group["lr"] = torch.tensor(float(group["lr"]), device=device)

    def _eagerly(self, why: str) -> None:
        self.choice = f"eager, for {why}"

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step; the scalars hold until the next."""
        if self.choice != GRAPH or self.seam is None:
            return self.method.update(batch)
        if len(batch.proportions) != self.bags or one_size(batch.offsets) is None:
            return self.method.update(batch)
        shape = (batch.x.shape, batch.x.dtype, batch.proportions.shape, one_size(batch.offsets))
        self.shape = self.shape or shape
        if shape != self.shape:
            return self.method.update(batch)
        if self.warm < WARM:
            self.warm += 1
            before = _drawn(self.device)
            scalars = self.seam.aside(lambda: self.method.update(batch))
            # A graph would draw from a generator of its own: not shown to give equal numbers.
            if any(not torch.equal(*pair) for pair in zip(before, _drawn(self.device), strict=True)):
                self._eagerly("a step draws random numbers")
            return scalars
        if self.captured is None:
            own = Batch(batch.x.clone(), batch.offsets, batch.proportions.clone())
            try:
                with _capturable(self.groups):
                    self.captured = own, self.seam.capture(lambda: self.method.update(own))
            except Exception as error:  # whatever cannot be captured, torch and CUDA name it, each in its own type
                said = (str(error).strip() or repr(error)).splitlines()[0]
                self._eagerly(f"its step cannot be captured: {said}")
                return self.method.update(batch)
        read, replay = self.captured
        read.x.copy_(batch.x)
        read.proportions.copy_(batch.proportions)
        return replay()

    def end(self) -> None:
        """Tell which of both it was, for the record; nothing where nobody asked."""
        if self.choice == GRAPH and self.captured is None:
            self._eagerly(f"there were not {WARM + 1} steps of one shape")
        if self.choice:
            told.append(self.choice)


def _can(method: Method) -> TypeGuard[Capturable]:
    """Whether a method says that its steps can be captured."""
    says = getattr(method, "capturable", None)
    return bool(says and says())


@contextlib.contextmanager
def _capturable(groups: Iterable[dict[str, Any]]) -> Iterator[None]:
    """Let optimisers that ask for it be captured; beyond that, torch would warn of every step taken eagerly."""
    groups = [group for group in groups if "capturable" in group]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False


def _drawn(device: torch.device) -> list[Tensor]:
    """The states of the generators that a step may draw from, which lie on the host."""
    on_host = [torch.default_generator.get_state()]
    return [*on_host, torch.cuda.get_rng_state(device)] if device.type == "cuda" else on_host
