"""What the READMEs show works as written: Python runs, commands and files they name exist."""

import ast
import re
from pathlib import Path

import pytest

from shared.config import plan
from shared.config.outputs import with_listing

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("papers/*/README.md"))]
BLOCKS = [(path, block) for path in READMES for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.S)]


@pytest.mark.parametrize(
    ("path", "block"), BLOCKS, ids=[f"{path.parent.name}-{i}" for i, (path, _) in enumerate(BLOCKS)]
)
def test_python_in_a_readme_runs(path, block):
    exec(compile(block, str(path), "exec"), {})


def test_each_piece_that_can_be_taken_is_called_as_the_table_says():
    """The calls follow the block above them; what has gradients is finite."""
    section = (ROOT / "README.md").read_text().split("## Take one piece")[1].split("\n## ")[0]
    block = re.search(r"```python\n(.*?)```", section, re.S)[1]
    calls = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", section, re.M)
    names = {alias.name for node in ast.parse(block).body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {name for name, _ in calls} == names
    values = {}
    exec(compile(block, "README.md", "exec"), values)
    for name, call in calls:
        assert call.startswith(name)
        answer = eval(call, values)
        first = answer[0] if isinstance(answer, tuple) else answer
        assert first.isfinite().all(), call


def test_make_targets_a_readme_names_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {name for path in READMES for name in re.findall(r"(?:^|`)make ([a-z]+)", path.read_text(), re.M)}
    assert {"reproduce", "test", "bench", "adopt"} <= named <= targets


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_no_placeholder_is_left(path):
    assert not re.search(r"@[A-Z]+@|TODO|TBD", path.read_text())


@pytest.mark.parametrize("path", READMES[1:], ids=lambda path: path.parent.name)
def test_the_list_of_what_a_paper_makes_is_that_of_its_outputs(path):
    """Where a README has the marks, what stands between them is made: python -m shared.config.outputs."""
    text = path.read_text()
    assert with_listing(text, path.parent.name) == text


def test_modules_a_readme_runs_exist():
    for path in READMES:
        for module in re.findall(r"python -m ([a-z_.]+)", path.read_text()):
            file = ROOT.joinpath(*module.split("."))
            assert file.with_suffix(".py").exists() or (file / "__main__.py").exists(), f"{path}: {module}"


@pytest.mark.parametrize("path", READMES[1:], ids=lambda path: path.parent.name)
def test_a_readme_counts_the_runs_of_each_tier(path):
    said = dict(re.findall(r"^\| `(quick|cpu|gpu|paper)` \| ([\d,]+) \|", path.read_text(), re.M))
    assert set(said) >= {"quick", "cpu", "gpu"}
    assert said == {tier: f"{len(plan(path.parent.name, tier)):,}" for tier in said}
