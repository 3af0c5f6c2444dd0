"""What is said of a value beside it in config.yaml: which texts it may be, whether it must stay whole."""

import pytest

from shared.config import ConfigError, Spec, SpecError, read_config

LOSS = "loss: {value: kl, "


def test_a_text_with_a_list_is_one_of_it(toy_paper):
    toy_paper.write((LOSS, "loss: {value: kl, one_of: [kl, rot, pseudo, avg], "))
    assert toy_paper.spec(loss="rot").loss == "rot"
    with pytest.raises(ConfigError, match=r"experiments \(.*\)\.grid: loss cannot be 'rott'; did you mean 'rot'"):
        toy_paper.spec(loss="rott")
    with pytest.raises(SpecError, match="^toy: loss cannot be 'mse'; known are avg, kl, pseudo, rot$"):
        toy_paper.spec(loss="kl").but(loss="mse")
    with pytest.raises(SpecError, match="^toy: loss cannot be 3; known are avg, kl, pseudo, rot$"):
        Spec.of({**toy_paper.spec(loss="kl"), "loss": 3}, read_config("toy", toy_paper.root).layout)


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("one_of: [rot]", "loss cannot be 'kl'"),
        ("one_of: [kl, rot], neutral: avg", "loss cannot be 'avg'"),
        ("one_of: kl", "`one_of` of loss must list texts"),
        ("one_of: [kl, kl]", "each once"),
        ("one_of: [kl, 1]", "`one_of` of loss must list texts"),
        ("free: ''", "`free` of loss must say what a text"),
        ("one_of: [kl, rot], free: a word", "`free` of loss must say what a text without `one_of` is"),
        ("real: true", "`real` of loss must be true, and be of a number that is written whole"),
    ],
)
def test_a_mark_that_cannot_be_meant_is_refused(toy_paper, mark, message):
    toy_paper.write((LOSS, f"loss: {{value: kl, {mark}, "))
    with pytest.raises(ConfigError, match=message):
        toy_paper.plan()


def test_a_value_written_whole_stays_whole_unless_it_is_real(toy_paper):
    with pytest.raises(ConfigError, match=r"grid: epochs must be a whole number, and not 1\.5"):
        toy_paper.spec(loss="kl", epochs=1.5)
    toy_paper.write(("epochs: {value: 3, ", "epochs: {value: 3, real: true, "))
    assert toy_paper.spec(loss="kl", epochs=1.5).epochs == 1.5
