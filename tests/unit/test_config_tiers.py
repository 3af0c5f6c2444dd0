"""Which tier runs when a person names none."""

import argparse
import sys

import pytest
import yaml

from shared.config import ConfigError, default_tier, load_tier, papers
from shared.config.devices import Seen
from shared.config.tiers import add_tier

config_tiers = sys.modules["shared.config.tiers"]  # the package passes on a function of the same name


class TestDefaultTier:
    """On machines with and without a card; what torch sees is pretended."""

    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch):
        monkeypatch.delenv("LLP_TIER", raising=False)
        monkeypatch.setattr(config_tiers, "has_card", lambda: True)
        self.show = lambda *tokens: monkeypatch.setattr(config_tiers, "seen", lambda: Seen(tokens))
        self.show("0")

    def test_a_card_that_torch_sees_means_gpu(self):
        assert default_tier() == "gpu"

    def test_llp_tier_comes_first(self, monkeypatch):
        monkeypatch.setenv("LLP_TIER", "paper")
        assert default_tier() == "paper"

    def test_a_card_that_torch_does_not_see_means_quick(self):
        """nvidia-smi lists cards that CUDA_VISIBLE_DEVICES hides, and those that a torch for CPUs cannot use."""
        self.show()
        assert default_tier() == "quick"

    def test_torch_is_not_asked_where_there_is_no_card_or_a_tier_is_named(self, monkeypatch):
        monkeypatch.setattr(config_tiers, "seen", lambda: pytest.fail("torch was asked"))
        parser = argparse.ArgumentParser()
        add_tier(parser)
        assert parser.parse_args(["--tier", "smoke"]).tier == "smoke"
        monkeypatch.setattr(config_tiers, "has_card", lambda: False)
        assert parser.parse_args([]).tier == "quick"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("quik", "did you mean 'quick'? there are cpu, gpu, "),
        ("nonesuch", "there is no tier 'nonesuch'; there are cpu, gpu, "),
    ],
)
def test_a_misspelt_tier_is_answered_with_the_nearest(typed, said):
    with pytest.raises(ConfigError) as refused:
        load_tier(typed)
    assert said in str(refused.value)


def test_what_systems_and_editors_leave_is_no_paper(tmp_path):
    """A folder that an editor had copied was planned, and trained, as one more paper."""
    for name in ("rot", ".rot", "rot~", "rot.bak", "#rot#", "__MACOSX"):
        (tmp_path / "papers" / name).mkdir(parents=True)
        (tmp_path / "papers" / name / "config.yaml").touch()
    assert papers(tmp_path) == ["rot"]


@pytest.mark.parametrize("said", ["0", "-1", "2.5", "many", "[4]", "true"])
def test_what_is_no_number_of_shards_is_refused(tmp_path, said):
    (tmp_path / "config").mkdir()
    path = tmp_path / "config" / "mine.yaml"
    path.write_text("tier: mine\nsays: a test\nshards: 4\n")
    assert load_tier("mine", tmp_path).shards == 4
    path.write_text(f"tier: mine\nsays: a test\nshards: {said}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: `shards` must be a number above 0, not"):
        load_tier("mine", tmp_path)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('adopt: "false"', "`adopt` must be true or false, not 'false'"),
        ("adopt: 0", "`adopt` must be true or false, not 0"),
        ("runs_at_once: true", "`runs_at_once` must be a number, cores or auto, not True"),
        ("runs_at_once: 0", "`runs_at_once` must be a number, cores or auto, not 0"),
        ("runs_at_once: core", "`runs_at_once` must be a number, cores or auto, not 'core'"),
        ("says: [a, test]", r"`says` must be a text, not \['a', 'test'\]"),
        ("device: gqu", "there is no device 'gqu'"),
    ],
)
def test_a_value_of_a_tier_of_another_kind_is_refused(tmp_path, said, message):
    """adopt: "false" adopted."""
    (tmp_path / "config").mkdir()
    path = tmp_path / "config" / "mine.yaml"
    whole = {"tier": "mine", "says": "a test", "adopt": False, "runs_at_once": 2, "device": "cpu"}
    path.write_text(yaml.safe_dump(whole))
    assert load_tier("mine", tmp_path).runs_at_once == 2
    path.write_text(yaml.safe_dump(whole | yaml.safe_load(said)))
    with pytest.raises(ConfigError, match=rf"mine\.yaml: {message}"):
        load_tier("mine", tmp_path)
