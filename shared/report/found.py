"""Read the verdicts on disk, results/<tier>/<paper>/{claims,comparison}.csv, without records and without pandas."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.comparison.claims import DECIDED, VERDICTS, Claim, read_claims
from shared.comparison.reported import UNJUDGED
from shared.config import papers, repository
from shared.config.files import ConfigError
from shared.files import read_text


@dataclass(frozen=True)
class Judged:
    """A claim and the line of claims.csv with its verdict in one tier."""

    claim: Claim
    row: dict[str, str]

    @property
    def tier(self) -> str:
        """Return the tier the verdict is of."""
        return self.row["tier"]

    @property
    def verdict(self) -> str:
        """Return the verdict without its setting."""
        return self.row["verdict"].removesuffix(f" {self.row['setting']}" if self.row["setting"] else "")

    @property
    def reservation(self) -> str:
        """Return what the control that the paper left out has against a claim that holds, in words."""
        return self.row.get("reservation", "")  # files of before have none

    def number(self, column: str) -> float:
        """Return a number of the line, nan where there is none."""
        return float(self.row[column] or "nan")

    @property
    def bounds(self) -> tuple[float, float]:
        """Return between which values the estimate must lie for the claim to hold, as it is printed."""
        return self.number("region_low"), self.number("region_high")

    @property
    def distance(self) -> float:
        """Return how many half-widths of its interval the estimate lies outside, or inside (below 0), of the bounds."""
        estimate, (low, high) = self.number("estimate"), self.bounds
        half = (self.number("high90") - self.number("low90")) / 2
        return max(low - estimate, estimate - high) / half if half > 0 else math.nan

    @property
    def coverage(self) -> tuple[int, int]:
        """Return in how many comparisons the claim was judged, and how many there are of it."""
        return int(self.row.get("compared") or 0), int(self.row.get("named") or 0)  # files of before know neither

    @property
    def standing(self) -> tuple[bool, bool, float, float, bool]:
        """Return what makes one verdict on a question worth more than another, larger first."""
        seeds = float((self.row["clusters"] or "0").split("-")[0] or 0)
        compared, named = self.coverage
        share = compared / named if named else 0.0
        return self.verdict in VERDICTS[:3], not self.row["setting"], share, seeds, self.verdict in DECIDED


def tiers_found(results: Path) -> list[str]:
    """Return the tiers that have verdicts, without `smoke`, which checks the workflow alone."""
    return sorted({path.parents[1].name for path in results.glob("*/*/claims.csv")} - {"smoke"})


def claims_found(paper: str, tier: str, results: Path, root: Path | None = None) -> list[Judged]:
    """Return a paper's claims with their verdicts in a tier; what claims.yaml no longer has is left out."""
    claims = {claim.id: claim for claim in read_claims((root or repository()) / "papers" / paper / "claims.yaml")}
    rows = _rows(results / tier / paper / "claims.csv")
    return [Judged(claims[row["id"]], row) for row in rows if row["id"] in claims]


def cells_found(paper: str, tier: str, results: Path) -> list[dict[str, str]]:
    """Return the lines of a paper's comparison.csv: reported numbers with their verdicts."""
    return list(_rows(results / tier / paper / "comparison.csv"))


def standing_of(cell: dict[str, str]) -> tuple[int, int, bool]:
    """Return what makes one verdict on a reported number worth more than another, larger first.

    What was judged comes before what is not comparable, and that before what was not run; then many seeds before few,
    and only then a decision before none.
    """
    verdict = cell["verdict"]
    unjudged = -UNJUDGED.index(verdict) if verdict in UNJUDGED else 1
    return unjudged, int(cell["n"] or 0), verdict != "INCONCLUSIVE"


def everything(results: Path, root: Path | None = None) -> dict[tuple[str, str], list[Judged]]:
    """Return {(paper, tier): claims with their verdicts} of all that is on disk, what is no paper's last."""
    pairs = [(paper, tier) for paper in papers(root) for tier in tiers_found(results)]
    found = {pair: claims_found(*pair, results, root) for pair in pairs if (results / pair[1] / pair[0]).is_dir()}
    return dict(sorted(found.items(), key=lambda item: not any(one.claim.role == "paper" for one in item[1])))


def questions(found: list[Judged]) -> list[Judged]:
    """Return for each question the verdict that answers it best, in the order of claims.yaml.

    Comparable records come before a stand-in, then the more of the claim's comparisons, then many seeds before few, and
    only then a decision before none: whoever takes the tier that decides takes the one in which chance spoke up.
    """
    best: dict[str, Judged] = {}
    for one in found:
        asked = one.claim.question
        if asked and (asked not in best or one.standing > best[asked].standing):
            best[asked] = one
    return list(best.values())


def contradicted(found: list[Judged]) -> list[Judged]:
    """Return the paper's own claims that records contradict."""
    return [one for one in found if one.claim.role == "paper" and one.verdict == "CONTRADICTED"]


def sharpest(found: list[Judged]) -> Judged | None:
    """Return the paper's own claim that records contradict most clearly: comparable ones first, then by distance."""
    against = contradicted(found)
    return max(against, key=lambda one: (not one.row["setting"], _or(one.distance, -math.inf)), default=None)


def _or(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if path.exists():
        yield from csv.DictReader(read_text(path, ConfigError).splitlines())
