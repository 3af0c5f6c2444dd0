"""From records to the benchmark's tables: differences from KL within seeds, and what each table counts as its runs."""

import json

import pytest

from papers.benchmark import figures
from shared.config import plan
from shared.records import store
from shared.tables.draw import Drawn
from shared.tables.make import make_tables
from tests.reading import markdown

DIGITS = [run for run in plan("benchmark", "quick") if run.spec.dataset == "digits" and run.spec.proportions == "given"]
LESS = {"dllp": 0.0, "rot": -3.0}


def record(run):
    """Seeds far apart, methods close: only differences within a seed have a small spread."""
    accuracy = 50.0 + 10 * (run.spec.seed % 4) + LESS[run.method]
    asked = {"id": run.id, "method": run.method, "spec": run.spec.canonical(), "spec_hash": run.spec_hash}
    origin = {"code": {"hash": "c", "commit": "abc"}, "environment": {"device": "cpu"}, "finished": "2026-01-01"}
    course = {"convergence": {"last accuracy": {"gain": 0.0, "error": 0.1, "epochs": 4}}}
    found = {"metrics": {"last": {"accuracy": accuracy}}, "curves": {}, "cost": {"wall_s": 1.0, "step_ms": 1.0}}
    return {**asked, **found, **origin, **course}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """KL but for a seed, and ROT."""
    root = tmp_path_factory.mktemp("results")
    for run in (run for run in DIGITS if run.method in LESS and (run.method, run.spec.seed) != ("dllp", 1)):
        store.write_record(root / "quick/benchmark/runs", record(run))
    return make_tables("benchmark", "quick", root)


def test_accuracy_beside_kl_is_paired_by_seed_and_ordered_by_task_kind_and_size(made):
    lines = {line["method"]: line for line in markdown(made / "beside_kl.md")}
    assert [name for name in lines["rot"] if "digits" in name] == [
        *("digits n=4", "digits n=16", "digits n=64"),
        *("digits c=0.1", "digits c=1"),
    ]
    assert lines["rot"]["digits n=64"] == "-3.00 ± 0.00 (2)"  # of three seeds one has no record of KL
    assert lines["dllp"]["digits n=64"] == "60.00 ± 14.14 (2)"  # seeds 0 and 2
    assert lines["mse"]["digits n=64"] == "NOT RUN"


def test_a_table_counts_the_runs_it_shows(made):
    """Under the table of random bags of 16 stood how many runs of all kinds of bags still moved."""
    notes = json.loads((made / "notes.json").read_text())
    recorded = [run for run in DIGITS if run.method in LESS and (run.method, run.spec.seed) != ("dllp", 1)]
    shown = sum("/random16/" in run.id for run in recorded)
    assert f"0 of {shown} runs still moved" in notes["accuracy"]
    assert f"0 of {len(recorded) - shown} runs still moved" in notes["settings"]


def test_the_figure_has_a_number_for_each_pair_that_was_run(made):
    figure = figures.by_size(Drawn("benchmark", "quick", made))
    (axis,) = figure.axes
    said = [text.get_text() for text in axis.texts]
    assert said.count("\u22123") == 5 and [label.get_text() for label in axis.get_yticklabels()] == ["KL (DLLP)", "ROT"]
