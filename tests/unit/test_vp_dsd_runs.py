"""Runs of VP-DSD from a spec to a record: what they share, what they draw, how they stop and what they refuse."""

import json
import time

import numpy as np
import pytest
import torch

from papers.vp_dsd.detection.embeddings import holograms_of
from papers.vp_dsd.imaging.simulator import Recipe
from papers.vp_dsd.learning.material import material_of
from papers.vp_dsd.plan import plan
from papers.vp_dsd.train import train
from shared.datasets import DatasetError
from shared.records.config import read_config

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
    spec = next(run.spec for run in plan("smoke") if run.spec["method"] == method and run.spec["seed"] == 0)
    return {**spec, **{key: value for key, value in TINY.items() if key in spec}, **more}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """One folder of checkpoints, as in a sweep; the detector in it is trained by the first who needs it."""
    return {"key": "spec-code", "checkpoint": tmp_path_factory.mktemp("tree") / ".work/smoke/vp_dsd/run.pt"}


def test_a_spec_holds_what_its_run_reads_and_nothing_else():
    """What it does not read must not make its records outdated."""
    by_method = {run.spec["method"]: set(run.spec) for run in plan("smoke")}
    assert "atoms" in by_method["csc"] and "atoms" not in by_method["kl"]
    assert "pretrain_epochs" in by_method["vp_ce"] and "pretrain_epochs" not in by_method["kl"]
    assert "strength" in by_method["direct-encoder-pretrained-kl"]
    assert "strength" not in by_method["direct-encoder-kl"]


def test_one_detector_serves_all_runs_of_a_seed(session):
    found = train(spec_of("dsd"), device="cpu", **session)
    assert 0 < found["metrics"]["last"]["f1"] <= 100
    (kept,) = (session["checkpoint"].parents[2] / "detectors").glob("*.pt")
    written = kept.stat().st_mtime_ns
    results = [train(spec_of(m), device="cpu", **session) for m in ("kl", "vp_ce", "direct-encoder-pretrained-kl")]
    assert kept.stat().st_mtime_ns == written
    assert len({json.dumps(result["data"]) for result in (found, *results)}) == 1
    assert results[1]["metrics"]["last"]["epoch"] == 2  # pre-training included


def test_a_run_that_is_stopped_goes_on_to_the_same_numbers(tmp_path):
    spec = spec_of("dsd")
    whole = train(spec, device="cpu")
    kept = {"key": "spec-code", "checkpoint": tmp_path / ".work/run.pt", "checkpoint_every": 0.0}

    def killed(fraction):
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(spec, device="cpu", report=killed, **kept)
    assert train(spec, device="cpu", deadline=time.time(), **kept) is None
    again = train(spec, device="cpu", **kept)
    assert again["curves"] == whole["curves"]
    assert {**again["metrics"]["last"], "train_s": 0} == {**whole["metrics"]["last"], "train_s": 0}


def test_labels_of_bags_and_their_controls(session):
    plain = material_of(spec_of("vp_ce"), CPU, session)
    shares = {
        k: material_of(spec_of("vp_ce", labels=k), CPU, session).train for k in ("permuted", "constant", "counted")
    }
    truth = plain.train.proportions
    assert np.array_equal(np.sort(shares["permuted"].proportions, 0), np.sort(truth, 0))
    assert not np.array_equal(shares["permuted"].proportions, truth)
    assert np.ptp(shares["constant"].proportions, 0).max() == 0
    first = plain.labels[shares["counted"].indices[: shares["counted"].offsets[1]]]
    counts = np.bincount(first[first >= 0], minlength=3)
    np.testing.assert_allclose(shares["counted"].proportions[0], counts / counts.sum())
    with pytest.raises(ValueError, match="labels 'guessed' are none of"):
        material_of(spec_of("vp_ce", labels="guessed"), CPU, session)


def test_drawn_bags_have_their_size_and_hold_known_training_cells(session):
    plain = material_of(spec_of("vp_ce"), CPU, session)
    drawn = material_of({**spec_of("vp_ce"), **TINY, "bags": "drawn", "bag_concentration": 1e6}, CPU, session).train
    assert drawn.sizes.tolist() == [20] * 5
    assert (plain.labels[drawn.indices] >= 0).all()
    assert set(drawn.indices) <= set(plain.train.indices)
    np.testing.assert_allclose(drawn.proportions, np.tile(plain.train.proportions.mean(0), (5, 1)), atol=0.01)


def test_test_subjects_are_measured_whole_and_never_trained_on(session):
    material, holograms = material_of(spec_of("kl"), CPU, session), holograms_of(spec_of("kl"), CPU)
    np.testing.assert_array_equal(material.test.proportions, holograms.proportions[holograms.splits == 2])
    assert not set(material.test.indices) & {*material.train.indices, *material.validation.indices}


@pytest.mark.parametrize(
    ("method", "more", "says"),
    [
        ("kl", {"dataset": "wbc_holograms"}, "33 donors are not public"),
        ("csc", {"loss": "cellpose"}, "Cellpose's row needs its pre-trained weights"),
    ],
)
def test_what_cannot_be_had_is_not_run_and_says_why(monkeypatch, method, more, says):
    monkeypatch.delenv("LLP_MIRROR", raising=False)
    with pytest.raises(DatasetError, match=says) as refused:
        train(spec_of(method, **more), device="cpu")
    assert refused.value.not_run


def test_recorded_holograms_take_the_simulated_ones_place(monkeypatch, tmp_path, session):
    """The layout of a dropped-in set, without known cells: proportions are predicted, accuracies are not known."""
    simulated = holograms_of(spec_of("kl"), CPU)
    folder = tmp_path / "wbc_holograms"
    folder.mkdir()
    o = simulated.optics
    optics = {"wavelength_um": o.wavelength, "pitch_um": o.pitch, "distance_um": o.distance}
    (folder / "optics.json").write_text(json.dumps(optics))
    names = ("train", "validation", "test")
    rows = zip(simulated.splits, simulated.proportions, strict=True)
    people = [",".join([f"s{i}", names[split], *map(str, shares)]) for i, (split, shares) in enumerate(rows)]
    (folder / "subjects.csv").write_text("subject,split,lymphocyte,monocyte,granulocyte\n" + "\n".join(people) + "\n")
    images = [f"i{i}.npy,s{subject}" for i, subject in enumerate(simulated.subjects)]
    (folder / "images.csv").write_text("image,subject\n" + "\n".join(images) + "\n")
    for i, image in enumerate(simulated.images):
        np.save(folder / f"i{i}.npy", ((image + 1) * 100) ** 2)
    monkeypatch.setenv("LLP_MIRROR", str(tmp_path))
    found = train(spec_of("kl", dataset="wbc_holograms"), device="cpu", **session)["metrics"]["last"]
    assert 0 < found["error"] < 100
    assert "class_accuracy" not in found


def test_a_pretrained_predictor_does_not_depend_on_who_trained_the_detector(tmp_path):
    spec = spec_of("direct-encoder-pretrained-kl")
    kept = {"key": "spec-code", "checkpoint": tmp_path / ".work/run.pt"}
    first, second = (train(spec, device="cpu", **kept) for _ in range(2))
    assert first["curves"] == second["curves"]


def test_the_simulators_defaults_are_those_of_the_configuration():
    """The numbers are in both places: a user of the simulator alone has none to give."""
    protocol = read_config("vp_dsd")["protocol"]
    assert Recipe.of({key: entry["value"] for key, entry in protocol.items()}) == Recipe(
        validation_subjects=100, test_subjects=200, mean_proportions=[0.30, 0.085, 0.615]
    )
