"""One run as a program: trained here it writes no record, says what it does, can be changed, saved and debugged."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

from papers.rot import train as rot
from shared.config import find, plan, repository
from shared.files import write_text
from shared.methods import LossMethod
from shared.records import record_path, store
from shared.runs import one
from shared.runs.assemble import record_of
from shared.runs.code import code_hash
from shared.training import Result, accuracy
from tests.conftest import TOY_CONFIG, TOY_NAMES, write_record

KL, CHECK = "rot/digits/kl/bag16/seed0", "rot/random/equations/seed0"
SMOKE = ["--tier", "smoke"]


@pytest.fixture(autouse=True)
def threads():
    """A run here sets this process to one thread."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def call(capsys, tmp_path):
    """call(arguments) -> (exit status, lines of standard output, of standard error); records lie in a folder apart."""

    def call(*arguments):
        try:
            status = one.main("rot", [*map(str, arguments), *SMOKE, "--records", str(tmp_path / "runs")])
        except SystemExit as stop:
            status = stop.code
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err.splitlines()

    return call


@pytest.fixture
def quick(monkeypatch):
    """A train function that trains nothing: the specs it was called with."""
    calls = []

    def train(spec, *, device, report):
        calls.append(spec)
        return Result({"last": {"accuracy": 50.0}}, says="trained", device=device)

    monkeypatch.setattr(rot, "train", train)
    return calls


class Written:
    """The files that this process has opened to write, made, moved or removed while `on`."""

    def __init__(self):
        self.on, self.paths = False, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.on and event in ("open", "os.mkdir", "os.rename", "os.remove"):
            path, writes = arguments[0], event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and isinstance(path, str | os.PathLike):
                self.paths.append(os.path.abspath(path))


WRITTEN = Written()


@pytest.fixture
def written():
    WRITTEN.paths.clear()
    WRITTEN.on = True
    yield WRITTEN.paths
    WRITTEN.on = False


def test_here_it_trains_in_this_process_and_writes_no_file(call, data_root, tmp_path, monkeypatch, written):
    (folder := tmp_path / "cwd").mkdir()
    monkeypatch.chdir(folder)
    (folder / "noticed").touch()
    threads = []  # counted, not read back: in a long test process other libraries set them, too
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    assert written and not list(folder.parent.glob("runs"))
    written.clear()
    status, out, err = call("digits/kl/bag16/seed0", "--here")
    assert status == 0 and threads == [1], "as in a worker, else the numbers may be others"
    # numba keeps compiled code beside its source, torch in a folder of its own
    places = (str(repository()), str(tmp_path))
    assert [path for path in written if path.startswith(places) and "__pycache__" not in path] == []
    assert [path.name for path in folder.iterdir()] == ["noticed"] and not (tmp_path / "runs").exists()

    straight = rot.train(find("rot", "smoke", KL).spec, device="cpu")
    assert dict(line.split()[1:] for line in out if line.startswith("last")) == {
        "accuracy": f"{straight.metrics['last']['accuracy']:.4g}",
        "epoch": "3",
    }
    assert {line.split()[0] for line in out} == {"last", "oracle", "bag-validation", "cost", "convergence"}
    assert err[0] == f"{KL} on cpu"
    epochs = err[1:-1]
    for number, line in enumerate(epochs, 1):
        loss, measure = straight.curves["train_loss"][number - 1], straight.curves["test_accuracy"][number - 1]
        start = f"epoch {number}/3  train_loss {loss:.4g}  test_accuracy {measure:.4g}  validation_loss "
        assert line.startswith(start) and re.search(r"  ~\d+ (s|min) left$", line)
    assert len(epochs) == 3 and epochs[-1].endswith("~0 s left")
    assert re.fullmatch(rf"{re.escape(straight.says)}, \d+\.\d s; no record was written", err[-1])


