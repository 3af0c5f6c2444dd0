"""The `snakemake` launcher: what it makes of its arguments, and one real run with a bare `--cores`."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workflows.launcher import complete, install, translate, unlock

SNAKEFILE = """
rule all:
    input: "second.txt"

rule first:
    output: "first.txt"
    shell: "echo first > {output}"

rule second:
    input: "first.txt"
    output: "second.txt"
    shell: "cat {input} > {output}"
"""


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("all --cores", "all --cores all"),
        ("all -c", "all -c all"),
        ("--cores -n all", "--cores all -n all"),
        ("-c --cores", "-c all --cores all"),
        ("--cores -- all", "--cores all -- all"),
    ],
)
def test_bare_cores_means_all(typed, meant):
    assert translate(typed.split()) == meant.split()


@pytest.mark.parametrize(
    "typed",
    ["", "all --cores all", "--cores 2", "--cores=4", "-c1", "-c 1 all", "all -n", "--version", "-- -c", "--", "-pc"],
)
def test_the_rest_passes_untouched(typed):
    assert translate(typed.split()) == typed.split()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("all", "all --cores all"),
        ("all --config tier=smoke", "all --config tier=smoke --cores all"),
        ("-n -- all", "-n --cores all -- all"),
        ("-c1", "-c1"),
        ("all -j4", "all -j4"),
        ("all --profile profiles/slurm", "all --profile profiles/slurm"),
        ("--workflow-profile=mine", "--workflow-profile=mine"),
        ("--executor slurm", "--executor slurm"),
    ],
)
def test_without_a_word_on_cores_all_are_taken(typed, meant):
    """In profiles/default, which is added to a cluster's profile, it would be the cores of the log-in node."""
    assert complete(typed.split(), {}) == meant.split()
    assert complete(typed.split(), {"SNAKEMAKE_PROFILE": "mine"}) == typed.split()


def test_snakemake_all_cores_runs(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    folder = tmp_path / "a bin"
    folder.mkdir()
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "python").chmod(0o755)
    install(folder)
    command = [folder / "snakemake", "all", "--cores"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("read as --cores all") == 1
    assert (tmp_path / "second.txt").read_text() == "first\n"


def test_only_the_lock_of_a_dead_snakemake_is_removed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unlock(tmp_path / "none")
    assert not (tmp_path / "none").exists(), "there is no Snakefile"
    (tmp_path / "Snakefile").touch()
    locks = tmp_path / "locks"
    locks.mkdir()
    me = f"{os.getpid()} {platform.node()}"
    lock, holder = locks / "0.input.lock", tmp_path / "holder"
    lock.touch()
    unlock(tmp_path)
    assert lock.exists() and holder.read_text() == me, "whose lock it is, nobody said"
    alive = subprocess.Popen([sys.executable, "-c", "input()", "snakemake"], stdin=subprocess.PIPE)
    command = Path(f"/proc/{alive.pid}/cmdline")
    while command.exists() and not command.read_bytes():  # it is not yet what it will be
        time.sleep(0.01)
    holder.write_text(f"{alive.pid} {platform.node()}")
    unlock(tmp_path)
    assert lock.exists() and holder.read_text() == f"{alive.pid} {platform.node()}"
    lock.touch()
    alive.communicate(b"\n")
    unlock(tmp_path)
    assert not lock.exists() and "the call before was killed; its lock is removed" in capsys.readouterr().err
    assert holder.read_text() == me
    holder.write_text("1 elsewhere")
    lock.touch()
    unlock(tmp_path)
    assert lock.exists() and holder.read_text() == "1 elsewhere", "of another host nothing is known"
    holder.write_text(f"999999999 {platform.node()}")
    os.utime(lock, (1, 1))
    unlock(tmp_path)
    assert lock.exists(), "it is older than the holder, and so another's"
    lock.unlink()
    holder.write_text("1 elsewhere")
    assert unlock(tmp_path) and holder.read_text() == me, "else a lock that is this host's would later be another's"


def test_where_nothing_may_be_written_the_launcher_leaves_the_saying_to_snakemake(tmp_path, monkeypatch):
    """Even `--version` ended in a traceback in a checkout of another person's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").touch()
    (tmp_path / "taken").touch()
    assert not unlock(tmp_path / "taken")
