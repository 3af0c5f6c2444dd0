"""Which tier runs when a person names none."""

import shutil
import subprocess
from types import SimpleNamespace

import pytest

from shared.config import ConfigError, default_tier, load_tier, papers


class TestDefaultTier:
    """On machines with and without a card; nvidia-smi is a stand-in here."""

    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch):
        monkeypatch.delenv("LLP_TIER", raising=False)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        self.answer = SimpleNamespace(returncode=0, stdout="GPU 0: a card\n")
        monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
        monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: self.answer)

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
        monkeypatch.setattr(shutil, "which", lambda name: None)
        assert default_tier() == "quick"

    @pytest.mark.parametrize(("code", "said"), [(9, "GPU?"), (0, "No devices found.\n")])
    def test_a_driver_without_a_card_means_quick(self, code, said):
        self.answer = SimpleNamespace(returncode=code, stdout=said)
        assert default_tier() == "quick"


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
