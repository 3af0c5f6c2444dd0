"""From records to the tables and figures of VP-DSD: cells the paper reports, the constant answer, NOT RUN."""

from dataclasses import replace

import matplotlib.pyplot as plt
import pandas
import pytest

from papers.vp_dsd import figures, tables
from shared.comparison import reported
from shared.config import Run, plan, repository
from shared.records import store
from shared.tables.draw import Drawn, make_figures
from shared.tables.evidence import gather
from shared.tables.make import make_tables
from tests.conftest import of_any_text
from tests.reading import markdown

CLASSES = ("lymphocyte", "monocyte", "granulocyte")
LOSSES = ("mse", "kl", "flm", "pc", "plot", "vp_l2", "vp_ce")  # the columns of Tables 1 and 2
SMOKE = plan("vp_dsd", "smoke")
MISSING = "vp_dsd/simulated_holograms/pc/seed"


def record(run):
    spec = run.spec.values()
    seed, task = spec["seed"], spec["task"]
    last = {"epoch": 3}
    last |= {f"accuracy_{name}": 10.0 * k + seed for k, name in enumerate(CLASSES)}
    last |= {f"error_{name}": 1.0 + k for k, name in enumerate(CLASSES)} | {"class_accuracy": 10.0 + seed, "error": 2.0}
    curves = {}
    if task == "detection":
        last |= {"concentration_error": 5.0, "constant_concentration_error": 9.0, "concentration_correlation": 0.9}
        last |= {"precision": 90.0, "recall": 80.0, "f1": 85.0, "local_softmax_f1": 70.0, "amplitude_f1": 95.0}
    elif task == "example":
        last, grid = {}, [[0.0, 0.5], [1.0, 0.2]]
        curves = dict.fromkeys(("phase", "hologram", "amplitude", "true", "found"), grid)
    else:
        last |= {"entropy": 0.5, "proportion_entropy": 0.8, "constant_error": 4.0}
        last |= {f"constant_error_{name}": 4.0 for name in CLASSES}
    if task == "classification":
        last |= {"subjects_train": 12, "subjects_validation": 4, "subjects_test": 6, "subjects_all": 22, "classes": 3}
        if seed == 0:
            curves = {"simplex": [[0.2, 0.3, 0.5, 2], [0.8, 0.1, 0.1, 0]]}
            curves["proportions"] = [[0.25, 0.05, 0.7, 0.3, 0.1, 0.6], [0.3, 0.0, 0.7, 0.35, 0.05, 0.6]]
    if task == "check":
        last = {"value_error": 1e-15}
    origin = {"code": {"hash": "c", "commit": "abc"}, "environment": {"device": "cpu"}, "finished": "2026-01-01"}
    asked = {"id": run.id, "method": run.method, "spec": run.spec.canonical(), "spec_hash": run.spec_hash}
    found = {"metrics": {"last": last}, "curves": curves, "cost": {"wall_s": 2.0, "train_s": 1.0 + seed}}
    return {**asked, **found, **origin}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything of tier smoke but PC."""
    root = tmp_path_factory.mktemp("results")
    runs = root / "smoke/vp_dsd/runs"
    for run in SMOKE:
        if not run.id.startswith(MISSING):
            store.write_record(runs, record(run))
    store.write_index(runs, [run.id for run in SMOKE])
    make_tables("vp_dsd", "smoke", root)
    return root / "smoke/vp_dsd"


def test_table_1_has_every_method_and_says_what_was_not_run(made):
    rows = {row["method"]: row for row in markdown(made / "table1.md")}
    assert {*LOSSES, "supervised", "vp_ce-permuted", "vp_ce-constant", "kl-epochs1"} <= set(rows)
    assert rows["vp_ce"]["monocyte"] == "10.50 ± 0.71 (2)"
    assert rows["vp_ce"]["seconds"] == "1.50 ± 0.71 (2)"
    assert rows["pc"]["average"] == rows["pc"]["seconds"] == "NOT RUN"
    assert "csc" not in rows


def test_table_2_holds_errors_against_a_constant_answer(made):
    rows = {row["method"]: row for row in markdown(made / "table2.md")}
    assert rows[tables.CONSTANT]["average"] == rows[tables.CONSTANT]["monocyte"] == "4.00 ± 0.00 (2)"
    assert rows["csc"]["granulocyte"] == "3.00 ± 0.00 (2)"


def test_table_3_holds_a_line_a_predictor_and_the_constant_answer_once_a_seed(made):
    rows = {row["method"]: row for row in markdown(made / "table3.md")}
    planned = {run.method for run in SMOKE if run.spec.task == "regression"}
    assert set(rows) == {*planned, tables.CONSTANT}
    assert rows[tables.CONSTANT]["average"] == "4.00 (1)"


def test_every_table_says_that_its_data_are_simulated(made):
    for name in ("table1", "table2", "table3", "entropy", "detection", "diversity", "sensitivity"):
        assert "simulated_holograms is simulated" in (made / f"{name}.md").read_text(), name


def test_rates_and_difficulties_are_controls_and_in_no_other_table(made):
    """Beside the rivals they would read as methods of the paper."""
    rows = {row["method"]: row for row in markdown(made / "sensitivity.md")}
    assert set(rows) == {
        f"{loss}-{key}" for loss in ("kl", "vp_ce") for key in ("learning_rate0.003", "noise0.03-spread1")
    }
    for name in ("table1", "entropy", "table2", "fig2", "fig4"):
        assert "learning_rate" not in (made / f"{name}.csv").read_text(), name


def test_detection_shows_the_baselines_beside_the_detector(made):
    rows = {row["method"]: row for row in markdown(made / "detection.md")}
    assert rows["dsd"]["f1"] == "85.00 ± 0.00 (2)"
    assert rows["amplitude threshold"]["f1"] == "95.00 ± 0.00 (2)"
    assert rows["local softmax"]["precision"] == "NOT RUN"  # the made records have none
    assert rows["csc"]["concentration, % off"] == "5.00 ± 0.00 (2)"


def test_cells_are_those_the_paper_reports(made):
    """A cell that is spelt differently would read NOT RUN for ever."""
    rows = gather("vp_dsd", "smoke", made.parents[1]).rows(tables.METRICS)
    names = ["table", "row", "column", "metric"]
    found = set(tables.cells(rows)[names].itertuples(index=False, name=None))
    asked = reported.read_reported(repository() / "papers/vp_dsd/reported.csv")
    asked = {(c.table, c.row, c.column, c.metric) for c in asked}
    there = {cell for cell in asked if cell[0] in ("table1", "entropy", "synthetic") or "synthetic" in cell}
    assert there <= found
    assert {
        ("table3", "direct-resnet152", "kl", "error"),
        ("table3", "oracle-encoder", "vp_ce", "error"),
        ("table3", "heatmap-c_fcrn", "kl", "error"),
    } <= found


@pytest.mark.parametrize(
    ("table", "row", "metric", "shown_in", "shown"),
    [
        ("table1", "monocyte", "accuracy_monocyte", "table1", "accuracy_monocyte"),
        ("table1", "seconds", "train_s", "table1", "train_s"),
        ("synthetic", "average", "error", "table2", "error"),
        ("entropy", "prediction", "entropy", "entropy", "entropy"),
    ],
)
def test_a_cell_is_what_its_table_shows(made, table, row, metric, shown_in, shown):
    """The comparison judges cells; the mean over their seeds must be the number in the table."""
    rows = tables.cells(gather("vp_dsd", "smoke", made.parents[1]).found)
    own = rows[(rows.table == table) & (rows.row == row) & (rows.metric == metric)]
    numbers = pandas.read_csv(made / f"{shown_in}.csv")
    numbers = numbers[(numbers.metric == shown) & (numbers.n_seeds > 0)].set_index("method")["mean"]
    assert len(own) and own.groupby("column").value.mean().to_dict() == numbers.to_dict()


def test_the_private_donors_take_the_place_of_the_stained_cells():
    rows = pandas.DataFrame(
        {"dataset": name, "method": "vp_ce", "loss": "vp_ce", "metric": "error", "selection": "last", "seed": 0}
        | {"value": value, "id": name, "bags": "images", "task": "classification"}
        for name, value in (("wbc_stained", 5.0), ("wbc_holograms", 6.0))
    )
    second = tables.cells(rows).query("table == 'table2'")
    assert second.value.tolist() == [6.0]
    third = rows.assign(
        task="regression", method="oracle-lenet-vp_ce", dataset=["simulated_holograms", "wbc_holograms"]
    )
    assert tables.cells(third).query("table == 'table3'").value.tolist() == [6.0]
    missing = rows.assign(value=[5.0, float("nan")])
    assert tables.cells(missing).query("table == 'table2'").value.tolist() == [5.0]
    assert tables.cells(rows[:0]).empty


def test_figures_are_drawn_with_and_without_records(made, tmp_path):
    make_figures("vp_dsd", "smoke", made.parents[1])
    for name in ("fig2", "fig3", "fig4", "proportions", "diversity"):
        assert (made / f"{name}.svg").stat().st_size > 1000
    (tmp_path / "smoke/vp_dsd/runs").mkdir(parents=True)
    make_tables("vp_dsd", "smoke", tmp_path)
    make_figures("vp_dsd", "smoke", tmp_path)
    for name in ("fig4", "proportions"):
        assert "NOT RUN" in (tmp_path / f"smoke/vp_dsd/{name}.svg").read_text()
    assert all(row["average"] == "NOT RUN" for row in markdown(tmp_path / "smoke/vp_dsd/table1.md"))


def test_proportions_are_drawn_as_predicted_against_true_in_percent(made):
    table = pandas.read_csv(made / "proportions.csv")
    one = table[(table.method == "kl") & (table["class"] == "monocyte")]
    assert one.true.tolist() == [10.0, 5.0] and one.predicted.tolist() == [5.0, 0.0]
    figure = figures.proportions(Drawn("vp_dsd", "smoke", made))
    (axis,) = (axis for axis in figure.axes if axis.get_title() == "KL, simulated")
    (drawn,) = (line for line in axis.lines if line.get_label() == "monocyte")
    assert drawn.get_xdata().tolist() == [10.0, 5.0] and drawn.get_ydata().tolist() == [5.0, 0.0]
    assert "PC, simulated" in figure.get_supxlabel()
    plt.close(figure)


def test_a_new_loss_is_in_its_tables_and_figures_without_a_second_edit(made):
    """A list of methods somewhere would leave it out in silence."""
    new = []
    for run in SMOKE:
        if run.method == "kl" and run.spec.seed == 0:
            new.append(Run(run.id.replace("/kl/", "/hinge/"), "hinge", of_any_text(run.spec).but(loss="hinge"), 1.0))
    evidence = gather("vp_dsd", "smoke", made.parents[1])
    records = {**evidence.records, **{run.id: record(run) for run in new}}
    evidence = replace(evidence, runs=(*evidence.runs, *new), records=records)
    for name in ("table1", "table2", "entropy", "diversity", "fig2", "fig4", "proportions"):
        assert "hinge" in set(getattr(tables, name)(evidence).numbers.method), name

    class Beside(Drawn):
        runs = evidence.runs

        def __getitem__(self, name):
            return getattr(tables, name)(evidence).numbers

    drawn = Beside("vp_dsd", "smoke", made)
    for name in ("fig4", "diversity"):
        legends = getattr(figures, name)(drawn).legends
        assert "hinge" in [text.get_text() for legend in legends for text in legend.get_texts()], name
    assert "hinge" in [axis.get_title() for axis in figures.fig2(drawn).axes]
    assert "hinge, simulated" in [axis.get_title() for axis in figures.proportions(drawn).axes]
    plt.close("all")
