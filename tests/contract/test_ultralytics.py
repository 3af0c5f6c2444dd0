"""What papers/ece/detection relies on in ultralytics: a release that changes it fails here, not in the numbers."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from papers.ece.criteria import Criterion
from papers.ece.detection.criterion import AnchorTerms
from papers.ece.detection.library import DetectionModel, non_max_suppression, v8DetectionLoss
from papers.ece.detection.network import MOMENTUM, PRIOR, Network, yollo_stand_in

ROOT = Path(__file__).parents[2]
QUIET = """
import os, pathlib, socket, sys, warnings
import numpy as np, PIL.Image, torch
import papers.ece.criteria, papers.ece.metrics, papers.ece.windows
asked = []
socket.getaddrinfo = lambda *args, **more: asked.append(args)
socket.socket.connect = lambda *args: asked.append(args)
state = lambda: (dict(os.environ), np.get_printoptions(), repr(torch.rand(3, 90, generator=torch.manual_seed(0))),
                 torch.save, PIL.Image.open, list(warnings.filters), torch.get_num_threads())
before = state()
from papers.ece.detection.network import Network
from papers.ece.detection.criterion import AnchorTerms
Network("yollo_stand_in", 8, AnchorTerms(papers.ece.criteria.Criterion("ce")))
assert "ultralytics" in sys.modules
assert "torchvision" in sys.modules, "equal scores would have another order than after a segmentation"
assert state() == before, "the import has left traces"
assert not asked, asked
"""


def batch_of(counts, side=64, seed=0):
    """What `DetectionModel.loss` takes: one image for each number of boxes."""
    rng = torch.Generator().manual_seed(seed)
    n = sum(counts)
    centres = torch.rand(n, 2, generator=rng) * 0.6 + 0.2
    sizes = torch.rand(n, 2, generator=rng) * 0.1 + 0.15
    return {
        "img": torch.rand(len(counts), 3, side, side, generator=rng),
        "batch_idx": torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).float(),
        "cls": torch.zeros(n),
        "bboxes": torch.cat([centres, sizes], 1),
    }


def network_of(terms, seed=0):
    torch.manual_seed(seed)
    return Network("yollo_stand_in", 8, terms)


class Spy(nn.Module):
    """Binary cross-entropy that remembers what it was asked."""

    def forward(self, scores, targets):
        self.scores, self.targets = scores, targets
        self.terms = nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        return self.terms


def test_with_plain_cross_entropy_the_loss_and_its_gradients_are_ultralytics_own():
    batch = batch_of([3, 0, 5])
    ours, theirs = network_of(AnchorTerms(Criterion("ce"))), network_of(nn.Identity())
    theirs.criterion = v8DetectionLoss(theirs)
    assert isinstance(theirs.criterion.bce, nn.BCEWithLogitsLoss)
    losses = []
    for network in (ours, theirs):
        loss, _ = network.loss(batch)
        loss.sum().backward()
        losses.append(loss.detach())
    assert losses[0].gt(0).all()
    assert torch.equal(*losses)
    named = dict(theirs.named_parameters())
    assert all(torch.equal(p.grad, named[name].grad) for name, p in ours.named_parameters())


def test_the_loss_asks_bce_once_for_unreduced_terms_of_all_anchors_and_sums_them_itself():
    spy = Spy()
    network = network_of(spy)
    loss, items = network.loss(batch_of([3, 5]))
    assert isinstance(network.criterion, v8DetectionLoss)
    assert spy.scores.shape == spy.targets.shape == (2, (64 // 4) ** 2, 1)
    assert spy.scores.requires_grad
    assert not spy.targets.requires_grad
    # Boxes, classes, distances: each times its gain and the number of images.
    assert list(items) == ["box_loss", "cls_loss", "l1_loss"]
    classes = (spy.terms.sum() / spy.targets.sum().clamp(min=1)).item()
    assert loss[1].item() == pytest.approx(2 * 0.5 * classes)


def test_only_anchors_in_a_box_have_targets_and_these_are_at_most_one():
    spy = Spy()
    batch = batch_of([1, 0])
    network_of(spy).loss(batch)
    assert spy.targets[1].eq(0).all()
    assert 0 < spy.targets[0].max() <= 1
    x, y, width, height = (64 * batch["bboxes"][0]).tolist()
    middles = torch.arange(16) * 4 + 2.0
    rows, columns = torch.meshgrid(middles, middles, indexing="ij")
    inside = ((rows - y).abs() < height / 2) & ((columns - x).abs() < width / 2)
    assert not (spy.targets[0, :, 0] > 0)[~inside.flatten()].any()
    assert 1 <= spy.targets[0].gt(0).sum() <= 10


def test_the_model_is_built_of_our_rows_and_starts_from_our_prior():
    theirs = DetectionModel(yollo_stand_in(8), ch=3, verbose=False)
    ours = network_of(nn.Identity())
    assert ours.stride.tolist() == [4.0]
    biases = [float(network.model[-1].cv3[0][-1].bias.detach()) for network in (theirs, ours)]
    assert biases == pytest.approx([math.log(5 / 160**2), math.log(PRIOR / (1 - PRIOR))])
    momenta = [{m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} for model in (theirs, ours)]
    assert momenta == [{0.03}, {MOMENTUM}]
    assert [getattr(ours.args, name) for name in ("box", "cls", "dfl")] == [7.5, 0.5, 1.5]


def test_predictions_are_x_y_width_height_p_in_pixels():
    network = network_of(nn.Identity()).eval()
    with torch.no_grad():
        head = network.model[-1]
        head.cv2[0][-1].weight.zero_()
        head.cv2[0][-1].bias.copy_(torch.tensor([0.5, 1.0, 1.5, 2.0]))  # left, top, right, bottom in strides
        predicted = network(torch.zeros(1, 3, 16, 32))[0]
    assert predicted.shape == (1, 5, 4 * 8)
    x, y, width, height, p = predicted[0, :, 8 + 3]  # second row, fourth column: its middle is (6, 14)
    assert [v.item() for v in (x, y, width, height)] == pytest.approx([14 + 2, 6 + 2, 8, 12])
    assert 0 < p < 1


def test_non_maximum_suppression_is_greedy_by_score_and_returns_corners_and_score():
    rng = torch.Generator().manual_seed(1)
    boxes = torch.cat([torch.rand(200, 2, generator=rng) * 60, torch.rand(200, 2, generator=rng) * 10 + 8], 1)
    scores = torch.rand(200, generator=rng)
    (found,) = non_max_suppression(torch.cat([boxes.T, scores[None]])[None], 0.2, 0.5, max_det=1000)
    left, right = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    corners, kept = torch.cat([left, right], 1).tolist(), []
    for i in scores.argsort(descending=True).tolist():
        if scores[i] > 0.2 and all(iou(corners[i], corners[j]) <= 0.5 for j in kept):
            kept.append(i)
    assert 20 < len(kept) < 160
    assert torch.allclose(found[:, :4], torch.tensor([corners[i] for i in kept]), atol=1e-4)
    assert torch.equal(found[:, 4], scores[kept])


def iou(a, b):
    shared = math.prod(max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [math.prod(box[i + 2] - box[i] for i in (0, 1)) for box in (a, b)]
    return shared / (sum(areas) - shared)


def test_importing_it_writes_nothing_says_nothing_and_asks_no_network(tmp_path):
    home = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)}
    for name in ("HOME", "TMPDIR"):
        Path(home[name]).mkdir()
    done = subprocess.run([sys.executable, "-c", QUIET], cwd=tmp_path, env=home, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
