"""Configuration: what a person writes is either understood or refused by name; runs come in the order of value."""

import re
import subprocess
import sys

import pytest
import yaml

from shared.config import (
    ConfigError,
    find,
    load_tier,
    papers,
    papers_of,
    plan,
    read_config,
    repository,
    tiers,
)
from shared.config.spec import Section, Sections, Spec

TIER = {"tier": "tiny", "says": "for a test"}
PAPER = {
    "sections": {
        "data": {"dataset": {"value": "moons", "source": "Section 4"}},
        "training": {
            "loss": {"value": "kl", "source": "Section 3"},
            "rate": {"value": 0.1, "source": "Section 4.1"},
            "seed": {"value": 0, "source": "assumed: one run"},
        },
    },
    "tiers": {
        "tiny": {
            "settings": {"rate": {"value": 0.5, "source": "assumed: short"}},
            "experiments": [
                {"name": "first", "grid": {"loss": ["kl", "rot"], "seed": [0, 1]}},
                {
                    "name": "second",
                    "grid": {"rate": [0.5, 0.9], "dataset": "rings"},
                    "set": {"loss": {"value": "avg", "source": "assumed: a control"}},
                },
            ],
        },
        "full": {"experiments": [{"name": "all", "grid": {}}]},
    },
}
NAMES = """
def method(spec):
    return spec.loss


def path(spec, method):
    return f"{spec.dataset}/{method}"
"""


@pytest.fixture
def root(tmp_path):
    """A repository of one tier and one paper, written by `write`."""
    write(tmp_path, TIER, PAPER)
    return tmp_path


def write(root, tier, paper):
    for path, content in ((root / "config" / "tiny.yaml", tier), (root / "papers" / "toy" / "config.yaml", paper)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    (root / "papers" / "toy" / "names.py").write_text(NAMES)


def changed(place, value):
    """PAPER with the entry at `place`, a list of keys, set to `value`."""
    paper = yaml.safe_load(yaml.safe_dump(PAPER))
    inner = paper
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return paper


def spec_of(paper="toy", **values):
    """A spec of a paper without conditions."""
    return Spec(Sections(paper, (Section("all", tuple(values)),)), values)


@pytest.mark.parametrize("tier", tiers())
def test_every_tier_of_the_repository_loads_and_goes_by_the_name_of_its_file(tier):
    assert load_tier(tier).tier == tier and load_tier(tier).says


@pytest.mark.parametrize("tier", tiers())
def test_every_tier_of_every_paper_has_runs_with_distinct_ids(tier):
    assert papers_of(tier)
    for paper in papers_of(tier):
        runs = plan(paper, tier)
        assert runs and len({run.id for run in runs}) == len(runs)
        for run in runs:
            dataset = run.spec.dataset if "dataset" in run.spec else "random"
            assert run.id.split("/")[1].split("-")[0] == dataset and run.id.startswith(f"{paper}/") and run.seconds > 0
            assert re.fullmatch(r"[\w./+-]+", run.id) and run.id.endswith(f"seed{run.spec.seed}")


def test_the_paper_tier_of_rot_is_the_protocol_and_nothing_else():
    config = read_config("rot")
    varied = {key for experiment in config.tiers["paper"]["experiments"] for key in experiment["grid"]}
    for run in plan("rot", "paper"):
        assert {k: v for k, v in run.spec.values().items() if k not in varied} == {
            k: config.values[k] for k in run.spec if k not in varied
        }


def test_ids_do_not_depend_on_the_order_in_which_python_walks_a_set(root):
    """Two keys beyond the names that vary at once join the method's name in one order, in every process."""
    keys = ("alpha", "epsilon", "width", "hidden")
    paper = changed(["sections", "more"], {key: {"value": 1, "source": "Section 1"} for key in keys})
    paper["tiers"]["tiny"]["experiments"] = [{"name": "all", "grid": dict.fromkeys(keys, 2) | {"loss": "rot"}}]
    write(root, TIER, paper)
    script = f"import pathlib, shared.config as c; print(c.plan('toy', 'tiny', pathlib.Path({str(root)!r}))[0].id)"
    ids = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(repository())},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert ids == {"toy/moons/rot-alpha2-epsilon2-hidden2-width2/seed0\n"}