def test_values_set_in_the_shell_are_trained_and_the_weights_are_kept(call, data_root, tmp_path):
    path = tmp_path / "out.pt"
    arguments = ("--set", "loss=rot", "alpha=2e-1", "epochs=1", "--set", "divide_by_alpha=no", "--save", path)
    status, out, err = call("digits/kl/bag16/seed0", "--here", *arguments)
    assert status == 0
    assert err[0] == f"{KL} on cpu, loss = 'rot', alpha = 0.2, epochs = 1, divide_by_alpha = False"
    assert err[1].startswith("epoch 1/1  ") and err[-1] == (
        f"weights in {path}: torch.load({str(path)!r}, weights_only=True)['method']"
    )
    saved = torch.load(path, weights_only=True)
    spec = find("rot", "smoke", KL).spec.but(loss="rot", alpha=0.2, epochs=1, divide_by_alpha=False)
    assert saved["id"] == KL and saved["spec"] == spec.values()

    found = rot.data_of(spec, torch.device("cpu"))
    network = rot.network_of(spec, found.train, found.n_classes)
    method = LossMethod(network, torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9), rot.loss_of(spec))
    method.load_state_dict(saved["method"])
    (line,) = (line for line in out if line.split()[:2] == ["last", "accuracy"])
    assert line.split()[2] == f"{accuracy(method, found.test, found.y_test):.4g}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["alfa=0.4"], "rot: unknown key 'alfa'; did you mean 'alpha'?"),
        (["alpha=0.4"], "rot: alpha would not be read; it is where loss is 'rot', tuning is 'none' or 'rate'"),
        (["epochs"], "--set epochs: write key=value"),
        (["epochs=many"], "rot: epochs must be like 3, an int, and not 'many'"),
    ],
    ids=["unknown", "not read", "no value", "type"],
)
def test_a_value_that_cannot_be_set_is_one_line_and_trains_nothing(call, quick, changes, message):
    assert call(KL, "--here", "--set", *changes) == (2, [], [message]) and quick == []


def test_an_unknown_run_is_answered_with_the_likeliest(call, quick):
    status, _, err = call("digits/lk/bag16/seed0", "--here")
    assert status == 2 and quick == []
    assert err == [f"tier smoke of rot has no run 'digits/lk/bag16/seed0'; did you mean {KL!r}?"]
    assert call("zzz")[2] == ["tier smoke of rot has no run 'zzz'; `--list` names its 28 runs"]
    assert one.main("rot", [KL, "--here", "--tier", "huge"]) == 2


class TestSave:
    def test_of_what_trains_nothing_is_refused_before_it_begins(self, call, quick, tmp_path):
        status, out, err = call(CHECK, "--here", "--save", tmp_path / "out.pt")
        assert (status, out, err) == (2, [], [f"{CHECK} trains nothing: there are no weights to save"])
        assert quick == [] and not (tmp_path / "out.pt").exists()

    def test_into_a_folder_that_is_not_there_is_refused_before_it_begins(self, call, quick, tmp_path):
        path = tmp_path / "none" / "out.pt"
        assert call(KL, "--here", "--save", path)[::2] == (2, [f"--save {path}: there is no folder {path.parent}"])
        assert call(KL, "--here", "--save", tmp_path)[::2] == (2, [f"--save {tmp_path}: this file cannot be written"])
        assert quick == []

    def test_of_a_run_that_kept_no_method_says_so_after_its_numbers(self, call, quick, tmp_path):
        status, out, err = call(KL, "--here", "--save", tmp_path / "out.pt")
        assert status == 2 and out == [f"{'last':16}{'accuracy':28}50"] and not (tmp_path / "out.pt").exists()
        assert err[-1] == f"{KL} trained nothing that could be saved"


