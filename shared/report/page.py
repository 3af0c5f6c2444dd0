"""One page that holds all of a tier, offline: ``python -m shared.report.page --tier quick`` writes index.html.

It is made of what is on disk: verdicts, tables, figures, records. An estimate is rounded beside the text of its csv.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from shared.comparison.reported import as_reported
from shared.config import ConfigError, papers_of, repository
from shared.config.outputs import read_outputs
from shared.config.tiers import add_tier, load_tier
from shared.files import Sentence, read_text, sentence_of, write_text
from shared.records.store import record_path
from shared.report import words
from shared.report.answer import COUNTED, counts
from shared.report.found import cells_found, claims_found, questions, tiers_found

MOST_BYTES = 4_000_000  # of a page: what is sent around and opened on a phone
LARGER = 1.75  # pixels of the page for a point of a figure
ESTIMATE = ("estimate", "low90", "high90")
DIFFERENCE = ("difference", "low95", "high95")


def page(tier: str, results: Path | None = None, root: Path | None = None) -> str:
    """Return the HTML of a tier's page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    root = root or repository()
    results = results or root / "results"
    parts = [part(paper, tier, results, root) for paper in papers_of(tier, root)]
    parts.sort(key=lambda part: not any(claim["role"] == "paper" for claim in part["claims"]))  # what is no paper last
    templates = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html").render(
        tier=tier,
        says=load_tier(tier, root).says,
        parts=parts,
        counted=COUNTED,
        others=[name for name in tiers_found(results) if (results / name / "index.html").exists() and name != tier],
        style=read_text(templates / "page.css", ConfigError),
        script=read_text(templates / "page.js", ConfigError),
        evidence={part["name"]: part.pop("evidence") for part in parts},
    )


def part(paper: str, tier: str, results: Path, root: Path) -> dict:
    """Return what the page says of one paper."""
    folder, outputs = results / tier / paper, read_outputs(paper, root)
    found, cells = claims_found(paper, tier, results, root), cells_found(paper, tier, results)
    behind = _json(folder / "behind.json", {"runs": [], "cells": [[]] * len(cells), "claims": {}})
    head = read_text(root / "papers" / paper / "README.md", ConfigError).split("\n\n")
    return {
        "name": paper,
        "title": head[0].removeprefix("# "),
        "citation": " ".join(head[1].split()),
        "counts": counts(paper, tier, found, cells),
        "questions": [
            {
                "asks": one.claim.question,
                "answer": words.answer(one),
                "measured": words.in_numbers(one),
                "control": words.control(one, found),
                "id": one.claim.id,
            }
            for one in questions(found)
        ],
        "claims": [
            {
                **one.row,
                "word": one.verdict,
                "claimed": words.bounds(one),
                "estimated": with_interval(one.row, ESTIMATE, 3),
                "written": with_interval(one.row, ESTIMATE),
                "runs": behind["claims"].get(one.claim.id, {}),
            }
            for one in found
        ],
        "cells": [
            {
                **cell,
                "theirs": as_reported(*(cell[name] for name in ("reported", "spread", "spread_kind", "n_reported"))),
                "ours": rounded(cell["ours"], 4),
                "sd": rounded(cell["sd"], 2),
                "apart": with_interval(cell, DIFFERENCE, 3),
                "written": with_interval(cell, DIFFERENCE),
                "runs": runs,
            }
            for cell, runs in zip(cells, behind["cells"], strict=True)
        ],
        "figures": [
            {
                "title": figure.title,
                "caption": figure.caption.removeprefix(f"{figure.title}: "),
                "source": _inline(svg),
                "width": _width(svg),
            }
            for figure in outputs.figures
            if (svg := _text(folder / f"{figure.name}.svg"))
        ],
        "tables": [
            {"title": table.title, "html": _table(folder / f"{table.name}.md"), "name": table.name}
            for table in outputs.tables
            if table.text and (folder / f"{table.name}.md").exists()
        ],
        "evidence": evidence(behind["runs"], folder),
    }


def rounded(text: str, figures: int | None) -> str:
    """Return a number of a csv to so many significant figures; as it is where that is None or it is none."""
    return f"{float(text):.{figures}g}" if text and figures else text


def with_interval(row: dict[str, str], columns: tuple[str, str, str], figures: int | None = None) -> str:
    """Return a number and its interval, as the csv has them or to so many significant figures."""
    centre, low, high = (rounded(row[column], figures) for column in columns)
    return f"{centre} [{low}, {high}]" if centre and low else centre or "-"


def evidence(runs: list[str], folder: Path) -> dict:
    """Return what the page knows of the records of `runs`: for each key the values there are, and for each run which.

    ``{"runs": [id], "values": {key: [value]}, "which": {key: [place in values, or -1, for each run]}}``
    """
    known = [_known(record_path(folder / "runs", run_id)) for run_id in runs]
    values: dict[str, list] = {}
    which: dict[str, list[int]] = {}
    for key in dict.fromkeys(key for row in known for key in row):
        place: dict[str, int] = {}
        which[key] = [place.setdefault(json.dumps(row[key]), len(place)) if key in row else -1 for row in known]
        values[key] = [json.loads(text) for text in place]
    return {"runs": runs, "values": values, "which": which}


def _known(path: Path) -> dict[str, object]:
    """What a reader may ask of a record, and of what it was made; nothing where it is gone."""
    if not path.exists():
        return {}
    text = read_text(path, ConfigError)
    record = json.loads(text)
    values = {key: value for key, value in record["spec"].items() if not isinstance(value, dict)}
    return {
        "record sha256": hashlib.sha256(text.encode()).hexdigest()[:16],
        "commit": (record["code"]["commit"] or "none")[:12],
        "code": record["code"]["hash"],
        "device": record["environment"].get("device", "unknown"),
        "torch": record["environment"].get("torch", "unknown"),
        "finished": record["finished"][:10],
        "seconds": record["cost"].get("wall_s"),
        **{f"data {name}": checksum[:16] for name, checksum in record.get("data", {}).items()},
        **values,
    }


def _json(path: Path, absent: Any) -> Any:
    return json.loads(read_text(path, ConfigError)) if path.exists() else absent


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _inline(svg: str) -> str:
    """Return a figure as a source that needs no file, and no escapes in HTML: a third smaller than in base64."""
    from markupsafe import Markup

    return Markup("data:image/svg+xml," + quote(" ".join(svg.split()), safe=" <>=:;/,.-_()+!*@?[]{}$~'"))


def _width(svg: str) -> int:
    """Return over how many pixels to show a figure, so that its letters are as large as the text beside it."""
    found = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
    return round(float(found[1]) * LARGER) if found else 0


def _table(path: Path) -> str:
    """HTML of a markdown table below its heading; raw HTML in it is shown, not obeyed."""
    from markdown_it import MarkdownIt

    text = read_text(path, lambda said: Sentence(f"{said}; make it again"))
    return MarkdownIt("commonmark", {"html": False}).enable("table").render(text.partition("\n")[2])


def main(argv: list[str] | None = None) -> int:
    """Write ``results/<tier>/index.html``; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shared.report.page", description=main.__doc__)
    add_tier(parser)
    parser.add_argument("--results", type=Path, help="folder with one folder for each tier; results unless told")
    args = parser.parse_args(argv)
    results = args.results or repository() / "results"
    try:
        text = page(args.tier, results)
        if (size := len(text.encode())) > MOST_BYTES:
            print(f"the page has {size:,} bytes, more than {MOST_BYTES:,}", file=sys.stderr)
        write_text(results / args.tier / "index.html", text)
    except (Sentence, OSError) as error:
        print(sentence_of(error), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
