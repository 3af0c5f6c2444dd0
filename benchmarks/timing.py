"""What every benchmark needs: interleaved timing, peak memory, versions, and a table that is written whole."""

import argparse
import ctypes
import platform
import re
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch

from benchmarks.command import About
from benchmarks.stamp import COLUMN, write_rows
from benchmarks.stamp import stamp as stamp_of
from shared.runs.provenance import processor

Calls = dict[str, Callable[[], object]]
SHORT = 5.0  # milliseconds


def time_interleaved(calls: Calls, repeats: int, device: torch.device, warm: bool = True) -> dict[str, list[float]]:
    """Milliseconds of every call, `repeats` each, in turns: a slow minute of the machine hits all of them alike."""
    taken = {name: [] for name in calls}
    for call in calls.values() if warm else ():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(_once(call, device)[0])
    return taken


def time_within(
    calls: Calls, seconds: float, most: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, object]]:
    """As `time_interleaved`, in as many turns as fit so many seconds, at most `most`; quick peers first, then others.

    The first call is ours. Returned are the milliseconds of each, those of ours in the same turns, and the answers.
    Peers that together take longer than all turns may are called once.
    """
    ours = next(iter(calls))
    calls[ours]()  # reads what was compiled, or compiles it
    first, taken, beside, answers = {}, {}, {}, {}
    for name, call in calls.items():
        first[name], answers[name] = _once(call, device)
    quick = [name for name in calls if name != ours and 2 * most * first[name] <= 1e3 * seconds]
    for group in (quick, [name for name in calls if name not in (ours, *quick)]):
        turn = [ours, *group]
        repeats = min(most, int(1e3 * seconds / sum(first[name] for name in turn)))
        found = {name: [first[name]] for name in turn}
        if repeats and (group or ours not in taken):
            found = time_interleaved({name: calls[name] for name in turn}, repeats, device, warm=False)
        taken = found | taken
        beside |= dict.fromkeys(turn, found[ours])
    return taken, beside | {ours: taken[ours]}, answers


def _once(call: Callable[[], object], device: torch.device) -> tuple[float, object]:
    """The milliseconds of a call, and its answer.

    A call under `SHORT` is timed when it has just been made: else a good part of its time is that of filling caches
    which the call before it, another's, had emptied, and the order of the turns would decide who is faster.
    """
    for _ in range(2):
        _wait(device)
        start = time.perf_counter()
        answer = call()
        _wait(device)
        taken = 1e3 * (time.perf_counter() - start)
        if taken > SHORT:
            break
    return taken, answer


def seconds(call: Callable[[], object]) -> float:
    """How long the second of two calls takes, on the host."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


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
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts again from now
    except OSError:
        return float("nan")
    before = _resident_peak()
    call()
    return (_resident_peak() - before) / 1024


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, minimum and maximum."""
    return median(values), min(values), max(values)


def columns_of(name: str, values: list[float]) -> dict[str, str]:
    """Median, minimum and maximum as the three columns ``<name>_median``, ``_min`` and ``_max`` of a table."""
    return {
        f"{name}_{kind}": f"{value:.4g}" for kind, value in zip(("median", "min", "max"), spread(values), strict=True)
    }


def against_ours(
    solver: str, timed: float, taken: list[float], own: list[float], memory: float, **about: object
) -> dict[str, object]:
    """The row of a peer that was timed on `timed` bags, in turns with ours: milliseconds of all bags, ratio, memory.

    Parameters
    ----------
    taken, own : milliseconds of the peer, scaled to all bags, and of ours in the same turns.
    about : further columns, after the first.
    """
    ratios = [theirs / mine for theirs, mine in zip(taken, own, strict=True)]
    row = {"solver": solver, **about, "bags_timed": f"{timed:.4g}", "repeats": len(taken)}
    row |= columns_of("milliseconds", taken) | columns_of("ratio_to_ours", ratios)
    return row | {"peak_memory_mb": f"{memory:.3g}"}


def against_cross_entropy(calls: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> list[dict]:
    """One row a loss: milliseconds of its step, and the ratio to the step of "cross-entropy" in the same turn."""
    taken = time_interleaved(calls, repeats, device)
    rows = []
    for name in calls:
        ratios = [a / b for a, b in zip(taken[name], taken["cross-entropy"], strict=True)]
        rows.append({"loss": name} | columns_of("milliseconds", taken[name]) | columns_of("ratio", ratios))
    return rows


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} threads"


def versions(*packages: str) -> str:
    """Python and the packages with their versions, in one line."""
    return ", ".join([f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def report(
    args: argparse.Namespace,
    about: About,
    rows: list[dict[str, object]],
    device: torch.device,
    packages: Iterable[str],
    shown: Iterable[str],
    part: str = "",
) -> None:
    """Write a table of a benchmark and print some of its columns.

    It is ``<name>.csv``, of a second table ``<name>_<part>.csv``, of a GPU ``<name>_gpu.csv``, and every row says on
    what and with which versions it was made and which code was timed.
    """
    stamp = {"device": device_name(device), "threads": args.threads, "versions": versions(*packages)}
    stamp[COLUMN] = stamp_of(about)
    name = "_".join(filter(None, (about.name, part, "gpu" if device.type == "cuda" else "")))
    path = args.out / f"{name}.csv"
    write_rows(path, [row | {key: value for key, value in stamp.items() if key not in row} for row in rows])
    print(f"{path}, {stamp['device']}; {stamp['versions']}; {stamp[COLUMN]}:")
    print_table(rows, shown)


def print_aims(aims: Iterable[tuple[str, str, str]]) -> None:
    """Print what was hoped for beside what was measured: rows of (aim, wanted, measured)."""
    print()
    print_table(
        [dict(zip(("aim", "wanted", "measured"), aim, strict=True)) for aim in aims], ("aim", "wanted", "measured")
    )


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
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))[1])
