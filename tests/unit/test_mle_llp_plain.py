"""The E-step's compiled loops: one call on the CPU, kept for all processes, in no more room than they ask for."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import one_hot

from papers.mle_llp import lattice, plain
from papers.mle_llp.lattice import lattice_posterior
from papers.mle_llp.loss import count_loss, counts_of, posterior

ROOT = Path(__file__).parents[2]
# Side by side, by many states, and both; by torch where plain numbers end.
KINDS = {
    "small": ([6] * 20, 2),
    "ragged": ([1, 12, 2, 64, 5, 2, 2, 9, 1, 30], 2),
    "long": ([300, 3, 700], 2),
    "three classes": ([8, 3, 8, 1, 20, 8, 8, 64, 5, 8, 8], 3),
    "ten classes": ([16] * 8 + [4] * 9, 10),
    "more classes than instances": ([3, 1, 5], 40),
}
each_kind = pytest.mark.parametrize(("sizes", "n_classes"), KINDS.values(), ids=KINDS)


def draw(sizes, n_classes, scale=2.0, seed=0):
    """Bags with the counts of labels drawn uniformly, whatever their probabilities."""
    rng = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *itertools.accumulate(sizes)])
    log_p = (scale * torch.randn(sum(sizes), n_classes, generator=rng, dtype=torch.float64)).log_softmax(1)
    labels = torch.randint(n_classes, (sum(sizes),), generator=rng)
    counts = torch.zeros(len(sizes), n_classes, dtype=torch.int64)
    counts.index_add_(0, torch.arange(len(sizes)).repeat_interleave(offsets.diff()), one_hot(labels, n_classes))
    return log_p, offsets, counts


@each_kind
@pytest.mark.parametrize("scale", [0.5, 5.0, 40.0])
def test_all_ways_give_the_answer_of_the_logarithms(sizes, n_classes, scale, monkeypatch):
    problem = draw(sizes, n_classes, scale)
    found = posterior(*problem)
    monkeypatch.setattr(lattice, "plain", lambda *problem: None)
    for ours, exact in zip(found, lattice_posterior(*problem), strict=True):
        torch.testing.assert_close(ours, exact, atol=1e-12, rtol=1e-12)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_bag_has_the_same_answer_to_the_last_bit_beside_any_others(sizes, n_classes, dtype):
    log_p, offsets, counts = draw(sizes, n_classes)
    log_p = log_p.to(dtype)
    phi, log_likelihood = posterior(log_p, offsets, counts)
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(1)).tolist()[: len(sizes) // 2 + 1]
    rows = torch.cat([torch.arange(offsets[b], offsets[b + 1]) for b in order])
    cuts = torch.tensor([0, *itertools.accumulate(sizes[b] for b in order)])
    some, likelihoods = posterior(log_p[rows], cuts, counts[order])
    tolerance = 0 if n_classes != 10 else 1e-6 if dtype == torch.float32 else 1e-14  # in one or the other lattice
    torch.testing.assert_close(some, phi[rows], atol=tolerance, rtol=0)
    torch.testing.assert_close(likelihoods, log_likelihood[order], atol=tolerance, rtol=tolerance)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_takes_its_counts_from_proportions(sizes, n_classes, dtype):
    log_p, offsets, counts = draw(sizes, n_classes)
    proportions = (counts / offsets.diff()[:, None]).to(dtype)
    assert torch.equal(counts_of(proportions, offsets), counts)
    leaf = log_p.clone().requires_grad_()
    loss = count_loss(leaf, offsets, proportions)
    loss.backward()
    phi, log_likelihood = posterior(log_p, offsets, counts)
    torch.testing.assert_close(loss.detach(), -log_likelihood.mean(), atol=1e-13, rtol=1e-13)
    torch.testing.assert_close(leaf.grad, -phi / len(sizes), atol=1e-15, rtol=1e-15)


@each_kind
@pytest.mark.parametrize("shift", [0, 8, 56])
def test_it_works_in_the_room_that_it_asks_for(sizes, n_classes, shift, monkeypatch):
    """Wherever that begins: one byte more would be another's."""
    problem = draw(sizes, n_classes)
    expected = posterior(*problem)
    tight = []

    def asked(solve):
        def call(block):
            left = solve(block)
            while left < -1:
                room = torch.full((-left + 256,), 7, dtype=torch.uint8)
                start = -room.data_ptr() % 64 + shift
                tight[:] = [(room, start, -left)]
                left = solve(block[:-16] + plain.ROOM_OF.pack(room.data_ptr() + start, -left))
            return left

        return call

    monkeypatch.setitem(plain.E_STEP.calls, "solve", asked(plain.E_STEP.calls["solve"]))
    monkeypatch.setattr(plain, "_room", lambda size: (0, 0))
    for ours, other in zip(posterior(*problem), expected, strict=True):
        assert torch.equal(ours, other)
    ((room, start, needed),) = tight
    assert (room[:start] == 7).all() and (room[start + needed :] == 7).all()


def test_a_process_that_takes_it_needs_no_numba_and_says_nothing():
    posterior(*draw([2], 2))
    code = """
import sys, torch
from papers.mle_llp.loss import posterior
phi, _ = posterior(torch.zeros(2, 2), torch.tensor([0, 2]), torch.tensor([[1, 1]]))
print(phi[0, 0].item(), "numba" in sys.modules)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["0.5", "False"], "")


def test_the_sources_are_all_that_is_compiled():
    folder, used = Path(plain.__file__).parent, {"loops.py"}
    for source in plain.SOURCES:
        words = (folder / source).read_text()
        used |= {f"{name}.py" for name in re.findall(r"^from papers\.mle_llp\.(\w+) import", words, re.MULTILINE)}
        for names in re.findall(r"^from papers\.mle_llp import (.+)$", words, re.MULTILINE):
            used |= {f"{name.strip()}.py" for name in names.split(",")}
    assert used == set(plain.SOURCES)


def test_without_numba_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    monkeypatch.delitem(plain.E_STEP.__dict__, "calls", raising=False)
    with pytest.raises(ModuleNotFoundError, match="the E-step on the CPU is compiled by numba: pip install numba"):
        posterior(*draw([2], 2))


def test_where_nothing_is_compiled_torch_takes_it(monkeypatch):
    """As under a debugger."""
    problem = draw([1, 6, 3], 3)
    expected = posterior(*problem)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    for ours, other in zip(posterior(*problem), expected, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-12, rtol=1e-12)
