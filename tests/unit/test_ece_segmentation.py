"""The segmentation network, its training on crops, weak supervision, early-learning regularisation, and a whole run."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from papers.ece import task_segmentation as segmenting
from papers.ece.criteria import Criterion
from papers.ece.data import Material
from papers.ece.segmentation.method import Segmenter, predict_map
from papers.ece.task_segmentation import segment
from shared.config import plan
from shared.datasets.localised.localised import of_labels
from shared.methods import Batch
from shared.training import seed_torch

CPU = torch.device("cpu")
SPEC = plan("ece", "paper")[1].spec.but(
    dataset="made",
    task="segmentation",
    loss="ce",
    fraction=1.0,
    seed=0,
    target="",
    crop=16,
    batch=2,
    steps=40,
    learning_rate=0.01,
    lr_schedule="constant",
    head="logit",
    encoder="plain",
    encoder_depth=2,
    width=4,
)
WEAK = SPEC.but(loss="weak", tau=0.6, rounds=2)


@pytest.fixture(scope="module")
def unet():
    from papers.ece.segmentation.network import unet

    return unet


def tissue(n=6, side=(24, 30), seed=0):
    """Dark squares on bright ground; every second object is annotated."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for _ in range(n):
        label = np.zeros(side, np.int32)
        for number, (row, column) in enumerate([(2, 3), (3, 18), (14, 5), (15, 20)], 1):
            label[row : row + 6, column : column + 6] = number
        images.append((200 - 120 * (label > 0)[..., None] + rng.integers(0, 40, (*side, 3))).astype(np.uint8))
        labels.append(label)
    data = of_labels("made", [f"image{i}" for i in range(n)], images, labels)
    splits = np.array([0] * (n - 2) + [1, 2])
    annotated = np.isin(data.numbers, (1, 4)) & (np.repeat(splits, 4) == 0)
    return Material(data, splits, np.ones(len(data.numbers), bool), annotated)


def segmenter(criterion=None, elr=None, steps=10, material=None):
    material = material or tissue()
    seed_torch(0, CPU)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    images = [material.data.images[i] for i in material.numbers(0)]
    masks = [material.data.masks(i, material.annotated) for i in material.numbers(0)]
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    return Segmenter(network, optimiser, criterion or Criterion("ce"), images, masks, 16, steps, elr)


def batch(*numbers):
    return Batch(torch.tensor(numbers)[:, None].float(), torch.arange(len(numbers) + 1), torch.ones(len(numbers), 1))


# ------------------------------------------------------------------------------------------------------------ network


