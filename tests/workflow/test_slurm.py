"""Training in shards on a real Slurm of one pretend node; one job is cancelled, comes back and goes on.

`make slurm` runs it; it needs Debian's slurm-wlm and munge, and requirements/slurm.txt.
"""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from shared.config import plan
from shared.records import read_index, record_path
from shared.runs.shards import deal
from tests.workflow import slurm
from tests.workflow.house import build, environment, ours, run

SHARDS = 3
CALL = [
    *("snakemake", "rot", "--profile", "profiles/slurm", "--config", "tier=smoke", f"shards={SHARDS}"),
    *("--cores", "1", "--default-resources", "runtime=60", "mem_mb=4000", "--set-resources", "rot_shard:gpu=1"),
    *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10"),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("LLP_SLURM"), reason="minutes long: `make slurm` runs it"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The environment of a Slurm that runs, and the folder of its logs."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="requirements/slurm.txt is not installed")
    if missing := slurm.lacking():
        pytest.skip(f"Slurm is not here, it lacks {', '.join(missing)}: install slurm-wlm and munge")
    folder = tmp_path_factory.mktemp("slurm") / "slurm"
    try:
        with slurm.started(folder) as variables:
            yield variables
    except slurm.CannotStart as error:
        pytest.skip(f"Slurm does not run here: {error}")


def asked(variables, *command):
    """What a program of Slurm prints, a list of words a line."""
    done = subprocess.run(command, env=environment(**variables), capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def kill_one(variables, house, process):
    """Kill a job that has made a record and has more to make; returns (its number, its shard)."""
    shards, end = deal(plan("rot", "smoke"), SHARDS), time.time() + 600
    while process.poll() is None and time.time() < end:
        for job, state, comment in asked(variables, "squeue", "-h", "-o", "%i %T %k"):
            shard = int(comment.rpartition("_")[2])
            paths = [record_path(house / "results/smoke/rot/runs", one.id) for one in shards[shard - 1]]
            if state == "RUNNING" and 0 < sum(path.exists() for path in paths) < len(paths) - 1:
                asked(variables, "scancel", "--signal=KILL", "--full", job)
                return job, shard
        time.sleep(0.1)
    raise AssertionError("no job was at work")


@pytest.fixture(scope="module")
def done(cluster, tmp_path_factory):
    """(a checkout where the workflow ran on Slurm, the job that was killed and its shard, what was said)."""
    house = build(tmp_path_factory.mktemp("cluster") / "house")
    out = house.parent / "said.txt"
    with out.open("w") as stream:
        process = subprocess.Popen(
            ours(CALL), cwd=house, env=environment(**cluster), stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            killed = kill_one(cluster, house, process)
            status = process.wait(1500)
        finally:
            process.terminate()
    said = out.read_text()
    assert status == 0, said[-8000:]
    return house, killed, said


def test_training_goes_to_slurm_and_the_rest_stays(done, cluster):
    """Downloads find no network on many compute nodes, and a table needs no GPU."""
    _, _, said = done
    fields = "JobID:20,tres-per-job:40,NumCPUs:20"
    jobs = asked(cluster, "squeue", "-h", "-t", "all", "-O", fields)
    assert len(jobs) == SHARDS + 1, f"{SHARDS} shards, one of them twice"
    assert {tuple(job[1:]) for job in jobs} == {("gres:gpu:1", "1")}
    assert said.count("has been submitted with SLURM jobid") == SHARDS + 1


def test_a_killed_job_is_submitted_again_and_goes_on(done, cluster):
    house, (killed, shard), _ = done
    ends = dict(asked(cluster, "squeue", "-h", "-t", "all", "-o", "%i %T"))
    assert ends.pop(killed) in ("FAILED", "CANCELLED") and set(ends.values()) == {"COMPLETED"}
    said = (house / f"results/smoke/logs/rot_shard{shard}.log").read_text()
    runs, todo = map(int, re.search(r": (\d+) runs, (\d+) to do", said).groups())
    assert todo < runs


def test_every_run_is_recorded_and_believed(done):
    house = done[0]
    runs, folder = plan("rot", "smoke"), house / "results/smoke/rot/runs"
    assert {row["status"] for row in read_index(folder).values()} == {"done"}
    assert {record_path(folder, one.id) for one in runs} == set(folder.rglob("*.json"))
    assert not list(Path(folder).rglob("*.part"))


def test_records_are_those_of_one_job_without_slurm(done):
    """Every record, trained again here in one sweep."""
    n = len(plan("rot", "smoke"))
    said = run(["python", "-m", "shared.runs.verify", "rot"], done[0])
    assert f"{n} same, 0 differs, 0 elsewhere, 0 failed, 0 outdated, 0 missing" in said


def test_a_second_call_submits_nothing(done, cluster):
    assert "Nothing to be done" in run(CALL, done[0], **cluster)
