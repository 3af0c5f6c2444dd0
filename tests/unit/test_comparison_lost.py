"""What was to be judged and could not be: said, never left out in silence, and nothing is judged by what survives."""

import math

import pandas as pd
import pytest

from shared.comparison import judging
from shared.comparison.claims import Claim
from shared.comparison.evidence import samples
from shared.comparison.setting import Setting

SIDES = {"left": {"method": "a"}, "right": {"method": "b"}}
NOISE = [0.0, 0.1, -0.1, 0.05, -0.05]
NAN = math.nan


def rows(method, values, status="", **spec):
    """One row per seed; those without a value have a status."""
    about = {"method": method, "metric": "accuracy", "selection": "last", **spec}
    name = "/".join(map(str, (method, *spec.values())))
    return pd.DataFrame(
        {"id": f"{name}/{seed}", "seed": seed, **about, "value": v, "status": status if math.isnan(v) else "done"}
        for seed, v in enumerate(values)
    )


def claim(kind="greater", **options):
    return Claim("x", "", "", kind, **{**({} if kind.startswith("at_") else SIDES), **options})


def judged(tables, kind="greater", **options):
    return judging.judge_claim(pd.concat(tables, ignore_index=True), claim(kind, **options))


def pair(left=2.0, status="", lost=0, **spec):
    """Two sides that differ by `left`; of the right one the first `lost` seeds have no value."""
    second = [NAN if seed < lost else 50 - e for seed, e in enumerate(NOISE)]
    return [rows("a", [50 + left + e for e in NOISE], **spec), rows("b", second, status, **spec)]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("FAILED", "; 2 of 5 seeds failed"),
        ("metric not recorded", "; 2 of 5 seeds: metric not recorded"),
        ("done", "; 2 of 5 seeds: not a number"),
        ("NOT RUN", ""),
    ],
)
@pytest.mark.parametrize("gap", [2, -2, 0.01])
def test_seeds_without_a_value_are_counted_beside_any_verdict(gap, status, said):
    whole, part = judged(pair(gap)), judged(pair(gap, status, 2))
    assert "seeds failed" not in whole.why and part.seeds == (3, 3)
    assert part.why.endswith(said) and ("of 5 seeds" in part.why) == bool(said)


def test_of_several_cells_the_one_with_lost_seeds_is_named():
    cells = {"cells": ("k",)}
    assert judged([*pair(k=1), *pair(k=2, status="FAILED", lost=1)], **cells).why.endswith("; k=2: 1 of 5 seeds failed")
    both = judged([t for k in (1, 2) for t in pair(k=k, status="FAILED", lost=1)], **cells)
    assert both.why.endswith("; 1 of 5 seeds failed")


def test_an_identity_that_failed_once_says_so():
    v = judged([rows("a", [1e-9, NAN, 1e-9], "FAILED")], "at_most", threshold=1e-6, deterministic=True)
    assert v.verdict == "HOLDS" and v.why.endswith("; 1 of 3 seeds failed")


def test_cells_that_the_claim_lists_and_nobody_plans_are_absent():
    listed = {"where": {"k": [1, 2, 3]}, "cells": ("k",)}
    v = judged([*pair(k=1), rows("a", [NAN], "NOT RUN", k=2), rows("b", [NAN], "NOT RUN", k=2)], **listed)
    assert (v.verdict, v.missing, v.absent) == ("HOLDS", ("k=2",), ("k=3",))
    assert judged(pair(k=1), **listed, left={"method": "a", "k": 4}).absent == ("k=1", "k=2", "k=3")


def test_values_that_a_ranking_orders_are_cells_that_it_names():
    table = [rows(method, [v + e for e in NOISE], d="x") for method, v in (("a", 52), ("b", 50))]
    ranked = {"along": "method", "where": {"d": ["x", "y"]}, "cells": ("d",), "left": {}, "right": {}}
    assert judged(table, "ranking", order=("a", "b"), **ranked).absent == ("d=y",)
    v = judged(table, "ranking", order=("a", "b", "c"), **ranked)
    assert v.verdict == "HOLDS" and v.absent == ("d=x, method a over c", "d=x, method b over c", "d=y")


def test_what_is_subtracted_may_list_the_cells():
    """Only the subtracted side lists methods: each cell was the left side less itself."""
    base = rows("c", [20 + e for e in NOISE])
    sides = {"left": {"method": "a", "minus": {"method": ["b", "c"]}}, "right": {"method": "b"}}
    v = judged([*pair(), base], cells=("method",), **sides)
    assert v.cells == 2 and v.estimate == pytest.approx((2 - 50 + 32 - 50) / 2, abs=0.1)


def test_a_cell_that_no_list_names_is_not_absent():
    """Only one side has k=2, or the listed set is there with other values of what is not listed."""
    table = [*pair(k=1), rows("a", [50.0, 51.0], k=2)]
    assert judged(table, cells=("k",)).absent == ()
    named = {"where": {"d": ["x", "y"]}, "cells": ("d", "k")}
    v = judged([one.assign(d="x") for one in table], **named)
    assert v.verdict == "HOLDS" and v.absent == ("d=y",)


def test_a_run_that_does_not_record_the_metric_is_missing_with_the_reason():
    idle = [rows(method, [NAN] * 3, "metric not recorded", k=2) for method in "ab"]
    v = judged([*pair(k=1), *idle], cells=("k",))
    assert (v.verdict, v.missing, v.absent) == ("HOLDS", ("k=2 (metric not recorded)",), ())
    v = judged(idle, cells=("k",))
    assert (v.verdict, v.why) == ("NOT RUN", "metric not recorded")


