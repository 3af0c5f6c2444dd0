"""Which code a record stands on: nothing it runs is left out, and nothing that computes nothing makes it stale."""

import ast
import shutil
from pathlib import Path

import pytest

from shared.config import repository
from shared.runs import code
from shared.runs.code import code_hash, sources

TREE = {
    "papers/__init__.py": "",
    "papers/toy/__init__.py": '"""A paper."""\n',
    "papers/toy/train.py": '''
"""One run."""
import os
import shared.alpha.one
from shared import datasets
from shared.alpha import two as second
from shared.config import Spec
from shared.beta import Name
from shared.gamma import thing


def train():
    """Docs."""
    from shared.late import later

    return later("# no comment")


if __name__ == "__main__":
    from shared.runs.one import main
''',
    "papers/toy/tables.py": "from papers.toy import train\n",
    "shared/__init__.py": "",
    "shared/alpha/__init__.py": "from shared.alpha import base\n\nSETTING = 1\n",
    "shared/alpha/base.py": "",
    "shared/alpha/one.py": "",
    "shared/alpha/two.py": "",
    "shared/alpha/other.py": "",
    "shared/beta.py": "class Name: pass\n",
    "shared/gamma/__init__.py": '''
"""A package that only passes names on."""
from shared.gamma.inner import Thing as thing
from shared.gamma.unused import other

__all__ = ["other", "thing"]
''',
    "shared/gamma/inner/__init__.py": "from shared.gamma.inner.deep import Thing\n",
    "shared/gamma/inner/deep.py": "class Thing: pass\n",
    "shared/gamma/unused.py": "other = 1\n",
    "shared/late.py": "later = str\n",
    "shared/config/__init__.py": "from shared.config.spec import Spec\n",
    "shared/config/spec.py": "from shared.config.files import read\n\nclass Spec: pass\n",
    "shared/config/files.py": "read = open\n",
    "shared/configurations.py": "",
    "shared/runs/__init__.py": "",
    "shared/runs/one.py": "main = print\n",
    "shared/datasets/__init__.py": "from shared.datasets import store\n",
    "shared/datasets/store.py": "import shared.late\n",
}


@pytest.fixture
def root(tmp_path):
    for name, text in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def names(module, root):
    return {path.relative_to(root).as_posix() for path in sources(module, root)}


def test_every_way_to_import_is_followed(root):
    assert names("papers.toy.train", root) == {
        "papers/toy/train.py",
        "shared/alpha/__init__.py",  # does something of its own when anything in the package is imported
        "shared/alpha/base.py",
        "shared/alpha/one.py",
        "shared/alpha/two.py",  # from package import module
        "shared/beta.py",  # from module import name
        "shared/config/files.py",  # what a carrier imports
        "shared/config/spec.py",
        "shared/gamma/inner/deep.py",  # where a name that two packages pass on comes from
        "shared/late.py",  # imported inside a function
    }


@pytest.mark.parametrize(
    ("at", "statement", "more"),
    [
        ("papers/toy/train.py", "from . import extra", {"papers/toy/extra.py"}),
        ("papers/toy/train.py", "from .extra import one", {"papers/toy/extra.py"}),
        ("papers/toy/train.py", "from .typing import one", {"papers/toy/typing.py"}),
        ("papers/toy/train.py", "from .. import other", {"papers/other.py"}),
        ("papers/toy/train.py", "from ..other import one", {"papers/other.py"}),
        ("papers/toy/train.py", "from papers.toy.extra import *", {"papers/toy/extra.py"}),
        ("papers/toy/train.py", "from shared.gamma import *", {"shared/gamma/unused.py"}),
        ("papers/toy/__init__.py", "from .extra import one", {"papers/toy/extra.py", "papers/toy/__init__.py"}),
        ("shared/gamma/__init__.py", "from .unused import *", {"shared/gamma/unused.py", "shared/gamma/__init__.py"}),
        (
            "shared/gamma/__init__.py",
            "from shared.gamma.unused import *",
            {"shared/gamma/unused.py", "shared/gamma/__init__.py"},
        ),
    ],
)
def test_relative_imports_and_those_of_everything_are_followed(root, at, statement, more):
    """What they imported was in no hash: a record stayed current whatever was changed there."""
    for name in ("papers/toy/extra.py", "papers/toy/typing.py", "papers/other.py"):
        (root / name).write_text("one = 1\n")
    before, hashed = names("papers.toy.train", root), code_hash("papers.toy.train", root)
    (root / at).write_text(f"{statement}\n{(root / at).read_text()}")
    assert names("papers.toy.train", root) == before | more
    other = code_hash("papers.toy.train", root)
    assert other != hashed
    changed = next(path for path in sorted(more) if not path.endswith("__init__.py"))
    (root / changed).write_text("one = 2\n")
    assert code_hash("papers.toy.train", root) != other


def test_the_command_line_of_a_module_is_not_part_of_what_it_computes(root):
    assert "shared/runs/one.py" not in names("papers.toy.train", root)


