"""The sweep: it does what is missing, loses at most one run to a crash, and goes on to the same numbers."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from shared.config import find, plan, repository
from shared.files import write_text
from shared.records import read_index, read_records, record_path, store
from shared.runs import sweep

# A paper whose runs need no torch: what each does is its `loss`.
TOY_TRAIN = """
import json, os, signal, time
from types import SimpleNamespace


class Lacking(Exception):
    not_run = True


def train(spec, *, device, key, checkpoint, deadline, report):
    does, steps, resumed = spec.loss, 0, 0
    if does == "lacks" and not os.path.exists("data/photos"):
        raise Lacking("no photos in " + os.path.abspath("data/photos") + ";\\nget them")
    if does == "raises":
        raise ValueError("this run raises")
    if does == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if checkpoint.exists():
        saved = json.loads(checkpoint.read_text())
        steps = resumed = saved["steps"] if saved["key"] == key else 0
    while does == "long" and steps < 12:
        if steps == 6 and deadline:
            time.sleep(max(0, deadline - time.time()))
        if deadline and time.time() >= deadline:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.write_text(json.dumps({"steps": steps, "key": key}))
            return None
        steps += 1
        time.sleep(0.02)
        report(steps / 12, {})
    value = float("nan") if does == "nan" else 10.0 * spec.seed + steps
    metrics = {"last": {"accuracy": value, "resumed": resumed}}
    cost = {"train_s": 0.0}
    found = {"curves": {}, "convergence": {}, "bags": {}, "data": {}, "cluster": ""}
    return SimpleNamespace(metrics=metrics, cost=cost, device=device, steps="", says="fine", **found)
"""
TOY_NAMES = """
def method(spec):
    return spec.loss


def path(spec, method):
    return f"none/{method}"
"""
# A run of the paper ROT, slowed down and saved at every step.
SLOW_TRAIN = """
import time

from papers.rot import train as rot
from shared.config import plan


def train(spec, *, report, checkpoint, **more):
    (like,) = (run for run in plan("rot", "smoke") if run.id == "rot/digits/rot/bag16/seed1")

    def slowly(fraction, numbers):
        report(fraction, numbers)
        time.sleep(0.03)
        with open(checkpoint.with_suffix(".steps"), "a") as steps:
            print(fraction, file=steps)

    return rot.train(like.spec.but(epochs=2), report=slowly, checkpoint=checkpoint, checkpoint_every=0.0, **more)
