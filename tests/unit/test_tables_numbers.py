"""Tables from records: a run that is not there is said to be not there; text that is not ours is not obeyed."""

import errno
import math

import pandas
import pytest

from shared import files
from shared.config import ConfigError
from shared.files import write_text
from shared.records import record_path, store
from shared.tables import draw, make, numbers
from shared.tables.evidence import DONE, FAILED, NOT_RUN, SELECTIONS, gather

REASON = "moons is not prepared; fetch it."


def done(house, run, accuracy, **more):
    record = {
        "id": run.id,
        "spec": run.spec.canonical(),
        "spec_hash": run.spec_hash,
        "code": {"hash": "c", "commit": "abc"},
        "metrics": {rule: {"accuracy": accuracy, "epoch": 1} for rule in SELECTIONS},
        "cost": {"wall_s": 3.0, "train_s": 2.5},
        "environment": {"device": "cpu"},
        "finished": "2026-01-01T00:00:00+00:00",
        **more,
    }
    store.write_record(house.runs, record)
    record_path(house.runs, run.id).with_suffix(".log").unlink(missing_ok=True)


class House:
    """A toy paper of four runs: kl and rot, two seeds each; `evidence` is gathered anew."""

    def __init__(self, toy_paper):
        self.root, self.plan = toy_paper.root, toy_paper.plan()
        self.results = toy_paper.root / "results"
        self.runs = self.results / "tiny" / "toy" / "runs"

    def evidence(self):
        return gather("toy", "tiny", self.results, self.root)


@pytest.fixture
def house(toy_paper):
    """Two done (in the order of the plan the first and the last), one failed, one never run."""
    found = House(toy_paper)
    done(found, found.plan[3], 50.0)
    done(found, found.plan[0], 70.0)
    write_text(record_path(found.runs, found.plan[1].id).with_suffix(".log"), "Traceback\n")
    store.write_index(found.runs, [run.id for run in found.plan], tried={found.plan[2].id: REASON})
    return found


def test_a_record_changed_by_hand_is_left_out_while_snakemake_has_the_index_made_anew(house, capsys):
    """After a kill during training there is no index but the kept one, and tables made by hand took any number."""
    kept = house.root / store.CHECKPOINTS / "tiny" / "toy" / store.INDEX
    kept.parent.mkdir(parents=True)
    (house.runs / store.INDEX).rename(kept)
    path = record_path(house.runs, house.plan[0].id)
    path.write_text(path.read_text().replace("70.0", "99.0"))
    evidence = house.evidence()
    assert list(evidence.records) == [house.plan[3].id] and "changed by hand" in capsys.readouterr().err
    assert evidence.about[house.plan[2].id]["why"] == REASON


def test_every_planned_run_has_rows_in_the_order_of_the_plan(house):
    rows = house.evidence().rows()
    assert rows["id"].drop_duplicates().tolist() == [run.id for run in house.plan]
    assert rows.groupby("id").size().eq(3).all() and set(rows.metric) == {"accuracy"}
    assert rows.drop_duplicates("id").status.tolist() == [DONE, FAILED, NOT_RUN, DONE]


def test_a_run_without_a_record_has_no_value_under_any_selection(house):
    rows = house.evidence().rows()
    empty = rows[rows.status != DONE]
    assert empty.value.isna().all() and set(empty.selection) == set(SELECTIONS)
    assert (empty.dataset == "moons").all() and set(empty.method) == {"kl", "rot"}


def test_an_empty_folder_is_a_table_of_runs_to_do(toy_paper):
    house = House(toy_paper)
    rows = house.evidence().rows()
    assert len(rows) == 3 * len(house.plan) and (rows.status == NOT_RUN).all()


def test_a_record_that_the_plan_does_not_ask_for_is_left_out(house, toy_paper):
    """Also one of the same id whose spec is another one by now."""
    toy_paper.plan({"loss": ["kl"], "seed": [0, 1]})
    assert set(house.evidence().records) == {house.plan[0].id}
    toy_paper.plan({"loss": ["kl"], "seed": [0, 1]}, rate=0.2)
    assert house.evidence().records == {}


def test_a_record_of_an_older_schema_is_none(house):
    path = record_path(house.runs, house.plan[0].id)
    path.write_text(path.read_text().replace(f'"schema": {store.SCHEMA}', '"schema": 1'))
    assert set(house.evidence().records) == {house.plan[3].id}


def test_durations_are_rows_of_the_selection_cost(house):
    rows = house.evidence().rows("train_s", selections=["cost"])
    assert rows.value.tolist()[::3] == [2.5, 2.5] and len(rows) == 4


