"""From records to the tables and figures of ECE: cells the paper reports, trivial predictors, NOT RUN."""

from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from papers.ece import tables
from papers.ece.names import method
from shared.comparison import reported
from shared.config import SpecError, plan
from shared.records import store
from shared.tables import draw, make
from shared.tables import evidence as evidences
from shared.tables.evidence import Evidence
from tests.conftest import of_any_text
from tests.reading import markdown

SMOKE = plan("ece", "smoke")
CODE = plan("ece", "paper")[1].spec  # ECE as the official code has it
MISSING = "ece/tissue_sim/segmentation/huber-logit/"
PAPER = {"sampling": False, "confidence": "foreground"}


def record(run):
    spec, seed = run.spec, run.spec.seed
    curves, oracle = {}, {}
    if spec.task == "check":
        last = {"identity_value": 1e-16}
    elif spec.task == "segmentation":
        last = {"dice": 0.5 + seed / 10, "dice_tuned": 0.6, "dice_batch": 0.4, "positive_share": 0.1}
        last |= {"dice_batches": 0.45, "dice_everything": 0.25, "dice_nothing": 0.0}
        oracle = {"dice": 0.7}
    else:
        last = dict.fromkeys(("f1", "f1_tuned", "precision", "recall", "found_share", "f1_half", "f1_double"), 0.5)
        last |= {"f1_iou": 0.3, "f1_everything": 0.1, "f1_nothing": 0.0, "recall_tuned": 0.8, "recall_others": 0.25}
        last |= {"exclusive_recall": 0.6, "kept": 1.0}
        last |= {"pseudo_labels": 0.0} if spec.loss == "weak" else {}
        oracle = {"f1": 0.55}
    if spec.task != "check" and spec.loss == "ece":
        curves = {"train_kept": [1.0, 0.9995] if spec.task == "detection" else [1.0, 0.6]}
    if "shown" in spec:
        found = [[0, 80], [90, 10]] if spec.task == "segmentation" else [[0.5, 0.5, 1.5, 2.0]]
        curves |= {"shown": {"image": [[[1, 2, 3], [4, 5, 6]]] * 2, "true": found, "found": found}}
    made = {"spec": spec.canonical(), "spec_hash": run.spec_hash, "cost": {"wall_s": 1.0, "train_s": 1.0}}
    made |= {"code": {"hash": "c", "commit": "abc"}, "environment": {"device": "cpu"}, "finished": "2026-01-01"}
    return {"id": run.id, "metrics": {"last": last, "oracle": oracle}, "curves": curves, **made}