"""


@dataclass
class House:
    """A checkout with one made-up paper, in which sweeps run as a person runs them."""

    root: Path
    paper: str

    @property
    def folder(self):
        return self.root / "results" / "tiny" / self.paper / "runs"

    @property
    def checkpoints(self):
        return list((self.root / ".work").rglob("*.pt"))

    def grid(self, *experiments):
        both = (("loss", "fine"), ("seed", 0))
        section = {key: {"value": value, "source": "assumed: a test"} for key, value in both}
        tier = {"seconds": 0.5, "experiments": [{"name": str(grid), "grid": grid} for grid in experiments]}
        path = self.root / "papers" / self.paper / "config.yaml"
        path.write_text(yaml.safe_dump({"sections": {"all": section}, "tiers": {"tiny": tier}}))

    def start(self, *args, **env):
        env = {"LLP_DATA": str(self.root / "data"), **env}
        command = [sys.executable, "-m", "shared.runs.sweep", "--paper", self.paper, "--tier", "tiny", *args]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", **env}
        return subprocess.Popen(command, cwd=self.root, env=env, stderr=subprocess.PIPE, text=True)

    def sweep(self, *args, **env):
        """(exit status, what it said)."""
        process = self.start(*args, **env)
        said = process.communicate(timeout=900)[1]
        return process.returncode, said

    def path(self, run_id):
        return record_path(self.folder, run_id)

    def statuses(self):
        return {run_id.split("/", 2)[2]: row["status"] for run_id, row in read_index(self.folder).items()}


def house(root, paper, **files):
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("papers", "shared", "config"):
        shutil.copytree(repository() / package, root / package, ignore=ignore)
    (root / "data").mkdir()
    shutil.copy(repository() / "data" / "sources.csv", root / "data")
    (root / "config" / "tiny.yaml").write_text("tier: tiny\nsays: a test\ndevice: cpu\nruns_at_once: 1\n")
    for name, text in files.items():
        path = root / "papers" / paper / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return House(root, paper)


@pytest.fixture
def toy(tmp_path):
    return house(tmp_path / "checkout", "toy", train=TOY_TRAIN, names=TOY_NAMES)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """A sweep of six runs in which one is killed, one raises and one yields NaN; then the same call again."""
    toy = house(tmp_path_factory.mktemp("troubled"), "toy", train=TOY_TRAIN, names=TOY_NAMES)
    toy.grid({"loss": ["dies", "raises", "nan"]}, {"loss": "fine", "seed": [0, 1, 2]})
    toy.first = toy.sweep("--at-once", "2")
    toy.bytes = {path: path.read_bytes() for path in toy.folder.rglob("*.json")}
    toy.index = (toy.folder / store.INDEX).read_bytes()
    toy.planned = toy.sweep("--dry-run")
    toy.second = toy.sweep()
    return toy


FAILING = ("dies", "raises", "nan")


def test_a_run_that_fails_costs_itself_only(troubled):
    status, said = troubled.first
    assert status == sweep.RUNS_FAILED and "6 runs, 6 to do, 2 at once on cpu" in said
    expected = {f"{name}/seed0": "failed" for name in FAILING} | {f"fine/seed{i}": "done" for i in range(3)}
    assert troubled.statuses() == expected
    assert [r["metrics"]["last"]["accuracy"] for r in read_records(troubled.folder)] == [0.0, 10.0, 20.0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dies", "the process died with exit code -9"),
        ("raises", "ValueError: this run raises"),
        ("nan", "ValueError: Out of range float values"),
    ],
)
def test_a_failed_run_leaves_a_log_that_says_why_and_no_record(troubled, name, reason):
    path = troubled.path(f"toy/none/{name}/seed0")
    assert not path.exists() and reason in path.with_suffix(".log").read_text()
    assert re.search(rf"toy/none/{name}/seed0  FAILED, see \S*{name}/seed0\.log", troubled.first[1])


def test_nothing_but_records_logs_and_index_is_left(troubled):
    kinds = {path.suffix for path in troubled.folder.rglob("*") if path.is_file()}
    assert kinds == {".json", ".log", ".csv"} and not troubled.checkpoints


def test_a_second_call_runs_only_what_has_no_record(troubled):
    status, said = troubled.second
    assert status == sweep.RUNS_FAILED and "6 runs, 3 to do" in said and "fine" not in said.replace("  fine  ", "")
    assert {path: path.read_bytes() for path in troubled.folder.rglob("*.json")} == troubled.bytes
    assert (troubled.folder / store.INDEX).read_bytes() == troubled.index


def test_a_dry_run_lists_what_would_run_with_estimates_and_exits_well(troubled):
    status, said = troubled.planned
    assert status == 0
    assert re.findall(r"^  (\S+)  ~\d+ s$", said, re.M) == [f"toy/none/{name}/seed0" for name in FAILING]


def test_a_record_holds_what_was_asked_and_what_it_took(troubled):
    record = store.load_record(troubled.path("toy/none/fine/seed2"))
    assert record["spec"] == {"loss": "fine", "seed": 2}
    (run,) = (run for run in plan("toy", "tiny", troubled.root) if run.id == record["id"])
    assert record["spec_hash"] == run.spec_hash and (record["method"], record["stand_in"]) == ("fine", "")
    assert re.fullmatch(r"[0-9a-f]{16}", record["code"]["hash"]) and record["code"]["commit"] is None
    assert record["cost"]["wall_s"] >= 0 and record["environment"]["device"] == "cpu"
    assert record["environment"]["numpy"] and "torch" in record["environment"]
    assert str(troubled.root) not in json.dumps(record)


def test_a_worker_that_cannot_import_the_paper_fails_its_runs_and_not_the_sweep(toy):
    toy.grid({"loss": "fine", "seed": [0, 1]})
    (toy.root / "papers" / "toy" / "train.py").write_text("import a_package_nobody_has\n")
    status, said = toy.sweep()
    assert status == sweep.RUNS_FAILED and (toy.folder / store.INDEX).exists(), said
    assert toy.statuses() == {"fine/seed0": "failed", "fine/seed1": "failed"}
    assert "Traceback" not in re.sub(r"Process Spawn.*?ModuleNotFoundError[^\n]*", "", said, flags=re.S)


def test_out_of_time_a_run_waits_at_its_checkpoint_and_goes_on_in_the_next_call(toy):
    toy.grid({"loss": "long", "seed": [0, 1]})
    status, said = toy.sweep("--time-budget", f"{sweep.GRACE + 1.5}s")
    assert status == 0 and "out of time: 0 done, 1 paused at a checkpoint; call again to go on" in said
    assert toy.statuses() == {"long/seed0": "missing", "long/seed1": "missing"} and len(toy.checkpoints) == 1
    saved = json.loads(toy.checkpoints[0].read_text())["steps"]
    status, said = toy.sweep()
    assert status == 0 and toy.statuses() == {"long/seed0": "done", "long/seed1": "done"}
    last = [record["metrics"]["last"] for record in read_records(toy.folder)]
    assert last == [{"accuracy": 12.0, "resumed": saved}, {"accuracy": 22.0, "resumed": 0}]
    assert not toy.checkpoints

    # What the plan drops stays on the disk, is counted, and is read by nobody.
    toy.grid({"loss": "long", "seed": [0]})
    status, said = toy.sweep()
    assert status == 0 and "1 runs, 0 to do" in said
    assert re.search(r"1 records are not in the plan and left out of tables, e\.g\. \S*long/seed1\.json", said)
    assert [record["id"] for record in read_records(toy.folder)] == ["toy/none/long/seed0"]


def test_a_run_that_lacks_its_data_is_neither_a_record_nor_a_failure(toy):
    """250 runs may share one reason: it is said once, the rest goes on, and the next call with the data makes them."""
    toy.grid({"loss": "lacks", "seed": [0, 1]}, {"loss": "fine"})
    stale = toy.path("toy/none/lacks/seed0").with_suffix(".log")
    write_text(stale, "Traceback of another day\n")
    status, said = toy.sweep()
    assert status == 0 and said.count("NOT RUN, 2 runs: no photos in $LLP_DATA/photos; get them\n") == 1
    assert said.count("no photos") == 1 and re.search(r"\[\d/3\] toy/none/fine/seed0", said)
    assert toy.statuses() == {"lacks/seed0": "missing", "lacks/seed1": "missing", "fine/seed0": "done"}
    assert {path.name for path in toy.folder.rglob("*") if path.is_file()} == {"seed0.json", store.INDEX}
    index = read_index(toy.folder)
    assert [row["why"] for row in index.values()] == ["", *2 * ["no photos in $LLP_DATA/photos; get them"]]
    status, said = toy.sweep("--only", "seed1")
    assert status == 0 and "NOT RUN, 1 runs" in said and read_index(toy.folder) == index
    (toy.root / "data" / "photos").touch()
    status, said = toy.sweep()
    assert status == 0 and "NOT RUN" not in said and set(toy.statuses().values()) == {"done"}
    assert not any(row["why"] for row in read_index(toy.folder).values())


@pytest.fixture(scope="module")
def killed(tmp_path_factory, generated_data):
    """A sweep of one run of ROT: killed in the middle, then called again."""
    slow = house(tmp_path_factory.mktemp("killed"), "slow", train=SLOW_TRAIN, names=TOY_NAMES)
    slow.grid({"seed": 1})
    data = {"LLP_DATA": str(generated_data)}
    process = slow.start(**data)
    limit = time.time() + 600
    while not slow.checkpoints:
        assert process.poll() is None and time.time() < limit, process.communicate()[1]
        time.sleep(0.05)
    time.sleep(0.3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    slow.workers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    process.send_signal(signal.SIGKILL)
    process.stderr.close()
    slow.first = process.wait()
    while any(alive(pid) for pid in slow.workers) and time.time() < limit:
        time.sleep(0.05)
    slow.left = sorted(path.name for path in slow.folder.rglob("*") if path.is_file())
    slow.saved = [path.name for path in slow.checkpoints]
    slow.second = slow.sweep(**data)
    return slow


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
def test_a_killed_sweep_leaves_a_checkpoint_and_neither_a_record_nor_a_failure(killed):
    assert killed.first == -signal.SIGKILL and killed.saved == ["seed1.pt"]
    assert not any(alive(pid) for pid in killed.workers), "its worker went on"
    assert killed.left == []


@pytest.mark.slow
def test_a_killed_and_resumed_run_ends_in_the_very_numbers_of_one_that_was_not(killed, data_root):
    import torch

    from papers.rot.train import train

    status, _ = killed.second
    assert status == 0 and not killed.checkpoints
    (steps,) = (killed.root / ".work").rglob("*.steps")
    steps = [float(line) for line in steps.read_text().split()]
    assert steps == sorted(steps) and steps[-1] == 1, "it began again"
    (record,) = read_records(killed.folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spec = find("rot", "smoke", "digits/rot/bag16/seed1").spec.but(epochs=2)
    try:
        straight = train(spec, device="cpu")
    finally:
        torch.set_num_threads(threads)
    for part in ("metrics", "curves", "bags", "data"):
        assert record[part] == json.loads(json.dumps(getattr(straight, part)))
    assert len(record["curves"]["epoch"]) == 2
