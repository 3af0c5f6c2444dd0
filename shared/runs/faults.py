"""Tell what ended a run, by its traceback or the exit code of its process: itself, want of memory, or its device."""

from __future__ import annotations

import errno
import signal

ENDS = {  # what the exit code of a process that died may mean
    -signal.SIGKILL: ": it was killed, most likely by the system for want of memory",
    -signal.SIGSEGV: ": it crashed in compiled code (segmentation fault); a library may be damaged or of another CPU",
    -signal.SIGBUS: ": a file or the shared memory it reads was cut short; is a disk full?",
    -signal.SIGILL: ": a library was compiled for another CPU",
    -signal.SIGABRT: ": a library gave up, see what it printed above",
    -signal.SIGTERM: ": somebody, or a scheduler, ended it",
    1: ": it could not start; see what it printed above",
}
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of an OSError: no record can be written any more
STARVED = ("memoryerror", "out of memory", "not enough memory", "t allocate memory", "cannot allocate", "alloc_failed")
LOST = (  # a device that takes no run any more
    "ecc error",
    "nvlink error",
    "hardware error",
    "hardware stack error",
    "busy or unavailable",
    "fallen off the bus",
    "gpu is lost",
    "no cuda-capable device",
    "no kernel image is available",
    "system not yet initialized",
    "but torch sees",  # of the ConfigError of a worker whose device is gone
)
BROKEN = ("cuda error", "hip error", "cudnn error", "unspecified launch failure")  # the process can use no device again
KINDS = (("starved", STARVED), ("lost", LOST), ("broken", BROKEN))


def fault_of(said: str, device: str = "cuda") -> str:
    """Return what a traceback tells, in any library's words.

    Returns
    -------
    starved : memory, of the device or the machine, ran out.
    lost : the device takes no run any more.
    broken : the device or what ran on it failed; which of the two, another device shows.
    failed : none of these; all that is no want of memory, on a CPU.
    """
    found = next((kind for kind, signs in KINDS if any(words in said.lower() for words in signs)), "failed")
    return "failed" if device == "cpu" and found != "starved" else found
