"""What a comparison takes from the records: the name of a run, what a record lacks, which one counts for a seed."""

import pytest

from shared.config import plan
from tests.made_paper import CLAIMS, KL, NAMES, PAPER, REPORTED, ROT, build, change, fill, page_of, written


@pytest.fixture
def house(tmp_path, monkeypatch):
    return build(tmp_path, monkeypatch)


def test_a_run_goes_by_its_name_also_where_its_spec_has_a_method(house):
    """Controls that names.py calls dllp-permuted were taken for dllp: a claim on them was NOT RUN though recorded."""
    change(house, "    loss: {value", "    method: {value")
    change(house, "grid: {loss: rot", "grid: {method: rot")
    named = NAMES.replace("return spec.loss", 'return spec.method + "-permuted" * (spec.bag_size == 8)')
    (house.paper / "names.py").write_text(named)
    asked = CLAIMS.replace("  where: {bag_size: 4}\n", "")
    permuted = asked.replace("id: order", "id: permuted").replace(": kl}", ": kl-permuted}")
    (house.paper / "claims.yaml").write_text(asked + permuted.replace(": rot}", ": rot-permuted}"))
    fill(house, {"kl-permuted": KL, "rot-permuted": ROT}, bag_size=8)
    house("made", "--tier", "paper")
    assert [(row["id"], row["verdict"]) for row in written(house, "claims.csv")] == [
        ("order", "NOT RUN"),
        ("permuted", "HOLDS"),
    ]


def test_what_its_record_does_not_have_is_no_run_that_nobody_planned(house):
    """A metric that is measured since an older record was made: "not in the plan of the tier"."""
    (house.paper / "reported.csv").write_text(REPORTED.replace("kl,n=4,accuracy", "kl,n=4,top5_accuracy"))
    cut = '== "accuracy"'
    tables = (house.paper / "tables.py").read_text()
    (house.paper / "tables.py").write_text(tables.replace(cut, '.isin(["accuracy", "top5_accuracy"])'))
    (house.paper / "claims.yaml").write_text(CLAIMS + "  metric: top5_accuracy\n")
    fill(house, {"kl": KL, "rot": ROT})
    house("made", "--tier", "paper")
    cell, (claim,) = written(house)[0], written(house, "claims.csv")
    assert (cell["verdict"], cell["why"]) == ("NOT RUN", "metric not recorded in 3 records")
    assert claim["verdict"] == "NOT RUN" and claim["why"].endswith(": metric not recorded")
    assert claim["missing"].startswith("all") and not claim["absent"]
    fill(house, {"kl": KL[:2]}, metrics={"last": {"top5_accuracy": 80.1}})
    house("made", "--tier", "paper")
    assert written(house)[0]["n"] == "2" and written(house)[0]["why"].endswith("; metric not recorded in 1 record")
    assert "failed" not in written(house)[0]["why"]


def test_several_records_of_a_seed_are_no_more_seeds(house):
    """Six records of three seeds gave n = 6 and REPRODUCED; whoever maps them has to say which one counts."""
    change(house, "    bag_size: {value", "    width: {value: 1, source: Section 4}\n    bag_size: {value")
    change(house, "{name: kl, grid: {", "{name: kl, grid: {width: [1, 2], ")
    (house.paper / "names.py").write_text(NAMES.replace("/bag{", "-w{spec.width}/bag{"))
    fill(house, {"kl-w1": KL, "kl-w2": KL})
    house("made", "--tier", "paper")
    cell = written(house)[0]
    assert (cell["verdict"], cell["n"], cell["ours"]) == ("INCONCLUSIVE", "0", "")
    assert cell["why"] == "several records share a seed and differ in width"
    change(house, PAPER, f"{PAPER}    differs: 2 of 9 epochs\n")
    house("made", "--tier", "paper")
    cell = written(house)[0]
    assert cell["verdict"] == "NOT COMPARABLE" and cell["why"].startswith("another protocol: 2 of 9 epochs; several")


