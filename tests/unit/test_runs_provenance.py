"""Where a record came from: what git says of the code that ran, or that git does not say."""

import os
import shutil
import subprocess

import pytest

from shared.runs import assemble, provenance
from shared.runs.provenance import commit, origin
from shared.training.frame import Result
from tests.conftest import a_run

FILES = {"papers/rot/loss.py": "x = 1\n", "shared/__init__.py": "", ".gitignore": "private/\n*.pyc\n", "notes/a.py": ""}


def git(folder, *args):
    own = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *own, *args], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def put(folder, name, text=""):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A repository with one commit of a little code."""
    if not shutil.which("git"):
        pytest.skip("there is no git")
    for name in provenance.ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(provenance, "commit", commit.__wrapped__)  # it remembers what it said
    root = tmp_path / "das Häuschen"
    for name, text in FILES.items():
        put(root, name, text)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def clean(root):
    return {"commit": git(root, "rev-parse", "HEAD"), "dirty": False}


@pytest.mark.parametrize(
    "name",
    [
        "notes/b.py",
        "top.py",
        "papers/rot/remark.txt",
        "papers/rot/loss.py~",
        "papers/rot/.#loss.py",
        "papers/rot/.ipynb_checkpoints/loss-checkpoint.py",
        "papers/rot/__pycache__/loss.cpython-311.pyc",
    ],
)
def test_what_no_run_computes_with_leaves_the_code_clean(house, name):
    put(house, name)
    assert provenance.commit(house) == clean(house)


@pytest.mark.parametrize(
    "name",
    [
        "papers/rot/more.py",
        "papers/new/train.py",
        "shared/losses.pyc",
        "shared/fast.abi3.so",
        "shared/private/loss.py",
        "papers/rot/loss/__init__.py",
        "papers/rot/größer als.py",
    ],
    ids=["new", "new paper", "compiled", "library", "ignored", "in front of another", "odd name"],
)
def test_code_that_git_does_not_track_or_ignores_is_a_change(house, name):
    put(house, name)
    assert provenance.commit(house) == {**clean(house), "dirty": True}


def test_so_are_changes_that_are_staged_deletions_and_what_hides_a_repository_or_a_link(house):
    put(house, "papers/rot/more.py")
    git(house, "add", ".")
    assert provenance.commit(house)["dirty"] is True
    git(house, "reset", "-q", "--hard")
    (house / "shared/__init__.py").unlink()
    assert provenance.commit(house)["dirty"] is True
    git(house, "reset", "-q", "--hard")
    put(house, "papers/other/loss.py")
    git(house / "papers/other", "init", "-q")
    assert provenance.commit(house)["dirty"] is True
    shutil.rmtree(house / "papers/other")
    assert provenance.commit(house) == clean(house)
    (house / "papers/linked").symlink_to(house / "notes")
    assert provenance.commit(house)["dirty"] is True


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_git_is_told_not_to_look_at_is_unknown(house, flag):
    git(house, "update-index", flag, "papers/rot/loss.py")
    put(house, "papers/rot/loss.py", "x = 2\n")
    said = provenance.commit(house)
    assert said["commit"] == clean(house)["commit"] and said["dirty"] is None
    assert "told not to look at papers/rot/loss.py" in said["git"]


def test_settings_of_git_change_nothing(house):
    for name, value in (
        ("status.showUntrackedFiles", "no"),
        ("status.relativePaths", "true"),
        ("log.showSignature", "true"),
        ("status.branch", "true"),
        ("color.ui", "always"),
        ("core.quotePath", "true"),
    ):
        git(house, "config", name, value)
    assert provenance.commit(house) == clean(house)
    put(house, "papers/rot/größer.py")
    assert provenance.commit(house)["dirty"] is True


def test_a_repository_that_the_environment_names_is_not_asked(house, tmp_path, monkeypatch):
    """A hook of git sets these; what runs in it would be recorded with another repository's commit."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    said = provenance.commit(house)
    monkeypatch.undo()
    assert said == clean(house)


def nowhere(root, monkeypatch):
    shutil.rmtree(root / ".git")


def no_git(root, monkeypatch):
    monkeypatch.setenv("PATH", str(root))


def not_allowed(root, monkeypatch):
    (root / "git").write_text("not a program")
    (root / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(root))


def another_owner(root, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")


def broken_index(root, monkeypatch):
    (root / ".git/index").write_bytes(b"not an index" * 20)


def no_objects(root, monkeypatch):
    for path in (root / ".git/objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"")


def no_commit(root, monkeypatch):
    shutil.rmtree(root / ".git")
    git(root, "init", "-q")


def in_another(root, monkeypatch):
    """Unpacked in somebody's own repository, whose commit is not that of this code."""
    shutil.rmtree(root / ".git")
    put(root.parent, "thesis.tex")
    git(root.parent, "init", "-q")
    git(root.parent, "add", "thesis.tex")
    git(root.parent, "commit", "-qm", "chapter")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (nowhere, "not a git repository"),
        (no_git, "there is no git"),
        (not_allowed, "git cannot be run"),
        (another_owner, "detected dubious ownership in repository"),
        (broken_index, "index"),
        (no_objects, ""),
        (no_commit, "does not have any commits yet"),
        (in_another, "does not track its code"),
    ],
)
def test_where_git_does_not_answer_it_is_unknown_and_its_sentence_is_kept(house, monkeypatch, broken, says):
    broken(house, monkeypatch)
    said = provenance.commit(house)
    assert said["dirty"] is None and says in said["git"] and "\n" not in said["git"] and said["git"]
    assert str(house.parent) not in said["git"]
    assert said["commit"] is None or broken is broken_index


def test_a_repository_that_holds_this_one_and_its_code_is_its_commit(house):
    outer = house.parent
    shutil.rmtree(house / ".git")
    git(outer, "init", "-q")
    git(outer, "add", ".")
    git(outer, "commit", "-qm", "all")
    assert provenance.commit(house) == clean(outer)
    put(house, "papers/rot/more.py")
    assert provenance.commit(house)["dirty"] is True


def test_git_that_hangs_is_left(house, monkeypatch):
    def hangs(*args, timeout, **more):
        raise subprocess.TimeoutExpired("git", timeout)

    monkeypatch.setattr(subprocess, "run", hangs)
    assert provenance.commit(house) == {"commit": None, "dirty": None, "git": "git did not answer within a minute"}


def test_the_environment_of_git_is_otherwise_that_of_the_person(house, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    assert provenance.commit(house) == clean(house)


def test_what_is_said_of_a_commit():
    name = {"commit": "0123456789abcdef"}
    assert origin({**name, "dirty": False}) == "commit 0123456"
    assert origin({**name, "dirty": True}) == "commit 0123456 with local changes"
    assert origin({**name, "dirty": None, "git": "x"}) == "commit 0123456, git did not say whether as it is"
    assert origin({"commit": None, "dirty": None, "git": "x"}).startswith("commit unknown")


@pytest.mark.parametrize(
    "said", [{"commit": "0123", "dirty": True}, {"commit": None, "dirty": None, "git": "detected dubious ownership"}]
)
def test_a_record_has_all_that_is_known_of_its_commit(monkeypatch, said):
    """Whether code was changed, and git's own words, were held of `commit` alone and not of what keeps them."""
    monkeypatch.setattr(assemble, "commit", lambda: said)
    record = assemble.record_of(a_run(), "hash", 1.0, Result({"last": {"accuracy": 1.0}}, device="cpu"))
    assert record["code"] == {"hash": "hash", **said}
    assert record["environment"].keys() >= {"torch", "cpu", "tf32", "threads", "capability"}
