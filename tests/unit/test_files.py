"""What people handle: stray files are passed over, text is read by name, files are written whole or not at all."""

import errno
import os
import subprocess
import sys
import time

import pytest

from shared import files
from shared.comparison.reported import InputError
from shared.config import ConfigError, SpecError
from shared.datasets import DatasetError
from shared.files import LONGEST, is_stray, listed, read_text, remove_parts, sentence_of, whole, write_text


def test_files_are_listed_in_natural_order_without_stray_ones(tmp_path):
    names = ["img10.png", "img2.png", "b/img1.png"]
    stray = [".img1.png", "._img2.png", "img2.png~", "#img2.png#", ".DS_Store", "Thumbs.db", "img.bak", "x.part"]
    hidden = ["__MACOSX/img3.png", ".git/img4.png", "b~/img5.png", "b.bak/img6.png"]
    for name in [*names, *stray, *hidden]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "img3.png").mkdir()
    assert [path.name for path in listed(tmp_path, "*.png")] == ["img2.png", "img10.png"]
    assert [path.relative_to(tmp_path).as_posix() for path in listed(tmp_path, "**/*")] == [
        names[2],
        names[1],
        names[0],
    ]
    assert all(is_stray(tmp_path / name, tmp_path) for name in [*stray, *hidden])
    assert listed(tmp_path / "none", "*") == []


def test_a_text_is_read_without_its_byte_order_mark_or_refused_by_name(tmp_path):
    (tmp_path / "a").write_text("\ufeffä", encoding="utf-8")
    assert read_text(tmp_path / "a", ConfigError) == "ä"
    (tmp_path / "a").write_bytes("ä".encode("latin-1"))
    for path, says in ((tmp_path / "a", "a is not a text in UTF-8"), (tmp_path / "b", "b does not exist")):
        with pytest.raises(ConfigError, match=says):
            read_text(path, ConfigError)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_text(tmp_path, ConfigError)


@pytest.mark.parametrize("error", [ConfigError, SpecError, DatasetError, InputError])
def test_an_error_is_one_line_and_not_endless_whatever_it_quotes(error):
    """A value of 70,000 letters, or one with a line end or a terminal's escape in it, stood in it as it was."""
    assert str(error("a.csv: 3 is none; use 'ä'")) == "a.csv: 3 is none; use 'ä'"
    assert str(error("a\nb\x1b[2J\u2028\x85c")) == r"a\nb\x1b[2J\u2028\x85c"
    said = str(error(f"a.csv: {'x' * 70_000} is no name; use one"))
    assert said.startswith("a.csv: xxx") and said.endswith("xxx is no name; use one") and len(said) < LONGEST


def test_a_write_that_fails_keeps_what_was_there_and_leaves_nothing(tmp_path):
    write_text(tmp_path / "a", "before")
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "a") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "before"


def test_parts_of_dead_processes_are_removed_and_of_living_ones_are_not(tmp_path, monkeypatch):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    (tmp_path / "x").mkdir()
    for process in (done.pid, os.getpid()):
        monkeypatch.setattr(files.os, "getpid", lambda process=process: process)
        with pytest.raises(SystemExit), whole(tmp_path / "x" / f"a{process}") as part:
            part.touch()
            monkeypatch.setattr(type(part), "unlink", lambda *_, **__: None)  # as when it is killed
            raise SystemExit
        monkeypatch.undo()
    for name in (".part", "theirs.part"):
        (tmp_path / "x" / name).touch()
    remove_parts(tmp_path)
    left = sorted(path.name for path in (tmp_path / "x").iterdir())
    assert len(left) == 3 and left[0].startswith(f".a{os.getpid()}.") and not any(f".a{done.pid}." in n for n in left)


