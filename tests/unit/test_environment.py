"""What leaks in from outside: variables, locales, folders, disks. Each works, or is refused in one sentence."""

import ast
import contextlib
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def python(code, folder, *arguments, **environment):
    """Run a program that lies in a folder of its own, so that no argument needs the encoding of the shell."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    (folder / "draw.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-B", "draw.py", *(arguments or ["."])]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, timeout=900)


@pytest.mark.parametrize(
    "environment",
    [
        {"MPLBACKEND": "module://of_a_notebook"},
        {"MPLBACKEND": "no backend", "NUMBA_NUM_THREADS": "", "OMP_NUM_THREADS": "", "MKL_NUM_THREADS": ""},
        {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
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


@pytest.mark.parametrize(("threads", "passed_over"), [("0", True), (" -3", True), ("1", False)])
def test_numba_is_told_no_number_of_threads_that_it_stops_at(tmp_path, threads, passed_over):
    """It could not be imported: every run that solves exactly failed with its traceback."""
    said = "import shared.runs.workers, numba; print(numba.config.NUMBA_NUM_THREADS > 0)"
    done = python(said, tmp_path, NUMBA_NUM_THREADS=threads)
    assert done.returncode == 0 and done.stdout.split() == [b"True"]
    assert (f"NUMBA_NUM_THREADS={threads} is passed over: it must be 1 or more" in done.stderr.decode()) is passed_over


CODE = ("shared/**/*.py", "papers/**/*.py", "workflows/*.py", "workflows/*.smk", "benchmarks/**/*.py", "Snakefile")
OPENING = r"[\w.]*\b(?:open|read_text|write_text|fdopen|TextIOWrapper|run|Popen|check_output)\("
OWN_OPEN = ("Image", "prepared", "tarfile", "os", "webbrowser")  # whose open() takes no encoding
PACKED = ("gzip", "bz2", "lzma")  # whose open() is of bytes unless told


def calls_of(text, is_python):
    """The calls in a file; of Snakemake, whose rules Python cannot parse, those that open something, each by itself."""
    if is_python:
        return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    found = []
    for start in (match.start() for match in re.finditer(OPENING, text)):
        ends = (end for end in range(start, len(text)) if text[end] == ")" and parsed(text[start : end + 1]))
        found.append(parsed(text[start : next(ends) + 1]).body)
    return found


def parsed(text):
    with contextlib.suppress(SyntaxError):
        return ast.parse(f"_{text}" if text.startswith(".") else text, mode="eval")


def leaves_the_encoding_to_the_locale(call):
    """Whether a call reads or writes text without saying what its bytes mean."""
    given = {word.arg: getattr(word.value, "value", "") for word in call.keywords}
    of, name = getattr(getattr(call.func, "value", None), "id", ""), getattr(call.func, "attr", "")
    name = name or getattr(call.func, "id", "")
    if "encoding" in given or None in given:
        return False
    if of == "subprocess":
        return bool(given.get("text") or given.get("universal_newlines"))
    if name in ("read_text", "write_text"):  # of a path; those of shared.files are functions
        return isinstance(call.func, ast.Attribute) and len(call.args) < 2
    if name not in ("open", "fdopen", "TextIOWrapper") or (of in OWN_OPEN and name == "open"):
        return False
    words = [getattr(node, "value", "") for arg in call.args for node in ast.walk(arg)]
    mode = given.get("mode") or next((w for w in words if isinstance(w, str) and re.fullmatch("[rwxabt+]{1,3}", w)), "")
    return "t" in mode if of in PACKED else "b" not in mode


def test_every_text_is_read_and_written_as_utf_8():
    """A Latin-1 locale broke the tables."""
    wrong = []
    for path in (path for pattern in CODE for path in ROOT.glob(pattern)):
        calls = calls_of(path.read_text(encoding="utf-8"), path.suffix == ".py")
        wrong += [f"{path.relative_to(ROOT)}: {ast.unparse(c)}" for c in calls if leaves_the_encoding_to_the_locale(c)]
    assert wrong == []


@pytest.mark.parametrize("is_python", [True, False], ids=["python", "snakemake"])
@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("open(path)", True),
        ("Path('a').open('w')", True),
        ("path.open('rb')", False),
        ("open(path, 'w', encoding='utf-8')", False),
        ("gzip.open(path, 'rt')", True),
        ("gzip.open(path)", False),
        ("lzma.open(path, mode='wt', encoding='utf-8')", False),
        ("Path('b', 'c').read_text()", True),
        ("read_text(path, ConfigError)", False),
        ("path.write_text(f'{a}) {b}')", True),
        ("subprocess.run(['git'], text=True)", True),
        ("subprocess.run(['git'], capture_output=True)", False),
        ("subprocess.Popen(['git'], universal_newlines=True)", True),
        ("subprocess.check_output(['git'], encoding='utf-8')", False),
    ],
)
def test_a_text_without_an_encoding_is_seen(is_python, text, seen):
    text = text if is_python else f"rule a:\n    input:\n        {text},\n    shell:\n        'echo {{input}}'\n"
    assert any(map(leaves_the_encoding_to_the_locale, calls_of(text, is_python))) is seen


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


def test_prepared_data_are_not_written_to(prepared):
    """Permissions stop nobody who is root, as in a container."""

    def everything():
        paths = [prepared, *prepared.rglob("*")]
        return {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths}

    before = everything()
    assert fetch("two_moons") is None and load("two_moons").n_classes == 2 and verify("two_moons")
    assert everything() == before


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
    said = f"two_moons: {prepared}: No space left on device; make room and call again"
    assert said in capsys.readouterr().err and not list(prepared.glob("*.new"))
    (prepared / "kept").rename(prepared / "two_moons/manifest.json")
    assert verify("two_moons") == before


def test_a_disk_that_takes_a_part_is_named_and_gets_it_back(tmp_path, places):
    """Half a set stayed on the disk that was full, and NumPy's words for it name neither a file nor what to do."""
    folder = places[0] / "own"
    for kind, pixels in (("images", np.zeros((60, 60, 3), np.uint8)), ("labels", np.eye(60, dtype=np.uint8))):
        (folder / kind).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / kind / "a.png")
    code = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40)); "
    done = python(f"{code}runpy.run_module('shared.datasets', run_name='__main__')", tmp_path, "fetch", "own", "digits")
    own, digits = (line for line in done.stderr.decode().splitlines() if line.startswith("error: "))
    assert own.startswith("error: own: ") and own.endswith("File too large; make room and call again")
    assert digits.startswith(f"error: digits: {places[1]}: ") and digits.endswith("; make room and call again")
    assert sorted(path.name for path in places[1].iterdir()) == [".digits.lock", ".own.lock"]


def test_an_error_of_configuration_names_the_undecodable_file(tmp_path):
    from shared.config.files import read_yaml

    (tmp_path / "a.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match=r"a\.yaml is not a text in UTF-8 \(byte 3: invalid start byte\)"):
        read_yaml(tmp_path / "a.yaml")
