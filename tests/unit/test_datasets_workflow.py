"""The rules for a dataset that may be absent: a note says why, nothing is done twice, and fetched data are noticed."""

import os
import shutil
import subprocess
import sys

import pytest

from shared.datasets.catalogue import REPO
from shared.runs.machine import cores
from tests.unit.test_datasets_faces import release, row

SNAKEFILE = """
import os
from pathlib import Path

from shared.datasets.absent import forget_untrue, note_on

RESULTS, CLUSTER, CORES = "results", False, workflow.cores


def code(module):
    return []


include: "workflows/data.smk"


for name in ("images_of_groups", "wbc_stained"):
    forget_untrue(name, Path(workflow.basedir))


rule all:
    default_target: True
    input:
        note_on("images_of_groups"),
        note_on("wbc_stained", features=True),
"""

pytestmark = pytest.mark.slow


def test_absent_then_fetched_by_hand(tmp_path):
    house = tmp_path / "house"
    for name in ("workflows", "data"):
        (house / name).mkdir(parents=True)
    shutil.copy(REPO / "workflows/data.smk", house / "workflows")
    shutil.copy(REPO / "data/sources.csv", house / "data")
    shutil.copy(REPO / "environment.yml", house)
    (house / "Snakefile").write_text(SNAKEFILE)
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    env = {**os.environ, **nowhere, "PYTHONPATH": str(REPO), "LLP_DATA": str(tmp_path / "root"), "LLP_MIRROR": ""}
    images, features = house / ".work/data/images_of_groups.txt", house / ".work/data/features/wbc_stained.txt"

    def run(*command, **more):
        command = [sys.executable, "-m", *command]
        done = subprocess.run(command, cwd=house, env={**env, **more}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("snakemake", "--cores", "1")
    assert images.read_text().startswith("LLP_MIRROR names no mirror folder; get the release")
    assert features.read_text().startswith("wbc_stained could not be obtained")
    release(tmp_path / "mirror" / "ImagesOfGroups", {"Fam2a": {"a.jpg": [row()], "b.jpg": [row()]}})
    run("shared.datasets", "fetch", "images_of_groups", LLP_MIRROR=str(tmp_path / "mirror"))
    run("snakemake", "--cores", "1")
    assert images.read_text() == "ready\n"
    assert "Nothing to be done" in run("snakemake", "--cores", "1")
    # Snakemake counts the cores of the machine, of which a container may have a part.
    asked = run("snakemake", "--cores", "99", "--dry-run", "--force", ".work/data/features/wbc_stained.txt")
    assert f"threads: {cores()}\n" in f"{asked}threads: 1\n" and "threads: 99" not in asked
