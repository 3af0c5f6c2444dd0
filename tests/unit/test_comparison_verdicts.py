"""Every verdict on a cell, pinned on constructed numbers."""

import math

import pytest
from scipy import stats as scipy_stats

from shared.comparison import stats, verdicts
from shared.comparison.reported import Reported


def cell(value=80.0, spread=0.5, spread_kind="std", n=5, margin=1.0):
    return Reported("t", "r", "c", "accuracy", value, spread, spread_kind, n, margin, "Table 1")


def bound(value=90.0, spread_kind="lower_bound", margin=1.0):
    return cell(value, None, spread_kind, None, margin)


@pytest.mark.parametrize(
    ("values", "reported", "expected"),
    [
        ([80.0, 80.1, 79.9, 80.0, 80.1], cell(), "REPRODUCED"),
        ([84.0, 84.3, 83.8], cell(), "NOT REPRODUCED"),
        ([76.0, 76.3, 75.8], cell(), "NOT REPRODUCED"),
        ([80.9, 80.8, 80.95, 80.85, 80.9], cell(), "SMALL DIFFERENCE"),
        ([79.0, 81.0, 82.0], cell(), "INCONCLUSIVE"),
        ([80.0], cell(), "INCONCLUSIVE"),
        ([80.0, 80.0, 80.0], cell(n=None), "NOT COMPARABLE"),
        ([80.0, 80.0, 80.0], cell(spread=None, spread_kind="none"), "NOT COMPARABLE"),
        ([], cell(), "NOT RUN"),
        ([math.nan, math.nan], cell(), "FAILED"),
        ([91.0, 91.2, 91.1], bound(), "REPRODUCED"),
        ([89.5, 89.6, 89.55], bound(), "REPRODUCED"),
        ([85.0, 85.2, 84.9], bound(), "NOT REPRODUCED"),
        ([89.5, 89.5, 89.6], bound(margin=0.0), "NOT REPRODUCED"),
        ([85.0, 91.0, 90.0], bound(), "INCONCLUSIVE"),
        ([85.0], bound(), "INCONCLUSIVE"),
        ([9.0, 9.2, 9.1], bound(10.0, "upper_bound"), "REPRODUCED"),
        ([12.0, 12.2, 12.1], bound(10.0, "upper_bound"), "NOT REPRODUCED"),
    ],
)
def test_verdict(values, reported, expected):
    assert verdicts.judge_cell(values, reported).verdict == expected


def test_small_difference_from_a_bound():
    reported = bound(margin=0.5)
    assert verdicts.judge_cell([89.62, 89.60, 89.61, 89.59], reported).verdict == "REPRODUCED"
    assert verdicts.judge_cell([89.45, 89.55, 89.70, 89.40], reported).verdict == "SMALL DIFFERENCE"


def test_welch_interval_is_scipy_s():
    ours = [80.2, 81.0, 80.4, 79.9]
    v = verdicts.judge_cell(ours, cell(spread=0.5, n=5))
    theirs = [
        80 + 0.5 * x for x in (-1.2649110640673518, -0.6324555320336759, 0, 0.6324555320336759, 1.2649110640673518)
    ]
    expected = scipy_stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert (v.low, v.high) == pytest.approx((expected.low, expected.high))


def test_margin_itself_is_not_inside():
    flat = cell(spread=0.0)
    assert verdicts.judge_cell([81.0] * 3, flat).verdict == "SMALL DIFFERENCE"
    assert verdicts.judge_cell([80.999] * 3, flat).verdict == "REPRODUCED"
    assert verdicts.judge_cell([81.001] * 3, flat).verdict == "NOT REPRODUCED"


def test_zero_variance_on_one_side_leaves_the_other_s_degrees_of_freedom():
    assert stats.welch(0.0, 3, 0.5, 5)[1] == pytest.approx(4)
    assert stats.welch(0.5, 3, 0.0, 5)[1] == pytest.approx(2)
    assert stats.welch(0.0, 3, 0.0, 5) == (0.0, math.inf)


def test_spreads_become_standard_deviations():
    assert cell(spread=0.5, n=4).sd == 0.5
    assert cell(spread=0.5, spread_kind="sem", n=4).sd == pytest.approx(1.0)
    half = scipy_stats.t.ppf(0.975, 3) * 0.5
    assert cell(spread=half, spread_kind="ci95", n=4).sd == pytest.approx(1.0)
    assert cell(n=None).sd is None


def test_reasons_are_in_words():
    v = verdicts.judge_cell([80.0, 80.2], cell(spread=None, spread_kind="none", n=None), ["tier quick"])
    assert v.why == "tier quick; the paper's n and spread are unknown"
    assert v.difference == pytest.approx(0.1)
    assert verdicts.judge_cell([80.0, 80.2], cell(spread=None, spread_kind="none", n=1)).why.startswith(
        "the paper reports one"
    )
    assert "2 runs failed" in verdicts.judge_cell([math.nan] * 2, cell()).why
    assert verdicts.judge_cell([80.0, 80.1, math.nan], cell(spread=0.1)).why.endswith("1 seed failed")
    assert verdicts.judge_cell([80.0, math.nan], cell()).n == 1


def test_obstacles_hide_no_missing_run():
    assert verdicts.judge_cell([], cell(), ["tier quick"]).verdict == "NOT RUN"
    assert verdicts.judge_cell([math.nan], cell(), ["tier quick"]).verdict == "FAILED"


def test_more_seeds_is_the_stated_formula():
    difference, margin, sd, n = 0.2, 1.0, 0.8, 3
    more = stats.more_seeds(difference, margin, sd, n, 0.5, 10)

    def needed(total):
        se, df = stats.welch(sd, total, 0.5, 10)
        return (scipy_stats.t.ppf(0.95, df) + scipy_stats.t.ppf(0.90, df)) * se

    assert needed(n + more) <= margin - difference < needed(n + more - 1)


def test_more_seeds_when_ours_cannot_help():
    assert stats.more_seeds(0.5, 1.0, 0.5, 3, 2.0, 3) is None
    assert "no number of our seeds" in verdicts.judge_cell([80.0, 80.5, 81.0], cell(spread=2.0, n=3)).why


def test_one_seed_says_how_many():
    v = verdicts.judge_cell([80.1], cell(spread=0.3))
    assert v.more and f"about {v.more} more seed" in v.why
    assert math.isnan(v.sd)
    assert verdicts.judge_cell([90.5], bound()).more == 1
