"""Losses of small steps on the CPU, by compiled code, against the same losses by torch's operators."""

import re
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import torch

from papers.rot import loss as rot
from papers.rot.loss import rot_loss
from papers.vp_dsd.loss import vp_loss
from shared.bags import BagError, segment_mean
from shared.methods import kl_loss, proportion, small
from shared.transport import machine, plain

ROOT = Path(__file__).parents[2]
LOSSES = {
    "kl": kl_loss,
    "vp": vp_loss,
    **{
        f"rot {kind} {a}": partial(rot_loss, alpha=a, gradient=kind)
        for kind in ("unrolled", "envelope")
        for a in (0.3, 1)
    },
    "rot of one iteration": partial(rot_loss, alpha=0.5, iterations=1),
    "rot, little entropy": partial(rot_loss, alpha=0.5, epsilon=0.05),
}
SIZES = {"one bag": [16], "of one size": [4] * 6, "bags of one": [1] * 5, "ragged": [5, 1, 9, 2]}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
each_size = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


def problem(sizes, dtype=torch.float64, classes=7, scale=2.0):
    torch.manual_seed(0)
    offsets = torch.tensor([0, *accumulate(sizes)])
    labels = torch.nn.functional.one_hot(torch.randint(classes, (sum(sizes),)), classes).to(dtype)
    log_p = (scale * torch.randn(sum(sizes), classes, dtype=dtype)).log_softmax(1)
    return log_p.requires_grad_(), offsets, segment_mean(labels, offsets)


def found(loss, log_p, *bags):
    value = loss(log_p, *bags)
    return value, *torch.autograd.grad(value, log_p)


@pytest.fixture
def by_torch(monkeypatch):
    """Give what a call answers where nothing is small."""

    def answer(call):
        with monkeypatch.context() as patch:
            patch.setattr(small, "MOST", 0)
            return call()

    return answer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@each_size
@each_loss
def test_value_and_gradient_are_those_of_torchs_operators(loss, sizes, dtype, by_torch):
    bags = problem(sizes, dtype)
    assert small.fits(*bags)
    close = {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-11, "rtol": 1e-10}
    torch.testing.assert_close(found(loss, *bags), by_torch(lambda: found(loss, *bags)), **close)


@each_size
@pytest.mark.parametrize("name", [name for name in LOSSES if "envelope" not in name and name != "vp"])
def test_the_gradient_is_that_of_the_value(name, sizes):
    log_p, *bags = problem(sizes, classes=3)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, *bags, check=False), log_p)


def test_proportions_that_are_learned_have_their_gradient(by_torch):
    log_p, offsets, z = problem([4, 4])
    z = (z + 0.1).div_(1 + 0.1 * z.shape[1]).requires_grad_()
    for loss in (kl_loss, partial(rot_loss, alpha=0.5)):
        answers = [
            torch.autograd.grad(loss(log_p, offsets, z), (log_p, z)),
            by_torch(lambda f=loss: torch.autograd.grad(f(log_p, offsets, z), (log_p, z))),
        ]
        torch.testing.assert_close(*answers)
    with pytest.raises(ValueError, match="detach them"):
        rot_loss(log_p, offsets, z, alpha=0.5, gradient="envelope")
    with pytest.raises(ValueError, match="detach them"):
        vp_loss(log_p, offsets, z)


