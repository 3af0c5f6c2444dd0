"""From records to the tables and figures of PLOT: gains within seeds, the paper's rows, NOT RUN where nothing is."""

import re

import pandas
import pytest

from papers.plot import figures, tables
from papers.plot.plan import plan
from shared.records import store
from tests.reading import markdown

SMOKE = plan("smoke")
PLUS = {"dllp": 0.0, "dllp+sce+hard": 3.0, "dllp+continued": 5.0}


def accuracy(spec):
    """Seeds far apart, methods close: only differences within a seed have a small spread."""
    return 50.0 + 20 * spec["seed"] + PLUS.get(spec["method"], 1.0)


def record(run):
    epochs = {"epoch": [1, 2], "test_accuracy": [40.0, accuracy(run.spec)], "validation_loss": [2.0, 1.0]}
    metrics = {"accuracy": accuracy(run.spec), "epoch": 2}
    if run.spec["second"] == "plot":
        for place, name in enumerate(("td", "td_ot", f"td_ot_{run.spec['average']}")):
            epochs[name] = [40.0 + place, 60.0 + place]
            metrics |= {name: 60.0 + place, f"first_{name}": 40.0 + place}
    if run.spec["dataset"] == "two_moons":
        epochs["grid"] = [0, 1] * 1800
    metrics = {"last": metrics, "oracle": {"accuracy": 99.0, "epoch": 1}}
    origin = {"code": {"hash": "c", "commit": "abc"}, "environment": {"device": "cpu"}, "finished": "2026-01-01"}
    return {"id": run.id, "spec": run.spec, "metrics": metrics, "curves": epochs, **origin}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything of tier smoke but LLP-GAN with PLOT."""
    root = tmp_path_factory.mktemp("results")
    runs = root / "smoke/plot/runs"
    for run in SMOKE:
        if run.spec["method"] != "llp_gan+sce+hard":
            store.write(runs, record(run))
    store.write_index(runs, [run.id for run in SMOKE])
    tables.write("smoke", root)
    return root / "smoke/plot"


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
    rows = pandas.DataFrame(
        {
            "id": [run.id for run in plan("quick")],
            **{key: [run.spec[key] for run in plan("quick")] for key in ("dataset", "method", "bag_size", "seed")},
        }
    ).assign(metric="accuracy", selection="last", value=1.0)
    found = tables.cells(rows)
    assert set(found.table) == {"table1", "table3"}
    assert set(found[found.table == "table3"].row) == {"base", "ce", "sce", "ce+ot", "sce+ot", "ce+ot+mixup"}
    assert set(found[found.table == "table1"].column) == {"n=16", "n=32", "n=64", "n=128"}


def test_figures_are_drawn_and_say_what_was_not_run(made):
    figures.draw("smoke", made.parents[1])
    text = (made / "fig2.svg").read_text()
    assert "NOT RUN" in text and re.search(r"test accuracy \d", text)  # LLP-GAN is not planned on two moons here
    assert (made / "fig3.png").stat().st_size > 5000 and (made / "fig4.png").stat().st_size > 5000


def test_with_no_record_everything_says_so(tmp_path):
    store.write_index(tmp_path / "smoke/plot/runs", [run.id for run in SMOKE])
    tables.write("smoke", tmp_path)
    figures.draw("smoke", tmp_path)
    for name in ("table1", "table2", "table3", "gains", "pseudo"):
        rows = markdown(tmp_path / f"smoke/plot/{name}.md")
        assert rows and all("NOT RUN" in row.values() or "-" in row.values() for row in rows), name
