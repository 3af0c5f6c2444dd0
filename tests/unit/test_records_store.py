"""Records on disk: whole or not there, found through the index, equal bytes for equal results."""

import hashlib
import json
import os

import pytest

from shared.config import ConfigError
from shared.files import write_text
from shared.records import OldRecord, read_index, read_records, record_path, store, write_record


def record(run_id="toy/moons/kl/seed0", accuracy=50.0, **more):
    return {
        "id": run_id,
        "method": "kl",
        "stand_in": "",
        "spec": {"loss": "kl", "seed": 0, "rate": 0.1, "augment": False, "sizes": [1, 2]},
        "spec_hash": "s",
        "code": {"hash": "c", "commit": None, "dirty": False},
        "metrics": {"last": {"accuracy": accuracy, "epoch": 3}, "oracle": {"accuracy": accuracy + 1}},
        "cost": {"wall_s": 1.0},
        "environment": {"device": "cpu"},
        "finished": "2026-01-01T00:00:00+00:00",
        **more,
    }


def everything(folder):
    """{path: bytes} of all files, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_record_comes_back_as_it_was_written(tmp_path):
    path = write_record(tmp_path, record())
    assert path == record_path(tmp_path, "toy/moons/kl/seed0") == tmp_path / "moons/kl/seed0.json"
    assert store.load_record(path) == {"schema": store.SCHEMA, **record()}
    assert list(everything(tmp_path)) == ["moons/kl/seed0.json"]


def test_equal_results_give_equal_bytes_whatever_was_there(tmp_path):
    first = write_record(tmp_path, record()).read_bytes()
    write_record(tmp_path, record(accuracy=10.0))
    assert write_record(tmp_path, record()).read_bytes() == first


def test_ids_that_differ_after_a_dot_have_different_files(tmp_path):
    """`alpha0.1` and `alpha0.5` must not be one file wherever in an id they stand."""
    paths = {record_path(tmp_path, f"toy/rot-alpha0.{i}") for i in (1, 5)}
    assert len(paths) == 2 and all(path.suffix == ".json" for path in paths)


@pytest.mark.parametrize(
    ("value", "error"),
    [(float("nan"), ValueError), (float("inf"), ValueError), (object(), TypeError)],
    ids=["nan", "inf", "object"],
)
def test_what_json_cannot_hold_is_refused_and_the_record_before_it_stays(tmp_path, value, error):
    write_record(tmp_path, record())
    before = everything(tmp_path)
    with pytest.raises(error):
        write_record(tmp_path, record(curves={"loss": [1.0, value]}))
    assert everything(tmp_path) == before


@pytest.mark.parametrize("existing", [True, False], ids=["over a record", "new"])
def test_a_write_that_fails_at_the_end_leaves_nothing_behind(tmp_path, monkeypatch, existing):
    if existing:
        write_record(tmp_path, record())
    before = everything(tmp_path)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_record(tmp_path, record(accuracy=99.0))
    assert everything(tmp_path) == before


def test_the_old_record_is_there_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = write_record(tmp_path, record())
    old, replace, seen = path.read_bytes(), os.replace, []

    def watch(source, target):
        seen.append((path.read_bytes() == old, json.loads(source.read_text())["metrics"]["last"]["accuracy"]))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write_record(tmp_path, record(accuracy=99.0))
    assert seen == [(True, 99.0)] and store.load_record(path)["metrics"]["last"]["accuracy"] == 99.0


@pytest.mark.parametrize(
    "text",
    ["", '{"schema": 2, "id": ', "[]", "{}", '{"schema": 99}', '{"schema": "1"}'],
    ids=["empty", "cut off", "list", "no schema", "later schema", "no number"],
)
def test_a_damaged_record_is_named(tmp_path, text):
    path = write_record(tmp_path, record())
    path.write_text(text)
    with pytest.raises(
        ConfigError, match=r"moons/kl/seed0\.json is not a record.*; delete it and train again"
    ) as error:
        read_records(tmp_path)
    assert not isinstance(error.value, OldRecord)


def test_a_record_of_an_earlier_schema_is_told_from_a_damaged_one(tmp_path):
    path = write_record(tmp_path, record())
    path.write_text(path.read_text().replace(f'"schema": {store.SCHEMA}', '"schema": 1'))
    with pytest.raises(OldRecord, match=r"moons/kl/seed0\.json is not a record of schema 2; delete it and train again"):
        store.load_record(path)


def test_method_and_stand_in_stand_beside_the_spec(tmp_path):
    """Tables group by them; the spec holds nothing that its hash is not of."""
    text = write_record(tmp_path, record(stand_in="a small network")).read_text().splitlines()
    assert [line.split(":")[0].strip(' "') for line in text[1:5]] == ["schema", "id", "method", "stand_in"]
    assert set(json.loads(text[5].partition(":")[2].rstrip(","))) == set(record()["spec"])


def test_a_folder_without_an_index_gives_all_its_records_sorted(tmp_path):
    for seed in (1, 0):
        write_record(tmp_path, record(f"toy/moons/kl/seed{seed}"))
    assert read_index(tmp_path) is None
    assert [r["id"] for r in read_records(tmp_path)] == ["toy/moons/kl/seed0", "toy/moons/kl/seed1"]


def test_with_an_index_only_what_the_plan_asked_for_is_read(tmp_path):
    for seed in (0, 1):
        write_record(tmp_path, record(f"toy/moons/kl/seed{seed}"))
    store.write_index(tmp_path, ["toy/moons/kl/seed1", "toy/moons/kl/seed2"])
    assert [r["id"] for r in read_records(tmp_path)] == ["toy/moons/kl/seed1"]


def test_a_record_made_since_the_index_was_written_is_read(tmp_path):
    """A sweep that was killed or interrupted has records its index does not know of; tables must show them."""
    store.write_index(tmp_path, ["toy/moons/kl/seed0"])
    write_record(tmp_path, record())
    assert [r["id"] for r in read_records(tmp_path)] == ["toy/moons/kl/seed0"]


def test_the_index_says_done_failed_or_missing_and_pins_the_record(tmp_path):
    ids = [f"toy/moons/kl/seed{seed}" for seed in (2, 0, 1)]
    path = write_record(tmp_path, record(ids[1]))
    write_text(record_path(tmp_path, ids[2]).with_suffix(".log"), "Traceback\n")
    statuses = store.write_index(tmp_path, ids)
    assert statuses == {ids[1]: "done", ids[2]: "failed", ids[0]: "missing"}
    index = read_index(tmp_path)
    assert list(index) == sorted(ids) and {i: row["status"] for i, row in index.items()} == statuses
    assert index[ids[1]]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() and not index[ids[0]]["sha256"]


def test_the_index_is_the_same_bytes_for_the_same_records_in_any_order(tmp_path):
    ids = [f"toy/moons/kl/seed{seed}" for seed in range(3)]
    write_record(tmp_path, record(ids[0]))
    store.write_index(tmp_path, ids)
    before = (tmp_path / store.INDEX).read_bytes()
    store.write_index(tmp_path, reversed(ids))
    assert (tmp_path / store.INDEX).read_bytes() == before


def test_the_index_keeps_why_a_run_that_was_not_tried_again_could_not_be_made(tmp_path):
    ids = [f"toy/moons/kl/seed{seed}" for seed in range(4)]

    def why(**more):
        store.write_index(tmp_path, ids, **more)
        return [row["why"] for row in read_index(tmp_path).values()]

    assert why() == ["", "", "", ""]
    assert why(tried={ids[0]: "no, not here", ids[1]: "no", ids[3]: ""}) == ["no, not here", "no", "", ""]
    assert why(tried={ids[1]: ""}) == ["no, not here", "", "", ""]
    write_record(tmp_path, record(ids[0]))
    assert why(outdated={ids[0]}, tried={ids[0]: "still not"}) == ["still not", "", "", ""]
    assert why() == ["", "", "", ""]
    write_text(record_path(tmp_path, ids[1]).with_suffix(".log"), "Traceback\n")
    assert why(tried={ids[1]: "no"}) == ["", "", "", ""]


def test_an_index_of_before_without_reasons_is_read(tmp_path):
    (tmp_path / store.INDEX).write_text("id,status,sha256\ntoy/moons/kl/seed0,missing,\n")
    index = {"toy/moons/kl/seed0": {"id": "toy/moons/kl/seed0", "status": "missing", "sha256": "", "why": ""}}
    assert read_index(tmp_path) == index
    store.write_index(tmp_path, ["toy/moons/kl/seed0"])
    assert read_index(tmp_path) == index


def without(part):
    return lambda made: {key: value for key, value in made.items() if key != part}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda made: {**made, "metrics": {"last": {"accuracy": "99"}}}, "its metrics.last.accuracy is '99'"),
        (lambda made: {**made, "metrics": {"last": {"accuracy": True}}}, "its metrics.last.accuracy is True"),
        (lambda made: {**made, "metrics": {"last": [1.0]}}, r"its metrics.last is \[1.0\]"),
        (lambda made: {**made, "metrics": []}, r"its metrics is \[\]"),
        (lambda made: {**made, "cost": {"wall_s": "1 s"}}, "its cost.wall_s is '1 s'"),
        (
            lambda made: {**made, "convergence": {"accuracy": {"gain": 1.0}}},
            "it has no convergence.accuracy.error",
        ),
        (lambda made: {**made, "code": {"commit": "c"}}, "it has no code.hash"),
        (lambda made: {**made, "code": {"hash": "c", "commit": 7}}, "its code.commit is 7"),
        (lambda made: {**made, "code": {"hash": "c"}}, "it has no code.commit"),
        (lambda made: {**made, "cost": {}}, "it has no cost.wall_s"),
        (lambda made: {**made, "cost": {"wall_s": None}}, "its cost.wall_s is None"),
        (lambda made: {**made, "environment": {}}, "it has no environment.device"),
        (lambda made: {**made, "curves": None}, "its curves is None"),
        (lambda made: {**made, "finished": 2026}, "its finished is 2026"),
        (lambda made: {**made, "id": ["toy"]}, "its id is "),
        *((without(part), f"it has no {part}") for part in ("id", "spec", "spec_hash", "metrics", "code", "finished")),
    ],
)
def test_a_part_of_another_kind_than_readers_rely_on_is_named(tmp_path, change, says):
    path = write_record(tmp_path, record())
    path.write_text(json.dumps({"schema": store.SCHEMA, **change(record())}))
    kept = store.find_record(tmp_path, record()["id"])
    assert kept.state == store.DAMAGED and kept.record is None
    with pytest.raises(ConfigError, match=rf"seed0\.json is not a record \(.*{says}.*; delete it and train again"):
        store.load_record(path)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "9" * 5000])
def test_a_number_that_is_none_is_not_read(tmp_path, value):
    """json takes them; a mean of them is nan, or an error far from here."""
    path = write_record(tmp_path, record(accuracy=12.5))
    path.write_text(path.read_text().replace("12.5", value))
    kept = store.find_record(tmp_path, record()["id"])
    assert kept.state == store.DAMAGED and "seed0.json is not a record (" in kept.why and len(kept.why) < 500


def test_a_record_of_what_git_does_not_answer_is_read(tmp_path):
    made = record(code={"hash": "c", "commit": None, "dirty": None, "git": "there is no git"})
    assert store.load_record(write_record(tmp_path, made))["code"] == made["code"]


def test_a_record_that_is_larger_than_any_is_not_read_at_all(tmp_path, monkeypatch):
    write_record(tmp_path, record(curves={"loss": [0.5] * 1000}))
    monkeypatch.setattr(store, "LARGEST", 1000)
    monkeypatch.setattr(store, "read_text", None)
    assert "MB" in store.find_record(tmp_path, record()["id"]).why


def test_a_folder_in_a_records_place_is_a_damaged_one(tmp_path):
    path = write_record(tmp_path, record())
    store.write_index(tmp_path, [record()["id"]])
    path.unlink()
    path.mkdir()
    kept = store.find_record(tmp_path, record()["id"], read_index(tmp_path))
    assert kept.state == store.DAMAGED and "seed0.json cannot be read" in kept.why


def test_what_systems_and_editors_leave_among_records_is_passed_over(tmp_path):
    path = write_record(tmp_path, record())
    for name in ("._seed0.json", ".seed0.json.swp", "seed0.json~", "#seed0.json#", ".DS_Store", "__MACOSX/seed0.json"):
        stray = path.parent / name
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"\x00\xff")
    (path.parent / "empty.json").mkdir()
    assert [made["id"] for made in read_records(tmp_path)] == [record()["id"]]


ROW = "toy/moons/kl/seed0,done,,\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "line 1: not id, status, sha256, why"),
        (b"id,status,sha256,why\n", None),
        (b"id,status\n" + ROW.encode(), "line 1: not id, status, sha256, why"),
        (f"id,status,sha256,why\n{ROW}toy/moons".encode(), "line 3: not a row"),
        (f"id,status,sha256,why\n{ROW.strip()},more\n".encode(), "line 2: not a row"),
        (f"id,status,sha256,why\n{ROW}{ROW}".encode(), "line 3: run 'toy/moons/kl/seed0' is there twice"),
        (b"\xff\xfe\x00", "is not a text in UTF-8"),
        (b'id,status,sha256,why\n"toy', "is no table"),
        (b"id,status,sha256,why\n\x00\n", "index.csv"),
    ],
)
def test_a_damaged_index_is_named(tmp_path, content, says):
    (tmp_path / store.INDEX).write_bytes(content)
    if says is None:
        assert read_index(tmp_path) == {}
        return
    with pytest.raises(ConfigError, match=rf"index\.csv.*{says}|{says}") as error:
        read_index(tmp_path)
    assert str(tmp_path / store.INDEX) in str(error.value)


def test_a_run_in_the_index_whose_name_no_file_can_have_is_named(tmp_path):
    name = f"toy/{'k' * 300}/seed0"
    (tmp_path / store.INDEX).write_text(f"id,status,sha256,why\n{name},done,abc,\n")
    kept = store.find_record(tmp_path, name, read_index(tmp_path))
    assert kept.state == store.DAMAGED and "cannot be read: File name too long; correct its row in" in kept.why
    assert not store.is_as_indexed(tmp_path, name, read_index(tmp_path)[name])


def test_every_record_that_lies_there_is_pinned_also_one_that_answers_another_spec(tmp_path):
    """It may answer the spec again tomorrow, and must be the one that was trained."""
    path = write_record(tmp_path, record())
    store.write_index(tmp_path, [record()["id"]], outdated=[record()["id"]])
    path.write_text(path.read_text().replace("50.0", "99.0"))
    assert store.find_record(tmp_path, record()["id"], read_index(tmp_path)).state == store.CHANGED


@pytest.mark.parametrize("todo", [(), ("toy/moons/kl/seed0",)])
def test_a_changed_record_whose_new_training_fails_stays_unbelieved(tmp_path, todo):
    path = write_record(tmp_path, record())
    ids = [record()["id"]]
    store.write_index(tmp_path, ids)
    path.write_text(path.read_text().replace("50.0", "99.0"))
    store.write_index(tmp_path, ids, todo=todo)
    write_text(path.with_suffix(".log"), "Traceback\n")
    assert store.write_index(tmp_path, ids) == {ids[0]: "failed"}
    path.with_suffix(".log").unlink()
    assert store.write_index(tmp_path, ids) == {ids[0]: "changed"}
    write_record(tmp_path, record(accuracy=51.0))
    assert store.write_index(tmp_path, ids, made=ids) == {ids[0]: "done"}
