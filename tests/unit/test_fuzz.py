"""A few damaged files of every kind, always the same ones; ``make fuzz`` tries new ones for minutes."""

import pytest

from tests.fuzz.running import cases
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_gives_its_data_or_one_sentence(name, tmp_path, capfd):
    wrong = [f"case {case}, {path.name}: {what}" for case, path, what in cases(name, 0, tmp_path / "a", 12) if what]
    assert not wrong, "\n".join(wrong)


def test_what_is_wrong_is_seen(tmp_path, monkeypatch):
    """A reader that raises anything else, says nothing, takes long or fills the memory is caught."""
    from tests.fuzz import running
    from tests.fuzz.targets import Target

    def said(read):
        return running.wrong_with(Target(None, read, ValueError), tmp_path)

    def fails(error):
        def read(folder):
            raise error

        return read

    monkeypatch.setattr(running, "SECONDS", 0.2)
    assert said(lambda folder: None) == ""
    assert said(fails(ValueError("x.csv, line 2: 3 is no name; correct it"))) == ""
    assert "KeyError" in said(fails(KeyError("a")))
    assert "no sentence" in said(fails(ValueError("")))
    assert "no sentence" in said(fails(ValueError("two\nlines")))
    assert "no sentence" in said(fails(ValueError("a" * 10_000)))
    assert "more than" in said(lambda folder: [None for _ in iter(int, 1)])
