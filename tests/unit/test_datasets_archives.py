"""Hostile and damaged archives are refused by name, and nothing in them is run."""

import copyreg
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from shared.datasets import archives
from shared.datasets.archives import pixels, read_pickle, read_png, read_tar, whole_numbers
from shared.datasets.catalogue import DatasetError
from tests.made_archives import pickled, python2_array, write_tar

SHAPE = (3, 3072)
IMAGES = np.random.RandomState(0).randint(0, 256, (3, 32, 32, 3)).astype(np.uint8)
HUGE = b"\x8b\x00\x40\x00\x00" + b"\x01" * (1 << 14)
PLANES = IMAGES.transpose(0, 3, 1, 2).reshape(SHAPE)


@pytest.mark.parametrize("protocol", [None, 0, 1, 2, 3, 4])
def test_pickles_of_both_pythons(protocol):
    batch = read_pickle(pickled(IMAGES, [1, 2, 3], "labels", protocol), "made")
    assert np.array_equal(pixels(batch["data"], SHAPE, "made"), PLANES)
    assert whole_numbers(batch["labels"], 3, 10, "made").tolist() == [1, 2, 3]


def test_columns_first():
    batch = read_pickle(pickle.dumps({"data": np.asfortranarray(PLANES)}, 2), "made")
    assert np.array_equal(pixels(batch["data"], SHAPE, "made"), PLANES)


class Hostile:
    def __init__(self, call, *args):
        self.call = call, args

    def __reduce__(self):
        return self.call


def hidden_global(module: bytes, name: bytes) -> bytes:
    pushed = b"".join(b"\x8c" + bytes([len(text)]) + text for text in (module, name))
    return b"\x80\x04}\x8c\x04data" + pushed + b"\x93\x8c\x04true\x85Rs."


@pytest.mark.parametrize(
    "content, name",
    [
        (pickle.dumps({"data": Hostile(os.system, "touch HACKED")}), "posix.system"),
        (pickle.dumps({"data": Hostile(os.system, "touch HACKED")}, 0), "posix.system"),
        (pickle.dumps({"data": Hostile(eval, "open('HACKED', 'w')")}), "builtins.eval"),
        (hidden_global(b"os", b"system"), "os.system"),
        (hidden_global(b"numpy", b"ndarray.tofile"), "numpy.ndarray.tofile"),
        (hidden_global(b"numpy", b"load"), "numpy.load"),
        (b"(S'touch HACKED'\nios\nsystem\n.", "os.system"),
        (pickle.dumps(np.float64(1)), "numpy._core.multiarray.scalar"),
    ],
)
def test_globals_are_refused_by_name(tmp_path, monkeypatch, content, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=rf"made: the pickle asks for {name}, .*refused"):
        read_pickle(content, "made")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content, word",
    [
        (b"\x80\x02}U\x04dataU\x02idQs.", "BINPERSID"),
        (b"}S'data'\nPid\ns.", "PERSID"),
        (b"\x80\x02}U\x04data\x82\x01s.", "EXT1"),
        (b"\x80\x05}\x8c\x04data\x97s.", "NEXT_BUFFER"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "memo 2147483647"),
        (b"}p2147483647\n.", "memo 2147483647"),
        (b"\x80\x02]q\x00.", "holds a list"),
        (b"\x80\x02}", "not a readable pickle"),
        (b"", "not a readable pickle"),
        (b"<html>", "not a readable pickle"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b".", "not a readable pickle"),
        (b"\x80\x02cnumpy\ndtype\n}U\x08__call__K\x01sb.", "not a readable pickle"),
        (b"\x80\x02cnumpy\ndtype\n)\x81.", "not a readable pickle"),
    ],
)
def test_other_tricks_are_refused(content, word):
    with pytest.raises(DatasetError, match=word):
        read_pickle(content, "made")


def test_cached_extension_codes_are_refused():
    copyreg.add_extension("os", "system", 201)
    copyreg._extension_cache[201] = os.system
    try:
        with pytest.raises(DatasetError, match="EXT1"):
            read_pickle(b"\x80\x02\x82\xc9.", "made")
    finally:
        copyreg.remove_extension("os", "system", 201)
        copyreg._extension_cache.pop(201, None)


@pytest.mark.parametrize(
    "array, message",
    [
        (python2_array(SHAPE, b"f4", bytes(4 * 3 * 3072)), "dtype 'f4' where uint8"),
        (python2_array(SHAPE, b"O8", bytes(3 * 3072)), "dtype 'O8' where uint8"),
        (
            python2_array((1 << 40, 1 << 40), b"u1", b""),
            r"shape \(1099511627776, 1099511627776\) where \(3, 3072\)",
        ),
        (python2_array((-1, 3072), b"u1", bytes(3 * 3072)), r"shape \(-1, 3072\)"),
        (python2_array((3, 32, 96), b"u1", bytes(3 * 3072)), r"shape \(3, 32, 96\)"),
        (python2_array(SHAPE, b"u1", bytes(3 * 3072 - 1)), "9215 bytes where 9216"),
        (python2_array(SHAPE, b"u1", b"").replace(b"K\x01(", b"K\x01(" + HUGE, 1), "shape a huge tuple"),
        (python2_array(SHAPE, b"u1", b"").replace(b"U\x02u1", b"K\x00" + b"\x85" * 99_999), "dtype a huge tuple"),
        (b"N", "is a NoneType, not an array"),
        (b"cnumpy\nndarray\n", "not an array"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)R", "not an array"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)RK\x01\x85b", "unknown pickle version"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01NNNNtb", "dtype None"),
    ],
)
def test_wrong_arrays_are_refused(array, message):
    batch = read_pickle(b"\x80\x02}U\x04data" + array + b"s.", "made")
    with pytest.raises(DatasetError, match=f"made: data .*{message}|made: data {message}"):
        pixels(batch["data"], SHAPE, "made: data")


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 1], "2 values where 3 labels"),
        ((0, 1, 2), "tuple where 3 labels"),
        (None, "NoneType where 3 labels"),
        ([0, 1, 10], "label 10 where 0 to 9"),
        ([0, -1, 1], "label -1"),
        ([0, 1.0, 1], "label 1.0"),
        ([0, True, 1], "label True"),
        ([0, None, 1], "label None"),
        ([0, 1 << 70, 1], "label 1180591620717411303424"),
        ([0, 1 << 99_999, 1], "label a huge int"),
    ],
)
def test_wrong_labels_are_refused(labels, message):
    with pytest.raises(DatasetError, match=message):
        whole_numbers(labels, 3, 10, "made")


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname = kind, size, "/etc/passwd" if kind in b"12" else ""
    return entry


