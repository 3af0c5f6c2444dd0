"""Write a comparison to disk: comparison.csv, claims.csv, comparison.md; atomic, the same bytes every time."""

import csv
import io
import math

from shared.records.store import write_text

CELLS = (
    *("table", "row", "column", "metric", "selection", "reported", "spread", "spread_kind", "n_reported"),
    *("margin", "ours", "sd", "n", "difference", "low95", "high95", "verdict", "more_seeds", "why"),
    *("commit", "source", "assumed"),
)
CLAIMS = (
    *("id", "role", "kind", "says", "source", "tier", "verdict", "estimate", "low90", "high90", "improvement"),
    *("seeds", "cells_hold", "cells", "missing", "control", "why", "caveats", "because", "note"),
)


def write_comparison(comparison):
    """Write the three files into the paper's results folder.

    Returns
    -------
    list of Path
    """
    files = {
        "comparison.csv": csv_text(CELLS, cell_rows(comparison)),
        "claims.csv": csv_text(CLAIMS, claim_rows(comparison)),
        "comparison.md": markdown(comparison),
    }
    for name, text in files.items():
        write_text(comparison.folder / name, text)
    return [comparison.folder / name for name in files]


def cell_rows(comparison):
    """Return reported numbers with their verdicts, one dict per line of comparison.csv."""
    about = zip(comparison.cells, comparison.commits, comparison.assumed, strict=True)
    for (cell, v), commits, assumed in about:
        yield {
            **{key: getattr(cell, key) for key in CELLS[:5]},
            **{key: getattr(cell, key) for key in ("spread", "spread_kind", "margin", "source")},
            **{key: getattr(v, key) for key in ("sd", "n", "difference", "verdict", "why")},
            "reported": cell.value,
            "n_reported": cell.n,
            "ours": v.mean,
            "low95": v.low,
            "high95": v.high,
            "more_seeds": v.more,
            "commit": " ".join(commits),
            "assumed": " ".join(assumed),
        }


def claim_rows(comparison):
    """Return claims with their verdicts, one dict per line of claims.csv."""
    for claim, v in comparison.claims:
        yield {
            **{key: getattr(claim, key) for key in CLAIMS[:5]},
            **{key: getattr(claim, key) for key in ("control", "because", "note")},
            **{key: getattr(v, key) for key in ("verdict", "estimate", "cells", "why")},
            "tier": comparison.tier,
            "low90": v.low,
            "high90": v.high,
            "improvement": v.better,
            "seeds": span(v.seeds),
            "cells_hold": v.hold,
            "missing": "; ".join(v.missing),
            "caveats": "; ".join(v.caveats),
        }


def csv_text(columns, rows):
    """Return CSV text with numbers to six figures and nothing for what is unknown."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([number(row[column], "") for column in columns] for row in rows)
    return text.getvalue()


def markdown(comparison):
    """Return the comparison as a page: provenance, reported beside reproduced, claims."""
    lines = [
        f"# {comparison.paper}, tier {comparison.tier}",
        "",
        *(f"- {fact}" for fact in comparison.facts),
        "",
    ]
    lines += ["## Reported beside reproduced", ""]
    head = ("table", "row", "column", "metric", "reported", "ours", "difference [95 %]", "verdict", "why")
    lines += _grid(head, all_cell_texts(comparison))
    if assumed := assumptions(comparison):
        lines += ["", "Assumed where a number was not reproduced, since the paper does not say it:", ""]
        lines += [f"- {line}" for line in assumed]
    lines += ["", "## Claims", ""]
    head = ("claim", "verdict", "estimate [90 %]", "improvement", "seeds", "cells", "role")
    lines += _grid(head, [(*claim_texts(claim, v), claim.role) for claim, v in comparison.claims])
    for claim, v in comparison.claims:
        lines += [
            "",
            f"**{claim.id}.** {claim.says} ({claim.source}) {v.verdict}, tier {comparison.tier}: {v.why}.",
        ]
        lines += [f"- {note}" for note in notes(claim, v, comparison)]
    return "\n".join(lines) + "\n"


def all_cell_texts(comparison):
    """Return the texts of all reported numbers; beside one that was not reproduced stands what its runs assume."""
    return [cell_texts(cell, v, keys) for (cell, v), keys in zip(comparison.cells, comparison.assumed, strict=True)]


def assumptions(comparison):
    """Return a line for each key that runs behind a number that was not reproduced assume: the key and the reason."""
    found = {}
    for reasons in comparison.assumed:
        for key, reason in reasons.items():
            found.setdefault(key, {})[reason] = None
    return [f"`{key}`: {'; or '.join(reasons)}" for key, reasons in found.items()]


def cell_texts(cell, verdict, assumed=()):
    """Return the nine texts of one reported number, for a table to read; `assumed` are names of keys."""
    sign = {"lower_bound": "> ", "upper_bound": "< "}.get(cell.spread_kind, "")
    spread = f" ± {cell.spread:g} {cell.spread_kind}" if cell.spread is not None else ""
    theirs = f"{sign}{cell.value:g}{spread}" + (f", n={cell.n}" if cell.n else "")
    sd = "" if math.isnan(verdict.sd) else f" ± {verdict.sd:.2f}"
    ours = f"{verdict.mean:.2f}{sd}, n={verdict.n}" if verdict.n else "-"
    difference = estimate(verdict.difference, verdict.low, verdict.high, "+.2f")
    return (
        cell.table,
        cell.row,
        cell.column,
        cell.metric,
        theirs,
        ours,
        difference,
        verdict.verdict,
        verdict.why + (f"; assumed: {', '.join(assumed)}" if assumed else ""),
    )


def claim_texts(claim, verdict):
    """Return the six texts of one claim, for a table to read."""
    better = "-" if math.isnan(verdict.better) else f"{verdict.better:.2f}"
    cells = f"{verdict.hold}/{verdict.cells}" if verdict.cells else "-"
    if verdict.missing:
        cells += f", {len(verdict.missing)} missing"
    effect = estimate(verdict.estimate, verdict.low, verdict.high, ".3g")
    return claim.id, verdict.verdict, effect, better, span(verdict.seeds), cells


def notes(claim, verdict, comparison):
    """Return what to know beside a claim's verdict: margins, gaps, caveats, its control."""
    if claim.because:
        yield f"margin: {claim.because}"
    if verdict.missing and verdict.cells:
        yield f"missing: {'; '.join(verdict.missing)}"
    yield from verdict.caveats
    if claim.control:
        control = {c.id: v for c, v in comparison.claims}[claim.control]
        yield f"control {claim.control}: {control.verdict}"
    if claim.note:
        yield claim.note


def estimate(centre, low, high, form):
    """Write a number with its interval, as far as either exists."""
    if math.isnan(centre):
        return "-"
    return f"{centre:{form}}" + ("" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]")


def span(seeds):
    """Write fewest and most as one text."""
    low, high = seeds
    return f"{low}-{high}" if low != high else str(low) if low else "-"


def number(value, unknown):
    """Write six significant figures, the same on every machine that rounds as IEEE asks."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return unknown
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _grid(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(text).replace("|", "\\|") for text in line) + " |" for line in lines]
