"""Recorded sets of VP-DSD: read from their folder with their own optics, run through the paper tier, comparable."""

import json
import warnings
from dataclasses import replace
from math import isfinite

import numpy as np
import pytest
import torch

from papers.vp_dsd import tables
from papers.vp_dsd.data import holograms_of
from papers.vp_dsd.detection.concentration import concentration_scores, concentrations
from papers.vp_dsd.imaging.holograms import read
from papers.vp_dsd.imaging.optics import Optics
from papers.vp_dsd.train import train
from shared.comparison.report import compare
from shared.comparison.reported import read_reported
from shared.config import find, plan, repository
from shared.datasets import DatasetError, is_simulated
from shared.records import store
from shared.tables.evidence import gather
from tests.contract.paper_tier import shrunk
from tests.contract.paper_tier import vp_dsd as shrinking
from tests.contract.paper_tier.vp_dsd import RECIPE, recorded

SETS = ("wbc_holograms_synthetic", "wbc_holograms")
# Of another sensor than config.yaml's.
OWN = replace(RECIPE, size=36, pitch=2.2, distance=120.0, distance_spread=0.0, test_subjects=8)
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*wraps around at the borders"),
    pytest.mark.usefixtures("one_thread"),
]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    root = tmp_path_factory.mktemp("mirror")
    for seed, name in enumerate(SETS):
        recorded(root / name, OWN if name == "wbc_holograms_synthetic" else RECIPE, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLP_MIRROR", str(root))
        patch.setenv("LLP_DATA", str(root / "nothing"))
        yield root


def toy(spec):
    """The spec at toy length; a detector of few steps is off by far, and every class must have a detection."""
    return shrunk(shrinking, spec, match_radius=OWN.size)


def asked_for(results):
    """The runs of the paper tier on recorded sets, of one seed, that reported numbers and their constants rest on."""
    evidence = gather("vp_dsd", "paper", results)
    runs = [run for run in evidence.runs if run.spec.values().get("dataset") in SETS and run.spec.seed == 0]
    cells = tables.cells(evidence.rows(tables.METRICS, runs))
    reported = {(c.row, c.column) for c in read_reported(repository() / "papers/vp_dsd/reported.csv")}
    ids = {row.id for row in cells.itertuples() if (row.row, row.column) in reported}
    return [run for run in runs if run.id in ids and run.spec.values().get("detector") != "cellpose"]


@pytest.fixture(scope="module")
def records(mirror, tmp_path_factory):
    """Results of the paper tier on both sets, its runs shrunk."""
    results = tmp_path_factory.mktemp("results")
    folder, work = results / "paper/vp_dsd/runs", results / "tree/.work/paper/vp_dsd"
    made = {}
    for run in asked_for(results):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Its own file: a run that takes long is kept, and the next would go on from it.
            kept = work / f"{run.id.replace('/', '_')}.pt"
            result = train(toy(run.spec), device="cpu", checkpoint=kept, key="spec-code")
        asked = {"id": run.id, "method": run.method, "spec": run.spec.canonical(), "spec_hash": run.spec_hash}
        origin = {"code": {"hash": "c", "commit": "abc"}, "environment": {"device": "cpu"}, "finished": "2026-01-01"}
        found = {"metrics": result.metrics, "curves": {}, "cost": {"wall_s": 1.0, **result.cost}}
        made[run.id] = {**asked, **origin, **found}
        store.write_record(folder, made[run.id])
        store.write_record(folder, repeated(made[run.id]))
    return results, made


@pytest.fixture(scope="module")
def comparison(records):
    return compare("vp_dsd", "paper", records[0])


def repeated(record):
    """What the next seed might have found: a spread needs two."""
    again = find("vp_dsd", "paper", record["id"].replace("/seed0", "/seed1"))
    metrics = {k: {name: 1.01 * value for name, value in own.items()} for k, own in record["metrics"].items()}
    spec = {"spec": again.spec.canonical(), "spec_hash": again.spec_hash}
    return {**record, "id": again.id, **spec, "metrics": metrics}


@pytest.mark.slow
def test_the_paper_tier_on_recorded_sets_ends_with_judged_cells(comparison):
    """Nothing but stand-ins for a rival, and what differs from the paper's protocol, may keep its data from a verdict.

    The paper gives neither n nor spread: its numbers are held against what our seeds lead us to expect.
    """
    judged, obstacles = set(), {}
    for cell, verdict in comparison.cells:
        assert isfinite(verdict.mean) and verdict.n == 2, cell.cell
        if verdict.verdict != "NOT COMPARABLE":
            judged.add(verdict.verdict)
            continue
        for why in verdict.why.split("; "):
            obstacles.setdefault(why, set()).add(cell.column if cell.column != "kl" else cell.row)
    assert {"CONSISTENT", "INCONSISTENT"} <= judged <= {"CONSISTENT", "INCONSISTENT", "INCONCLUSIVE"}
    if is_simulated("wbc_holograms_synthetic"):
        assert obstacles.pop("simulated data: wbc_holograms_synthetic")
    stand_ins = {frozenset(columns) for why, columns in obstacles.items() if why.startswith("a stand-in")}
    assert stand_ins == {frozenset({"pc"}), frozenset({"csc"}), frozenset({"heatmap-c_fcrn"})}
    assert len(obstacles) == len(stand_ins)


def test_only_the_paper_tier_differs_from_it_in_nothing():
    """What else stands between a record and a verdict is a stand-in or simulated data, and said there."""
    for tier in ("quick", "cpu", "gpu", "paper"):
        differ = {run.id for run in plan("vp_dsd", tier) if run.differs}
        assert bool(differ) == (tier != "paper"), tier
        assert not {name for name in differ if "/equations/" in name}, "an equation has no protocol"


@pytest.mark.slow
def test_claims_are_judged_on_recorded_sets(comparison):
    verdicts = {claim.id: verdict for claim, verdict in comparison.claims}
    for name in ("bag-losses-collapse", "vp-ce-is-best", "vp-predicts-proportions", "vp-beats-csc"):
        assert verdicts[name].cells and any("simulated" in cell or "stained" in cell for cell in verdicts[name].missing)


@pytest.mark.slow
def test_the_optics_are_the_sets_own_and_in_its_records(records):
    """Those of config.yaml would focus another plane, or refuse every set but one."""
    lengths = {"wavelength_um": OWN.wavelength, "pitch_um": OWN.pitch, "distance_um": OWN.distance, "pixels": OWN.size}
    for record in records[1].values():
        if record["spec"]["dataset"] == "wbc_holograms_synthetic":
            last = record["metrics"]["last"]
            assert {name: last[name] for name in lengths} == lengths, record["id"]
            assert not {"pitch", "wavelength", "distance", "size"} & set(record["spec"])


def test_two_sets_of_one_name_are_not_confused(tmp_path, monkeypatch):
    spec = find("vp_dsd", "paper", "wbc_holograms/kl/seed0").spec
    for k, pitch in enumerate((1.8, 2.0)):
        recorded(tmp_path / str(k) / "wbc_holograms", replace(OWN, pitch=pitch), alone=0)
        monkeypatch.setenv("LLP_MIRROR", str(tmp_path / str(k)))
        monkeypatch.setenv("LLP_DATA", str(tmp_path))
        assert holograms_of(spec, torch.device("cpu")).optics.pitch == pitch


def test_what_a_set_does_not_tell_is_not_run_or_left_out(tmp_path, monkeypatch):
    """Without cells proportions are predicted and concentrations told; without either a detector cannot be judged."""
    monkeypatch.setenv("LLP_MIRROR", str(tmp_path))
    monkeypatch.setenv("LLP_DATA", str(tmp_path / "nothing"))
    run = {name: find("vp_dsd", "paper", f"wbc_holograms/{name}/seed0").spec for name in ("kl", "dsd", "csc")}
    oracle = find("vp_dsd", "paper", "wbc_holograms/oracle-lenet-kl/seed0").spec
    folder = tmp_path / "wbc_holograms"
    recorded(folder, RECIPE, cells=False)
    found = train(toy(run["kl"]), device="cpu").metrics["last"]
    assert 0 < found["error"] < 100 and "class_accuracy" not in found
    assert set(train(toy(run["dsd"]), device="cpu").metrics["last"]) >= {"concentration_error", "pitch_um"}
    found = train(toy(run["csc"]), device="cpu").metrics["last"]
    assert found["stop"] == 0 and 0 < found["error"] < 100 and "f1" not in found
    with pytest.raises(DatasetError, match="no oracle detections"):
        train(toy(oracle), device="cpu")
    (folder / "purified.csv").unlink()
    rows = [line.rsplit(",", 1)[0] for line in (folder / "subjects.csv").read_text().splitlines()]
    (folder / "subjects.csv").write_text("\n".join(rows) + "\n")
    holograms_of.__globals__["_recorded"].cache_clear()
    with pytest.raises(DatasetError, match="nothing of its cells or concentrations"):
        train(toy(run["dsd"]), device="cpu")
    with pytest.raises(DatasetError, match=r"no images of purified cells \(purified.csv\)"):
        train(toy(run["csc"]), device="cpu")


def test_light_that_wraps_around_is_warned_of(tmp_path):
    """Where the distance exceeds N pitch^2 / wavelength, waves go round the periodic image that T works on."""
    limit = 128 * 1.67**2 / 0.637
    assert Optics(0.637, 1.67, limit).wrapped(128) == pytest.approx(1)
    recorded(tmp_path / "near", replace(OWN, distance=100.0), alone=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path / "near")
    recorded(tmp_path / "far", replace(OWN, distance=1000.0), alone=0)
    with pytest.warns(UserWarning, match="wraps around at the borders"):
        read(tmp_path / "far")


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("purified.csv", "lymphocyte0.npy,lymphocyte", "lymphocyte0.npy,basophil", "class 'basophil' is none of"),
        ("subjects.csv", ",3000", ",0", "concentration 0.* is not above 0"),
        ("optics.json", "2.2", "0.1", "T is invertible above"),
    ],
)
def test_a_set_that_is_not_as_its_layout_says_is_refused(tmp_path, file, old, new, says):
    folder = tmp_path / "set"
    recorded(folder, replace(OWN, cells_least=3, cells_most=3))
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(DatasetError, match=says):
        read(folder)


