"""What `make fuzz` found, each kind as a small file: one sentence says what is wrong, in little memory."""

import io
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from shared.datasets import archives, images_of_groups
from shared.datasets.catalogue import DatasetError


def test_a_wanted_member_that_is_a_folder_is_refused(tmp_path):
    path = tmp_path / "made.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("made/batch")
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
    with pytest.raises(DatasetError, match=r"made\.tar: member 'made/batch' is a folder, not a file; remove it"):
        list(archives.read_tar(path, {"made/batch"}))


def test_a_png_whose_decoder_raises_what_no_manual_names_is_refused():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    head, body = buffer.getvalue()[:33], buffer.getvalue()[33:]
    empty = struct.pack(">I", 0) + b"iCCP" + struct.pack(">I", zlib.crc32(b"iCCP"))  # an IndexError in Pillow
    with pytest.raises(DatasetError, match="made is not a readable PNG .*replace the file"):
        archives.read_png(head + empty + body, (4, 4), "made")
    assert archives.read_png(head + body, (4, 4), "made").shape == (4, 4, 3)


def test_a_face_as_large_as_a_thousand_photos_is_refused(tmp_path):
    """Eyes at both ends of a long strip: the square around them would take 8 GB."""
    Image.fromarray(np.zeros((1, 30_000, 3), np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "PersonData.txt").write_text("a.jpg\n10\t0\t29000\t0\t28\t1\n")
    ((photo, rows),) = images_of_groups.read_rows(tmp_path / "PersonData.txt")
    with pytest.raises(DatasetError, match=r"line 2: the face has 72475x90594 pixels, more than .*correct its eyes"):
        images_of_groups.crops(photo, rows)
