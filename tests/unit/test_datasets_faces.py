"""Images of Groups on a made release: which faces make bags, where a crop lies, what is refused; groups on disk."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from shared.datasets import DatasetError, data_root, fetch, images_of_groups, load, prepare, verify
from shared.datasets.images_of_groups import Face, bag, box, crop
from tests.made_archives import write_sources

SIZE = (200, 160)  # width, height of a made photo
ADULT, CHILD = 28, 10


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No mirror, an empty data root, no space needed."""
    monkeypatch.setattr(prepare, "ensure_space", lambda *args: None)
    monkeypatch.setenv("LLP_DATA", str(tmp_path / "root"))
    monkeypatch.delenv("LLP_MIRROR", raising=False)


def jpeg(grey=100):
    buffer = io.BytesIO()
    Image.new("RGB", SIZE, (grey, grey, grey)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def row(age=ADULT, gender=1, eyes=(90, 60, 110, 60)):
    return "\t".join(map(str, (*eyes, age, gender)))


def release(folder, photos):
    """Write a release: {folder of the release: {photo: its rows}}; photo k of each folder has the grey 10 (k + 1)."""
    for name in images_of_groups.PARAMETERS["folders"]:
        (folder / name).mkdir(parents=True)
        lines = []
        for k, (photo, rows) in enumerate(photos.get(name, {}).items()):
            (folder / name / photo).write_bytes(jpeg(10 * (k + 1)))
            lines += [photo, *rows]
        (folder / name / "PersonData.txt").write_text("\r\n".join(lines) + "\r\n")
    return folder


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """mirror(photos) -> (folder of the release, table of sources) with LLP_MIRROR set."""

    def make(photos):
        monkeypatch.setenv("LLP_MIRROR", str(tmp_path / "mirror"))
        source = {"name": "images_of_groups", "how": "mirror", "mirror": "ImagesOfGroups", "url": "http://made/page"}
        folder = release(tmp_path / "mirror" / "ImagesOfGroups", photos)
        return folder, write_sources(tmp_path / "sources.csv", source)

    return make


PHOTOS = {
    "Fam2a": {"a.jpg": [row(), row(gender=2)], "b.JPG": [row(CHILD), row(51, 2)], "none.jpg": []},
    "Fam4a": {"children.jpg": [row(1), row(5), row(10)], "a.jpg": [row(16), row(75, 2), row(28, 2), row(CHILD)]},
    "Fam5a": {"twelve.jpg": [row()] * 12 + [row(CHILD)], "thirteen.jpg": [row()] * 13},
    "Fam8a": {f"{k}.jpg": [row(gender=1 + k % 2)] for k in range(6)},
}


def test_who_is_in_which_bag(mirror, capsys):
    """By hand: 2 of a, 1 of b, 3 of the other a, 12 of twelve, 1 each of six; nobody of none, children, thirteen."""
    _, sources = mirror(PHOTOS)
    assert fetch("images_of_groups", sources=sources) == "mirror"
    assert "10 bags of 7 male and 17 female faces; the paper has 1913 bags" in capsys.readouterr().err
    dataset = load("images_of_groups", sources=sources)
    groups = np.concatenate([dataset.groups_train, dataset.groups_test])
    labels = np.concatenate([dataset.y_train, dataset.y_test])
    assert np.bincount(groups).tolist() == [2, 1, 3, 12, 1, 1, 1, 1, 1, 1]
    assert np.bincount(groups, labels).tolist() == [1, 0, 1, 12, 1, 0, 1, 0, 1, 0]
    assert dataset.image_shape == (120, 96, 3) and dataset.x_train.dtype == np.uint8
    assert dataset.classes == ("male", "female")


def test_photos_are_dealt_whole_and_always_alike(mirror, tmp_path):
    _, sources = mirror(PHOTOS)
    one, two = (tmp_path / "one", tmp_path / "two")
    for root in (one, two):
        fetch("images_of_groups", root, sources)
    dataset = load("images_of_groups", one, sources)
    train, test = set(dataset.groups_train.tolist()), set(dataset.groups_test.tolist())
    assert not train & test and train | test == set(range(10)) and len(test) == 2
    assert verify("images_of_groups", one, sources) == verify("images_of_groups", two, sources)


def test_groups_are_arrays_like_the_others(mirror, tmp_path):
    _, sources = mirror(PHOTOS)
    fetch("images_of_groups", sources=sources)
    folder = tmp_path / "root" / "images_of_groups"
    names = ["train_x", "train_y", "test_x", "test_y", "train_g", "test_g"]
    assert list(json.loads((folder / "manifest.json").read_text())["arrays"]) == names
    dataset = load("images_of_groups", sources=sources)
    assert list(dataset.arrays) == names and dataset.groups_train.dtype == np.int64
    assert isinstance(dataset.groups_test, np.memmap)
    np.save(folder / "train_g.npy", dataset.groups_train + 1)
    with pytest.raises(DatasetError, match="train_g.npy has sha256 .* is recorded"):
        verify("images_of_groups", sources=sources)
    (folder / "train_g.npy").unlink()
    with pytest.raises(DatasetError, match="train_g.npy is missing; run"):
        load("images_of_groups", sources=sources)
    assert fetch("images_of_groups", sources=sources) == "mirror"


def test_children_do_not_count_among_the_twelve():
    def faces(age, n):
        return [Face(((0, 0), (9, 0)), age, 1, "made")] * n

    assert len(bag(faces(13 + 3, 12) + faces(10, 5))) == 12
    assert bag(faces(16, 13)) == bag(faces(10, 3)) == bag([]) == []


def test_the_box_is_two_and_a_half_eye_distances_wide():
    face = Face(((90, 60), (110, 60)), ADULT, 1, "made")
    left, top, right, bottom = box(face)
    assert (right - left, bottom - top) == (50, 62.5)
    assert ((left + right) / 2, top + 0.4 * 62.5) == (100, 60)
    turned = box(Face(((100, 50), (100, 70)), ADULT, 1, "made"))
    assert turned == (left, top, right, bottom)


@pytest.mark.parametrize("shift", [(0, 0), (7, 3), (-70, 40)])
def test_the_eyes_land_where_the_rule_says(shift):
    """Bright eyes in a dark photo: 48 -+ 96 / 5 from the left, 0.4 * 120 from the top, at the border too."""
    x, y = 100 + shift[0], 60 + shift[1]
    image = np.zeros((160, 200, 3), np.uint8)
    for eye in (x - 10, x + 10):
        image[y - 1 : y + 1, eye - 1 : eye + 1] = 255
    found = crop(image, Face(((x - 10, y), (x + 10, y)), ADULT, 1, "made"))[..., 0].astype(float)
    assert found.shape == (120, 96)
    for half, expected in ((slice(0, 48), 28.8), (slice(48, 96), 67.2)):
        weight = np.zeros_like(found)
        weight[:, half] = found[:, half]
        centre = [(np.indices(found.shape)[axis] + 0.5).ravel() @ weight.ravel() / weight.sum() for axis in (0, 1)]
        assert centre == pytest.approx([48, expected], abs=0.3)


def test_beyond_the_border_the_border_is_repeated():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, 0] = (200, 0, 0)
    image[0] = (0, 0, 200)
    found = crop(image, Face(((2, 2), (22, 2)), ADULT, 1, "made"))
    assert found[-1, 0].tolist() == [200, 0, 0] and found[0, -1].tolist() == [0, 0, 200]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1\t2\t3\t4\t28"], "PersonData.txt, line 2: .* is neither a photo nor six numbers"),
        (["one\t2\t3\t4\t28\t1"], "line 2: .* is neither a photo nor six numbers"),
        ([row(), row(age=29)], "line 3: age 29 and gender 1 where one of .*; replace the file"),
        ([row(gender=3)], "line 2: age 28 and gender 3"),
        ([row(eyes=(50, 50, 50, 50))], r"line 2: the eyes \(50, 50\) and \(50, 50\) are not a pixel apart"),
        ([row(eyes=("nan", 50, 50, 50))], "line 2: the eyes .* are not a pixel apart"),
        ([row(), row(eyes=(50, 50, 201, 50))], r"line 3: the eye \(201.0, 50.0\) lies outside a.jpg, 200x160 pixels"),
        ([row(eyes=(-1, 50, 20, 50))], "line 2: the eye .* lies outside"),
        ([row(eyes=(5, 5, "inf", 5))], "line 2: the eye .* lies outside"),
        ([row(), "a.jpg", row()], "line 3: photo 'a.jpg' is there twice"),
        (["../a.jpg"], "line 2: photo '../a.jpg' is no plain file name"),
        (["gone.jpg", row()], "gone.jpg is missing .*PersonData.txt, line 3.; complete the mirror"),
    ],
)
def test_rows_that_are_wrong_are_named(mirror, rows, message):
    _, sources = mirror({"Fam2a": {"a.jpg": rows}, "Fam4a": {"b.jpg": [row()]}})
    with pytest.raises(DatasetError, match=message):
        fetch("images_of_groups", sources=sources)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (jpeg()[:400], "a.jpg is not a readable JPEG"),
        (b"", "a.jpg is not a readable JPEG"),
        (b"GIF89a" + bytes(100), "a.jpg is not a readable JPEG"),
    ],
)
def test_photos_that_are_wrong_are_named(mirror, content, message):
    folder, sources = mirror({"Fam2a": {"a.jpg": [row()]}})
    (folder / "Fam2a" / "a.jpg").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        fetch("images_of_groups", sources=sources)


