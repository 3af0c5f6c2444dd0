"""Every kind of claim, judged on constructed rows."""

import math

import numpy as np
import pandas as pd
import pytest

from shared.comparison import claims, judging
from shared.comparison.claims import Claim
from shared.comparison.evidence import Sample, matches, planned_cells
from shared.comparison.setting import Setting


def rows(*runs, metric="accuracy", selection="last", **common):
    """One row per seed of each run: `(spec, [value of seed 0, value of seed 1, ...])`."""
    return pd.DataFrame(
        {"id": f"{i}-{seed}", "seed": seed, "metric": metric, "selection": selection, **common, **spec, "value": v}
        for i, (spec, values) in enumerate(runs)
        for seed, v in enumerate(values)
    )


def claim(kind, **options):
    sides = {"left": {"method": "kl"}, "right": {"method": "rot"}} if "left" in claims.KINDS[kind][0] else {}
    return Claim(id="x", says="It is so.", source="here", kind=kind, **{**sides, **options})


def run(method, values, **spec):
    return {"method": method, **spec}, values


KL = run("kl", [82.0, 83.1, 81.8])
ROT = run("rot", [80.1, 80.9, 79.9])
SAME = run("rot", [82.6, 82.4, 82.1])


def verdict(table, kind, **options):
    return judging.judge_claim(table, claim(kind, **options)).verdict


@pytest.mark.parametrize(
    ("kind", "options", "right", "expected"),
    [
        ("greater", {}, ROT, "HOLDS"),
        ("greater", {"margin": 1.5}, ROT, "HOLDS"),
        ("greater", {"margin": 3.0}, ROT, "CONTRADICTED"),
        ("greater", {"left": {"method": "rot"}, "right": {"method": "kl"}}, ROT, "CONTRADICTED"),
        ("greater", {"left": {"method": "rot"}, "right": {"method": "kl"}, "margin": -5}, ROT, "HOLDS"),
        ("greater", {}, SAME, "INCONCLUSIVE"),
        ("within", {"margin": 3.0}, ROT, "HOLDS"),
        ("within", {"margin": 1.0}, ROT, "CONTRADICTED"),
        ("within", {"margin": 2.0}, ROT, "INCONCLUSIVE"),
        ("ratio", {"at_least": 1.02}, ROT, "HOLDS"),
        ("ratio", {"at_most": 1.01}, ROT, "CONTRADICTED"),
        ("ratio", {"at_least": 1.0, "at_most": 1.05}, ROT, "HOLDS"),
        ("at_least", {"where": {"method": "kl"}, "threshold": 80}, ROT, "HOLDS"),
        ("at_least", {"where": {"method": "kl"}, "threshold": 85}, ROT, "CONTRADICTED"),
        ("at_most", {"where": {"method": "kl"}, "threshold": 82}, ROT, "INCONCLUSIVE"),
        ("at_most", {"where": {"method": "kl"}, "threshold": 86}, ROT, "HOLDS"),
        ("ranking", {"along": "method", "order": ("kl", "rot")}, ROT, "HOLDS"),
        ("ranking", {"along": "method", "order": ("rot", "kl")}, ROT, "CONTRADICTED"),
        ("ranking", {"along": "method", "order": ("kl", "rot")}, SAME, "INCONCLUSIVE"),
    ],
)
def test_kinds(kind, options, right, expected):
    assert verdict(rows(KL, right), kind, **options) == expected


def test_nothing_to_judge_is_not_run():
    v = judging.judge_claim(rows(run("avgkl", [50.0])), claim("greater"))
    assert (v.verdict, v.why) == ("NOT RUN", "no records")
    v = judging.judge_claim(rows(KL), claim("greater"))
    assert (v.verdict, v.why) == ("NOT RUN", "no seed has records of both sides")
    v = judging.judge_claim(rows(run("kl", [math.nan]), run("rot", [math.nan])), claim("greater"))
    assert (v.verdict, v.why) == ("NOT RUN", "every run failed: a log and no record")
    assert judging.judge_claim(pd.DataFrame(), claim("greater")).verdict == "NOT RUN"
    assert verdict(rows(KL, ROT), "greater", left={"methud": "kl"}) == "NOT RUN"


