"""Workers without their processes: how many at once, what a dead one costs, what is no pace."""

import json
import sys
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.config import ConfigError
from shared.config.devices import Seen
from shared.records import record_path
from shared.runs import lanes, machine, workers
from shared.runs.lanes import Hand, Lane
from shared.runs.workers import Event, Home, Pool
from shared.training.checkpoint import common
from tests.conftest import a_run


@pytest.fixture
def large(monkeypatch):
    """large(number of cards): a machine of 64 cores with these; two unless told."""
    monkeypatch.setattr(lanes, "usable_cores", lambda: 64)
    monkeypatch.setattr(machine, "has_card", lambda: True)

    def set_to(n):
        monkeypatch.setattr(machine, "seen", lambda: Seen(tuple(map(str, range(n)))))

    set_to(2)
    return set_to


@pytest.mark.parametrize(
    ("device", "at_once", "hand"),
    [
        ("cpu", "cores", Hand(("cpu",), 6, 6)),
        ("cpu", "auto", Hand(("cpu",), 6, 6)),
        ("cpu", 3, Hand(("cpu",), 3, 3)),
        ("cpu", "20", Hand(("cpu",), 20, 20)),
        ("cuda", "auto", Hand(("cuda:0", "cuda:1"), 1, 3)),
        ("cuda:1", "auto", Hand(("cuda:1",), 1, 6)),
        ("cuda", "cores", Hand(("cuda:0", "cuda:1"), 3, 3)),
        ("cuda", 2, Hand(("cuda:0", "cuda:1"), 2, 2)),
    ],
)
def test_how_many_run_at_once(device, at_once, hand, large):
    assert Hand.of(device, at_once, cores=6) == hand


@pytest.mark.parametrize(("cards", "hand"), [(0, Hand(("cpu",), 4, 4)), (1, Hand(("cuda",), 1, 4))])
def test_auto_takes_the_card_where_there_is_one(large, cards, hand):
    large(cards)
    assert Hand.of("auto", "auto", cores=4) == hand


def test_on_a_card_auto_stops_at_eight(large):
    assert Hand.of("cuda", "auto", cores=64).limit == 8


def test_each_card_gets_a_run_however_few_the_cores(large):
    large(8)
    hand = Hand.of("auto", "auto", cores=4)
    assert (hand.each, hand.limit, hand.at_once) == (1, 1, 8)


def test_no_more_run_at_once_than_cores_may_be_used(monkeypatch):
    """Snakemake counts the cores of the machine, not those that a container grants."""
    assert Hand.of("cpu", "cores").at_once == machine.cores()
    monkeypatch.setattr(lanes, "usable_cores", lambda: 1)
    assert Hand.of("cpu", "cores", cores=16).at_once == 1


@pytest.mark.parametrize("at_once", ["0", "-1", "many", "1.5", ""])
def test_a_number_of_runs_that_cannot_be_is_refused(at_once):
    with pytest.raises(ConfigError, match="runs at once must be a number above 0, cores or auto, not"):
        Hand.of("cpu", at_once)


def test_a_hand_says_what_it_may_grow_to():
    assert str(Hand(("cpu",), 2, 2)) == "2 at once on cpu"
    assert str(Hand(("cuda",), 1, 8)) == "1 at once on cuda, up to 8 if that pays"
    assert str(Hand(("cuda:0", "cuda:1"), 1, 1)) == "1 at once on each of 2 GPUs, cuda:0, cuda:1"


def pool(hand=None, folder=Path("nowhere")):
    return Pool({"toy": Home("code", folder, folder)}, hand or Hand(("cuda",), 1, 8), None)


