"""Losses, solvers and training steps on a device that is not the CPU: the same numbers, nothing left on the host.

Whole runs are in tests/contract/test_paper_tier.py; the device is `pretend`, of tests/pretend.
"""

import importlib
import inspect
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from papers.ece import criteria
from papers.ece import loss as ece_loss
from papers.ece.detection.criterion import AnchorTerms
from papers.ece.detection.network import Network
from papers.mle_llp.loss import posterior
from papers.plot.labels import relabel
from papers.plot.loss import mixup
from shared import transport
from shared.bags import segment_mean, segment_softmax, segment_sum
from shared.methods import LLPGAN, LLPVAT, Batch, LossMethod, kl_loss
from shared.methods.llp_vat import perturbation
from shared.networks import MLP, FeatureGenerator, ResNet18
from shared.transport import exact, largest_remainder, round_to_labels, sinkhorn, unbalanced_sinkhorn
from tests.contract.paper_tier import toys
from tests.contract.test_losses import LOSSES, NEEDS
from tests.pretend import compute_as_elsewhere
from tests.pretend.device import MISSING, NAME, counting
from tests.pretend.runs import METHODS, total, waits

pytestmark = [pytest.mark.skipif(bool(MISSING), reason=MISSING), pytest.mark.usefixtures("one_thread")]

SIZES = {"bags of one": [1, 1, 1], "of one size": [3, 3], "ragged": [1, 4, 2]}
CLASSES = 3
each_size = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)

# Most reads and uploads of a step; `python -m tests.pretend --where` names their lines. ROT reads whether a class is
# absent and whether the scalings are safe (the envelope every ten iterations, and whether they have converged); exact
# transport is solved on the host, where the counts of a bag are, too; a detector is told how many cells it has found.
WAITS = {
    "KL": (0, 0),
    "ROT, unrolled": (1, 0),
    "ROT, envelope": (2, 0),
    "PLOT, stage two": (0, 0),
    "LLP-VAT": (0, 0),
    "LLP-GAN": (0, 0),
    "MLE-LLP, M-step": (0, 0),
    "MLE-LLP, direct": (4, 0),
    "VP-CE": (1, 0),
    "FLM": (0, 0),
    "DSD, the detector": (1, 0),
    "ECE, segmentation": (0, 0),
    "ECE, ELR": (0, 0),
    "ECE, detection": (5, 5),  # ultralytics' own
}


def there(value):
    """Tensors and arguments, on the device."""
    return value.to(NAME) if isinstance(value, torch.Tensor) else value


def here(value):
    """The same on the host."""
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value


def problem(sizes, dtype=torch.float32):
    """log_p, offsets on the host, proportions of whole counts."""
    torch.manual_seed(0)
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    labels = torch.randint(CLASSES, (int(offsets[-1]),))
    proportions = segment_mean(F.one_hot(labels, CLASSES).to(dtype), offsets)
    return torch.randn(len(labels), CLASSES, dtype=dtype).log_softmax(1), offsets, proportions


def on_both(function, *tensors):
    """(value, gradients of its sum) of a function of tensors, on the host and on the device."""
    found = []
    for place in (lambda tensor: tensor.clone(), there):
        given = [place(tensor) for tensor in tensors]
        leaves = [tensor.requires_grad_() for tensor in given if tensor.is_floating_point()]
        value = function(*given)
        value.sum().backward()
        assert value.device == leaves[0].device
        found.append([here(value), *(here(leaf.grad) for leaf in leaves)])
    return found


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.fixture(autouse=True)
def one_way_of_computing(monkeypatch):
    compute_as_elsewhere(monkeypatch)


# The harness


