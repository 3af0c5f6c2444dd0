"""Set-up without a network: each refusal in one sentence, and no half-made environment that passes as finished."""

import ast
import re
from pathlib import Path

import pytest

from workflows import compiling, setup

DEAD = "exit 127"
OFFLINE = "echo 'Temporary failure in name resolution'; exit 1"


def script(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def sentence(refusal):
    text = str(refusal.value)
    assert text.startswith("setup: ") and text.endswith(".") and "\n" not in text
    return text


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A repository with a lock, a launcher and nothing installed."""
    lock, launcher = tmp_path / "lock.txt", tmp_path / "launcher.py"
    lock.write_text("torch==2.11\n")
    launcher.write_text("")
    places = {"ROOT": tmp_path, "ENV": tmp_path / ".venv", "UV": tmp_path / "uv", "LOCK": lock}
    for name, path in {**places, "LAUNCHER": launcher}.items():
        monkeypatch.setattr(setup, name, path)
    return tmp_path


@pytest.fixture
def fake_uv(house):
    """A uv that notes what it is asked; `uv venv` makes an environment whose Python notes it, too, and does nothing."""

    def make(sync="exit 0"):
        return script(
            house / "fake-uv",
            f"""echo "$1" >> {house}/asked
            if [ "$1" = pip ]; then {sync}; fi
            rm -rf {house}/.venv; mkdir -p {house}/.venv/bin
            cd {house}/.venv/bin; printf '#!/bin/sh\\necho "$*" >> {house}/called\\n' > python; chmod +x python""",
        )

    return make


def asked(house):
    notes = (house / "asked").read_text().split()
    (house / "asked").unlink()
    return notes


def test_old_pythons_can_read_it():
    ast.parse(Path(setup.__file__).read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("version", [(3, 10), (3, 13), None])
def test_unfit_python_is_refused(monkeypatch, version):
    monkeypatch.setattr(setup, "version_of", lambda path: version)
    with pytest.raises(SystemExit) as refusal:
        setup.choose_python(["/somewhere/python3"])
    assert "Python 3.11 or 3.12 is needed" in sentence(refusal)
    assert "/somewhere/python3" in sentence(refusal)


def test_no_python_at_all_is_refused():
    with pytest.raises(SystemExit) as refusal:
        setup.choose_python([])
    assert "there is none" in sentence(refusal)


def test_a_dead_shim_does_not_hide_a_good_python(tmp_path):
    script(tmp_path / "shims" / "python3.11", DEAD)
    script(tmp_path / "shims" / "python3.12", DEAD)
    good = script(tmp_path / "usr" / "python3.11", "echo 3 11")
    path = f"{tmp_path}/shims:{tmp_path}/absent:{tmp_path}/usr"
    assert setup.choose_python(setup.candidates({"PATH": path})) == str(good)


def test_a_named_python_is_the_only_candidate():
    assert setup.candidates({"PYTHON": "mine", "PATH": "/usr/bin"}) == ["mine"]
    assert setup.version_of("/no/such/python") is None


def test_the_environment_is_not_its_own_base(house):
    script(house / ".venv" / "bin" / "python3", "echo 3 11")
    assert setup.candidates({"PATH": f"{house}/.venv/bin"}) == []


def test_little_disk_is_refused():
    setup.require_disk({"/home": 8.1, "/data": 900})
    with pytest.raises(SystemExit) as refusal:
        setup.require_disk({"/home": 900, "/data": 7.9})
    assert "Not enough disk" in sentence(refusal)
    assert "/data has 7.9 GB free" in sentence(refusal)


def test_free_space_of_a_folder_to_come_is_its_parents(tmp_path):
    assert list(setup.free_gb([tmp_path / "not" / "yet"])) == [str(tmp_path)]


def test_no_network_is_refused_before_the_environment_is_touched(house):
    kept = script(house / ".venv" / "bin" / "python", "exit 0")
    python = script(
        house / "python",
        f"""if [ "$2" = pip ]; then {OFFLINE}; fi
        mkdir -p {house}/uv/bin; cp "$0" {house}/uv/bin/python""",
    )
    with pytest.raises(SystemExit) as refusal:
        setup.install_uv(str(python))
    assert "No network" in sentence(refusal)
    assert kept.exists()


def test_another_failure_is_quoted(house):
    with pytest.raises(SystemExit) as refusal:
        setup.run([script(house / "pip", "echo first; echo 'hashes differ'; exit 2")])
    assert "pip failed (hashes differ)" in sentence(refusal)


def test_finished_only_when_all_is_done(house, fake_uv):
    assert not setup.finished()
    setup.fill(fake_uv(), "python3")
    assert setup.finished()
    assert asked(house) == ["venv", "pip"]


def test_exact_transport_is_compiled_with_the_environment(house, fake_uv):
    """The first run of every clone would else begin with ten silent seconds."""
    setup.fill(fake_uv(), "python3")
    assert (house / "called").read_text().splitlines()[-1] == "-m workflows.compiling"


def test_a_finished_environment_is_left_alone(house, fake_uv, monkeypatch):
    setup.fill(fake_uv(), "python3")
    monkeypatch.setattr(setup, "run", lambda *arguments, **options: pytest.fail("nothing should run"))
    monkeypatch.setattr(setup, "candidates", lambda environ: pytest.fail("no Python should be sought"))
    setup.main([])


def test_an_edited_lock_or_launcher_is_synced_in_place(house, fake_uv):
    setup.fill(fake_uv(), "python3")
    asked(house)
    for edited in (setup.LOCK, setup.LAUNCHER):
        edited.write_text("# changed\n")
        assert not setup.finished()
        setup.fill(fake_uv(), "python3")
        assert setup.finished()
        assert asked(house) == ["pip"]


def test_an_interrupted_environment_is_made_anew(house, fake_uv):
    with pytest.raises(SystemExit) as refusal:
        setup.fill(fake_uv(sync=OFFLINE), "python3")
    assert "No network" in sentence(refusal)
    assert setup.has_python() and not setup.finished()
    asked(house)
    setup.fill(fake_uv(), "python3")
    assert setup.finished()
    assert asked(house) == ["venv", "pip"]


def test_an_interrupted_update_is_not_finished_even_when_the_lock_is_put_back(house, fake_uv):
    setup.fill(fake_uv(), "python3")
    before = setup.LOCK.read_text()
    setup.LOCK.write_text("# changed\n")
    with pytest.raises(SystemExit):
        setup.fill(fake_uv(sync="exit 1"), "python3")
    setup.LOCK.write_text(before)
    assert not setup.finished()


def test_an_environment_whose_base_python_is_gone_is_not_finished(house, fake_uv):
    setup.fill(fake_uv(), "python3")
    (house / ".venv" / "bin" / "python").unlink()
    assert not setup.finished()


def test_all_loops_that_are_kept_are_compiled_at_set_up():
    kept = {
        f"{'.'.join(path.relative_to(setup.ROOT).with_suffix('').parts)}:{name}"
        for room in ("shared", "papers")
        for path in (setup.ROOT / room).rglob("*.py")
        for name in re.findall(r"^(\w+) = Loops\(", path.read_text(encoding="utf-8"), re.M)
    }
    assert set(compiling.LOOPS) == kept
