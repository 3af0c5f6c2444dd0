"""Downloads: resumed, retried, checked; and the npm client."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.datasets import download as module
from shared.datasets.catalogue import REPO, Absent, DatasetError
from shared.datasets.download import download, npm_pack
from tests.made_archives import digest, serve

CONTENT = bytes(range(256)) * 5_000
MD5 = digest(CONTENT)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.001)
    monkeypatch.setattr(module, "TIMEOUT", 2.0)


def test_whole(tmp_path, capfd):
    with serve(a_gz=CONTENT) as server:
        target = download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5)
        assert target.read_bytes() == CONTENT
        assert [path.name for path in tmp_path.iterdir()] == ["a.gz"]
        download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5)
    assert server.asked == [None]
    shown = capfd.readouterr().err
    assert "100% of 1.3 MB" in shown and "MB/s" in shown and "0:00 left" in shown and "\r" not in shown


def test_broken_transfer_is_resumed(tmp_path):
    with serve(a_gz=CONTENT) as server:
        server.cuts = [300_000, 400_000]
        assert download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=700000-"]


def test_killed_download_is_resumed(tmp_path):
    with serve(a_gz=CONTENT) as server:
        server.cuts, server.hang = [524_288], True
        code = "import sys, pathlib; from shared.datasets.download import download as d; "
        code += "d(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3])"
        command = [sys.executable, "-c", code, f"{server.url}/a.gz", str(tmp_path / "a.gz"), MD5]
        process = subprocess.Popen(command, cwd=REPO, stderr=subprocess.DEVNULL)
        part = tmp_path / "a.gz.part"
        for _ in range(2_000):
            if part.exists() and part.stat().st_size == 524_288:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "a.gz").exists()
        assert download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=524288-"]


def test_restarts_if_the_server_sends_a_range_of_another_file(tmp_path, capfd):
    (tmp_path / "a.gz.part").write_bytes(b"older bytes")
    (tmp_path / "a.gz.tag").write_text('"1"')
    with serve(a_gz=CONTENT) as server:
        server.etag, server.heeds_if_range = '"2"', False
        assert download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5).read_bytes() == CONTENT
    assert server.asked == ["bytes=11-", None]
    assert "broken off (the file changed on the server)" in capfd.readouterr().err


@pytest.mark.parametrize("ranges, etag", [(False, '"1"'), (True, '"2"'), (False, None)])
def test_restarts_if_ranges_are_ignored_or_the_file_changed(tmp_path, ranges, etag):
    (tmp_path / "a.gz.part").write_bytes(b"older bytes")
    (tmp_path / "a.gz.tag").write_text('"1"')
    with serve(a_gz=CONTENT) as server:
        server.ranges, server.etag = ranges, etag
        assert download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5).read_bytes() == CONTENT
    assert server.asked == ["bytes=11-"]


@pytest.mark.parametrize("older", [b"wrong bytes", b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)])
def test_wrong_bytes_of_an_earlier_run_are_found_out(tmp_path, older):
    (tmp_path / "a.gz.part").write_bytes(older)
    with serve(a_gz=CONTENT) as server:
        assert download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(older)}-", None]


def test_finished_part_is_taken(tmp_path):
    (tmp_path / "a.gz.part").write_bytes(CONTENT)
    with serve(a_gz=CONTENT) as server:
        assert download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5).read_bytes() == CONTENT


def test_altered_file_is_refused_and_removed(tmp_path):
    with serve(a_gz=CONTENT + b"!") as server, pytest.raises(DatasetError, match=f"md5 .* where {MD5}"):
        download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5)
    assert list(tmp_path.iterdir()) == []


def test_busy_server_is_asked_again(tmp_path):
    with serve(a_gz=CONTENT) as server:
        server.statuses = [503, 429]
        download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5)
    assert len(server.asked) == 3


def test_gives_up_and_keeps_what_came(tmp_path):
    with serve(a_gz=CONTENT) as server:
        server.statuses = [500] * 9
        with pytest.raises(Absent, match="500 .*run again to resume"):
            download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5)
        with pytest.raises(Absent, match="answers 404"):
            download(f"{server.url}/b.gz", tmp_path / "b.gz", MD5)


def test_silent_host_is_given_up_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    with serve(a_gz=CONTENT) as server:
        url, server.cuts, server.hang = f"{server.url}/a.gz", [0], True
        began = time.monotonic()
        with pytest.raises(Absent, match="does not answer"):
            download(url, tmp_path / "a.gz", MD5)
        assert time.monotonic() - began < 2
    with pytest.raises(Absent, match="does not answer .*refused"):
        download(url, tmp_path / "a.gz", MD5)


def test_endless_file_full_disk_and_other_schemes_are_refused(tmp_path, monkeypatch):
    with serve(a_gz=CONTENT) as server:
        url = f"{server.url}/a.gz"
        with monkeypatch.context() as patch:
            patch.setattr(module, "LIMIT", 1_000_000)
            with pytest.raises(DatasetError, match="1280000 bytes, more than 1000000"):
                download(url, tmp_path / "a.gz", MD5)
        with monkeypatch.context() as patch:
            patch.setattr(module.shutil, "disk_usage", lambda path: type("", (), {"free": 1_000_000}))
            with pytest.raises(DatasetError, match="has 1 MB free where a.gz needs 1 MB"):
                download(url, tmp_path / "a.gz", MD5)
    with pytest.raises(DatasetError, match="not an http address"):
        download("file:///etc/passwd", tmp_path / "a.gz", MD5)


def test_terminal_shows_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True)
    with serve(a_gz=CONTENT) as server:
        download(f"{server.url}/a.gz", tmp_path / "a.gz", MD5)
    assert "\ra.gz: 1.3 MB at " in capfd.readouterr().err


def fake_npm(folder: Path, script: str) -> str:
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    return f"{folder}{os.pathsep}{os.defpath}"


def test_npm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", fake_npm(tmp_path / "bin", 'echo "$@" > "$5/said"; printf tarball > "$5/made-1.0.tgz"'))
    tarball = npm_pack("npm:made@1.0", tmp_path / "work", digest(b"tarball", "sha256"))
    assert tarball.read_bytes() == b"tarball"
    assert (tmp_path / "work/said").read_text().startswith("pack made@1.0 --ignore-scripts")
    with pytest.raises(DatasetError, match=r"npm gave made-1.0.tgz with sha256 .* where 00 is recorded"):
        npm_pack("npm:made@1.0", tmp_path / "work", "00")
    assert not tarball.exists()


def test_npm_fails_or_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", fake_npm(tmp_path / "bin", "echo 'npm error code E404' >&2; exit 1"))
    with pytest.raises(Absent, match=r"npm pack made@1.0 failed \(npm error code E404\)"):
        npm_pack("npm:made@1.0", tmp_path / "work", "00")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Absent, match="no npm client"):
        npm_pack("npm:made@1.0", tmp_path / "work", "00")
