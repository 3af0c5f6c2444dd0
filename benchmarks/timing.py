"""What every benchmark needs: interleaved timing, peak memory, versions, and a table that is written whole."""

import csv
import ctypes
import io
import platform
import re
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch

from shared.records.store import write_text


def time_interleaved(
    calls: dict[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Milliseconds of every call, `repeats` each, in turns: a slow minute of the machine hits all of them alike."""
    taken = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            taken[name].append(1e3 * (time.perf_counter() - start))
    return taken


def peak_memory(call: Callable[[], object], device: torch.device) -> float:
    """MiB that a call needs beyond what was held before it.

    On a GPU the peak of torch's allocator. On Linux the growth of the process's peak resident memory, after free memory
    went back to the system: torch, numpy and C alike, in steps of a page and not below a few. NaN elsewhere.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from now
    except OSError:
        return float("nan")
    before = _resident_peak()
    call()
    return (_resident_peak() - before) / 1024


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, minimum and maximum."""
    return median(values), min(values), max(values)


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return f"{found[1] if found else platform.machine()}, {torch.get_num_threads()} threads"


def versions(*packages: str) -> str:
    """Python and the packages with their versions, in one line."""
    return ", ".join([f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows of equal keys as one CSV file, which appears complete or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def print_table(rows: list[dict[str, object]], columns: Iterable[str]) -> None:
    """Print some columns, numbers to the right."""
    columns = list(columns)
    cells = [columns, *([str(row[c]) for c in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print(
            "  ".join(
                f"{cell:>{w}}" if i else f"{cell:{w}}" for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
        )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _resident_peak() -> int:
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
