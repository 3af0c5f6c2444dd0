"""From records to what a reader sees of Barucic & Kybic 2022. Wrong here, and a table shows a number that no record
has, or nothing where it should say NOT RUN; or a claim is judged by an epoch that was not reached.
"""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch

from papers.mle_llp import figures, tables, task_timing
from papers.mle_llp.data import Data
from papers.mle_llp.names import SIZES
from papers.mle_llp.task_learning import STOP_CHANGE, convergence, scores
from shared.config import Run, plan
from shared.config.outputs import read_outputs
from shared.records import store
from shared.tables.draw import Drawn, make_figures
from shared.tables.evidence import gather
from shared.tables.make import NOTES, make_tables
from shared.training import Inputs
from tests.conftest import of_any_text

ROOT = Path(__file__).parents[2]
SMOKE = plan("mle_llp", "smoke")


def test_the_accuracy_over_classes_does_not_reward_a_guess_of_the_common_one():
    """Eight of ten instances are of one class, and so are all predictions; the third class is not tested at all."""
    guess = SimpleNamespace(predict=lambda x: torch.tensor([[0.5, 0.3, 0.2]]).expand(len(x), 3))
    labels = np.array([0] * 8 + [1] * 2 + [2] * 5)
    data = Data(Inputs(np.zeros((15, 1)), torch.device("cpu")), labels, 5, None, ("a", "b", "c"), {})
    assert scores(guess, data, np.arange(10)) == {"test_accuracy": 80.0, "test_class_accuracy": 50.0}


def test_every_search_has_a_line_of_its_own():
    """The search on bags of 2 to 12 stood in the table with the losses of that on bags of 2."""
    runs = [run for run in plan("mle_llp", "cpu") if run.method == "mle_llp" and run.id.endswith("seed0")]
    runs = [run for run in runs if run.spec.values()["choose_rate"] and not run.spec.bags]

    def record(n):
        curves = {"tried_learning_rate": [0.1], "tried_score": [float(n)]}
        return {"curves": curves, "metrics": {"last": {tables.CHOSEN: 0.1, f"{tables.CHOSEN}_end": 0}}}

    evidence = SimpleNamespace(
        where=lambda **_: runs, recorded=lambda chosen: [(run, record(n)) for n, run in enumerate(chosen)]
    )
    found = tables.rates(evidence).numbers
    assert sorted(found["loss at 0.1"]) == list(range(len(runs))) and len(runs) > 4
    assert {"2 to 12", "2", "1024"} <= set(found.bag_size)


class TestConvergence:
    """Three numbers that the claims about training stand on."""

    def test_a_curve_by_hand(self):
        curves = {
            "test_accuracy": [50.0, 70.0, 90.0, 91.0, 90.0, 92.0],  # 99 % of 91 is 90.09
            "log_likelihood": [-2.0, -1.5, -1.4, -1.4 + 0.5 * STOP_CHANGE, -1.0, -1.0],
        }
        found = convergence(curves, 6)
        assert found["epochs_to_99"] == 4 and found["half_accuracy"] == 90.0
        assert found["unrest"] == pytest.approx(1.5) and found["stop_epoch"] == 3

    def test_the_first_time_counts_though_the_accuracy_falls_again(self):
        found = convergence({"test_accuracy": [95.0, 60.0, 80.0, 90.0, 90.0, 90.0]}, 6)
        assert found["epochs_to_99"] == 1 and found["unrest"] == 0

    def test_one_good_epoch_at_the_end_is_not_the_final_accuracy(self):
        assert convergence({"test_accuracy": [80.0, 80.0, 80.0, 80.0, 80.0, 100.0]}, 6)["epochs_to_99"] == 6
        assert convergence({"test_accuracy": [80.0, 86.0, 80.0, 80.0, 80.0, 98.0]}, 6)["epochs_to_99"] == 2

    def test_half_time_is_of_the_epochs_asked_for_and_not_of_those_trained(self):
        """Else a run that its rule ended early would be judged by a quarter of them."""
        accuracies = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
        found = [convergence({"test_accuracy": accuracies[:n]}, 6)["half_accuracy"] for n in (6, 4, 3, 2, 1)]
        assert found == [30.0, 30.0, 30.0, 20.0, 10.0]
        assert convergence({"test_accuracy": accuracies}, 5)["half_accuracy"] == 30.0

    def test_what_a_curve_does_not_say_is_absent(self):
        short = convergence({"test_accuracy": [70.0]}, 6)
        assert short["epochs_to_99"] == 1 and not {"unrest", "stop_epoch"} & set(short)
        moving = {"test_accuracy": [70.0, 80.0], "log_likelihood": [-2.0, -1.0]}
        assert "stop_epoch" not in convergence(moving, 6)


