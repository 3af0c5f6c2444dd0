"""Where data lie, and texts that say so in the same words on every machine and for all settings."""

import os
from pathlib import Path

import pytest

from shared.datasets import DatasetError, data_root, load, portable
from shared.datasets.catalogue import REPO, SOURCES, Absent, Source
from shared.datasets.download import find_in_mirror
from shared.datasets.localised import prepared

SETTINGS = ["unset", "absolute", "in the repository", "around the repository", "relative", "a link", "with a blank"]


@pytest.fixture(params=SETTINGS)
def setting(request, monkeypatch, tmp_path):
    """LLP_DATA in one of the ways to set it, to an empty folder where that can be."""
    monkeypatch.chdir(tmp_path)
    for name in ("LLP_DATA", "LLP_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    ways = {
        "absolute": tmp_path / "data",
        "in the repository": REPO / "results" / "none",
        "around the repository": REPO.parent,
        "relative": "data",
        "a link": tmp_path / "link",
        "with a blank": tmp_path / "my data",
    }
    if request.param != "unset":
        monkeypatch.setenv("LLP_DATA", str(ways[request.param]))


def said(ask, *arguments):
    with pytest.raises(DatasetError) as error:
        ask(*arguments)
    return portable(error.value)


def test_a_set_that_is_not_prepared_is_so_in_the_same_words(setting):
    if not (data_root() / "images_of_groups").exists():
        expected = (
            "images_of_groups is not prepared in $LLP_DATA/images_of_groups; run: python -m shared.datasets fetch"
        )
        assert said(load, "images_of_groups") == f"{expected} images_of_groups"


def test_files_are_named_below_folders_that_everybody_knows(setting):
    root = data_root()
    assert root.is_absolute()
    assert portable(f"{root}/x/a.npy is damaged\n in {root}") == "$LLP_DATA/x/a.npy is damaged in $LLP_DATA"
    assert portable(f"{root.resolve()}/x, line 3: no") == "$LLP_DATA/x, line 3: no"
    assert portable(f"{SOURCES}: a row has no licence") == "./data/sources.csv: a row has no licence"
    assert portable(f"{REPO}/papers/rot/names.py") == "./papers/rot/names.py"
    assert "LLP_DATA" not in portable(f"{root}_of_mine/deep/x.txt, {root}-2/x, {root}.old/x, /deep{root}/x/y")
    assert portable("/usr/lib/python3/x.py and /opt/a b") == "x.py and a b"


@pytest.mark.parametrize(
    "text",
    [
        "training data and the data are; data/x is relative",
        "get it from https://doi.org/10.5281/zenodo.1175282 (or http://host/a/b/c), laid out as shared/a/b.py says",
        "it has no images/ with labels/*.png or objects.csv; and/or 3/4/5",
        "$LLP_DATA/cifar10/train_x.npy is not below $LLP_MIRROR/cifar/a.gz nor ./data/sources.csv nor ~/x/y",
    ],
)
def test_what_names_no_folder_of_a_machine_is_left_as_it_is(setting, text):
    assert portable(text) == text and portable(ValueError(text)) == text


@pytest.mark.parametrize("mirror", ["", "none", "there", "relative", "in the data"])
def test_what_no_mirror_has_is_missing_for_one_reason(setting, monkeypatch, tmp_path, mirror):
    places = {"": "", "relative": "mirror", "in the data": data_root() / "features" / "none"}
    monkeypatch.setenv("LLP_MIRROR", str(places.get(mirror, tmp_path / mirror)))
    if mirror == "there":
        (tmp_path / mirror).mkdir()
    (tmp_path / "mirror").mkdir()
    source = Source("x", "1", "mirror", "", "", "", "x X x-master", {}, "", "")
    assert said(find_in_mirror, source) == "it is not in $LLP_MIRROR"
    with pytest.raises(Absent) as error:
        find_in_mirror(source)
    assert portable(f"x: {error.value}; get it from A: there") == "x: it is not in $LLP_MIRROR; get it from A: there"
    if not (data_root() / "til").exists():
        monkeypatch.setenv("LLP_DATA", str(tmp_path / "fresh"))
        reason = "til: it is not in $LLP_MIRROR; it is private to the authors of the paper and was never released"
        assert said(prepared.open, "til").startswith(reason)


def test_the_mirror_is_named_as_such_wherever_it_is(setting, monkeypatch, tmp_path):
    for place in (tmp_path / "mirror", data_root() / "mirror", Path("mirror")):
        monkeypatch.setenv("LLP_MIRROR", str(place))
        text = f"{os.path.abspath(place)}/tnbc/Slide_01 has no masks; {data_root()}/tnbc"
        assert portable(text) == "$LLP_MIRROR/tnbc/Slide_01 has no masks; $LLP_DATA/tnbc"


def test_one_folder_for_both_is_the_data(monkeypatch, tmp_path):
    for name in ("LLP_DATA", "LLP_MIRROR"):
        monkeypatch.setenv(name, str(tmp_path))
    assert portable(f"{tmp_path}/x") == "$LLP_DATA/x"
    assert said(find_in_mirror, Source("x", "1", "mirror", "", "", "", "x", {}, "", "")) == "it is not in $LLP_MIRROR"