def test_the_list_names_the_runs_of_the_tier_in_order_with_their_state(call, tmp_path):
    ids = [run.id for run in plan("rot", "smoke")]
    status, out, err = call("--list")
    assert status == 0 and out == [f"{run_id}  missing" for run_id in ids] and err == []
    runs, code = plan("rot", "smoke"), code_hash("papers.rot.train")
    write_record(tmp_path / "runs", runs[1], code)
    write_record(tmp_path / "runs", runs[2], "of other code")
    write_text(record_path(tmp_path / "runs", ids[3]).with_suffix(".log"), "Traceback\n")
    states = ("missing", "done", "outdated", "failed", "missing")
    assert call("--list")[1][:5] == [f"{run_id}  {state}" for run_id, state in zip(ids[:5], states, strict=True)]
    assert call("--list", "--only", "bag17")[::2] == (
        2,
        ["no run of rot at tier smoke matches 'bag17'; `python -m papers.rot.train --list --tier smoke` names them"],
    )
    assert call("--list", "--only", r"alpha0\.1")[1] == [f"{i}  missing" for i in ids if "alpha0.1" in i]
    assert one.main("rot", ["--list", "--tier", "huge"]) == 2


def test_a_list_that_nobody_reads_to_its_end_ends_quietly(tmp_path):
    """And by no signal of the whole process: a sweep notices a dead worker by its broken pipe."""
    script = "import signal, sys; from shared.runs.one import main; status = main('ece', ['--list', '--tier', 'gpu']); "
    script += "sys.exit(status or signal.getsignal(signal.SIGPIPE) != signal.SIG_IGN)"
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=repository(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 0
    process.stderr.close()


def test_the_usage_names_its_own_program(capsys):
    for paper in ("rot", "ece"):
        with pytest.raises(SystemExit) as stop:
            one.main(paper, ["--help"])
        assert stop.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: python -m papers.{paper}.train [-h] ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--here"], "--here needs the ID of a run; --list names them"),
        ([KL, "--set", "epochs=1"], "--set and --save are for --here, which writes no record"),
        ([KL, "--save", "out.pt"], "--set and --save are for --here, which writes no record"),
        ([KL, "--here", "--dry-run"], "--dry-run is for runs that are recorded, not for --here"),
        ([KL, "--here", "--time-budget", "9m"], "--time-budget is for runs that are recorded, not for --here"),
        ([KL, KL], "unrecognized arguments"),
        ([KL, "--only", "bag16"], "--only is for several runs and the ID names one; leave one of them out"),
        ([KL, "--gather"], "--gather is for several runs and the ID names one"),
        (["--list", KL], f"--list names all runs, or those that --only says; write --only '{KL}' for one of them"),
        (["--list", "--here"], "--here is not for --list, which names runs and stops"),
        (["--list", "--set", "epochs=1"], "--set is not for --list"),
        (["--list", "--again"], "--again is not for --list"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_wrong_usage_is_answered_by_the_programs_own_name(call, quick, arguments, message):
    status, _, err = call(*arguments)
    assert status == 2 and quick == [] and err[0].startswith("usage: python -m papers.rot.train ")
    assert err[-1].startswith("python -m papers.rot.train: error: ") and message in err[-1]


def test_again_from_the_environment_is_no_option_of_one_run(call, quick, monkeypatch):
    """`snakemake --config again=true` sets it for sweeps."""
    monkeypatch.setenv("LLP_AGAIN", "1")
    assert call(KL, "--here")[0] == 0 and len(quick) == 1


def test_without_here_only_the_named_run_is_swept(call, monkeypatch):
    asked = []
    monkeypatch.setattr(one, "from_options", lambda paper, args, only: asked.append((paper, only)) or 1)
    assert call("digits/rot-alpha0.1/bag16/seed1")[0] == 1 and call()[0] == 1
    (paper, only), (_, everything) = asked
    assert paper == "rot" and everything is None
    assert [r.id for r in plan("rot", "smoke") if re.search(only, r.id)] == ["rot/digits/rot-alpha0.1/bag16/seed1"]


def test_beside_a_record_of_the_same_spec_it_says_how_they_compare(call, quick, tmp_path):
    run = find("rot", "smoke", KL)
    path = record_path(tmp_path / "runs", KL)

    def record(accuracy, **more):
        result = Result({"last": {"accuracy": accuracy}}, cost={}, device="cpu")
        store.write_record(tmp_path / "runs", {**record_of(run, "code", 1.0, result), **more})

    record(50.0)
    before = path.read_bytes()
    assert call(KL, "--here")[2][-1] == f"the record has the same metrics: {path}" and path.read_bytes() == before
    record(49.0)
    assert call(KL, "--here")[2][-1] == f"the record has other metrics: {path}"
    for changes in (["--set", "epochs=1"], []):
        if not changes:
            record(50.0, spec_hash="of another spec")
        assert call(KL, "--here", *changes)[2][-1].endswith("no record was written")
    path.write_text(path.read_text().replace(f'"schema": {store.SCHEMA}', '"schema": 1'))
    status, _, err = call(KL, "--here")
    assert status == 0 and err[-1].endswith("no record was written")


def test_a_run_that_cannot_be_made_here_says_why_and_another_error_keeps_its_traceback(call, monkeypatch):
    class Lacking(Exception):
        not_run = True

    def train(spec, **session):
        raise errors.pop(0)

    monkeypatch.setattr(rot, "train", train)
    errors = [Lacking("no photos"), KeyboardInterrupt(), FloatingPointError("training diverged")]
    assert call(KL, "--here")[::2] == (2, [f"{KL} on cpu", "NOT RUN: no photos"])
    assert call(KL, "--here")[::2] == (130, [f"{KL} on cpu", "stopped; no record was written"])
    with pytest.raises(FloatingPointError, match="training diverged"):
        call(KL, "--here")


def test_a_line_says_how_much_time_is_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(one.time, "time", lambda: now[0])
    lines = one._Lines()
    now[0] = 400.0
    lines(0.1, {})
    lines(0.25, {"epoch": 1, "epochs": 4, "train_loss": 0.123456, "test_f1": 3})
    lines(0.5, {"teacher_loss": 1.0})
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/4  train_loss 0.1235  test_f1 3  ~15 min left",
        "50 %  teacher_loss 1  ~5 min left",
    ]


TOY_TRAIN = """
from shared.training import Result


def train(spec, *, device, report):
    answer = 6 * spec.seed
    breakpoint()
    report(1.0, {"epoch": 1, "epochs": 1, "answer": answer})
    return Result({"last": {"answer": answer}}, says="done", device=device)


if __name__ == "__main__":
    import sys

    from shared.runs.one import main

    sys.exit(main("toy"))
"""


def test_a_breakpoint_in_train_stops_there_and_goes_on(tmp_path):
    """As a person has it: the module run as a program, the debugger on the terminal."""
    for package in ("shared", "config"):
        shutil.copytree(repository() / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "config" / "tiny.yaml").write_text("tier: tiny\nsays: a test\n")
    folder = tmp_path / "papers" / "toy"
    folder.mkdir(parents=True)
    for name, text in {"config.yaml": TOY_CONFIG, "names.py": TOY_NAMES, "train.py": TOY_TRAIN}.items():
        (folder / name).write_text(text)
    environment = {**os.environ, "LLP_TIER": "tiny", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONBREAKPOINT", None)
    done = subprocess.run(
        [sys.executable, "-m", "papers.toy.train", "moons/kl/seed1", "--here", "--device", "cpu"],
        cwd=tmp_path,
        env=environment,
        input="p answer * 7\nc\n",
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert "(Pdb) 42\n" in done.stdout and done.stdout.endswith(f"{'last':16}{'answer':28}6\n")
    assert "epoch 1/1  answer 6  ~0 s left\ndone, " in done.stderr
    assert not (tmp_path / "results").exists() and not (tmp_path / ".work").exists()