def test_a_row_has_the_plans_values_also_those_the_record_lacks(house, toy_paper):
    """A neutral value that was added since is in the rows of older records."""
    text = (toy_paper.folder / "config.yaml").read_text()
    knob = "    knob: {value: 0, neutral: 0, source: 'assumed: as before'}\n    loss:"
    (toy_paper.folder / "config.yaml").write_text(text.replace("    loss:", knob, 1))
    rows = house.evidence().rows()
    assert len(house.evidence().records) == 2 and (rows.knob == 0).all()


def test_means_are_over_the_seeds_that_ran_and_in_order_of_appearance(house):
    done(house, house.plan[1], 53.0)
    rows = house.evidence().rows()
    methods = [run.method for run in house.plan]
    table = numbers.over_seeds(rows[rows.selection == "last"], ["method"])
    assert table.method.tolist() == list(dict.fromkeys(methods))
    assert sorted(table.n_seeds) == [1, 2]
    by = table.set_index("method")
    values = {run.method: [] for run in house.plan}
    for run, value in ((house.plan[0], 70.0), (house.plan[1], 53.0), (house.plan[3], 50.0)):
        values[run.method].append(value)
    for method, own in values.items():
        assert by["mean"][method] == pytest.approx(sum(own) / len(own), abs=1e-4)
        spread = by["std"][method]
        assert (
            math.isnan(spread)
            if len(own) == 1
            else spread == pytest.approx(abs(own[0] - own[1]) / math.sqrt(2), abs=1e-4)
        )


def test_a_group_without_any_record_stays_in_the_table(toy_paper):
    table = numbers.over_seeds(House(toy_paper).evidence().rows(), ["method"])
    assert table.n_seeds.tolist() == [0, 0] and table["mean"].isna().all()


def test_a_cell_says_its_spread_and_seeds_or_why_it_is_empty():
    nan = float("nan")
    assert numbers.entry(3, 64.801, 0.414) == "64.80 ± 0.41 (3)"
    assert numbers.entry(1, 64.801, nan) == "64.80 (1)"
    assert numbers.entry(0, nan, nan) == "NOT RUN" and numbers.entry(0, nan, nan, FAILED) == "FAILED"


def test_stand_ins_and_simulated_data_are_named_once_each(toy_paper):
    toy_paper.write(
        ("    experiments:\n", "    stand_in: a stands in for b; c for d\n    experiments:\n"),
        ("value: moons", "value: tissue_sim"),
    )
    evidence = House(toy_paper).evidence()
    said = "Stand-ins: a stands in for b; c for d; tissue_sim is simulated."
    assert numbers.stand_ins(evidence.runs, evidence) == said
    assert numbers.stand_ins([], evidence) == ""


def test_a_protocol_that_differs_is_named_beside_stand_ins(toy_paper):
    """What is a part of a longer text is not said once more: other runs may differ in less."""
    differs = "crops, 2 of 9 epochs; 2 of 9 epochs"
    toy_paper.write(("    experiments:\n", f"    stand_in: a for b\n    differs: {differs}\n    experiments:\n"))
    evidence = House(toy_paper).evidence()
    said = "Stand-ins: a for b. Other than in the paper: crops, 2 of 9 epochs."
    assert numbers.stand_ins(evidence.runs, evidence) == said


def course(gain, error=0.1):
    return {"cluster": "split 1", "convergence": {"first accuracy": {"gain": gain, "error": error, "epochs": 2}}}


def test_what_runs_still_gained_is_a_row_and_their_cluster_a_column(house):
    done(house, house.plan[1], 60.0, **course(2.5))
    found = house.evidence().found
    row = found[found.selection == "convergence"].squeeze()
    assert (row["metric"], row.value, row.gain_error, row.gain_epochs) == ("first accuracy", 2.5, 0.1, 2)
    assert (row.id, row.cluster) == (house.plan[1].id, "split 1")
    assert found.cluster[found.id == house.plan[0].id].eq("").all()
    assert "convergence" not in set(house.evidence().rows().selection)


@pytest.mark.parametrize(
    ("gain", "error", "accuracy", "moves"),
    [(2.5, 0.1, 60.0, 1), (-2.5, None, 60.0, 1), (2.5, 2.0, 60.0, 0), (0.9, 0.1, 60.0, 0), (0.02, 0.001, 0.6, 0)],
)
def test_runs_that_still_moved_where_training_ended_are_counted(house, gain, error, accuracy, moves):
    """By more than a point, and by more than noise, also where no run is right in more than one of a hundred."""
    assert numbers.moved(house.evidence()) == ""
    for run in house.plan:
        done(house, run, accuracy)
    done(house, house.plan[1], accuracy, **course(gain, error))
    said = numbers.moved(house.evidence())
    assert said.startswith(f"{moves} of 1 runs still moved by more than a point")
    assert said.endswith(f"{house.plan[1].id}, {gain:+.2g} of first accuracy") == bool(moves)
    assert numbers.moved(house.evidence(), house.plan[:1]) == ""


