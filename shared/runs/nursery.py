"""Processes forked from one that has imported what they need: the seconds and the memory of that are spent once.

To import torch and to make its first optimiser takes three seconds of a core, more than many a run; a spawned worker
pays them itself. Not for processes that use a device: what a parent has of CUDA does not survive a fork.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection, reduction

FORKS = sys.platform == "linux"  # elsewhere system libraries do not survive a fork


class Nursery:
    """What a context of `multiprocessing` is to a pool: it has `Pipe`, and `Process` for what talks through a pipe.

    The first process that is started starts the parent of all, which imports `modules` in the environment of that
    moment, computes nothing, and ends with `close` or with this process, however that ends; its children end with it.
    What cannot be imported is left to the children, who say so.
    """

    def __init__(self, modules: Sequence[str]):
        self.modules = tuple(modules)
        self.context = multiprocessing.get_context("spawn")
        self.Pipe = self.context.Pipe
        self.pipe: connection.Connection | None = None
        self.parent: multiprocessing.process.BaseProcess | None = None

    def Process(self, target: Callable, args: tuple, daemon: bool) -> Child:
        """Return a process to be started; the first of `args` is its end of a pipe. All end with their parent."""
        return Child(self, target, args)

    def start(self, target: Callable, args: tuple) -> int:
        """Fork a process that lives `target(*args)`, from a new parent where there is none or it is no more."""
        if self.pipe is None or self.parent is None or not self.parent.is_alive():
            self.close()
            self.pipe, theirs = self.context.Pipe()
            self.parent = self.context.Process(target=_nurse, args=(theirs, self.modules))
            self.parent.start()
            theirs.close()
        pipe, *rest = args
        self.pipe.send((dict(os.environ), target, tuple(rest)))
        reduction.send_handle(self.pipe, pipe.fileno(), self.parent.pid)
        return self.pipe.recv()

    def end_of(self, pid: int, timeout: float | None) -> int | None:
        """Wait for the end of a child of the present parent and return its exit code; None where it goes on."""
        assert self.pipe is not None
        self.pipe.send((pid, timeout))
        return self.pipe.recv()

    def close(self) -> None:
        """End the parent of all and what is left of its children."""
        if self.pipe is not None and self.parent is not None:
            self.pipe.close()
            self.parent.join(10)
            self.parent.terminate()
        self.pipe = self.parent = None


class Child:
    """A process as its pool sees it: the parts of `multiprocessing.Process` that a pool uses."""

    def __init__(self, nursery: Nursery, target: Callable, args: tuple):
        self.nursery, self.target, self.args = nursery, target, args
        self.parent: multiprocessing.process.BaseProcess | None = None
        self.pid: int | None = None
        self.exitcode: int | None = None

    def start(self) -> None:
        """Begin its life, in the environment that this process has now."""
        self.pid = self.nursery.start(self.target, self.args)
        self.parent = self.nursery.parent

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, or some seconds; of one whose parent was killed, want of memory is taken for the end."""
        if self.exitcode is not None or self.pid is None:
            return
        self.exitcode = -signal.SIGKILL
        if self.parent is not None and self.parent is self.nursery.parent:
            with contextlib.suppress(EOFError, OSError):
                self.exitcode = self.nursery.end_of(self.pid, timeout)

    def terminate(self) -> None:
        """Ask it to end."""
        if self.exitcode is None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)


def _nurse(pipe: connection.Connection, modules: Sequence[str]) -> None:
    """The life of the parent of all: fork when asked to, tell how children ended, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks is told, too, and closes the pipe
    for module in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    if "torch" in sys.modules:
        importlib.import_module("torch._dynamo")  # as the first optimiser does
    context, children = multiprocessing.get_context("fork"), {}
    with contextlib.suppress(EOFError, OSError):
        while True:
            asked = pipe.recv()
            if len(asked) == 3:  # environment, target, arguments
                theirs = connection.Connection(reduction.recv_handle(pipe))
                child = context.Process(target=_live, args=(pipe, theirs, *asked), daemon=True)
                child.start()
                theirs.close()
                children[child.pid] = child
                pipe.send(child.pid)
            else:
                pid, timeout = asked
                children[pid].join(timeout)
                pipe.send(children[pid].exitcode)


def _live(
    other: connection.Connection, pipe: connection.Connection, environ: Mapping[str, str], target: Callable, args: tuple
) -> None:
    """The life of a child, in the environment that it was started in."""
    other.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environ)
    target(pipe, *args)
