"""Read files damaged at random: what a reader gives must be good, or one sentence, in little time and memory."""

from __future__ import annotations

import gzip
import random
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS, Target

SECONDS = 10  # that one reading may take, on a busy machine
MEGABYTES = 700  # that one reading may add
LONGEST = 1500  # characters of a sentence


class Slow(BaseException):
    """A reading took too long; no reader catches it."""


def cases(name: str, seed: int, folder: Path, count: int | None = None) -> Iterator[tuple[int, Path, str]]:
    """Damage a target's good files and read them, case after case; yield (case, the damaged file, what is wrong).

    Nothing is wrong where the text is empty. The damaged file lies there until the next case. A target's own files lie
    in `folder`.
    """
    target = TARGETS[name]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    target.make(folder)
    target.read(folder)
    good = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    paths = [path for path in good if not path.name.endswith(target.untouched or ("\0",))]
    case = 0
    while count is None or case < count:
        draw = random.Random(f"{name} {seed} {case}")
        path = draw.choice(paths)
        content, packed = good[path], target.inside and path.suffix in (".gz", ".tgz")
        content = mutated(draw, gzip.decompress(content) if packed else content, path.suffix in (".json", ".yaml"))
        path.write_bytes(gzip.compress(content, 1) if packed else content)
        yield case, path, wrong_with(target, folder)
        path.write_bytes(good[path])
        case += 1


def wrong_with(target: Target, folder: Path) -> str:
    """Read the files in a folder; return what is wrong with the way that went, nothing where all is well."""
    before, began = _peak(fresh=True), time.perf_counter()
    try:
        with _limit(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(folder)
    except target.error as error:
        said = str(error)
        if "\n" in said.strip() or not said.strip() or len(said) > LONGEST:
            return f"no sentence: {type(error).__name__} of {len(said)} characters: {said[:300]!r}"
        if isinstance(error.__cause__ or error.__context__, MemoryError):
            return f"memory: {said}"
    except Slow:
        return f"more than {SECONDS} s:\n{traceback.format_exc(limit=-6)}"
    except Exception:
        return traceback.format_exc(limit=-4)
    if (more := _peak() - before) > MEGABYTES:
        return f"memory: {more} MB in {time.perf_counter() - began:.1f} s"
    return ""


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def stop(*_) -> None:
        raise Slow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak(fresh: bool = False) -> int:
    """Return the most memory so far, in MB, of Linux; since now where `fresh`."""
    try:
        if fresh:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    except (OSError, IndexError):
        return 0
