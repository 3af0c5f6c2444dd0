"""Measure how often a verdict is wrong: draw what seeds might give where the truth is known, and judge it.

``python -m shared.comparison.rates`` writes the table of docs/verdicts.md anew; a test runs the same at small size.

The unit of all is the margin: it is 1, and the paper's values are normal with the standard deviation `SD`. Verdicts are
held against a truth at the very edge of what they deny, where they are wrong most often:

REPRODUCED, NOT REPRODUCED      the true difference equals the margin; five runs of the paper
INCONSISTENT                    the same; one run of the paper, without a spread
CONSISTENT                      the true difference is twice the margin; one run of the paper, without a spread
HOLDS                           `greater`, with a true difference of 0
CONTRADICTED                    the same in `CELLS` cells, all with a true difference of 0
within HOLDS, CONTRADICTED      `within` the margin, with a true difference of the margin

A rate is that of the worse of two directions: the paper lies above ours, or below. HOLDS and CONTRADICTED of an
order are each other's mirror.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shared.comparison import stats, verdicts
from shared.comparison.reported import Reported
from shared.config import repository
from shared.files import remade, write_text

DRAWS = 2000
SD = 0.3
THEIRS = 5
CELLS = 4
SEEDS = (2, 3, 5, 10)
COLUMNS = {
    "REPRODUCED": ("cell", "REPRODUCED"),
    "NOT REPRODUCED": ("cell", "NOT REPRODUCED"),
    "INCONSISTENT": ("one run", "INCONSISTENT"),
    "CONSISTENT": ("far run", "CONSISTENT"),
    "HOLDS": ("order", "HOLDS"),
    "CONTRADICTED": ("orders", "CONTRADICTED"),
    "within HOLDS": ("within", "HOLDS"),
    "within CONTRADICTED": ("within", "CONTRADICTED"),
}
REGIONS = {"order": (1, 0.0, np.inf), "orders": (CELLS, 0.0, np.inf), "within": (1, -1.0, 1.0)}  # cells, where it holds
BEGIN, END = "<!-- made by `python -m shared.comparison.rates` -->", "<!-- end -->"


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return normal values of mean 0."""
    return SD * rng.standard_normal(shape)


def lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return values of mean 0 with a long right tail: exp of a standard normal, scaled to the standard deviation."""
    x = np.exp(rng.standard_normal(shape)) - np.exp(0.5)
    return SD * x / np.sqrt((np.e - 1) * np.e)


def collapsing(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return values of mean 0 of which a quarter lies four margins below the rest; their own scatter is small."""
    return 1 - 4.0 * (rng.random(shape) < 0.25) + 0.12 * rng.standard_normal(shape)


