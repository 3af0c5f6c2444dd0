"""The detector: what its loss drops, what it learns from and finds, weak supervision, and a whole run."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from papers.ece import task_detection as detecting
from papers.ece.criteria import Criterion
from papers.ece.data import Material
from papers.ece.detection.criterion import AnchorTerms
from papers.ece.detection.method import FLOOR, Detector, boxes_of
from papers.ece.detection.network import Network
from papers.ece.loss import Annealing
from papers.ece.metrics import Found, scores
from papers.ece.task_detection import corner, detect, with_pseudo_boxes
from shared.config import plan
from shared.datasets import DatasetError
from shared.datasets.localised.localised import of_labels
from shared.methods import Batch
from shared.training import seed_torch

CPU = torch.device("cpu")
PLACES = [(3, 4), (5, 24), (22, 8), (24, 28), (12, 14)]
SPEC = plan("ece", "paper")[1].spec.but(
    dataset="made",
    task="detection",
    fraction=1.0,
    seed=0,
    target="dark",
    loss="ce",
    crop=32,
    batch=3,
    steps=8,
    learning_rate=0.01,
    lr_schedule="cosine",
    match_radius=4.0,
    detector="yollo_stand_in",
    detector_width=8,
)
WEAK = SPEC.but(loss="weak", tau=0.02, rounds=2)
ECE = SPEC.but(
    loss="ece",
    schedule="code",
    rho=0.5,
    beta=1,
    sampling=True,
    nominal_epochs=300,
    confidence="margin",
    focal=True,
    alpha=0.2,
    gamma=0.1,
)


def tissue(n=9, side=(43, 46), annotated=(1, 4, 5)):
    """Dark squares of 10 pixels on bright ground, and a pale one of another class."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for _ in range(n):
        label = np.zeros(side, np.int32)
        for number, (row, column) in enumerate(PLACES, 1):
            label[row : row + 10, column : column + 10] = number
        level = 200 - 130 * np.isin(label, (1, 2, 3, 4)) - 50 * (label == 5)
        images.append((level[..., None] + rng.integers(0, 40, (*side, 3))).astype(np.uint8))
        labels.append(label)
    classes = [np.array([0, 0, 0, 0, 1])] * n
    names = [f"image{i}" for i in range(n)]
    data = of_labels("made", names, images, labels, classes=classes, class_names=("dark", "pale"))
    splits = np.array([0] * (n - 3) + [1, 2, 2])
    target = data.classes == 0
    seen = np.isin(data.numbers, annotated) & target & (np.repeat(splits, 5) == 0)
    return Material(data, splits, target, seen)


def network_of(criterion=None, seed=0):
    seed_torch(seed, CPU)
    return Network("yollo_stand_in", 8, AnchorTerms(criterion or Criterion("ce")))


def detector_of(material=None, criterion=None, boxes=None, steps=10, side=32, rate=0.01):
    material = material or tissue()
    train = material.numbers(0)
    given = boxes_of(material.data, material.annotated)
    boxes = [given[i] for i in train] if boxes is None else boxes
    return Detector(network_of(criterion), rate, [material.data.images[i] for i in train], boxes, side, steps)


def batch(*numbers):
    return Batch(torch.tensor(numbers)[:, None].float(), torch.arange(len(numbers) + 1), torch.ones(len(numbers), 1))


@pytest.fixture
def made(monkeypatch):
    material = tissue()
    monkeypatch.setattr(detecting, "material_of", lambda spec: material)
    return material


# ---------------------------------------------------------------------------------------------------------------- loss


def test_a_confident_anchor_without_an_object_has_no_gradient():
    """Equation 7: above the threshold an unassigned anchor is dropped, an assigned one never."""
    terms = AnchorTerms(Criterion("ece", Annealing("fixed", 0.75), focal_weight=(0.2, 0.1)))
    p = torch.tensor([0.9, 0.6, 0.9, 0.1]).view(1, 4, 1)
    logits = p.logit().requires_grad_()
    terms(logits, torch.tensor([0.0, 0.0, 0.8, 0.0]).view(1, 4, 1)).sum().backward()
    assert (logits.grad.flatten() != 0).tolist() == [False, True, True, True]
    assert terms.kept.item() == pytest.approx(2 / 3)