@pytest.mark.parametrize(
    "extra, message",
    [
        (header("../outside"), r"'\.\./outside' points outside"),
        (header("made/../../outside"), "points outside"),
        (header("/tmp/absolute"), "'/tmp/absolute' points outside"),
        (header("made\\..\\outside"), "points outside"),
        (header("made/link", tarfile.SYMTYPE), "'made/link' is a symbolic link"),
        (header("made/link", tarfile.LNKTYPE), "'made/link' is a hard link"),
        (header("made/null", tarfile.CHRTYPE), "'made/null' is a character device"),
        (header("made/disk", tarfile.BLKTYPE), "'made/disk' is a block device"),
        (header("made/pipe", tarfile.FIFOTYPE), "'made/pipe' is a named pipe"),
        (header("made/data"), "'made/data' is there twice"),
        (header("made/huge", size=1_000_001), "'made/huge' has 1000001 bytes, more than 1000000"),
    ],
)
def test_hostile_tars_are_refused_by_name(tmp_path, monkeypatch, extra, message):
    monkeypatch.setattr(archives, "MEMBER_LIMIT", 1_000_000)
    monkeypatch.chdir(tmp_path)
    path = write_tar(tmp_path / "made.tar.gz", "made", {"data": b"content"}, [extra])
    with pytest.raises(DatasetError, match=f"made.tar.gz: (member )?.*{message}"):
        dict(read_tar(path, {"made/data"}))
    assert [entry.name for entry in tmp_path.iterdir()] == ["made.tar.gz"]


def test_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "TOTAL_LIMIT", 100_000)
    monkeypatch.setattr(archives, "COUNT_LIMIT", 10)
    path = write_tar(tmp_path / "big.tar.gz", "made", {"data": b"content"}, [header("made/big", size=1_000_000)])
    assert path.stat().st_size < 10_000
    with pytest.raises(DatasetError, match="big.tar.gz unpacks to more than 100000 bytes"):
        dict(read_tar(path, {"made/data"}))
    path = write_tar(tmp_path / "many.tar.gz", "made", {}, [header(f"made/{i}") for i in range(10)])
    with pytest.raises(DatasetError, match="many.tar.gz holds more than 10 members"):
        dict(read_tar(path, {"made/data"}))


def test_damaged_tars_are_refused(tmp_path):
    content = np.random.RandomState(0).bytes(50_000)
    path = write_tar(tmp_path / "made.tar.gz", "made", {"data": content, "more": content})
    wanted, whole = {"made/data", "made/more"}, path.read_bytes()
    assert dict(read_tar(path, wanted)) == {"made/data": content, "made/more": content}
    for size in (0, 5, 1_000, 60_000, len(whole) - 200):
        path.write_bytes(whole[:size])
        with pytest.raises(DatasetError, match="truncated"):
            dict(read_tar(path, wanted))
    path.write_bytes(whole[:30_000] + bytes(100) + whole[30_100:])
    with pytest.raises(DatasetError, match="damaged or truncated"):
        dict(read_tar(path, wanted))
    path.write_bytes(whole)
    with pytest.raises(DatasetError, match="has no made/other"):
        dict(read_tar(path, {"made/data", "made/other"}))


@pytest.mark.parametrize(
    "size, mode, kind, message",
    [
        ((1024, 4), "RGB", "PNG", r"\(1024, 4\) RGB where \(1024, 3\) RGB"),
        ((1024, 3), "L", "PNG", r"L where \(1024, 3\) RGB"),
        ((1024, 3), "RGB", "BMP", "not a readable PNG"),
    ],
)
def test_wrong_images_are_refused(size, mode, kind, message):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    with pytest.raises(DatasetError, match=message):
        read_png(buffer.getvalue(), (3, 1024), "made.png")
    with pytest.raises(DatasetError, match="made.png is not a readable PNG"):
        read_png(buffer.getvalue()[:40], (3, 1024), "made.png")


def test_an_image_of_16_bits_is_not_cut_to_8():
    """Whatever was brighter than 255 of 65535 became white."""
    buffer = io.BytesIO()
    Image.fromarray(np.arange(0, 2000, 10, dtype=np.uint16).reshape(10, 20)).save(buffer, "PNG")
    with pytest.raises(DatasetError, match=r"made has more than 8 bits a pixel \(mode I;16\); replace the file"):
        archives.decode_image(buffer.getvalue(), "PNG", 1000, "made")


def test_what_is_said_of_an_empty_image_holds_no_address_in_memory():
    for content, says in ((b"", "it is empty"), (b"text", "its content is another")):
        with pytest.raises(DatasetError, match=rf"^made is not a readable PNG \({says}\); replace the file$"):
            archives.decode_image(content, "PNG", 1000, "made")
