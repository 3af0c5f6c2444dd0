"""Write a comparison to disk: comparison.csv, claims.csv, comparison.md and behind.json, the same bytes every time."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared.comparison import texts
from shared.comparison.verdicts import number_of
from shared.files import write_text
from shared.tables.grid import grid

if TYPE_CHECKING:
    from shared.comparison.report import Comparison

CELLS = (
    *("table", "row", "column", "metric", "selection", "reported", "spread", "spread_kind", "n_reported"),
    *("margin", "ours", "sd", "n", "seeds", "difference", "low95", "high95", "verdict", "more_seeds", "why"),
    *("commit", "source", "assumed"),
)
CLAIMS = (
    *("id", "role", "kind", "says", "source", "tier", "verdict", "setting", "estimate", "low90", "high90"),
    *("region_low", "region_high", "improvement", "p", "bh", "seeds", "clusters", "cells_hold", "cells"),
    *("weakest", "compared", "named", "missing", "absent", "unplanned", "control", "control_verdict", "reservation"),
    *("why", "caveats", "because", "note"),
)


def write_comparison(comparison: Comparison) -> list[Path]:
    """Write the four files into the paper's results folder.

    Returns
    -------
    list of Path
    """
    files = {
        "comparison.csv": csv_text(CELLS, cell_rows(comparison)),
        "claims.csv": csv_text(CLAIMS, claim_rows(comparison)),
        "comparison.md": markdown(comparison),
        "behind.json": behind(comparison),
    }
    for name, text in files.items():
        write_text(comparison.folder / name, text)
    return [comparison.folder / name for name in files]


def cell_rows(comparison: Comparison) -> Iterator[dict[str, object]]:
    """Return reported numbers with their verdicts, one dict per line of comparison.csv."""
    for (cell, v), behind in zip(comparison.cells, comparison.behind, strict=True):
        yield {
            **{key: getattr(cell, key) for key in CELLS[:5]},
            **{key: getattr(cell, key) for key in ("spread", "spread_kind", "margin", "source")},
            **{key: getattr(v, key) for key in ("sd", "n", "seeds", "difference", "verdict", "why")},
            "reported": cell.value,
            "n_reported": cell.n,
            "ours": v.mean,
            "low95": v.low,
            "high95": v.high,
            "more_seeds": v.more,
            "commit": " ".join(behind.commits),
            "assumed": " ".join(behind.assumed),
        }


def claim_rows(comparison: Comparison) -> Iterator[dict[str, object]]:
    """Return claims with their verdicts, one dict per line of claims.csv; `bh` is yes or no of what was tested.

    `region_low` and `region_high` are where the estimate must lie, of a ratio as ratios. `compared` counts the cells
    that have values, `named` those of the whole claim: these, the missing, and what this tier does not plan of the
    cells that the claim names or that the paper's own tier plans.
    """
    for (claim, v), kept in zip(comparison.claims, comparison.kept, strict=True):
        control = comparison.controls.get(claim.id)
        back = math.exp if claim.kind == "ratio" else float
        yield {
            **{key: getattr(claim, key) for key in CLAIMS[:5]},
            **{key: getattr(claim, key) for key in ("control", "because", "note")},
            **{key: getattr(v, key) for key in ("setting", "estimate", "p", "cells", "weakest", "unplanned", "why")},
            "tier": comparison.tier,
            "verdict": v.word,
            "low90": v.low,
            "high90": v.high,
            "region_low": back(claim.region[0]),
            "region_high": back(claim.region[1]),
            "improvement": v.better,
            "bh": {None: "", True: "yes", False: "no"}[kept],
            "seeds": texts.span(v.seeds),
            "clusters": texts.span(v.clusters),
            "cells_hold": v.hold,
            "compared": len(v.behind),
            "named": len(v.behind) + len(v.missing) + max(len(v.absent), v.unplanned),  # which are mostly the same
            "missing": "; ".join(v.missing),
            "absent": "; ".join(v.absent),
            "control_verdict": control.word if control else "",
            "reservation": texts.reservation(claim, v, comparison),
            "caveats": "; ".join(v.caveats),
        }


def behind(comparison: Comparison) -> str:
    """Return JSON text of the runs behind each number and claim, as places in a list of run ids.

    ``{"runs": [id], "cells": [places, a list per line of comparison.csv], "claims": {id: {cell: {side: places}}}}``
    """
    place: dict[str, int] = {}

    def places(ids: Iterable[str]) -> list[int]:
        return [place.setdefault(run_id, len(place)) for run_id in dict.fromkeys(ids)]

    cells = [places(behind.ids) for behind in comparison.behind]
    claims = {
        claim.id: {
            cell: {f"{side.role}, {side.metric}, {side.selection}": places(side.ids) for side in sides}
            for cell, sides in v.behind
        }
        for claim, v in comparison.claims
    }
    return json.dumps({"runs": list(place), "cells": cells, "claims": claims}, separators=(",", ":")) + "\n"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return CSV text with numbers to six figures and nothing for what is unknown."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([number(row[column], "") for column in columns] for row in rows)
    return text.getvalue()


def markdown(comparison: Comparison) -> str:
    """Return the comparison as a page: counts and their reasons, reported beside reproduced, claims."""
    notes = texts.Footnotes(comparison)
    cells, claims = texts.all_cell_texts(comparison, notes), texts.all_claim_texts(comparison)
    counts = list(texts.cell_counts(comparison, notes))
    about = [
        (claim, " ".join(f"{text.rstrip('.')}." for text in texts.about_claim(claim, v, notes)))
        for claim, v in comparison.claims
    ]
    lines = [f"# {comparison.paper}, tier {comparison.tier}", ""]
    if cells:
        lines += [*grid((f"of {number_of(len(cells), 'reported number')}", "", "which, or why not"), counts), ""]
    if claims:
        head = (f"of {number_of(len(claims), 'claim')}", *texts.ROLES.values())
        lines += [*grid(head, texts.claim_counts(comparison)), ""]
    lines += [f"- {fact}" for fact in comparison.facts]
    if notes.lines():
        lines += ["", "Reasons and settings, by the letters below and above:", ""]
        lines += [f"- **{letter}** {sentence}" for letter, sentence in notes.lines()]
    if cells:
        lines += ["", "## Reported beside reproduced", "", *grid(texts.CELL_HEAD, cells)]
    if assumed := texts.assumptions(comparison):
        lines += ["", "Assumed where a number was not reproduced, since the paper does not say it:", ""]
        lines += [f"- {line}" for line in assumed]
    if claims:
        lines += ["", "## Claims", "", *grid(texts.CLAIM_HEAD, claims), "", texts.legend(comparison)]
    for claim, text in about:
        lines += ["", f'<a id="{claim.id}"></a>**{claim.id}.** {claim.says} ({claim.source}) {text}']
    return "\n".join(lines) + "\n"


def number(value: object, unknown: str) -> str:
    """Write six significant figures, the same on every machine that rounds as IEEE asks."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return unknown
    return f"{value:.6g}" if isinstance(value, float) else str(value)
