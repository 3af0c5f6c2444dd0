"""Write the answers: results/README.md, and the marked parts of the READMEs: ``python -m shared.report.answer``."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from shared.comparison.claims import DECIDED
from shared.comparison.reported import UNJUDGED, VERDICTS
from shared.config import ConfigError, papers, repository
from shared.files import Sentence, read_text, remade, sentence_of, write_text
from shared.report import words
from shared.report.found import (
    Judged,
    cells_found,
    claims_found,
    contradicted,
    everything,
    questions,
    sharpest,
    standing_of,
    tiers_found,
)
from shared.runs.verified import COUNTS, read_verified
from shared.tables.grid import grid

BEGIN, END = "<!-- made from verdicts by `python -m shared.report.answer` -->", "<!-- end -->"
COUNTED = (
    *("paper", "tier", "reported numbers judged", "not comparable", "not run"),
    *("claims held", "contradicted", "undecided", "not judged here"),
)
VERIFIED = ("paper", "tier", "records", "trained again", "same to the last digit", "not the same", "when, by", "on")


def texts(root: Path | None = None, results: Path | None = None) -> dict[Path, str]:
    """Return {file: its text} of all that stands on verdicts; of a README what is between its marks, if it has them."""
    root = root or repository()
    results = results or root / "results"
    found = everything(results, root)
    picture = pictures(most_decided(found), results, "results/")
    inside = {root / "README.md": [*reported_numbers(found, results), "", *question_table(found, short=True), *picture]}
    written = {path: read_text(path, ConfigError) for path in _readmes(root) if path.exists()}
    for path, text in written.items():
        if path not in inside:
            mine = {pair: claims for pair, claims in found.items() if pair[0] == path.parent.name}
            inside[path] = of_paper(mine, results, remade(text, BEGIN, "", END))
    return {results / "README.md": overview(found, results)} | {
        path: remade(text, BEGIN, "\n".join(inside[path]), END) for path, text in written.items()
    }


def _readmes(root: Path) -> list[Path]:
    return [root / "README.md", *(root / "papers" / paper / "README.md" for paper in papers(root))]


def overview(found: dict[tuple[str, str], list[Judged]], results: Path) -> str:
    """Return results/README.md."""
    against = [
        (paper, sharpest(claims), claims)
        for (paper, _), claims in found.items()
        if any(one.claim.role == "paper" for one in claims)
    ]
    spared = {paper for paper, _, _ in against} - {paper for paper, one, _ in against if one}
    lines = [
        "# What was found",
        "",
        "Made from the verdicts in this folder by `python -m shared.report.answer`; nothing here is written by hand.",
        "What each verdict means, and how often it is wrong: [docs/verdicts.md](../docs/verdicts.md).",
        "",
        *question_table(found, "../"),
        "",
        "## How much was judged",
        "",
        *count_table(found, results),
        "",
        "## Trained again",
        "",
        *verified_table(results),
        "",
        "## The sharpest contradiction of each paper",
        "",
        *(f"- **{paper}**, {one.tier}: {words.contradiction(one, claims)}" for paper, one, claims in against if one),
        *(f"- **{paper}**: none" for paper in sorted(spared)),
    ]
    return "\n".join([*lines, *pictures(found, results, "")]) + "\n"


def pictures(found: Iterable[tuple[str, str]], results: Path, up: str) -> list[str]:
    """Return the figures of claims that are there, below what they show; `up` leads from the file to results."""
    there = [pair for pair in found if (results / pair[1] / pair[0] / "claims.svg").exists()]
    texts = (f"![The claims of {paper}, tier {tier}]({up}{tier}/{paper}/claims.svg)" for paper, tier in there)
    return [line for text in (*([words.PICTURE] if there else []), *texts) for line in ("", text)]


def reported_numbers(found: Iterable[tuple[str, str]], results: Path) -> list[str]:
    """Return a sentence on how many reported numbers were judged, each by the tier that answers for it."""
    best: dict[tuple[str, ...], dict[str, str]] = {}
    for paper, tier in found:
        for cell in cells_found(paper, tier, results):
            place = (paper, *(cell[column] for column in ("table", "row", "column", "metric", "selection")))
            best[place] = max(best.get(place, cell), cell, key=standing_of)
    counted = Counter(cell["verdict"] for cell in best.values())
    judged = [f"{counted[name]} {name}" for name in VERDICTS if counted[name] and name not in UNJUDGED]
    unlike, left = counted["NOT COMPARABLE"], counted["NOT RUN"] + counted["FAILED"]
    said = f"{len(best) - unlike - left} were judged ({', '.join(judged)})" if judged else "none could be judged yet"
    return [
        f"Of {len(best)} numbers that the papers report {said}: {unlike} have one of ours beside them that is not "
        f"comparable, from other data, another network or protocol, and {left} were not run. What is answered so far:"
    ]


def most_decided(found: dict[tuple[str, str], list[Judged]]) -> list[tuple[str, str]]:
    """Return the paper and tier of whose own claims the most in a hundred are decided, as a list of one or none."""
    own = {
        pair: [one.verdict in DECIDED for one in claims if one.claim.role == "paper"] for pair, claims in found.items()
    }
    share = {pair: sum(decided) / len(decided) for pair, decided in own.items() if any(decided)}
    return [max(share, key=share.__getitem__)] if share else []


def question_table(found: dict[tuple[str, str], list[Judged]], up: str | None = "", short: bool = False) -> list[str]:
    """Return every paper's questions with their answers, a line each; `short` leaves the controls to results/README.md.

    `up` leads from the file's folder to the repository; None names no paper, in the README of one. The tier leads to
    the verdicts, which name the records; those of other tiers, with their estimates, stand beside it where they differ.
    """
    head = ("question", "answer", "measured [90 %]", "tier", "control the paper left out")[: 4 if short else 5]
    root, rows = "../../" if up is None else up, []
    for paper in dict.fromkeys(paper for paper, _ in found):
        mine = [one for (name, _), claims in found.items() if name == paper for one in claims]
        for one in questions(mine):
            name = "" if up is None else f"[{paper}]({up}papers/{paper}/README.md): "
            others = [same for same in mine if same.claim.id == one.claim.id and same.verdict != one.verdict]
            page = f"results/{{tier}}/{paper}/comparison.md#{one.claim.id}"
            said = [(one.tier, ""), *((same.tier, f": {words.in_short(same)}") for same in others)]
            cells = (
                name + one.claim.question,
                f"**{words.answer(one)}**",
                words.in_numbers(one),
                "; ".join(f"[{tier}]({root}{page.format(tier=tier)}){verdict}" for tier, verdict in said),
                words.control(one, mine),
            )
            rows.append(cells[: len(head)])
    return grid(head, rows)


def questions_in(folder: Path) -> str:
    """Return the questions of all papers as a tier's results answer them, as a list in reStructuredText."""
    lines = []
    for paper in papers():
        for one in questions(claims_found(paper, folder.name, folder.parent)):
            lines.append(f"- {paper}: {one.claim.question} **{words.answer(one)}.** {words.in_numbers(one)}")
    return "\n".join(lines)


