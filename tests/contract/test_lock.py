"""The lock: complete, hashed, free of hosts, and the one that conda users and the set-up install too."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
FIXED = [
    "torch",
    "torchvision",
    "pot",
    "scipy",
    "dvc",
    "snakemake",
    "pandas",
    "seaborn",
    "ultralytics",
    "segmentation-models-pytorch",
]


OF_A_CHECKOUT = ">=3.11,<3.13"


def requirements(path):
    """(requirement, hashes) of each entry of a requirements file."""
    text = re.sub(r"#.*", "", path.read_text()).replace("\\\n", " ")
    entries = [line.split("--hash=") for line in text.splitlines() if line.strip()]
    return [(Requirement(entry[0]), [value.strip() for value in entry[1:]]) for entry in entries]


INPUTS = requirements(ROOT / "requirements" / "lock.in")
LOCK = requirements(ROOT / "requirements" / "lock.txt")
UV = requirements(ROOT / "requirements" / "uv.txt")
SLURM = requirements(ROOT / "requirements" / "slurm.txt")
BENCH = requirements(ROOT / "requirements" / "bench.txt")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(name, python):
    """The versions of a package that the lock gives one Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    return [
        requirement.specifier
        for requirement, _ in LOCK
        if requirement.name == name and (not requirement.marker or requirement.marker.evaluate(environment))
    ]


@pytest.mark.parametrize("name", FIXED)
def test_fixed_packages_are_asked_for(name):
    assert name in {requirement.name for requirement, _ in INPUTS}


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_inputs_are_locked_once_and_within_their_range(python):
    for requirement, _ in INPUTS:
        (pin,) = pins(requirement.name, python)
        assert str(pin).startswith("==")
        assert requirement.specifier.contains(str(pin).removeprefix("=="))


@pytest.mark.parametrize(("lock", "least"), [(LOCK, 100), (UV, 1), (SLURM, 3), (BENCH, 4)])
def test_every_entry_is_pinned_and_hashed(lock, least):
    assert len(lock) >= least
    for requirement, hashes in lock:
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert requirement.url is None
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").iterdir()), ids=lambda path: path.name)
def test_no_file_names_a_host_or_a_place(path):
    text = path.read_text()
    assert not re.search(r"://|\bwww\.|\.(org|com|net|io)\b|file:|@ |(^|\s)(/|\.\./|~/)", text, re.MULTILINE)
    assert not re.search(r"^\s*-", re.sub(r"^\s+--hash=.*", "", text, flags=re.MULTILINE), re.MULTILINE)


def test_both_pythons_get_the_same_versions():
    for name in {requirement.name for requirement, _ in LOCK}:
        assert pins(name, "3.11") == pins(name, "3.12"), name


def test_what_slurm_needs_goes_beside_the_lock():
    """Installed into the environment, it moves no version of what records were made with."""
    locked = {requirement.name: str(requirement.specifier) for requirement, _ in LOCK}
    own = {requirement.name for requirement, _ in SLURM if requirement.name not in locked}
    assert {"snakemake-executor-plugin-slurm", "snakemake-executor-plugin-slurm-jobstep"} <= own
    assert {r.name: str(r.specifier) for r, _ in SLURM if r.name in locked}.items() <= locked.items()


def test_the_peers_of_benchmarks_bring_nothing_with_them():
    """Installed to be timed, they move no version of what records were made with."""
    asked = {requirement.name for requirement, _ in requirements(ROOT / "requirements" / "bench.in")}
    assert {requirement.name for requirement, _ in BENCH} == asked
    assert not asked & {requirement.name for requirement, _ in LOCK}


def test_conda_installs_the_same_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, options = environment["dependencies"]
    assert python == f"python {OF_A_CHECKOUT}"
    assert pip == "pip"
    assert options == {"pip": ["--require-hashes", "-r requirements/lock.txt"]}


def test_set_up_and_project_agree_on_python_and_torch():
    from workflows import setup

    fit = [minor for minor in range(8, 20) if SpecifierSet(OF_A_CHECKOUT).contains(f"3.{minor}")]
    assert fit == [minor for _, minor in (setup.OLDEST, setup.NEWEST)]


def test_the_library_takes_what_a_checkout_is_tested_with():
    allowed = SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert all(allowed.contains(python) for python in ("3.11", "3.12"))
    for needed in map(Requirement, PYPROJECT["project"]["dependencies"]):
        (pin,) = pins(needed.name, "3.11")
        assert needed.specifier.contains(str(pin).removeprefix("==")), needed


def test_this_environment_is_the_lock():
    """Only where the tests run in `.venv`: elsewhere versions may be the reader's own."""
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("not running in .venv")
    for requirement, _ in LOCK:
        marker = requirement.marker or Marker("python_version >= '3'")
        if marker.evaluate():
            assert requirement.specifier.contains(metadata.version(requirement.name)), requirement.name