def test_a_misspelt_key_of_a_tier_is_refused_with_the_likeliest_spelling(root):
    write(root, {**TIER, "devise": "cpu"}, PAPER)
    with pytest.raises(ConfigError, match=r"tiny\.yaml: unknown key 'devise'; did you mean 'device'\?"):
        load_tier("tiny", root)


def test_a_tier_without_its_sentence_is_refused_by_the_missing_key(root):
    write(root, {"tier": "tiny"}, PAPER)
    with pytest.raises(ConfigError, match=r"tiny\.yaml.*'says'"):
        load_tier("tiny", root)


def test_a_copied_tier_file_that_still_names_the_old_tier_is_refused(root):
    """Its records would land in the results of the tier it was copied from."""
    write(root, {**TIER, "tier": "gpu"}, PAPER)
    with pytest.raises(ConfigError, match=r"tiny\.yaml.*gpu"):
        load_tier("tiny", root)


def test_a_tier_has_the_papers_whose_files_have_it(root):
    other = changed(["tiers"], {"full": PAPER["tiers"]["full"]})
    (root / "papers" / "other").mkdir()
    (root / "papers" / "other" / "config.yaml").write_text(yaml.safe_dump(other))
    (root / "papers" / "other" / "names.py").write_text(NAMES)
    (root / "papers" / "no_paper").mkdir()
    assert papers(root) == ["other", "toy"]
    assert papers_of("tiny", root) == ["toy"] and papers_of("full", root) == ["other", "toy"]
    assert papers_of("huge", root) == []
    with pytest.raises(ConfigError, match=r"papers/other/config\.yaml has no tier 'tiny'; it has full"):
        plan("other", "tiny", root)


def test_an_unknown_tier_is_answered_with_the_tiers_there_are(root):
    (root / "config" / "schema.yaml").write_text("type: object\n")
    with pytest.raises(ConfigError, match=r"there is no tier 'huge'; there are tiny$"):
        load_tier("huge", root)
    with pytest.raises(ConfigError, match=r"papers/toy/config\.yaml has no tier 'huge'; it has tiny, full"):
        plan("toy", "huge", root)


def test_an_unknown_paper_is_answered_with_the_likeliest_and_else_with_all(root):
    for asked, hint in (("tyo", r"did you mean 'toy'\?"), ("zzz", "known are toy")):
        with pytest.raises(ConfigError, match=rf"there is no paper '{asked}'; {hint}"):
            read_config(asked, root)
        with pytest.raises(ConfigError, match=rf"there is no paper '{asked}'; {hint}"):
            plan(asked, "tiny", root)


def test_a_paper_without_names_is_asked_for_them(root):
    (root / "papers" / "toy" / "names.py").unlink()
    with pytest.raises(ConfigError, match=r"papers/toy/names\.py is missing; "):
        plan("toy", "tiny", root)


@pytest.mark.parametrize("text", ["a: [1", "just words", "- a list\n"], ids=["broken", "words", "list"])
def test_a_file_that_is_no_mapping_is_refused_by_name(root, text):
    (root / "config" / "tiny.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"tiny\.yaml (is not YAML|must hold a mapping)"):
        load_tier("tiny", root)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["sectons"], {}, r"papers/toy/config\.yaml: unknown key 'sectons'; did you mean 'sections'\?"),
        (
            ["tiers", "tiny", "setings"],
            {},
            r"config\.yaml: tiers\.tiny: unknown key 'setings'; did you mean 'settings'\?",
        ),
        (
            ["tiers", "tiny", "settings", "rat"],
            {"value": 1, "source": "s"},
            r"tiers\.tiny\.settings: unknown key 'rat'; did you mean 'rate'\?",
        ),
        (
            ["tiers", "tiny", "experiments", 0, "grd"],
            {},
            r"experiments \(first\): unknown key 'grd'; did you mean 'grid'\?",
        ),
        (
            ["tiers", "tiny", "experiments", 0, "grid", "sed"],
            [0],
            r"experiments \(first\)\.grid: unknown key 'sed'; did you mean 'seed'\?",
        ),
        (
            ["tiers", "tiny", "experiments", 1, "set", "los"],
            {"value": "kl", "source": "s"},
            r"experiments \(second\)\.set: unknown key 'los'; did you mean 'loss'\?",
        ),
        (
            ["tiers", "tiny", "experiments", 0, "grid", "zzz"],
            [0],
            r"unknown key 'zzz'; known are dataset, loss, rate, seed",
        ),
        (
            ["sections", "data", "when"],
            {"los": "kl"},
            r"sections\.data\.when: unknown key 'los'; did you mean 'loss'\?",
        ),
    ],
    ids=["file", "tier", "settings", "experiment", "grid", "set", "nothing close", "condition"],
)
def test_a_misspelt_key_of_a_paper_is_refused_with_its_place_and_the_likeliest_spelling(root, place, value, message):
    write(root, TIER, changed(place, value))
    with pytest.raises(ConfigError, match=message):
        plan("toy", "tiny", root)


