"""What DVC shows of this repository: a line a method, a number or so of each, what changed in a paper's config."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pandas
import pytest
import yaml

from shared.config import papers
from shared.config.outputs import Outputs, read_outputs
from shared.datasets import registry
from shared.tables.make import _for_dvc

ROOT = Path(__file__).parents[2]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())


def run(command, folder):
    environment = os.environ | {"DVC_SITE_CACHE_DIR": str(folder / "site"), "DVC_NO_ANALYTICS": "1", "COLUMNS": "300"}
    done = subprocess.run(command.split(), cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with what dvc.yaml names beside its stages, of one paper, and a commit."""
    folder = tmp_path_factory.mktemp("repository")
    table = [
        {"method": method, "bag_size": size, "dataset": data, "n_seeds": 3, "mean": 90.0 - size, "selection": "last"}
        for method in ("rot", "kl")
        for size in (16, 4, 1)
        for data in ("cifar10", "cifar100")
    ]
    made = {"fig2": pandas.DataFrame(table)}
    named = read_outputs("rot")
    _for_dvc(Outputs("rot", (), (), named.metrics, named.plot), made, folder / "results/quick")
    shown = {key: DVC[key] for key in ("vars", "params", "metrics", "plots")}
    own = [path for path in shown["params"] if "/rot/" in path]
    (folder / "dvc.yaml").write_text(yaml.safe_dump({**shown, "params": own}))
    for path in (*own, ".dvc/plots/methods.json", ".dvcignore", ".gitignore"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes((ROOT / path).read_bytes())
    (folder / ".dvc/config").write_text((ROOT / ".dvc/config").read_text())
    for command in ("init -q", "config user.name a", "config user.email a@b", "add -A", "commit -qm one"):
        run(f"git {command}", folder)
    return folder


def test_plots_draw_one_line_a_method(repository):
    """All points of all methods were one line, to and fro."""
    run("dvc plots show", repository)
    page = (repository / "dvc_plots/index.html").read_text()
    spec = json.JSONDecoder().raw_decode(page, page.index('{"$schema"'))[0]
    assert spec["encoding"]["color"]["field"] == "method"
    values = [(v["method"], float(v["x"]), float(v["y"])) for v in spec["data"]["values"]]
    lines = {method for method, _, _ in values}
    assert lines == {f"{method}, {data}" for method in ("kl", "rot") for data in ("cifar10", "cifar100")}
    assert [value for value in values if value[0] == "kl, cifar10"] == [("kl, cifar10", x, 90 - x) for x in (1, 4, 16)]
    assert "dvc_plots" not in run("git status --porcelain", repository)  # a page that is made again is no change


def test_metrics_are_few_enough_to_be_read(repository):
    head, *_ = run("dvc metrics show", repository).splitlines()
    assert head.split() == ["Path", "kl", "rot"]


def test_params_diff_names_the_value_that_changed(repository):
    config = repository / "papers/rot/config.yaml"
    text = config.read_text()
    config.write_text(text + "\nanother: 3\n")
    try:
        lines = run("dvc params diff", repository).splitlines()
    finally:
        config.write_text(text)
    assert [line.split()[1:] for line in lines[1:]] == [["another", "-", "3"]]


def test_every_paper_has_its_config_among_the_params():
    asked = {f"papers/{paper}/config.yaml" for paper in papers()}
    assert asked <= set(DVC["params"]) and all(stage["outs"] for stage in DVC["stages"].values())


def test_no_stage_deletes_results_before_it_runs():
    """DVC removes outputs before it runs a stage; hours of records would go."""
    outs = [out for stage in DVC["stages"].values() for out in stage["outs"]]
    assert outs and all(options["persist"] and not options["cache"] for out in outs for options in out.values())


def test_a_stage_has_the_pin_of_each_set_that_its_paper_reads():
    """`dvc dag` shows these as edges; what is drawn or read in place has no stage."""
    kinds = (registry.ARRAYS, registry.LOCALISED)
    fetched = {name for name, entry in registry.entries().items() if entry.kind in kinds}
    needed = registry.needs()
    for paper, stage in DVC["stages"].items():
        asked = {name for name in fetched if paper in needed.get(name, {})}
        assert {Path(dep).stem for dep in stage["deps"] if dep.startswith("data/pins/")} == asked, paper


def test_pins_and_their_lock_are_of_todays_sources():
    """Else `dvc status` of a fresh clone names every set as changed."""
    lock = yaml.safe_load((ROOT / "data/dvc.lock").read_text())["stages"]
    held = {part["path"]: part["md5"] for stage in lock.values() for part in stage["deps"] + stage["outs"]}
    pins = {path.stem: path for path in (ROOT / "data/pins").iterdir()}
    assert {name: path.read_text() for name, path in pins.items()} == {
        name: registry.entry_of(name).pin() for name in pins
    }
    for path in ("data/sources.csv", *(f"data/pins/{name}.txt" for name in pins)):
        assert held[path] == hashlib.md5((ROOT / path).read_bytes()).hexdigest(), f"dvc repro {path}"
    stages = yaml.safe_load((ROOT / "data/dvc.yaml").read_text())["stages"]
    names = {f"{stage}@{item}" for stage, body in stages.items() for item in body.get("foreach", ())}
    assert set(lock) == names | {stage for stage, body in stages.items() if "foreach" not in body}
