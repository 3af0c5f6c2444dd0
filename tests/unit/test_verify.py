"""Verification: a rerun that is not the same says where and by how much, and nothing of an earlier sweep is taken."""

import copy
import json
import re
from typing import ClassVar

import pytest

from shared.config import ConfigError, Run, Tier
from shared.config.spec import Section, Sections, Spec
from shared.records import store
from shared.runs import sweep, verified, verify
from shared.runs.workers import Event
from shared.training import checkpoint
from tests.conftest import APool, a_run, write_record

RECORD = {
    "spec": {"rate": 0.1, "loss": "kl"},
    "spec_hash": "s",
    "bags": {"train": "b"},
    "data": {"digits": "d"},
    "metrics": {"last": {"accuracy": 45.5, "words": None}},
    "curves": {"epoch": [1, 2, 3], "loss": [0.5, 0.25, 0.125]},
    "cost": {"wall_s": 2.0},
    "code": {"hash": "now", "commit": "0123456789"},
    "environment": {"torch": "2.12", "device": "cpu"},
    "finished": "2026-01-01T00:00:00+00:00",
}


def changed(at, value, record=RECORD):
    """A copy of a record with the value at a path like ("metrics", "last", "accuracy") replaced."""
    record = copy.deepcopy(record)
    part = record
    for key in at[:-1]:
        part = part[key]
    part[at[-1]] = value
    return record


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (("spec", "rate"), 0.2, "1 values; spec.rate: 0.1 recorded, 0.2 now (by 0.1)"),
        (("spec_hash",), "t", "1 values; spec_hash: 's' recorded, 't' now"),
        (("bags", "train"), "c", "1 values; bags.train: 'b' recorded, 'c' now"),
        (("data",), {}, "1 values; data.digits: 'd' recorded, (absent) now"),
        (("metrics", "last", "accuracy"), 45.25, "1 values; metrics.last.accuracy: 45.5 recorded, 45.25 now (by 0.25)"),
        (("metrics", "last", "words"), 1.0, "1 values; metrics.last.words: None recorded, 1.0 now"),
        (("metrics", "best"), {"a": 1}, "1 values; metrics.best: (absent) recorded, {'a': 1} now"),
        (("curves", "loss"), [0.5, 0.5, 0.25], "2 values; curves.loss[1]: 0.25 recorded, 0.5 now (by 0.25)"),
        (("curves", "epoch"), [1, 2], "1 values; curves.epoch[2]: 3 recorded, (absent) now"),
        (
            ("curves",),
            {"epoch": "none", "loss": [0.5, 0.25, 0.0]},
            "2 values; curves.loss[2]: 0.125 recorded, 0.0 now (by 0.125); "
            "curves.epoch: [1, 2, 3] recorded, 'none' now",
        ),
    ],
)
def test_a_difference_says_where_and_by_how_much(at, value, said):
    assert verify.worst(verify.differing(RECORD, changed(at, value))) == said


@pytest.mark.parametrize("part", ["cost", "code", "environment", "finished"])
def test_durations_environment_and_provenance_are_apart(part):
    assert verify.differing(RECORD, changed((part,), {"other": 1})) == []


def test_the_smallest_difference_is_one():
    assert verify.differing(RECORD, changed(("metrics", "last", "accuracy"), 45.5 + 2**-46))


class ToyPool(APool):
    """Workers that train in no time: what a run comes to is its `loss`."""

    given: ClassVar[list] = []

    def __init__(self, homes, hand, deadline):
        ((paper, home),) = homes.items()
        super().__init__(hand.at_once)
        self.hand, self.folder = hand, home.folder
        ToyPool.given.append((paper, home.code, home.folder, home.work, deadline))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def wait(self):
        run = self.going.pop(0)
        if run.spec.loss == "lacks":
            return [Event("progress", run.id, "0.5"), Event("not run", run.id, "no photos")]
        if run.spec.loss == "raises":
            return [Event("failed", run.id, "x.log", 1.0)]
        if run.spec.loss == "stopped":
            raise KeyboardInterrupt
        now = trained(run)
        if run.spec.loss == "moved":
            now["metrics"] = {"last": {"accuracy": 2.0}}
            now["environment"] = {"torch": "2.13", "device": "cpu"}
        if run.spec.loss == "other data":
            now["data"] = {"digits": "e"}
        store.write_record(self.folder, now)
        return [Event("done", run.id, "fine", 1.0)]


def toy(loss, seed=0, **values):
    like = a_run(seed, loss=loss, **values)
    return Run(f"toy/none/{loss.replace(' ', '_')}/seed{seed}", loss, like.spec, 1.0)


