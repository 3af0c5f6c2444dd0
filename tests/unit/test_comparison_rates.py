"""How often a verdict is wrong, measured: each error at about 5 % or less."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from shared.comparison import judging, verdicts
from shared.comparison.claims import Claim
from shared.comparison.evidence import Sample
from shared.comparison.reported import Reported

# 5 % with 500 draws has a standard error of 1.0 %; the ceiling leaves two of them.
DRAWS, CEILING = 500, 0.07


def cell_rates(difference, ours, theirs, sd=0.3, seed=0):
    rng = np.random.default_rng(seed)
    found = Counter()
    for _ in range(DRAWS):
        paper = rng.normal(80, sd, theirs)
        reported = Reported("t", "r", "c", "accuracy", paper.mean(), paper.std(ddof=1), "std", theirs, 1.0)
        found[verdicts.judge_cell(rng.normal(80 + difference, sd, ours), reported).verdict] += 1
    return {verdict: count / DRAWS for verdict, count in found.items()}


def claim_rates(kind, gap, cells=1, seeds=3, draws=DRAWS, **options):
    rng = np.random.default_rng(0)
    claim = Claim("x", "", "", kind, left={"method": "a"}, right={"method": "b"}, **options)
    found = Counter()
    for _ in range(draws):
        samples = [Sample(str(c), pd.Series(rng.normal(gap, 0.4, seeds))) for c in range(cells)]
        found[judging.decide(samples, claim).verdict] += 1
    return {verdict: count / draws for verdict, count in found.items()}


@pytest.mark.parametrize("ours", [3, 5])
def test_a_difference_of_the_margin_is_rarely_called_reproduced(ours):
    assert cell_rates(1.0, ours, 5).get("REPRODUCED", 0) <= CEILING


def test_welch_is_liberal_at_two_seeds():
    assert cell_rates(1.0, 2, 5, seed=1).get("REPRODUCED", 0) <= 0.09


def test_no_difference_is_reproduced_given_seeds():
    assert cell_rates(0.0, 10, 5)["REPRODUCED"] >= 0.95


@pytest.mark.parametrize(("ours", "sd"), [(3, 0.3), (5, 2.0)])
def test_no_difference_is_rarely_called_not_reproduced(ours, sd):
    assert cell_rates(0.0, ours, 5, sd).get("NOT REPRODUCED", 0) <= CEILING


@pytest.mark.parametrize(
    "options", [{}, {"cells": 4}, {"cells": 4, "aggregate": "any"}, {"cells": 4, "aggregate": "mean"}]
)
def test_no_order_is_rarely_called_an_order_at_three_seeds(options):
    rates = claim_rates("greater", 0.0, **options)
    assert rates.get("HOLDS", 0) <= CEILING
    assert rates.get("CONTRADICTED", 0) <= CEILING


def test_a_gap_of_the_margin_is_rarely_called_within():
    rates = claim_rates("within", 1.0, margin=1.0)
    assert rates.get("HOLDS", 0) <= CEILING
    assert rates.get("CONTRADICTED", 0) <= CEILING


def test_a_large_order_holds_in_every_cell_at_three_seeds():
    assert claim_rates("greater", 4.0, cells=4, draws=100)["HOLDS"] >= 0.95
    assert claim_rates("greater", -4.0, cells=4, draws=100)["CONTRADICTED"] >= 0.95
