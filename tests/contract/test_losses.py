"""Every public loss over bags refuses what is no problem, by bag and value, and says what to do.

Each of these was once answered with a number.
"""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch

import papers
import shared.methods
from shared.bags import BagError

NEEDS = {"rot_loss": {"alpha": 0.5}}  # what a loss must be told beyond the bags


def losses():
    """{module.function: function of (log_p or logits, offsets, proportions)}, of all papers and of shared/methods."""
    names = [
        found.name
        for package in (papers, shared.methods)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if found.name.endswith("loss") or "learning" in found.name or found.name.startswith("shared.methods")
    ]
    modules = map(importlib.import_module, names)
    return {
        f"{module.__name__}.{name}": function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and name.endswith("loss")
        and list(inspect.signature(function).parameters)[1:3] == ["offsets", "proportions"]
    }


LOSSES = losses()
OFFSETS = torch.tensor([0, 1, 2, 3])


def problem():
    torch.manual_seed(0)
    return [torch.randn(3, 4).log_softmax(1), OFFSETS.clone(), torch.eye(4)[[0, 2, 2]]]


def call(loss, bags, **more):
    return loss(*bags, **NEEDS.get(loss.__name__, {}), **more)


def changed(which, change):
    """The three arguments with one of them, a copy, changed or replaced."""
    bags = problem()
    bags[which] = change(bags[which])
    return bags


def with_value(place, value):
    def change(tensor):
        tensor = tensor.clone()
        tensor[place] = value
        return tensor

    return change


STRUCTURE = [
    ("a list", 0, lambda x: x.tolist(), TypeError, "must be a torch tensor, got list; pass torch.tensor"),
    (
        "an array",
        2,
        lambda x: x.numpy(),
        TypeError,
        "proportions must be a torch tensor, got ndarray; pass torch.from_n",
    ),
    ("offsets in a list", 1, lambda x: x.tolist(), TypeError, "offsets must be a torch tensor, got list"),
    ("half precision", 0, lambda x: x.half(), TypeError, "is in float16, too coarse for sums over bags; pass .*float"),
    ("bfloat16", 0, lambda x: x.bfloat16(), TypeError, "is in bfloat16"),
    ("whole log-probabilities", 0, lambda x: x.long(), TypeError, "must be in float32 or float64, got int64"),
    ("short offsets", 1, lambda x: x.int(), TypeError, "offsets must be in int64, got int32"),
    ("offsets elsewhere", 1, lambda x: x.to("meta"), TypeError, "offsets are on meta and must be on the host"),
    ("whole counts", 2, lambda x: x.long(), TypeError, "proportions must be in .* got int64; of counts, pass counts /"),
    ("class labels", 2, lambda x: torch.tensor([0, 2, 2]), TypeError, "of one label an instance, one_hot"),
    (
        "labels in float",
        2,
        lambda x: torch.tensor([0.0, 2, 2]),
        BagError,
        r"must be \(3, 4\), got \(3,\): a row for each",
    ),
    ("one row for all", 2, lambda x: x[:1], BagError, r"proportions must be \(3, 4\), got \(1, 4\)"),
    ("another number of classes", 2, lambda x: x[:, :3], BagError, r"proportions must be \(3, 4\), got \(3, 3\)"),
    ("an empty bag", 1, with_value(1, 0), BagError, "bag 0: empty, offsets 0 twice; leave it out"),
    ("turned offsets", 1, with_value(2, 0), BagError, "bag 1: offsets decrease, 1 to 0"),
    ("a late start", 1, with_value(0, 1), BagError, "bag 0: "),
    (
        "instances left over",
        1,
        lambda x: torch.tensor([0, 1, 2, 2]) + torch.tensor([0, 0, 0, 2]),
        BagError,
        "not at M = 3",
    ),
    ("no bags", 1, lambda x: x[:1], BagError, "offsets must be"),
    ("one dimension", 0, lambda x: x[:, 0], BagError, r"must be \(M, K\), got \(3,\)"),
]
VALUES = [
    ("rows that sum to 2", 2, lambda x: 2 * x, "bag 0: proportions sum to 2, not 1; divide each row by its sum"),
    ("counts in float", 2, with_value(1, 1.0), "bag 1: proportions sum to 4, not 1; divide each row by its sum"),
    ("rows of zeros", 2, with_value(2, 0.0), "bag 2: proportions sum to 0"),
    (
        "a negative share",
        2,
        with_value((2, slice(0, 2)), torch.tensor([-0.5, 0.5])),
        "bag 2: proportion of class 0 is -0.5",
    ),
    ("a share that is NaN", 2, with_value((1, 3), torch.nan), "bag 1: proportion of class 3 is nan"),
    ("NaN", 0, with_value((1, 2), torch.nan), "bag 1: .* of instance 1, class 2 is nan"),
]
LOGS = [
    (
        "logits",
        0,
        lambda x: x + 3,
        "bag 0: log_p of instance 0, class . is .*no log-probability; pass logits.log_softmax",
    ),
    ("probabilities", 0, lambda x: x.exp(), "bag 0: log_p of instance 0, class 0 is .*no log-probability"),
    ("logits below 0", 0, lambda x: x - 3, "bag 0: probabilities of instance 0 sum to 0.04979, not 1; pass"),
]