def test_a_part_of_a_process_of_another_machine_is_removed_after_a_day(tmp_path):
    """On a shared file system its number says nothing: the part of a sweep that went on there was removed."""
    new, old = tmp_path / ".a.0123abcd-99999999.part", tmp_path / ".b.99999999.part"
    for path in (new, old):
        path.touch()
    os.utime(old, (time.time() - 2 * files.FOREIGN,) * 2)
    remove_parts(tmp_path)
    assert new.exists() and not old.exists()


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "x/a: No space left on device; make room and call again"),
        (errno.EFBIG, "x/a: File too large; make room and call again"),
        (errno.EROFS, "x/a: Read-only file system; make it writable and call again"),
        (errno.EIO, "x/a: Input/output error; mend that and call again"),
    ],
)
def test_a_disk_that_takes_nothing_is_one_sentence_that_names_the_file(tmp_path, number, says):
    with pytest.raises(OSError) as raised, whole(tmp_path / "x" / "a"):
        raise OSError(number, os.strerror(number))
    assert sentence_of(raised.value) == f"{tmp_path}/{says}" and list((tmp_path / "x").iterdir()) == []


def too_large(module, *arguments):
    """The exit status of a program that may write files of 100 bytes alone, and what it says."""
    code = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); runpy.run_module({module!r}"
    command = [sys.executable, "-B", "-c", f"{code}, run_name='__main__', alter_sys=True)", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_page_for_which_there_is_no_room_or_of_no_text_is_one_sentence(tmp_path):
    call = ("shared.report.page", "--tier", "quick", "--results", tmp_path)
    assert too_large(*call) == (2, f"{tmp_path}/quick/index.html: File too large; make room and call again\n")
    (tmp_path / "quick/rot").mkdir(exist_ok=True)
    (tmp_path / "quick/rot/fig2.md").write_bytes(b"\xff")
    status, said = too_large(*call)
    assert status == 2 and said.endswith("fig2.md is not a text in UTF-8 (byte 0: invalid start byte); make it again\n")
    assert [path.name for path in (tmp_path / "quick").iterdir()] == ["rot"]


def test_what_a_link_leads_to_is_listed_and_a_link_to_nothing_is_named(tmp_path):
    """Of a clone of git-annex, images whose content was not there were no files; nor was all in a folder of links."""
    house, other = tmp_path / "house", tmp_path / "other"
    for folder in (house / "a", other / "b"):
        folder.mkdir(parents=True)
        (folder / "img1.png").touch()
    (house / "b").symlink_to(other / "b")
    (house / "a/round").symlink_to(house)
    names = ["a/img1.png", "b/img1.png"]
    for pattern in ("**/*.png", "**/*", "**/[ab]/*.png"):
        assert [path.relative_to(house).as_posix() for path in listed(house, pattern, DatasetError)] == names
    assert listed(house, "none/**/*.png", DatasetError) == listed(house / "none", "**/*", DatasetError) == []
    (house / "a/img0.png").symlink_to(tmp_path / "annex")
    (house / "a/.img0.png").symlink_to(tmp_path / "stray")
    for pattern in ("**/*.png", "a/*.png", "**/a/*"):
        with pytest.raises(DatasetError, match=r"a/img0\.png is a link to nothing, .*/annex; .*`git annex get`"):
            listed(house, pattern, DatasetError)
    assert [path.name for path in listed(house, "a/*.png")] == ["img1.png"]
    assert [path.name for path in listed(house, "**/b/*.png", DatasetError)] == ["img1.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatasetError, match="cannot be read: Permission denied; make it readable"):
        listed(tmp_path, "**/*.png", DatasetError)


def test_a_part_of_another_persons_process_is_not_removed(tmp_path, monkeypatch):
    """`kill` is not permitted where the process lives and is another person's."""

    def not_permitted(process, signal):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    part = tmp_path / f".a.{files._machine()}-4242.part"
    part.touch()
    monkeypatch.setattr(files.os, "kill", not_permitted)
    remove_parts(tmp_path)
    assert part.exists()
