"""Sets in parts: the very same set comes out, a part that is missing or damaged is named, and nothing else comes in."""

import hashlib
import io
import json
import tarfile

import pytest

from shared.datasets import DatasetError, parcels, store
from shared.datasets.__main__ import main
from tests.contract.paper_tier import ece, toys


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Toys under real names in `tmp_path/data`; house(part) packs them anew and returns the folder."""
    root = tmp_path / "data"
    toys.use(root, monkeypatch)
    toys.images(root, "cifar10", 40, 10, 10, side=8)
    toys.features(root, "cifar10")

    def packed(part=4096, *names):
        into = tmp_path / f"parcels{part}"
        assert [parcels.pack(name, into, part) for name in names or ("cifar10", "features/cifar10")]
        return into

    packed.data, packed.new = root, tmp_path / "new"
    return packed


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_comes_out_is_what_was_packed_and_records_keep_the_same_hash(house):
    into = house()
    assert main(["unpack", str(into), "--into", str(house.new)]) == 0
    for name in ("cifar10", "features/cifar10"):
        assert files(house.new / name) == files(house.data / name)
    before, after = (store.load("cifar10", root) for root in (house.data, house.new))
    assert after.sha256 == before.sha256 and store.verify("cifar10", house.new) == before.sha256
    assert "already in" in parcels.unpack(into / "cifar10.parcel.json", house.new)


def test_a_set_of_localised_objects_comes_out_the_same(house):
    ece.data(house.data)
    into = house(50 * 2**20, "tnbc")
    assert "ready in" in parcels.unpack(into / "tnbc.parcel.json", house.new)
    assert files(house.new / "tnbc") == files(house.data / "tnbc")


def test_parts_are_the_same_bytes_each_time_and_not_too_large(house):
    first = files(house())
    for path in (house.data / "cifar10").iterdir():
        path.touch()
    assert files(house()) == first
    sizes = [len(content) for name, content in first.items() if not name.endswith(".json")]
    assert max(sizes) == 4096 and len(sizes) > 5
    whole = b"".join(first[name] for name in sorted(first) if name.startswith("cifar10.") and name[-1].isdigit())
    assert json.loads(first["cifar10.parcel.json"])["sha256"] == hashlib.sha256(whole).hexdigest()


def test_what_is_missing_or_damaged_is_named_and_is_all_that_must_come_again(house, capsys):
    into = house()
    good = files(into)
    (into / "cifar10.001").unlink()
    (into / "cifar10.002").write_bytes(good["cifar10.002"][:-1] + b"?")
    (into / "cifar10.003").write_bytes(b"")
    assert main(["unpack", str(into), "--into", str(house.new)]) == 1
    said = capsys.readouterr().err
    assert "cifar10.001 is missing, cifar10.002 is damaged" in said and "cifar10.003 is damaged (0 bytes" in said
    assert not (house.new / "cifar10").exists() and (house.new / "features" / "cifar10").is_dir(), "others go on"
    for name in ("cifar10.001", "cifar10.002", "cifar10.003"):
        (into / name).write_bytes(good[name])
    assert main(["unpack", str(into), "--into", str(house.new)]) == 0
    assert files(house.new / "cifar10") == files(house.data / "cifar10")


def test_a_part_that_is_there_is_not_written_again(house):
    into = house()
    before = {path: path.stat().st_mtime_ns for path in into.glob("*.0*")}
    (into / "cifar10.002").write_bytes(b"half")
    house()
    assert [p.name for p, at in before.items() if p.stat().st_mtime_ns != at] == ["cifar10.002"]


def test_what_was_there_stays_where_a_parcel_is_refused(house):
    into = house()
    toys.images(house.new, "cifar10", 20, 10, 10, side=8, seed=1)
    there = files(house.new / "cifar10")
    (into / "cifar10.001").unlink()
    with pytest.raises(DatasetError, match=r"cifar10\.001 is missing; bring it again"):
        parcels.unpack(into / "cifar10.parcel.json", house.new)
    assert files(house.new / "cifar10") == there


def forged(into, *members, name="cifar10", **about):
    """A parcel of one part whose checksums are right, whatever is in it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    size = len(content.getvalue())
    into.mkdir()
    (into / f"{name}.000").write_bytes(content.getvalue())
    parts = [{"name": f"{name}.000", "bytes": size, "sha256": digest}]
    found = {"format": 1, "set": name, "manifest": "0" * 64, "bytes": size, "sha256": digest, "parts": parts, **about}
    path = into / f"{name}.parcel.json"
    path.write_text(json.dumps(found))
    return path


def member(name, kind=tarfile.REGTYPE, size=1, link=""):
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, size, link
    return found, b"x" * size


@pytest.mark.parametrize(
    ("hostile", "says"),
    [
        (member("../outside"), "points outside"),
        (member("/outside"), "points outside"),
        (member("link", tarfile.SYMTYPE, 0, "/etc"), "is a symbolic link"),
        (member("link", tarfile.LNKTYPE, 0, "manifest.json"), "is a hard link"),
    ],
)
def test_no_file_lands_outside_and_no_link_inside(house, tmp_path, hostile, says):
    path = forged(tmp_path / "forged", hostile)
    with pytest.raises(DatasetError, match=says):
        parcels.unpack(path, house.new)
    assert files(house.new).keys() <= {".cifar10.lock"} and not (tmp_path / "outside").exists()


def test_another_set_under_a_registered_name_is_refused(house, tmp_path):
    """Its manifest and its checksums agree with each other, and its arrays are not those that they say."""
    into = house()
    about = json.loads((into / "cifar10.parcel.json").read_text())
    manifest = (house.data / "cifar10" / "manifest.json").read_bytes()
    one = tarfile.TarInfo("manifest.json")
    one.size = len(manifest)
    path = forged(tmp_path / "forged", (one, manifest), manifest=about["manifest"])
    with pytest.raises(DatasetError, match=r"what is in it is refused: .*train_x\.npy is missing"):
        parcels.unpack(path, house.new)
    path = forged(tmp_path / "other", (one, manifest))
    with pytest.raises(DatasetError, match="its set has sha256 .* where it says 0000"):
        parcels.unpack(path, house.new)
    assert not (house.new / "cifar10").exists()


@pytest.mark.parametrize(
    "about", [{"format": 2}, {"set": "features"}, {"set": "../x"}, {"parts": []}, {"bytes": 3}, {"sha256": 1}]
)
def test_what_is_no_parcel_is_refused_by_name(house, tmp_path, about):
    path = forged(tmp_path / "forged", member("manifest.json"), **about)
    with pytest.raises(DatasetError, match=r"cifar10\.parcel\.json is no parcel"):
        parcels.unpack(path, house.new)


def test_a_folder_without_parcels_and_a_size_that_is_none_are_one_sentence(tmp_path, capsys):
    assert main(["unpack", str(tmp_path)]) == 1 and "holds no parcel" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["pack", "digits", "--into", str(tmp_path), "--part", "many"])
    assert "is no size of a part" in capsys.readouterr().err
    assert parcels.parse_size("50MiB") == 52_428_800


@pytest.mark.parametrize("name", ["features", "../x", "/etc", "features/../x", "features/", ".x"])
def test_a_name_that_is_none_of_a_set_is_refused_whatever_its_file_is_called(house, tmp_path, name):
    """The parcels above are refused for the name of their file, which is not that of their set."""
    path = forged(tmp_path / "forged", member("manifest.json"), name=name.replace("/", "-"), set=name)
    with pytest.raises(DatasetError) as raised:
        parcels.unpack(path, house.new)
    assert "is no parcel of format" in str(raised.value) and not house.new.exists()
