"""What leaks in from outside: variables, locales, folders, disks. Each works, or is refused in one sentence."""

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.config import ConfigError, default_tier, tiers
from shared.datasets import DatasetError, data_root, fetch, load, verify
from shared.datasets import store as data_store
from shared.datasets.__main__ import main as datasets
from shared.datasets.places import check_tracked, mirror_root

ROOT = Path(__file__).parents[2]
DRAW = """
import sys
from pathlib import Path
from shared import plotting
plotting.use_style()
figure, axis = plotting.plt.subplots()
axis.set_title("ε ± ü")
plotting.save_figure(figure, Path(sys.argv[1]) / "figure")
from shared.tables.numbers import write_markdown
import pandas
write_markdown(pandas.DataFrame({"accuracy": ["64.80 ± 0.41 – ε"]}), Path(sys.argv[1]) / "table.md", "Tüble", [])
print("± ε – ü")
"""


def python(code, folder, **environment):
    """Run a program that lies in a folder of its own, so that no argument needs the encoding of the shell."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    (folder / "draw.py").write_text(code, encoding="utf-8")
    return subprocess.run([sys.executable, "draw.py", "."], cwd=folder, env=env, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    "environment",
    [
        {"MPLBACKEND": "module://of_a_notebook"},
        {"MPLBACKEND": "no backend"},
        {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"NUMBA_NUM_THREADS": "", "OMP_NUM_THREADS": "", "MKL_NUM_THREADS": ""},
    ],
    ids=lambda environment: " ".join(f"{k}={v}" for k, v in environment.items())[:40],
)
def test_figures_and_tables_are_made_in_any_environment(tmp_path, environment):
    done = python(DRAW, tmp_path, **environment)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert "64.80 ± 0.41 – ε" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"draw.py", "figure.svg", "figure.png", "table.md"}


@pytest.mark.parametrize("threads", ["", "abc", "0", "-1", "3.5", "1"])
def test_exact_transport_runs_with_any_number_of_threads(threads, monkeypatch):
    import torch

    from shared.transport import exact

    monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
    assert exact(torch.zeros(4, 2), torch.tensor([0, 4]), torch.tensor([[0.5, 0.5]])).converged.all()


def test_every_text_file_is_opened_as_utf_8():
    """A Latin-1 locale broke the tables."""
    wrong = []
    for path in [*ROOT.glob("shared/**/*.py"), *ROOT.glob("papers/**/*.py"), *ROOT.glob("workflows/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            mode = next((arg.value for arg in node.args if isinstance(arg, ast.Constant)), "")
            mode = mode if isinstance(mode, str) and name == "open" else ""
            of_text = name in ("read_text", "write_text") or (name == "open" and isinstance(node.func, ast.Name))
            of_text = of_text and "b" not in mode and len(node.args) < 2
            if of_text and not any(k.arg in ("encoding", None) for k in node.keywords) and path.name != "prepared.py":
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []


# ---------------------------------------------------------------------------------------------------------- variables


def test_places_are_whole_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for variable, place in (("LLP_DATA", data_root), ("LLP_MIRROR", mirror_root)):
        for said, meant in (("~/x", "x"), ("mit Lücke/ä", "mit Lücke/ä"), ("../" + tmp_path.name, ".")):
            monkeypatch.setenv(variable, said)
            assert place().resolve() == (tmp_path / meant).resolve()
        monkeypatch.setenv(variable, "~nobody-of-this-name/x")
        with pytest.raises(DatasetError, match="~nobody-of-this-name/x begins with a ~ that names no home"):
            place()
    monkeypatch.setenv("LLP_MIRROR", "")
    assert mirror_root() is None


def test_an_empty_tier_is_none(monkeypatch):
    monkeypatch.setenv("LLP_TIER", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert default_tier() == "quick"


def test_stray_files_are_no_tiers(tmp_path):
    (tmp_path / "config").mkdir()
    for name in ("quick.yaml", "._quick.yaml", ".quick.yaml.swp", "quick.yaml~", "#quick.yaml#", "cpu.orig"):
        (tmp_path / "config" / name).write_bytes(b"\xff\x00")
    assert tiers(tmp_path) == ["quick"]


def test_dvc_is_told_that_data_lie_elsewhere(tmp_path, monkeypatch, capsys):
    """It said "output does not exist" after the download."""
    monkeypatch.setenv("LLP_DATA", str(tmp_path / "x"))
    check_tracked()
    monkeypatch.setenv("DVC_STAGE", "data/dvc.yaml:digits")
    assert datasets(["fetch", "digits"]) == 1
    assert "LLP_DATA is" in (said := capsys.readouterr().err) and "unset LLP_DATA, or make that folder a link" in said
    assert not (tmp_path / "x").exists()


# ------------------------------------------------------------------------------------------------------------- folders


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    root = tmp_path / "mit Lücke" / "dätä"
    monkeypatch.setenv("LLP_DATA", str(root))
    fetch("two_moons")
    return root


def test_prepared_data_may_be_read_only(prepared):
    folders = [prepared / "two_moons", prepared]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert fetch("two_moons") is None and load("two_moons").n_classes == 2 and verify("two_moons")
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setenv("LLP_DATA", str(tmp_path))
    monkeypatch.setattr(data_store.fcntl, "flock", refuse)
    assert fetch("two_moons") == "generated" and load("two_moons").n_classes == 2
    assert "cannot be locked (No locks available); let no other process prepare two_moons" in capsys.readouterr().err


def test_a_full_disk_is_named_and_leaves_what_was_there(prepared, monkeypatch, capsys):
    before = verify("two_moons")
    (prepared / "two_moons/manifest.json").rename(prepared / "kept")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    assert datasets(["fetch", "two_moons"]) == 1
    assert "two_moons: No space left on device" in capsys.readouterr().err
    (prepared / "kept").rename(prepared / "two_moons/manifest.json")
    assert verify("two_moons") == before


def test_an_error_of_configuration_names_the_undecodable_file(tmp_path):
    from shared.config.files import read_yaml

    (tmp_path / "a.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match=r"a\.yaml is not a text in UTF-8 \(byte 3: invalid start byte\)"):
        read_yaml(tmp_path / "a.yaml")
