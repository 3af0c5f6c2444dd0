"""Say what the paper's own numbers can decide: draw records from its means and spreads and judge those.

``python -m papers.plot.power`` prints, for 3 and for 5 seeds, how many cells of Tables 1 to 3 would be called
REPRODUCED, and how often each claim would be called HOLDS or CONTRADICTED, if we found exactly what the paper reports.
What fails here fails for want of repetitions, or because the paper's tables do not say what its text does. Methods are
drawn independently; ours share bags within a seed, so differences of ours may be steadier.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import pandas

from papers.plot import tables
from shared.comparison.claims import read_claims
from shared.comparison.judging import judge_claim
from shared.comparison.reported import Reported, read_reported
from shared.comparison.verdicts import judge_cell
from shared.config import plan, repository
from shared.tables.evidence import Evidence

FOLDER = repository() / "papers" / "plot"
SEEDS = (3, 5)


def printed() -> pandas.DataFrame:
    """Return the runs of the paper tier whose accuracy the paper prints: a row each, with `mean` and `std`."""
    evidence = Evidence("plot", "paper", FOLDER, tuple(plan("plot", "paper")), {})
    rows = evidence.rows(selections=["last"])
    told = {(cell.table, cell.row, cell.column): cell for cell in read_reported(FOLDER / "reported.csv")}
    places: dict[str, Reported | None] = {}
    for place in tables.cells(rows).itertuples():
        places.setdefault(place.id, told.get((place.table, place.row, place.column)))  # Table 1's before Table 3's
    cells = rows["id"].map(places)
    rows = rows.assign(mean=[cell and cell.value for cell in cells], std=[cell and cell.sd for cell in cells])
    return rows[rows["mean"].notna()].assign(status="done")


def drawn(rows: pandas.DataFrame, seeds: int, rng: np.random.Generator) -> pandas.DataFrame:
    """Return the rows of the first seeds with values drawn from the normal distribution of what the paper prints."""
    rows = rows[rows.seed < seeds]
    return rows.assign(value=rng.normal(rows["mean"].astype(float), rows["std"].astype(float)))


def cells(seeds: int, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Return {cell: share of draws called REPRODUCED} of the cells whose spread the paper prints."""
    found = {}
    for cell in read_reported(FOLDER / "reported.csv"):
        if cell.sd is None:
            continue
        verdicts = [judge_cell(rng.normal(cell.value, cell.sd, seeds), cell).verdict for _ in range(draws)]
        found[f"{cell.table} {cell.row} {cell.column}"] = verdicts.count("REPRODUCED") / draws
    return found


def claims(seeds: int, draws: int, rng: np.random.Generator) -> dict[str, Counter[str]]:
    """Return {claim: how often each verdict} of the claims that the printed numbers bear on."""
    rows = printed()
    found: dict[str, Counter[str]] = {}
    asked = read_claims(FOLDER / "claims.yaml")
    for _ in range(draws):
        sample = drawn(rows, seeds, rng)
        for claim in asked:
            found.setdefault(claim.id, Counter())[judge_claim(sample, claim).verdict] += 1
    return {name: counts for name, counts in found.items() if "NOT RUN" not in counts}


def main(arguments: list[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        prog="python -m papers.plot.power", description="Say what the paper's own numbers can decide."
    )
    parser.add_argument("--draws", type=int, default=20, help="of each table and number of seeds (default 20)")
    draws = parser.parse_args(arguments).draws
    for seeds in SEEDS:
        found = cells(seeds, draws, np.random.default_rng(seeds))
        rarely = [name for name, share in found.items() if share < 0.5]
        print(f"{seeds} seeds: {sum(found.values()):.0f} of {len(found)} cells reproduced; in under half of the draws:")
        print(f"  {', '.join(rarely) or 'none'}")
    by_claim = {seeds: claims(seeds, draws, np.random.default_rng(seeds)) for seeds in SEEDS}
    print(
        f"\n| claim | {' | '.join(f'{said}, {seeds} seeds' for said in ('holds', 'contradicted') for seeds in SEEDS)} |"
    )
    print("|---" * (1 + 2 * len(SEEDS)) + "|")
    for name in by_claim[SEEDS[0]]:
        shares = [by_claim[seeds][name][said] / draws for said in ("HOLDS", "CONTRADICTED") for seeds in SEEDS]
        print(f"| {name} | {' | '.join(f'{share:.0%}' for share in shares)} |")
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
