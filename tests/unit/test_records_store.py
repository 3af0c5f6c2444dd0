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
