"""Runs of VP-DSD from a spec to a record: what they share, what they draw, how they stop and what they refuse."""

import json
import time
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from papers.vp_dsd.data import data_of, holograms_of, recipe_of
from papers.vp_dsd.detection.embeddings import STAGE, embedding_of
from papers.vp_dsd.imaging.simulator import Recipe
from papers.vp_dsd.train import train
from shared.config import Spec, SpecError, plan, read_config
from shared.config.spec import Section, Sections
from shared.datasets import DatasetError
from shared.training import checkpoint
from tests.conftest import of_any_text

TINY = {
    "train_subjects": 6,
    "validation_subjects": 2,
    "test_subjects": 3,
    "detector_epochs": 4,
    "epochs": 2,
    "pretrain_epochs": 1,
    "concentration": 5.0,
    "monocyte_limit": 0.6,
    "drawn_bags": 5,
    "bag_size": 20,
}
CPU = torch.device("cpu")


def spec_of(method, **more):
    """The smoke spec of a method, smaller still."""
    spec = next(run.spec for run in plan("vp_dsd", "smoke") if run.method == method and run.spec.seed == 0)
    spec = spec.but(**more)
    return spec.but(**{key: value for key, value in TINY.items() if key in spec and key not in more})


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """One folder of checkpoints, as in a sweep; the detector in it is trained by the first who needs it."""
    return {"key": "spec-code", "checkpoint": tmp_path_factory.mktemp("tree") / ".work/smoke/vp_dsd/run.pt"}


def test_a_spec_holds_what_its_run_reads_and_nothing_else():
    """What it does not read must not make its records outdated."""
    by_method = {run.method: set(run.spec) for run in plan("vp_dsd", "smoke")}
    assert "atoms" in by_method["csc"] and "atoms" not in by_method["kl"]
    assert "pretrain_epochs" in by_method["vp_ce"] and "pretrain_epochs" not in by_method["kl"]
    assert "strength" in by_method["direct-encoder-pretrained-kl"]
    assert "strength" not in by_method["direct-encoder-kl"]
    assert "maps" in by_method["direct-encoder-kl"] and "maps" not in by_method["direct-resnet18-kl"]


def with_knob(spec, section, value):
    """The spec with one more key, `knob`, in a section."""
    sections = [
        Section(s.name, (*s.keys, *(["knob"] if s.name == section else [])), s.when, s.stage)
        for s in spec._layout.sections
    ]
    return Spec(Sections(spec.paper, tuple(sections)), {**spec._values, "knob": value})


def kept_by(spec):
    """What runs of a spec keep their detector by."""
    session = {"checkpoint": ".work/run.pt", "key": "spec-code"}
    return checkpoint.common("detectors", spec.stage(STAGE).canonical(), session)


@pytest.mark.parametrize("section", ["task", "classification", "loss"])
def test_a_knob_that_a_detector_is_not_kept_by_cannot_be_read_by_it(section, monkeypatch):
    """Read and not kept by, two runs that differ in it would share one detector, and one of them be wrong."""
    spec = with_knob(spec_of("kl"), section, 1)
    assert spec.knob == 1

    def reading(spec, holograms, device):
        return spec.knob

    monkeypatch.setattr("papers.vp_dsd.detection.embeddings.network_of", reading)
    with pytest.raises(SpecError, match="the stage 'detector' reads 'knob' of the section"):
        embedding_of(spec, holograms_of(spec, CPU), CPU, {})


def test_runs_that_differ_in_what_a_detector_is_made_of_do_not_share_it():
    kl = spec_of("kl")
    assert kept_by(with_knob(kl, "detector", 1)) != kept_by(with_knob(kl, "detector", 2))
    assert kept_by(with_knob(kl, "classification", 1)) == kept_by(with_knob(kl, "classification", 2))
    for key in kl.stage(STAGE):
        if isinstance(kl[key], int | float):
            assert kept_by(kl.but(**{key: kl[key] + 1})) != kept_by(kl), key


def test_runs_that_differ_in_their_loss_alone_share_a_detector():
    others = ("vp_ce", "plot", "flm", "pc", "supervised", "dsd", "example", "direct-encoder-pretrained-kl")
    assert {kept_by(spec_of(method)) for method in others} == {kept_by(spec_of("kl"))}


def test_one_detector_serves_all_runs_of_a_seed(session):
    found = train(spec_of("dsd"), device="cpu", **session)
    assert 0 < found.metrics["last"]["f1"] <= 100
    (kept,) = (session["checkpoint"].parents[2] / "detectors").glob("*.pt")
    written = kept.stat().st_mtime_ns
    results = [train(spec_of(m), device="cpu", **session) for m in ("kl", "vp_ce", "direct-encoder-pretrained-kl")]
    assert kept.stat().st_mtime_ns == written
    assert len({json.dumps(result.data) for result in (found, *results)}) == 1
    assert results[1].metrics["last"]["epoch"] == 2  # pre-training included


