"""The tables of results/bench: each says which code it timed, and one that is old says so itself.

A change of a solver makes its table old. Minutes of timing on a quiet machine are too much to ask of it, and a table
that goes on as if nothing had happened is too little: so this fails once, until ``python -m benchmarks --mark``, a
second, has written ``OLD:`` into the table, and from then on it warns with the command that makes the table again.
"""

import warnings

import pytest

from benchmarks import stamp
from benchmarks.__main__ import committed
from shared.config import repository

TABLES = committed()


def test_every_table_belongs_to_a_benchmark():
    assert {path for path, _ in TABLES} == set((repository() / "results" / "bench").glob("*.csv"))


@pytest.mark.parametrize(("path", "about"), TABLES, ids=[path.stem for path, _ in TABLES])
def test_a_table_says_which_code_it_timed_and_whether_that_is_old(path, about):
    assert stamp.said(path), f"{path.name} does not say in every row which code it timed, in a column `{stamp.COLUMN}`"
    old = stamp.is_old(path, about)
    if old:
        warnings.warn(stamp.sentence(path, about), stacklevel=1)
    assert old == stamp.says_so(path), (
        f"{stamp.sentence(path, about)}, and `python -m benchmarks --mark` lets it say so"
    )
