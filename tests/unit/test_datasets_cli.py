"""The command line: statuses, messages, two at once; and DVC around it."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.datasets import DatasetError, absent, load
from shared.datasets.__main__ import main
from shared.datasets.catalogue import REPO
from tests.made_archives import write_sources


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("LLP_DATA", str(tmp_path / "root"))
    monkeypatch.delenv("LLP_MIRROR", raising=False)
    return tmp_path / "root"


def test_fetch_and_verify(root, capsys):
    assert main(["verify", "digits"]) == 1
    assert "error: digits is not prepared" in capsys.readouterr().err
    assert main(["fetch", "digits", "two_moons"]) == 0
    assert "digits: ready in" in capsys.readouterr().err
    assert main(["fetch", "digits"]) == 0
    assert "digits: already in" in capsys.readouterr().err
    assert main(["verify", "digits"]) == 0
    assert capsys.readouterr().out == f"digits: whole, sha256 {load('digits').sha256}\n"


def test_failure_of_one_does_not_stop_the_next(root, tmp_path, capsys):
    rows = [{"name": "cifar10", "how": "mirror", "mirror": "x"}, {"name": "digits", "how": "generated"}]
    sources = write_sources(tmp_path / "sources.csv", *rows)
    assert main(["--sources", str(sources), "fetch", "cifar10", "digits"]) == 1
    shown = capsys.readouterr().err
    assert "error: LLP_MIRROR names no mirror folder" in shown and "digits: ready" in shown
    assert main(["--sources", str(tmp_path / "none.csv"), "list"]) == 1
    assert "none.csv cannot be read" in capsys.readouterr().err


def test_a_dataset_that_may_be_absent_is_ready_or_says_why_not(monkeypatch, tmp_path, capsys):
    row = {"name": "wbc_stained", "how": "mirror", "mirror": "cells", "url": ""}
    fetch = ["--sources", str(write_sources(tmp_path / "sources.csv", row)), "fetch", "wbc_stained", "--if-any"]
    note = tmp_path / "new" / "note.txt"
    assert main([*fetch, str(note)]) == 0
    assert note.read_text() == "LLP_MIRROR names no mirror folder\n"
    assert "wbc_stained: LLP_MIRROR names no mirror folder" in capsys.readouterr().err
    monkeypatch.setattr("shared.datasets.registry.obtain", lambda *args, **kwargs: None)
    assert main([*fetch, str(note)]) == 0
    assert note.read_text() == "ready\n" and [path.name for path in note.parent.iterdir()] == ["note.txt"]

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("shared.datasets.registry.obtain", interrupt)
    assert main([*fetch, str(tmp_path / "other.txt")]) == 1 and not (tmp_path / "other.txt").exists()


def test_what_may_be_absent():
    assert set(absent.OPTIONAL) == {"cifar100", "images_of_groups", "mnist", "wbc_stained"}
    assert DatasetError("any").not_run


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("plain", [None, "ready", "no"])
@pytest.mark.parametrize("cached", [None, "ready", "no"])
def test_notes_that_are_no_longer_true_are_removed_together(root, monkeypatch, tmp_path, there, built, plain, cached):
    monkeypatch.setattr(absent, "is_prepared", lambda name: there)
    notes = {tmp_path / absent.note_on("cifar100"): plain, tmp_path / absent.note_on("cifar100", features=True): cached}
    for path, said in notes.items():
        if said:
            absent.write_note(path, said)
    if built:
        absent.write_note(root / "features" / "cifar100" / "manifest.json", "{}")
    absent.forget_untrue("cifar100", tmp_path)
    truth = "ready" if there else "no"
    untrue = {plain, cached} - {None, truth} or (there and cached and not built)
    assert [path.exists() for path in notes] == [bool(said) and not untrue for said in notes.values()]


def test_a_note_of_absence_is_untrue_once_the_mirror_has_the_set(monkeypatch, tmp_path):
    """LLP_MIRROR was set as the note advised, and nothing came of it."""
    note, cached = (tmp_path / absent.note_on("mnist", features=features) for features in (False, True))

    def noted(text=None):
        """Whether notes that say this, or what `fetch` says, are kept."""
        if text is None:
            assert main(["fetch", "mnist", "--from", "mirror", "--if-any", str(note)]) == 0
        else:
            absent.write_note(note, text)
        absent.write_note(cached, note.read_text())
        absent.forget_untrue("mnist", tmp_path)
        assert note.exists() == cached.exists()
        return note.exists()

    mirror = tmp_path / "a mirror"
    assert noted() and noted("mnist could not be obtained; mirror: LLP_MIRROR names no mirror folder; official: x")
    monkeypatch.setenv("LLP_MIRROR", str(mirror))
    assert noted()
    for path in (mirror, mirror / "MNIST"):
        path.mkdir()
        assert noted()
    absent.write_note(note, f"LLP_MIRROR names {mirror}, which holds none of MNIST/raw mnist")
    (mirror / "mnist").mkdir()
    absent.forget_untrue("mnist", tmp_path)
    assert not note.exists()
    assert noted() and "is missing, and so is" in note.read_text()  # tried with this mirror: once is enough
    time.sleep(0.02)
    (mirror / "mnist/train-images-idx3-ubyte").touch()
    absent.forget_untrue("mnist", tmp_path)
    assert not note.exists() and not cached.exists()


@pytest.mark.parametrize(
    "argv",
    [
        *([], ["fetch"], ["fetch", "mnits"], ["get", "digits"], ["fetch", "digits", "--from", "x"]),
        *(["fetch", "digits", "--if-any", "x"], ["fetch", "cifar100", "wbc_stained", "--if-any", "x"]),
    ],
)
def test_wrong_usage(argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2


def test_interruption_and_unwritable_root(monkeypatch, tmp_path, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shared.datasets.registry.obtain", interrupt)
        assert main(["fetch", "digits"]) == 1
    assert "interrupted; run the same command again" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLP_DATA", str(tmp_path / "file"))
    assert main(["fetch", "digits"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: digits: ") and str(tmp_path / "file") in shown and shown.count("\n") == 1


def test_full_disk_is_noticed_before_starting(monkeypatch, capsys):
    monkeypatch.setattr("shared.datasets.download.shutil.disk_usage", lambda path: type("", (), {"free": 5_000_000}))
    assert main(["fetch", "digits"]) == 1
    assert "has 5 MB free where digits needs 10 MB" in capsys.readouterr().err


def test_two_at_once(root):
    command = [sys.executable, "-m", "shared.datasets", "fetch", "simulated_images"]
    both = [subprocess.Popen(command, cwd=REPO, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(": ready in" in text for text in said) == [False, True]
    assert sorted(path.name for path in root.iterdir()) == [".simulated_images.lock", "simulated_images"]


@pytest.mark.slow
def test_dvc_repro_push_pull(tmp_path):
    """In a bare copy: repro makes what is needed, push and pull bring what a person adds, status of a clone is calm."""
    repo = tmp_path / "repo"
    (repo / "data").mkdir(parents=True)
    (repo / "shared").mkdir()
    shutil.copytree(REPO / "shared/datasets", repo / "shared/datasets", ignore=shutil.ignore_patterns("__pycache__"))
    own = [f"data/{name}" for name in (".gitignore", "sources.csv", "dvc.yaml", "dvc.lock")]
    for name in ("shared/__init__.py", "shared/files.py", ".dvcignore", *own):
        shutil.copy(REPO / name, repo / name)
    shutil.copytree(REPO / "data/pins", repo / "data/pins")
    copy = "python -m shared.datasets fetch digits && cp data/digits/manifest.json seen.json"
    deps = ["data/pins/digits.txt", "data/pins/wbc_nuclick.txt"]  # of which the second cannot be had
    stage = {"paper": {"cmd": copy, "deps": deps, "outs": [{"seen.json": {"cache": False}}]}}
    (repo / "dvc.yaml").write_text(json.dumps({"stages": stage}))
    (repo / ".gitignore").write_text("__pycache__/\n")
    bin = Path(sys.executable).parent
    env = {
        **os.environ,
        "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "HOME": str(tmp_path),
    }
    env.pop("LLP_DATA")
    env.pop("LLP_MIRROR", None)

    def run(*command):
        done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def dvc(*command):
        return run(str(bin / "dvc"), *command)

    run("git", "init", "-q")
    dvc("init", "-q")
    dvc("config", "core.analytics", "false")
    dvc("repro", "-q")
    assert (repo / "seen.json").exists()
    assert {path.name for path in (repo / "data").iterdir() if path.is_dir()} == {"digits", "pins"}
    assert "didn't change" in dvc("repro") and "Running" not in dvc("repro")
    dvc("add", "-q", "data/digits")  # as the README has it of a set that is no output
    run("git", "add", "-A")
    run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all")
    dvc("remote", "add", "--local", "-d", "here", str(tmp_path / "remote"))
    dvc("push", "-q", "data/digits")
    shutil.rmtree(repo / "data/digits")
    shutil.rmtree(repo / ".dvc/cache")
    dvc("pull", "-q", "--allow-missing")
    assert load("digits", repo / "data").n_classes == 10
    said = dvc("status")  # of all sets, one of which is an output and not here
    assert said.split() == ["data/dvc.yaml:cifar10:", "changed", "outs:", "not", "in", "cache:", "data/cifar10"], said
    assert run("git", "status", "--short") == ""


def test_a_folder_in_the_mirror_or_beside_the_prepared_data_is_at_hand(tmp_path, monkeypatch):
    """Runs that were NOT RUN for want of it are then tried again, by Snakemake too."""
    monkeypatch.setenv("LLP_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("LLP_MIRROR", raising=False)
    assert not absent.at_hand("tissue")
    (tmp_path / "mirror" / "tissue").mkdir(parents=True)
    assert not absent.at_hand("tissue")
    monkeypatch.setenv("LLP_MIRROR", str(tmp_path / "mirror"))
    assert absent.at_hand("tissue")
    (tmp_path / "data" / "prepared").mkdir(parents=True)
    assert absent.at_hand("prepared")
    assert not absent.at_hand("tnbc")
    (tmp_path / "mirror/TNBC").mkdir(parents=True)
    monkeypatch.setenv("LLP_MIRROR", str(tmp_path / "mirror"))
    assert absent.at_hand("tnbc")
