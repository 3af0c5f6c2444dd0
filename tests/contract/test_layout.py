"""The layout: who may import whom, what each part needs to be installed, and what a commit must not hold."""

import ast
import graphlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
ROOMS = sorted(path.parent.name for path in (ROOT / "shared").glob("*/__init__.py"))
PAPERS = sorted(path.parent.name for path in (ROOT / "papers").glob("*/__init__.py"))
MODULES = sorted([*(ROOT / "shared").rglob("*.py"), *(ROOT / "papers").rglob("*.py")])

ALONE = ("transport", "bags", "networks", "plotting")
MAY_IMPORT = {
    **{room: set() for room in ALONE},
    "transport": {"bags", "files"},
    "plotting": {"files"},
    "methods": set(ALONE),
}
SWEEP_NEEDS = ("torch", "numpy", "scipy", "PyYAML")

# A module search that finds nothing among the refused names, then the imports in question.
REFUSING = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}, refused by this test", name=name)

refused, modules = set(sys.argv[1].split(",")), sys.argv[2].split(",")
sys.meta_path.insert(0, Refuse())
for module in modules:
    importlib.import_module(module)
"""


def imports(path):
    """Every module a file imports, inside functions too; `from a import b` gives a and a.b."""
    package = path.parent.relative_to(ROOT).parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *([node.module] if node.module else [])])
            found |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
    return found


def within(folder, kind):
    """{file: names of what it imports from the package `kind`, one level down}."""
    files = [path for path in MODULES if path.is_relative_to(ROOT / folder)]
    return {
        str(path.relative_to(ROOT)): {name.split(".")[1] for name in imports(path) if name.startswith(f"{kind}.")}
        for path in files
    }


def committed():
    """What git holds or would take: tracked files, and untracked ones that it does not ignore."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def refusing(refused, modules):
    """Import modules in a fresh Python that finds nothing of `refused`."""
    command = [sys.executable, "-c", REFUSING, ",".join(sorted(refused)), ",".join(modules)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)


def installed_beside(*wanted):
    """Top-level modules of this environment that belong to no package among `wanted` nor to what those need."""
    todo, needed = list(wanted), set()
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name not in needed:
            needed.add(name)
            try:
                requires = map(Requirement, importlib.metadata.requires(name) or [])
            except importlib.metadata.PackageNotFoundError:
                continue
            todo += [need.name for need in requires if not need.marker or need.marker.evaluate({"extra": ""})]
    owners = importlib.metadata.packages_distributions()
    return {
        module
        for module, distributions in owners.items()
        if not needed & {re.sub(r"[-_.]+", "-", name).lower() for name in distributions}
        and module not in ("papers", "shared", "_distutils_hack", "_virtualenv", "distutils-precedence")
    }


def test_shared_never_imports_papers():
    """A sixth paper must need no edit in shared; a loss must be usable without any paper."""
    guilty = {path for path in MODULES if path.is_relative_to(ROOT / "shared")}
    assert not [
        str(path.relative_to(ROOT)) for path in guilty if any(n.split(".")[0] == "papers" for n in imports(path))
    ]


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_rooms_stand_on_what_they_may(room):
    """A reader who takes a solver or a loss along takes this one folder."""
    assert room in ROOMS
    allowed = MAY_IMPORT[room] | {room}
    assert {f: names - allowed for f, names in within(f"shared/{room}", "shared").items() if names - allowed} == {}


STAND_ON = {
    "config": {"config", "files"},
    "records": {"config", "files", "records"},
    "tables": {"config", "datasets", "files", "plotting", "records", "tables"},
    "comparison": {"comparison", "config", "files", "records", "runs", "tables"},
}


@pytest.mark.parametrize("room", sorted(STAND_ON))
def test_records_and_verdicts_know_no_torch(room):
    """Reading and judging published records must work where torch is not installed."""
    files = [path for path in MODULES if path.is_relative_to(ROOT / "shared" / room)]
    assert files
    assert not [str(p.relative_to(ROOT)) for p in files if any(n.split(".")[0] == "torch" for n in imports(p))]
    assert set().union(*within(f"shared/{room}", "shared").values()) <= STAND_ON[room]


def test_papers_import_each_other_without_a_circle():
    """The error names the circle; a paper in one could never be read alone."""
    graph = {
        paper: set().union(*within(f"papers/{paper}", "papers").values()) - {paper, "__init__"} for paper in PAPERS
    }
    list(graphlib.TopologicalSorter(graph).static_order())


def compiled(node):
    """Whether a definition is machine code of its module, by its decorator."""
    words = {name.id for decorator in node.decorator_list for name in ast.walk(decorator) if isinstance(name, ast.Name)}
    return bool(words & {"njit", "compiled", "vectorised", "inlined"})