def test_the_criterion_s_time_is_the_share_of_steps_done():
    """The linear schedule drops every unannotated term at t = 0 and fewer and fewer after."""
    detector = detector_of(criterion=Criterion("ece", Annealing("linear", 0.75)), steps=4)
    kept, times = [], []
    for _ in range(4):
        kept.append(float(detector.update(batch(0, 1))["kept"]))
        times.append(detector.network.terms.t)
    assert times == [0, 0.25, 0.5, 0.75]
    assert kept[0] == 0 < kept[1] <= kept[3]


def test_an_object_nobody_marked_costs_less_under_a_small_weight():
    detectors = [detector_of(criterion=Criterion(loss, weight=0.1)) for loss in ("ce", "constant")]
    losses = []
    for detector in detectors:
        seed_torch(1, CPU)
        losses.append(float(detector.update(batch(0, 1))["loss"]))
    assert losses[1] < losses[0]


def test_unknown_detectors_and_widths_are_refused_by_name():
    with pytest.raises(ValueError, match="detector 'yollo' is not one of yollo_stand_in"):
        Network("yollo", 8, nn.Identity())
    with pytest.raises(ValueError, match="multiple of 8, to which ultralytics rounds; 12 is none"):
        Network("yollo_stand_in", 12, nn.Identity())


# --------------------------------------------------------------------------------------------------------------- boxes


@pytest.mark.parametrize("box", [(3, 4, 44, 14), (-1, 4, 13, 14), (3, 40, 13, 47), (13, 4, 13, 14)])
def test_boxes_outside_the_image_or_empty_are_refused_by_image_and_object(box):
    material = tissue()
    material.data.boxes[7] = box
    with pytest.raises(DatasetError, match=r"made: object 3 of image image1 has the box .* 43 x 46 pixels"):
        boxes_of(material.data, material.target)
    material.target[7] = False
    assert [len(some) for some in boxes_of(material.data, material.target)] == [4, 3] + [4] * 7


def test_without_any_annotated_object_there_is_no_detector():
    with pytest.raises(ValueError, match="no object is annotated in any of 6 images"):
        detector_of(boxes=[np.zeros((0, 4), np.float32)] * 6)


def test_crops_that_the_network_cannot_take_are_refused():
    with pytest.raises(ValueError, match="crops of 30 pixels are no multiple of the network's stride of 8"):
        detector_of(side=30)


def test_boxes_follow_their_objects_into_turned_crops(monkeypatch):
    """Whatever the window, the boxes given to the loss frame the dark squares of the crop they come with."""
    detector = detector_of(tissue(annotated=(1, 2, 3, 4)))
    given = []
    monkeypatch.setattr(
        detector.network, "loss", lambda b: (given.append(b), (detector.network(b["img"])["scores"], 0))[1]
    )
    for _ in range(6):
        detector.update(batch(0, 3))
    for b in given:
        for n, image in enumerate(b["img"]):
            dark, covered = image.mean(0) < -0.35, torch.zeros(32, 32, dtype=torch.bool)
            for x, y, width, height in (32 * b["bboxes"][b["batch_idx"] == n]).tolist():
                top, left = round(y - height / 2), round(x - width / 2)
                covered[top : top + round(height), left : left + round(width)] = True
            assert covered.any() and not (covered & ~dark).any()
            # Squares with their middle outside the crop have no box, at most half of one each.
            assert (dark & ~covered).sum() <= 4 * 50


def test_crops_without_objects_and_batches_of_one_are_learned_from():
    nobody, someone = np.zeros((0, 4), np.float32), np.array([[3, 4, 13, 14]], np.float32)
    detector = detector_of(boxes=[nobody, *[someone] * 5])
    assert all(torch.isfinite(detector.update(batch(0))["loss"]) for _ in range(3))
    assert all(torch.isfinite(p).all() for p in detector.network.parameters())


