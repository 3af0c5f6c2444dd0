"""Made archives in the layouts of the CIFAR datasets, and a small file server that can misbehave."""

import contextlib
import csv
import hashlib
import io
import json
import pickle
import struct
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from shared.datasets.catalogue import Source
from shared.datasets.cifar import LAYOUTS

ROWS = {
    "cifar10": {**{f"data_batch_{i}": 12 for i in range(1, 6)}, "test_batch": 10},
    "cifar100": {"train": 30, "test": 10},
}


def made_batches(name: str, seed: int = 0) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Random images (rows, 32, 32, 3) and labels for each member of the official layout."""
    random = np.random.RandomState(seed)
    n_classes = len(LAYOUTS[name].classes)
    return {
        member: (
            random.randint(0, 256, (rows, 32, 32, 3)).astype(np.uint8),
            random.randint(0, n_classes, rows).tolist(),
        )
        for member, rows in ROWS[name].items()
    }


def decoded(batches: Mapping[str, tuple[np.ndarray, list[int]]]) -> dict[str, np.ndarray]:
    """The arrays that a dataset of these batches must decode to."""
    *train, test = batches
    return {
        "train_x": np.concatenate([batches[member][0] for member in train]),
        "train_y": np.concatenate([batches[member][1] for member in train]).astype(np.int64),
        "test_x": batches[test][0],
        "test_y": np.array(batches[test][1], np.int64),
    }


def pickled(images: np.ndarray, labels: list[int], key: str, protocol: int | None = None) -> bytes:
    """A member of the official archive: as Python 2 wrote it, or as Python 3 would with ``protocol``."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    if protocol is not None:
        return pickle.dumps({"data": planes, key: labels, "batch_label": "made"}, protocol)
    return b"".join(
        [
            b"\x80\x02}(",
            _string(b"data") + python2_array(planes.shape, b"u1", planes.tobytes()),
            _string(key.encode()) + b"](" + b"".join(_integer(label) for label in labels) + b"e",
            _string(b"batch_label") + _string(b"made"),
            b"u.",
        ]
    )


def python2_array(shape: Sequence[int], dtype: bytes, raw: bytes) -> bytes:
    """The opcodes with which Python 2 pickled an array."""
    return b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _string(b"b") + b"\x87R",
            b"(K\x01(" + b"".join(_integer(size) for size in shape) + b"t",
            b"cnumpy\ndtype\n" + _string(dtype) + b"K\x00K\x01\x87R(K\x03" + _string(b"|") + b"NNN",
            _integer(-1) * 2 + b"K\x00tb\x89" + _string(raw) + b"tb",
        ]
    )


def _string(value: bytes) -> bytes:
    return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if abs(value) < 1 << 31 else b"\x8a\x08" + struct.pack("<q", value)


def members(name: str, batches: Mapping[str, tuple[np.ndarray, list[int]]], **kwargs: int) -> dict[str, bytes]:
    """The pickled members of the official layout."""
    return {member: pickled(*batch, LAYOUTS[name].labels, **kwargs) for member, batch in batches.items()}


def npm_members(batches: Mapping[str, tuple[np.ndarray, list[int]]]) -> dict[str, bytes]:
    """The files of the npm package, misspelt names included."""
    *train, test = batches
    files = {"package.json": b"{}"}
    for member, (images, _) in batches.items():
        buffer = io.BytesIO()
        Image.fromarray(images.reshape(len(images), 1024, 3)).save(buffer, "PNG")
        files[f"{member}.png"] = buffer.getvalue()
    files["test_lables.json"] = json.dumps(batches[test][1]).encode()
    files["train_lables.json"] = json.dumps([label for member in train for label in batches[member][1]]).encode()
    return files


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files into a folder."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_tar(path: Path, folder: str, files: Mapping[str, bytes], extra: Sequence[tarfile.TarInfo] = ()) -> Path:
    """Write a .tar.gz with ``folder``, its files, and then the extra headers (empty members)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.addfile(_header(folder, type=tarfile.DIRTYPE))
        for name, content in files.items():
            tar.addfile(_header(f"{folder}/{name}", size=len(content)), io.BytesIO(content))
        for header in extra:
            tar.addfile(header, io.BytesIO(bytes(header.size)))
    return path


def _header(name: str, **values: object) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(header, key, value)
    return header


def digest(content: bytes | Path, algorithm: str = "md5") -> str:
    """Hexadecimal digest of bytes or of a file."""
    return hashlib.new(algorithm, content.read_bytes() if isinstance(content, Path) else content).hexdigest()


def write_sources(path: Path, *rows: Mapping[str, object]) -> Path:
    """Write a table of sources; absent columns are empty, ``members`` is a mapping of names to contents."""
    columns = [column.name for column in fields(Source)]
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for row in rows:
            sums = " ".join(f"{member}:{digest(content)}" for member, content in row.get("members", {}).items())
            table.writerow({"version": "1", "licence": "made", **row, "members": sums})
    return path


@contextlib.contextmanager
def serve(**files: bytes) -> Iterator["Server"]:
    """Serve files on 127.0.0.1; names use ``_`` where the address has ``.``"""
    server = Server(files={"/" + name.replace("_", "."): content for name, content in files.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.release.set()
        http.shutdown()
        http.server_close()


@dataclass
class Server:
    """What the server gives and how it misbehaves.

    ``cuts`` holds, one for each coming request, after how many bytes to break off; ``hang`` makes it go silent
    there instead until ``release``; ``statuses`` holds error statuses for the coming requests.
    """

    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True
    heeds_if_range: bool = True
    etag: str | None = '"1"'
    cuts: list[int] = field(default_factory=list)
    hang: bool = False
    statuses: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        content = self.files.get(request.path)
        if self.statuses or content is None:
            request.send_error(self.statuses.pop(0) if self.statuses else 404)
            return
        start, total = 0, len(content)
        same = request.headers.get("If-Range", self.etag) == self.etag or not self.heeds_if_range
        if asked and self.ranges and same:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= total:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{total}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if self.etag:
            request.send_header("ETag", self.etag)
        request.send_header("Content-Length", str(total - start))
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else total
        request.wfile.write(content[start : start + cut])
        request.wfile.flush()
        if cut < total and self.hang:
            self.release.wait(30)