def test_a_photo_that_unpacks_to_too_much_is_refused_before_it_is_decoded(mirror, monkeypatch):
    _, sources = mirror({"Fam2a": {"a.jpg": [row()]}})
    monkeypatch.setattr(images_of_groups, "PIXELS", 31_999)
    with pytest.raises(DatasetError, match="a.jpg has 200x160 pixels, more than 31999; it is not the official file"):
        fetch("images_of_groups", sources=sources)
    monkeypatch.setattr(images_of_groups, "BYTES", 100)
    with pytest.raises(DatasetError, match="a.jpg has more than 100 bytes .*line 2"):
        fetch("images_of_groups", sources=sources)


def test_a_release_that_is_incomplete_or_not_there(mirror, monkeypatch, tmp_path):
    folder, sources = mirror({"Fam2a": {"a.jpg": [row()]}})
    with pytest.raises(DatasetError, match="has 1 photos with faces older than 12 years"):
        fetch("images_of_groups", sources=sources)
    (folder / "Fam8a" / "PersonData.txt").unlink()
    with pytest.raises(DatasetError, match="Fam8a/PersonData.txt is missing; complete the mirror"):
        fetch("images_of_groups", sources=sources)
    monkeypatch.setenv("LLP_MIRROR", "")
    with pytest.raises(DatasetError, match="LLP_MIRROR names no mirror folder; get the release .*http://made/page"):
        fetch("images_of_groups", sources=sources)
    assert not (tmp_path / "root" / "images_of_groups").exists()


