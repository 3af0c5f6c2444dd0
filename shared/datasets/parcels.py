"""Carry prepared sets in parts of a bounded size: ``python -m shared.datasets pack NAME --into DIR``, ``unpack DIR``.

A parcel is ``<set>.parcel.json`` beside ``<set>.000``, ``<set>.001`` and so on. The parts, one after the other, are a
tar, not compressed, of the set's own files (``manifest.json`` among them) in order of their names, of time, owner and
group 0: the same set has the same bytes on every machine. The JSON has

    format, set     1, and the name; features/NAME of cached features
    manifest        the sha256 of the set that its own manifest says, the one that records keep
    bytes, sha256   of the whole tar
    parts           of each part its name, bytes and sha256
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.datasets import archives, registry, store
from shared.datasets.catalogue import DatasetError, say
from shared.datasets.download import CHUNK, checksum, ensure_space
from shared.datasets.features import features_sha256, load_features, verify_features
from shared.datasets.localised import prepared
from shared.datasets.places import data_root
from shared.files import listed, whole, write_text

FORMAT, SUFFIX, PART = 1, ".parcel.json", 50 * 2**20
UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
FEATURES = "features/"
_HEX = r"[0-9a-f]{64}"
_NAME = rf"(?!features$)({FEATURES})?\w[\w.-]*"


def parse_size(text: str) -> int:
    """Return the bytes of "50MiB", 1 KiB or more, or raise ValueError."""
    match = re.fullmatch(r"(\d{1,9})\s?(B|KiB|MiB|GiB|)", text.strip())
    if not match or int(match[1]) * UNITS[match[2]] < 2**10:
        raise ValueError(f"{text!r} is no size of a part; write 50MiB, 1KiB or more")
    return int(match[1]) * UNITS[match[2]]


def pack(name: str, into: Path, part: int = PART, sources: str | Path | None = None) -> str:
    """Pack a prepared set, which is verified first; parts that are there and right stay as they are.

    Raises
    ------
    DatasetError
        If the set is not prepared, or not whole.
    """
    folder, stem = _folder(name), name.replace("/", "-")
    sha256 = _examined(name, sources)
    files = listed(folder, "**/*")
    if large := [path for path in files if path.stat().st_size > archives.MEMBER_LIMIT]:
        raise DatasetError(f"{large[0]} has more than {archives.MEMBER_LIMIT} bytes, which no parcel takes")
    into.mkdir(parents=True, exist_ok=True)
    out = _Splitter(into, stem, part)
    stream_to: Any = out  # which tarfile asks to be a file, and only writes to
    with tarfile.open(fileobj=stream_to, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix()):
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as stream:
                tar.addfile(member, stream)
    out.close()
    about = {"format": FORMAT, "set": name, "manifest": sha256, "bytes": out.bytes, "sha256": out.whole.hexdigest()}
    write_text(into / f"{stem}{SUFFIX}", json.dumps({**about, "parts": out.parts}, indent=1) + "\n")
    return f"{name}: {len(out.parts)} parts, {out.bytes / 1e6:.1f} MB in {into}, sha256 of the set {sha256}"


def unpack(parcel: Path, root: Path | None = None, sources: str | Path | None = None) -> str:
    """Unpack a parcel by its JSON into a folder of prepared sets, `data_root` unless told.

    What was there stays until the new set is complete and verified; one that is the same is not touched.

    Raises
    ------
    DatasetError
        Naming all parts that are missing or damaged, which alone have to be brought again; or where what is in the
        parcel is not what it says, or is none of the set's files.
    """
    about = _read(parcel)
    name, root = about["set"], data_root(root)
    inner = name.removeprefix(FEATURES)
    place = root / "features" if name != inner else root
    if _said(place / inner) == about["manifest"] and _is_whole(name, root, sources):
        return f"{name}: already in {place / inner}, whole"
    wrong = [f"{p['name']} is {why}" for p in about["parts"] if (why := _wrong(parcel.parent / p["name"], p))]
    if wrong:
        raise DatasetError(f"{parcel}: {', '.join(wrong)}; bring {'it' if len(wrong) == 1 else 'these'} again")
    place.mkdir(parents=True, exist_ok=True)
    ensure_space(place, 2 * about["bytes"], name)
    tar = place / f".{inner}.parcel.tar"
    with store.lock(place, inner):
        store.recover(place, inner)
        try:
            _join(parcel, about, tar)
            _extract(tar, place / f".{inner}.new", parcel)
            if (found := _said(place / f".{inner}.new")) != about["manifest"]:
                raise DatasetError(f"{parcel}: its set has sha256 {found} where it says {about['manifest']}; refused")
            _check(name, place / f".{inner}.new", parcel, sources)
            store.exchange(place, inner)
        finally:
            tar.unlink(missing_ok=True)
            store.recover(place, inner)
    return f"{name}: ready in {place / inner}, sha256 {about['manifest']}"


def parcels(folder: Path) -> list[Path]:
    """Return the parcels in a folder, or raise a DatasetError where there is none."""
    if found := listed(folder, f"*{SUFFIX}"):
        return found
    raise DatasetError(f"{folder} holds no parcel, a file *{SUFFIX}; `pack` writes them")


class _Splitter:
    """A stream to write to that becomes parts of equal size; `close` ends the last."""

    def __init__(self, into: Path, stem: str, size: int):
        self.into, self.stem, self.size = into, stem, size
        self.whole, self.bytes, self.pending = hashlib.sha256(), 0, bytearray()
        self.parts: list[dict[str, object]] = []

    def write(self, content: bytes) -> int:
        self.whole.update(content)
        self.bytes += len(content)
        self.pending += content
        while len(self.pending) >= self.size:
            self._part(self.size)
        return len(content)

    def close(self) -> None:
        if self.pending:
            self._part(len(self.pending))
        for path in self.into.glob(f"{self.stem}.[0-9][0-9][0-9]"):  # of a parcel with more parts
            if path.name not in {part["name"] for part in self.parts}:
                path.unlink()

    def _part(self, size: int) -> None:
        content, self.pending = bytes(self.pending[:size]), self.pending[size:]
        name = f"{self.stem}.{len(self.parts):03d}"
        if len(self.parts) > 999:
            raise DatasetError(f"{self.stem} comes to more than 1,000 parts; make them larger")
        part = {"name": name, "bytes": size, "sha256": hashlib.sha256(content).hexdigest()}
        self.parts.append(part)
        if _wrong(self.into / name, part):
            with whole(self.into / name) as path:
                path.write_bytes(content)


def _folder(name: str) -> Path:
    if not re.fullmatch(_NAME, name):
        raise DatasetError(f"{name!r} is no name of a set; write one that `list` names, or {FEATURES}NAME")
    return data_root() / name


def _examined(name: str, sources: str | Path | None) -> str:
    """Hold a set against what is recorded of it; return the sha256 that its manifest says."""
    if name.startswith(FEATURES):
        return verify_features(name.removeprefix(FEATURES)).sha256
    entry = registry.entry_of(name, sources)
    if entry.kind not in (registry.ARRAYS, registry.LOCALISED):
        raise DatasetError(f"{name} is {entry.kind}: there is nothing to pack")
    registry.examine(entry, sources)
    return _said(data_root() / name)


def _said(folder: Path) -> str:
    """Return the sha256 that the manifest of a prepared set says; nothing where there is none."""
    try:
        return str(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def _is_whole(name: str, root: Path, sources: str | Path | None) -> bool:
    try:
        if name.startswith(FEATURES):
            verify_features(name.removeprefix(FEATURES), root)
        elif name in registry.RECIPES:
            store.verify(name, root, sources)
    except DatasetError:
        return False
    return True


def _check(name: str, folder: Path, parcel: Path, sources: str | Path | None) -> None:
    """Refuse arrays or features whose bytes are not what their manifest, and the table of sources, say.

    Of localised objects the manifest alone is looked at: decoding their images takes Pillow, and their bytes are known.
    """
    try:
        if name.startswith(FEATURES):
            found = load_features(folder.name, folder=folder)
            if features_sha256(found.train, found.test) != found.sha256:
                raise DatasetError(f"{name}: its arrays are not those of its manifest")
        elif name in registry.RECIPES:
            store.verify(name, sources=sources, folder=folder)
        else:
            prepared.manifest(folder)
    except DatasetError as error:
        raise DatasetError(f"{parcel}: what is in it is refused: {error}") from error


def _read(parcel: Path) -> dict[str, Any]:
    try:
        about = json.loads(parcel.read_text(encoding="utf-8"))
        stem = about["set"].replace("/", "-")
        sound = (
            about["format"] == FORMAT
            and re.fullmatch(_NAME, about["set"])
            and parcel.name == f"{stem}{SUFFIX}"
            and all(re.fullmatch(_HEX, digest) for digest in (about["manifest"], about["sha256"]))
            and [part["name"] for part in about["parts"]] == [f"{stem}.{i:03d}" for i in range(len(about["parts"]))]
            and all(re.fullmatch(_HEX, part["sha256"]) and type(part["bytes"]) is int for part in about["parts"])
            and sum(part["bytes"] for part in about["parts"]) == about["bytes"]
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{parcel} is no parcel ({type(error).__name__}: {error}); bring it again") from error
    if not sound:
        raise DatasetError(f"{parcel} is no parcel of format {FORMAT}; bring it again")
    if about["bytes"] > archives.TOTAL_LIMIT:
        raise DatasetError(f"{parcel} comes to {about['bytes']} bytes, more than {archives.TOTAL_LIMIT}; refused")
    return about


def _wrong(path: Path, part: dict[str, Any]) -> str:
    if not path.is_file():
        return "missing"
    if path.stat().st_size != part["bytes"]:
        return f"damaged ({path.stat().st_size} bytes, not {part['bytes']})"
    return "" if checksum(path, "sha256") == part["sha256"] else "damaged (its sha256 is another)"


def _chunks(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as stream:
            while content := stream.read(CHUNK):
                yield content


def _join(parcel: Path, about: dict[str, Any], tar: Path) -> None:
    digest = hashlib.sha256()
    with tar.open("wb") as out:
        for content in _chunks([parcel.parent / part["name"] for part in about["parts"]]):
            digest.update(content)
            out.write(content)
    if digest.hexdigest() != about["sha256"]:
        raise DatasetError(f"{parcel}: its parts are whole and together not the sha256 it says; bring all again")


def _extract(tar: Path, folder: Path, parcel: Path) -> None:
    """Write plain files of plain relative names below a new folder; nothing else passes `archives.members`."""
    folder.mkdir()
    for name, content in archives.members(tar, lambda member: True, 100_000, f"bring {parcel} again"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:  # a name that is there twice is refused
            out.write(content)


def run(args: Any) -> int:
    """Run ``pack`` or ``unpack`` of the command line: each set by itself; return the exit status."""
    status = 0
    each: list[Any] = args.names if args.command == "pack" else parcels(args.folder)
    for item in each:
        try:
            if args.command == "pack":
                say(pack(item, args.into, args.part, args.sources))
            else:
                say(unpack(item, args.into, args.sources))
        except FileExistsError as error:
            say(f"error: {item}: {error.filename} is there twice; the parcel is refused")
            status = 1
        except DatasetError as error:
            say(f"error: {error}")
            status = 1
    return status