def ids(cases):
    return [case[0] for case in cases]


each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def test_the_losses_are_found():
    assert {name.rsplit(".", 1)[1] for name in LOSSES} >= {
        *(
            "kl_loss",
            "avgkl_loss",
            "relax_lp_loss",
            "rot_loss",
            "mse_loss",
            "vp_loss",
            "count_loss",
            "sce_loss",
            "flm_loss",
        )
    }


@each_loss
def test_a_good_problem_has_a_finite_loss_with_and_without_a_look_at_values(loss):
    values = [call(loss, problem(), check=check) for check in (True, False)]
    assert values[0].isfinite() and torch.equal(*values)


@each_loss
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(("which", "change", "error", "says"), [case[1:] for case in STRUCTURE], ids=ids(STRUCTURE))
def test_what_has_not_the_form_of_a_problem_is_always_refused(loss, check, which, change, error, says):
    with pytest.raises(error, match=says):
        call(loss, changed(which, change), check=check)


@each_loss
@pytest.mark.parametrize(("which", "change", "says"), [case[1:] for case in VALUES], ids=ids(VALUES))
def test_a_value_that_cannot_be_is_refused_by_bag(loss, which, change, says):
    with pytest.raises(BagError, match=says):
        call(loss, changed(which, change))


@pytest.mark.parametrize(
    "loss", [f for f in LOSSES.values() if "log_p" in inspect.signature(f).parameters], ids=lambda f: f.__name__
)
@pytest.mark.parametrize(("which", "change", "says"), [case[1:] for case in LOGS], ids=ids(LOGS))
def test_logits_are_no_log_probabilities(loss, which, change, says):
    with pytest.raises(BagError, match=says):
        call(loss, changed(which, change))


@each_loss
def test_log_probabilities_that_rounding_has_moved_pass(loss):
    """As under autocast, or of probabilities kept from 0."""
    log_p, offsets, proportions = problem()
    assert call(loss, (log_p.bfloat16().float().clamp_max(0), offsets, proportions)).isfinite()
    assert call(loss, (log_p + 5e-5, offsets, proportions + 2e-5)).isfinite()


def test_an_array_of_floats_is_told_from_a_list():
    with pytest.raises(TypeError, match="log_p must be a torch tensor, got ndarray; pass torch.from_numpy"):
        shared.methods.kl_loss(np.zeros((3, 4)), OFFSETS, torch.eye(4)[:3])


@each_loss
@pytest.mark.parametrize("sign", [-1, 1])
def test_shares_that_miss_one_by_a_twentieth_are_refused(loss, sign):
    with pytest.raises(BagError, match=rf"bag 1: proportions sum to {1 + sign * 0.05:g}, not 1"):
        call(loss, changed(2, lambda x: x * torch.tensor([[1.0], [1 + sign * 0.05], [1.0]], dtype=x.dtype)))


@pytest.mark.parametrize(
    "loss", [f for f in LOSSES.values() if "log_p" in inspect.signature(f).parameters], ids=lambda f: f.__name__
)
def test_logits_a_little_below_zero_are_refused(loss):
    with pytest.raises(BagError, match="bag 0: probabilities of instance 0 sum to 0.9048, not 1"):
        call(loss, changed(0, lambda x: x - 0.1))