def trained(run, wall=2.0, code="now"):
    """The record that a run of the toy paper comes to."""
    return RECORD | {
        "id": run.id,
        "spec": run.spec.canonical(),
        "spec_hash": run.spec_hash,
        "metrics": {"last": {"accuracy": 1.0}},
        "cost": {"wall_s": wall},
        "code": {"hash": code, "commit": "0123456789"},
    }


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Call the command line over one made-up paper: house(planned runs, recorded, *options) -> status."""
    monkeypatch.setattr(verify, "Pool", ToyPool)
    monkeypatch.setattr(verify, "runs_folder", lambda paper, tier: tmp_path / "results" / tier / paper / "runs")
    monkeypatch.setattr(verify, "code_hash", lambda module: "now")
    monkeypatch.setattr(verify, "load_tier", lambda tier: Tier(tier, "a test", "cpu", 2))
    monkeypatch.setattr(verify, "papers_of", lambda tier: ["toy"])
    monkeypatch.setattr(verify.tempfile, "mkdtemp", lambda prefix: str(tmp_path / "temporary"))
    monkeypatch.setattr(ToyPool, "given", [])

    def call(planned, records, *options):
        monkeypatch.setattr(verify, "plan", lambda paper, tier: list(planned))
        for record in records:
            store.write_record(call.committed, record)
        call.before = {path: path.read_bytes() for path in call.committed.rglob("*.json")}
        return verify.main(["--tier", "tiny", *options])

    call.committed = tmp_path / "results" / "tiny" / "toy" / "runs"
    call.temporary = tmp_path / "temporary"
    yield call
    assert {path: path.read_bytes() for path in call.committed.rglob("*.json")} == call.before


def test_all_same(house, capsys):
    runs = [toy("fine", seed) for seed in range(3)]
    assert house(runs, map(trained, runs)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tier tiny: 3 of 3 records to train again, 2 at once on cpu, about 11 s"
    assert lines[1] == "[1/3] same      toy/none/fine/seed0  1.0 s  ~1 s left"
    assert lines[-1] == "3 same, 0 differs, 0 elsewhere, 0 failed, 0 outdated, 0 missing" and len(lines) == 5
    assert not house.temporary.exists()


def test_every_state_is_said_and_counted(house, capsys):
    runs = [toy(name) for name in ("fine", "moved", "other data", "raises", "lacks", "new", "edited")]
    records = [trained(run) for run in runs if run.spec.loss not in ("new", "edited")]
    edited = toy("edited", rate=2)
    store.write_index(house.committed, ["toy/none/new/seed0"], tried={"toy/none/new/seed0": "no photos"})
    assert house(runs, [*records, trained(edited)]) == 1
    said = capsys.readouterr().out
    for line in (
        "same      toy/none/fine/seed0  1.0 s",
        "elsewhere toy/none/moved/seed0  1 values; metrics.last.accuracy: 1.0 recorded, 2.0 now (by 1)",
        "differs   toy/none/other_data/seed0  1 values; data.digits: 'd' recorded, 'e' now",
        "failed    toy/none/raises/seed0  trains no more, see x.log",
        "missing   toy/none/lacks/seed0  no photos",
        "missing   toy/none/new/seed0  there is no record: no photos",
        "outdated  toy/none/edited/seed0  the plan has another spec: rate: 2 recorded, (absent) now",
        "toy: 1 runs had other data: digits: 'd' recorded, 'e' now",
        "toy: 1 runs had other environment: torch: '2.12' recorded, '2.13' now",
        "1 same, 1 differs, 1 elsewhere, 1 failed, 1 outdated, 2 missing",
    ):
        assert line in said
    assert f"what was trained now is in {house.temporary}" in said and house.temporary.exists()


def test_a_record_of_other_code_is_compared_all_the_same_and_it_is_said(house, capsys):
    runs = [toy("fine", seed) for seed in range(2)]
    assert house(runs, [trained(run, code="then") for run in runs]) == 0
    said = capsys.readouterr().out
    assert "toy: 2 records are of other code than now, which trains them now (hash then, commit 0123456)" in said
    assert "2 same" in said


def test_what_was_found_is_written_beside_the_records_and_outdated_by_another_record(house, monkeypatch, capsys):
    runs, folder = [toy("fine", seed) for seed in range(3)] + [toy("moved")], house.committed.parents[1]
    monkeypatch.setattr(verify, "commit", lambda: {"commit": "0123456789", "dirty": False})
    verified.write_verified(folder, {"old": {"records": 9, "code": "c", **dict.fromkeys(verified.COUNTS, 1)}}, {})
    assert house(runs, map(trained, runs), "--allow-elsewhere") == 0 and set(verified.read_verified(folder)) == {"old"}
    store.write_index(house.committed, [run.id for run in runs])
    assert house(runs, [], "--allow-elsewhere", "--write", "--only", "seed0") == 0
    line = verified.read_verified(folder)["toy"]
    assert "verified.csv says so" in capsys.readouterr().out and set(verified.read_verified(folder)) == {"old", "toy"}
    assert [line[name] for name in ("records", *verified.COUNTS)] == ["4", "1", "0", "1", "0"]
    assert line["by"] == "commit 0123456" and line["code"] == "now" and not line["outdated"]
    store.write_index(house.committed, [runs[0].id])
    assert verified.read_verified(folder)["toy"]["outdated"]


def test_a_record_of_another_schema_is_outdated(house, capsys):
    run = toy("fine")
    path = store.write_record(house.committed, trained(run))
    path.write_text(path.read_text().replace(f'"schema": {store.SCHEMA}', '"schema": 1'))
    assert house([run], []) == 1
    assert "outdated  toy/none/fine/seed0  the record is of an older schema" in capsys.readouterr().out


def test_a_spec_that_was_edited_in_the_record_differs(house, capsys):
    record = trained(toy("fine"))
    record["spec"] = {**record["spec"], "seed": 3}
    assert house([toy("fine")], [record]) == 1
    assert "spec.seed: 3 recorded, 0 now (by 3)" in capsys.readouterr().out


def test_a_rerun_takes_no_checkpoint_and_no_shared_stage_of_a_sweep(house, tmp_path):
    """Also where it trains inside the folder in which sweeps keep theirs."""
    out = tmp_path / sweep.CHECKPOINTS / "verification"
    assert house([toy("fine")], [trained(toy("fine"))], "--out", str(out)) == 0
    ((paper, code, folder, work, deadline),) = ToyPool.given
    assert (paper, code, deadline) == ("toy", "now", None)
    assert folder == out / "toy" / "runs" and out in work.parents
    stage = checkpoint.common("teachers", {"epochs": 1}, {"checkpoint": work / "toy/a/seed0.pt", "key": "s-c"})
    assert out in stage.parents
    assert store.load_record(store.record_path(folder, toy("fine").id))["metrics"] and out.exists()


@pytest.mark.parametrize("there", ["file", "folder/file"])
def test_a_folder_that_is_not_empty_is_refused(house, tmp_path, there, capsys):
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    out = path.parent if "/" in there else path
    assert house([toy("fine")], [trained(toy("fine"))], "--out", str(out)) == 2
    assert "is not an empty folder" in capsys.readouterr().err and path.read_text() == "mine"


def test_an_interrupt_says_so_and_leaves_nothing(house, capsys):
    runs = [toy("fine"), toy("stopped")]
    assert house(runs, map(trained, runs)) == 130
    assert "stopped before all were compared" in capsys.readouterr().out and not house.temporary.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--only", "nothing"], "no run of toy at tier tiny matches 'nothing'"),
        (["--only", "lacks"], "nothing was compared: 0 same, 0 differs, 0 elsewhere, 0 failed, 0 outdated, 1 missing"),
        (["rott"], "there is no paper 'rott'; did you mean 'rot'?"),
    ],
)
def test_what_compares_nothing_is_no_success(house, capsys, options, says):
    runs = [toy("fine"), toy("lacks")]
    assert house(runs, map(trained, runs), *options) == 2
    assert says in capsys.readouterr().err


def test_where_a_tier_has_no_records_those_that_have_some_are_named(house, capsys):
    """`make verify` where torch sees a GPU, whose tier nobody has trained."""
    store.write_index(house.committed.parents[2] / "cpu" / "toy" / "runs", [])
    assert house([toy("lacks")], []) == 2
    assert capsys.readouterr().err.endswith("1 missing; there are records of cpu: --tier NAME\n")


def test_a_damaged_record_is_named(house, capsys):
    store.write_record(house.committed, trained(toy("fine"))).write_text("{")
    assert house([toy("fine")], []) == 1
    assert re.search(r"outdated .*seed0\.json is not a record", capsys.readouterr().out)


def test_an_unknown_tier_is_refused(capsys):
    assert verify.main(["--tier", "smokey"]) == 2
    assert "there is no tier 'smokey'" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--sample", "0"], ["--only", "("], ["--cores", "x"]])
def test_an_option_that_cannot_be_is_refused(options):
    with pytest.raises(SystemExit):
        verify.main(options)


class TestSample:
    """A sample of few runs sees as many kinds as it can in little time."""

    def found(self, *runs):
        """The records of runs given as (method, dataset, seed, seconds)."""
        found = verify.Found("toy", {})
        layout = Sections("toy", (Section("all", ("dataset", "seed")),))
        for method, dataset, seed, wall in runs:
            run = Run(
                f"toy/{dataset}/{method}/seed{seed}", method, Spec(layout, {"dataset": dataset, "seed": seed}), 1.0
            )
            found.runs[run.id], found.current[run.id] = run, trained(run, wall)
        return found

    def chosen(self, n, *runs):
        return [run_id.removeprefix("toy/") for run_id in verify.sample(self.found(*runs), n)]

    def test_of_a_kind_the_cheapest_is_taken(self):
        assert self.chosen(1, ("kl", "a", 0, 3.0), ("kl", "a", 1, 1.0), ("kl", "a", 2, 2.0)) == ["a/kl/seed1"]

    def test_every_method_and_dataset_comes_before_a_second_of_one(self):
        runs = [(m, d, s, 1.0) for m in ("kl", "rot") for d in ("a", "b") for s in (0, 1)]
        assert self.chosen(2, *runs) == ["a/kl/seed0", "b/rot/seed0"]
        more = self.chosen(4, *runs)
        assert len(set(more)) == 4 and {run.rsplit("/", 1)[0] for run in more[:2]} == {"a/kl", "b/rot"}

    def test_what_takes_long_comes_after_other_kinds_that_do_not(self):
        runs = [("slow", "c", 0, 60.0), ("kl", "a", 0, 1.0), ("rot", "a", 0, 2.0), ("kl", "b", 0, 2.0)]
        assert self.chosen(4, *runs) == ["a/kl/seed0", "a/rot/seed0", "b/kl/seed0", "c/slow/seed0"]

    def test_it_is_the_same_each_time_and_ends_with_all(self):
        runs = [(m, "a", s, 1.0 + s) for m in ("kl", "rot") for s in (0, 1)]
        assert self.chosen(3, *runs) == self.chosen(3, *runs)
        assert len(self.chosen(9, *runs)) == 4

    def test_only_it_is_trained_and_what_is_outdated_is_said_all_the_same(self, house, capsys):
        runs = [toy("fine", seed) for seed in range(3)] + [toy("edited"), toy("new")]
        records = [trained(run) for run in runs[:3]] + [trained(toy("edited", rate=2))]
        assert house(runs, records, "--sample", "1") == 1
        said = capsys.readouterr().out
        assert "1 of 3 records to train again" in said
        assert said.splitlines()[-1] == "1 same, 0 differs, 0 elsewhere, 0 failed, 1 outdated, 0 missing"


@pytest.mark.slow
def test_a_run_of_a_paper_comes_out_the_same_in_workers_of_its_own(data_root, tmp_path, monkeypatch, capsys):
    """The whole of it once: a record of ROT, trained again; and one whose number somebody changed."""
    folder, run_id = tmp_path / "rot" / "runs", "rot/digits/avgkl/bag16/seed1"
    monkeypatch.setattr(sweep, "CHECKPOINTS", str(tmp_path / "work"))
    tier = verify.load_tier("smoke")
    assert sweep.sweep("rot", tier, folder, at_once=1, only=f"^{run_id}$", say=lambda line: None) == 0
    monkeypatch.setattr(verify, "runs_folder", lambda paper, tier: folder)
    options = ["rot", "--tier", "smoke", "--only", f"^{run_id}$", "--cores", "1"]
    assert verify.main(options) == 0
    assert "1 same, 0 differs" in capsys.readouterr().out
    path = store.record_path(folder, run_id)
    record = json.loads(path.read_text())
    record["curves"]["train_loss"][1] += 1e-9
    store.write_record(folder, record)
    assert verify.main([*options, "--out", str(tmp_path / "again")]) == 1
    assert "record changed by hand" in capsys.readouterr().out
    (folder / "index.csv").unlink()
    assert verify.main([*options, "--out", str(tmp_path / "again")]) == 1
    assert "curves.train_loss[1]: " in capsys.readouterr().out


def test_the_errors_of_a_paper_without_the_tier_are_kept():
    with pytest.raises(ConfigError, match="has no tier 'nights'"):
        verify.look("rot", "nights")


def test_a_difference_from_another_machine_can_be_allowed(house, capsys):
    """Vectorised sums end in other digits on another CPU, and training amplifies them: no fault of the record."""
    run = toy("moved")
    assert house([run], [trained(run)]) == 1
    assert house([run], [], "--allow-elsewhere") == 0
    assert "0 same, 0 differs, 1 elsewhere" in capsys.readouterr().out
    other = toy("other data")
    assert house([other], [trained(other)], "--allow-elsewhere") == 1


def test_a_verification_is_void_once_one_record_has_another_content(tmp_path):
    folder, runs = tmp_path, tmp_path / "toy" / "runs"
    path = write_record(runs, a_run())
    store.write_index(runs, [a_run().id])
    verified.write_verified(folder, {"toy": {"records": 1, "code": "c", **dict.fromkeys(verified.COUNTS, 0)}}, {})
    assert not verified.read_verified(folder)["toy"]["outdated"]
    path.write_text(path.read_text().replace('"accuracy": 1.0', '"accuracy": 2.0'))
    store.write_index(runs, [a_run().id], made=[a_run().id])
    assert verified.read_verified(folder)["toy"]["outdated"]
