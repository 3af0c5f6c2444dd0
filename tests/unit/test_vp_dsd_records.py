"""From records to the tables and figures of VP-DSD: cells the paper reports, the constant answer, NOT RUN."""

import pandas
import pytest
from papers.vp_dsd.plan import plan
from shared.records.summary import planned_rows

from papers.vp_dsd import figures, tables
from shared.comparison import reported
from shared.records import store
from tests.reading import markdown

CLASSES = ("lymphocyte", "monocyte", "granulocyte")
SMOKE = plan("smoke")
MISSING = "vp_dsd/simulated_holograms/pc/seed"


def record(run):
    spec, seed = run.spec, run.spec["seed"]
    last = {"epoch": 3, "train_s": 1.0 + seed}
    last |= {f"accuracy_{name}": 10.0 * k + seed for k, name in enumerate(CLASSES)}
    last |= {f"error_{name}": 1.0 + k for k, name in enumerate(CLASSES)} | {"class_accuracy": 10.0 + seed, "error": 2.0}
    curves = {}
    if spec["loss"] in ("dsd", "csc"):
        last |= {"precision": 90.0, "recall": 80.0, "f1": 85.0, "local_softmax_f1": 70.0, "amplitude_f1": 95.0}
    elif spec["loss"] == "example":
        last, grid = {}, [[0.0, 0.5], [1.0, 0.2]]
        curves = dict.fromkeys(("phase", "hologram", "amplitude", "true", "found"), grid)
    else:
        last |= {"entropy": 0.5, "proportion_entropy": 0.8, "constant_error": 4.0}
        last |= {f"constant_error_{name}": 4.0 for name in CLASSES}
    if spec.get("hidden") and not spec.get("predictor"):
        curves = {"simplex": [[0.2, 0.3, 0.5, 2], [0.8, 0.1, 0.1, 0]]} if seed == 0 else {}
    if spec["loss"] == "equations":
        last = {"value_error": 1e-15}
    origin = {"code": {"hash": "c", "commit": "abc"}, "environment": {"device": "cpu"}, "finished": "2026-01-01"}
    return {"id": run.id, "spec": spec, "metrics": {"last": last}, "curves": curves, **origin}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything of tier smoke but PC."""
    root = tmp_path_factory.mktemp("results")
    runs = root / "smoke/vp_dsd/runs"
    for run in SMOKE:
        if not run.id.startswith(MISSING):
            store.write(runs, record(run))
    store.write_index(runs, [run.id for run in SMOKE])
    tables.write("smoke", root)
    return root / "smoke/vp_dsd"


def test_table_1_has_every_method_and_says_what_was_not_run(made):
    rows = {row["method"]: row for row in markdown(made / "table1.md")}
    assert {*tables.LOSSES, "supervised", "vp_ce-permuted", "vp_ce-constant", "kl-epochs1"} <= set(rows)
    assert rows["vp_ce"]["monocyte"] == "10.50 ± 0.71 (2)"
    assert rows["pc"]["average"] == "NOT RUN"


def test_table_2_holds_errors_against_a_constant_answer(made):
    rows = {row["method"]: row for row in markdown(made / "table2.md")}
    assert rows[tables.CONSTANT]["average"] == rows[tables.CONSTANT]["monocyte"] == "4.00 ± 0.00 (2)"
    assert rows["csc"]["granulocyte"] == "3.00 ± 0.00 (2)"


def test_every_table_says_that_its_data_are_simulated(made):
    for name in ("table1", "table2", "table3", "entropy", "detection", "diversity"):
        assert "simulated_holograms is simulated" in (made / f"{name}.md").read_text(), name


def test_detection_shows_the_baselines_beside_the_detector(made):
    rows = {row["method"]: row for row in markdown(made / "detection.md")}
    assert rows["dsd"]["f1"] == "85.00 ± 0.00 (2)"
    assert rows["amplitude threshold"]["f1"] == "95.00 ± 0.00 (2)"
    assert rows["local softmax"]["precision"] == "NOT RUN"  # the made records have none


def test_cells_are_those_the_paper_reports(made):
    """A cell that is spelt differently would read NOT RUN for ever."""
    rows = pandas.concat([planned_rows(SMOKE, made / "runs", m) for m in ("class_accuracy", "error", "entropy")])
    by_class = [f"{metric}_{name}" for metric in ("accuracy", "error") for name in CLASSES]
    rows = pandas.concat([rows, *(planned_rows(SMOKE, made / "runs", m) for m in by_class)])
    names = ["table", "row", "column", "metric"]
    found = set(tables.cells(rows)[names].itertuples(index=False, name=None))
    asked = {(c.table, c.row, c.column, c.metric) for c in reported.read(tables.Path("papers/vp_dsd/reported.csv"))}
    there = {cell for cell in asked if cell[0] in ("table1", "entropy", "synthetic")}
    assert there <= found
    assert {
        ("table3", "direct-resnet152", "kl", "error"),
        ("table3", "oracle-encoder", "vp_ce", "error"),
        ("table3", "heatmap-c_fcrn", "kl", "error"),
    } <= found


def test_the_private_donors_take_the_place_of_the_stained_cells():
    rows = pandas.DataFrame(
        {"dataset": name, "method": "vp_ce", "loss": "vp_ce", "metric": "error", "selection": "last", "seed": 0}
        | {"value": value, "id": name, "bags": "images", "predictor": ""}
        for name, value in (("wbc_stained", 5.0), ("wbc_holograms", 6.0))
    )
    second = tables.cells(rows).query("table == 'table2'")
    assert second.value.tolist() == [6.0]
    missing = rows.assign(value=[5.0, float("nan")])
    assert tables.cells(missing).query("table == 'table2'").value.tolist() == [5.0]


def test_figures_are_drawn_with_and_without_records(made, tmp_path):
    figures.make("smoke", made.parents[1])
    for name in ("fig2", "fig3", "fig4", "diversity"):
        assert (made / f"{name}.svg").stat().st_size > 1000
    (tmp_path / "smoke/vp_dsd/runs").mkdir(parents=True)
    tables.write("smoke", tmp_path)
    figures.make("smoke", tmp_path)
    assert "NOT RUN" in (tmp_path / "smoke/vp_dsd/fig4.svg").read_text()
    assert all(row["average"] == "NOT RUN" for row in markdown(tmp_path / "smoke/vp_dsd/table1.md"))
