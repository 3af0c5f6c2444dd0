"""What this machine lends: cores within the quota of a container, and devices by the names that people give them."""

import os
import subprocess
import sys

import pytest

from shared.config import ConfigError, devices, load_tier
from shared.config.devices import Seen
from shared.runs import machine


@pytest.fixture
def limits(tmp_path, monkeypatch):
    """limits(cores of the affinity, own groups, {file below /sys/fs/cgroup: content}) -> cores()."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_GROUP", tmp_path / "own")

    def call(allowed, own, files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)), raising=False)
        if own is not None:
            machine.OWN_GROUP.write_text(own)
        for name, text in files.items():
            path = machine.CGROUP / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return machine.cores()

    return call


V1 = {"cpu/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        (None, {}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "399999 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 16),
        (None, {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "garbage\n"}, 16),
        ("0::/\n", {"cpu.max": "0 0\n"}, 16),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "300000 100000\n"}, 2),
        ("0::/the/hosts/path\n", {"cpu.max": "200000 50000\n"}, 4),
        ("3:cpuset:/\n1:cpu:/\n", V1 | {"cpu/cpu.cfs_quota_us": "-1\n"}, 16),
        ("3:cpuset:/\n1:cpu:/\n", V1 | {"cpu/cpu.cfs_quota_us": "250000\n"}, 2),
        (
            "4:cpu,cpuacct:/job\n",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "500000\n",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
        ("4:cpu,cpuacct:/docker/f00\n", V1 | {"cpu/cpu.cfs_quota_us": "100000\n"}, 1),
    ],
)
def test_cores_are_what_affinity_and_quota_leave(limits, own, files, cores):
    """Two runs at once on half a core took four times as long as one after the other."""
    assert limits(16, own, files) == cores
    assert limits(1, own, files) == 1


def test_an_affinity_is_kept():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has none")
    one = next(iter(os.sched_getaffinity(0)))
    code = f"import os; os.sched_setaffinity(0, [{one}]); from shared.runs.machine import cores; print(cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"


@pytest.fixture
def cards(monkeypatch):
    def set_to(n, why=""):
        monkeypatch.setattr(machine, "seen", lambda: Seen(tuple(map(str, range(n))), why))
        monkeypatch.setattr(machine, "has_card", lambda: n > 0 or bool(why))

    return set_to


@pytest.mark.parametrize(
    ("said", "n", "device"),
    [
        ("cpu", 0, "cpu"),
        ("CPU", 2, "cpu"),
        (" cpu ", 2, "cpu"),
        ("auto", 0, "cpu"),
        ("AUTO", 1, "cuda"),
        ("cuda", 1, "cuda"),
        ("CUDA:1", 2, "cuda:1"),
        ("cuda:01", 2, "cuda:1"),
        ("gpu", 1, "cuda"),
        ("GPU:0", 1, "cuda:0"),
    ],
)
def test_a_device_is_known_by_the_names_people_give_it(cards, said, n, device):
    cards(n)
    assert machine.device_of(said) == device


@pytest.mark.parametrize(
    ("said", "n", "says"),
    [
        ("mps", 0, "device mps is not supported"),
        ("cuda", 0, "'cuda' was asked for, but torch sees no CUDA device here; use --device cpu or auto"),
        ("gpu", 0, "'gpu' was asked for, but torch sees no CUDA device here"),
        ("cuda:7", 2, "'cuda:7' was asked for, but torch sees 2, numbered from 0"),
        ("cuda:2", 2, "'cuda:2' was asked for"),
        ("cuda:-1", 2, "there is no device 'cuda:-1'"),
        ("cuda:", 2, "there is no device 'cuda:'"),
        ("cuda:" + "9" * 5000, 2, "there is no device"),
        ("gpux", 2, "there is no device 'gpux'"),
        ("xpu", 2, "there is no device 'xpu'"),
        ("", 2, "there is no device ''; use cpu, cuda, cuda:N or auto"),
        (0, 2, "there is no device 0; use"),
        (None, 2, "there is no device None"),
        ("cuda\n:0", 2, "there is no device"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_one_sentence(cards, said, n, says):
    cards(n)
    with pytest.raises(ConfigError) as raised:
        machine.device_of(said)
    assert says in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("said", "n", "found"),
    [
        ("auto", 0, ("cpu",)),
        ("auto", 1, ("cuda",)),
        ("auto", 3, ("cuda:0", "cuda:1", "cuda:2")),
        ("cuda", 2, ("cuda:0", "cuda:1")),
        ("cuda:1", 2, ("cuda:1",)),
        ("cpu", 2, ("cpu",)),
    ],
)
def test_a_sweep_takes_all_devices_unless_one_is_named(cards, said, n, found):
    cards(n)
    assert machine.devices_of(said) == found


def test_why_torch_sees_no_card_is_said(cards):
    """A GPU that stands idle for a week while the CPU works was installed for nothing."""
    cards(0, "this torch is built for CPUs alone")
    assert machine.overlooked("auto") == (
        "nvidia-smi lists a GPU that torch does not see (this torch is built for CPUs alone): runs go to the CPU"
    )
    assert machine.overlooked("cpu") == ""
    with pytest.raises(ConfigError, match=r"no CUDA device here \(this torch is built for CPUs alone\); use --device"):
        machine.device_of("cuda")
    cards(1)
    assert machine.overlooked("auto") == ""


@pytest.fixture
def asked(monkeypatch):
    """asked(what the process that asks torch prints, CUDA_VISIBLE_DEVICES, what nvidia-smi -L prints) -> Seen."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(devices, "_asked", devices._asked.__wrapped__)
    monkeypatch.setattr(devices.shutil, "which", lambda name: f"/bin/{name}")

    def call(printed, visible=None, listed="GPU 0: a card\n", status=0):
        def run(command, **more):
            text, code = (listed, 0) if command[0] == "nvidia-smi" else (printed, status)
            return subprocess.CompletedProcess(command, code, text, "Traceback\nImportError: libcudart.so\n")

        monkeypatch.setattr(subprocess, "run", run)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return devices.seen()

    return call