def test_records_that_a_claim_does_not_require_are_behind_nothing_and_stop_nothing(house, capsys):
    """They stood behind a claim that is NOT COMPARABLE, and two of a seed among them were a traceback."""
    anywhere = CLAIMS.replace("  where: {bag_size: 4}\n", "")
    (house.paper / "claims.yaml").write_text(anywhere + "  requires: {bag_size: 16}\n")
    fill(house, {"kl": KL, "rot": ROT})
    house("made", "--tier", "paper")
    assert written(house, "claims.csv")[0]["verdict"] == "NOT COMPARABLE"
    capsys.readouterr()
    assert house("made", "--tier", "paper", "--records", "order") == 0
    assert capsys.readouterr().out.endswith("KL beats ROT.\n  no records\n")


def test_the_reason_of_a_claim_that_was_not_run_is_that_of_what_it_requires(house):
    (house.paper / "claims.yaml").write_text(CLAIMS.replace("  where: {bag_size: 4}\n", "  requires: {bag_size: 8}\n"))
    fill(house, {"rot": ROT}, bag_size=8)
    said = {4: "photos are not here", 8: "cells are not here"}
    rows = [f"made/toy/kl/bag{size}/seed0,missing,,{why}" for size, why in said.items()]
    index = house.results / "paper/made/runs/index.csv"
    index.write_text("\n".join(["id,status,sha256,why", *rows]) + "\n")
    house("made", "--tier", "paper")
    (claim,) = written(house, "claims.csv")
    assert claim["why"] == "needs bag_size 8; no seed has records of both sides: cells are not here"


@pytest.mark.parametrize("says", ["record of another spec", "record of an earlier schema"])
def test_a_record_of_before_is_not_one_that_nobody_has_trained(house, says):
    fill(house, {"kl": KL, "rot": ROT})
    path = house.results / "paper/made/runs/toy/kl/bag4/seed0.json"
    (run,) = (run for run in plan("made", "paper", house.root) if run.id == "made/toy/kl/bag4/seed0")
    before = {"record of another spec": (run.spec_hash, "0" * 16)}.get(says, ('"schema": 2', '"schema": 1'))
    path.write_text(path.read_text().replace(*before))
    house("made", "--tier", "paper")
    page = page_of(house)
    assert f"1 left out, {says}: {run.id}" in page and "6 not run: nobody has trained them yet" in page
    assert written(house)[0]["n"] == "2"


def test_records_of_several_contents_of_a_set_are_told(house):
    """Two of five records of a part of a set stood beside three of the whole, and nothing said so."""
    fill(house, {"kl": KL, "rot": ROT}, data=lambda seed: {"tnbc": "ab" * 32 if seed else "cd" * 32})
    house("made", "--tier", "paper")
    assert "the records of tnbc are of other data than one set, by checksum 4 of abababab, 2 of cdcdcdcd" in page_of(
        house
    )
    fill(house, {"kl": KL, "rot": ROT}, data={"cifar10": "ab" * 32, "features/cifar10": "cd" * 32})
    house("made", "--tier", "paper")
    assert "the records of cifar10 are of other data" in page_of(house) and "data/sources.csv has a1dc6acb" in page_of(
        house
    )
    fill(
        house,
        {"kl": KL, "rot": ROT},
        data=lambda seed: {"tissue_sim": f"{seed:064}", "features/cifar10": f"{seed:064}"},
    )
    house("made", "--tier", "paper")
    assert "of other data" not in page_of(house)


@pytest.mark.parametrize(("bound", "verdict"), [(0, "HOLDS"), (99, "NOT COMPARABLE"), (80, "INCONCLUSIVE")])
def test_a_claim_is_not_judged_where_what_it_supposes_does_not_hold(house, bound, verdict):
    """ "Best before is best after" was contradicted where the method that it speaks of was not the best before."""
    premise = f"- id: well\n  says: KL is accurate.\n  source: Section 4\n  kind: at_least\n  threshold: {bound}\n"
    premise += "  because: a bound\n  where: {bag_size: 4, method: kl}\n"
    (house.paper / "claims.yaml").write_text(f"{CLAIMS}  premise: well\n{premise}")
    fill(house, {"kl": KL, "rot": ROT})
    house("made", "--tier", "paper")
    order = next(row for row in written(house, "claims.csv") if row["id"] == "order")
    assert order["verdict"] == verdict, order
    assert verdict == "HOLDS" or order["why"].startswith("supposes well, which is ")
