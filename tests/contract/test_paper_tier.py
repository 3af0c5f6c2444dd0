"""The tiers paper and cpu at toy length: a run of each kind that a paper plans is trained on tiny data, on a CPU."""

import importlib
import inspect
import math
import os
import re
import sys
import zlib

import pytest
import torch

from shared.config import papers, plan, read_config
from shared.datasets import read_sources
from tests.contract.paper_tier import shrunk, toys
from tests.pretend import compute_as_elsewhere
from tests.pretend.device import MISSING, NAME
from tests.pretend.runs import ticking, train

LONG = ("paper", "cpu")
PAPERS = [paper for paper in papers() if set(LONG) & set(read_config(paper).tiers)]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def kind(run):
    """What decides which code a run takes: the keys it holds, its words and switches, which of its numbers are zero."""
    found, aside = {}, ("dataset", "seed", *getattr(shrinking(run.spec.paper), "ASIDE", ()))
    for key, value in run.spec.values().items():
        if key in aside:
            continue
        if isinstance(value, str):
            found[key] = bool(value) if "/" in value else value  # of files, that there is one
        elif isinstance(value, bool):
            found[key] = value
        elif isinstance(value, int | float):
            found[key] = value == 0
        else:
            found[key] = type(value)
    return tuple(found.items())


def kinds(paper):
    """One run of each kind of the long tiers, and one of each task on each dataset; without paper, gpu too."""
    tiers = read_config(paper).tiers
    seen, found, long = set(), [], LONG if "paper" in tiers else ("gpu", *LONG)
    for run in [run for tier in long if tier in tiers for run in plan(paper, tier)]:
        values = run.spec.values()
        new = {kind(run), (values.get("task"), values.get("dataset"))} - seen
        if new:
            seen |= new
            found.append(run)
    return found


def shrinking(paper):
    """The paper's module in paper_tier; the error says what to write."""
    name = f"tests.contract.paper_tier.{paper}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        pytest.fail(f"tests/contract/paper_tier/{paper}.py is missing; paper_tier/__init__.py says what stands in it")


def forget():
    """Empty what papers keep of datasets from run to run."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("papers.", "shared.")):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear") and inspect.getmodule(value) is module:
                    value.cache_clear()


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """{paper: its data root, made once}, filled as it is asked for."""
    return lambda paper, made={}: made.setdefault(paper, tmp_path_factory.mktemp(f"data_of_{paper}"))


@pytest.fixture(autouse=True)
def one_way_of_computing(monkeypatch):
    compute_as_elsewhere(monkeypatch)


@pytest.fixture
def ready(request, roots, monkeypatch):
    """Give the paper's module, its toy data in place; the folder of checkpoints is shared by all its runs."""
    paper = request.node.callspec.params["run"].spec.paper
    module, root = shrinking(paper), roots(paper)
    toys.use(root, monkeypatch)
    forget()
    if not (root / "made").exists():
        module.data(root)
        (root / "made").touch()
    yield module, root / "checkpoints"
    forget()


def may_be_absent(run, module):
    """Whether nobody can have the run's dataset, or the paper says that this run lacks something here."""
    ways = read_sources().get(run.spec.values().get("dataset"), ())
    said = any(re.search(pattern, run.id) for pattern in getattr(module, "NOT_RUN", ()))
    return said or any(way.how == "private" for way in ways)


def numbers_in(metrics):
    """(name, number) of all metrics under all selections."""
    for selection, values in metrics.items():
        for name, value in values.items():
            if isinstance(value, int | float):
                yield f"{selection}: {name}", value


def each(paper):
    """Of the kinds, so few that each choice of each option is taken by one; all where ``LLP_EVERY`` is set."""
    seen = set()
    for run in kinds(paper):
        new = set(kind(run)) - seen
        seen |= new
        if new or os.environ.get("LLP_EVERY"):
            yield run


each_kind = pytest.mark.parametrize("run", [pytest.param(run, id=run.id) for paper in PAPERS for run in kinds(paper)])
each_choice = pytest.mark.parametrize("run", [pytest.param(run, id=run.id) for paper in PAPERS for run in each(paper)])


@pytest.fixture(scope="module")
def on_the_cpu():
    """{id: result} of the runs that have been trained on the CPU."""
    return {}


def trained(run, spec, module, device, **session):
    """Train a run, or skip the test where it is known that it cannot be trained here."""
    torch.manual_seed(zlib.crc32(run.id.encode()))
    try:
        return train(spec, device, key=spec.hash, **session)
    except Exception as error:
        if not getattr(error, "not_run", False):
            raise
        assert may_be_absent(run, module), f"{run.id} is NOT RUN, which paper_tier does not expect: {error}"
        pytest.skip(f"NOT RUN: {error}")


@each_kind
def test_every_kind_of_run_trains(run, ready, on_the_cpu):
    """A run of a long tier that cannot train would be found out after a night, or days on an accelerator."""
    module, work = ready
    spec = shrunk(module, run.spec)
    result = trained(run, spec, module, "cpu", checkpoint=work / f"{run.id}.pt")
    on_the_cpu[run.id, spec.hash] = result
    assert {name: value for name, value in numbers_in(result.metrics) if not math.isfinite(value)} == {}
    assert spec.unread == []


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@each_choice
def test_every_kind_of_run_stops_goes_on_and_finds_the_same_on_a_device_that_is_not_the_cpu(run, ready, on_the_cpu):
    """A tensor left on the host, a call that only a host has, or a number that moves would show on the first GPU."""
    module, work = ready
    spec = shrunk(module, run.spec)
    expected = on_the_cpu.get((run.id, spec.hash)) or trained(run, spec, module, "cpu")
    checkpoint = work.with_name("pretend") / ".work" / f"{run.id}.pt"
    with ticking():
        result = trained(run, spec, module, NAME, checkpoint=checkpoint, deadline=6)
    found = result or trained(run, spec, module, NAME, checkpoint=checkpoint)
    for part in ("metrics", "curves", "bags", "data"):
        assert repr(getattr(found, part)) == repr(getattr(expected, part)), part


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_says_how_it_is_shrunk(paper):
    """Each change must be of a key that some run of the tiers holds: a renamed key would train at full length."""
    module = shrinking(paper)
    assert callable(module.data)
    held = {key for run in kinds(paper) for key in run.spec}
    assert sorted(set(module.CHANGES) - held) == []