def test_a_hundredth_is_a_point_of_what_is_measured_from_0_to_1(house):
    dice = {"metrics": {"last": {"dice": 0.6}}, "convergence": {"dice": {"gain": 0.02, "error": 0.001, "epochs": 2}}}
    done(house, house.plan[1], 0.0, **dice)
    assert numbers.moved(house.evidence()).startswith("1 of 1 runs still moved")


def test_a_curve_that_has_not_a_value_for_each_epoch_is_named(house):
    """Its last values stood at the first epochs."""
    curves = {"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "none": []}
    run = house.plan[1]
    done(house, run, 60.0, curves=curves)
    table = numbers.curves(house.evidence(), [run], ["method"], {name: name for name in ("loss", "none", "other")})
    assert set(table.curve) == {"loss"} and table["mean"].tolist() == [3.0, 2.0, 1.0]
    done(house, run, 60.0, curves={**curves, "loss": [2.0, 1.0]})
    with pytest.raises(ConfigError, match=rf"{run.id} has 2 values of loss for 3 epochs; delete it"):
        numbers.curves(house.evidence(), [run], ["method"], {"loss": "loss"})


def test_a_run_that_could_not_be_made_says_why(house):
    evidence = house.evidence()
    assert [row["why"] for row in evidence.about.values()] == ["", "", REASON, ""]
    assert numbers.reasons(evidence.runs, evidence) == "NOT RUN: moons is not prepared; fetch it."
    assert numbers.reasons(evidence.runs[:2], evidence) == ""


def test_cells_without_a_number_are_named():
    table = pandas.DataFrame(
        {"method": ["kl", "rot"], "bag_size": [4, 4], "n_seeds": [0, 2], "mean": [None, 1], "std": [None, 0]}
    )
    assert numbers.empty_cells(table) == "NOT RUN: kl 4."
    assert numbers.empty_cells(table[1:]) == numbers.empty_cells(table[["method"]]) == ""


def test_tables_are_written_with_title_and_notes(tmp_path):
    frame = pandas.DataFrame({"method": ["kl"], "mean": [51.5]})
    numbers.write_csv(frame, tmp_path / "a" / "t.csv")
    numbers.write_markdown(frame, tmp_path / "a" / "t.md", "Table 1", ["A note.", ""])
    assert (tmp_path / "a" / "t.csv").read_text() == "method,mean\nkl,51.5\n"
    text = "# Table 1\n\n| method | mean |\n|---|---|\n| kl | 51.5 |\n\nA note.\n"
    assert (tmp_path / "a" / "t.md").read_text() == text
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["t.csv", "t.md"]


def test_a_record_changed_by_hand_is_named_below_tables_and_left_out(house, capsys):
    path = record_path(house.runs, house.plan[0].id)
    path.write_text(path.read_text().replace("70.0", "99.0"))
    evidence = house.evidence()
    assert list(evidence.records) == [house.plan[3].id] and evidence.rows().value.max() == 50.0
    assert f"{path}: record changed by hand" in capsys.readouterr().err
    assert "record changed by hand" in numbers.reasons(house.plan, evidence)


def test_a_figure_draws_no_record_that_was_changed_by_hand(house):
    drawn = draw.Drawn("toy", "tiny", house.runs.parent)
    assert drawn.record(house.plan[0].id)["metrics"] and drawn.record(house.plan[1].id) is None
    path = record_path(house.runs, house.plan[0].id)
    path.write_text(path.read_text().replace("70.0", "99.0"))
    assert drawn.record(house.plan[0].id) is None


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b'a,b\n"1'])
def test_a_table_that_cannot_be_read_is_named_by_what_draws_it(tmp_path, content):
    if content is not None:
        (tmp_path / "fig1.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=r"fig1\.csv"):
        draw.Drawn("toy", "tiny", tmp_path)["fig1"]


def test_tables_for_which_there_is_no_room_are_one_sentence(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def make_tables(paper, tier, results):
        return numbers.write_csv(pandas.DataFrame({"a": [1]}), results / tier / paper / "a.csv")

    monkeypatch.setattr(files.os, "replace", full)
    assert make.main("rot", make_tables, ["--tier", "smoke", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/smoke/rot/a.csv: No space left on device; make room and call again\n"
    assert [path.name for path in tmp_path.rglob("*")] == ["smoke", "rot"]


@pytest.mark.parametrize("content", ["[1]", "{}", '{"curves": 3}', "[" * 100_000, "{"], ids=lambda text: text[:9])
def test_notes_that_are_damaged_are_named(tmp_path, content):
    """They are what tables leave for figures: a list, or one without a table, gave a traceback."""
    write_text(tmp_path / "smoke/rot/notes.json", content)
    with pytest.raises(ConfigError, match=r"smoke/rot/notes\.json (is damaged|has no text).*; make the tables of this"):
        draw.make_figures("rot", "smoke", tmp_path)
