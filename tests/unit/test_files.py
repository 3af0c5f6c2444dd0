"""What people handle: stray files are passed over, text is read by name, files are written whole or not at all."""

import os
import subprocess
import sys

import pytest

from shared.config import ConfigError
from shared.files import is_stray, listed, read_text, remove_parts, whole, write_text


def test_files_are_listed_in_natural_order_without_stray_ones(tmp_path):
    names = ["img10.png", "img2.png", "b/img1.png"]
    stray = [".img1.png", "._img2.png", "img2.png~", "#img2.png#", ".DS_Store", "Thumbs.db", "img.bak", "x.part"]
    hidden = ["__MACOSX/img3.png", ".git/img4.png"]
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


def test_a_write_that_fails_keeps_what_was_there_and_leaves_nothing(tmp_path):
    write_text(tmp_path / "a", "before")
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "a") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "before"


def test_parts_of_dead_processes_are_removed_and_of_living_ones_are_not(tmp_path):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    dead, alive = tmp_path / f"x/.a.{done.pid}.part", tmp_path / f"x/.a.{os.getpid()}.part"
    (tmp_path / "x").mkdir()
    for path in (dead, alive, tmp_path / "x/.part", tmp_path / "x/theirs.part"):
        path.touch()
    remove_parts(tmp_path)
    assert not dead.exists() and len(list((tmp_path / "x").iterdir())) == 3