def test_what_only_carries_specs_and_records_changes_no_hash(root):
    """The record holds the spec that it carried; an edit of how a plan is made must train nothing again."""
    found = sources("papers.toy.train", root)
    computing = sources("papers.toy.train", root, carriers=False)
    carriers = {"shared/config/files.py", "shared/config/spec.py"}
    assert {path.relative_to(root).as_posix() for path in set(found) - set(computing)} == carriers
    before = code_hash("papers.toy.train", root)
    for name in carriers:
        (root / name).write_text((root / name).read_text() + "CONSTANT = 1\n")
    assert code_hash("papers.toy.train", root) == before


def test_a_module_whose_name_begins_like_a_carriers_is_none(root):
    before = code_hash("papers.toy.train", root)
    path = root / "papers/toy/train.py"
    path.write_text(path.read_text().replace("import os\n", "import os\nimport shared.configurations\n"))
    assert root / "shared/configurations.py" in sources("papers.toy.train", root, carriers=False)
    after = code_hash("papers.toy.train", root)
    (root / "shared/configurations.py").write_text("CONSTANT = 1\n")
    assert len({before, after, code_hash("papers.toy.train", root)}) == 3


def test_of_a_carrier_itself_its_own_code_counts(root):
    before = code_hash("shared.config", root)
    (root / "shared/config/files.py").write_text("read = None\n")
    assert code_hash("shared.config", root) != before


def test_a_package_that_passes_names_on_is_seen_through(root):
    """A new module in a package must not outdate the records of those who use another; a name moved must."""
    before = code_hash("papers.toy.train", root)
    init = root / "shared/gamma/__init__.py"
    init.write_text(init.read_text() + "from shared.late import later\n")
    (root / "shared/gamma/unused.py").write_text("other = 2\n")
    assert code_hash("papers.toy.train", root) == before
    init.write_text("from shared.beta import Name as thing\n")
    assert code_hash("papers.toy.train", root) != before


def test_a_package_imported_whole_counts_whole(root):
    (root / "papers/toy/other.py").write_text("import shared.gamma\n")
    assert {"shared/gamma/inner/deep.py", "shared/gamma/unused.py"} <= names("papers.toy.other", root)


def test_datasets_are_not_followed_from_outside_but_are_from_inside(root):
    assert not any(name.startswith("shared/datasets") for name in names("papers.toy.train", root))
    assert {"shared/datasets/store.py", "shared/late.py"} <= names("shared.datasets", root)


def test_a_paper_that_imports_another_runs_its_code(root):
    assert names("papers.toy.train", root) < names("papers.toy.tables", root)


def test_sources_are_sorted_and_exist(root):
    found = sources("papers.toy.train", root)
    assert found == sorted(found) and all(path.is_file() for path in found)


def test_a_module_that_is_not_there_is_refused(root):
    with pytest.raises(ModuleNotFoundError, match="numpy is not a module of papers or shared"):
        sources("numpy", root)


TEXT = TREE["papers/toy/train.py"]
SAME = {
    "comment": TEXT.replace("import os\n", "import os  # for nothing\n# a line\n"),
    "docstring": TEXT.replace('"""Docs."""', '"""Other\n    docs, longer.\n    """'),
    "module docstring": TEXT.replace('"""One run."""', '"""Another."""'),
    "blank lines": TEXT.replace("import os\n", "\n\nimport os\n\n"),
    "space at the end": TEXT.replace("import os\n", "import os   \n"),
    "shape of lines": TEXT.replace('return later("# no comment")', 'return later(\n        "# no comment",\n    )'),
    "quotes": TEXT.replace('"# no comment"', "'# no comment'"),
    "what a function returns": TEXT.replace("def train():", "def train() -> None:"),
    "import of a type": TEXT.replace("import os\n", "import os\nfrom typing import Any\n"),
    "type of a variable": TEXT.replace("    return later", "    text: str\n    return later"),
}
OTHER = {
    "statement": TEXT.replace("import os\n", "import sys\n"),
    "indented": TEXT.replace("    return", "    1\n    return"),
    "text after #": TEXT.replace("# no comment", "# some comment"),
    "argument": TEXT.replace("def train():", "def train(seed: int):"),
    "variable": TEXT.replace("    return later", "    text: str = ''\n    return later"),
    "string that is no docstring": TEXT.replace("import os\n", 'import os\n"""value"""\n'),
}


@pytest.mark.parametrize("kind", SAME)
def test_what_does_not_run_does_not_change_the_hash(root, kind):
    before = code_hash("papers.toy.train", root)
    assert SAME[kind] != TEXT
    (root / "papers/toy/train.py").write_text(SAME[kind])
    assert code_hash("papers.toy.train", root) == before


@pytest.mark.parametrize("kind", OTHER)
def test_what_runs_changes_the_hash(root, kind):
    before = code_hash("papers.toy.train", root)
    assert OTHER[kind] != TEXT
    (root / "papers/toy/train.py").write_text(OTHER[kind])
    assert code_hash("papers.toy.train", root) != before


def test_code_beside_a_docstring_on_one_line_changes_the_hash(root):
    path = root / "shared/beta.py"
    path.write_text('class Name(int): "An integer."\n')
    before = code_hash("papers.toy.train", root)
    path.write_text('class Name(float): "An integer."\n')
    assert code_hash("papers.toy.train", root) != before