def test_one_seed_is_inconclusive_however_large_the_gap():
    v = judging.judge_claim(rows(run("kl", [90.0]), run("rot", [10.0])), claim("greater"))
    assert v.verdict == "INCONCLUSIVE"
    assert "one seed" in v.why
    assert (v.estimate, v.better, v.seeds) == (80.0, 1.0, (1, 1))
    assert math.isnan(v.low)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_where_nothing_varies_there_is_no_test(n):
    """0 against "at most .1" held at once, and so it would if one run in five gave 1."""
    v = judging.judge_claim(rows(run("kl", [0.0] * n)), claim("at_most", where={"method": "kl"}, threshold=0.1))
    assert v.verdict == "INCONCLUSIVE"
    assert v.why.startswith(f"nothing varies over {n} seeds")
    assert math.isnan(v.p)


def test_a_cell_that_does_not_vary_supports_nothing():
    """ece-detects-better-at-one-half was CONTRADICTED with p = 0, since 0 is no more than 0 + .05."""
    table = rows(
        *(run(method, [0.0] * 3, fraction=0.3) for method in ("kl", "rot")),
        *(
            run(method, [level, level + 0.01, level - 0.02], fraction=0.6)
            for method, level in (("kl", 0.9), ("rot", 0.5))
        ),
    )
    v = judging.judge_claim(table, claim("greater", cells=("fraction",), margin=0.05))
    assert (v.verdict, v.hold, v.cells) == ("INCONCLUSIVE", 1, 2)
    assert "weakest fraction=0.3: 0; nothing varies over 3 seeds" in v.why


def test_equal_differences_of_varying_runs_are_a_coincidence():
    table = rows(run("kl", [80.5, 82.5, 81.5]), run("rot", [80.0, 82.0, 81.0]))
    assert verdict(table, "greater") == "INCONCLUSIVE"


def test_an_exact_tie_contradicts_nothing():
    assert verdict(rows(run("kl", [10.0] * 3), run("rot", [10.0] * 3)), "greater") == "INCONCLUSIVE"


def test_pairing_is_by_seed():
    table = rows(run("kl", [60.0, 70.0, 80.0]), run("rot", [58.0, 68.1, 77.9]))
    assert verdict(table, "greater") == "HOLDS"
    shifted = table.assign(seed=table["seed"].where(table["method"] == "kl", 2 - table["seed"]))
    assert verdict(shifted, "greater") == "INCONCLUSIVE"
    apart = table.assign(seed=table["seed"].where(table["method"] == "kl", table["seed"] + 10))
    assert judging.judge_claim(apart, claim("greater")).why == "no seed has records of both sides"