class TestAdapt:
    """How many go at once where the pace at each number is known."""

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch):
        self.now, self.memory = 0.0, (1.0, 100.0)
        monkeypatch.setattr(lanes, "time", SimpleNamespace(time=lambda: self.now))

    def sizes(self, pace, pool, periods, more=True):
        """The sizes after each period of 30 s, `pace` being {size: declared seconds of work a second}."""
        found = []
        pool.lanes[0].memory = self.memory
        for _ in range(periods):
            self.now += 30.0
            pool.lanes[0].advance += 30.0 * pace[pool.size]
            pool.adapt(more, lambda line: None)
            found.append(pool.size)
        return found

    def test_it_grows_while_that_pays_and_takes_back_the_one_too_many(self):
        assert self.sizes({1: 1.0, 2: 1.8, 3: 2.4, 4: 2.5}, pool(), 6) == [2, 3, 4, 3, 3, 3]

    def test_it_stops_at_its_limit(self):
        assert self.sizes({1: 1.0, 2: 2.0, 3: 3.0}, pool(Hand(("cuda",), 1, 3)), 5) == [2, 3, 3, 3, 3]

    def test_the_last_one_is_taken_back_too_where_it_does_not_pay(self):
        assert self.sizes({1: 1.0, 2: 0.9}, pool(Hand(("cuda",), 1, 2)), 4)[1:] == [1, 1, 1]

    @pytest.mark.parametrize("memory", [(41.0, 100.0), None], ids=["too little", "a card that does not say"])
    def test_it_does_not_grow_beyond_the_memory(self, memory):
        self.memory = memory
        assert self.sizes({1: 1.0}, pool(), 3) == [1, 1, 1]

    def test_a_number_a_person_named_is_kept(self):
        assert self.sizes({2: 1.0}, pool(Hand(("cuda",), 2, 2)), 3) == [2, 2, 2]

    def test_nothing_changes_when_all_runs_have_started(self):
        assert self.sizes({1: 1.0}, pool(), 3, more=False) == [1, 1, 1]

    def test_nothing_changes_before_a_number_was_measured(self):
        it = pool()
        for _ in range(29):
            self.now += 1.0
            it.adapt(True, lambda line: None)
        assert it.size == 1


class Dead:
    """A process that is no more."""

    exitcode = -9

    def join(self, timeout=None):
        pass

    terminate = join


def worker(process=None, lane=None):
    ours, theirs = Pipe()
    return workers._Worker(process or Dead(), ours, lane or Lane("cuda", 1, 8)), theirs


def test_a_worker_that_died_between_two_runs_is_replaced(tmp_path, monkeypatch):
    it = pool(folder=tmp_path)
    dead, gone = worker(lane=it.lanes[0])
    gone.close()
    it.workers.append(dead)
    fresh, theirs = worker(lane=it.lanes[0])

    def spawn(lane):
        it.workers.append(fresh)
        return fresh

    monkeypatch.setattr(it, "_spawn", spawn)
    it.start(a_run())
    assert theirs.recv() == a_run() and list(it.running()) == [a_run().id] and dead not in it.workers


@pytest.mark.parametrize("read", [True, False], ids=["after it took the run", "before it took the run"])
def test_a_worker_that_dies_fails_its_run_whenever_it_dies(tmp_path, read):
    it = pool(folder=tmp_path)
    busy, theirs = worker(lane=it.lanes[0])
    it.workers.append(busy)
    it.start(a_run())
    if read:
        theirs.recv()
    theirs.close()
    (event,) = it.wait(5)
    assert (event.kind, event.run_id) == ("failed", a_run().id), "it had all memory to itself"
    said = record_path(tmp_path, a_run().id).with_suffix(".log").read_text()
    assert "exit code -9: it was killed, most likely by the system for want of memory" in said
    assert it.workers == [] and it.running() == {}


@pytest.mark.parametrize("kind", ["failed", "paused"])
def test_work_that_was_not_done_is_no_pace(tmp_path, kind):
    """Else a second run that fails for lack of memory looks like the best that ever happened, and a third is tried."""
    it = pool(folder=tmp_path)
    busy, theirs = worker(lane=it.lanes[0])
    it.workers.append(busy)
    it.start(a_run(seconds=1000.0))
    theirs.send(Event("progress", a_run().id, "0.25"))
    it.wait(5)
    assert it.lanes[0].advance == 250.0 and it.running() == {a_run().id: 0.25}
    theirs.send(Event(kind, a_run().id, "log"))
    it.wait(5)
    assert it.lanes[0].advance == 250.0 and it.running() == {}


def test_a_finished_run_counts_in_full(tmp_path):
    it = pool(folder=tmp_path)
    busy, theirs = worker(lane=it.lanes[0])
    it.workers.append(busy)
    it.start(a_run(seconds=1000.0))
    theirs.send(Event("done", a_run().id))
    it.wait(5)
    assert it.lanes[0].advance == 1000.0 and it.place(a_run(1))


def test_code_that_changed_since_the_sweep_began_trains_nothing(monkeypatch):
    """Else its record would name the hash and the commit of code that did not make it."""
    monkeypatch.setitem(sys.modules, "papers.toy.train", SimpleNamespace(train="train"))
    monkeypatch.setattr(workers, "code_hash", lambda module: "now")
    assert workers._trainer.__wrapped__("toy", "now") == "train"
    with pytest.raises(RuntimeError, match="papers.toy.train has changed since this sweep began; call it again"):
        workers._trainer.__wrapped__("toy", "then")


