"""Commands, files, links, numbers and names in READMEs and docs are those there are."""

import contextlib
import csv
import io
import re
import runpy
import shlex
import sys
import tomllib
import warnings
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from shared.comparison.claims import read_claims
from shared.config import papers_of, plan, tiers
from shared.config.spec import parse_changes
from shared.datasets.catalogue import read_sources

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("papers/*/config.yaml"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("papers/*/README.md"))]
TEXTS += sorted(ROOT.glob("docs/*.md"))
OURS = ["bagwise", "benchmarks", "config", "docs", "papers", "profiles", "requirements", "shared", "tests", "workflows"]
PATH = re.compile(rf"(?:{'|'.join(OURS)})/[\w./-]*\w/?|[\w./-]*\w\.(?:py|yaml|csv|md|txt|in|smk|toml|yml|cff)")

NAMES = {
    path.name for folder in [ROOT, *(ROOT / name for name in OURS)] for path in folder.rglob("*") if path.is_file()
}
CODE = [path.read_text(encoding="utf-8") for folder in OURS for path in (ROOT / folder).rglob("*.py")]


def within(text):
    """What a text marks as code: the lines of its blocks, and what stands between backticks."""
    blocks = re.findall(r"```\n(.*?)```", text, re.S)
    lines = [re.sub(r"\s+# .*", "", line) for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return [line.strip() for line in lines if line.strip()], [" ".join(span.split()) for span in spans]


def commands():
    """(file, words) of each command that Python runs a module of ours by."""
    found = {}
    for path in TEXTS:
        lines, spans = within(path.read_text(encoding="utf-8"))
        for line in [*lines, *spans]:
            for call in re.findall(r"python -m ((?:papers|shared|workflows|benchmarks)[\w.]*[^;&|>`]*)", line):
                found[path.relative_to(ROOT).as_posix(), call.strip()] = None
    return list(found)


@cache
def help_of(module, *command):
    """What a module says of its options; where it takes no --help, what it does as a command, since it would begin."""
    file = ROOT.joinpath(*module.split("."))
    source = file.with_suffix(".py") if file.with_suffix(".py").exists() else file / "__main__.py"
    started = source.read_text(encoding="utf-8").rpartition('__name__ == "__main__"')[2]
    if not re.search(r"\bmain\(", started):
        return started
    said, argv = io.StringIO(), sys.argv
    sys.argv = [module, *command, "--help"]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            warnings.simplefilter("ignore", RuntimeWarning)  # the module is imported already
            runpy.run_module(module, run_name="__main__")
    finally:
        sys.argv = argv
    return said.getvalue()


@cache
def runs(paper):
    """{id: run} over all tiers of a paper."""
    return {run.id: run for tier in tiers() if paper in papers_of(tier) for run in plan(paper, tier)}


@pytest.mark.parametrize(("path", "call"), commands(), ids=lambda value: value if "/" in value else value[:60])
def test_a_command_has_the_options_runs_and_values_that_it_is_called_with(path, call):
    """A reader who types it must not be met by a usage message."""
    module, *words = shlex.split(call)
    said = help_of(module, *[word for word in words[:1] if module == "shared.datasets"])
    unknown = [word for word in words if word.startswith("--") and not re.search(rf"{word}\b", said)]
    assert not unknown, f"{path}: {module} has no {unknown}"
    paper = module.split(".")[1] if module.startswith("papers.") else next((w for w in words if w in PAPERS), "")
    for before, word in pairwise(["", *words]):
        if re.fullmatch(r"\S+/seed\d+", word):
            assert f"{paper}/{word}" in runs(paper), f"{path}: {word}"
            at = words.index("--set") if "--set" in words else len(words)
            changes = [pair for pair in words[at + 1 :] if re.fullmatch(r"\w+=\S+", pair)]
            assert len(parse_changes(changes, runs(paper)[f"{paper}/{word}"].spec)) == len(changes)
        elif before == "--only":
            assert any(re.search(word, name) for name in runs(paper)), f"{path}: {word}"
        elif before == "--tier":
            assert word in tiers(), f"{path}: {word}"
        elif before in ("fetch", "pack"):
            assert word in read_sources(), f"{path}: {word}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_a_text_names_exist(path):
    """From the root or from the text's own folder; a bare name may be one that code reads or writes."""
    _, spans = within(path.read_text(encoding="utf-8"))
    missing = [
        span
        for span in spans
        if PATH.fullmatch(span) and not (ROOT / span).exists() and not (path.parent / span).exists()
        if span != "papers/six/"  # which a reader adds
        if "/" in span or not (span in NAMES or any(span in text for text in CODE))
    ]
    assert missing == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_of_a_text_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
        if "//" not in target:
            file = path.parent / target if target else path
            assert file.exists(), target
            text = file.read_text(encoding="utf-8") if anchor else ""
            titles = [re.sub(r"[^\w -]", "", title.lower()) for title in re.findall(r"^#+ (.*)", text, re.M)]
            named = [title.replace(" ", "-") for title in titles] + re.findall(r'^<a id="([\w-]+)"></a>', text, re.M)
            assert not anchor or anchor in named


def test_the_tables_of_the_readme_name_every_room_paper_and_tier():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = " ".join(re.findall(r"^\| (`.*?) \|", text.split("| room | what |")[1].split("\n\n")[0], re.M))
    folders = {path.parent.name for path in ROOT.glob("shared/*/__init__.py")}
    assert {name for name in re.findall(r"\w+", rooms) if (ROOT / "shared" / name).is_dir()} == folders
    assert set(re.findall(r"^\| \[(\w+)\]\(papers/\1/README.md\) \|", text, re.M)) == set(PAPERS)
    assert set(tiers()) == set(re.findall(r"^\| `(\w+)` \|", text.split("| tier | data |")[1].split("\n\n")[0], re.M))


def test_environment_variables_that_a_text_names_are_read():
    read = "\n".join([*CODE, (ROOT / "Makefile").read_text(encoding="utf-8")])
    named = {name for path in TEXTS for name in re.findall(r"\bLLP_[A-Z]+\b", path.read_text(encoding="utf-8"))}
    assert {"LLP_DATA", "LLP_MIRROR", "LLP_TIER"} <= named
    assert [name for name in named if name not in read] == []


def test_what_the_library_needs_is_said():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    torch, *others = project["dependencies"]
    needs = f"torch from {torch[7:]}, {', '.join(others[:-1])} and {others[-1]}"
    said = f"Python from {project['requires-python'][2:]}, {needs}"
    assert said in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_what_plots_readme_counts_is_counted():
    """How many cells the paper reports, in how many PLOT must improve."""
    text = (ROOT / "papers/plot/README.md").read_text(encoding="utf-8")
    cells = list(csv.DictReader((ROOT / "papers/plot/reported.csv").read_text(encoding="utf-8").splitlines()))
    assert int(re.search(r"of the (\d+) cells would be called REPRODUCED", text)[1]) == len(cells)
    claims = {claim.id: claim for claim in read_claims(ROOT / "papers" / "plot" / "claims.yaml")}
    named = re.findall(r"^\| ([\w-]+) \| \d+% \| \d+% \| \d+% \|$", text, re.M)
    assert len(named) > 5 and set(named) <= set(claims)


def test_what_rots_readme_counts_is_counted():
    """The candidates of its search, and the hours of its sweep over alpha."""
    text = (ROOT / "papers/rot/README.md").read_text(encoding="utf-8")
    paper = plan("rot", "paper")
    rates, alphas = (paper[-1].spec.values()[key] for key in ("learning_rates", "alphas"))
    said = re.search(r"\((\d+) of AvgKL and KL, (\d+) of ROT\)", text)
    assert [int(number) for number in said.groups()] == [len(rates), len(rates) * len(alphas)]
    hours = {name: sum(run.seconds for run in paper if name in run.experiment) / 3600 for name in ("", "alpha sweep")}
    assert int(re.search(r"Of the (\d+) hours of the `paper` tier", text)[1]) == round(hours[""])
    assert int(re.search(r"sweep over alpha,[^,]+, takes (\d+)", text)[1]) == round(hours["alpha sweep"])


def test_times_of_exact_transport_are_those_of_its_benchmark():
    with (ROOT / "results/bench/transport.csv").open(newline="") as file:
        timed = [row for row in csv.DictReader(file) if (row["work"], row["solver"]) == ("exact, counts", "ours")]
    text = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
    median = {tuple(int(row[name]) for name in ("B", "N", "K", "threads")): row["milliseconds_median"] for row in timed}
    rows = re.findall(r"^\| ([\d,]+ x [\d,]+ x [\d,]+) .* ([\d.]+) ms \| ([\d.]+) ms \|$", text, re.M)
    assert rows
    for size, *said in rows:
        sizes = [int(number.replace(",", "")) for number in size.split(" x ")]
        assert said == [f"{float(median[*sizes, threads]):.2g}" for threads in (1, 2)], size
