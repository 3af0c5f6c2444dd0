"""How long a tier takes, as a command says it, and where figures look for their tables."""

import re

import pytest

from shared.config import ConfigError, Tier, papers_of, plan
from shared.records import store
from shared.runs import status, sweep
from shared.runs.sweep import duration
from shared.tables import draw
from tests.conftest import a_run, write_record


def test_the_length_of_a_tier_is_the_sum_of_its_runs(capsys):
    assert status.main(["--tier", "gpu"]) == 0
    head, *lines, whole = capsys.readouterr().out.splitlines()
    runs = {paper: plan(paper, "gpu") for paper in papers_of("gpu")}
    assert "one run at a time" in head
    assert [line.split()[:3] for line in lines] == [["gpu", paper, str(len(own))] for paper, own in runs.items()]
    seconds = sum(run.seconds for own in runs.values() for run in own)
    assert re.fullmatch(rf"gpu +all +{sum(map(len, runs.values()))}  {duration(seconds)}", whole)


def test_all_tiers_are_listed_and_an_unknown_one_is_refused(capsys):
    assert status.main([]) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^{tier} +all ", out, re.M) for tier in ("smoke", "quick", "gpu", "paper"))
    assert status.main(["--tier", "papr"]) == 2
    assert "did you mean 'paper'?" in capsys.readouterr().err


def test_records_of_another_plan_that_the_index_calls_done_are_told_apart(tmp_path, monkeypatch):
    """A sweep by hand with another value, the value put back: tables were empty, and there was nothing to be done."""
    for module in (sweep, status):
        monkeypatch.setattr(module, "repository", lambda: tmp_path)
        monkeypatch.setattr(module, "code_hash", lambda module: "new")
        monkeypatch.setattr(module, "plan", lambda paper, tier: [a_run(0, epochs=3), a_run(1), a_run(2)])
    monkeypatch.setattr(status, "papers_of", lambda tier: ["toy"])
    folder = sweep.runs_folder("toy", "tiny")
    for run in (a_run(0, epochs=2), a_run(1)):
        write_record(folder, run)
    store.write_index(folder, [a_run(seed).id for seed in range(3)])
    found = status.status(Tier("tiny", "a test", "cpu", 1, False))
    assert found.outdated == {"toy": [a_run(0).id]} and found.todo == 2


@pytest.mark.parametrize(("hours", "text"), [(71.9, "71.9 h"), (72, "3.0 days"), (1242, "51.8 days")])
def test_long_durations_are_days(hours, text):
    assert duration(3600 * hours) == text


@pytest.mark.parametrize(
    ("content", "made"),
    [
        (b"toy/a/kl/seed0,2026\n", {"toy/a/kl/seed0": "2026"}),
        (b"toy/a/kl/seed0,2026\ntoy/a/kl/se", {"toy/a/kl/seed0": "2026"}),
        (b"toy/a/kl/seed0,2026\n\xff\x00,3,4\n", {"toy/a/kl/seed0": "2026"}),
        (b'"' + b"a" * 200_000, {}),
        (None, {}),
    ],
    ids=["whole", "cut off", "no text", "endless", "a folder"],
)
def test_a_damaged_list_of_what_was_made_here_stops_nothing(tmp_path, monkeypatch, content, made):
    """Snakemake could not begin: the list is read when it starts."""
    monkeypatch.setattr(status, "repository", lambda: tmp_path)
    path = tmp_path / status.CHECKPOINTS / "tiny/toy" / status.HERE
    path.parent.mkdir(parents=True)
    path.mkdir() if content is None else path.write_bytes(content)
    assert status.made_here("toy", "tiny") == made


def test_figures_are_drawn_from_the_repositorys_results_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(draw, "repository", lambda: tmp_path / "house")
    with pytest.raises(ConfigError, match="house/results/smoke/rot/notes.json does not exist"):
        draw.make_figures("rot", "smoke")
