"""Training as several jobs of Snakemake, in a copy of this repository: tier smoke, one paper in two shards."""

import os

import pytest

from shared.config import plan
from shared.records import read_index, record_path
from shared.runs.shards import deal
from tests.workflow.house import build, run

CONFIG = ["--config", "tier=smoke", "shards=2"]
RUNS = plan("rot", "smoke")
FAILS = RUNS[-1].id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6000)]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """(a checkout where `snakemake rot_train` has run once in two shards and one run failed, what was said)."""
    house = build(tmp_path_factory.mktemp("shards") / "house")
    record_path(house / "results/smoke/rot/runs", FAILS).mkdir(parents=True)  # where no record can be written
    return house, run(["snakemake", "rot_train", "--cores", "2", *CONFIG], house, status=1)


def test_every_run_has_its_record_made_by_one_shard_and_a_failed_one_costs_itself_only(first):
    house, said = first
    for n, shard in enumerate(deal(RUNS, 2), 1):
        assert f"rot, tier smoke, shard {n} of 2: {len(shard)} runs, {len(shard)} to do" in said
    assert f"rot: 1 of {len(RUNS)} runs have no result:" in said
    statuses = {run_id: row["status"] for run_id, row in read_index(house / "results/smoke/rot/runs").items()}
    assert statuses.pop(FAILS) == "failed" and set(statuses.values()) == {"done"} and len(statuses) == len(RUNS) - 1
    assert run(["git", "status", "--porcelain"], house) == ""


def test_one_job_makes_what_shards_have_left_and_nothing_else(first):
    house, _ = first
    record_path(house / "results/smoke/rot/runs", FAILS).rmdir()
    said = run(["snakemake", "rot_train", "--cores", "2", "--config", "tier=smoke"], house)
    assert f"{len(RUNS)} runs, 1 to do" in said and "[1/1]" in said and "Trained now: 1 runs" in said


def test_training_jobs_ask_for_all_gpus_that_torch_sees(first, tmp_path):
    """A torch and an nvidia-smi that pretend: the chosen tier, the first lines and the resource follow from them."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(
        "class cuda:\n    is_available = staticmethod(lambda: True)\n    device_count = staticmethod(lambda: 3)\n"
        "class version:\n    cuda = '13.0'\n    hip = None\n"
    )
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho GPU 0\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(tmp_path), "LLP_TIER": ""}
    said = run(["snakemake", "-n", "rot_train", "--cores", "6", "--quiet", "progress"], first[0], **environment)
    assert "Tier gpu: " in said and "gpu=3" in said
    assert "1 at once on each of 3 GPUs, cuda:0, cuda:1, cuda:2" in said