def trains(run):
    return run.spec.task == "learning"


def one_size(run):
    return trains(run) and run.spec.smallest == run.spec.largest


def accuracy_of(spec):
    return 60 + 10 * spec.seed + spec.bags / 10


def record(run, cost=None, **metrics):
    """What a worker writes; accuracies and curves only of a run that trains."""
    by_rule, curves = {"last": metrics}, {}
    if trains(run):
        metrics |= {"accuracy": accuracy_of(run.spec), "class_accuracy": 40.0}
        by_rule |= {"bag-validation": {"accuracy": 55.0, "epoch": 1}, "oracle": {"accuracy": 99.0, "epoch": 2}}
        curves = {"test_accuracy": [50.0, accuracy_of(run.spec)]}
        if run.spec.choose_rate:
            metrics |= {"chosen_learning_rate": 0.03, "chosen_learning_rate_end": 1}
            curves |= {"tried_learning_rate": [0.03, 0.003], "tried_score": [0.5, None]}
    origin = {"code": {"hash": "c", "commit": "abc"}, "environment": {"device": "cpu"}, "finished": "2026-01-01"}
    named = {"id": run.id, "method": run.method, "spec": run.spec.canonical(), "spec_hash": run.spec_hash}
    return {**named, "metrics": by_rule, "curves": curves, "cost": {"wall_s": 1.0, **(cost or {})}, **origin}


