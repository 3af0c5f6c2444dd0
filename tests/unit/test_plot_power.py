"""What the paper's own numbers can decide: every printed number is drawn from, and certain ones decide for certain."""

import numpy as np
import pandas
import pytest

from papers.plot import power
from shared.config import repository


def test_every_printed_number_is_drawn_from_and_nothing_else():
    rows = power.printed()
    reported = pandas.read_csv(repository() / "papers/plot/reported.csv")
    wanted = {(row.value, row.spread) for row in reported.itertuples() if (row.table, row.row) != ("table3", "base")}
    assert set(zip(rows["mean"], rows["std"], strict=True)) == wanted  # of the base, Table 1 has another spread
    assert not rows.method.str.contains("continued|fresh|last1|soft|instances|exact").any()
    assert rows.groupby("method").seed.nunique().eq(5).all()
    sample = power.drawn(rows, 3, np.random.default_rng(0))
    assert set(sample.seed) == {0, 1, 2}
    assert ((sample.value - sample["mean"]).abs() / sample["std"].astype(float)).max() == pytest.approx(3, abs=1.5)


def test_without_spread_the_papers_tables_decide_their_claims(monkeypatch):
    rows = power.printed()
    monkeypatch.setattr(power, "printed", lambda: rows.assign(std=1e-3))
    found = power.claims(3, 1, np.random.default_rng(0))
    assert len(found) == 13 and all(counts["HOLDS"] for counts in found.values())


def test_more_seeds_reproduce_more_cells():
    few, more = (sum(power.cells(seeds, 10, np.random.default_rng(0)).values()) for seeds in (3, 5))
    assert 25 < few < more < 50