def evidence_of(runs, records=None):
    return Evidence("ece", "smoke", Path("nowhere"), tuple(runs), records or {})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything of tier smoke but the segmentation by Huber loss."""
    root = tmp_path_factory.mktemp("results")
    runs = root / "smoke/ece/runs"
    for run in SMOKE:
        if not run.id.startswith(MISSING):
            store.write_record(runs, record(run))
    store.write_index(runs, [run.id for run in SMOKE])
    make.make_tables("ece", "smoke", root)
    draw.make_figures("ece", "smoke", root)
    return root / "smoke/ece"


def rows_of(path, measure):
    return {row["method"]: row for row in markdown(path) if row["measure"] == measure}


def test_each_measure_has_a_row_for_every_method_and_a_column_for_every_fraction(made):
    rows = rows_of(made / "segmentation.md", "DICE")
    assert rows["ece-code"]["30 %"] == rows["ce"]["100 %"] == "0.55 ± 0.07 (2)"
    assert rows["huber-logit"]["30 %"] == "NOT RUN" and rows["huber-logit"]["100 %"] == ""
    tuned = rows_of(made / "segmentation.md", "DICE, threshold chosen on validation")
    assert tuned["ce"]["30 %"] == "0.60 ± 0.00 (2)"


def test_thresholds_chosen_on_the_test_set_stand_under_the_word_oracle_alone(made):
    rows = rows_of(made / "segmentation.md", "DICE, best threshold on test (oracle)")
    assert rows["ce"]["30 %"] == "0.70 ± 0.00 (2)"
    assert "0.70" not in "".join(line for line in (made / "segmentation.md").open() if "oracle" not in line)


def test_trivial_predictors_stand_beside_the_methods(made):
    rows = rows_of(made / "segmentation.md", "DICE")
    assert rows["everything positive"]["30 %"] == "0.25 ± 0.00 (2)"
    assert rows["nothing positive"]["30 %"] == "0.00 ± 0.00 (2)"
    assert (
        rows_of(made / "detection.md", "F1 at a confidence of one half")["everything positive"]["100 %"]
        == "0.10 ± 0.00 (2)"
    )


def test_pseudo_labels_are_said_of_weak_supervision_alone(made):
    assert set(rows_of(made / "table1.md", "pseudo-labels per annotation")) == {"weak0.75"}


def test_rules_that_did_nothing_are_named_under_every_table_they_are_in(made):
    """A schedule that excluded nothing, and weak supervision that added nothing, are cross-entropy by another name."""
    excluded = "excluded less than a thousandth in every epoch of: tissue_sim detection ece-"
    for name in ("detection", "table1", "table2", "table3", "matching", "best"):
        assert excluded in (made / f"{name}.md").read_text(), name
    for name in ("detection", "table1", "matching"):
        said = "added no pseudo-label of: tissue_sim detection weak0.75 30 % (1 run)"
        assert said in (made / f"{name}.md").read_text(), name
    for name in ("segmentation", "splits"):
        assert "excluded less" not in (made / f"{name}.md").read_text(), name


def test_the_share_of_cells_in_which_a_loss_is_best():
    """Two fractions and two seeds of one set: seed by seed, against the best rival; a cell that lacks one is none."""
    spec = CODE.but(dataset="tnbc")
    dice = {"ce": [[0.1, 0.6], [0.2, 0.5]], "focal": [[0.3, 0.1], [0.1, 0.1]], "huber": [[0.0, 0.2], [0.1, 0.2]]}
    dice["ece"] = [[0.4, 0.5], [0.3, 0.6]]
    runs, records = [], {}
    for loss, seeds in dice.items():
        for seed, values in enumerate(seeds):
            for fraction, value in zip((0.1, 1.0, 0.5), [*values, 0.9], strict=True):
                if fraction == 0.5 and loss == "huber":
                    continue
                own = spec.but(loss=loss, seed=seed, fraction=fraction)
                run = replace(SMOKE[1], id=f"ece/x/{loss}{fraction}/seed{seed}", method=method(own), spec=own)
                runs.append(run)
                records[run.id] = {**record(run), "metrics": {"last": {"dice": value}}}
    found = tables.best(evidence_of(runs, records)).numbers
    assert found[["metric", "method", "dataset"]].to_numpy().tolist() == [["dice", "ece-code", "tnbc"]]
    assert found[["cells", "n_seeds", "mean"]].to_numpy().tolist() == [[2.0, 2, 0.75]]


def test_a_class_of_a_real_set_is_a_set_of_its_own():
    rows = pandas.DataFrame(
        {"dataset": ["crchisto", "crchisto", "tissue_sim"], "target": ["inflammatory", "", "target"]}
        | {"task": "detection", "metric": "f1", "selection": "last", "method": "ce", "seed": 0, "value": 0.5}
    )
    found = tables.cells(rows).query("table == 'detection'")
    assert found.dataset.tolist() == ["crchisto: inflammatory", "crchisto", "tissue_sim"]


def test_a_method_that_found_nothing_has_its_place_in_figure_3():
    panels = {"image": [[[1, 2, 3]]], "true": [[0, 0, 1, 1]]}
    spec = CODE.but(task="detection", loss="ce", seed=1, fraction=0.3)
    runs = [replace(SMOKE[1], id=f"ece/{m}", method=m, spec=spec.but(loss=m)) for m in ("ce", "constant")]
    records = {
        run.id: {"curves": {"shown": {**panels, "found": found}}}
        for run, found in zip(runs, ([], [[0, 0, 1, 2]]), strict=True)
    }
    table = tables.fig3(evidence_of(runs, records)).numbers
    assert table[table.panel == "found"].set_index("method")["values"].to_dict() == {"ce": "", "constant": "0 0 1 2"}
    assert (table.panel == "true").sum() == 1


def test_every_table_of_simulated_tissue_says_so(made):
    for name in ("table1", "table2", "table3", "segmentation", "detection", "matching"):
        assert "tissue_sim is simulated" in (made / f"{name}.md").read_text(), name


def test_cells_are_those_the_paper_reports():
    """A cell that is spelt differently would read NOT RUN for ever."""
    metrics = ("dice_batches", "f1_tuned", "exclusive_recall")
    rows = evidence_of(plan("ece", "gpu")).rows(metrics)
    names = ["table", "row", "column", "metric"]
    found = set(tables.cells(rows)[names].itertuples(index=False, name=None))
    asked = {(c.table, c.row, c.column, c.metric) for c in reported.read_reported(Path("papers/ece/reported.csv"))}
    assert asked <= found


def test_what_is_judged_are_the_rows_of_the_tables(made):
    """The mean of a cell's rows is what Table 1 shows under the same names."""
    rows = tables.cells(evidences.gather("ece", "smoke", made.parents[1]).found)
    judged = rows[
        (rows.table == "table1") & (rows.row == "ce") & (rows.metric == "f1_tuned") & (rows.selection == "last")
    ]
    shown = pandas.read_csv(made / "table1.csv").query("method == 'ce' and metric == 'f1_tuned' and fraction == 0.3")
    assert judged.column.unique().tolist() == ["f30"] and len(judged) == shown.n_seeds.item() == 2
    assert judged.value.mean() == shown["mean"].item()


def test_no_row_is_no_cell():
    nothing = pandas.DataFrame(columns=["id", "method", "seed", "selection", "metric", "value", "status", "why"])
    assert tables.cells(nothing).empty
    of_checks = evidences.Evidence("ece", "smoke", Path("nowhere"), tuple(SMOKE[:1]), {SMOKE[0].id: record(SMOKE[0])})
    assert len(of_checks.found) and tables.cells(of_checks.found).empty