TIMES = {"supervised": 0.5, "dllp": 1.0, "llp_gan": 4.0, "mle_llp": 1.5}
EPOCHS = {f"epoch_s_{m}": 2 * s for m, s in TIMES.items()} | {f"ratio_{m}": s for m, s in TIMES.items()}
THERE = [run for run in SMOKE if run.method not in ("llp_gan", "mle_direct") and run.id != SMOKE[-1].id]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Tables and figures of a smoke tier without a record of LLP-GAN, of the likelihood itself, and of one run."""
    root = tmp_path_factory.mktemp("results")
    for run in THERE:
        if trains(run):
            more = {"epochs_to_99": 2 + run.spec.seed, "unrest": 0.5}
            more |= {"stop_epoch": 3} if run.spec.loss == "mle_llp" else {}
        elif run.spec.task == "durations":
            more = {"cost": {**EPOCHS, "e_step_share": 2.5}}
        elif run.spec.task == "e_step":
            more = {"cost": task_timing.e_step(16, 0, torch.device("cpu"))}
        else:
            more = {"posterior_error": 3e-16}
        store.write_record(root / "smoke/mle_llp/runs", record(run, **more))
    make_tables("mle_llp", "smoke", root)
    make_figures("mle_llp", "smoke", root)
    return root / "smoke/mle_llp"


def read(results, name):
    return pandas.read_csv(results / f"{name}.csv")


def markdown(path):
    """{the row's first cells: {column: cell}} of a table, by the cells that are no numbers."""
    lines = [line.strip("| ").split(" | ") for line in path.read_text().splitlines() if line.startswith("| ")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def expected(loss, method=None, **spec):
    """(n, mean, std) of the accuracies on record."""
    runs = [run.spec for run in THERE if trains(run) and run.spec.loss == loss and run.method == (method or loss)]
    values = pandas.Series([accuracy_of(s) for s in runs if spec.items() <= s.values().items()], dtype=float)
    return len(values), values.mean(), values.std()


class TestTables:
    """Functions of the records and of nothing else."""

    def test_everything_that_outputs_names_is_made_and_nothing_beside(self, results):
        outputs = read_outputs("mle_llp")
        asked = {f"{name}.csv" for name in outputs.csv()} | {f"{name}.md" for name in outputs.text()}
        asked |= {f"{figure.name}.{kind}" for figure in outputs.figures for kind in ("svg", "png")}
        assert {path.name for path in results.iterdir()} == {*asked, NOTES, "runs"}
        assert all((results / name).stat().st_size for name in asked)

    def test_figure_3_is_the_mean_over_the_records_by_number_of_bags(self, results):
        table = read(results, "fig3")
        runs = [run for run in SMOKE if trains(run) and run.method == run.spec.loss and not one_size(run)]
        runs = [run for run in runs if run.spec.bags]
        assert set(zip(table.method, table.bags, strict=True)) == {(run.method, run.spec.bags) for run in runs}
        assert set(table.selection) == {"last", "bag-validation", "oracle"} and set(table.dataset) == {"digits"}
        for row in table[table.selection == "last"].itertuples():
            wanted = expected(row.method, bags=row.bags, smallest=2)
            assert (row.n_seeds, row.mean, row.std) == pytest.approx(wanted, abs=1e-4, nan_ok=True), row

    def test_where_there_is_no_record_it_says_so(self, results):
        cells = {row["method"]: row for row in markdown(results / "fig3.md")}
        most = max(run.spec.bags for run in THERE if run.method == "mle_llp")
        n, mean, std = expected("mle_llp", bags=most, smallest=2)
        assert cells["mle_llp"][f"m={most}"] == f"{mean:.2f} ± {std:.2f} ({n})"
        for method, said in (("llp_gan", {"NOT RUN"}), ("mle_direct", {"NOT RUN", "not planned"})):
            assert {cell for column, cell in cells[method].items() if column.startswith("m=")} == said

    @pytest.mark.parametrize("name", ["fig3", "size", "controls", "table1"])
    def test_what_stands_in_is_said_below_every_table_it_is_in(self, results, name):
        assert "Stand-ins: digits 3 and 8" in (results / f"{name}.md").read_text()

    def test_other_selections_are_in_the_csv_and_not_in_what_is_read_first(self, results):
        table = read(results, "fig3")
        assert set(table[(table.selection == "oracle") & (table.n_seeds > 0)]["mean"]) == {99.0}
        assert "99.00" not in (results / "fig3.md").read_text()

    def test_figure_1_goes_on_with_the_last_epoch_of_a_run_that_stopped(self, results):
        table = read(results, "fig1")
        runs = [run.spec for run in THERE if run.method == "mle_llp" and run.spec.pool == "all"]
        assert set(table.method) == {"supervised", "dllp", "mle_llp"} and set(table.n_seeds) == {2}
        own = table[table.method == "mle_llp"]
        last = expected("mle_llp", bags=0, pool="all")[1]
        assert own.epoch.tolist() == list(range(1, runs[0].epochs + 1))
        assert own["mean"].tolist() == pytest.approx([50.0] + [last] * (len(own) - 1))

    def test_bags_of_one_size_have_a_table_of_their_own(self, results):
        table = read(results, "size")
        runs = [(run.method, run.spec.largest) for run in SMOKE if one_size(run)]
        assert set(zip(table.method, table.bag_size, strict=True)) == set(runs)
        for row in table[table.selection == "last"].itertuples():
            wanted = expected(row.method, smallest=row.bag_size, largest=row.bag_size)
            assert (row.n_seeds, row.mean, row.std) == pytest.approx(wanted, abs=1e-4, nan_ok=True), row

    def test_controls_stand_beside_the_methods_they_are_to_be_held_against(self, results):
        table = read(results, "controls").set_index("method")
        assert {"mle_llp", "dllp", "mle_direct", "mle_llp-permuted"} <= set(table.index)
        bags = int(table.bags["mle_llp-permuted"])
        for method in ("mle_llp-permuted", "mle_llp", "dllp"):
            wanted = expected(method.split("-")[0], method, bags=bags, smallest=2)
            assert (table.n_seeds[method], table["mean"][method]) == pytest.approx(wanted[:2])
        assert table.n_seeds["mle_direct"] == 0

    def test_convergence_has_only_what_the_records_have(self, results):
        table = read(results, "convergence")
        stops = table[table.metric == "stop_epoch"]
        assert {*stops.method} == {"mle_llp", "mle_llp-permuted", "mle_llp-choose_rateTrue"}
        assert set(stops["mean"]) == {3.0}
        assert {"epochs_to_99", "unrest"} <= set(table[table.method == "dllp"].metric)
        assert set(table[table.metric == "unrest"]["mean"]) == {0.5} and table.n_seeds.min() > 0
        shown = {row["method"]: row for row in markdown(results / "convergence.md")}
        assert {row["bags"] for row in shown.values()} == {"all"} and shown["mle_llp"]["unrest"].startswith("0.50 ")

    def test_the_search_shows_what_it_chose_among(self, results):
        shown = {row["method"]: row for row in markdown(results / "rates.md")}
        row = shown["mle_llp-choose_rateTrue"]
        assert (row["learning_rate"], row["loss at 0.003"], row["loss at 0.03"]) == ("0.03", "-", "0.50000")
        assert row["at the end of its grid"] == "greatest"

    def test_a_tier_without_a_search_says_so(self, tmp_path):
        (table,) = tables.rates(gather("mle_llp", "quick", tmp_path)).numbers.to_dict("records")
        assert table == {"learning_rate": "no run of this tier searches for it"}

    def test_table_1_has_the_seconds_the_ratios_and_the_share_of_the_e_step(self, results):
        table = read(results, "table1").set_index("method")
        assert table.times_dllp.to_dict() == TIMES and set(table.dataset) == {"digits"}
        assert table.epoch_s.to_dict() == {method: 2 * seconds for method, seconds in TIMES.items()}
        (share,) = (column for column in table.columns if column.startswith("e_step"))
        assert table[share].dropna().to_dict() == {"mle_llp": 2.5}

    def test_the_e_step_has_a_row_a_size_and_no_enumeration_where_there_is_none(self, results):
        table = read(results, "e_step")
        assert table.bag_size.tolist() == list(SIZES)
        assert table.e_step_ms.gt(0).all() and table.enumerate_ms.notna().tolist() == [n <= 12 for n in SIZES]
        assert markdown(results / "equations.md") == [{"check": "posterior_error", "deviation": "3e-16"}]

    def test_the_metrics_of_dvc_are_those_of_figure_3(self, results):
        table = read(results, "fig3").query("selection == 'last' and n_seeds > 0 and bags == 30")
        found = json.loads((results.parent / "metrics/mle_llp.json").read_text())
        wanted = {f"{r.dataset}/{r.method}": r.mean for r in table.itertuples()}
        assert found == pytest.approx(wanted) and len(found) > 2
        points = pandas.read_csv(results.parent / "plots/mle_llp.csv")
        assert set(points.method) == {"dllp", "mle_llp", "supervised"} and points.y.notna().all()
        assert not points.duplicated(["method", "x"]).any()  # a line a method, in `dvc plots show`

    def test_figures_name_what_they_show_and_what_stands_in(self, results):
        for name in ("fig1", "fig3", "size"):
            text = (results / f"{name}.svg").read_text()
            assert "MLE-LLP" in text and "DLLP" in text and "digits 3, 8" in text, name
            assert ">LLP-GAN<" not in text and ">NOT RUN<" not in text, name
        said = " ".join(re.findall(r">([^<>]*\S[^<>]*)<", (results / "fig3.svg").read_text()))
        assert "NOT RUN: digits llp_gan 15" in said

    def test_a_dataset_without_a_record_has_no_panel_and_is_named(self, results, monkeypatch):
        """CIFAR is planned and has no record."""
        spec = next(run.spec for run in SMOKE if run.method == "mle_llp").but(dataset="cifar10", pool="all", bags=0)
        drawn = Drawn("mle_llp", "smoke", results)
        drawn.runs = [*SMOKE, Run("mle_llp/cifar10/mle_llp/m30/seed0", "mle_llp", spec, 1.0)]
        fig3 = read(results, "fig3")
        blank = fig3.assign(dataset="cifar10", n_seeds=0, mean=np.nan, std=np.nan)
        both = {"fig1": read(results, "fig1"), "fig3": pandas.concat([fig3, blank])}
        monkeypatch.setattr(Drawn, "__getitem__", lambda _, name: both[name])
        for figure in (figures.fig1(drawn), figures.fig3(drawn)):
            assert [axis.get_title() for axis in figure.axes] == ["digits 3, 8"]
            said = " ".join(figure.get_supxlabel().split())
            assert said == "NOT RUN and so not shown: CIFAR-10, bird against cat."
            figures.plt.close(figure)

    def test_the_cells_held_against_the_paper_are_those_it_reports(self, tmp_path):
        """Table 1 is the only table of numbers; a cell by another name would stay NOT RUN for ever."""
        runs = [run for run in plan("mle_llp", "paper") if run.spec.task == "durations"]
        for run in runs:
            store.write_record(tmp_path / "paper/mle_llp/runs", record(run, cost=EPOCHS))
        cells = tables.cells(gather("mle_llp", "paper", tmp_path).found)
        cells = cells[(cells.metric == "epoch_s") | ((cells.metric == "times_dllp") & (cells.row != "dllp"))]
        names = ["table", "row", "column", "metric", "selection"]
        with open(ROOT / "papers/mle_llp/reported.csv", newline="") as stream:
            reported = {tuple(row[name] for name in names) for row in csv.DictReader(stream)}
        assert set(cells[names].itertuples(index=False, name=None)) == reported
        assert len(cells) == 7 * len(runs) and set(cells["id"]) == {run.id for run in runs}
        assert {*names, "seed", "value", "id"} <= set(cells.columns)
        assert set(cells[cells.row == "llp_gan"].value) == {8.0, 4.0}

    def test_a_run_without_a_record_stands_for_every_cell_it_would_have(self, tmp_path):
        """So that the verdict on a cell can say why it is NOT RUN."""
        evidence = gather("mle_llp", "paper", tmp_path)
        runs = evidence.where(task="durations")
        cells = tables.cells(evidence.rows("epoch_s", runs, ["cost"]))
        assert set(cells.row) == set(TIMES) and len(cells) == 4 * len(runs)
        assert set(cells.table) == {"table1"} and cells.value.isna().all()

    def test_rows_that_lack_columns_or_are_none_make_no_cells(self, results):
        found = gather("mle_llp", "smoke", results.parents[1]).found
        for rows in (found[:0], found[found.method == "equations"].dropna(axis=1), found[["id", "metric"]][:0]):
            assert not len(cells := tables.cells(rows)) and {"table", "row", "column"} <= set(cells.columns)

    def test_a_table_is_a_pivot_of_its_cells(self, results):
        """The comparison judges `cells`; a table that read the records another way could say something else."""
        cells = tables.cells(gather("mle_llp", "smoke", results.parents[1]).found)
        shown = read(results, "table1").set_index("method")
        own = cells[cells.table == "table1"].groupby(["row", "metric"]).value.mean()
        assert len(own) == 2 * len(TIMES) + 1
        for (method, metric), value in own.items():
            assert shown[metric][method] == pytest.approx(value), (method, metric)

    def test_features_and_images_of_a_dataset_are_never_one_cell(self, tmp_path, monkeypatch):
        """The tier cpu trains on both: their mean would be of nothing, and their panel of Figure 1 nobody's."""
        runs = [run for run in plan("mle_llp", "cpu") if run.spec.task == "learning" and run.method == "dllp"]
        runs = [run for run in runs if run.spec.bags == 0 and not one_size(run) and run.spec.dataset == "cifar10"]
        for run in runs:
            store.write_record(tmp_path / "cpu/mle_llp/runs", record(run, epochs_to_99=2))
        table = tables.fig1(gather("mle_llp", "cpu", tmp_path)).numbers
        assert table.groupby("dataset").n_seeds.max().to_dict() == {"cifar10": 3, "cifar10-features": 10}
        monkeypatch.setattr(Drawn, "__getitem__", lambda *_: table)
        axes = figures.fig1(Drawn("mle_llp", "cpu", tmp_path)).axes
        titles = [" ".join(axis.get_title().split()) for axis in axes]
        assert titles == ["CIFAR-10, bird against cat", "CIFAR-10, bird against cat, frozen features"]

    def test_a_new_loss_is_in_the_tables_and_in_the_figures_without_a_second_edit(self, tmp_path, monkeypatch):
        name, old = "new_loss", [run for run in SMOKE if run.method == "dllp"]
        new = [
            replace(r, id=r.id.replace("dllp", name), method=name, spec=of_any_text(r.spec).but(loss=name)) for r in old
        ]
        for module in ("evidence", "draw"):
            monkeypatch.setattr(f"shared.tables.{module}.plan", lambda *_: [*SMOKE, *new])
        for run in [*old, *new]:
            store.write_record(tmp_path / "smoke/mle_llp/runs", record(run, epochs_to_99=2, unrest=0.5))
        folder = make_tables("mle_llp", "smoke", tmp_path)
        make_figures("mle_llp", "smoke", tmp_path)
        for table in ("fig1", "fig3", "size", "convergence"):
            assert name in set(read(folder, table).method), table
        assert name not in set(read(folder, "controls").method)
        for figure in ("fig1", "fig3", "size"):
            assert f">{name}<" in (folder / f"{figure}.svg").read_text(), figure


class TestNothingRun:
    """Before the first record: every table is there and says so, with the reason where one is known."""

    @pytest.fixture(scope="class")
    def empty(self, tmp_path_factory):
        root = tmp_path_factory.mktemp("nothing")
        gan = next(run.id for run in SMOKE if run.method == "llp_gan")
        runs = root / "smoke/mle_llp/runs"
        store.write_index(runs, [run.id for run in SMOKE], tried={gan: "the disk is full"})
        make_tables("mle_llp", "smoke", root)
        return root

    @pytest.mark.parametrize("name", ["fig3", "size", "controls", "equations", "table1", "e_step", "convergence"])
    def test_a_table_says_that_nothing_was_run(self, empty, name):
        rows = markdown(empty / f"smoke/mle_llp/{name}.md")
        assert rows and all("NOT RUN" in row.values() for row in rows)

    def test_the_reason_stands_below(self, empty):
        assert "NOT RUN: digits: the disk is full." in (empty / "smoke/mle_llp/fig3.md").read_text()

    def test_figures_are_drawn_all_the_same(self, empty):
        make_figures("mle_llp", "smoke", empty)
        assert "NOT RUN" in (empty / "smoke/mle_llp/fig3.svg").read_text()