PLACES = pytest.mark.parametrize(
    "place",
    [
        ["sections", "training", "rate"],
        ["tiers", "tiny", "settings", "rate"],
        ["tiers", "tiny", "experiments", 1, "set", "loss"],
    ],
    ids=["sections", "settings", "set"],
)


@pytest.mark.parametrize(
    "entry",
    [{"value": 1}, {"source": "s"}, {"value": 1, "source": "s", "note": "n"}, 0.1, None, []],
    ids=["none", "no value", "more", "bare", "null", "list"],
)
@PLACES
def test_a_value_without_its_source_is_refused(root, place, entry):
    write(root, TIER, changed(place, entry))
    with pytest.raises(ConfigError, match=rf"toy/config\.yaml: .*{place[-1]} must read {{value: \.\.\., source:"):
        plan("toy", "tiny", root)


@pytest.mark.parametrize("source", ["", " ", None, "assumed", "assumed:", "assumed: ", "assumed.", 4, ["Section 4"]])
@PLACES
def test_a_source_must_name_a_place_or_a_reason(root, place, source):
    """ "assumed" alone says that nobody knows why."""
    like = "kl" if place[-1] == "loss" else 0.1
    write(root, TIER, changed(place, {"value": like, "source": source}))
    where = re.escape(".".join(map(str, place[:2])))
    with pytest.raises(ConfigError, match=rf"{where}.*: the source of {place[-1]} must name a place .* or say why"):
        plan("toy", "tiny", root)


@pytest.mark.parametrize(
    ("place", "missing"),
    [
        ([], "sections"),
        ([], "tiers"),
        (["tiers", "full"], "experiments"),
        (["tiers", "full", "experiments", 0], "grid"),
        (["tiers", "full", "experiments", 0], "name"),
    ],
    ids=["sections", "tiers", "experiments", "grid", "name"],
)
def test_a_key_that_was_forgotten_is_asked_for_by_name(root, place, missing):
    paper = changed(["sections", "training", "rate", "value"], 0.1)
    inner = paper
    for key in place:
        inner = inner[key]
    del inner[missing]
    write(root, TIER, paper)
    with pytest.raises(ConfigError, match=rf"toy/config\.yaml.*{missing}"):
        plan("toy", "full", root)


def test_runs_come_as_experiments_are_listed_and_one_seed_after_the_other(root):
    found = [run.spec for run in plan("toy", "tiny", root)]
    assert [(s.loss, s.seed, s.rate, s.dataset) for s in found] == [
        ("kl", 0, 0.5, "moons"),
        ("rot", 0, 0.5, "moons"),
        ("kl", 1, 0.5, "moons"),
        ("rot", 1, 0.5, "moons"),
        ("avg", 0, 0.5, "rings"),
        ("avg", 0, 0.9, "rings"),
    ]
    assert all(s.paper == "toy" for s in found)


def test_a_name_says_what_of_the_grid_differs_from_the_tier(root):
    assert [run.id for run in plan("toy", "tiny", root)] == [
        *("toy/moons/kl/seed0", "toy/moons/rot/seed0", "toy/moons/kl/seed1", "toy/moons/rot/seed1"),
        *("toy/rings/avg/seed0", "toy/rings/avg-rate0.9/seed0"),
    ]
    assert [run.method for run in plan("toy", "tiny", root)] == ["kl", "rot", "kl", "rot", "avg", "avg-rate0.9"]


