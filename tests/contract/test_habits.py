"""What a stranger expects beside the code: licences, citation, changes, hooks, and that nothing calls home."""

import ast
import configparser
import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import bagwise
from shared.datasets.catalogue import read_sources
from workflows import inventory

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("papers/*/reported.csv"))
MYPY = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
CODE = [path for room in ("shared", "papers", "bagwise", "workflows") for path in (ROOT / room).rglob("*.py")]
MARKS = re.compile(r"^\| (\S+) \| (.+?) \| (.+?) \|$", re.M)


def pages():
    """{title: its rows} of the two tables of docs/licences.md, as it stands."""
    text = inventory.PAGE.read_text(encoding="utf-8")
    parts = {part.split("\n")[0]: MARKS.findall(part)[1:] for part in text.split("\n## ")}
    return parts["Packages"], parts["Data"]


def test_every_package_of_the_lock_and_every_set_has_its_licence_on_one_page():
    packages, sets = pages()
    assert {(name, version) for name, version, _ in packages} == {(p.name, p.version) for p in inventory.packages()}
    assert [name for name, _, _ in sets] == list(read_sources())
    assert {name: licence for name, licence, _ in sets} == {n: ways[0].licence for n, ways in read_sources().items()}


def test_licences_are_those_that_the_packages_state():
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("not running in .venv")
    stated = {p.name: p.licence.replace("|", "or") for p in inventory.packages() if p.licence != inventory.ELSEWHERE}
    assert len(stated) > 100
    assert {name: licence for name, _, licence in pages()[0] if name in stated} == stated


def test_the_bill_of_materials_names_each_package_and_set_once_with_a_licence():
    components = inventory.bill()["components"]
    assert len({one["bom-ref"] for one in components}) == len(components)
    assert {p.name for p in inventory.packages()} | set(read_sources()) == {one["name"] for one in components}
    assert all(one["licenses"] for one in components)


def test_what_ultralytics_asks_is_said_where_licences_are():
    assert "papers/ece/detection" in (ROOT / "NOTICE").read_text()
    guilty = [path.parent for path in CODE if re.search(r"(from|import) ultralytics", path.read_text())]
    assert {str(folder.relative_to(ROOT)) for folder in guilty} == {"papers/ece/detection"}


def test_a_citation_names_this_and_every_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["version"], cited["license"]) == (bagwise.__version__, "MIT")
    named = {reference["notes"]: reference for reference in cited["references"]}
    for paper in PAPERS:
        if paper != "benchmark":
            head = (ROOT / "papers" / paper / "README.md").read_text().split("\n\n")[1]
            reference = named.pop(f"papers/{paper}")
            assert all(f"{a['given-names']} {a['family-names']}" in head for a in reference["authors"]), paper
            assert str(reference["year"]) in head
    assert named == {}


def test_changes_begin_with_this_version():
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1] == bagwise.__version__


def test_hooks_fetch_nothing():
    """They run what `make setup` installed, and what is a console command of the lock."""
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    locked = {package.name for package in inventory.packages()}
    for hook in repo["hooks"]:
        assert hook["language"] == "system"
        assert Path(hook["entry"].split()[0]).parent == Path(".venv/bin")
        assert Path(hook["entry"].split()[0]).name in locked


def test_mypy_passes_over_no_module_of_ours():
    assert [rule["module"] for rule in MYPY.get("overrides", ()) if rule.get("ignore_errors")] == []
    assert {"bagwise", "papers", "shared"} <= set(MYPY["files"])


def test_dvc_neither_reports_nor_looks_for_news():
    config = configparser.ConfigParser()
    config.read_string((ROOT / ".dvc" / "config").read_text().replace("    ", ""))
    assert dict(config["core"]) == {"analytics": "false", "check_update": "false"}


def test_ultralytics_reports_nothing_where_it_is_imported_here():
    """Its events need both its setting and a network; of what is imported here the second is off for good."""
    importlib.import_module("papers.ece.detection.library")
    assert importlib.import_module("ultralytics.utils").ONLINE is False
    assert importlib.import_module("ultralytics.utils.events").Events().enabled is False


def test_no_weights_come_from_a_hub():
    """A network that fetched its weights would tell a host of it, and train from what no record pins."""
    fetching = re.compile(r"\bhub\b|from_pretrained|hf_hub|load_state_dict_from_url|snapshot_download")
    found = []
    for path in CODE:
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        for call in calls:
            name, words = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
            default = "imagenet" if name.startswith("smp.") else "None"
            weights = {words.get("encoder_weights", default), words.get("pretrained", "None")}
            if fetching.search(name) or weights != {"None"}:
                found.append(f"{path}:{call.lineno}: {name}")
    assert found == []


def test_what_reports_of_itself_is_known():
    """A package that sends telemetry comes in by the lock: find out how it is turned off, then name it here."""
    names = {package.name for package in inventory.packages()}
    assert {name for name in names if re.search(r"telemetry|analytics|sentry", name)} == {
        "iterative-telemetry"
    }  # DVC's
