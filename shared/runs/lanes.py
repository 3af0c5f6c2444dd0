"""Lanes: each device a sweep uses, and how many runs go on it at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.config import ConfigError
from shared.runs.machine import cores as usable_cores
from shared.runs.machine import devices_of

FULL = 0.8  # of a device's memory: one run more must leave the rest free
STRIKES = 2  # runs in a row that ended with a device's error and went well elsewhere, until it is left out


@dataclass(frozen=True)
class Hand:
    """How many runs go at once on each of some devices: `limit` is as far as `each` may grow where growing pays."""

    devices: tuple[str, ...]
    each: int
    limit: int

    @classmethod
    def of(cls, device: str, at_once: str | int, cores: int | None = None) -> Hand:
        """From a tier's or a person's words; "auto" starts with one run on each GPU and one a core on a CPU."""
        devices = devices_of(device)
        cores = min(cores or usable_cores(), usable_cores())  # Snakemake counts those of the machine
        share = max(1, cores // len(devices))
        if at_once == "cores" or (at_once == "auto" and devices == ("cpu",)):
            return cls(devices, share, share)
        if at_once == "auto":
            return cls(devices, 1, min(8, share))
        try:
            n = int(at_once)
        except ValueError:
            n = 0
        if n < 1:
            raise ConfigError(f"runs at once must be a number above 0, cores or auto, not {at_once!r}")
        return cls(devices, n, n)

    @property
    def at_once(self) -> int:
        """How many runs go at once to begin with, on all devices together."""
        return self.each * len(self.devices)

    @property
    def is_cpu(self) -> bool:
        """Whether runs go to the CPU."""
        return self.devices == ("cpu",)

    def __str__(self) -> str:
        more = "" if self.limit == self.each else f", up to {self.limit} if that pays"
        many = len(self.devices) > 1
        where = f"each of {len(self.devices)} GPUs, {', '.join(self.devices)}" if many else self.devices[0]
        return f"{self.each} at once on {where}{more}"


@dataclass
class Lane:
    """One device, as the workers on it find it.

    Attributes
    ----------
    size : how many runs go on it at once; it may grow to `limit`.
    memory : (used, total) of the device in megabytes, as a worker on it saw it last; None where it is not known.
    strikes : runs that it failed and another device made, since one went well on it.
    left_out : why nothing goes on it any more; empty as long as something does. `said` is whether that was said.
    advance : declared seconds of work done on it since `measured_from`.
    """

    device: str
    size: int
    limit: int
    memory: tuple[float, float] | None = None
    strikes: int = 0
    left_out: str = ""
    said: bool = False
    advance: float = 0.0
    measured_from: float = field(default_factory=lambda: time.time())
    settled: bool = False
    rates: dict[int, float] = field(default_factory=dict)

    def __post_init__(self):
        self.settled = self.size == self.limit

    def shrink(self, size: int) -> None:
        """Let at most `size` runs go on it at once from now on, and no more be tried."""
        self.settled, self.size = True, min(self.size, max(1, size))

    def fits_one_more(self) -> bool:
        """Whether its memory has room for one run more like those that go; not where that is unknown."""
        return self.memory is not None and self.memory[0] * (self.size + 1) / self.size < FULL * self.memory[1]

    def adapt(self, more_to_do: bool, say: Callable[[str], None], where: str = "", settle: float = 30.0) -> None:
        """Let one more run go at once while that raises the pace by a tenth; take it back where it did not.

        The pace is the declared seconds of work done in a second, measured over `settle` seconds at each number.
        """
        if self.settled or self.left_out or not more_to_do or time.time() - self.measured_from < settle:
            return
        self.rates[self.size] = self.advance / (time.time() - self.measured_from)
        before = self.rates.get(self.size - 1, 0.0)
        self.measured_from, self.advance = time.time(), 0.0
        if self.rates[self.size] < 1.1 * before:
            self.size -= 1
            self.settled = True
            say(f"{self.size} at once{where}: one more does not pay")
        elif self.size == self.limit:
            self.settled = True
        elif self.fits_one_more():
            self.size += 1
            say(f"{self.size} at once{where}: trying one more")
