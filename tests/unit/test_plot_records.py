"""From records to the tables and figures of PLOT: gains within seeds, the paper's rows, NOT RUN where nothing is."""

import re
from dataclasses import replace

import pandas
import pytest

from papers.plot import figures, names, tables
from shared.config import plan, repository
from shared.records import store
from shared.tables import draw, evidence
from shared.tables.draw import Drawn, make_figures
from shared.tables.make import make_tables
from tests.conftest import of_any_text
from tests.reading import markdown

SMOKE = plan("plot", "smoke")
PLUS = {"dllp": 0.0, "dllp+sce+hard": 3.0, "dllp+continued": 5.0}


def accuracy(run):
    """Seeds far apart, methods close: only differences within a seed have a small spread."""
    return 50.0 + 20 * run.spec.seed + PLUS.get(run.method, 1.0)


def record(run):
    epochs = {"epoch": [1, 2], "test_accuracy": [40.0, accuracy(run)], "validation_loss": [2.0, 1.0]}
    metrics = {"accuracy": accuracy(run), "epoch": 2}
    if run.spec.second == "plot":
        for place, name in enumerate(("td", "td_ot", f"td_ot_{run.spec.average}")):
            epochs[name] = [40.0 + place, 60.0 + place]
            metrics |= {name: 60.0 + place, f"first_{name}": 40.0 + place}
    if run.spec.dataset == "two_moons":
        epochs["grid"] = [0, 1] * 1800
    metrics = {"last": metrics, "oracle": {"accuracy": 99.0, "epoch": 1}}
    origin = {"code": {"hash": "c", "commit": "abc"}, "environment": {"device": "cpu"}, "finished": "2026-01-01"}
    asked = {"id": run.id, "method": run.method, "spec": run.spec.canonical(), "spec_hash": run.spec_hash}
    return {**asked, "metrics": metrics, "curves": epochs, "cost": {"wall_s": 1.0, "train_s": 1.0}, **origin}