def test_a_public_name_is_defined_once_in_shared():
    """A reader who meets a name knows what it is; two rooms with a `write` make two of everything.

    What is compiled is called by its own module.
    """
    found = {}
    for path in [path for path in MODULES if path.is_relative_to(ROOT / "shared")]:
        kinds = (ast.FunctionDef, ast.ClassDef)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, kinds) and not node.name.startswith("_") and node.name != "main" and not compiled(node):
                found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_no_file_names_a_device_where():
    """A device is called device; `where` is numpy's word."""
    wrong = re.compile(r"\bwhere = prepare_device|where\.type|device=where|where: torch\.device")
    assert [str(path.relative_to(ROOT)) for path in MODULES if wrong.search(path.read_text())] == []


def test_files_are_short():
    """Python and rule files of at most 400 lines, so that a reader finds any thing from the tree alone."""
    names = [n for n in committed() if Path(n).suffix in (".py", ".smk") or n in ("Snakefile", "Makefile")]
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in names}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_public_names_say_what_they_are():
    """Modules, public classes and public functions of shared and papers; a `main` says it by its --help."""
    silent = []
    for path in MODULES:
        tree = ast.parse(path.read_text())
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        public = [n for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_") and n.name != "main"]
        names = [getattr(node, "name", "module") for node in [tree, *public] if not ast.get_docstring(node)]
        silent += [f"{path.relative_to(ROOT)}: {name}" for name in names]
    assert not silent, "no docstring:\n" + "\n".join(silent)


def test_records_need_next_to_nothing():
    """These are what every snakemake call waits for, and what reads records anywhere."""
    done = refusing(
        installed_beside("PyYAML", "numpy"), ["shared.records", "shared.config.complete", "shared.runs.status"]
    )
    assert done.returncode == 0, done.stderr


def test_comparison_runs_without_torch():
    done = refusing({"torch", "ot", "matplotlib", "sklearn"}, ["shared.comparison.__main__"])
    assert done.returncode == 0, done.stderr


def test_the_sweep_needs_little():
    """An accelerator machine with torch, numpy, scipy and PyYAML alone must be able to train every paper."""
    refused = installed_beside(*SWEEP_NEEDS)
    assert {"pandas", "matplotlib", "seaborn", "sklearn", "snakemake", "dvc", "PIL", "torchvision", "ot"} <= refused
    assert not {"torch", "numpy", "scipy", "yaml"} & refused
    trained = sorted(path.parent.name for path in (ROOT / "papers").glob("*/train.py"))
    modules = ["shared.runs.sweep", "shared.runs.campaign", *(f"papers.{paper}.train" for paper in trained)]
    done = refusing(refused, modules)
    assert done.returncode == 0, f"{modules} import more than {SWEEP_NEEDS}:\n{done.stderr}"


def test_the_refusal_refuses():
    assert "refused by this test" in refusing({"yaml"}, ["shared.config"]).stderr


def test_nothing_of_one_machine_is_committed():
    """No path of somebody's machine, no package index: both would work there and nowhere else."""
    places = re.compile(r"(?<![\w.])/(work|root|home/\w+)/")
    hosts = re.compile(
        r"\b(pypi|pythonhosted|npmjs|anaconda|conda|docker|ghcr|quay)\.(org|com|io)\b"
        r"|\bartifact[o]ry\b|//[\w.]*\bnexus\b|--(extra-)?index[-]url"
    )
    found = []
    for name in committed():
        try:
            lines = (ROOT / name).read_text().splitlines()
        except UnicodeDecodeError:
            continue
        hits = [(number, line) for number, line in enumerate(lines, 1) if places.search(line) or hosts.search(line)]
        found += [f"{name}:{number}: {line.strip()[:100]}" for number, line in hits]
    assert not found, "\n".join(found)


def test_no_data_and_no_second_lock_are_committed():
    """Data come by `snakemake` or `dvc`, verified; versions come from requirements/lock.txt alone."""
    names = committed()
    assert not {"uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock"} & {Path(name).name for name in names}
    own = {"data/.gitignore", "data/sources.csv", "data/dvc.yaml", "data/dvc.lock"}
    assert {name for name in names if re.fullmatch(r"data/(?!pins/\w+\.txt).*", name)} <= own
    payload = re.compile(r"\.(npy|npz|pt|pth|ckpt|safetensors|pkl|h5|mat|parquet|tar|tgz|gz|zip|7z|whl)$")
    assert [name for name in names if payload.search(name)] == []
    heavy = {name: (ROOT / name).stat().st_size for name in names if (ROOT / name).stat().st_size > 1_000_000}
    assert heavy == {}
