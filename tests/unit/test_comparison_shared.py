"""What seeds share on any side, what a number over cells is of, and spreads of two sides: none depends on an order."""

import math

import numpy as np
import pandas as pd
import pytest

from shared.comparison import judging, stats
from shared.comparison.claims import Claim

SIDES = {"left": {"method": "a"}, "right": {"method": "b"}}
NOISE = [0.0, 0.1, -0.1, 0.05, -0.05, 0.02]


def rows(method, values, clusters=None, **spec):
    """One row per seed, {seed: value} or one value for each of seeds 0, 1, ..."""
    values = values if isinstance(values, dict) else dict(enumerate(values))
    table = pd.DataFrame({"seed": list(values), "value": list(values.values())})
    name = "/".join(map(str, (method, *spec.values())))
    about = {"method": method, "metric": "accuracy", "selection": "last", "cluster": clusters or ""}
    return table.assign(id=[f"{name}/{seed}" for seed in values], **about, **spec)


def judged(tables, kind="greater", **options):
    claim = Claim("x", "", "", kind, **{**({} if kind.startswith("at_") else SIDES), **options})
    return judging.judge_claim(pd.concat(tables, ignore_index=True), claim)


PAIRS, HALVES = ["p", "p", "q", "q", "r", "r"], ["u", "u", "u", "v", "v", "v"]


@pytest.mark.parametrize(
    ("left", "right", "n"),
    [
        (None, None, 6),
        (HALVES, None, 2),
        (None, HALVES, 2),
        (PAIRS, PAIRS, 3),
        (PAIRS, HALVES, 1),  # 0-1, 2-3 and 4-5 hang together by 0-1-2 and 3-4-5
        (["p", "p", "", "", "", ""], ["", "", "", "", "q", "q"], 4),
        (["p", "p", "", "", "", ""], ["", "q", "q", "", "", ""], 4),
    ],
)
def test_values_that_share_something_on_either_side_are_one(left, right, n):
    first, second = ([50 + e for e in NOISE], [40 - 2 * e for e in NOISE])
    one = judged([rows("a", first, left), rows("b", second, right)])
    other = judged([rows("b", second, left), rows("a", first, right)])
    assert one.clusters == other.clusters == (n, n) and one.seeds == (6, 6)


def test_what_is_joined_depends_on_no_order():
    groupings = [pd.Series(PAIRS), pd.Series(["", "", "x", "", "x", ""]), pd.Series([None] * 6, dtype=object)]
    found = [stats.joined(range(6), *order).to_dict() for order in (groupings, groupings[::-1])]
    assert found[0] == found[1] == {0: "p", 1: "p", 2: "q", 3: "q", 4: "q", 5: "q"}
    assert stats.joined([0, 1, 4], *groupings).to_dict() == {0: "p", 1: "p", 4: "r"}  # of 2, which ties 4, nobody asked


def test_rows_of_one_seed_may_share_different_things():
    part = pd.DataFrame({"seed": [0, 0, 1, 1, 2, 2], "cluster": ["", "p", "", "p", "", ""]})
    for order in (part, part[::-1]):
        assert stats.clusters_of(order, order["seed"]).sort_index().to_dict() == {0: "p", 1: "p"}


@pytest.mark.parametrize("names", [("first", "last"), ("last", "first")])
def test_a_mean_over_cells_keeps_what_seeds_share_in_any(names):
    """vp_dsd: the simulated cells stand alone, the stained ones share folds; ten values were made of five."""
    alone, shared = (
        [
            rows("a", [50 + e + gap for e, gap in zip(NOISE, gaps, strict=True)], c, cell=name),
            rows("b", [50.0] * 6, c, cell=name),
        ]
        for name, gaps, c in zip(names, ([0.2] * 6, [3] * 3 + [0] * 3), (None, HALVES), strict=True)
    )
    v = judged([*alone, *shared], cells=("cell",), aggregate="mean")
    assert (v.verdict, v.clusters) == ("INCONCLUSIVE", (2, 6))


def test_an_identity_is_judged_value_by_value_whatever_these_share():
    found = rows("a", [1.8e-6, 1e-9, 1e-9, 1e-9], ["fold 0"] * 4)
    v = judged([found], "at_most", threshold=1e-6, deterministic=True)
    assert v.verdict == "CONTRADICTED"
    v = judged([found], "at_most", threshold=2e-6, deterministic=True)
    assert v.verdict == "HOLDS" and "4 of 4 deterministic values, [1e-09, 1.8e-06]" in v.why