class TestCheckpointsAreOfData:
    """What was learned from other data is not gone on with: half a run would be of these, and its record of those."""

    @pytest.fixture
    def root(self, tmp_path, monkeypatch):
        monkeypatch.setenv("LLP_DATA", str(tmp_path / "data"))
        monkeypatch.setenv("LLP_MIRROR", str(tmp_path / "mirror"))
        return tmp_path

    def key(self, monkeypatch, root, **values):
        """The key that a run's checkpoint has."""
        asked = {}
        monkeypatch.setattr(workers, "_trainer", lambda paper, code: lambda spec, **session: asked.update(session))
        workers._train(a_run(**values), workers.Home("code", root, root), "cpu", None, print)
        return asked["key"]

    def manifest(self, folder, sha256, **more):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text(json.dumps({"sha256": sha256, **more}))

    def test_a_run_without_data_is_told_by_spec_and_code(self, root, monkeypatch):
        assert self.key(monkeypatch, root) == f"{a_run().spec_hash}-code"
        assert self.key(monkeypatch, root, dataset="rings") == f"{a_run(dataset='rings').spec_hash}-code"

    def test_another_set_is_another_key_and_the_same_made_again_is_not(self, root, monkeypatch):
        data, keys = root / "data", []
        for name in ("rings", "features/rings", "moons"):
            self.manifest(data / name, "a", seconds=1)
        features = {"dataset": "rings", "network": "patch_features"}
        before = self.key(monkeypatch, root, **features)
        self.manifest(data / "rings", "a", seconds=2)
        self.manifest(data / "moons", "b")
        assert self.key(monkeypatch, root, **features) == before
        for name in ("rings", "features/rings"):
            self.manifest(data / name, "b")
            keys.append(self.key(monkeypatch, root, **features))
        assert len({before, *keys}) == 3 and len({key.split("-")[0] for key in keys}) == 1

    def test_a_set_that_is_read_in_the_mirror_is_told_by_its_files(self, root, monkeypatch):
        folder = root / "mirror" / "photos"
        (folder / "deep").mkdir(parents=True)
        (folder / "deep/1.png").write_bytes(b"a")
        before = self.key(monkeypatch, root, dataset="photos")
        assert before == self.key(monkeypatch, root, dataset="photos")
        (folder / "deep/1.png").write_bytes(b"ab")
        assert before != self.key(monkeypatch, root, dataset="photos")

    def test_a_shared_stage_is_of_these_data_too(self, root, monkeypatch):
        names = []
        for sha256 in "ab":
            self.manifest(root / "data/rings", sha256)
            session = {"key": self.key(monkeypatch, root, dataset="rings"), "checkpoint": root / ".work/run.pt"}
            names.append(common("teachers", {"loss": "kl"}, session))
        assert names[0] != names[1]


def test_a_worker_whose_sweep_was_killed_trains_no_further(tmp_path, monkeypatch):
    """On a GPU a worker is a process of its own, which no nursery ends: what it says next ends it."""
    ours, theirs = Pipe()
    steps, written = [], []

    def train(run, home, device, deadline, send):
        ours.close()  # as when the sweep is killed
        for step in range(3):
            steps.append(step)
            send(Event("progress", run.id, str(step / 3)))

    monkeypatch.setattr(workers, "_train", train)
    monkeypatch.setattr(workers, "record_of", lambda *_: {})
    monkeypatch.setattr(workers.store, "write_record", lambda *_: written.append(1))
    ours.send(a_run())
    with pytest.raises(SystemExit):
        workers._work(theirs, {"toy": Home("code", tmp_path, tmp_path)}, "cuda", None)
    assert steps == [0] and not written


def test_a_run_that_a_device_failed_waits_for_another_and_goes_beside_none(tmp_path):
    """The only free device is the one that failed it: it is not put beside the run of another."""
    pool = workers.Pool({"toy": Home("code", tmp_path, tmp_path)}, Hand(("cuda:0", "cuda:1"), 1, 1), None)
    ours, _theirs = Pipe()
    pool.workers.append(workers._Worker(SimpleNamespace(), ours, pool.lanes[1], a_run(0)))
    pool.blamed[a_run(1).id] = pool.lanes[0]
    assert pool.place(a_run(1)) is None and pool.place(a_run(2)) is pool.lanes[0]
