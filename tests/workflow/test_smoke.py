"""The whole workflow as a reader types it, in a copy of this repository: tier smoke, nothing downloaded.

One real `snakemake all --cores`; the tests after it look at what a next call would do, and leave the copy as it was.
"""

import base64
import contextlib
import html
import json
import re
import shutil
import sys

import pytest
import yaml

from shared.config import papers_of, plan
from shared.records import record_path
from shared.runs.code import sources
from tests.workflow.house import ROOT, build, run

PAPERS = papers_of("smoke")
ONE_PAGE = {"page", "report", "all"}
AFTER_TRAINING = ("tables", "figures")  # the rules <paper>_... that stand on <paper>_train
AFTER_ALL = {"comparison", *ONE_PAGE}
ALL_CORES = ["snakemake", "all", "--cores"]
STAGES = ("teachers", "detectors", "selections", "rates", "curves")  # what runs share, kept beside checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6000)]


def would_run(folder, *arguments):
    """{rule: number of jobs} that `snakemake -n` announces."""
    return announced(run(["snakemake", "-n", *(arguments or ["all"]), "--cores", "1"], folder))


def announced(said):
    """{rule: number of jobs} of what a call of Snakemake has said."""
    if "Nothing to be done" in said:
        return {}
    table = said.split("Job stats:")[1].split("\n\n")[0].splitlines()[3:]
    return {rule: int(n) for rule, n in (line.split() for line in table) if rule != "total"}


