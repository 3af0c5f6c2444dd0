"""The registry: every set of every paper is in it, and each kind answers to list, fetch and verify."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from shared.config import ConfigError, papers_of, tiers
from shared.datasets import RECIPES, is_simulated, read_sources, registry
from shared.datasets.__main__ import main
from shared.datasets.catalogue import REPO
from shared.datasets.localised.releases import RELEASES

SIMULATED = {"two_moons", "simulated_images", "tissue_sim", "simulated_holograms"}


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    """(mirror, data root), both empty."""
    for name in ("mirror", "data"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"LLP_{name.upper()}", str(tmp_path / name))
    return tmp_path / "mirror", tmp_path / "data"


@pytest.fixture(scope="module")
def needed():
    """What the plans of all papers need; made once, for it takes seconds."""
    return registry.needs()


def test_every_set_that_a_run_asks_for_is_registered(needed):
    """A set that is not gets its row in data/sources.csv."""
    assert set(needed) <= set(read_sources())
    assert needed["two_moons"]["plot"] == [tier for tier in tiers() if "plot" in papers_of(tier)]


def test_every_reader_has_its_row_and_every_row_says_what_it_is():
    table = read_sources()
    assert {*RECIPES, *RELEASES} <= set(table)
    for name, ways in table.items():
        assert all(way.licence and way.size for way in ways), name
        assert {way.how for way in ways} <= {"mirror", "official", "npm", "generated", "drawn", "private"}
        assert all(way.mirror for way in ways if way.how in ("mirror", "private")), name
    kinds = {name: entry.kind for name, entry in registry.entries().items()}
    assert {name for name in kinds if kinds[name] == registry.DRAWN} == {
        "tissue_sim",
        "simulated_holograms",
        "breast_cancer",
        "wine",
    }
    assert {name for name in kinds if kinds[name] == registry.READ_IN_PLACE} == {
        "wbc_holograms",
        "wbc_holograms_synthetic",
    }


def test_what_is_simulated():
    assert {name for name in read_sources() if is_simulated(name)} == SIMULATED
    assert not is_simulated("random") and not is_simulated("one's own")


def test_the_question_costs_no_torch_and_no_pandas():
    ask = "import sys; from shared.datasets import is_simulated, portable; is_simulated('x'), portable('x'); "
    ask += "sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'scipy', 'sklearn', 'shared.config')))"
    assert subprocess.run([sys.executable, "-c", ask], cwd=REPO).returncode == 0


def test_the_list_has_every_set_and_fits_a_page(places, needed, capsys, monkeypatch):
    monkeypatch.setattr(registry, "needs", lambda: needed)
    (places[0] / "wbc_holograms").mkdir()
    (places[0] / "tnbc").mkdir()
    assert main(["fetch", "digits"]) == 0
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    rows = {line.split()[0].removesuffix("*"): line for line in lines if line and not line.startswith((" ", "set"))}
    said = " ".join(" ".join(lines).split())
    assert set(read_sources()) <= set(rows)
    starred = {line.split()[0].removesuffix("*") for line in lines if line.partition(" ")[0].endswith("*")} - {""}
    assert starred == SIMULATED
    assert " no " in rows["cifar10"] and "mirror, official, npm" in rows["cifar10"]
    assert "benchmark: cpu gpu; plot: cpu gpu paper" in said and "benchmark" in rows["cifar100"]
    assert " yes " in rows["digits"] and "1,797 images" in rows["digits"]
    assert "in mirror" in rows["tnbc"] and "ece: cpu" in rows["tnbc"]
    assert "private" in rows["wbc_holograms"] and "in mirror" in rows["wbc_holograms"]
    assert "drawn  " in rows["tissue_sim"] and "ece: quick smoke" in rows["tissue_sim"]
    assert "no run" in rows["simulated_images"]
    assert any("GPL-3.0" in line for line in lines)


def test_a_plan_that_cannot_be_made_is_told_and_left_out(monkeypatch, capsys):
    def broken(paper, tier):
        raise ConfigError("a key is misspelt")

    monkeypatch.setattr("shared.config.plan", broken)
    assert registry.needs() == {}
    assert "rot, tier smoke: a key is misspelt" in capsys.readouterr().err


def test_drawn_sets_answer_in_a_sentence(capsys):
    assert main(["fetch", "tissue_sim", "simulated_holograms"]) == 0
    sentence = "is drawn by each run from its seed: there is nothing to fetch"
    assert capsys.readouterr().err == f"tissue_sim {sentence}\nsimulated_holograms {sentence}\n"
    assert main(["verify", "tissue_sim"]) == 0 and "nothing to verify" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_sets_that_are_read_in_the_mirror_say_where_they_are_or_whom_to_ask(places, capsys, command):
    assert main([command, "wbc_holograms", "wbc_holograms_synthetic"]) == 1
    private, linked = capsys.readouterr().err.splitlines()
    assert "it is not public; ask the authors of Yellin et al. (2018); a copy goes into LLP_MIRROR" in private
    assert "get it from https://github.com/carolina-pacheco/" in linked
    (places[0] / "wbc_holograms").mkdir()
    assert main([command, "wbc_holograms"]) == 0
    assert f"wbc_holograms is in {places[0]}/wbc_holograms: " in "".join(capsys.readouterr())


def test_a_private_set_says_so(capsys):
    assert main(["fetch", "til"]) == 1
    assert "it is private to the authors of the paper and was never released" in capsys.readouterr().err


def test_ways_that_a_set_has_not_are_refused(capsys):
    assert main(["fetch", "tnbc", "--from", "npm"]) == 1
    assert "tnbc has no way 'npm'" in capsys.readouterr().err


@pytest.mark.parametrize("name, hint", [("tnbd", "did you mean 'tnbc'"), ("zzz", "`list` names them"), ("../tnbc", "")])
def test_unknown_names_are_wrong_usage(places, capsys, name, hint):
    (places[0].parent / "tnbc").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(["fetch", name])
    assert stop.value.code == 2 and hint in capsys.readouterr().err


def test_hidden_folders_and_copies_are_no_sets(places):
    for name in ("mine", ".mine.new", "mine~", "mine.bak"):
        (places[1] / name / "images").mkdir(parents=True)
        (places[1] / name / "manifest.json").write_text("{}")
    assert [name for name in registry.entries() if "mine" in name] == ["mine"]


def test_a_folder_that_holds_what_a_system_left_is_empty(places, capsys):
    """A lone .DS_Store counted as data of one's own, which nothing may replace."""
    for name in ("two_moons", "own"):
        (places[1] / name).mkdir()
        (places[1] / name / ".DS_Store").touch()
    (places[0] / "own/images").mkdir(parents=True)
    (places[0] / "own/labels").mkdir()
    for kind, pixels in (("images", np.zeros((30, 30, 3), np.uint8)), ("labels", np.eye(30, dtype=np.uint8))):
        Image.fromarray(pixels).save(places[0] / f"own/{kind}/a.png")
    assert main(["fetch", "own", "two_moons"]) == 0
    assert "to be made again" not in capsys.readouterr().err
    assert main(["verify", "own", "two_moons"]) == 0


def test_a_name_that_no_folder_can_have_and_a_note_that_cannot_be_written_are_sentences(places, tmp_path, capsys):
    (tmp_path / "file").touch()
    for command in (["fetch", "a" * 300], ["fetch", "images_of_groups", "--if-any", str(tmp_path / "file/note")]):
        assert main(command) == 1
        assert capsys.readouterr().err.splitlines()[-1].endswith("; mend that and call again")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("cifar100", "cifar-100-python/train"),
        ("mnist", "mnist/train-images-idx3-ubyte"),
        ("wbc_stained", "segmentation_WBC/Class Labels of Dataset 1.csv"),
        ("images_of_groups", "ImagesOfGroups/Fam2a/PersonData.txt"),
        ("cifar10", "cifar-10-python.tar.gz"),
    ],
)
def test_a_link_to_nothing_in_the_mirror_is_called_one(places, capsys, name, path):
    """It was said to be missing, or the set to be in no mirror."""
    (places[0] / path).parent.mkdir(parents=True, exist_ok=True)
    (places[0] / path).symlink_to("../.git/annex/x")
    assert main(["fetch", name, "--from", "mirror"]) == 1
    assert f"{places[0] / path} is a link to nothing, ../.git/annex/x; have what" in capsys.readouterr().err