def write(root, runs):
    for run in runs:
        store.write_record(root / "smoke/plot/runs", record(run))
    make_tables("plot", "smoke", root)
    return root / "smoke/plot"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything of tier smoke but LLP-GAN with PLOT."""
    return write(tmp_path_factory.mktemp("results"), [run for run in SMOKE if run.method != "llp_gan+sce+hard"])


def test_gains_are_paired_by_seed(made):
    (one, other) = markdown(made / "gains.md")[:2]
    assert (one["loss"], one["gain"], one["n=16"]) == ("dllp", "plot - stage one", "3.00 ± 0.00 (2)")
    assert (other["gain"], other["n=16"]) == ("plot - continued", "-2.00 ± 0.00 (2)")


def test_table_1_has_the_papers_rows_its_control_and_what_was_not_run(made):
    rows = {row["method"]: row["n=16"] for row in markdown(made / "table1.md")}
    assert rows["dllp+plot"].startswith("63.00") and rows["dllp+continued"].startswith("65.00")
    assert rows["llp_gan+plot"] == "NOT RUN" and rows["supervised"].startswith("61.00")
    assert "Stand-ins: digits" in (made / "table1.md").read_text()


def test_table_3_tells_the_papers_rows_from_ours(made):
    rows = {row["method"]: row["row"] for row in markdown(made / "table3.md")}
    assert rows["dllp"] == "base" and rows["dllp+sce+hard"] == "sce+ot" and rows["dllp+ce"] == "ce"
    assert rows["dllp+continued"] == rows["dllp+sce+hard+fresh"] == rows["dllp+continued+mixup"] == "ours"


def test_pseudo_labels_before_and_after(made):
    rows = {row["method"]: row for row in markdown(made / "pseudo.md")}
    plot = rows["dllp+sce+hard"]
    assert plot["td before"].startswith("40.00") and plot["td_ot after"].startswith("61.00")
    assert pandas.read_csv(made / "fig3.csv").curve.unique().tolist() == ["td", "td_ot", "td_ot_5"]


def test_cells_are_those_the_paper_reports():
    planned = plan("plot", "quick")
    rows = pandas.DataFrame(
        {
            "id": [run.id for run in planned],
            "method": [run.method for run in planned],
            **{key: [run.spec[key] for run in planned] for key in ("dataset", "bag_size", "seed")},
        }
    ).assign(metric="accuracy", selection="last", value=1.0)
    found = tables.cells(rows)
    assert set(found.table) == {"table1", "table2", "table3", "fig2"}
    in_words = found[(found.table == "table3") & (found.row != found.method)]
    assert set(in_words.row) == {"base", "ce", "sce", "ce+ot", "sce+ot", "ce+ot+mixup"}
    sizes = {"n=16", "n=32", "n=64", "n=128"}
    assert all(sizes < set(found[found.table == name].column) for name in ("table1", "table2"))
    key = ["table", "row", "column"]
    reported = pandas.read_csv(repository() / "papers/plot/reported.csv")
    counts = found.groupby(key)["id"].nunique()
    far = (reported.table == "table2") & ~reported.row.str.startswith("dllp") & reported.column.isin(["n=16", "n=32"])
    assert (counts.reindex(reported[~far].set_index(key).index) == 3).all()  # from every seed and nothing else
    assert counts.reindex(reported[far].set_index(key).index).isna().all() and far.sum() == 8


@pytest.mark.parametrize("tier", ["smoke", "quick", "cpu", "gpu", "paper"])
def test_what_is_not_the_papers_choice_is_in_the_name(tier):
    """Two specs with one name would be two columns of one row; `plan` refuses them within a tier."""
    for run in plan("plot", tier):
        if run.spec.second == "plot" and run.spec.transport == "hard":
            weights = run.spec.second_loss == "sce" and (run.spec.sce_alpha, run.spec.sce_beta) != (1, 1)
            plain = not weights and run.spec.second_batches == "bags" and not run.spec.mixup
            plain = plain and (run.spec.average, run.spec.student) == (5, "same")
            assert plain == (run.method == f"{run.spec.loss}+{run.spec.second_loss}+hard"), run.id
        if run.spec.loss == "llp_vat":
            assert run.method.startswith("llp_vat_exact") == (run.spec.vat_floor == 0)


@pytest.mark.parametrize(("accuracies", "shown"), [([70.0, 90.0, 80.0], 2), ([70.0, 90.0], 0), ([80.0, 80.0, 70.0], 0)])
def test_figure_2_shows_the_seed_of_median_accuracy(tmp_path, monkeypatch, accuracies, shown):
    run = next(run for run in SMOKE if run.id == "plot/two_moons/dllp/bag50/seed0")
    runs = [replace(run, id=f"plot/two_moons/dllp/bag50/seed{n}", spec=run.spec.but(seed=n)) for n in range(4)]
    for module in (evidence, draw):
        monkeypatch.setattr(module, "plan", lambda *of: runs)
    for run, value in zip(runs, accuracies, strict=False):
        found = record(run)
        found["metrics"]["last"]["accuracy"] = value
        store.write_record(tmp_path / "smoke/plot/runs", found)
    table = tables.fig2(evidence.gather("plot", "smoke", tmp_path)).numbers
    assert table.seed[table.shown].tolist() == [shown] and len(table) == 4


def test_cells_take_rows_of_which_nothing_is_known():
    """The comparison asks before anything was run."""
    assert tables.cells(pandas.DataFrame(columns=["id", "seed", "selection", "metric", "value"])).empty


def test_tables_show_the_rows_that_are_judged(made):
    """One map from a record to its cell."""
    every = tables.cells(evidence.gather("plot", "smoke", made.parents[1]).rows())
    for name in ("table1", "table3"):
        shown = pandas.read_csv(made / f"{name}.csv").set_index(["method", "bag_size", "selection"])["mean"]
        judged = every[every.table == name].groupby(["method", "bag_size", "selection"])["value"].mean()
        pandas.testing.assert_series_equal(shown.sort_index(), judged.sort_index(), check_names=False, rtol=1e-4)


def test_figures_are_drawn_and_say_what_was_not_run(made):
    make_figures("plot", "smoke", made.parents[1])
    text = (made / "fig2.svg").read_text()
    assert "NOT RUN" in text and re.search(r"test accuracy \d", text)  # LLP-GAN is not planned on two moons here
    assert (made / "fig3.png").stat().st_size > 5000 and (made / "fig4.png").stat().st_size > 5000


def test_with_no_record_everything_says_so(tmp_path):
    make_tables("plot", "smoke", tmp_path)
    make_figures("plot", "smoke", tmp_path)
    for name in ("table1", "table2", "table3", "gains", "pseudo"):
        rows = markdown(tmp_path / f"smoke/plot/{name}.md")
        assert rows and all("NOT RUN" in row.values() or "-" in row.values() for row in rows), name


def changed(run, **values):
    """A run with other values, named as the plan would."""
    spec = of_any_text(run.spec).but(**values)
    method = names.method(spec)
    return replace(run, id=f"plot/{names.path(spec, method)}/seed{spec.seed}", method=method, spec=spec)


def test_a_new_stage_one_and_new_labels_are_shown_without_a_second_edit(tmp_path, monkeypatch):
    """A value added to the grid alone must be in every table and figure of its kind."""
    plain = [run for run in SMOKE if run.method in ("dllp", "dllp+sce+hard", "dllp+continued")]
    new = [changed(run, loss="llp_new") for run in plain]
    new += [changed(run, transport="partial") for run in SMOKE if run.method == "dllp+sce+soft"]
    for module in (evidence, draw):
        monkeypatch.setattr(module, "plan", lambda *of: [*SMOKE, *new])
    made = write(tmp_path, [*SMOKE, *new])
    table1 = [row["method"] for row in markdown(made / "table1.md")]
    assert table1[-4:] == ["llp_new", "llp_new+plot", "llp_new+continued", "supervised"]
    assert "llp_new" in set(pandas.read_csv(made / "table1.csv").method)
    assert {row["loss"] for row in markdown(made / "gains.md")} > {"llp_new", "dllp"}
    table3 = {row["method"]: row["row"] for row in markdown(made / "table3.md")}
    assert table3["dllp+sce+partial"] == "ours" and "llp_new" not in table3
    assert {"llp_new+sce+hard", "dllp+sce+partial"} < {row["method"] for row in markdown(made / "pseudo.md")}
    drawn = Drawn("plot", "smoke", made)
    assert {"llp_new", "llp_new+sce+hard"} < {axis.get_title() for axis in figures.fig2(drawn).axes}
    legend = [text.get_text() for text in figures.fig4(drawn).axes[-1].get_legend().get_texts()]
    assert "n=16, dllp+sce+partial" in legend and "n=16, soft" in legend