def test_a_number_over_cells_is_of_all_seeds_that_decide():
    """It was of the seeds that all cells have: "No: 5, claimed above 0, least in k=2: 5"."""
    first = [5, -3, -3.1, -2.9, -3, -3.05, -3, -3, -3.1, -3]
    cells = [
        [rows("a", [80 + x for x in gaps], k=k), rows("b", [80.0] * len(gaps), k=k)]
        for k, gaps in ((1, first), (2, [5]))
    ]
    v = judged([*cells[0], *cells[1]], cells=("k",))
    assert v.verdict == "CONTRADICTED" and v.weakest.startswith("k=1: -2.2")
    assert v.estimate == pytest.approx((np.mean(first) + 5) / 2) and math.isnan(v.low) and math.isnan(v.high)
    v = judged([*cells[0], *(one.assign(k=2) for one in cells[0])], cells=("k",))
    assert v.estimate == pytest.approx(np.mean(first)) and v.low < v.estimate < v.high


def test_a_mean_says_on_how_many_seeds_it_was_judged():
    grid = [rows(m, [v + e * s for e in NOISE[:n]], k=n) for m, v, s in (("a", 52, 1), ("b", 50, -1)) for n in (6, 4)]
    v = judged(grid, cells=("k",), aggregate="mean")
    assert v.verdict == "HOLDS" and v.estimate == pytest.approx(2, abs=0.05)
    assert "2 of 6 seeds lack a cell of the mean" in v.why


@pytest.mark.parametrize(
    ("aggregate", "said"),
    [
        ({"aggregate": "any"}, "nearest k=0: "),
        ({"aggregate": "share", "share": 0.5}, "the next k=1: "),
        ({}, "weakest k=2: "),
    ],
)
def test_how_many_more_seeds_is_said_of_the_cell_that_would_decide(aggregate, said):
    gaps = (0.6, 0.3, -0.6) if aggregate else (0.6, 0.5, 0.3)
    scatter = [0.0, 1.0, -1.0]
    grid = [
        rows(method, [50 + gap * (method == "a") + e * (1 if method == "a" else -0.5) for e in scatter], k=k)
        for k, gap in enumerate(gaps)
        for method in ("a", "b")
    ]
    v = judged(grid, cells=("k",), **aggregate)
    assert v.verdict == "INCONCLUSIVE" and said in v.why and "more seeds would decide" in v.why


def test_more_tests_need_more_seeds():
    assert stats.more_seeds_to_side(1, 1, 3) < stats.more_seeds_to_side(1, 1, 3, tests=10)


SPREADS = {"left": {"method": "a", "over": "seeds"}, "right": {"method": "b", "over": "seeds"}, "at_most": 2}


def test_spreads_are_of_the_seeds_that_both_sides_have():
    """The collapse of a seed that only one side has made a ratio of 14 out of one of 2.7, and a contradiction."""
    rng = np.random.default_rng(1)
    a, b = 80 + 0.5 * rng.standard_normal(10), 80 + 0.5 * rng.standard_normal(5)
    a[9] = 60
    both = judged([rows("a", a[:5]), rows("b", b)], "ratio", **SPREADS)
    more = judged([rows("a", a), rows("b", b)], "ratio", **SPREADS)
    assert (more.verdict, more.why, more.estimate) == ("INCONCLUSIVE", both.why, both.estimate)
    assert judged([rows("a", a[:5]), rows("b", b, HALVES[:5])], "ratio", **SPREADS).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([50, 50, 50, 50, 90.0], "a side does not vary without one of its seeds, 1 of 5"),
        ([50.0] * 5, "a side does not vary"),
        ([50, 60.0], "a spread is of 3 values or more, and here of 2"),
    ],
)
def test_spreads_that_do_not_exist_are_named(values, why):
    v = judged([rows("a", values), rows("b", [80 + e for e in NOISE])], "ratio", **SPREADS)
    assert (v.verdict, v.why) == ("INCONCLUSIVE", f"no ratio: {why}")


def test_a_spread_of_a_difference_is_of_the_pairs():
    wide = [rows("a", [50 + 9 * e for e in NOISE]), rows("c", [20 + 9 * e for e in NOISE[::-1]])]
    sides = {"left": {"method": "a", "over": "seeds", "minus": {"method": "c"}}, "right": SPREADS["right"]}
    v = judged([*wide, rows("b", [80 + e for e in NOISE])], "ratio", **sides, at_least=2)
    assert v.estimate > 5
