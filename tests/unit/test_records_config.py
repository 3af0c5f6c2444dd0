"""Configuration: what a person writes is either understood or refused by name; specs come in the order of value."""

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from shared.records import (
    ConfigError,
    Run,
    config,
    default_tier,
    load_tier,
    papers_of,
    read_config,
    repository,
    specs,
    tiers,
)

TIER = {"tier": "tiny", "says": "for a test"}
PAPER = {
    "protocol": {
        "dataset": {"value": "moons", "source": "Section 4"},
        "loss": {"value": "kl", "source": "Section 3"},
        "rate": {"value": 0.1, "source": "Section 4.1"},
        "seed": {"value": 0, "source": "assumed: one run"},
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


@pytest.fixture
def root(tmp_path):
    """A repository of one tier and one paper, written by `write`."""
    write(tmp_path, TIER, PAPER)
    return tmp_path


def write(root, tier, paper):
    for path, content in ((root / "config" / "tiny.yaml", tier), (root / "papers" / "toy" / "config.yaml", paper)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False))


def changed(place, value):
    """PAPER with the entry at `place`, a list of keys, set to `value`."""
    paper = yaml.safe_load(yaml.safe_dump(PAPER))
    inner = paper
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return paper


@pytest.mark.parametrize("tier", tiers())
def test_every_tier_of_the_repository_loads_and_goes_by_the_name_of_its_file(tier):
    assert load_tier(tier).tier == tier and load_tier(tier).says


@pytest.mark.parametrize("tier", tiers())
def test_every_tier_of_every_paper_has_runs_with_distinct_ids(tier):
    from shared.records.sweep import plan

    for paper in papers_of(load_tier(tier)):
        runs = plan(paper, tier)
        assert runs and len({run.id for run in runs}) == len(runs)
        for run in runs:
            assert run.id.startswith(f"{paper}/{run.spec['dataset']}/") and run.seconds > 0
            assert re.fullmatch(r"[\w./+-]+", run.id) and run.id.endswith(f"seed{run.spec['seed']}")


def test_the_paper_tier_of_rot_is_the_protocol_and_nothing_else():
    protocol = {key: entry["value"] for key, entry in read_config("rot")["protocol"].items()}
    for spec in specs("rot", "paper"):
        varied = set(spec["defaults"]) | {"paper", "defaults"}
        assert {k: v for k, v in spec.items() if k not in varied} == {
            k: v for k, v in protocol.items() if k not in varied
        }


def test_ids_do_not_depend_on_the_order_in_which_python_walks_a_set():
    """Two keys beyond the axes that vary at once join the method's name in one order, in every process."""
    script = (
        "from papers.rot import plan\n"
        "spec = dict(dataset='d', loss='rot', bag_size=4, seed=0, alpha=0.1, epsilon=2.0, width=8, hidden=5)\n"
        "spec['seconds'] = 1\n"
        "spec['defaults'] = {'alpha': 0.5, 'epsilon': 1.0, 'width': 64, 'hidden': 64}\n"
        "print(plan._run(spec).id)"
    )
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
    assert len(ids) == 1


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


def test_a_tier_of_some_papers_names_papers_there_are(root):
    (root / "papers" / "toy" / "claims.yaml").write_text("[]\n")
    write(root, {**TIER, "papers": ["toy"]}, PAPER)
    assert papers_of(load_tier("tiny", root), root) == ["toy"]
    write(root, {**TIER, "papers": ["tyo"]}, PAPER)
    with pytest.raises(ConfigError, match=r"tiny\.yaml: `papers` says \['tyo'\]; it must list some of toy"):
        load_tier("tiny", root)


def test_an_unknown_tier_is_answered_with_the_tiers_there_are(root):
    (root / "config" / "schema.yaml").write_text("type: object\n")
    with pytest.raises(ConfigError, match=r"there is no tier 'huge'; there are tiny$"):
        load_tier("huge", root)
    with pytest.raises(ConfigError, match=r"papers/toy/config\.yaml has no tier 'huge'; it has tiny, full"):
        specs("toy", "huge", root)


def test_an_unknown_paper_is_answered_with_the_file_that_is_not_there(root):
    with pytest.raises(ConfigError, match=r"there is no paper 'rott': .*papers/rott/config\.yaml does not exist"):
        read_config("rott", root)


@pytest.mark.parametrize("text", ["a: [1", "just words", "- a list\n"], ids=["broken", "words", "list"])
def test_a_file_that_is_no_mapping_is_refused_by_name(root, text):
    (root / "config" / "tiny.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"tiny\.yaml (is not YAML|must hold a mapping)"):
        load_tier("tiny", root)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["protocl"], {}, r"papers/toy/config\.yaml: unknown key 'protocl'; did you mean 'protocol'\?"),
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
    ],
    ids=["file", "tier", "settings", "experiment", "grid", "set", "nothing close"],
)
def test_a_misspelt_key_of_a_paper_is_refused_with_its_place_and_the_likeliest_spelling(root, place, value, message):
    write(root, TIER, changed(place, value))
    with pytest.raises(ConfigError, match=message):
        specs("toy", "tiny", root)


