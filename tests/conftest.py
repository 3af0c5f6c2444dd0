"""What tests of several rooms share: small datasets, generated once in a temporary folder; a paper with conditions."""

import os
import signal
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; more threads only wait
# Containers often forbid bytecode: then each of hundreds of processes compiles all that it imports anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

GENERATED = ("digits", "two_moons", "simulated_images")
TOY_CONFIG = """\
sections:
  task:
    task: {value: learning, source: "Section 1; check trains nothing"}
    seed: {value: 0, source: "assumed: one run"}
  data:
    when: {task: learning}
    dataset: {value: moons, source: "Section 4"}
    sizes: {value: [1, 2], source: "Section 4"}
    augment: {value: true, source: "Section 4"}
  training:
    when: {task: learning}
    loss: {value: kl, source: "Section 3"}
    rate: {value: 0.1, source: "Section 4.1"}
    epochs: {value: 3, source: "Section 4.1"}
  rot:
    when: {loss: rot}
    alpha: {value: 0.3, source: "Section 4.1"}
    solver: {value: plain, source: "Section 3.4"}
  tolerance:
    when: {solver: {not: plain}}
    steps: {value: 10, source: "Section 3.4"}
  teacher:
    when: [{loss: pseudo}, {loss: [rot, avg], augment: false}]
    stage: teacher
    width: {value: 8, source: "Section 5"}
    depth: {value: 2, source: "Section 5"}
tiers:
  tiny:
    experiments:
      - name: all
        grid: {loss: [kl, rot], seed: [0, 1]}
"""
TOY_NAMES = """\
def method(spec):
    return "checks" if spec.task == "check" else spec.loss


def path(spec, method):
    return f"random/{method}" if spec.task == "check" else f"{spec.dataset}/{method}"
"""


LONGEST = (
    "test_smoke.py",
    "test_faults.py",
    "test_paper_tier.py",
    "test_shards.py",
    "test_tiers.py",
    "test_benchmarks.py",
    "test_specs.py",
    "test_places.py",
    "test_browser.py",
)  # first, or one core waits


def pytest_collection_modifyitems(items):
    """Put the longest files first: a file is one worker's, and what begins last ends last."""
    place = {name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(autouse=True)
def broken_pipes():
    """A command line that lets `| head` end it by a signal must not end the tests that follow in the same process."""
    before = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, before)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Empty folders, (mirror, data root), as ``LLP_MIRROR`` and ``LLP_DATA`` name them."""
    for name in ("mirror", "data"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"LLP_{name.upper()}", str(tmp_path / name))
    return tmp_path / "mirror", tmp_path / "data"


@pytest.fixture
def one_thread():
    """Of torch, for a test whose networks are so small that many threads would wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def generated_data(tmp_path_factory):
    """A data root with the datasets that need no download."""
    from shared.datasets import fetch

    root = tmp_path_factory.mktemp("data")
    for name in GENERATED:
        fetch(name, root)
    return root


@pytest.fixture
def data_root(generated_data, monkeypatch):
    """The same root, as what LLP_DATA names during one test; no paper keeps a dataset of another root."""
    monkeypatch.setenv("LLP_DATA", str(generated_data))
    for name, module in list(sys.modules.items()):
        if name.startswith(("papers.", "shared.training")) and hasattr(module, "data_of"):
            getattr(module.data_of, "cache_clear", lambda: None)()
    return generated_data


@dataclass
class ToyPaper:
    """A paper in a folder of its own: what its config.yaml says can be changed, its runs are planned anew."""

    root: Path

    @property
    def folder(self):
        return self.root / "papers" / "toy"

    def write(self, *changes, config=TOY_CONFIG, names=TOY_NAMES):
        """Write config.yaml with each (text, other text) of `changes` replaced."""
        for text, other in changes:
            assert config.count(text) == 1, f"{text!r} is there {config.count(text)} times"
            config = config.replace(text, other)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.yaml").write_text(config)
        (self.folder / "names.py").write_text(names)
        return self

    def plan(self, *grids, **settings):
        """The runs of these grids, or of what the file says."""
        import yaml

        from shared.config import plan

        if grids or settings:
            path = self.folder / "config.yaml"
            content = yaml.safe_load(path.read_text())
            because = "assumed: a test"
            content["tiers"]["tiny"] = {
                "settings": {key: {"value": value, "source": because} for key, value in settings.items()},
                "experiments": [{"name": f"number {n}", "grid": grid} for n, grid in enumerate(grids or [{}])],
            }
            path.write_text(yaml.safe_dump(content, sort_keys=False))
        return plan("toy", "tiny", self.root)

    def spec(self, **grid):
        """The spec of the only run of a grid."""
        (run,) = self.plan(grid)
        return run.spec


@pytest.fixture
def toy_paper(tmp_path):
    return ToyPaper(tmp_path).write()


def of_any_text(spec):
    """A spec as it will be when a text of its paper has one more value: none is refused."""
    from shared.config import Spec

    return Spec(replace(spec._layout, one_of={}), spec._values)


def a_run(seed=0, seconds=1.0, **values):
    """A run of a paper without conditions."""
    from shared.config import Run
    from shared.config.spec import Section, Sections, Spec

    values = {"loss": "fine", "seed": seed, **values}
    spec = Spec(Sections("toy", (Section("all", tuple(values)),)), values)
    return Run(f"toy/none/fine/seed{seed}", "fine", spec, seconds)


class APool:
    """A pool without processes: what was begun goes until `wait`, which a test adds, takes it out and says its end."""

    def __init__(self, size):
        self.size, self.going, self.begun = size, [], []

    def place(self, run):
        return "a lane" if len(self.going) < self.size else None

    def start(self, run):
        self.going.append(run)
        self.begun.append(run)

    def running(self):
        return dict.fromkeys((run.id for run in self.going), 0.0)

    def adapt(self, more_to_do, say):
        pass


def write_record(folder, run, code="new", wall=2.0):
    """Write the record of a run, finished now."""
    from shared.records import store

    record = {
        "id": run.id,
        "method": run.method,
        "stand_in": run.stand_in,
        "spec": run.spec.canonical(),
        "spec_hash": run.spec_hash,
        "code": {"hash": code, "commit": None},
        "metrics": {"last": {"accuracy": 1.0}},
        "cost": {"wall_s": wall},
        "environment": {"device": "cpu"},
        "finished": datetime.now(UTC).isoformat(),
    }
    return store.write_record(folder, record)
