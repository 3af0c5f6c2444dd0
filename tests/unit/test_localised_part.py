"""An official set of which the mirror has a part: never taken for the whole, taken where a person says so."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from shared.datasets import DatasetError, registry
from shared.datasets.__main__ import main
from shared.datasets.catalogue import read_sources
from shared.datasets.localised import prepared
from shared.datasets.localised.releases import RELEASES


@pytest.fixture
def copied(places, tmp_path):
    """copied(k) has the first k of the 50 images of TNBC in the mirror, in the layout of the release."""
    whole, mirror = tmp_path / "whole", places[0] / "tnbc"
    for n in range(50):
        for kind, pixels in (("Slide", np.full((20, 20, 3), n, np.uint8)), ("GT", np.eye(20, dtype=np.uint8))):
            path = whole / f"{kind}_{n % 11 + 1:02}/{n % 11 + 1:02}_{n // 11}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)

    def copy(count):
        shutil.rmtree(mirror, ignore_errors=True)
        for kind in ("Slide", "GT"):
            for path in sorted(whole.glob(f"{kind}_*/*.png"))[:count]:
                (mirror / path.relative_to(whole)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, mirror / path.relative_to(whole))

    return copy


def row():
    """State and size of TNBC in the list."""
    entry = registry.entry_of("tnbc")
    return entry.state(), entry.size


def test_a_part_of_an_official_set_is_refused_and_leaves_nothing(copied, places, capsys):
    """43 of 50 images were "already in ..., whole", and runs trained on them."""
    copied(43)
    assert main(["fetch", "tnbc"]) == 1
    said = capsys.readouterr().err
    assert f"{places[0]}/tnbc has 43 of 50 images; complete the mirror, or, if a part is meant, run: python -m" in said
    with pytest.raises(DatasetError, match="43 of 50 images") as error:
        prepared.open("tnbc")
    assert error.value.not_run and [path.name for path in places[1].iterdir()] == [".tnbc.lock"]
    copied(50)
    assert main(["fetch", "tnbc"]) == 0 and row() == ("yes", "50 images, 4,028 nuclei")


def test_a_part_that_a_person_wants_is_named_everywhere_and_completed_once_the_mirror_has_more(copied, places, capsys):
    copied(43)
    assert main(["fetch", "tnbc", "--partial"]) == 0 and row() == ("in part", "43 of 50 images")
    assert json.loads((places[1] / "tnbc/manifest.json").read_text())["partial"] == "43 of 50 images"
    assert "tnbc: 43 of 50 images, " in capsys.readouterr().err
    assert main(["fetch", "tnbc"]) == 0 and "in part (43 of 50 images)" in capsys.readouterr().err
    assert main(["verify", "tnbc"]) == 0 and "in part (43 of 50 images), 43 images" in capsys.readouterr().out
    copied(47)
    assert main(["fetch", "tnbc"]) == 0 and row() == ("in part", "47 of 50 images")
    copied(40)
    assert main(["fetch", "tnbc"]) == 0 and row() == ("in part", "47 of 50 images")
    copied(50)
    assert main(["fetch", "tnbc"]) == 0 and row()[0] == "yes"
    assert "partial" not in prepared.manifest(places[1] / "tnbc") and len(prepared.open("tnbc").names) == 50
    assert sorted(path.name for path in places[1].iterdir()) == [".tnbc.lock", "tnbc"]


def test_a_part_that_was_prepared_in_silence_before_is_not_whole(copied, places, monkeypatch, capsys):
    copied(43)
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "RELEASES", {"tnbc": prepared.OWN.__class__(read=RELEASES["tnbc"].read)})
        prepared.prepare("tnbc")
    assert row()[0] == "not whole"
    for attempt in (lambda: prepared.open("tnbc"), lambda: registry.examine(registry.entry_of("tnbc"))):
        with pytest.raises(DatasetError, match="data/tnbc has 43 of 50 images; complete the mirror"):
            attempt()
    assert main(["fetch", "tnbc"]) == 1
    copied(45)
    before = (places[1] / "tnbc/manifest.json").read_bytes()
    assert main(["fetch", "tnbc"]) == 1 and (places[1] / "tnbc/manifest.json").read_bytes() == before
    copied(43)
    assert main(["fetch", "tnbc", "--partial"]) == 0 and row() == ("in part", "43 of 50 images")
    copied(50)
    assert main(["fetch", "tnbc"]) == 0 and row()[0] == "yes"
    assert "made again from the mirror" in capsys.readouterr().err


def test_a_set_of_ones_own_is_made_again_once_the_mirror_has_more_of_it(places, capsys):
    for n in range(3):
        for kind, pixels in (("images", np.zeros((20, 20, 3), np.uint8)), ("labels", np.eye(20, dtype=np.uint8))):
            path = places[0] / f"own/{kind}/{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        assert main(["fetch", "own"]) == 0 and len(prepared.open("own").names) == n + 1
    assert main(["fetch", "own"]) == 0 and "own: already in" in capsys.readouterr().err
    shutil.rmtree(places[0] / "own")
    (places[0] / "own").mkdir()
    assert main(["fetch", "own"]) == 0 and "what is prepared stays" in capsys.readouterr().err
    assert main(["fetch", "digits", "--partial"]) == 1 and "--partial is not for it" in capsys.readouterr().err


def test_how_many_images_there_are_is_what_the_table_of_sources_says():
    for name, release in RELEASES.items():
        size = read_sources()[name][0].size
        assert size.startswith(f"{release.images:,} images") if release.images else size == "not known", name