def grid(gaps, seeds=3):
    """KL above ROT by each gap, with a little noise, at bag sizes 1, 4, 16, ..."""
    noise = [0.0, 0.2, -0.1]
    sides = [
        run(method, [50 + (gap if method == "kl" else 0) + e * (1 if method == "kl" else -1) for e in noise[:seeds]])
        for gap in gaps
        for method in ("kl", "rot")
    ]
    return rows(*(({**spec, "bag_size": 4 ** (i // 2)}, values) for i, (spec, values) in enumerate(sides)))


@pytest.mark.parametrize(
    ("gaps", "aggregate", "expected"),
    [
        ([3, 3, 3], "every", "HOLDS"),
        ([3, 3, 0], "every", "INCONCLUSIVE"),
        ([3, 3, -5], "every", "CONTRADICTED"),
        ([0, 0, 5], "any", "HOLDS"),
        ([-3, -3, -3], "any", "CONTRADICTED"),
        ([-3, -3, 0], "any", "INCONCLUSIVE"),
        ([3, 3, -1], "mean", "HOLDS"),
        ([-3, -3, 1], "mean", "CONTRADICTED"),
    ],
)
def test_many_cells(gaps, aggregate, expected):
    assert verdict(grid(gaps), "greater", cells=("bag_size",), aggregate=aggregate) == expected


def test_the_number_of_cells_guards_a_contradiction():
    # One-sided p of about 0.03 in one cell: enough alone, not among six.
    weak = grid([-0.67])
    assert verdict(weak, "greater", cells=("bag_size",)) == "CONTRADICTED"
    assert verdict(grid([-0.67, 3, 3, 3, 3, 3]), "greater", cells=("bag_size",)) == "INCONCLUSIVE"


def test_five_seeds_contradict_in_one_of_several_cells_and_say_what_they_suppose():
    rng = np.random.default_rng(0)
    found = [Sample(str(cell), pd.Series(rng.normal(mean, 0.3, 5))) for cell, mean in enumerate((3, 3, 3, -3))]
    v = judging.decide(found, claim("greater"))
    assert v.verdict == "CONTRADICTED" and v.why.endswith("normal theory, n = 5") and v.p == 0.5**5
    v = judging.decide(found[:3], claim("greater"))
    assert v.verdict == "HOLDS" and "normal theory" not in v.why


def test_of_several_cells_the_one_that_holds_least_is_told_beside_their_mean():
    v = judging.judge_claim(grid([3, 3, -3, 3]), claim("greater", cells=("bag_size",)))
    assert v.verdict == "CONTRADICTED" and v.estimate > 0 and v.weakest.startswith("bag_size=16: -2.9")
    for how in ("any", "mean"):
        assert not judging.judge_claim(grid([3, -3]), claim("greater", cells=("bag_size",), aggregate=how)).weakest


def not_run(*specs):
    return rows(*(run(method, [math.nan], bag_size=n) for method, n in specs), status="NOT RUN")


def test_planned_cells_that_lack_values_are_named_and_the_rest_is_judged():
    wanted = claim("greater", where={"bag_size": [1, 4, 8, 16, 32]}, cells=("bag_size",))
    v = judging.judge_claim(grid([3, 3, 3]), wanted)
    assert (v.verdict, v.hold, v.cells, v.missing) == ("HOLDS", 3, 3, ())
    table = pd.concat([grid([3, 3, 3]), not_run(("kl", 8), ("rot", 8), ("kl", 32))], ignore_index=True)
    v = judging.judge_claim(table, wanted, elsewhere=lambda claim: ["bag_size=1", "bag_size=32", "bag_size=64"])
    assert (v.verdict, v.cells, v.missing, v.unplanned) == ("HOLDS", 3, ("bag_size=8",), 2)
    assert planned_cells(not_run(("kl", 8), ("rot", 8), ("kl", 32)), wanted) == ["bag_size=8"]


def test_a_range_takes_the_cells_that_there_are():
    ranged = claim("greater", where={"bag_size": {"min": 4}}, cells=("bag_size",))
    assert judging.judge_claim(grid([3, 3, 3]), ranged).cells == 2


def test_a_failed_run_is_said_to_have_failed():
    failed = rows(run("kl", [math.nan], bag_size=64), run("rot", [math.nan], bag_size=64))
    table = pd.concat([grid([3, 3]), failed], ignore_index=True)
    v = judging.judge_claim(table, claim("greater", cells=("bag_size",)))
    assert (v.verdict, v.missing) == ("HOLDS", ("bag_size=64 (failed)",))


def test_a_side_that_fixes_a_cell_key_is_shared_by_its_cells():
    table = rows(
        *(run("kl", [70 + e for e in (0, 0.3, 0.1)], bag_size=n) for n in (8, 16)),
        run("kl", [72.0, 72.2, 72.1], bag_size=1),
    )
    v = judging.judge_claim(
        table,
        claim("greater", left={"bag_size": [8, 16]}, right={"bag_size": 1}, cells=("bag_size",), margin=-5),
    )
    assert (v.verdict, v.cells) == ("HOLDS", 2)
    assert v.estimate == pytest.approx(-1.9666667)


def test_several_records_for_one_seed_are_named_not_averaged():
    table = rows(*(run("rot", [80.0, 80.1, 80.2], alpha=a) for a in (0.1, 0.9)), KL)
    v = judging.judge_claim(table, claim("greater"))
    assert v.verdict == "INCONCLUSIVE"
    assert "differ in alpha" in v.why
    assert verdict(table, "greater", reduce="mean") == "HOLDS"


def test_reduce_drops_a_seed_that_lacks_a_record():
    table = rows(run("rot", [80.0, 80.1, 80.2], alpha=0.1), run("rot", [82.0, 82.1], alpha=0.9), KL)
    assert judging.judge_claim(table, claim("greater", reduce="mean")).seeds == (2, 2)


def test_the_best_rival_is_of_all_that_are_planned():
    for waits, seeds in (([79.0, 79.2, math.nan], (2, 2)), ([math.nan] * 3, (0, 0))):
        table = rows(run("rot", [80.0, 80.1, 80.2], alpha=0.1), run("rot", waits, alpha=0.9), KL)
        assert judging.judge_claim(table.assign(status="NOT RUN"), claim("greater", reduce="max")).seeds == seeds


def test_a_side_may_be_a_difference():
    gains = [
        run("kl", [70.0, 70.2, 70.1], bag_size=64, plot=True),
        run("kl", [60.0, 60.1, 60.3], bag_size=64, plot=False),
        run("kl", [90.0, 90.1, 90.2], bag_size=16, plot=True),
        run("kl", [88.0, 88.2, 88.1], bag_size=16, plot=False),
    ]
    side = {"plot": True, "minus": {"plot": False}}
    options = {"left": {"bag_size": 64, **side}, "right": {"bag_size": 16, **side}}
    v = judging.judge_claim(rows(*gains), claim("greater", **options))
    assert v.verdict == "HOLDS"
    assert v.estimate == pytest.approx(8.0, abs=0.1)


def test_a_side_may_read_another_metric():
    entropy = rows(run("kl", [0.79, 0.80, 0.79]), metric="entropy")
    proportions = rows(run("kl", [0.816] * 3), metric="proportions_entropy")
    options = {
        "left": {"metric": "entropy"},
        "right": {"metric": "proportions_entropy"},
        "at_least": 0.9,
        "at_most": 1.1,
    }
    assert verdict(pd.concat([entropy, proportions]), "ratio", **options) == "HOLDS"


def test_deterministic_is_judged_from_one_record():
    exact = rows(run("equations", [3e-9]), metric="error")
    options = {"metric": "error", "threshold": 1e-6}
    assert verdict(exact, "at_most", deterministic=True, **options) == "HOLDS"
    assert verdict(exact, "at_most", **options) == "INCONCLUSIVE"
    assert verdict(exact.assign(value=3e-3), "at_most", deterministic=True, **options) == "CONTRADICTED"
    assert verdict(exact.drop(columns="seed"), "at_most", deterministic=True, **options) == "HOLDS"


def test_a_share_of_the_cells():
    options = {"cells": ("bag_size",), "aggregate": "share", "share": 0.6}
    assert verdict(grid([3, 3, 3, 3, -5]), "greater", **options) == "HOLDS"
    assert verdict(grid([3, 3, -5, -5, -5]), "greater", **options) == "CONTRADICTED"
    assert verdict(grid([3, 3, 0, 0, -5]), "greater", **options) == "INCONCLUSIVE"


def test_spreads_over_seeds_are_compared():
    wide, narrow = run("kl", [70.0, 80.0, 75.0, 85.0, 65.0]), run("rot", [77.0, 77.5, 76.6, 77.1, 77.3])
    sides = {"left": {"method": "kl", "over": "seeds"}, "right": {"method": "rot", "over": "seeds"}}
    v = judging.judge_claim(rows(wide, narrow), claim("ratio", at_least=1, **sides))
    assert v.verdict == "HOLDS" and v.high > v.estimate
    assert v.estimate == pytest.approx(23, rel=0.3)
    assert verdict(rows(wide, narrow), "ratio", at_most=1, **sides) == "CONTRADICTED"
    assert verdict(rows(wide, KL), "ratio", at_least=1, **sides) == "INCONCLUSIVE"


def test_requires_declares_a_claim_not_judgeable():
    needs = {"where": {"method": "kl"}, "threshold": 80, "requires": {"network": "resnet18"}}
    v = judging.judge_claim(rows(KL, network="patch_features"), claim("at_least", **needs))
    assert v.verdict == "NOT COMPARABLE"
    assert v.why == "needs network resnet18; these records have network patch_features"
    assert verdict(rows(KL, network="resnet18"), "at_least", **needs) == "HOLDS"
    assert verdict(rows(ROT, network="patch_features"), "at_least", **needs) == "NOT RUN"


def curve(method, values, dataset):
    return [
        run(method, [v + e for e in (0.0, 0.3, -0.2)], bag_size=4**i, dataset=dataset) for i, v in enumerate(values)
    ]


def test_monotone():
    falling = {"along": "bag_size", "direction": "decreasing"}
    assert verdict(rows(*curve("kl", [90, 80, 60, 20], "a")), "monotone", **falling) == "HOLDS"
    assert verdict(rows(*curve("kl", [90, 80, 60, 70], "a")), "monotone", **falling) == "CONTRADICTED"
    rising = {"along": "bag_size", "direction": "increasing"}
    assert verdict(rows(*curve("kl", [20, 30, 40, 50], "a")), "monotone", **rising) == "HOLDS"
    assert verdict(rows(*curve("kl", [90], "a")), "monotone", **falling) == "NOT RUN"


def test_same_shape_by_distance_of_scaled_curves():
    sides = {"left": {"dataset": "a", "floor": 10}, "right": {"dataset": "b", "floor": 1}}
    options = {"along": "bag_size", "margin": 0.15, **sides}
    one, alike, other = [90, 80, 50, 15], [71, 62, 36, 5], [71, 30, 10, 2]
    table = rows(*curve("kl", one, "a"), *curve("kl", alike, "b"))
    v = judging.judge_claim(table, claim("same_shape", **options))
    assert (v.verdict, v.cells) == ("HOLDS", 3)
    assert verdict(rows(*curve("kl", one, "a"), *curve("kl", other, "b")), "same_shape", **options) == "CONTRADICTED"


def test_same_shape_by_kendall_needs_points_enough_to_tell_from_chance():
    options = {"along": "bag_size", "at_least": 0.8, "left": {"dataset": "a"}, "right": {"dataset": "b"}}
    one, other = [90, 88, 80, 70, 50, 30, 15], [70, 69, 60, 50, 40, 20, 5]
    long = rows(*curve("kl", one, "a"), *curve("kl", other, "b"))
    v = judging.judge_claim(long, claim("same_shape", **options))
    assert v.verdict == "HOLDS" and 0.8 < v.low < v.estimate == v.high == 1  # an interval ends where tau does
    short = long[long["bag_size"] < 64]
    v = judging.judge_claim(short, claim("same_shape", **options))
    assert v.verdict == "INCONCLUSIVE"
    assert "too few points" in v.why


SPLITS = [f"split {i // 3}" for i in range(9)]


def test_what_seeds_share_makes_them_one_value():
    """ECE's nine seeds in three splits: a difference that the splits make is one of three values, not of nine."""
    shared = [-0.42, -0.40, -0.41, -0.27, -0.26, -0.28, -0.02, 0.0, -0.01]
    table = rows(run("kl", [0.5 + x for x in shared]), run("rot", [0.5] * 9))
    assert verdict(table, "greater", margin=-0.01) == "CONTRADICTED"
    v = judging.judge_claim(table.assign(cluster=SPLITS * 2), claim("greater", margin=-0.01))
    assert (v.verdict, v.seeds, v.clusters) == ("INCONCLUSIVE", (9, 9), (3, 3))
    assert v.estimate == pytest.approx(sum(shared) / 9)
    assert v.low < -0.5 and v.high > 0.1
    assert "more clusters would decide" in v.why


def test_few_values_are_judged_by_normal_theory_and_said_to_be():
    v = judging.judge_claim(rows(KL, ROT), claim("greater"))
    assert (v.verdict, v.why) == ("HOLDS", "the difference above 0 in 1 cell; normal theory, n = 3")
    assert v.estimate == pytest.approx(2.0)
    assert v.low == pytest.approx(1.708, abs=0.001)
    assert v.p == 0.125  # what three values of one sign say without an assumption
    five = rows(run("kl", [82.0, 83.1, 81.8, 82.5, 82.2]), run("rot", [80.1, 80.9, 79.9, 80.2, 80.4]))
    v = judging.judge_claim(five, claim("greater"))
    assert (v.verdict, v.p) == ("HOLDS", 0.5**5)
    assert "normal theory" not in v.why


def test_outside_a_region_with_two_ends_p_is_of_the_nearer_one():
    """It was doubled, as if the other end, 26 standard errors away, were as near: .084 for .042."""
    table = rows(run("kl", [82.0, 83.2, 81.9, 83.1, 82.3]), run("rot", [81.0, 82.0, 81.0, 82.0, 81.0]))
    v = judging.judge_claim(table, claim("within", margin=0.937))
    assert v.verdict == "CONTRADICTED"
    assert v.p == pytest.approx(0.0415, abs=0.0005)


def test_the_verdict_says_where_it_was_made():
    there = Setting("on a stand-in", ("a stand-in: frozen features",))
    v = judging.judge_claim(rows(KL, ROT), claim("greater"), lambda rows: there)
    assert (v.verdict, v.word, v.comparable) == ("HOLDS", "HOLDS on a stand-in", False)
    assert v.caveats == there.reasons
    v = judging.judge_claim(rows(KL, SAME), claim("greater"), lambda rows: there)
    assert v.word == "INCONCLUSIVE"
    exact = rows(run("equations", [3e-9]), metric="error")
    identity = claim("at_most", metric="error", threshold=1e-6, deterministic=True)
    assert judging.judge_claim(exact, identity, lambda rows: there).word == "HOLDS"


def test_verdicts_repeat_exactly():
    assert judging.judge_claim(rows(KL, SAME), claim("greater")) == judging.judge_claim(
        rows(KL, SAME), claim("greater")
    )


def test_selectors():
    table = rows(run("kl", [1.0], bag_size=64, plot=True), run("rot", [1.0], bag_size=4.0))
    assert matches(table, {"bag_size": {"min": 4, "max": 16}}).tolist() == [False, True]
    assert matches(table, {"method": ["kl", "avgkl"], "plot": True}).tolist() == [True, False]
    assert matches(table, {"plot": None}).tolist() == [False, True]
    assert not matches(table, {"colour": "red"}).any()
