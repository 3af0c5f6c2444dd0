"""What `make fuzz` found, each kind as a small file: one sentence says what is wrong, in little memory."""

import io
import re
import struct
import tarfile
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from shared.config import ConfigError
from shared.config.outputs import read_outputs
from shared.datasets import archives, images_of_groups
from shared.datasets.catalogue import DatasetError
from shared.datasets.localised import files


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


NOTHING = "tables: {}\nfigures: {}\nmetrics: {}\n"
ONE = "tables: {a: {title: A}}\nfigures: {}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (NOTHING.replace("tables: {}", "tables: [a]"), "tables must be a mapping, not a list"),
        (NOTHING.replace("figures: {}", "figures:"), "figures must be a mapping, not empty"),
        (NOTHING.replace("figures: {}", "figures: {1: {title: A}}"), "figures: 1 is an int to YAML"),
        (NOTHING.replace("figures: {}", "figures: {a: {title: A, from: 3}}"), "`from` must name a table or list some"),
        (f"{ONE}metrics: true", "metrics must be a mapping, not a bool"),
        (f"{ONE}metrics: {{table: a, name: 3}}", "metrics.name must be a text, not an int"),
        (f"{ONE}metrics: {{table: a, name: x, where: [a]}}", "metrics.where must be a mapping, not a list"),
        (f"{ONE}metrics: {{}}\nplot: {{table: a, x: [b]}}", "plot.x must be a text, not a list"),
    ],
)
def test_a_part_of_outputs_that_is_of_another_kind_is_named(tmp_path, text, says):
    path = tmp_path / "papers/toy/outputs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"^papers/toy/outputs\.yaml: .*{re.escape(says)}"):
        read_outputs("toy", tmp_path)


def test_a_polygon_beyond_all_numbers_fills_what_it_covers():
    """Corners at 1e308 are read as they are, and overflow without a warning."""
    corners = np.array([(-1e308, -1e308), (-1e308, 3), (1e308, 3), (1e308, -1e308)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        label = files.filled([corners], (4, 5))
    assert label.tolist() == [[1, 1, 1, 0, 0]] * 4
