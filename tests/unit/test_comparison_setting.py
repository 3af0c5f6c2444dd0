"""In what setting records were made: one standard for cells and for claims."""

import numpy as np
import pandas
import pytest

from shared.comparison.setting import PROTOCOL, SIMULATION, STAND_IN, Setting, setting_of

ROW = {"value": 1.0, "stand_in": "", "differs": "", "simulated": False, "dataset": "moons"}
TOY = {"stand_in": "digits for CIFAR-10; a perceptron for ResNet-18"}
DRAWN, SHORT = {"simulated": True, "dataset": "tissue_sim"}, {"differs": "2 of 9 epochs"}


def rows(*changes):
    return pandas.DataFrame([ROW | change for change in changes])


@pytest.mark.parametrize(
    ("changes", "word", "n"),
    [
        ([{}], "", 0),
        ([TOY], STAND_IN, 2),
        ([SHORT], PROTOCOL, 1),
        ([DRAWN], SIMULATION, 1),
        ([TOY | DRAWN | SHORT], SIMULATION, 4),  # all of it is drawn, whatever stands in for the network
        ([DRAWN, TOY], STAND_IN, 3),
        ([DRAWN, {}], SIMULATION, 1),
        ([TOY | SHORT, {}], STAND_IN, 3),
    ],
)
def test_the_word_is_of_what_departs_most_and_every_reason_is_named(changes, word, n):
    found = setting_of(rows(*changes))
    assert (found.word, len(found.reasons)) == (word, n)


def test_reasons_are_sentences_each_once():
    assert setting_of(rows(TOY | DRAWN, TOY | SHORT)).reasons == (
        "a stand-in: a perceptron for ResNet-18",
        "a stand-in: digits for CIFAR-10",
        "simulated data: tissue_sim",
        "another protocol: 2 of 9 epochs",
    )


def test_a_run_without_a_record_is_no_evidence():
    assert setting_of(rows({}, TOY | {"value": np.nan})) == Setting()
    assert setting_of(rows(TOY)[:0]) == setting_of(pandas.DataFrame({"value": [1.0]})) == Setting()


def test_rows_that_lack_a_text_depart_in_nothing():
    assert setting_of(rows({"differs": np.nan, "stand_in": None, "simulated": np.nan})) == Setting()
