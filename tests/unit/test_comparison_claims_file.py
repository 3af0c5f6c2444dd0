"""What claims.yaml may say, and how a mistake in it is named."""

import math

import pytest

from shared.comparison import claims
from shared.comparison.reported import InputError
from shared.tables.bounds import bounds_in_words

GOOD = {
    "id": "a",
    "says": "So.",
    "source": "Table 1",
    "kind": "greater",
    "left": "{method: kl}",
    "right": "{method: rot}",
}


WIDE = {"margin": 1, "because": "so"}
EXACT = {"kind": "at_most", "threshold": 1, "because": "so", "deterministic": "true", "left": None, "right": None}


def write(path, **changes):
    entry = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    path.write_text("- " + "\n  ".join(f"{k}: {v}" for k, v in entry.items()) + "\n")
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"still": 1}, "key because: None must give the reason"),
        ({"converged": "false"}, "key because: None must give the reason"),
        ({"converged": "accuracy"}, "key converged: 'accuracy' must be false, or {metric:}"),
        ({"aggregate": "share"}, "key share: None goes with aggregate: share"),
        ({"left": "{method: kl, over: seeds}"}, "only in a ratio"),
        ({"kind": "bigger"}, "key kind: 'bigger' is not one of greater"),
        ({"right": None}, "key right: None must be given for a claim of kind greater"),
        ({"threshold": 3}, "key threshold: 3 means nothing for a claim of kind greater"),
        ({"margin": "wide"}, "key margin: 'wide' is not a number"),
        ({"margin": 5}, "key because: None must give the reason"),
        ({"aggregate": "most"}, "key aggregate: 'most' is not one of every, any, mean, share"),
        ({"left": "kl"}, "key left: 'kl' is not a selector"),
        ({"left": "{bag_size: {over: 3}}"}, "is not a selector"),
        ({"control": "b"}, "control b is no claim of this file"),
        ({"says": None}, "key says: None must be a sentence"),
        ({"says": "[}"}, "is not YAML"),
        ({"question": "Is it?", "quantity": 3}, "key quantity: 3 must be a sentence"),
        ({"where": "{metric: f1}"}, "key where: {'metric': 'f1'} selects runs, so that metric means nothing in it"),
        ({"requires": "{selection: oracle}"}, "selects runs, so that selection means nothing in it"),
        ({"where": "{minus: {method: b}}"}, "selects runs, so that minus means nothing in it"),
        (
            {"left": "{method: kl, floor: 10}"},
            "key left: {'method': 'kl', 'floor': 10} may hold floor only in a same_shape",
        ),
        ({"left": "{method: kl, minus: {method: a, minus: {method: b}}}"}, "minus means nothing of what is subtracted"),
        ({**EXACT, "aggregate": "any"}, "key aggregate: 'any' does not go with deterministic"),
    ],
)
def test_claims_yaml_refused(tmp_path, changes, message):
    path = write(tmp_path / "claims.yaml", **changes)
    with pytest.raises(InputError) as error:
        claims.read_claims(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_claims_yaml_read(tmp_path):
    assert claims.read_claims(write(tmp_path / "claims.yaml"))[0].left == {"method": "kl"}
    (tmp_path / "claims.yaml").write_text("id: a\n")
    with pytest.raises(InputError, match="must be a list"):
        claims.read_claims(tmp_path / "claims.yaml")
    with pytest.raises(InputError, match="no such file"):
        claims.read_claims(tmp_path / "none.yaml")


def test_ids_are_used_once(tmp_path):
    path = write(tmp_path / "claims.yaml")
    path.write_text(path.read_text() * 2)
    with pytest.raises(InputError, match="used twice"):
        claims.read_claims(path)


@pytest.mark.parametrize(
    ("kind", "low", "high", "said"),
    [
        ("greater", -1, math.inf, "above -1"),
        ("at_least", 90, math.inf, "at least 90"),
        ("at_most", -math.inf, 38.3, "at most 38.3"),
        ("ratio", 0, 1.4, "at most 1.4"),
        ("ratio", 2, math.inf, "at least 2"),
        ("within", 0, 2, "within [0, 2]"),
    ],
)
def test_where_an_estimate_must_lie_is_worded_once_for_pages_figures_and_reasons(kind, low, high, said):
    assert bounds_in_words(kind, low, high) == said


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"left": "{method: [a, b]}", "right": "{method: [c, d]}"}, "right"),
        ({"where": "{method: [a, b]}", "right": "{method: [a, c]}"}, "right"),
        ({"left": "{method: [a, b]}", "right": "{method: a, minus: {method: [c, d]}}"}, "right"),
        ({"where": "{method: {min: 1}}", "left": "{method: [1, 2]}"}, "left"),
        ({"left": "{method: {min: 4}}", "right": "{method: {max: 4}}"}, "right"),
        ({"left": "{n: [1, 4]}", "right": "{n: [4, 16]}", "kind": "same_shape", "along": "n", **WIDE}, "right"),
    ],
)
def test_a_cell_key_has_one_list(tmp_path, changes, key):
    """The second was dropped in silence, and each method compared with itself."""
    path = write(tmp_path / "claims.yaml", cells="[method]", **changes)
    with pytest.raises(InputError, match="has other values of the cell key .* list them in one place") as error:
        claims.read_claims(path)
    assert str(error.value).startswith(f"{path}, claim 1 (a), key {key}: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"left": "{method: [a, b]}", "right": "{method: c}"},
        {"where": "{method: [a, b]}", "right": "{bag: 1, minus: {method: [b, a]}}"},
        {"left": "{method: [a, b]}", "right": "{method: [c, d]}", "cells": "[loss]"},
    ],
)
def test_what_pairs_cell_by_cell_is_read(tmp_path, changes):
    assert claims.read_claims(write(tmp_path / "claims.yaml", **{"cells": "[method]", **changes}))