@pytest.mark.parametrize(
    "entry",
    [{"value": 1}, {"value": 1, "source": ""}, {"value": 1, "source": "s", "note": "n"}, 0.1],
    ids=["none", "empty", "more", "bare"],
)
@pytest.mark.parametrize(
    "place",
    [
        ["protocol", "rate"],
        ["tiers", "tiny", "settings", "rate"],
        ["tiers", "tiny", "experiments", 1, "set", "loss"],
    ],
    ids=["protocol", "settings", "set"],
)
def test_a_value_without_its_source_is_refused(root, place, entry):
    write(root, TIER, changed(place, entry))
    with pytest.raises(ConfigError, match=rf"toy/config\.yaml: .*{place[-1]} must read {{value: \.\.\., source:"):
        specs("toy", "tiny", root)


@pytest.mark.parametrize(
    ("place", "missing"),
    [
        ([], "protocol"),
        ([], "tiers"),
        (["tiers", "full"], "experiments"),
        (["tiers", "full", "experiments", 0], "grid"),
    ],
    ids=["protocol", "tiers", "experiments", "grid"],
)
def test_a_key_that_was_forgotten_is_asked_for_by_name(root, place, missing):
    paper = changed(["protocol", "rate", "value"], 0.1)
    inner = paper
    for key in place:
        inner = inner[key]
    del inner[missing]
    write(root, TIER, paper)
    with pytest.raises(ConfigError, match=rf"toy/config\.yaml.*{missing}"):
        specs("toy", "full", root)


def test_specs_come_as_experiments_are_listed_and_one_seed_after_the_other(root):
    found = specs("toy", "tiny", root)
    assert [(s["loss"], s["seed"], s["rate"], s["dataset"]) for s in found] == [
        ("kl", 0, 0.5, "moons"),
        ("rot", 0, 0.5, "moons"),
        ("kl", 1, 0.5, "moons"),
        ("rot", 1, 0.5, "moons"),
        ("avg", 0, 0.5, "rings"),
        ("avg", 0, 0.9, "rings"),
    ]
    assert all(s["paper"] == "toy" for s in found)


def test_defaults_are_the_tiers_values_of_what_the_grid_varies(root):
    found = specs("toy", "tiny", root)
    assert found[0]["defaults"] == {"loss": "kl", "seed": 0}
    assert found[-1]["defaults"] == {"rate": 0.5, "dataset": "moons"}


def test_a_tier_without_settings_runs_the_protocol(root):
    (spec,) = specs("toy", "full", root)
    assert spec == {"paper": "toy", "dataset": "moons", "loss": "kl", "rate": 0.1, "seed": 0, "defaults": {}}


def test_one_id_for_two_specs_is_refused_and_the_same_run_twice_is_one():
    a, b = Run("toy/a/seed0", {"rate": 1}, 1.0), Run("toy/b/seed0", {"rate": 1}, 1.0)
    assert config.unique([a, b, a]) == [a, b]
    with pytest.raises(ConfigError, match="two different specs have the id toy/a/seed0"):
        config.unique([a, Run("toy/a/seed0", {"rate": 2}, 1.0)])


def test_the_hash_of_a_spec_is_golden():
    """The hash in every committed record: another value here makes all of them stale."""
    spec = {"paper": "rot", "loss": "kl", "bag_size": 16, "alpha": 0.5, "augment": False, "stand_in": "ä"}
    assert Run("x", spec, 1.0).spec_hash == "7f3c1135cf289eba"


def test_the_hash_of_a_spec_depends_on_its_values_only():
    spec = {"loss": "kl", "alpha": 0.5, "seed": 0}
    same = Run("x", dict(reversed(spec.items())), 9.0)
    assert Run("y", spec, 1.0).spec_hash == same.spec_hash
    assert Run("x", {**spec, "seed": 1}, 9.0).spec_hash != same.spec_hash


class TestDefaultTier:
    """Which tier runs when a person names none; nvidia-smi is a stand-in here."""

    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch):
        monkeypatch.delenv("LLP_TIER", raising=False)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        self.answer = SimpleNamespace(returncode=0, stdout="GPU 0: a card\n")
        monkeypatch.setattr(config.shutil, "which", lambda name: f"/bin/{name}")
        monkeypatch.setattr(config.subprocess, "run", lambda *args, **kwargs: self.answer)

    def test_a_visible_card_means_gpu(self):
        assert default_tier() == "gpu"

    def test_llp_tier_comes_first(self, monkeypatch):
        monkeypatch.setenv("LLP_TIER", "paper")
        assert default_tier() == "paper"

    @pytest.mark.parametrize("hidden", ["", "-1"])
    def test_a_hidden_card_means_quick(self, monkeypatch, hidden):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert default_tier() == "quick"

    def test_no_driver_means_quick(self, monkeypatch):
        monkeypatch.setattr(config.shutil, "which", lambda name: None)
        assert default_tier() == "quick"

    @pytest.mark.parametrize(("code", "said"), [(9, "GPU?"), (0, "No devices found.\n")])
    def test_a_driver_without_a_card_means_quick(self, code, said):
        self.answer = SimpleNamespace(returncode=code, stdout=said)
        assert default_tier() == "quick"
