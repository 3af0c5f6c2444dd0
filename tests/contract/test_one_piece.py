"""The library that `pip install git+...` makes: one name, nothing of the replications, the checkout's numbers."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import bagwise

ROOT = Path(__file__).parents[2]
BUILD = "import setuptools.build_meta as backend, sys; getattr(backend, sys.argv[1])(sys.argv[2])"

# Every loss with its gradient, and what else the table of the README has, to the last bit.
PIECES = r"""
import socket, sys

def refuse(*args, **more):
    raise OSError("this test allows no network")

socket.socket.connect = socket.getaddrinfo = refuse
import bagwise
assert "torch" not in sys.modules, "importing bagwise imports a piece"
import re, torch
torch.manual_seed(0)
section = open(sys.argv[1], encoding="utf-8").read().split("## Take one piece")[1].split("\n## ")[0]
values = {}
exec(re.search(r"```python\n(.*?)```", section, re.S)[1], values)
values["log_p"] = values["logits"].log_softmax(1)  # the block went back through its graph
for call in re.findall(r"^\| `\w+` \| `(.+?)` \|", section, re.M):
    answer = eval(call, values)
    answer = answer if isinstance(answer, tuple) else (answer,)
    print(call, *(value.tolist() for value in answer))
    if answer[0].requires_grad and answer[0].dim() == 0:
        print(*torch.autograd.grad(answer[0], values["logits"], retain_graph=True)[0].tolist())
sys.modules["sklearn"] = None  # as if it were not installed
from bagwise import *
try:
    bagwise.BagClassifier
except ModuleNotFoundError as error:
    assert str(error) == "BagClassifier needs sklearn: pip install 'bagwise[sklearn]'", error
del sys.modules["sklearn"]
assert "BagClassifier" in dir(bagwise)
for name in dir(bagwise):
    piece = getattr(bagwise, name)
    assert name.startswith("_") or callable(piece) or type(piece) is type(sys) or name in ("PIECES", "EXTRA"), name
print(*sorted({name.split(".")[0] for name in sys.modules} & {"bagwise", "shared", "papers"}), file=sys.stderr)
"""


def python(code, *arguments, cwd, path=""):
    """What a fresh Python says that finds `path` and nothing else of ours; what it compiles it keeps where users do."""
    env = {"PYTHONPATH": str(path), "CUDA_VISIBLE_DEVICES": "", "HOME": os.environ.get("HOME", str(cwd))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What a build reads of a checkout."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    for name in ("bagwise", "shared", "papers"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def library(clone):
    """A folder that holds the library as `pip install --target` would put it there."""
    done = python(BUILD, "build_wheel", clone / "wheel", cwd=clone)
    assert done.returncode == 0, done.stderr
    (wheel,) = (clone / "wheel").iterdir()
    zipfile.ZipFile(wheel).extractall(clone / "library")
    return clone / "library"


def test_it_has_one_name_and_no_word_of_the_rooms_of_a_checkout(library):
    """`shared` and `papers` at the top of site-packages would be anybody's."""
    assert sorted(path.name for path in library.iterdir()) == ["bagwise", f"bagwise-{bagwise.__version__}.dist-info"]
    texts = {path: path.read_text() for path in library.rglob("*.py*")}
    assert len(texts) > 30
    assert [str(path) for path, text in texts.items() if re.search(r"(from|import) (shared|papers)\b", text)] == []


def test_it_holds_pieces_and_no_replication(library):
    files = {path.relative_to(library / "bagwise").as_posix() for path in library.rglob("*.py")}
    assert "rot/loss.py" in files
    assert not [name for name in files if name.endswith(("/train.py", "/tables.py")) or "detection" in name]
    assert not [name for name in files if name.startswith(("datasets", "comparison", "tables", "plotting", "report"))]
    assert "from bagwise.rot.loss import rot_loss as rot_loss" in (library / "bagwise" / "__init__.pyi").read_text()


def test_its_numbers_are_those_of_the_checkout(library, tmp_path):
    taken, here = (python(PIECES, ROOT / "README.md", cwd=tmp_path, path=path) for path in (library, ROOT))
    assert (taken.returncode, here.returncode) == (0, 0), taken.stderr + here.stderr
    loaded = [done.stderr.splitlines()[-1].split() for done in (taken, here)]
    assert loaded == [["bagwise"], ["bagwise", "papers", "shared"]]
    assert taken.stdout == here.stdout
    assert len(taken.stdout.splitlines()) >= 12


def test_an_editable_install_is_refused_in_a_sentence(clone):
    done = python(BUILD, "build_editable", clone / "editable", cwd=clone)
    assert done.returncode != 0
    assert f"bagwise is built, not linked: use `pip install {clone}`" in done.stderr.splitlines()[-1]


def test_an_unknown_piece_is_refused_with_those_there_are():
    with pytest.raises(AttributeError, match=r"no piece 'rot_los'; its pieces are .*rot_loss"):
        bagwise.rot_los  # noqa: B018
    assert set(bagwise.__all__) <= set(dir(bagwise))
