"""Exact transport in machine code: compiled once for all clones, never old code, and nothing that others wrote."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.transport import machine
from shared.transport.exact import PROBLEM, TURN

ROOT = Path(__file__).parents[2]
EXACT = machine.EXACT
SOLVE = """
import sys, torch
from shared.transport import exact, machine
found = exact(torch.eye(4)[:, :2], torch.tensor([0, 4]), torch.tensor([[0.5, 0.5]]))
print(found.value.item(), "numba" in sys.modules)
"""


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache that holds this processor's code, in a folder of the user's own."""
    machine.solve_bags()
    code = next(path for folder in machine.folders() for path in folder.glob("transport-*.o"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    folder = machine.folders()[0]
    folder.mkdir(mode=0o700, parents=True)
    return Path(shutil.copy(current(code.parent), folder))


def current(folder):
    import llvmlite.binding as llvm

    return folder / machine._name(llvm, EXACT)


@pytest.fixture
def compiling(monkeypatch):
    """Compiling takes no time and gives the code `made`; how often it was done is kept."""
    done = []
    monkeypatch.setattr(machine, "_compiled", lambda llvm, loops: (done.append(1), (b"made", True))[1])
    return done


def solved(more="", **environment):
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", SOLVE + more], env=env, capture_output=True, text=True, check=False)


def test_a_process_that_solves_needs_no_numba_and_says_nothing():
    machine.solve_bags()
    done = solved()
    assert (done.stdout.split(), done.stderr) == (["0.0", "False"], "")


def test_no_number_of_threads_of_numba_stops_it():
    """Numba itself cannot be imported with 0; it is where exact transport must be compiled."""
    done = solved("print(machine.need_numba('it').__name__)", NUMBA_NUM_THREADS="0")
    assert (done.stdout.split(), done.stderr) == (["0.0", "False", "numba"], "")


def test_any_change_of_a_source_asks_for_other_code(tmp_path, monkeypatch):
    """A changed file never runs old code."""
    import llvmlite.binding as llvm

    base, own = ([Path(shutil.copy(source, tmp_path)) for source in part] for part in (machine.BASE, EXACT.sources))
    names = [machine._name(llvm, EXACT)]
    monkeypatch.setattr(machine, "BASE", base)
    copied = dataclasses.replace(EXACT, sources=own)
    assert machine._name(llvm, copied) == names[0], "all clones of one code share one file"
    for source in (*base, *own):
        source.write_text(source.read_text() + "#")
        names.append(machine._name(llvm, copied))
    assert len(set(names)) == 1 + len(base) + len(own)
    assert machine._name(llvm, dataclasses.replace(copied, kinds={"solve_bags": "i8"})) not in names


def test_the_sources_are_all_that_is_compiled():
    used, all_sources = {"machine", "bag_solver"}, [*machine.BASE, *EXACT.sources]
    for source in all_sources[1:]:
        used |= set(re.findall(r"^(?:from|import) shared\.transport\.(\w+)", source.read_text(), re.MULTILINE))
    assert used == {source.stem for source in all_sources}


def test_another_processor_asks_for_other_code(monkeypatch):
    import llvmlite.binding as llvm

    name = machine._name(llvm, EXACT)
    monkeypatch.setattr(machine, "_processor", lambda llvm: ("another", ""))
    assert machine._name(llvm, EXACT) != name


def loosen(path):
    path.chmod(0o666)


def open_to_all(path):
    path.parent.chmod(0o777)


def open_to_a_group(path):
    path.parent.chmod(0o770)


def link(path):
    shutil.move(path, path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-1])


def alter(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [loosen, open_to_all, open_to_a_group, link, cut_off, alter, empty])
def test_what_others_may_have_written_or_is_damaged_is_not_run(harm, kept):
    assert machine._read(kept.parent, kept.name)
    harm(kept)
    assert machine._read(kept.parent, kept.name) is None


def test_what_is_another_users_is_not_run(kept, monkeypatch):
    monkeypatch.setattr(machine.os, "geteuid", lambda: kept.stat().st_uid + 1)
    assert machine._read(kept.parent, kept.name) is None


def test_it_is_kept_where_this_user_alone_can_write(compiling, tmp_path, monkeypatch, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    first.chmod(0o777)
    monkeypatch.setattr(machine, "folders", lambda: [first, second])
    for _ in range(2):
        assert (machine._kept("transport-1.o") or machine._made(None, EXACT, "transport-1.o")) == b"made"
    assert len(compiling) == 1, "the second process finds it"
    assert capsys.readouterr().err == "compiling exact transport, once, about 10 s\n"
    assert not list(first.iterdir())
    assert [path.name for path in second.iterdir()] == ["transport-1.o"]
    assert [path.stat().st_mode & 0o777 for path in (second, second / "transport-1.o")] == [0o700, 0o600]


def test_code_of_old_sources_does_not_pile_up(compiling, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "folders", lambda: [tmp_path / "own"])
    for number in range(machine.KEPT + 3):
        machine._made(None, EXACT, f"transport-{number}.o")
        os.utime(tmp_path / "own" / f"transport-{number}.o", (number, number))
    assert len(list((tmp_path / "own").iterdir())) == machine.KEPT


def test_where_no_folder_takes_it_that_is_said(compiling, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(machine, "folders", lambda: [tmp_path / "file", tmp_path / "file" / "below"])
    assert machine._made(None, EXACT, "transport-1.o") == b"made"
    assert "by each process, no folder keeps it; NUMBA_CACHE_DIR may name one" in capsys.readouterr().err


def test_folders_are_those_that_the_environment_names(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of-me")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert machine.folders()[0] == Path("/home/of-me/.cache/llp-replications")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert machine.folders()[0] == Path("/cache/llp-replications")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/numba")
    assert machine.folders()[0] == Path("/numba/llp-replications")


@pytest.mark.parametrize("shift", [0, 8, 56])
def test_it_works_in_the_room_that_it_asks_for(shift):
    """Wherever that begins: one byte more would be another's."""
    rng = np.random.default_rng(shift)
    for n, classes in ((1, 1), (3, 2), (16, 10), (65, 3), (128, 100)):
        cost, shares = rng.exponential(size=(n, classes)) ** 6, rng.dirichlet(np.ones(classes), 1)
        bounds, answer = np.array([0, n]), [np.empty(shape) for shape in (1, 1, 1, (n, classes), 1, n, classes)]
        places = [part.ctypes.data for part in (bounds, shares, *answer[:3], cost, *answer[3:])]
        problem, solve = PROBLEM.pack(1, n, classes, True, True, True, 1e-12, *places), machine.solve_bags()
        needed = -solve(problem + TURN.pack(0, 1, 64, 0))
        room = np.full(needed + 256, 7, np.uint8)
        start = -room.ctypes.data % 64 + shift
        assert solve(problem + TURN.pack(0, 1, room.ctypes.data + start, needed)) == 0
        assert (room[:start] == 7).all() and (room[start + needed :] == 7).all()


LOOPS = """
from shared.transport.bare import compiled, vectorised

@vectorised
def add(table, total, factor):
    for row in table:
        for number in row:
            total[0] += factor * number

@compiled
def run(tables, factor, times, total, known):
    for b in range(len(tables)):
        add(tables[b], total[b:], factor)
        known[b] = True
    return times + len(tables)

@compiled
def clear(total):
    total[:] = 0
"""


@pytest.fixture
def others(tmp_path, monkeypatch):
    """Loops that somebody else has written, and a cache of their own."""
    (tmp_path / "written.py").write_text(LOOPS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))

    def found():
        import written

        return {"run": written.run, "clear": written.clear}

    yield machine.Loops(
        "others",
        "other loops",
        {"run": "f4[3] f4 i8 f4[1] b1[1] -> i8", "clear": "f4[1]"},
        found,
        [tmp_path / "written.py"],
        3,
    )
    sys.modules.pop("written", None)
    sys.modules.pop("shared.transport.bare", None)  # which may have been told not to compile


@pytest.mark.parametrize("off", ["0", "1"])
def test_other_loops_are_called_with_arrays_and_tensors_compiled_or_not(others, off, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", off)
    sys.modules.pop("shared.transport.bare", None)
    tables, total, known = np.arange(24, dtype=np.float32).reshape(2, 3, 4), torch.zeros(2), np.zeros(2, bool)
    assert others.calls["run"](tables, 0.5, 7, total, known) == 9
    assert total.tolist() == [33, 105] and known.all()
    others.calls["clear"](total)
    assert total.tolist() == [0, 0]
    assert bool(list((machine.folders()[0]).glob("others-*.o"))) is (off == "0")


def test_other_loops_are_not_called_with_what_their_addresses_would_misread(others):
    tables, known = np.zeros((2, 3, 4), np.float32), np.zeros(2, bool)
    for wrong in (
        tables.astype(np.float64),
        tables.transpose(0, 2, 1),
        tables[0],
        torch.zeros(2, 3, 4, dtype=torch.int32),
    ):
        with pytest.raises(TypeError, match=r"run takes contiguous f4\[3\] on the host, not"):
            others.calls["run"](wrong, 0.5, 7, torch.zeros(2), known)


def test_it_solves_where_numba_is_told_not_to_compile():
    """For a debugger: as it is written, and slowly."""
    done = solved(NUMBA_DISABLE_JIT="1")
    assert (done.stdout.split()[0], done.stderr) == ("0.0", "")