# ------------------------------------------------------------------------------------------------------------- finding


@pytest.fixture(scope="module")
def trained():
    """A detector that has seen every dark square annotated, for 60 steps."""
    detector = detector_of(tissue(annotated=(1, 2, 3, 4)), steps=60)
    for step in range(60):
        seed_torch(step, CPU)
        detector.set_learning_rate(0.01 * (1 - step / 60))
        detector.update(batch(*np.random.default_rng(step).integers(0, 6, 4)))
    return detector


def test_it_finds_the_objects_of_whole_images_of_any_size(trained):
    material = tissue()
    numbers = material.numbers(2)
    found = trained.found([material.data.images[i] for i in numbers])
    assert scores(found.above(0.3), material.data, numbers, material.target, radius=3)["f1"] > 0.9
    assert scores(found.above(0.3), material.data, numbers, material.target, iou=0.5)["f1"] > 0.9


def test_detections_lie_in_their_image_and_none_is_below_the_floor(trained):
    material = tissue()
    images = [material.data.images[0][:29, :37], material.data.images[1]]
    found = trained.found(images)
    assert found.offsets[0] == 0 and found.offsets[-1] == len(found.scores) and (np.diff(found.offsets) > 0).all()
    assert (found.scores >= FLOOR).all() and (found.scores <= 1).all()
    for i, image in enumerate(images):
        rows = slice(*found.offsets[i : i + 2])
        boxes, centres = found.boxes[rows], found.centres[rows]
        assert (np.diff(found.scores[rows]) <= 0).all()
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= image.shape[:2]).all()
        assert (boxes[:, :2] <= boxes[:, 2:]).all()
        assert (centres >= 0).all() and (centres < image.shape[:2]).all()
    again = [trained.found([image]) for image in images]
    assert np.array_equal(found.scores, np.concatenate([one.scores for one in again]))


def test_no_image_has_no_detection(trained):
    found = trained.found([])
    assert found.offsets.tolist() == [0] and found.boxes.shape == (0, 4)


# ---------------------------------------------------------------------------------------------------- weak supervision


def test_pseudo_boxes_are_sure_and_no_known_object():
    known = [np.array([[0, 0, 10, 10]], np.float32), np.zeros((0, 4), np.float32)]
    boxes = np.array([[1, 0, 11, 10], [4, 0, 14, 10], [20, 20, 30, 30], [5, 5, 9, 9]], np.float32)
    offsets, p = np.array([0, 3, 4]), np.array([0.9, 0.8, 0.5, 0.6], np.float32)
    grown = with_pseudo_boxes(known, Found(offsets, boxes[:, :2] + 5, boxes, p), tau=0.5)
    assert grown[0].tolist() == [[0, 0, 10, 10], [4, 0, 14, 10]]  # IoU 9/11 is the same object, 6/14 another
    assert grown[1].tolist() == [[5, 5, 9, 9]]


def test_each_round_learns_from_scratch_and_from_more_boxes(made, monkeypatch):
    given, fit_detector = [], detecting.fit_detector

    def spy(spec, images, boxes, *rest):
        given.append(boxes)
        return fit_detector(spec, images, boxes, *rest)

    monkeypatch.setattr(detecting, "fit_detector", spy)
    result = detect(WEAK, CPU, {})
    numbers = [sum(map(len, boxes)) for boxes in given]
    assert len(given) == 3 and numbers[0] == 2 * 6 and numbers[0] < numbers[1]
    for earlier, later in pairwise(given):
        assert all(np.array_equal(old, new[: len(old)]) for old, new in zip(earlier, later, strict=True))
    assert result.metrics["last"]["pseudo_labels"] == numbers[2] / numbers[0] - 1


# ----------------------------------------------------------------------------------------------------------- whole run