def test_a_ratio_to_nothing_was_run_and_decides_nothing():
    """ece quick said NOT RUN, no seed has records of both sides, where cross-entropy found no pixel."""
    table = [rows("a", [0.3, 0.4, 0.3]), rows("b", [0.0, 0.1, 0.1])]
    there = Setting("on a stand-in", ("a stand-in: frozen features",))
    v = judging.judge_claim(pd.concat(table, ignore_index=True), claim("ratio", at_least=1.85), lambda rows: there)
    assert (v.verdict, v.why) == ("INCONCLUSIVE", "no ratio: a side is 0 in 1 of 3 seeds")
    assert v.missing == ("all (no ratio: a side is 0 in 1 of 3 seeds)",)
    assert (v.setting, v.caveats) == (there.word, there.reasons)


def test_infinite_values_are_not_left_out():
    v = judged([rows("a", [51.0, math.inf, 52.0]), rows("b", [50.0, 50.1, 50.2])])
    assert (v.verdict, v.why) == ("INCONCLUSIVE", "no finite value in 1 of 3 seeds")
    v = judged([rows("a", [51.0, math.inf, 52.0])], "at_least", threshold=50)
    assert (v.verdict, v.why) == ("INCONCLUSIVE", "no finite value in 1 of 3 seeds")


def test_what_is_ambiguous_outside_of_what_a_claim_requires_does_not_matter():
    table = [one.assign(noise=noise) for noise in (0.1, 0.2) for one in pair()]
    v = judged(table, requires={"noise": 0})
    assert (v.verdict, v.why) == ("NOT COMPARABLE", "needs noise 0; these records have noise 0.1/0.2")


def test_what_is_ambiguous_says_where_it_was_made():
    there = Setting("on a stand-in", ("a stand-in: frozen features",))
    table = pd.concat([one.assign(noise=noise) for noise in (0.1, 0.2) for one in pair()], ignore_index=True)
    v = judging.judge_claim(table, claim(), lambda rows: there)
    assert (v.verdict, v.setting, v.caveats) == ("INCONCLUSIVE", there.word, there.reasons)
    assert "differ in noise" in v.why


SHAPE = {"along": "n", "left": {"method": "a", "floor": 10}, "right": {"method": "b", "floor": 10}}


def curves(left, right, sizes=(1, 4, 16)):
    """Points of two curves at bag sizes, each a number or values of seeds."""
    return [
        rows(method, [v + e for e in NOISE] if isinstance(v, int) else v, "NOT RUN", n=n)
        for method, points in (("a", left), ("b", right))
        for n, v in zip(sizes, points, strict=True)
    ]


def test_a_curve_that_starts_at_its_floor_has_no_shape_and_is_not_dropped():
    flat = [90.0, 90.1, 89.9, 9.9, 10.0]
    v = judged(curves([90, 80, 60], [flat, 80, 60]), "same_shape", margin=0.15, **SHAPE)
    assert (v.verdict, v.cells) == ("INCONCLUSIVE", 0)
    assert v.why == "no shape: a curve starts at its floor in 2 of 5 seeds" and len(v.missing) == 2


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_no_other_point_takes_the_place_of_the_first(lacking):
    """Without their first points curves of 90, 50, 35 and 60, 50, 35 were scaled to the second, and alike."""
    table = curves([90, 50, 35], [60, 50, 35])
    del table[3 + lacking]
    wanted = {"margin": 0.15, **SHAPE, "where": {"n": [1, 4, 16]}}
    v = judged(table, "same_shape", **wanted)
    late = tuple(f"n={n} (its first point is missing)" for n in (4, 16))
    if lacking:
        assert (v.verdict, v.cells, v.missing, v.absent) == ("CONTRADICTED", 1, (), (f"n={4**lacking}",))
    else:
        assert (v.verdict, v.missing, v.absent) == ("NOT RUN", late, ("n=1",))
        assert v.why == "of each curve its first point is missing"
    planned = curves([90, 50, 35], [60, 50, 35])
    planned[3] = rows("b", [NAN] * 5, "NOT RUN", n=1)
    assert judged(planned, "same_shape", **wanted).missing == ("n=1", *late)


def test_a_failed_first_point_takes_its_seed_from_every_later_one():
    table = curves([90, 80, 60], [[90.0, NAN, 90.1, 89.9, 90.0], 80, 60])
    failed = [one.assign(status=one["status"].replace("NOT RUN", "FAILED")) for one in table]
    v = judged(failed, "same_shape", margin=0.15, **SHAPE)
    assert v.verdict == "HOLDS" and v.why.endswith("; 1 of 5 seeds failed") and v.seeds == (4, 4)


def test_a_flat_curve_has_no_order_and_is_not_dropped():
    points = [90, 80, 70, 60, 50, 40, 30]
    flat = [[v + e if seed else 50.0 for seed, e in enumerate(NOISE)] for v in points]
    sizes = [4**i for i in range(7)]
    v = judged(curves(points, flat, sizes), "same_shape", at_least=0.8, **SHAPE)
    assert (v.verdict, v.why) == ("INCONCLUSIVE", "no order: a curve is flat in 1 of 5 seeds")
    assert judged(curves(points, points, sizes), "same_shape", at_least=0.8, **SHAPE).verdict == "HOLDS"


def test_reasons_are_those_of_the_cell():
    table = [*pair(k=1), rows("a", [NAN], "FAILED", k=2), rows("b", [NAN], "metric not recorded", k=2)]
    found = samples(pd.concat(table, ignore_index=True), claim(cells=("k",)))
    assert found.missing == ["k=2 (failed, metric not recorded)"] and not found.undefined