def test_a_tier_without_settings_runs_the_protocol(root):
    (run,) = plan("toy", "full", root)
    assert run.spec.values() == {"dataset": "moons", "loss": "kl", "rate": 0.1, "seed": 0}
    assert (run.id, run.method, run.seconds, run.stand_in, run.experiment) == (
        *("toy/moons/kl/seed0", "kl", 60.0, "", "all"),
    )


def test_an_experiment_says_what_is_of_itself_else_it_is_as_its_tier_says(root):
    paper = changed(["tiers", "tiny", "seconds"], 4)
    paper["tiers"]["tiny"] |= {"stand_in": "toys", "differs": "2 of 9 epochs"}
    paper["tiers"]["tiny"]["experiments"][1] |= {"seconds": 0.5, "stand_in": "", "differs": ""}
    write(root, TIER, paper)
    runs = plan("toy", "tiny", root)
    said = {(r.experiment, r.seconds, r.stand_in, r.differs) for r in runs}
    assert said == {("first", 4.0, "toys", "2 of 9 epochs"), ("second", 0.5, "", "")}
    write(root, TIER, PAPER)
    assert [r.spec_hash for r in plan("toy", "tiny", root)] == [r.spec_hash for r in runs]


def test_one_id_for_two_specs_is_refused_and_the_same_run_twice_is_one(root):
    twice = changed(["tiers", "tiny", "experiments", 1], {"name": "again", "grid": {"seed": [1, 0], "loss": "rot"}})
    write(root, TIER, twice)
    runs = plan("toy", "tiny", root)
    assert [run.id.split("/", 2)[2] for run in runs] == ["kl/seed0", "rot/seed0", "kl/seed1", "rot/seed1"]
    assert {run.experiment for run in runs} == {"first"}
    write(root, TIER, changed(["tiers", "tiny", "experiments", 1, "grid", "dataset"], "moons"))
    assert len(plan("toy", "tiny", root)) == 6
    twice["tiers"]["tiny"]["experiments"][1]["set"] = {"rate": {"value": 0.7, "source": "assumed: a control"}}
    write(root, TIER, twice)
    with pytest.raises(ConfigError, match=r"\(again\): two different specs have the id toy/moons/rot/seed0"):
        plan("toy", "tiny", root)


def test_a_run_is_found_by_its_id_and_another_is_answered_with_the_likeliest(root):
    run = find("toy", "tiny", "toy/rings/avg/seed0", root)
    assert run == find("toy", "tiny", "rings/avg/seed0", root) and run.spec.loss == "avg"
    with pytest.raises(ConfigError, match="no run 'rings/agv/seed0'; did you mean 'toy/rings/avg/seed0'"):
        find("toy", "tiny", "rings/agv/seed0", root)
    with pytest.raises(ConfigError, match="no run 'zzz'; `--list` names its 6 runs"):
        find("toy", "tiny", "zzz", root)


def test_an_edit_of_the_file_or_of_the_names_is_seen_in_the_same_process(root):
    """The second file has as many bytes as the first and may have its time, too."""
    assert plan("toy", "full", root)[0].id == "toy/moons/kl/seed0"
    write(root, TIER, changed(["sections", "data", "dataset", "value"], "rings"))
    assert plan("toy", "full", root)[0].id == "toy/rings/kl/seed0"
    (root / "papers" / "toy" / "names.py").write_text(NAMES.replace("{method}", "a/{method}"))
    assert plan("toy", "full", root)[0].id == "toy/rings/a/kl/seed0"


def test_the_hash_of_a_spec_is_golden():
    """The hash in every committed record: another value here makes all of them stale."""
    spec = spec_of("rot", loss="kl", bag_size=16, alpha=0.5, augment=False, stand_in="ä")
    assert spec.hash == "7f3c1135cf289eba"


def test_the_hash_of_a_spec_depends_on_its_values_only():
    spec = spec_of(alpha=0.5, seed=0)
    assert spec.hash == spec_of(seed=0, alpha=0.5).hash != spec_of(alpha=0.5, seed=1).hash
    assert spec_of("other", alpha=0.5, seed=0).hash != spec.hash