def constant(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return values of mean 0 that agree exactly, but for one in five, five margins below."""
    return 1 - 5.0 * (rng.random(shape) < 0.2)


@dataclass(frozen=True)
class Case:
    """Name what our seeds might give: values of mean 0, alone or in clusters.

    Attributes
    ----------
    draw : (generator, shape) -> array of values.
    n : number of seeds.
    clusters : how many they fall into, as many in each as it goes; 0 where all stand alone.
    shared : intra-cluster correlation.
    aware : whether the judge is told of the clusters.
    """

    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    n: int
    clusters: int = 0
    shared: float = 0.0
    aware: bool = True

    def __str__(self) -> str:
        told = "" if self.aware else ", taken as independent"
        groups = f" in {self.clusters} clusters, correlation {self.shared:g}{told}" if self.clusters else ""
        return f"{self.draw.__name__}, {self.n} seeds{groups}"

    @property
    def of(self) -> np.ndarray:
        """Return the cluster of each seed, as numbers."""
        return np.arange(self.n) % self.clusters

    @property
    def names(self) -> list[str] | None:
        """Return the cluster of each seed as the judge is told it; None where they stand alone."""
        return [f"split {c}" for c in self.of] if self.clusters and self.aware else None

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the values that tests are made of: those of the clusters where the judge is told of them."""
        if not self.names:
            return values
        return np.array([values[self.of == c].mean() for c in range(self.clusters)])

    def values(self, rng: np.random.Generator, cells: tuple[int, ...] = ()) -> np.ndarray:
        """Return the seeds' values: an array (*cells, n)."""
        own = self.draw(rng, (*cells, self.n))
        if not self.clusters:
            return own
        common = self.draw(rng, (*cells, self.clusters))[..., self.of]
        return np.sqrt(self.shared) * common + np.sqrt(1 - self.shared) * own


CASES = (
    *(Case(draw, n) for draw in (normal, lognormal, collapsing, constant) for n in SEEDS),
    *(Case(normal, n, m, shared) for n, m in ((9, 3), (10, 5)) for shared in (0.2, 0.5, 0.8)),
)


def judged(scenario: str, case: Case, sign: int, rng: np.random.Generator) -> str:
    """Draw once in a scenario, with our values mirrored where `sign` is -1, and return the verdict in a word."""
    if scenario in REGIONS:
        cells, low, high = REGIONS[scenario]
        edge = high if np.isfinite(high) else low
        return claimed([case.means(x) for x in sign * case.values(rng, (cells,)) + edge], low, high)
    ours = sign * (case.values(rng) - (2 if scenario == "far run" else 1))
    names = ("t", "r", "c", "accuracy")
    if scenario == "cell":
        paper = SD * rng.standard_normal(THEIRS)
        reported = Reported(*names, float(paper.mean()), float(paper.std(ddof=1)), "std", THEIRS)
    else:
        reported = Reported(*names, SD * rng.standard_normal(), None, "none", 1)
    return verdicts.judge_cell(ours, reported, clusters=case.names).verdict


def claimed(cells: list[np.ndarray], low: float, high: float) -> str:
    """Return the verdict on a claim that the mean lies between two bounds in every cell, as judging.decide has it.

    Parameters
    ----------
    cells : list of array
        Of values per unit.
    """
    if all(max(stats.p_above(x, low), stats.p_below(x, high)) <= stats.ALPHA for x in cells):
        return "HOLDS"
    outside = len(cells) * min(stats.p_beyond(x, low, high) for x in cells)
    return "CONTRADICTED" if outside <= stats.ALPHA else "INCONCLUSIVE"


def rates(case: Case, scenario: str, draws: int = DRAWS) -> dict[str, float]:
    """Return {verdict: the share of draws with it, in the worse direction} of a case in a scenario of `COLUMNS`."""
    found: dict[str, float] = {}
    for sign in (1, -1):
        rng = np.random.default_rng([*f"{case}; {scenario}; {sign}".encode()])
        counts = Counter(judged(scenario, case, sign, rng) for _ in range(draws))
        found = {verdict: max(found.get(verdict, 0), counts[verdict] / draws) for verdict in {*found, *counts}}
    return found


def table(draws: int = DRAWS) -> Iterator[str]:
    """Return the lines of the table: a case a row, a verdict a column, in per cent."""
    yield f"| {' | '.join(('what seeds give', *COLUMNS))} |"
    yield "|" + "---|" * (1 + len(COLUMNS))
    for case in CASES:
        found = {scenario: rates(case, scenario, draws) for scenario, _ in COLUMNS.values()}
        cells = (f"{100 * found[scenario].get(verdict, 0):.1f}" for scenario, verdict in COLUMNS.values())
        yield f"| {case} | {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the table into docs/verdicts.md between its marks; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.comparison.rates", description="Measure how often each verdict is wrong."
    )
    parser.add_argument("--draws", type=int, default=DRAWS, help="of each case and direction; %(default)s unless told")
    draws = parser.parse_args(argv).draws
    lines = [f"Per cent of {draws} draws in each direction.", "", *table(draws)]
    path = repository() / "docs" / "verdicts.md"
    write_text(path, remade(path.read_text(encoding="utf-8"), BEGIN, "\n".join(lines), END))
    return 0


if __name__ == "__main__":
    sys.exit(main())