def test_real_tnbc_takes_the_place_of_simulated_tissue():
    rows = pandas.DataFrame(
        {
            "dataset": name,
            "task": "segmentation",
            "method": "ce",
            "metric": "dice_batches",
            "selection": "last",
            "seed": 0,
        }
        | {"value": value, "id": name, "fraction": 0.3, "target": ""}
        for name, value in (("tissue_sim", 0.2), ("tnbc", 0.1))
    )
    assert tables.cells(rows).query("table == 'readme'").value.tolist() == [0.1]
    missing = rows.assign(value=[0.2, float("nan")])
    assert tables.cells(missing).query("table == 'readme'").value.tolist() == [0.2]


def test_a_new_loss_has_its_rows_and_its_lines(tmp_path, monkeypatch):
    """Nothing names the losses to be shown: one that is put into the grid is in its tables and figures."""
    new = [
        replace(run, id=run.id.replace("/ce/", "/novel/"), method="novel", spec=of_any_text(run.spec).but(loss="novel"))
        for run in SMOKE
        if run.method == "ce"
    ]
    for module in (evidences, draw):
        monkeypatch.setattr(module, "plan", lambda *_: [*SMOKE, *new])
    for run in (*SMOKE, *new):
        store.write_record(tmp_path / "smoke/ece/runs", record(run))
    make.make_tables("ece", "smoke", tmp_path)
    draw.make_figures("ece", "smoke", tmp_path)
    folder = tmp_path / "smoke/ece"
    for name in ("segmentation", "detection", "table1", "table3", "matching"):
        assert "novel" in set(pandas.read_csv(folder / f"{name}.csv").method), name
        assert "| novel |" in (folder / f"{name}.md").read_text(), name
    for name in ("fig4", "fig5"):
        assert ">novel<" in (folder / f"{name}.svg").read_text(), name


def test_figures_are_drawn_with_and_without_records(made, tmp_path):
    for name in ("fig3", "fig4", "fig5"):
        assert (made / f"{name}.svg").stat().st_size > 1000
    (tmp_path / "smoke/ece/runs").mkdir(parents=True)
    make.make_tables("ece", "smoke", tmp_path)
    draw.make_figures("ece", "smoke", tmp_path)
    for name in ("fig3", "fig4", "fig5"):
        assert "NOT RUN" in (tmp_path / f"smoke/ece/{name}.svg").read_text(), name


def test_a_spec_holds_what_its_run_reads_and_nothing_else():
    """What it does not read must not make its records outdated."""
    by_method = {(run.spec.task, run.method): set(run.spec.canonical()) for run in SMOKE}
    assert "alpha" in by_method["segmentation", "ece-code"] and "alpha" not in by_method["segmentation", "ce"]
    assert "alpha" not in CODE.but(focal=False)
    assert "subset" not in by_method["segmentation", "ce"] and "subset" in CODE.but(subset="mine.csv").canonical()
    assert "match_radius" in by_method["detection", "ce"] and "match_radius" not in by_method["segmentation", "ce"]
    assert "likeness" in by_method["segmentation", "ce"] and "scale" not in by_method["segmentation", "ce"]
    assert by_method["check", "equations"] == {"task", "seed"}
    shown = [run for run in SMOKE if "shown" in run.spec]
    assert {(run.spec.seed, run.spec.fraction) for run in shown} == {(1, 0.3)}
    assert {run.spec.loss for run in shown} == {"ce", "ece", "constant"}


@pytest.mark.parametrize(
    ("switches", "name"),
    [
        ({}, "ece-code"),
        ({"sampling": False}, "ece-code-no_sampling"),
        ({"confidence": "foreground"}, "ece-code-foreground"),
        ({**PAPER, "schedule": "sigmoid"}, "ece-sigmoid"),
        ({**PAPER, "schedule": "sigmoid", "focal": False}, "ece-sigmoid-no_focal"),
        ({**PAPER, "schedule": "fixed", "rho": 0.75}, "ece-fixed0.75"),
        ({"loss": "weak", "tau": 0.5}, "weak0.5"),
        ({"loss": "ce", "head": "logit"}, "ce-logit"),
        ({"loss": "ce", "task": "detection"}, "ce"),
    ],
)
def test_names_tell_the_variants_of_the_loss_apart(switches, name):
    assert method(CODE.but(**switches)) == name


def test_the_splits_follow_the_seeds():
    rows = tables.cells(evidence_of(plan("ece", "cpu")).rows("dice", selections=["last"]))
    by_seed = rows[(rows.table == "splits") & (rows.method == "ce")].groupby("seed").split.unique()
    assert {seed: split.tolist() for seed, split in by_seed.items()} == {seed: [seed] for seed in range(5)}


def test_a_task_that_is_none_is_refused():
    with pytest.raises(SpecError, match="task cannot be 'counting'; known are check, detection, segmentation"):
        CODE.but(task="counting")