@pytest.mark.parametrize(
    ("n", "visible", "tokens"),
    [
        (2, None, ("0", "1")),
        (2, "3,1", ("3", "1")),
        (1, "GPU-8f", ("GPU-8f",)),
        (1, "2,9", ("2",)),
        (1, "MIG-a, MIG-b", ("MIG-a", "MIG-b")),
        (1, None, ("0",)),
    ],
)
def test_each_device_is_known_by_what_shows_it_alone(asked, n, visible, tokens):
    """A process sees one part of a divided card; CUDA reads the list up to the first that is not there."""
    assert asked(f'a library says hello\n[{n}, "13.0", ""]\n', visible) == Seen(tokens)


@pytest.mark.parametrize(
    ("printed", "visible", "why"),
    [
        ('[0, "", ""]', None, "this torch is built for CPUs alone; install its CUDA build"),
        (
            '[0, "13.0", "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)."]',
            None,
            "the driver is too old for CUDA 13.0; update it, or install a torch of an earlier CUDA",
        ),
        ('[0, "13.0", ""]', "7", "CUDA_VISIBLE_DEVICES=7 names none that is there"),
        ('[0, "13.0", "No CUDA GPUs are available"]', None, "No CUDA GPUs are available"),
        ("", None, "asking torch failed (ImportError: libcudart.so)"),
    ],
)
def test_where_nvidia_smi_and_torch_disagree_there_is_a_reason(asked, printed, visible, why):
    assert asked(printed, visible) == Seen(why=why)
    assert asked(printed, visible, listed="No devices found.\n") == Seen()


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_hidden_card_is_none_and_nothing_is_asked(asked, hidden):
    assert asked("must not be read", hidden) == Seen()


def test_the_question_that_torch_is_asked_has_an_answer():
    found = devices._asked.__wrapped__(os.environ.get("CUDA_VISIBLE_DEVICES"))
    assert isinstance(found, Seen) and not found.why.startswith("asking torch failed")


def test_without_a_sign_of_a_card_auto_does_not_wait_for_torch(monkeypatch):
    monkeypatch.setattr(machine, "has_card", lambda: False)
    monkeypatch.setattr(machine, "seen", lambda: pytest.fail("torch was asked"))
    assert machine.device_of("auto") == "cpu" and machine.overlooked("auto") == ""


@pytest.mark.parametrize(
    ("device", "known"), [("CPU", "cpu"), ("gpu", "cuda"), ("cuda:01", "cuda:1"), ("Auto", "auto")]
)
def test_a_tier_may_name_its_device_as_people_do(tmp_path, device, known):
    (tmp_path / "config").mkdir()
    path = tmp_path / "config" / "mine.yaml"
    path.write_text(f"tier: mine\nsays: a test\ndevice: {device}\n")
    assert load_tier("mine", tmp_path).device == known
    for wrong in ("mps", "0", "[cuda]", "null"):
        path.write_text(f"tier: mine\nsays: a test\ndevice: {wrong}\n")
        with pytest.raises(ConfigError, match=r"mine\.yaml: .*device"):
            load_tier("mine", tmp_path)