def test_a_detector_is_followed_without_being_changed():
    """Its course tells whether it had come to rest; looking on must not train another detector."""
    spec = spec_of("dsd")
    seen = embedding_of(spec, holograms_of(spec, CPU), CPU, {})
    assert all(len(seen.curves[f"test_{name}"]) == TINY["detector_epochs"] for name in ("precision", "recall", "f1"))
    assert train(spec, device="cpu").convergence["f1"]["epochs"] == 1
    unknown = replace(holograms_of(spec, CPU), cells=None)
    unseen = embedding_of(spec, unknown, CPU, {})
    assert not [name for name in unseen.curves if name.startswith("test_")]
    states = seen.network.state_dict(), unseen.network.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_run_that_is_stopped_goes_on_to_the_same_numbers(tmp_path):
    spec = spec_of("dsd")
    whole = train(spec, device="cpu")
    kept = {"key": "spec-code", "checkpoint": tmp_path / ".work/run.pt", "checkpoint_every": 0.0}

    def killed(fraction, numbers):
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(spec, device="cpu", report=killed, **kept)
    assert train(spec, device="cpu", deadline=time.time(), **kept) is None
    again = train(spec, device="cpu", **kept)
    assert again.curves == whole.curves
    assert again.metrics == whole.metrics


def test_labels_of_bags_and_their_controls(session):
    plain = data_of(spec_of("vp_ce"), CPU, session)
    shares = {k: data_of(spec_of("vp_ce", labels=k), CPU, session).train for k in ("permuted", "constant", "counted")}
    truth = plain.train.proportions
    assert np.array_equal(np.sort(shares["permuted"].proportions, 0), np.sort(truth, 0))
    assert not np.array_equal(shares["permuted"].proportions, truth)
    assert np.ptp(shares["constant"].proportions, 0).max() == 0
    first = plain.labels[shares["counted"].indices[: shares["counted"].offsets[1]]]
    counts = np.bincount(first[first >= 0], minlength=3)
    np.testing.assert_allclose(shares["counted"].proportions[0], counts / counts.sum())
    with pytest.raises(ValueError, match="labels 'guessed' are none of"):
        data_of(of_any_text(spec_of("vp_ce")).but(labels="guessed"), CPU, session)


def test_drawn_bags_have_their_size_and_hold_known_training_cells(session):
    plain = data_of(spec_of("vp_ce"), CPU, session)
    drawn = data_of(spec_of("vp_ce", bags="drawn", bag_concentration=1e6), CPU, session).train
    assert drawn.sizes.tolist() == [20] * 5
    assert (plain.labels[drawn.indices] >= 0).all()
    assert set(drawn.indices) <= set(plain.train.indices)
    np.testing.assert_allclose(drawn.proportions, np.tile(plain.train.proportions.mean(0), (5, 1)), atol=0.01)


def test_test_subjects_are_measured_whole_and_never_trained_on(session):
    found, holograms = data_of(spec_of("kl"), CPU, session), holograms_of(spec_of("kl"), CPU)
    np.testing.assert_array_equal(found.test.proportions, holograms.proportions[holograms.splits == 2])
    assert not set(found.test.indices) & {*found.train.indices, *found.validation.indices}


@pytest.mark.parametrize(
    ("method", "more", "says"),
    [
        ("kl", {"dataset": "wbc_holograms"}, "33 donors are not public"),
        ("csc", {"detector": "cellpose"}, "Cellpose's row needs its pre-trained weights"),
    ],
)
def test_what_cannot_be_had_is_not_run_and_says_why(monkeypatch, method, more, says):
    monkeypatch.delenv("LLP_MIRROR", raising=False)
    with pytest.raises(DatasetError, match=says) as refused:
        train(spec_of(method, **more), device="cpu")
    assert refused.value.not_run


def test_a_pretrained_predictor_does_not_depend_on_who_trained_the_detector(tmp_path):
    spec = spec_of("direct-encoder-pretrained-kl")
    kept = {"key": "spec-code", "checkpoint": tmp_path / ".work/run.pt"}
    first, second = (train(spec, device="cpu", **kept) for _ in range(2))
    assert first.curves == second.curves


def test_the_simulators_defaults_are_those_of_the_configuration():
    """The numbers are in both places: a user of the simulator alone has none to give."""
    config = read_config("vp_dsd")
    spec = Spec(config.layout, config.values)
    assert recipe_of(spec) == Recipe(validation_subjects=100, test_subjects=200, mean_proportions=[0.30, 0.085, 0.615])
    named = [*spec.section("optics"), *spec.section("subjects"), *spec.section("simulator")]
    assert sorted(named) == sorted(field.name for field in fields(Recipe))
