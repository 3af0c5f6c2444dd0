"""SIGKILL at moments drawn by seed, files cut short, two at once: the same numbers at the end, or a sentence.

A kill waits until files have come, then for a moment more, so that few kills meet every stage. ``make faults`` kills a
hundred times.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from shared.config import plan
from shared.records import load_record, record_path
from tests.workflow.house import build, environment, ours, run

KILLS = int(os.environ.get("LLP_KILLS", "4"))
LONGEST = 1.0  # seconds from the last of the awaited files to the kill
CALL = ["snakemake", "rot", "--cores", "2"]
NUMBERS = ("metrics", "curves", "convergence", "bags", "data", "spec", "cluster")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(20000)]


def start(house, call=CALL):
    out = (house.parent / "said.txt").open("a")
    return subprocess.Popen(ours(call), cwd=house, env=environment(), stdout=out, stderr=out, start_new_session=True)


def written(house):
    """How many files a call has made: data, records, checkpoints, tables, figures, what Snakemake and sweeps note."""
    return sum(len(files) for place in ("results", ".work", "data") for *_, files in os.walk(house / place))


def killed_after(process, house, files, seconds):
    """Kill the call once `files` are there and seconds have gone; says whether it was still going."""
    limit = time.time() + 600
    while written(house) < files and process.poll() is None and time.time() < limit:
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    going = process.poll() is None
    kill(process)
    return going


def kill(process):
    """Kill a process and all that it has started, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def numbers(house):
    """{run id: what a rerun must have, too} of all records of ROT."""
    runs = house / "results/smoke/rot/runs"
    found = {run.id: load_record(record_path(runs, run.id)) for run in plan("rot", "smoke")}
    return {run_id: {part: record.get(part) for part in NUMBERS} for run_id, record in found.items()}


def products(house):
    """{name: bytes} of tables and figures; the comparison names days and commits."""
    folder = house / "results/smoke/rot"
    kinds = (".csv", ".md", ".svg")
    return {
        p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in kinds and p.stem not in ("comparison", "claims")
    }


def halves(house):
    """What an interrupted write would leave."""
    return [
        path for path in house.rglob("*") if path.suffix in (".part", ".new", ".tmp") and ".snakemake" not in path.parts
    ]


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    """(a checkout where `snakemake rot` ran straight, one where it was killed again and again, what its end said).

    Kills are spread over the files that the call makes, from none to the last.
    """
    straight = build(tmp_path_factory.mktemp("faults") / "straight")
    killed = shutil.copytree(straight, straight.with_name("killed"))
    before = written(straight)
    run(CALL, straight)
    made = written(straight) - before
    moments, going = random.Random(15), 0
    for n in range(KILLS):
        files = before + int(made * (n + moments.random()) / KILLS)
        going += killed_after(start(killed), killed, files, moments.uniform(0, LONGEST))
    assert going > KILLS / 2, "most calls ended before they were killed"
    return straight, killed, run(CALL, killed)


def test_killed_at_any_moment_it_ends_in_the_same_numbers(houses):
    straight, killed, said = houses
    assert numbers(killed) == numbers(straight)
    assert products(killed) == products(straight) and len(products(killed)) > 5
    # The last may have been killed when all was made but not said.
    assert "Results of tier smoke" in said or "Nothing to be done" in said


def test_no_half_file_is_left(houses):
    assert halves(houses[1]) == []
    changed = run(["git", "status", "--porcelain", "--untracked-files=all"], houses[1]).splitlines()
    assert [line for line in changed if "results/" not in line] == []
    assert "Nothing to be done" in run(CALL, houses[1])


def test_two_at_once_do_no_harm(houses):
    house = houses[1]
    (house / "results/smoke/rot/runs/index.csv").unlink()
    path = record_path(house / "results/smoke/rot/runs", plan("rot", "smoke")[0].id)
    path.unlink()  # so that there is something to train
    first, limit = start(house, ["snakemake", "rot_train", "--cores", "2"]), time.time() + 600
    while not any(house.glob(".snakemake/locks/*.lock")):
        assert first.poll() is None and time.time() < limit, "the first call took no lock"
        time.sleep(0.05)
    first.send_signal(signal.SIGSTOP)  # it holds its lock while the second call looks
    try:
        said = run(CALL, house, status=1)
    finally:
        first.send_signal(signal.SIGCONT)
    assert "cannot be locked" in said and "Traceback" not in said
    assert first.wait(600) == 0 and numbers(house) == numbers(houses[0])


def test_a_damaged_record_is_trained_again(houses):
    """One that was cut, one that is empty, one of zeros."""
    straight, house, _ = houses
    cut, empty, zeros = damaged = [
        record_path(house / "results/smoke/rot/runs", run.id) for run in plan("rot", "smoke")[:3]
    ]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    empty.write_bytes(b"")
    zeros.write_bytes(bytes(zeros.stat().st_size))
    said = run(["python", "-m", "shared.runs.sweep", "--paper", "rot"], house)
    assert "3 to do" in said and "to be trained again" in said and all(path.name in said for path in damaged)
    assert numbers(house) == numbers(straight)


def test_a_damaged_index_is_named(houses):
    house = houses[1]
    index = house / "results/smoke/rot/runs/index.csv"
    content = index.read_bytes()
    index.write_bytes(content[:-70])
    try:
        said = run(CALL, house, status=1)
        assert "index.csv, line" in said and "restore it from git, or delete it" in said and "Traceback" not in said
    finally:
        index.write_bytes(content)


def test_a_record_changed_by_hand_is_named_left_out_and_trained_again(houses):
    """An accuracy edited to 99 went into tables, comparison and exit status 0."""
    straight, house, _ = houses
    run_ = next(
        run for run in plan("rot", "smoke") if "accuracy" in numbers(straight)[run.id]["metrics"].get("last", {})
    )
    path = record_path(house / "results/smoke/rot/runs", run_.id)
    record = json.loads(path.read_text())
    path.write_text(path.read_text().replace(json.dumps(record["metrics"]), json.dumps({"last": {"accuracy": 99.0}})))
    for module in ("papers.rot.tables", "shared.comparison"):
        said = run(["python", "-m", module, *(["rot"] if module == "shared.comparison" else [])], house)
        assert f"{path.name}: record changed by hand" in said
    assert not any(b"99.0" in content for name, content in products(house).items() if name.endswith(".csv"))
    run(CALL, house)
    assert numbers(house) == numbers(straight) and products(house) == products(straight)


def test_a_failed_run_costs_itself_only_and_is_seen_at_the_end(houses):
    """It once cost the paper: Snakemake deleted the index, and tables that know of failures were never reached."""
    straight, house, _ = houses
    run_ = plan("rot", "smoke")[-1]
    path = record_path(house / "results/smoke/rot/runs", run_.id)
    path.unlink()
    path.mkdir()  # where no record can be written
    said = run(CALL, house, status=1)
    end = said[said.index("Results of tier smoke") :]
    assert f"rot: 1 of {len(plan('rot', 'smoke'))} runs have no result:" in end and run_.id in end
    assert f"{path.with_suffix('.log').name}" in end and "trains these runs and nothing else" in end
    assert "1 failed" in (house / "results/smoke/rot/comparison.md").read_text() and len(products(house)) > 5
    path.rmdir()
    said = run(CALL, house)
    assert "[1/1]" in said and numbers(house) == numbers(straight) and products(house) == products(straight)