def test_a_host_tensor_beside_one_of_the_device_is_refused_and_a_number_is_not():
    x, y = torch.ones(2, 3), torch.ones(2, 3, device=NAME)
    for function in (torch.add, torch.minimum, lambda a, b: torch.cat([a, b]), lambda a, b: a @ b.T, torch.equal):
        for pair in ((x, y), (y, x)):
            with pytest.raises(RuntimeError, match="on the host beside those on pretend:0"):
                function(*pair)
    with pytest.raises(RuntimeError, match="on the host"):
        torch.stack([y[0, 0], x[0, 0]])  # a number, but of no operator that works element by element
    with pytest.raises(RuntimeError, match="on the host"):
        y[torch.tensor([0])] = x[:1]
    with pytest.raises(RuntimeError, match="numpy"):
        y.numpy()
    assert here(y + x[0, 0]).tolist() == [[2.0] * 3] * 2 and here(y[torch.tensor([1])]).tolist() == [[1.0] * 3]


def test_what_waits_is_counted_by_line():
    x = torch.arange(4.0, device=NAME)
    for act, kind, what in (
        (lambda: x.sum().item(), "read", "item"),
        (lambda: bool(x.any()), "read", "item"),
        (lambda: x.cpu(), "read", "copy to the host"),
        (lambda: x.tolist(), "read", "copy to the host"),
        (lambda: x[x > 1], "read", "mask as index"),
        (lambda: x.nonzero(), "read", "nonzero"),
        (lambda: x.repeat_interleave(torch.ones(4, dtype=torch.int64, device=NAME)), "read", "repeat_interleave"),
        (lambda: torch.ones(3).to(NAME), "upload", "copy to the device"),
        (lambda: torch.tensor([1.0], device=NAME), "upload", "copy to the device"),
        (lambda: x[torch.tensor([1])], "upload", "index"),
        (lambda: torch.ones(3).to(NAME, non_blocking=True), "sent", "copy to the device"),
    ):
        with counting() as counted:
            act()
        ((found, said, where), number), *others = counted.items()
        assert (found, number, others) == (kind, 1, []) and said.startswith(what)
        assert where.startswith("tests/contract/test_another_device.py:")
    with counting() as counted:
        (x.softmax(0) * 2).masked_fill(x > 1, 0).sum()
    assert not counted


def test_half_precision_is_what_the_cpus_autocast_makes_of_it():
    x, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    for place in (lambda tensor: tensor, there):
        with torch.autocast(place(x).device.type, torch.bfloat16):
            assert F.conv2d(place(x), place(weight)).dtype == torch.bfloat16
            assert place(x).log_softmax(1).dtype == torch.float32


# Losses and solvers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each_size
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_loss_and_its_gradient_are_those_of_the_cpu(loss, sizes, dtype):
    sizes = [1] * sum(sizes) if loss.__name__ == "sce_loss" else sizes  # pseudo-labels are of one instance each
    log_p, offsets, proportions = problem(sizes, dtype)
    for check in (True, False):
        call = partial(loss, check=check, **NEEDS.get(loss.__name__, {}))
        on_host, on_device = (
            (value, gradient)
            for value, gradient, *_ in on_both(
                lambda log_p, proportions, call=call: call(log_p, offsets, proportions.detach()), log_p, proportions
            )
        )
        same(on_host, on_device)