def test_the_plain_network_is_the_classical_one(unet):
    """32 to 512 channels over four poolings, a skip connection at every resolution, the full one included."""
    network = unet("plain", 4, 32)
    maps = network.encoder(torch.zeros(1, 3, 32, 48))
    assert [tuple(m.shape[1:]) for m in maps[1:]] == [(32 * 2**k, 32 // 2**k, 48 // 2**k) for k in range(5)]
    joined = [block.conv1[0].in_channels for block in network.decoder.blocks]
    assert joined == [512 + 256, 256 + 128, 128 + 64, 64 + 32]
    assert network(torch.zeros(2, 3, 32, 48)).shape == (2, 2, 32, 48)


def test_every_weight_learns_and_a_batch_may_be_one_crop(unet):
    network = unet("plain", 3, 4)
    network(torch.randn(1, 3, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_another_encoder_by_name_and_an_unknown_one(unet):
    assert unet("resnet18", 3, 4)(torch.zeros(2, 3, 32, 32)).shape == (2, 2, 32, 32)
    with pytest.raises(ValueError, match="'vit' is neither 'plain' nor one of"):
        unet("vit", 3, 4)


# ----------------------------------------------------------------------------------------------------------- training


class Constant(nn.Module):
    """Says the same of every pixel; its gradient is that of the loss."""

    def __init__(self):
        super().__init__()
        self.outputs = nn.Parameter(torch.tensor([0.2, 0.9]))

    def forward(self, x):
        self.x = x
        return self.outputs.view(1, 2, 1, 1).expand(len(x), 2, *x.shape[2:])


class Spy(Criterion):
    def __call__(self, logits, target, t, annotated=None):
        self.target, self.t = target, t
        return super().__call__(logits, target, t, annotated)


def constant(criterion, elr=None, material=None):
    method = segmenter(criterion, elr, material=material)
    method.network = Constant()
    method.optimiser = torch.optim.SGD(method.network.parameters(), 0.0)
    return method


def test_crops_come_with_the_masks_of_their_place():
    """Annotated squares are dark: were only one of the two turned over, bright pixels would be annotated."""
    method = constant(Spy("ce"))
    for step in range(8):
        method.update(batch(0, 1, 2))
        x, target = method.network.x, method.criterion.target
        assert x.shape == (3, 3, 16, 16) and target.shape == (3, 16, 16)
        assert x.min() >= -1 and x.max() <= 1 and (x.mean(1)[target > 0] < 0).all()
        assert method.criterion.t == step / 10


def test_the_loss_is_the_mean_over_all_pixels_kept_or_not():
    method = constant(Spy("constant", weight=0.0))
    loss = method.update(batch(0, 1))["loss"]
    share = (method.criterion.target > 0).float().mean()
    assert float(loss) == pytest.approx(float(-share * torch.tensor([0.2, 0.9]).log_softmax(0)[1]), rel=1e-5)


def test_flat_images_are_no_division_by_zero():
    material = tissue()
    flat = [np.full((24, 30, 3), 7, np.uint8)]
    method = segmenter(material=material)
    assert np.isfinite(predict_map(method, flat, 4)[0]).all()


def test_maps_of_whole_images_do_not_depend_on_the_border_added():
    """30 x 24 pixels are mirrored up to a multiple of 16 and cut back; the inside is as without."""
    method = segmenter()
    images = [tissue().data.images[0]]
    (padded,), (plain,) = predict_map(method, images, 16), predict_map(method, images, 2)
    assert padded.shape == plain.shape == (24, 30) and padded.dtype == np.float32
    np.testing.assert_allclose(padded[:-1, :-1], plain[:-1, :-1], atol=1e-6)
    assert (padded >= 0).all() and (padded <= 1).all()


def test_early_learning_regularisation_by_hand():
    """Of a constant prediction p, after k steps m = (1 - beta^k) p; the loss is the terms + lambda log(1 - <p, m>)."""
    method = constant(Spy("elr"), (0.7, 3.0), tissue(side=(21, 26)))
    method.crop = 21  # all rows; columns by chance
    p = method.network.outputs.detach().softmax(0)
    seen = torch.zeros(21, 26)
    for _ in range(6):
        before = method.memory[0].clone()
        loss = method.update(batch(0))["loss"]
        touched = (method.memory[0] != before)[0].float()
        assert touched.sum() == 21 * 21
        seen += touched
        power = 1 - 0.7 ** seen[touched > 0]
        torch.testing.assert_close(method.memory[0][1][touched > 0], power * p[1])
        share = (method.criterion.target > 0).float().mean()
        terms = -share * p[1].log() - (1 - share) * p[0].log()
        assert float(loss) == pytest.approx(float(terms + 3 * (1 - power * p.square().sum()).log().mean()), rel=1e-4)
    assert all((mean == 0).all() for mean in method.memory[1:])


def test_early_learning_regularisation_has_a_gradient_towards_the_past():
    """The memory is no constant of the network alone: what was predicted before is predicted again."""
    method = constant(Criterion("elr"), (0.7, 3.0))
    method.memory[0][1] = 0.9
    method.update(batch(0))
    with_memory = method.network.outputs.grad[1].clone()
    plain = constant(Criterion("ce"))
    plain.update(batch(0))
    assert with_memory < plain.network.outputs.grad[1]


def test_a_run_goes_on_as_if_it_had_not_stopped():
    """State: network, optimiser, time, and the memory of early-learning regularisation."""
    whole, first = segmenter(elr=(0.7, 3.0)), segmenter(elr=(0.7, 3.0))
    for step in range(4):
        seed_torch(step, CPU)
        whole.update(batch(0, 1))
    for step in range(2):
        seed_torch(step, CPU)
        first.update(batch(0, 1))
    second = segmenter(elr=(0.7, 3.0))
    second.load_state_dict(first.state_dict())
    for step in range(2, 4):
        seed_torch(step, CPU)
        second.update(batch(0, 1))
    for ours, theirs in zip(second.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(a, b) for a, b in zip(second.memory, whole.memory, strict=True)) and second.step == 4


# --------------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture
def made(monkeypatch):
    material = tissue()
    monkeypatch.setattr(segmenting, "material_of", lambda spec: material)
    return material


def test_a_run_reports_what_tables_need(made):
    """Bright ground and dark squares are learned; trivial predictors have the DICE that areas give."""
    result = segment(SPEC.but(loss="constant", weight=0.2, seed=1, fraction=0.3, shown=5), CPU, {})
    last = result.metrics["last"]
    names = {"dice", "dice_batch", "dice_tuned", "threshold", "positive_share", "true_share", "dice_everything"}
    assert set(last) == names | {"dice_batches", "dice_nothing", "kept"} and result.cost["train_s"] > 0
    share = 4 * 36 / (24 * 30)
    assert last["true_share"] == pytest.approx(share) and last["dice_nothing"] == 0 and last["kept"] == 1
    assert last["dice_everything"] == pytest.approx(2 * share / (1 + share))
    assert result.metrics["oracle"]["dice"] >= last["dice_tuned"] > 0.8
    shown = result.curves["shown"]
    assert np.shape(shown["image"]) == (5, 5, 3) and shown["true"][3][4] == 100
    assert np.shape(shown["found"]) == (5, 5) and 0 <= np.min(shown["found"]) and np.max(shown["found"]) <= 100
    assert len(result.curves["epoch"]) == len(result.curves["train_kept"]) == 20
    assert result.data == {"made": made.data.sha256()}


def test_no_object_without_annotation_reaches_training(made, monkeypatch):
    """With other labels of the training images' unannotated objects the network is the same."""
    before = segment(SPEC.but(steps=6), CPU, {})
    changed = [np.where(np.isin(label, (2, 3)) & (i < 4), 0, label) for i, label in enumerate(made.data.labels)]
    data = of_labels("made", made.data.names, made.data.images, changed)
    image = np.repeat(np.arange(6), np.diff(data.offsets))
    material = Material(data, made.splits, np.ones(len(image), bool), np.isin(data.numbers, (1, 4)) & (image < 4))
    monkeypatch.setattr(segmenting, "material_of", lambda spec: material)
    after = segment(SPEC.but(steps=6), CPU, {})
    assert before.curves == after.curves
    assert before.metrics["last"]["dice"] == after.metrics["last"]["dice"]


def test_each_round_of_weak_supervision_adds_what_is_predicted(made, monkeypatch):
    """Rounds start from scratch on masks that only grow; no round, no growth."""
    given = []
    fit_network = segmenting.fit_network

    def spy(spec, material, masks, *rest):
        given.append([mask.copy() for mask in masks])
        return fit_network(spec, material, masks, *rest)

    monkeypatch.setattr(segmenting, "fit_network", spy)
    segment(WEAK.but(tau=0.3), CPU, {})
    areas = [sum(mask.sum() for mask in masks) for masks in given]
    assert len(given) == 3 and areas[0] == 2 * 36 * 4 and areas[0] < areas[1]
    for earlier, later in pairwise(given):
        assert all((old <= new).all() for old, new in zip(earlier, later, strict=True))


def test_weak_supervision_goes_on_where_the_deadline_stopped_it(made, tmp_path, monkeypatch):
    spec = WEAK.but(steps=12)
    whole = segment(spec, CPU, {})
    session = {"key": "k", "checkpoint": tmp_path / "run.pt", "checkpoint_every": 0.0}
    done, fit_network = [], segmenting.fit_network

    def stopping(spec, material, masks, number, device, session):
        if done.count(number) == 0:  # the first attempt at every round ends half-way
            done.append(number)
            update, steps = Segmenter.update, []

            def late(method, batch):
                steps.append(1)
                if len(steps) > 5:
                    raise KeyboardInterrupt
                return update(method, batch)

            monkeypatch.setattr(Segmenter, "update", late)
            try:
                return fit_network(spec, material, masks, number, device, session)
            except KeyboardInterrupt:
                return None
            finally:
                monkeypatch.setattr(Segmenter, "update", update)
        done.append(number)
        return fit_network(spec, material, masks, number, device, session)

    monkeypatch.setattr(segmenting, "fit_network", stopping)
    results = [segment(spec, CPU, session) for _ in range(4)]
    assert results[:3] == [None] * 3 and done == [0, 0, 1, 1, 2, 2]
    assert results[3].metrics["last"] == whole.metrics["last"]
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]  # which the caller removes


def test_a_deadline_that_has_passed_leaves_nothing(made):
    assert segment(SPEC, CPU, {"deadline": 0.0}) is None


def test_a_tau_that_the_squashed_head_never_reaches_is_refused(made):
    with pytest.raises(ValueError, match=r"tau 0.75 is never exceeded: p ends at 0.731"):
        segment(WEAK.but(tau=0.75, head="sigmoid"), CPU, {})


def test_a_diverged_run_is_refused(made):
    with pytest.raises(FloatingPointError, match="training diverged"):
        segment(SPEC.but(learning_rate=1e30), CPU, {})


@pytest.mark.parametrize("loss", ["ece", "elr"])
def test_the_other_losses_run(made, loss):
    options = {"schedule": "code", "rho": 0.5, "beta": 1, "sampling": True, "nominal_epochs": 300}
    options |= {"confidence": "margin", "focal": True, "alpha": 0.2, "gamma": 0.1}
    options = options if loss == "ece" else {"elr_beta": 0.7, "elr_lambda": 3}
    last = segment(SPEC.but(**options, loss=loss, head="sigmoid"), CPU, {}).metrics["last"]
    assert 0 <= last["dice"] <= 1 and (last["kept"] < 0.6 if loss == "ece" else last["kept"] == 1)