def test_a_run_reports_every_metric_and_only_what_was_annotated_is_learned(made, monkeypatch):
    spec = SPEC.but(seed=1, fraction=0.3, shown=30)
    result = detect(spec, CPU, {})
    last, oracle = result.metrics["last"], result.metrics["oracle"]
    expected = {"f1", "precision", "recall", "f1_tuned", "precision_tuned", "recall_tuned", "threshold", "f1_half"}
    expected |= {"f1_double", "f1_iou", "found_share", "f1_everything", "f1_nothing", "kept"}
    of_others = {f"{m}{end}" for m in ("exclusive_recall", "recall_others") for end in ("", "_everything", "_nothing")}
    assert set(last) == expected | of_others and result.cost["train_s"] > 0
    assert last["recall_others_everything"] == 1 and last["exclusive_recall_nothing"] == 0
    assert last["f1_nothing"] == 0 < last["f1_everything"] < 1 and oracle["f1"] >= last["f1_tuned"]
    assert result.bags["annotated"] == 12 and last["kept"] == 1
    assert result.data == {"made": made.data.sha256()}
    shown = result.curves["shown"]
    assert np.shape(shown["image"]) == (30, 30, 3)
    assert sorted(shown["true"]) == [[3, 4, 13, 14], [5, 24, 15, 34], [22, 8, 32, 18]]

    blind = Material(
        made.data, made.splits, made.annotated | (np.repeat(made.splits, 5) > 0) & made.target, made.annotated
    )
    monkeypatch.setattr(detecting, "material_of", lambda spec: blind)
    assert detect(spec, CPU, {}).metrics["last"]["f1_tuned"] == last["f1_tuned"]


def test_the_corner_of_figure_3_holds_the_boxes_whose_centre_is_inside():
    material = tissue()
    boxes = np.array([[3, 4, 13, 14], [22, 30, 32, 40], [5, 24, 15, 34]], np.float32)
    found = Found(np.array([0, 2, 3]), np.zeros((3, 2), np.float32), boxes, np.array([0.6, 0.9, 0.9], np.float32))
    assert corner(material, found, 20)["found"] == [[3, 4, 13, 14]]
    found.scores[0] = 0.4
    assert corner(material, found, 20)["found"] == []


@pytest.mark.parametrize(("spec", "rounds"), [(WEAK, 3), (ECE, 1)], ids=["weak", "ece"])
def test_a_run_that_was_stopped_in_every_round_goes_on_to_the_same_numbers(made, tmp_path, spec, rounds):
    whole = detect(spec, CPU, {})
    session = {"key": "k", "checkpoint": tmp_path / "run.pt", "checkpoint_every": 0.0}
    update, done = Detector.update, []

    def stopping(self, batch):
        done.append(self.step)
        if len(done) in stops:
            raise KeyboardInterrupt
        return update(self, batch)

    stops = [3, 6, *(9 * number + 4 for number in range(1, rounds))]  # in every round of 8 steps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detector, "update", stopping)
        for _ in stops:
            with pytest.raises(KeyboardInterrupt):
                detect(spec, CPU, session)
        result = detect(spec, CPU, session)
    assert len(done) == rounds * 8 + len(stops)  # no step is taken twice but those that a stop broke off
    assert result.curves == whole.curves
    assert result.metrics == whole.metrics
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]  # which the caller removes


def test_a_deadline_that_has_passed_leaves_nothing(made):
    assert detect(SPEC, CPU, {"deadline": 0.0}) is None
    assert detect(WEAK, CPU, {"deadline": 0.0}) is None


def test_a_diverged_run_is_refused(made):
    with pytest.raises(FloatingPointError, match="training diverged"):
        detect(SPEC.but(learning_rate=float("inf")), CPU, {})


def test_early_learning_regularisation_is_refused_by_name(made):
    with pytest.raises(DatasetError, match="early-learning regularisation"):
        detect(SPEC.but(loss="elr"), CPU, {})