def count_table(found: dict[tuple[str, str], list[Judged]], results: Path) -> list[str]:
    """Return how many numbers and claims were judged, a line for each paper and tier."""
    return grid(COUNTED, (counts(*pair, claims, cells_found(*pair, results)) for pair, claims in found.items()))


def counts(paper: str, tier: str, found: list[Judged], cells: list[dict[str, str]]) -> tuple[str, ...]:
    """Return the texts under `COUNTED` of one paper in one tier: of its own claims, or of ours where there is none."""
    cell = Counter(cell["verdict"] for cell in cells)
    judged = ", ".join(f"{cell[name]} {name}" for name in VERDICTS if cell[name] and name not in UNJUDGED) or "0"
    theirs = [one for one in found if one.claim.role == "paper"]
    own = theirs or [one for one in found if one.claim.role == "extension"]
    claim, undone = Counter(one.verdict for one in own), sum(bool(one.reservation) for one in own)
    held = f"{claim['HOLDS']}" + " of ours" * (not theirs) + f", {undone} of them undone by a control" * bool(undone)
    rest = sum(n for verdict, n in claim.items() if verdict not in (*DECIDED, "INCONCLUSIVE"))
    left = (cell["NOT COMPARABLE"], cell["NOT RUN"] + cell["FAILED"])
    return tuple(map(str, (paper, tier, judged, *left, held, claim["CONTRADICTED"], claim["INCONCLUSIVE"], rest)))


def verified_table(results: Path) -> list[str]:
    """Return of how many records another training was compared, digit by digit, a line for each paper and tier."""
    rows = []
    for tier in tiers_found(results):
        for row in read_verified(results / tier).values():
            again = sum(int(row[name]) for name in COUNTS)
            where = f"{row['cpu']}; torch {row['torch']}"
            when = f"{row['date']}, {row['by']}" + ("; **the records have changed since**" if row["outdated"] else "")
            apart = ", ".join(f"{row[name]} {name}" for name in COUNTS[1:] if row[name] != "0") or "none"
            rows.append((row["paper"], tier, row["records"], again, row["same"], apart, when, where))
    return grid(VERIFIED, rows) if rows else ["Nothing yet: `python -m shared.runs.verify --sample 6 --write` does it."]


def of_paper(found: dict[tuple[str, str], list[Judged]], results: Path, prose: str = "") -> list[str]:
    """Return what was found of one paper: its questions, its counts, what is contradicted, what `prose` names."""
    lines = [*question_table(found, None), "", *count_table(found, results)]
    for (_, tier), claims in found.items():
        against = contradicted(claims)
        lines += ["", f"Contradicted, tier {tier}:", ""] * bool(against)
        lines += [f"- {words.contradiction(one, claims)}" for one in against]
    return [*lines, *named_in(prose, found), *pictures(found, results, "../../results/")]


def named_in(prose: str, found: dict[tuple[str, str], list[Judged]]) -> list[str]:
    """Return the verdicts of the claims that a text names between backticks, in its order, a line each, if any."""
    verdicts = {(one.claim.id, tier): words.in_short(one) for (_, tier), claims in found.items() for one in claims}
    known, tiers = {name for name, _ in verdicts}, list(dict.fromkeys(tier for _, tier in found))
    rows = [
        (f"`{name}`", *(verdicts.get((name, tier), "-") for tier in tiers))
        for name in dict.fromkeys(re.findall(r"`([^`\s]+)`", prose))
        if name in known
    ]
    return ["", *grid(("claim named below", *tiers), rows)] if rows else []


def main(argv: list[str] | None = None) -> int:
    """Write every file anew, or say with --check which are not what the verdicts say; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shared.report.answer", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file is not current")
    check = parser.parse_args(argv).check
    try:
        made = texts()
        old = [path for path, text in made.items() if not path.exists() or read_text(path, ConfigError) != text]
        for path in [] if check else old:
            write_text(path, made[path])
    except (Sentence, OSError) as error:
        print(sentence_of(error), file=sys.stderr)
        return 2
    for path in old:
        print(f"{path} {'is not what the verdicts say' if check else 'made anew'}", file=sys.stderr)
    return int(check and bool(old))


if __name__ == "__main__":
    sys.exit(main())