def test_the_type_of_an_argument_does_not_change_the_hash_but_that_of_a_field_does(root):
    path = root / "shared/beta.py"
    bare = "class Name:\n    size = 1\n\n    def of(self, other=2):\n        both = other\n        return both\n"
    typed = bare.replace("(self, other=2):", "(self, other: int = 2) -> int:").replace("both =", "both: int =")
    texts = {"bare": bare, "typed": typed, "field": bare.replace("size =", "size: int =")}
    found = {}
    for kind, text in texts.items():
        path.write_text(text)
        found[kind] = code_hash("papers.toy.train", root)
    assert found["bare"] == found["typed"] != found["field"]


@pytest.mark.parametrize("changed", ["shared/alpha/__init__.py", "shared/late.py", "shared/alpha/base.py"])
def test_code_imported_far_away_changes_the_hash(root, changed):
    before = code_hash("papers.toy.train", root)
    (root / changed).write_text((root / changed).read_text() + "CONSTANT = 1\n")
    assert code_hash("papers.toy.train", root) != before


@pytest.mark.parametrize("changed", ["shared/alpha/other.py", "shared/runs/one.py", "shared/datasets/store.py"])
def test_code_that_the_module_never_runs_does_not_change_the_hash(root, changed):
    before = code_hash("papers.toy.train", root)
    (root / changed).write_text("CONSTANT = 1\n")
    assert code_hash("papers.toy.train", root) == before


def test_the_hash_does_not_know_where_the_checkout_lies(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("other") / "deep"
    shutil.copytree(root, elsewhere)
    assert code_hash("papers.toy.train", elsewhere) == code_hash("papers.toy.train", root)


def test_a_moved_line_between_files_changes_the_hash(root):
    before = code_hash("papers.toy.train", root)
    (root / "shared/alpha/one.py").write_text("A = 1\n")
    one = code_hash("papers.toy.train", root)
    (root / "shared/alpha/one.py").write_text("")
    (root / "shared/alpha/two.py").write_text("A = 1\n")
    assert len({before, one, code_hash("papers.toy.train", root)}) == 3


def test_an_answer_is_kept_until_a_file_changes_and_a_damaged_memory_is_passed_over(root, monkeypatch):
    found, digest = sources("papers.toy.train", root), code_hash("papers.toy.train", root)
    kept = root / code.MEMORY
    code._answers.cache_clear()  # as in another process
    with monkeypatch.context() as patch:
        patch.setattr(code, "_sources", None)
        assert sources("papers.toy.train", root) == found and code_hash("papers.toy.train", root) == digest
    for text in (
        "",
        "[]",
        "{}",
        kept.read_text()[:-9],
        kept.read_text().replace('"answers": {', '"answers": 3, "x": {'),
    ):
        code._answers.cache_clear()
        kept.write_text(text)
        assert sources("papers.toy.train", root) == found and code_hash("papers.toy.train", root) == digest
    (root / "shared/alpha/one.py").write_text("import shared.alpha.other\n")
    assert root / "shared/alpha/other.py" in sources("papers.toy.train", root)


class TestRepository:
    """The same of the repository's own code."""

    @pytest.fixture
    def copy(self, tmp_path):
        for package in ("papers", "shared"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(repository() / package, tmp_path / package, ignore=ignore)
        return tmp_path

    def test_an_edit_of_transport_makes_rot_stale_but_not_the_cached_features(self, copy):
        modules = ("papers.rot.train", "shared.training.features")
        before = [code_hash(module, copy) for module in modules]
        assert before == [code_hash(module) for module in modules]
        path = copy / "shared/transport/unbalanced.py"
        path.write_text(path.read_text() + "\nSOMETHING = 1\n")
        after = [code_hash(module, copy) for module in modules]
        assert after[0] != before[0] and after[1] == before[1]

    @pytest.mark.parametrize(
        "name", ["papers/rot/train.py", "papers/rot/loss.py", "shared/training/loop.py", "shared/bags/makers.py"]
    )
    def test_rot_runs_on(self, name):
        assert repository() / name in sources("papers.rot.train")

    def test_a_method_of_another_paper_does_not_stale_rot(self):
        found = {path.relative_to(repository()).as_posix() for path in sources("papers.rot.train")}
        assert "shared/methods/proportion.py" in found and "shared/methods/llp_gan.py" not in found

    def test_rot_runs_are_not_staled_by_how_records_are_planned_kept_or_drawn(self):
        computing = sources("papers.rot.train", carriers=False)
        found = {path.relative_to(repository()).as_posix() for path in computing}
        rooms = ("config", "records", "runs", "tables", "comparison", "plotting", "datasets")
        assert not any(name.startswith(tuple(f"shared/{room}/" for room in rooms)) for name in found)
        assert "shared/training/frame.py" in found and "shared/training/data.py" in found

    def test_no_import_is_relative_for_those_are_not_followed(self):
        for path in (p for package in ("papers", "shared") for p in Path(repository() / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path} imports relatively"
