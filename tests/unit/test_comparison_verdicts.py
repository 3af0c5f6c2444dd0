"""Every verdict on a cell, pinned on constructed numbers; and the tests behind all verdicts."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from shared.comparison import judging, stats, verdicts
from shared.comparison.claims import Claim
from shared.comparison.convergence import Move
from shared.comparison.evidence import Sample
from shared.comparison.reported import Reported
from shared.comparison.verdicts import DECIDED, judge_cell


def cell(value=80.0, spread=0.5, spread_kind="std", n=5, margin=1.0):
    return Reported("t", "r", "c", "accuracy", value, spread, spread_kind, n, margin, "Table 1")


def bound(value=90.0, spread_kind="lower_bound", margin=1.0):
    return cell(value, None, spread_kind, None, margin)


def bare(value=80.0, n=None, margin=1.0):
    return cell(value, None, "none", n, margin)


@pytest.mark.parametrize(
    ("values", "reported", "expected"),
    [
        ([80.0, 80.1, 79.9, 80.0, 80.1], cell(), "REPRODUCED"),
        ([84.0, 84.3, 83.8], cell(), "NOT REPRODUCED"),
        ([76.0, 76.3, 75.8], cell(), "NOT REPRODUCED"),
        ([80.9, 80.8, 80.95, 80.85, 80.9], cell(), "SMALL DIFFERENCE"),
        ([81.2, 81.3, 81.15, 81.25, 81.2], cell(), "INCONCLUSIVE"),  # not 0, and not shown to be beyond the margin
        ([79.0, 81.0, 82.0], cell(), "INCONCLUSIVE"),
        ([80.0], cell(), "INCONCLUSIVE"),
        ([80.0, 80.1, 79.9], cell(n=None), "CONSISTENT"),
        ([80.0, 80.1, 79.9], bare(), "CONSISTENT"),
        ([80.0, 80.1, 79.9], bare(n=1), "CONSISTENT"),
        ([80.0, 80.1, 79.9], bare(n=10), "CONSISTENT"),
        ([82.0, 82.1, 81.9], bare(), "INCONSISTENT"),
        ([78.0, 78.1, 77.9], bare(), "INCONSISTENT"),
        ([80.0], bare(), "INCONCLUSIVE"),
        ([80.0, 80.0, 80.0], bare(), "INCONCLUSIVE"),
        ([80.0, 80.0, 80.0], cell(), "INCONCLUSIVE"),
        ([80.1, 80.0, 80.2], cell(spread=0.0), "REPRODUCED"),
        ([], cell(), "NOT RUN"),
        ([math.nan, math.nan], cell(), "FAILED"),
        ([91.0, 91.2, 91.1], bound(), "REPRODUCED"),
        ([89.5, 89.6, 89.55], bound(), "REPRODUCED"),
        ([85.0, 85.2, 84.9], bound(), "NOT REPRODUCED"),
        ([89.5, 89.5, 89.6], bound(margin=0.0), "NOT REPRODUCED"),
        ([89.1, 88.9, 89.2, 89.0], bound(), "SMALL DIFFERENCE"),
        ([88.5, 88.9, 88.1], bound(), "INCONCLUSIVE"),  # the point lies beyond the margin, its interval does not
        ([91.0, 91.0, 91.0], bound(), "INCONCLUSIVE"),
        ([85.0, 91.0, 90.0], bound(), "INCONCLUSIVE"),
        ([85.0], bound(), "INCONCLUSIVE"),
        ([9.0, 9.2, 9.1], bound(10.0, "upper_bound"), "REPRODUCED"),
        ([12.0, 12.2, 12.1], bound(10.0, "upper_bound"), "NOT REPRODUCED"),
    ],
)
def test_verdict(values, reported, expected):
    assert judge_cell(values, reported).verdict == expected


def test_intervals_are_scipy_s():
    ours = [80.2, 81.0, 80.4, 79.9]
    v = judge_cell(ours, cell(spread=0.5, n=5))
    theirs = 80 + 0.5 * np.array([-1.2649110640673518, -0.6324555320336759, 0, 0.6324555320336759, 1.2649110640673518])
    expected = scipy_stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert (v.low, v.high) == pytest.approx((expected.low, expected.high))
    v, known = judge_cell(ours, bound(80.0)), scipy_stats.ttest_1samp(ours, 80).confidence_interval(0.95)
    assert (v.low + 80, v.high + 80) == pytest.approx((known.low, known.high))


def test_prediction_interval_is_of_one_run_with_our_spread():
    ours = [80.2, 81.0, 80.4]
    mean, half = np.mean(ours), scipy_stats.t.ppf(0.975, 2) * np.std(ours, ddof=1) * math.sqrt(4 / 3)
    v = judge_cell(ours, bare(80.0))
    assert (v.low, v.high) == pytest.approx((mean - 80 - half, mean - 80 + half))
    for at, expected in ((0.999, "CONSISTENT"), (1.001, "INCONSISTENT")):
        for side in (1, -1):
            assert judge_cell(ours, bare(mean + side * (half * at + at))).verdict == expected
    assert "our 95 % prediction interval widened by the margin of 1; conditional on one run and our spread" in v.why


@pytest.mark.parametrize(
    ("reported", "unknown"),
    [
        (bare(), "the paper gives no n and no spread"),
        (bare(n=10), "the paper gives no spread"),
        (cell(n=None), "the paper gives no n"),
        (bare(n=1), "the paper reports one run"),
        (cell(), ""),
        (bound(), ""),
    ],
)
def test_what_the_paper_does_not_say_is_said(reported, unknown):
    assert reported.unknown == unknown
    assert f"since {unknown}; normal theory" in judge_cell([80.0, 80.2], reported).why or not unknown


def test_the_difference_may_be_the_margin_to_rounding():
    ours = np.array([64.1, 64.2, 64.3, 64.1, 64.3])
    v = judge_cell(ours, cell(63.2, 0.0))
    assert v.difference > 1 and v.difference == pytest.approx(1, abs=1e-12)
    assert v.verdict == "SMALL DIFFERENCE"
    assert judge_cell(ours + 1e-6, cell(63.2, 0.0)).verdict == "INCONCLUSIVE"


def test_spread_of_one_side_leaves_the_other_s_degrees_of_freedom():
    assert stats.welch(0.0, 3, 0.5, 5)[1] == pytest.approx(4)
    assert stats.welch(0.5, 3, 0.0, 5)[1] == pytest.approx(2)
    assert stats.welch(0.0, 3, 0.0, 5) == (0.0, math.inf)
    assert stats.welch(0.3, 2, 0.3, math.inf)[1] == pytest.approx(1)


@pytest.mark.parametrize("reported", [cell(), cell(spread=0.0), bare(), bound()])
def test_nothing_that_does_not_vary_is_tested(reported):
    v = judge_cell([80.0, 80.0 + 1e-13, 80.0], reported)
    assert v.verdict == "INCONCLUSIVE" and v.why.startswith("nothing varies: our 3 seeds agree to rounding")
    assert math.isnan(v.low) and math.isnan(v.high) and v.more is None


def test_seeds_of_one_split_are_one_value():
    values = [80.3, 80.4, 80.5, 79.9, 80.0, 80.1, 80.8, 80.7, 80.9]
    splits = [f"split {i // 3}" for i in range(9)]
    v, alone = judge_cell(values, cell(), clusters=splits), judge_cell(values, cell())
    assert (v.n, v.seeds, alone.n, alone.seeds) == (3, 9, 9, 9)
    assert v.mean == pytest.approx(alone.mean) and v.sd == pytest.approx(0.4)
    assert (v.verdict, alone.verdict) == ("INCONCLUSIVE", "REPRODUCED")
    assert v.why.endswith("no number of our clusters up to 1000 would decide at these spreads")
    assert judge_cell(values, cell(), clusters=[""] * 9) == alone
    assert judge_cell(values[:3], cell(), clusters=splits[:3]).why.startswith("one cluster has no spread")
    lost = judge_cell([*values[:8], math.nan], cell(), clusters=splits)
    assert (lost.n, lost.seeds) == (3, 8) and "; 1 seed failed" in lost.why


# DICE of ECE less that of CE with all annotations of TNBC, and less that without sampling: nine seeds in three splits.
ALL = [-0.1506, -0.2822, -0.272, -0.0134, -0.2707, -0.2685, 0.0007, -0.285, -0.187]
SAMPLING = [0.0157, -0.1788, -0.0772, 0.0514, -0.0668, -0.1047, 0.0601, -0.1091, -0.0524]


@pytest.mark.parametrize(
    ("values", "kind", "before", "now"),
    [(ALL, "within", (-0.263, -0.121), (-0.395, 0.011)), (SAMPLING, "greater", (-0.101, -0.002), (-0.192, 0.09))],
)
def test_two_published_contradictions_were_of_seeds_that_share_a_split(values, kind, before, now):
    claim = Claim("x", "", "", kind, left={"m": 1}, right={"m": 2}, margin=0.05 if kind == "within" else None)
    x, splits = pd.Series(values), pd.Series([f"split {seed % 3}" for seed in range(9)])
    apart, together = (judging.decide([Sample("all", x, clusters=c)], claim) for c in (None, splits))
    assert (apart.verdict, together.verdict) == ("CONTRADICTED", "INCONCLUSIVE")
    assert (apart.low, apart.high) == pytest.approx(before, abs=0.001)
    assert (together.low, together.high) == pytest.approx(now, abs=0.001)


def test_nothing_against_nothing_is_no_contradiction():
    """ECE - CE at a threshold of one half: 0 in every run, and CONTRADICTED with p = 0."""
    greater = Claim("x", "", "", "greater", left={"m": 1}, right={"m": 2}, margin=0.01)
    v = judging.decide([Sample("all", pd.Series([0.0] * 3))], greater)
    assert v.verdict == "INCONCLUSIVE" and not v.p < 1


def test_below_five_a_decision_is_normal_theory():
    assert judge_cell([84.0, 84.3, 83.8], cell()).why.endswith("; normal theory, n = 3")
    assert judge_cell([84.0, 84.3, 83.8, math.nan], cell()).why.endswith("1 seed failed; normal theory, n = 3")
    assert "normal theory" not in judge_cell([84.0, 84.3, 83.8, 84.1, 84.0], cell()).why
    assert "normal theory" not in judge_cell([79.0, 81.0, 82.0], cell()).why


def move(gain, name="accuracy"):
    return Move("kl", name, gain, epochs=3, tolerance=1.0)


@pytest.mark.parametrize(
    ("values", "reported"),
    [
        ([80.0, 80.1, 79.9, 80.0, 80.1], cell()),
        ([84.0, 84.3, 83.8], cell()),
        ([80.0, 80.1, 79.9], bare()),
        ([82.0, 82.1, 81.9], bare()),
        ([80.9, 80.8, 80.95, 80.85, 80.9], cell()),
    ],
)
def test_what_still_moves_decides_nothing_and_keeps_its_numbers(values, reported):
    back = move(-1.5 if values[0] > 81 else 1.5)
    v, still = judge_cell(values, reported), judge_cell(values, reported, moving=[back])
    assert (still.verdict, still.why) == ("INCONCLUSIVE", f"not converged: {back}")
    assert (still.n, still.difference, still.low, still.high) == (v.n, v.difference, v.low, v.high)


def test_moving_takes_nothing_from_what_was_undecided():
    v = judge_cell([79.0, 81.0, 82.0], cell(), moving=[move(1.5)])
    assert v.why.startswith("95 % interval")
    assert judge_cell([80.0, 80.1], cell(), ["a stand-in"], moving=[move(1.5)]).verdict == "NOT COMPARABLE"


@pytest.mark.parametrize(
    ("values", "reported", "away"),
    [
        ([95.0, 95.2, 94.9], bound(), +1),
        ([85.0, 85.2, 84.9], bound(), -1),
        ([9.0, 9.2, 9.1], bound(10.0, "upper_bound"), -1),
        ([12.0, 12.2, 12.1], bound(10.0, "upper_bound"), +1),
        ([84.0, 84.3, 83.8], cell(), +1),
        ([76.0, 76.3, 75.8], cell(), -1),
        ([78.0, 78.1, 77.9], bare(), -1),
    ],
)
def test_what_moves_away_only_strengthens(values, reported, away):
    """More than 90 reported, 95 here and rising, was INCONCLUSIVE; an earlier stage may still change either way."""
    alone = judge_cell(values, reported)
    assert alone.verdict in DECIDED and judge_cell(values, reported, moving=[move(1.5 * away)]) == alone
    for other in (move(-1.5 * away), move(1.5 * away, "first accuracy")):
        assert judge_cell(values, reported, moving=[other]).why == f"not converged: {other}"


def test_spreads_become_standard_deviations():
    assert cell(spread=0.5, n=4).sd == 0.5
    assert cell(spread=0.5, spread_kind="sem", n=4).sd == pytest.approx(1.0)
    half = scipy_stats.t.ppf(0.975, 3) * 0.5
    assert cell(spread=half, spread_kind="ci95", n=4).sd == pytest.approx(1.0)
    assert cell(n=None).sd is None


def test_reasons_are_in_words():
    v = judge_cell([80.0, 80.2], bare(), ["a stand-in: features", "30 of 400 epochs"])
    assert (v.verdict, v.why) == ("NOT COMPARABLE", "a stand-in: features; 30 of 400 epochs")
    assert v.difference == pytest.approx(0.1) and v.low < 0.1 < v.high
    assert "2 runs failed" in judge_cell([math.nan] * 2, cell()).why
    assert judge_cell([80.0, math.nan], cell()).n == 1


def test_obstacles_hide_no_missing_run():
    assert judge_cell([], cell(), ["tier quick"]).verdict == "NOT RUN"
    assert judge_cell([math.nan], cell(), ["tier quick"]).verdict == "FAILED"


@pytest.mark.parametrize(("difference", "level", "power"), [(0.2, 0.95, 0.90), (1.6, 0.95, 0.80), (0.9, 0.975, 0.80)])
def test_more_seeds_is_the_stated_formula(difference, level, power):
    sd, n = 0.8, 3
    more = stats.more_seeds(difference, 1.0, sd, n, 0.2, 10)
    target = {0.2: 0.8, 1.6: 0.6, 0.9: 0.9}[difference]

    def needed(total):
        se, df = stats.welch(sd, total, 0.2, 10)
        return (scipy_stats.t.ppf(level, df) + scipy_stats.t.ppf(power, df)) * se

    assert needed(n + more) <= target < needed(n + more - 1)


def test_more_seeds_when_ours_cannot_help():
    assert stats.more_seeds(0.5, 1.0, 0.5, 3, 2.0, 3) is None
    assert stats.more_seeds(1.0, 1.0, 0.5, 3) == stats.more_seeds(-1.0, 1.0, 0.5, 3) > 0  # a small difference
    assert "no number of our seeds" in judge_cell([80.0, 80.5, 81.0], cell(spread=2.0, n=3)).why


def test_one_seed_says_how_many():
    v = judge_cell([80.1], cell(spread=0.3))
    assert v.more and f"about {v.more} more seed" in v.why
    assert math.isnan(v.sd) and math.isnan(v.low)
    assert judge_cell([90.5], bound()).more == judge_cell([90.5], bare()).more == 1


X = [1.0, 1.2, 0.9, 1.3, 1.1]


def test_p_is_the_larger_of_student_s_and_the_bootstrap_s():
    assert stats.p_above(X[:4], 0.8) == pytest.approx(scipy_stats.ttest_1samp(X[:4], 0.8, alternative="greater").pvalue)
    assert stats.p_above(X, 0.0) == 1 / (stats.RESAMPLES + 1)
    assert stats.p_below(X, 1.2) == pytest.approx(scipy_stats.ttest_1samp(X, 1.2, alternative="less").pvalue)
    tail = [0.0] * 8 + [9.0, 10.0]  # a resample without the two large ones has a mean of 0: .8 ** 10
    student = scipy_stats.ttest_1samp(tail, 0.0, alternative="greater").pvalue
    assert stats.p_above(tail, 0.0) == pytest.approx(0.8**10, abs=0.02) and stats.p_above(tail, 0.0) > student
    assert stats.p_above(tail, 0.0, closed=True) == pytest.approx(student)


@pytest.mark.parametrize("x", [[], [1.0], [1.0, 1.0], [1.0] * 20, [0.1 + 0.2, 0.3, 0.3]])
def test_p_of_what_does_not_vary_is_1(x):
    assert stats.p_above(x, 0.0) == stats.p_below(x, 2.0, closed=True) == stats.p_beyond(x, -1.0, 0.0) == 1
    assert not stats.varies(x) and np.isnan(stats.paired_interval(x)).all()


def test_a_floor_stands_in_where_differences_agree_by_rounding():
    assert stats.p_above([0.5] * 3, 0.0, floor=0.5) == pytest.approx(scipy_stats.t.sf(math.sqrt(3), 2))
    assert not np.isnan(stats.paired_interval([0.5] * 3, floor=0.5)).any()


def test_infinite_bounds_are_always_met():
    assert stats.p_above(X, -math.inf) == stats.p_below(X, math.inf) == 0
    assert stats.p_above(X, math.inf) == stats.p_beyond(X, -math.inf, math.inf) == 1


def test_p_beyond_lies_between_one_and_two_sided():
    one = stats.p_above(X[:4], 0.9)
    assert stats.p_beyond(X[:4], 0.9, 0.9) == pytest.approx(scipy_stats.ttest_1samp(X[:4], 0.9).pvalue)
    assert one < stats.p_beyond(X[:4], 0.8, 0.9) < 2 * one
    assert stats.p_beyond(X[:4], -50, 0.9) == pytest.approx(one, rel=1e-3)
    assert stats.p_beyond(X, -math.inf, 0.9) == stats.p_above(X, 0.9)
    assert stats.p_beyond(X, 1.2, math.inf) == stats.p_below(X, 1.2)
    assert stats.p_beyond(-np.array(X), -0.9, -0.8) == pytest.approx(stats.p_beyond(X, 0.8, 0.9))
    assert stats.p_beyond(X, 1.0, 1.2) == pytest.approx(1.0, abs=0.2)


def test_printed_p_is_never_below_what_n_values_say():
    assert stats.printed(0.001, 3) == 0.125 and stats.printed(0.2, 3) == 0.2 and stats.printed(0.0, 10) == 0.5**10


def test_benjamini_hochberg():
    p = np.array([0.9, 0.02, np.nan, 0.03, 0.001, 0.039])  # the fourth of five passes, and so all before
    expected = scipy_stats.false_discovery_control(p[~np.isnan(p)]) <= 0.05
    assert stats.benjamini_hochberg(p)[~np.isnan(p)].tolist() == expected.tolist() == [False, True, True, True, True]
    assert not stats.benjamini_hochberg(p)[2]
    assert stats.benjamini_hochberg([]).tolist() == []
    assert stats.benjamini_hochberg([0.2, math.nan]).tolist() == [False, False]


def test_cluster_means():
    x = pd.Series([1.0, 2.0, 3.0, 4.0], index=[3, 0, 1, 2])
    found = stats.cluster_means(x, {3: "split 1", 0: "", 1: "split 1", 7: "split 9"})
    assert found.to_dict() == {"split 1": 2.0, 0: 2.0, 2: 4.0}
    assert stats.cluster_means(x, None) is x
    assert stats.cluster_means(x, pd.Series("", index=x.index)).equals(x)
    assert len(stats.cluster_means(x[:0], {})) == 0


def test_every_verdict_is_listed():
    assert set(verdicts.DECIDED) < set(verdicts.VERDICTS)
