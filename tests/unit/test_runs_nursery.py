"""Workers forked from one process that has imported torch: each has its environment, and none outlives its sweep."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.config import papers
from shared.runs import workers
from shared.runs.lanes import Hand
from shared.runs.nursery import FORKS, Nursery
from shared.runs.workers import Home, Pool

pytestmark = pytest.mark.skipif(not FORKS, reason="processes are spawned here")
ROOT = Path(__file__).parents[2]
HOLDER = """
import multiprocessing, time
from shared.runs.nursery import Nursery
from tests.unit.test_runs_nursery import wait_long

if __name__ == "__main__":
    nursery = Nursery([])
    ours, theirs = nursery.Pipe()
    child = nursery.Process(target=wait_long, args=(theirs,), daemon=True)
    child.start()
    print(nursery.parent.pid, child.pid, flush=True)
    time.sleep(600)
"""


def tell(pipe, name):
    pipe.send((os.environ.get(name), "colorsys" in sys.modules, os.getpid(), os.getppid()))


def wait_long(pipe):
    time.sleep(600)


def end_as(pipe, status):
    os._exit(status)


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(*pids, seconds=60):
    end = time.time() + seconds
    while any(map(lives, pids)) and time.time() < end:
        time.sleep(0.02)
    return not any(map(lives, pids))


@pytest.fixture
def nursery():
    it = Nursery(["colorsys", "shared.no_such_module"])
    yield it
    it.close()


def born(nursery, target, *args):
    ours, theirs = nursery.Pipe()
    child = nursery.Process(target=target, args=(theirs, *args), daemon=True)
    child.start()
    theirs.close()
    return child, ours


def test_each_child_has_the_imports_of_one_and_the_environment_of_its_own_start(nursery, monkeypatch):
    """A card is chosen by a variable that differs from worker to worker."""
    said = []
    for word in ("first", "second"):
        monkeypatch.setenv("LLP_TOLD", word)
        child, ours = born(nursery, tell, "LLP_TOLD")
        said.append(ours.recv())
        child.join()
        assert child.exitcode == 0 and said[-1][2] == child.pid
    assert [one[:2] for one in said] == [("first", True), ("second", True)]
    assert {one[3] for one in said} == {nursery.parent.pid} and nursery.parent.pid != os.getpid()


def test_how_a_child_ended_is_known_and_its_pipe_says_so_at_once(nursery):
    """Which failure a log names depends on the exit code."""
    child, ours = born(nursery, end_as, 7)
    with pytest.raises(EOFError):
        ours.recv()
    child.join()
    killed, ours = born(nursery, wait_long)
    os.kill(killed.pid, signal.SIGKILL)
    with pytest.raises(EOFError):
        ours.recv()
    killed.join()
    ended, _ = born(nursery, wait_long)
    ended.terminate()
    ended.join()
    assert (child.exitcode, killed.exitcode, ended.exitcode) == (7, -signal.SIGKILL, -signal.SIGTERM)


def test_where_the_parent_of_all_was_killed_another_takes_its_place(nursery):
    child, _ = born(nursery, wait_long)
    os.kill(nursery.parent.pid, signal.SIGKILL)
    nursery.parent.join()
    child.terminate()
    child.join()
    assert child.exitcode == -signal.SIGKILL and gone(child.pid)
    _, ours = born(nursery, tell, "PATH")
    assert ours.recv()[0] == os.environ["PATH"]


def test_no_process_outlives_the_one_that_closes_or_is_killed(nursery, tmp_path):
    child, _ = born(nursery, wait_long)
    parent = nursery.parent.pid
    nursery.close()
    assert gone(parent, child.pid)
    program = tmp_path / "holder.py"
    program.write_text(HOLDER)
    holder = subprocess.Popen(
        [sys.executable, program], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    pids = list(map(int, holder.stdout.readline().split()))
    assert all(map(lives, pids))
    holder.kill()
    holder.wait()
    assert gone(*pids)


def test_only_runs_on_the_cpu_are_forked(tmp_path, monkeypatch):
    """What a parent has of CUDA does not survive a fork; and where system libraries do not, nothing is forked."""
    homes = {"toy": Home("code", tmp_path, tmp_path)}
    spawning = type(multiprocessing.get_context("spawn"))
    assert isinstance(Pool(homes, Hand(("cpu",), 2, 2), None).context, Nursery)
    assert isinstance(Pool(homes, Hand(("cuda",), 1, 8), None).context, spawning)
    monkeypatch.setattr(workers, "FORKS", False)
    assert isinstance(Pool(homes, Hand(("cpu",), 2, 2), None).context, spawning)


def test_importing_what_trains_starts_no_thread_that_a_fork_would_lose():
    """A lock that such a thread holds stays locked in every child."""
    modules = [f"papers.{paper}.train" for paper in papers()] + ["torch._dynamo"]
    said = f"import os, {', '.join(modules)}\nprint(len(os.listdir('/proc/self/task')))"
    threads = dict.fromkeys(workers.THREADS, "1")
    done = subprocess.run(
        [sys.executable, "-c", said],
        cwd=ROOT,
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"