def state(*folders):
    """{file: (bytes, time of change)} of everything under `folders`."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def records(house):
    return state(*(house / "results/smoke" / paper / "runs" for paper in PAPERS))


@contextlib.contextmanager
def edited(path, line):
    """A file with a line more at its end, for as long as the block lasts."""
    text = path.read_text()
    path.write_text(f"{text}\n{line}\n")
    try:
        yield
    finally:
        path.write_text(text)


@contextlib.contextmanager
def replaced(path, old, new):
    """A file with one text in place of another, for as long as the block lasts."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_text(text)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """(folder, what was said): a checkout of this repository where `snakemake all --cores` has run once."""
    house = build(tmp_path_factory.mktemp("smoke") / "house")
    return house, run(ALL_CORES, house)


@pytest.fixture(scope="module")
def house(first):
    return first[0]


def test_the_first_lines_say_tier_time_and_choice(first):
    """Before anything is downloaded or trained, a reader learns what was chosen, how long, and how to change it."""
    lines = first[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Tier "))
    assert lines[start].startswith("Tier smoke: toy data")
    assert lines[start + 1] == "Records: 0 made here."
    assert re.match(r"To train: \d+ (s|min) for \d+ runs, \d+ at once on cpu", lines[start + 2])
    assert "--config tier=NAME" in lines[start + 3]
    assert all(tier in lines[start + 3] for tier in ("smoke", "quick", "gpu", "paper"))
    assert start < next(i for i, line in enumerate(lines) if "Building DAG" in line)
    assert start <= 3


def test_the_last_lines_say_what_was_trained(first):
    """A reader must know whether numbers were made now or came with the clone."""
    runs = sum(len(plan(paper, "smoke")) for paper in PAPERS)
    lacking = first[1].count("NOT RUN, ")
    said = re.search(r"Trained now: (\d+) runs\. Records: (\d+) made here\.", first[1])
    assert said and said[1] == said[2]
    assert int(said[1]) == runs or lacking


def test_a_first_run_is_quiet(first):
    """Warnings that mean nothing teach people to overlook the one that does."""
    said = [line for line in first[1].splitlines() if "Warning" in line or "FAILED" in line or "Traceback" in line]
    assert not said, "\n".join(said)


def test_every_run_has_its_record(house):
    """A record that names no commit cannot be traced; one missing makes a silent hole in the tables."""
    head = run(["git", "rev-parse", "HEAD"], house).strip()
    for paper in PAPERS:
        runs = house / "results/smoke" / paper / "runs"
        planned = {record_path(runs, one.id) for one in plan(paper, "smoke")}
        assert set(runs.rglob("*.json")) == planned
        for path in planned:
            assert json.loads(path.read_text())["code"]["commit"] == head


def test_nothing_but_results_and_data_is_made(house):
    """A run leaves a clean checkout: whoever publishes can tell results from leftovers."""
    assert run(["git", "status", "--porcelain"], house) == ""
    assert not list(house.glob("results/**/*.part")) and not list(house.glob("results/**/.*"))
    # What stays are shared stages, which runs to come may stand on.
    assert not [p for p in (house / ".work").rglob("*.pt") if p.parent.name not in STAGES]


@pytest.mark.parametrize("paper", PAPERS)
def test_report_holds_every_figure_and_table(house, paper):
    """report.html and the page in it are sent around alone: what they lack does not exist for their reader."""
    folder, page = house / "results/smoke" / paper, house / "results/smoke/index.html"
    text = (house / "results/smoke/report.html").read_text()
    start = text.index("var results = ", text.index('<script id="results">')) + len("var results = ")
    shown, _ = json.JSONDecoder().raw_decode(text, start)
    figures = sorted(folder.glob("*.svg"))
    assert figures
    for path in [*figures, page]:
        entry = shown[str(path.relative_to(house))]
        assert base64.b64decode(entry["data_uri"].partition(",")[2]) == path.read_bytes()
        assert len(entry["caption"]) > 40
    assert {path.stem for path in folder.glob("*.png")} == {path.stem for path in figures}
    tables = [path for path in folder.glob("*.md") if path.name != "comparison.md"]
    assert tables
    for table in tables:
        heading = table.read_text().splitlines()[0].lstrip("# ")
        assert heading in html.unescape(page.read_text()), table
    for name in ("comparison.csv", "claims.csv", "comparison.md", "runs/index.csv"):
        assert (folder / name).stat().st_size > 0


def test_all_can_be_trained_again_and_then_there_is_calm(house):
    """A reader who doubts the records that came along asks for new ones with a word; a second call does nothing."""
    before = records(house)
    said = run(["snakemake", "rot", "--cores", "--config", "again=true"], house)
    runs = len(plan("rot", "smoke"))
    assert f"{runs} runs, {runs} to do" in said
    changed = {path for path, content in records(house).items() if before[path] != content}
    assert changed == {path for path in before if path.is_relative_to(house / "results/smoke/rot")}
    assert set(announced(run(ALL_CORES, house))) == ONE_PAGE
    assert would_run(house, "rot", "--config", "again=true") and would_run(house, "rot") == {}, (
        "a dry run asks for more"
    )
    before = state(house / "results", house / "data")
    assert "Nothing to be done" in run(ALL_CORES, house)
    assert state(house / "results", house / "data") == before


def test_after_a_kill_the_one_command_snakemake_asks_for_works(house):
    assert "Unlocked" in run(["snakemake", "--unlock"], house)


def test_an_edited_solver_trains_again_an_edited_style_draws_again_and_an_undone_edit_does_nothing(house):
    """Stale numbers after a fix in a solver are the worst that can happen; data and features do not depend on it.

    Hours of training for another colour would teach people to edit svg files by hand.
    """
    solver = "shared/transport/unbalanced.py"
    users = [paper for paper in PAPERS if ROOT / solver in sources(f"papers.{paper}.train", carriers=False)]
    assert "rot" in users
    with edited(house / solver, "FORCED = 1"):
        again = set(would_run(house))
    assert {f"{paper}_train" for paper in users} <= again
    assert again == AFTER_ALL | {f"{p}_{rule}" for p in users for rule in ("train", *AFTER_TRAINING)}
    with edited(house / "shared/plotting/__init__.py", "FORCED = 1"):
        assert set(would_run(house)) == ONE_PAGE | {f"{paper}_figures" for paper in PAPERS}


def test_a_deleted_record_is_noticed_and_trained_alone(house):
    """Deleting a record is how a reader doubts a number; the rest must stay as it was, and calm must return."""
    ids = [one.id for one in plan("rot", "smoke")]
    runs = house / "results/smoke/rot/runs"
    backup = shutil.copytree(runs, house.parent / "backup")
    lost = record_path(runs, next(i for i in ids if "/digits/kl/" in i))
    before = records(house)
    lost.unlink()
    try:
        assert f"{len(ids)} runs, 1 to do" in run(["snakemake", "rot_train", "--cores"], house)
        after = records(house)
        assert {path for path in before if after.get(path) != before[path]} == {lost, runs / "index.csv"}
        old, new = json.loads(before[lost][0]), json.loads(after[lost][0])
        for key in ("id", "method", "spec", "code", "data", "bags", "metrics", "curves"):
            assert new[key] == old[key], key
        assert "rot_train" not in would_run(house, "rot"), "the run that was trained again is asked for once more"
    finally:
        shutil.copytree(backup, runs, dirs_exist_ok=True)


def test_a_changed_word_is_in_the_tables_also_where_training_made_nothing_anew(house):
    """Training alone, or a kill before the tables, left the old words in them, and nothing to be done."""
    with replaced(house / "papers/rot/config.yaml", 'stand_in: "digits', 'stand_in: "some digits'):
        run(["snakemake", "rot_train", "--cores"], house)
        assert {"rot_tables", "comparison"} <= set(would_run(house, "rot"))


def test_records_of_a_value_that_was_put_back_are_trained_again(house):
    """A sweep by hand with another value: tables were empty after it, and there was nothing to be done."""
    by_hand = ["-m", "shared.runs.sweep", "--paper", "rot", "--tier", "smoke", "--only", "kl/bag1/"]
    with replaced(house / "papers/rot/config.yaml", "epochs: {value: 3, source", "epochs: {value: 2, source"):
        run([sys.executable, *by_hand], house)
    said = run(["snakemake", "rot", "--cores"], house)
    runs = len(plan("rot", "smoke"))
    assert f"{runs} runs, " in said and f"{runs} runs, 0 to do" not in said
    assert "NOT RUN" not in (house / "results/smoke/rot/fig2.md").read_text()
    assert would_run(house, "rot") == {}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("teir=smoke", "unknown key 'teir'; did you mean 'tier'?"),
        ("tier=smok", "there is no tier 'smok'; did you mean 'smoke'? there are cpu, gpu, paper, quick, smoke"),
    ],
)
def test_a_misspelling_is_refused_by_name(house, typed, said):
    """Snakemake takes any --config in silence; the default tier would run for hours in place of the one meant."""
    text = run(["snakemake", "-n", "all", "--cores", "1", "--config", typed], house, status=1)
    assert said in text
    assert len(text.splitlines()) < 8 and "Traceback" not in text


def test_dvc_finds_what_snakemake_made(house):
    """`dvc repro` after `snakemake all` must train nothing and must not delete, replace or touch a record.

    Two papers' stages stand for all, which call the same.
    """
    dvc = yaml.safe_load((house / "dvc.yaml").read_text())
    for paper, stage in dvc["stages"].items():
        assert stage["cmd"] == f"snakemake {paper} --cores all --config tier=${{tier}}"
        assert [list(out.values()) for out in stage["outs"]] == [[{"cache": False, "persist": True}]]
    dvc["vars"] = [{"tier": "smoke"}]
    stages = ["rot", "vp_dsd"]
    offline = {"DVC_SITE_CACHE_DIR": str(house.parent / "dvc"), "DVC_NO_ANALYTICS": "1"}
    assert run(["dvc", "config", "core.analytics"], house, **offline).strip() == "false"
    before = state(house / "results")
    try:
        (house / "dvc.yaml").write_text(yaml.safe_dump(dvc, sort_keys=False))
        said = run(["dvc", "repro", "--allow-missing", *stages], house, **offline)  # without CIFAR-10
        assert said.count("Nothing to be done") == len(stages)
        assert "up to date" in run(["dvc", "status", *stages], house, **offline)
        assert state(house / "results") == before
    finally:
        run(["git", "checkout", "-q", "dvc.yaml"], house)
        for lock in (house / "dvc.lock", house / "data/dvc.lock"):
            lock.unlink(missing_ok=True)


def test_a_fresh_clone_adopts_committed_results(house, tmp_path):
    """Whoever clones published results must not train for hours, nor download data, to draw a figure anew."""
    published, clone = tmp_path / "published", tmp_path / "clone"
    run(["git", "clone", "-q", str(house), str(published)], tmp_path)
    for paper in (*PAPERS, "metrics", "plots"):
        shutil.copytree(house / "results/smoke" / paper, published / "results/smoke" / paper)
        run(["git", "add", "-f", f"results/smoke/{paper}"], published)
    run(["git", "commit", "-qm", "results"], published)
    run(["git", "clone", "-q", str(published), str(clone)], tmp_path)
    recipe = re.search(r"^adopt:.*\n\t@?(.+)$", (clone / "Makefile").read_text(), re.MULTILINE)[1]
    run(["bash", "-c", recipe], clone)
    assert set(would_run(clone)) == ONE_PAGE, "only the pages, which git does not hold, may be missing"
    assert run(["git", "status", "--porcelain"], clone) == ""
    own = {".gitignore", "dvc.yaml", "dvc.lock", "pins", "sources.csv"}
    assert {path.name for path in (clone / "data").iterdir()} <= own
    with edited(clone / "papers/rot/config.yaml", "# edited"):
        assert {"dataset", "rot_train", "rot_tables"} <= set(would_run(clone))