def test_photos_that_no_row_names_are_said(mirror, capsys):
    """Of a table that was cut off between two photos, the rest of them was left out in silence."""
    folder, sources = mirror(PHOTOS)
    table = folder / "Fam8a/PersonData.txt"
    table.write_bytes(table.read_bytes().partition(b"4.jpg")[0])
    (folder / "Fam8a/Thumbs.db").touch()
    fetch("images_of_groups", sources=sources)
    said = capsys.readouterr().err
    assert f"2 photos of {folder}/Fam8a are in no row of PersonData.txt, as 4.jpg; if that file was cut off" in said
    assert said.count("are in no row") == 1
    (folder / "Fam8a/4.jpg").unlink()
    (folder / "Fam8a/4.jpg").symlink_to("nowhere")
    shutil.rmtree(data_root() / "images_of_groups")
    with pytest.raises(DatasetError, match=r"Fam8a/4\.jpg is a link to nothing"):
        fetch("images_of_groups", sources=sources)


class TestAuthorsCrops:
    """The archive that the paper's authors publish: bag before the first "-", label before the ending."""

    NAMES = ("a_1-0_f.png", "a_1-1_m.png", "b-7-x_f.jpg", "c-0f.png", "c-1m.png", "c-2f.png")

    def content(self, number, kind="PNG", size=(96, 120)):
        buffer = io.BytesIO()
        Image.new("RGB", size, (20 * number + 20,) * 3).save(buffer, kind)
        return buffer.getvalue()

    def files(self, names=NAMES):
        return {name: self.content(k, "JPEG" if name.endswith("jpg") else "PNG") for k, name in enumerate(names)}

    @pytest.fixture
    def crops(self, tmp_path, monkeypatch):
        """crops(form, {name: content}) -> table of sources, with the crops in the mirror in that form."""

        def make(form, files, counts=(3, 2, 4), member=None):
            monkeypatch.setattr(images_of_groups, "CROPS_COUNTS", counts)
            monkeypatch.setenv("LLP_MIRROR", str(tmp_path / "mirror"))
            place = tmp_path / "mirror" / form
            place.parent.mkdir(exist_ok=True)
            if form == "family-faces":
                (place / "images").mkdir(parents=True)
                for name, content in files.items():
                    (place / "images" / name).write_bytes(content)
            else:
                with tarfile.open(place, "w:gz" if form.endswith("gz") else "w") as tar:
                    for name, content in reversed(files.items()):
                        info = tarfile.TarInfo(f"./{name}")
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))
                    if member:
                        tar.addfile(member)
            source = {
                "name": "images_of_groups",
                "how": "mirror",
                "mirror": "ImagesOfGroups",
                "url": "http://made/page",
            }
            return write_sources(tmp_path / "sources.csv", source)

        return make

    @pytest.mark.parametrize("form", images_of_groups.CROPS)
    def test_bags_and_labels_are_in_the_names(self, crops, form, capsys):
        sources = crops(form, self.files())
        assert fetch("images_of_groups", sources=sources) == "mirror"
        assert "3 bags of 2 male and 4 female faces, as in the paper" in capsys.readouterr().err
        dataset = load("images_of_groups", sources=sources)
        groups = np.concatenate([dataset.groups_train, dataset.groups_test])
        labels = np.concatenate([dataset.y_train, dataset.y_test])
        grey = np.concatenate([dataset.x_train, dataset.x_test])[:, 60, 48, 0]
        order = np.argsort(grey)
        assert groups[order].tolist() == [0, 0, 1, 2, 2, 2] and labels[order].tolist() == [1, 0, 1, 1, 0, 1]
        assert grey[order].tolist() == pytest.approx([20, 40, 60, 80, 100, 120], abs=1)
        assert dataset.image_shape == (120, 96, 3)

    def test_all_forms_give_the_same_arrays(self, crops, tmp_path):
        found = set()
        for form in images_of_groups.CROPS[::-1]:
            sources = crops(form, self.files())
            fetch("images_of_groups", tmp_path / form, sources)
            found.add(verify("images_of_groups", tmp_path / form, sources))
        assert len(found) == 1

    def test_they_come_before_the_release(self, crops, tmp_path, capsys):
        sources = crops("family-faces.tar", self.files())
        release(tmp_path / "mirror" / "ImagesOfGroups", PHOTOS)
        fetch("images_of_groups", sources=sources)
        assert "the authors' crops" in capsys.readouterr().err

    def test_a_crop_of_another_size_is_rescaled(self, crops):
        files = self.files() | {"c-2f.png": self.content(5, size=(48, 60))}
        sources = crops("family-faces.tar", files)
        fetch("images_of_groups", sources=sources)
        assert load("images_of_groups", sources=sources).image_shape == (120, 96, 3)

    def test_counts_that_are_not_the_papers_are_refused_with_both(self, crops):
        sources = crops("family-faces.tar.gz", self.files(), counts=images_of_groups.CROPS_COUNTS)
        with pytest.raises(DatasetError, match="3 bags of 2 male and 4 female .* paper has 1913 bags of 3439 .*4012"):
            fetch("images_of_groups", sources=sources)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("nodash_f.png", None, "'nodash_f.png' is not called"),
            ("d-0_x.png", None, "'d-0_x.png' is not called"),
            ("d-0_f", None, "'d-0_f' is not called"),
            ("-0_f.png", None, "'-0_f.png' is not called"),
            ("d-0_f.png", b"GIF89a", "d-0_f.png is not a readable JPEG"),
        ],
    )
    def test_what_is_no_crop_is_named(self, crops, name, content, message):
        sources = crops("family-faces.tar.gz", self.files() | {name: content or self.content(1)})
        with pytest.raises(DatasetError, match=message):
            fetch("images_of_groups", sources=sources)

    @pytest.mark.parametrize(
        ("name", "kind", "message"),
        [
            ("../d-0_f.png", tarfile.REGTYPE, "points outside the archive"),
            ("/d-0_f.png", tarfile.REGTYPE, "points outside the archive"),
            ("d-0_f.png", tarfile.SYMTYPE, "is a symbolic link"),
        ],
    )
    def test_tricks_are_refused(self, crops, name, kind, message):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        sources = crops("family-faces.tar.gz", self.files(), member=member)
        with pytest.raises(DatasetError, match=message):
            fetch("images_of_groups", sources=sources)

    def test_a_truncated_archive_is_refused(self, crops, tmp_path):
        sources = crops("family-faces.tar.gz", self.files())
        path = tmp_path / "mirror" / "family-faces.tar.gz"
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(DatasetError, match="is damaged or truncated"):
            fetch("images_of_groups", sources=sources)
