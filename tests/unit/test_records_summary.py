"""Tables from records: a run that is not there is said to be not there; text that is not ours is not obeyed."""

import math

import pandas
import pytest

from shared.records import Run, page, record_path, store, summary

RUNS = [
    Run(f"toy/moons/{method}/seed{seed}", {"dataset": "moons", "method": method, "seed": seed, "stand_in": ""}, 1.0)
    for method in ("rot", "kl")
    for seed in (0, 1)
]


def done(folder, run, accuracy, spec=None):
    record = {
        "id": run.id,
        "spec": spec or run.spec,
        "code": {"hash": "c", "commit": "abc"},
        "metrics": {rule: {"accuracy": accuracy, "epoch": 1} for rule in summary.SELECTIONS},
        "environment": {"device": "cpu"},
        "finished": "2026-01-01T00:00:00+00:00",
    }
    store.write_record(folder, record)


@pytest.fixture
def folder(tmp_path):
    """Two done, one failed, one never run."""
    done(tmp_path, RUNS[3], 50.0)
    done(tmp_path, RUNS[0], 70.0)
    store.write_text(record_path(tmp_path, RUNS[1].id).with_suffix(".log"), "Traceback\n")
    store.write_index(tmp_path, [run.id for run in RUNS])
    return tmp_path


def test_every_planned_run_has_rows_in_the_order_of_the_plan(folder):
    rows = summary.planned_rows(RUNS, folder)
    assert rows["id"].drop_duplicates().tolist() == [run.id for run in RUNS]
    assert rows.groupby("id").size().eq(3).all() and set(rows.metric) == {"accuracy"}
    statuses = rows.drop_duplicates("id").set_index("id").status
    assert statuses.tolist() == ["done", summary.FAILED, summary.NOT_RUN, "done"]


def test_a_run_without_a_record_has_no_value_under_any_selection(folder):
    rows = summary.planned_rows(RUNS, folder)
    empty = rows[rows.status != "done"]
    assert empty.value.isna().all() and set(empty.selection) == set(summary.SELECTIONS)
    assert (empty.dataset == "moons").all() and set(empty.method) == {"rot", "kl"}


def test_an_empty_folder_is_a_table_of_runs_to_do(tmp_path):
    rows = summary.planned_rows(RUNS, tmp_path)
    assert len(rows) == 3 * len(RUNS) and (rows.status == summary.NOT_RUN).all()


def test_a_record_the_plan_no_longer_asks_for_is_left_out(folder):
    assert set(summary.planned_rows(RUNS[1:], folder)["id"]) == {run.id for run in RUNS[1:]}


def test_a_run_whose_record_has_other_metrics_is_not_called_not_run(folder):
    rows = summary.planned_rows(RUNS[:1], folder, metric="residual")
    assert summary.NOT_RUN not in set(rows.get("status", []))


def test_means_are_over_the_seeds_that_ran_and_in_order_of_appearance(folder):
    done(folder, RUNS[2], 53.0)
    store.write_index(folder, [run.id for run in RUNS])
    rows = summary.planned_rows(RUNS, folder)
    table = summary.over_seeds(rows[rows.selection == "last"], ["method"])
    assert table.method.tolist() == ["rot", "kl"] and table.n_seeds.tolist() == [1, 2]
    assert table["mean"].tolist() == [70.0, 51.5]
    assert math.isnan(table["std"][0]) and table["std"][1] == pytest.approx(3 / math.sqrt(2), abs=1e-4)


def test_a_group_without_any_record_stays_in_the_table(tmp_path):
    table = summary.over_seeds(summary.planned_rows(RUNS, tmp_path), ["method"])
    assert table.n_seeds.tolist() == [0, 0] and table["mean"].isna().all()


def test_a_cell_says_its_spread_and_seeds_or_why_it_is_empty():
    nan = float("nan")
    assert summary.entry(3, 64.801, 0.414) == "64.80 ± 0.41 (3)"
    assert summary.entry(1, 64.801, nan) == "64.80 (1)"
    assert summary.entry(0, nan, nan) == "NOT RUN" and summary.entry(0, nan, nan, summary.FAILED) == "FAILED"


def test_stand_ins_are_named_once_each():
    rows = pandas.DataFrame(
        {
            "stand_in": ["a stands in for b", "", None, "a stands in for b"],
            "simulated": [False, True, False, False],
            "dataset": ["digits", "simulated_images", "cifar10", "digits"],
        }
    )
    assert summary.stand_ins(rows) == "Stand-ins: a stands in for b; simulated_images is simulated."
    assert summary.stand_ins(rows[2:3]) == ""


def test_no_rows_and_no_columns_need_no_stand_in():
    assert summary.stand_ins(pandas.DataFrame({"dataset": ["cifar10"]})) == ""


def test_a_run_that_could_not_be_made_says_why(folder):
    reasons = {RUNS[1].id: "it failed since", RUNS[2].id: "moons is not prepared; fetch it."}
    text = "id,status,sha256,why\n" + "".join(f"{run_id},missing,,{why}\n" for run_id, why in reasons.items())
    (folder / store.INDEX).write_text(text + "".join(f"{run.id},done,,\n" for run in (RUNS[0], RUNS[3])))
    rows = summary.planned_rows(RUNS, folder)
    assert rows.drop_duplicates("id").why.tolist() == ["", "", "moons is not prepared; fetch it.", ""]
    assert summary.not_run(rows) == "NOT RUN: moons is not prepared; fetch it."


def test_each_reason_is_said_once_with_its_dataset():
    why = ["a is not here.", "", "no host", "a is not here."]
    rows = pandas.DataFrame({"dataset": ["a", "a", "b", "a"], "why": why})
    assert summary.not_run(rows) == "NOT RUN: a is not here; b: no host."
    assert summary.not_run(rows[1:2]) == summary.not_run(rows[["dataset"]]) == summary.not_run(rows[:0]) == ""


def test_tables_are_written_with_title_and_notes(tmp_path):
    frame = pandas.DataFrame({"method": ["kl"], "mean": [51.5]})
    summary.write_csv(frame, tmp_path / "a" / "t.csv")
    summary.write_markdown(frame, tmp_path / "a" / "t.md", "Table 1", ["A note.", ""])
    assert (tmp_path / "a" / "t.csv").read_text() == "method,mean\nkl,51.5\n"
    text = "# Table 1\n\n| method | mean |\n|---|---|\n| kl | 51.5 |\n\nA note.\n"
    assert (tmp_path / "a" / "t.md").read_text() == text
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["t.csv", "t.md"]


def test_a_page_is_one_file_with_its_tables_and_shows_html_instead_of_obeying_it():
    text = "# T\n\n| a | b |\n|---|---|\n| <script>alert(1)</script> | 2 |\n\n<img src=x onerror=y>\n"
    html = page.page([text, "second *text*"], "title")
    assert html.startswith("<!doctype html>") and html.count("<table>") == 1 and "<em>text</em>" in html
    assert "<script" not in html and "<img" not in html and "&lt;script&gt;" in html
    assert "http" not in html


def test_the_title_of_a_page_is_not_obeyed_either():
    assert "<b>" not in page.page([""], "results & <b>more</b>")


def test_the_command_line_writes_a_page(tmp_path, monkeypatch):
    (tmp_path / "a.md").write_text("# One\n")
    monkeypatch.setattr("sys.argv", ["page", str(tmp_path / "out" / "p.html"), str(tmp_path / "a.md")])
    page.main()
    html = (tmp_path / "out" / "p.html").read_text()
    assert "<title>out: p</title>" in html and "<h1>One</h1>" in html