def test_purified_cells_of_every_class_are_needed(tmp_path):
    folder = tmp_path / "set"
    recorded(folder, OWN, alone=1)
    (folder / "purified.csv").write_text("image,class\nmonocyte0.npy,monocyte\n")
    with pytest.raises(DatasetError, match="no image of purified lymphocytes"):
        read(folder)


def test_concentrations_need_one_factor_and_no_volume(tmp_path):
    folder = tmp_path / "set"
    recorded(folder, replace(OWN, validation_subjects=4, test_subjects=6))
    holograms = read(folder)
    truth = np.diff(holograms.cells.offsets)
    exactly = concentration_scores(truth, holograms)
    assert exactly["concentration_error"] == pytest.approx(0, abs=1e-9)
    assert exactly["concentration_correlation"] == pytest.approx(1)
    assert concentration_scores(7 * truth, holograms)["concentration_error"] == pytest.approx(0, abs=1e-9)
    same = concentration_scores(np.ones_like(truth), holograms)
    assert same["concentration_error"] == pytest.approx(same["constant_concentration_error"])
    assert "concentration_correlation" not in same
    unknown = replace(holograms, cells=None, concentrations=None)
    assert concentrations(unknown) is None and concentration_scores(truth, unknown) == {}


def test_every_recorded_set_is_planned_in_the_tiers_that_compare():
    for tier in ("gpu", "paper"):
        methods = {
            name: {r.method for r in plan("vp_dsd", tier) if r.spec.values().get("dataset") == name} for name in SETS
        }
        for name, found in methods.items():
            assert {"dsd", "csc", "cellpose", "vp_ce", "pc", "oracle-encoder-pretrained-vp_ce"} <= found, (tier, name)
            assert {"direct-resnet152-kl", "heatmap-c_fcrn-kl", "oracle-lenet-kl"} <= found, (tier, name)


def test_the_layout_is_written_as_it_is_read(tmp_path):
    recorded(tmp_path / "set", OWN)
    assert json.loads((tmp_path / "set/optics.json").read_text())["pitch_um"] == OWN.pitch
    found = read(tmp_path / "set")
    assert found.images.shape[1:] == (OWN.size, OWN.size) and len(found.purified) == 3