SOLVERS = {
    "exact": exact,
    "sinkhorn": partial(sinkhorn, epsilon=0.5, iterations=30),
    "sinkhorn, envelope": partial(sinkhorn, epsilon=0.5, iterations=30, gradient="none", regularised=True),
    "unbalanced": partial(unbalanced_sinkhorn, epsilon=1.0, tau=0.7, iterations=20),
    "unbalanced, envelope": partial(
        unbalanced_sinkhorn, epsilon=1.0, tau=0.7, iterations=40, gradient="none", tolerance=1e-4
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each_size
@pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)
def test_a_solver_finds_the_plan_of_the_cpu(solve, sizes, dtype):
    log_p, offsets, proportions = problem(sizes, dtype)
    fields = ("plan", "value", "instance_potential", "class_potential", "violation", "converged", "gap")
    results = []

    def value(cost):
        results.append(solve(cost, offsets, proportions.to(cost.device)))
        return results[-1].value

    same(*on_both(value, -log_p))
    ours, other = ([here(getattr(found, name)) for name in fields] for found in results)
    same([x for x in ours if x is not None], [x for x in other if x is not None])
    assert {getattr(results[1], name).device.type for name in fields[:-1]} == {NAME}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_proportions_left_on_the_host_are_seen(loss):
    """A loss that moves its proportions itself would wait for them in every step."""
    log_p, offsets, proportions = problem([1, 1, 1])
    call = partial(loss, check=False, **NEEDS.get(loss.__name__, {}))
    if loss.__name__ in ("count_loss", "vp_loss", "relax_lp_loss"):  # they read the proportions on the host
        assert call(there(log_p), offsets, proportions).device.type == NAME
    else:
        with pytest.raises(RuntimeError, match="on the host beside"):
            call(there(log_p), offsets, proportions)


@each_size
def test_labels_and_posteriors_are_those_of_the_cpu(sizes):
    log_p, offsets, proportions = problem(sizes)
    counts = largest_remainder(proportions, offsets.diff())
    functions = {
        "relabel hard": lambda p, z: relabel(p, offsets, z, kind="hard"),
        "relabel soft": lambda p, z: relabel(p, offsets, z, kind="soft", iterations=50),
        "rounded": lambda p, z: round_to_labels(p, offsets, counts),
        "remainder": lambda p, z: largest_remainder(z, offsets.diff()),
        "E-step": lambda p, z: torch.cat([x.flatten() for x in posterior(p, offsets, counts)]),
        "binary E-step": lambda p, z: torch.cat(
            [x.flatten() for x in posterior(p[:, :2].log_softmax(1), offsets, binary(counts))]
        ),
        "segments": lambda p, z: torch.cat(
            [segment_sum(p, offsets), segment_mean(p, offsets), segment_softmax(p, offsets)[0]]
        ),
    }
    for name, function in functions.items():
        on_host, on_device = function(log_p, proportions), function(there(log_p), there(proportions))
        assert on_device.device.type == NAME and torch.equal(on_host, here(on_device)), name


def binary(counts):
    """Counts of one class and of all others."""
    return torch.stack([counts[:, 0], counts[:, 1:].sum(1)], 1)


@pytest.mark.parametrize("confidence", ece_loss.CONFIDENCES)
@pytest.mark.parametrize("name", criteria.LOSSES)
def test_a_criterion_of_sparse_labels_is_that_of_the_cpu(name, confidence):
    torch.manual_seed(0)
    target = torch.randint(0, 2, (2, 4, 4))
    made = criteria.Criterion(name, ece_loss.Annealing("fixed", 0.4, sampling=True), confidence)

    def maps(logits):
        torch.manual_seed(1)  # the background is sampled
        return made(logits, target.to(logits.device), 0.5)

    def anchors(logits):
        torch.manual_seed(1)
        return made(logits, target.to(logits), 0.5)

    same(*on_both(maps, torch.randn(2, 2, 4, 4)))
    same(*on_both(anchors, torch.randn(2, 4, 4)))


def test_the_loss_of_ultralytics_is_that_of_the_cpu():
    torch.manual_seed(0)
    network = Network("yollo_stand_in", 8, AnchorTerms(criteria.Criterion("ece")))
    state, image = network.state_dict(), torch.rand(2, 3, 32, 32)
    bags = {
        "batch_idx": torch.tensor([0.0, 0, 1]),
        "cls": torch.zeros(3),
        "bboxes": torch.tensor([[0.3, 0.3, 0.3, 0.3], [0.7, 0.6, 0.2, 0.3], [0.5, 0.5, 0.4, 0.3]]),
    }
    found = []
    for device in ("cpu", NAME):
        network = Network("yollo_stand_in", 8, AnchorTerms(criteria.Criterion("ece")))
        network.load_state_dict(state)
        network = network.to(device).train()
        loss, _ = network.loss({"img": image.to(device), **bags})
        loss.sum().backward()
        found.append([here(loss), *(here(parameter.grad) for parameter in network.parameters())])
    same(*found)


# Methods


def batch(device):
    """Two bags of three points, or images."""
    torch.manual_seed(3)
    proportions = torch.tensor([[1.0, 2, 0], [0, 1, 2]]) / 3
    return Batch(torch.randn(6, 3, 8, 8).to(device), torch.tensor([0, 3, 6]), proportions.to(device))


def flat(device):
    images = batch(device)
    return Batch(images.x.flatten(1), images.offsets, images.proportions)


def adam(module):
    return torch.optim.Adam(module.parameters(), 1e-2, fused=True)


def resnet(autocast, device):
    network = ResNet18(CLASSES, 4).to(device, memory_format=torch.channels_last)
    sgd = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    return LossMethod(network, sgd, kl_loss, autocast), batch


def llp_vat(autocast, device):
    network = MLP(192, 4, CLASSES).to(device)
    return LLPVAT(network, adam(network), 2, weight=1.0, xi=1e-2, floor=1e-8, autocast=autocast), flat


def llp_gan(autocast, device):
    network, generator = MLP(192, 4, CLASSES).to(device), FeatureGenerator(2, 4, 192).to(device)
    return LLPGAN(network, generator, adam(network), adam(generator), autocast=autocast), flat


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("make", [resnet, llp_vat, llp_gan])
def test_a_method_steps_and_predicts_as_on_the_cpu_in_either_precision(make, autocast, monkeypatch):
    """With it LLP-VAT's passes for the direction and the divergence, LLP-GAN's four, dropout, and their state."""
    # torch would keep weights in half precision from pass to pass, and add their gradients so; the device does not.
    monkeypatch.setattr(torch, "is_autocast_cache_enabled", lambda: False)
    found = []
    for device in ("cpu", NAME):
        torch.manual_seed(0)
        method, give = make(autocast, device)
        scalars = [method.update(give(device)) for _ in range(2)]
        again, _ = make(autocast, device)
        again.load_state_dict(method.state_dict())
        scalars.append(again.update(give(device)))
        assert {value.device.type for values in scalars for value in values.values()} == {device}
        found.append(
            [*(here(value) for values in scalars for value in values.values()), here(again.predict(give(device).x))]
        )
    same(*found)


def test_the_worst_step_and_mixup_are_those_of_the_cpu():
    network, found = MLP(192, 4, CLASSES), []
    for device in ("cpu", NAME):
        torch.manual_seed(0)
        given, there_too = flat(device), network.to(device)
        log_p = there_too(given.x).log_softmax(1).detach()
        for concentration, share in ((0.5, True), (0.5, False)):
            mixed = mixup(given.x, given.proportions, concentration, share_weight=share)
            found.append([here(value) for value in (*mixed, perturbation(there_too, given.x, log_p, iterations=2))])
    same(found[0] + found[1], found[2] + found[3])


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory):
    """Give the root with a paper's toy data, made when it is first asked for."""
    made = {}

    def of(paper):
        if paper not in made:
            made[paper] = tmp_path_factory.mktemp(f"data_of_{paper}")
            with pytest.MonkeyPatch.context() as patch:
                toys.use(made[paper], patch)
                importlib.import_module(f"tests.contract.paper_tier.{paper}").data(made[paper])
        return made[paper]

    return of


@pytest.mark.parametrize("name", METHODS)
def test_a_step_waits_for_the_device_no_more_than_is_known(name, toy_data, monkeypatch):
    """A number read in every step, or a tensor sent and waited for, would let a GPU idle."""
    toys.use(toy_data(METHODS[name][0]), monkeypatch)
    steps = waits(name)
    assert steps
    most = [max(total(step, kind) for step in steps) for kind in ("read", "upload")]
    lines = sorted({place for step in steps for place in step if place[0] != "sent"})
    assert all(found <= known for found, known in zip(most, WAITS[name], strict=True)), (most, lines)


def test_every_public_solver_is_among_these():
    public = {name for name in transport.__all__ if "check" in inspect.signature(getattr(transport, name)).parameters}
    assert public == {getattr(solve, "func", solve).__name__ for solve in SOLVERS.values()}