@pytest.mark.parametrize("most", [small.MOST, 0], ids=["compiled", "by torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@each_size
def test_a_class_without_instances_that_no_prediction_allows_adds_nothing_to_the_proportion_loss(
    sizes, dtype, most, monkeypatch
):
    log_p, offsets, z = problem(sizes, dtype)
    never, mass = (torch.full((len(part), 1), number, dtype=dtype) for part, number in ((log_p, -torch.inf), (z, 0)))
    wider, more = torch.cat([log_p.detach(), never], 1).requires_grad_(), torch.cat([z, mass], 1).requires_grad_()
    monkeypatch.setattr(small, "MOST", most)
    loss = kl_loss(wider, offsets, more)
    torch.testing.assert_close(loss, kl_loss(log_p, offsets, z))
    for found, given in zip(torch.autograd.grad(loss, (wider, more)), (wider, more), strict=True):
        assert found.isfinite().all() and (found[:, -1] == 0).all() and found.shape == given.shape
    with torch.no_grad():
        more[:, -1] = 1e-3
        assert kl_loss(wider, offsets, more, check=False) == torch.inf, "what is there and never predicted"
        wider[0, -1], more[:, -1] = torch.nan, 0
        assert kl_loss(wider, offsets, more, check=False).isnan()


def test_the_proportion_loss_as_it_is_written_adds_nothing_either():
    from shared.methods.mean_logs import over_bags

    log_p, z = np.float32([[0, -np.inf]] * 2), np.float32([[1, 0]])
    value, slope, for_z = (np.full(shape, np.nan, np.float32) for shape in ((1, 1), (2, 2), (1, 2)))
    over_bags.py_func(np.array([0, 2]), log_p, z, value, slope, for_z)
    assert value == 0
    assert slope.tolist() == [[-0.5, 0]] * 2
    assert for_z.tolist() == [[0, 0]]


@each_loss
def test_a_second_derivative_is_refused_and_not_taken_for_zero(loss):
    log_p, *bags = problem([3, 3])
    (slope,) = torch.autograd.grad(loss(log_p * 1, *bags), log_p, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice|does not require grad"):
        torch.autograd.grad(slope.square().sum(), log_p)


@each_loss
def test_what_a_network_that_diverged_says_is_not_hidden(loss):
    log_p, *bags = problem([3, 3])
    with torch.no_grad():
        log_p[1] = torch.nan
    try:
        assert not loss(log_p, *bags, check=False).isfinite()
    except RuntimeError as error:  # of exact transport, without a certificate
        assert "bag 0" in str(error)


@pytest.mark.parametrize("kind", ["unrolled", "envelope"])
def test_where_plain_numbers_do_not_do_rot_takes_logarithms(kind, by_torch, monkeypatch):
    bags, ended = problem([6, 6], scale=100.0), []
    calls = rot.COMPILED.calls
    monkeypatch.setitem(
        calls, "relax_bags", lambda block, call=calls["relax_bags"]: ended.append(call(block)) or ended[-1]
    )
    loss = partial(rot_loss, alpha=0.01, gradient=kind, epsilon=0.1, iterations=1000)
    answer = found(loss, *bags)
    assert ended == [rot.UNSAFE] and all(part.isfinite().all() for part in answer)
    torch.testing.assert_close(answer, by_torch(lambda: found(loss, *bags)), rtol=0, atol=0)


@each_loss
def test_offsets_that_leave_the_table_are_refused_and_nothing_is_read(loss):
    log_p, _, z = problem([3, 3])
    for offsets, says in (
        ([0, 3, 7], "bag 1: offsets end at 7"),
        ([0, 9, 6], "bag 1: offsets decrease"),
        ([1, 3, 6], "bag 0: "),
    ):
        with pytest.raises(BagError, match=says):
            loss(log_p, torch.tensor(offsets), z, check=False)


@each_loss
def test_tables_that_do_not_lie_as_compiled_code_reads_them_have_the_same_loss(loss, by_torch):
    log_p, offsets, z = problem([4, 4])
    wanted = loss(log_p, offsets, z)
    turned = log_p.detach().t().contiguous().t()
    for bags in (
        (turned, offsets, z),
        (log_p, offsets.repeat_interleave(2)[::2], z),
        (log_p, offsets, z.t().contiguous().t()),
    ):
        assert not small.fits(*bags)
        torch.testing.assert_close(loss(*bags), wanted)


def test_without_numba_the_proportion_loss_is_torchs(by_torch, monkeypatch):
    monkeypatch.setattr(small, "_compiles", lambda: False)
    bags = problem([4, 4])
    torch.testing.assert_close(found(kl_loss, *bags), by_torch(lambda: found(kl_loss, *bags)), rtol=0, atol=0)


@pytest.mark.parametrize("loops", [proportion.COMPILED, rot.COMPILED, plain.COMPILED], ids=lambda loops: loops.name)
def test_the_sources_are_all_that_is_compiled(loops):
    """Or a change of one of them would leave old code in the user's cache."""
    sources = {*machine.BASE, *loops.sources}
    for source in loops.sources:
        used = re.findall(r"^(?:from|import) ((?:shared|papers)\.[\w.]+)", source.read_text(), re.MULTILINE)
        assert {ROOT / f"{name.replace('.', '/')}.py" for name in used} <= sources
