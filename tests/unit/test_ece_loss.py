"""Exclusive cross-entropy against cross-entropy, plain Python and its own definition; rivals; windows."""

import math

import pytest
import torch
from torch.nn import functional

from papers.ece import checks
from papers.ece.checks import check
from papers.ece.criteria import LOSSES, Criterion, criterion_of
from papers.ece.loss import (
    Annealing,
    exclusive,
    exclusive_binary_cross_entropy,
    exclusive_cross_entropy,
    foreground,
    sigmoid_terms,
    softmax_terms,
)
from papers.ece.windows import Window, cut, draw, paste, shift_boxes
from shared.config import plan

CODE = Annealing("code", 0.5, sampling=True)


def problem(seed=0, scale=3.0, size=(2, 2, 8, 9)):
    rng = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(size, generator=rng)).requires_grad_()
    return logits, (torch.rand(size[:1] + size[2:], generator=rng) < 0.2).long()


def of_probability(*p):
    """Two-class logits (1, 2, n) whose foreground probabilities are `p`."""
    p = torch.tensor(p, dtype=torch.float64)
    return torch.stack([torch.zeros_like(p), p.logit()])[None]


# -------------------------------------------------------------------------------------------------------- exclusivity


def test_every_equation():
    """Identity with cross-entropy bit by bit; every switch against a loop in plain Python."""
    found = check(0)
    assert found["identity_value"] == found["identity_gradient"] == 0
    assert max(found.values()) < 1e-10


def test_the_second_derivative_in_time_vanishes_for_confident_positives():
    """Equation 6 as it is: above p = 3/4 exclusion drops what is past the maximum, where the first one is largest."""
    z = torch.linspace(-6, 6, 2001, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(functional.softplus(z).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(-(slope**2).sum(), z)
    p, pace = z.detach().sigmoid(), second * -slope.detach()
    assert float(p[pace.argmax()]) == pytest.approx(0.75, abs=2e-3) and float(pace.max()) == pytest.approx(27 / 128)
    assert float(pace[-1]) < 0.03 * float(pace.max()) and int((slope**2).argmax()) == len(z) - 1


@pytest.mark.parametrize("name", ["_softmax_slope", "_sigmoid_slope", "_softmax_term"])
def test_the_check_sees_a_wrong_derivative(name, monkeypatch):
    """A thousandth more in any hand-made term or slope is a deviation."""
    right = getattr(checks, name)

    def wrong(*args):
        value = right(*args)
        return [1.001 * v for v in value] if isinstance(value, list) else 1.001 * value

    monkeypatch.setattr(checks, name, wrong)
    assert max(check(0).values()) > 1e-6


def test_what_is_dropped_and_what_is_kept():
    """Only unannotated positions with a foreground above the threshold; equality stays, as in the authors' code."""
    logits = of_probability(0.2, 0.5, 0.75, 0.8, 0.9, 0.9)
    target = torch.tensor([[0, 0, 0, 0, 0, 1]])
    terms = exclusive_cross_entropy(logits, target, 0.75)
    whole = functional.cross_entropy(logits, target, reduction="none")
    assert (terms[0, [3, 4]] == 0).all()
    torch.testing.assert_close(terms[0, [0, 1, 2, 5]], whole[0, [0, 1, 2, 5]])


def test_the_margin_drops_confident_background_too():
    logits, target = of_probability(0.02, 0.45, 0.98), torch.zeros(1, 3, dtype=torch.long)
    by_margin = exclusive_cross_entropy(logits, target, 0.5, confidence="margin")[0]
    by_foreground = exclusive_cross_entropy(logits, target, 0.5)[0]
    assert (by_margin != 0).tolist() == [False, True, False]
    assert (by_foreground != 0).tolist() == [True, True, False]


def test_a_known_negative_stays():
    """`annotated` says more than the target: what an expert called background is never dropped."""
    logits, target = of_probability(0.9, 0.9), torch.zeros(1, 2, dtype=torch.long)
    terms = exclusive_cross_entropy(logits, target, 0.5, annotated=torch.tensor([[True, False]]))
    assert terms[0, 0] == pytest.approx(-math.log(0.1)) and terms[0, 1] == 0


def test_dropped_terms_have_no_gradient():
    logits, target = problem()
    terms = exclusive_cross_entropy(logits, target, 0.3, focal_weight=(0.2, 0.1))
    (gradient,) = torch.autograd.grad(terms.sum(), logits)
    dropped = (terms == 0)[:, None].expand_as(gradient)
    assert 0 < dropped.float().mean() < 1
    assert (gradient[dropped] == 0).all() and (gradient[~dropped] != 0).all()


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("confidence", ["foreground", "margin"])
def test_confidence_of_several_classes(classes, confidence):
    logits, _ = problem(size=(2, classes, 30))
    p = logits.detach().softmax(1)
    _, found = softmax_terms(logits, torch.zeros(2, 30, dtype=torch.long), confidence)
    ordered = p.sort(1).values
    expected = p[:, 1:].sum(1) if confidence == "foreground" else ordered[:, -1] - ordered[:, -2]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert not found.requires_grad


@pytest.mark.parametrize("confidence", ["foreground", "margin"])
def test_two_outputs_and_one_agree(confidence):
    """A sigmoid is a softmax with a background output of 0."""
    logits, target = problem(size=(4, 1, 50))
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    options = {"threshold": 0.4, "focal_weight": (0.2, 0.1), "confidence": confidence}
    ours = exclusive_binary_cross_entropy(logits[:, 0], target.float(), **options)
    torch.testing.assert_close(ours, exclusive_cross_entropy(two, target, **options), atol=2e-6, rtol=1e-5)


def test_background_sampling_keeps_the_share_asked_for_and_all_annotated_terms():
    torch.manual_seed(0)
    terms, annotated = torch.ones(100_000), torch.arange(100_000) % 10 == 0
    kept = exclusive(terms, torch.zeros(100_000), annotated, 0.5, keep=0.3)
    assert (kept[annotated] == 1).all()
    assert float(kept[~annotated].mean()) == pytest.approx(0.3, abs=0.005)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("keep", [1.0, 0.2])
@pytest.mark.parametrize("size", [50.0, 200.0])
def test_certain_predictions_have_finite_gradients(gamma, keep, size):
    """(1 - p)^gamma has an infinite derivative at p = 1, which the mask of dropped terms would turn into NaN."""
    torch.manual_seed(0)
    logits = torch.tensor([[[-size, size, 0.0, size]], [[size, -size, 0.0, size]]]).transpose(0, 1).requires_grad_()
    for target in (torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long)):
        terms = exclusive_cross_entropy(logits, target, 0.6, keep=keep, focal_weight=(0.2, gamma))
        one = logits[:, 1]
        binary = exclusive_binary_cross_entropy(one, target.float(), 0.6, keep=keep, focal_weight=(0.2, gamma))
        for loss in (terms.mean(), binary.mean()):
            assert loss.isfinite() and torch.autograd.grad(loss, logits, retain_graph=True)[0].isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_outputs_are_seen(loss):
    """Were a NaN dropped as any unannotated term, the loss would stay finite while the weights are lost."""
    logits, target = torch.full((1, 2, 3), torch.nan), torch.zeros(1, 3, dtype=torch.long)
    criterion = Criterion(loss, Annealing("fixed", 0.5), focal_weight=(0.2, 0.1))
    assert criterion(logits, target, 0.0).isnan().all()
    assert criterion(logits[:, 1], target.float(), 0.0).isnan().all()


def test_the_sigmoid_head_bounds_the_loss_from_below():
    """What the authors' example trains cannot fall below .3133, however sure the network is."""
    logits = 100 * problem()[0].detach()
    target = logits.argmax(1)
    squashed = exclusive_cross_entropy(logits, target, 1.0, head="sigmoid")
    assert squashed.min() >= math.log1p(math.exp(-1)) - 1e-6
    assert exclusive_cross_entropy(logits, target, 1.0).min() < 1e-6
    assert foreground(logits, "sigmoid").max() == pytest.approx(0.7311, abs=1e-4)


def test_refusals():
    logits, target = problem()
    with pytest.raises(ValueError, match=r"\(2, 2, 8, 9\) and \(2, 8\)"):
        softmax_terms(logits, target[:, :, 0], "foreground")
    with pytest.raises(ValueError, match=r"\(2, 2, 8, 9\) and \(2, 8, 9\)"):
        sigmoid_terms(logits, target.float(), "foreground")
    with pytest.raises(ValueError, match="'probability' is not one of foreground, margin"):
        exclusive_cross_entropy(logits, target, 0.5, confidence="probability")
    with pytest.raises(ValueError, match="'tanh' is not one of logit, sigmoid"):
        exclusive_cross_entropy(logits, target, 0.5, head="tanh")
    with pytest.raises(ValueError, match="'cosine' is not one of fixed, linear, sigmoid, code"):
        Annealing("cosine")
    with pytest.raises(ValueError, match="'dice' is not one of ce"):
        Criterion("dice")
    with pytest.raises(ValueError, match="with sigmoids it is 'logit'"):
        Criterion("ce", head="sigmoid")(logits[:, 0], target.float(), 0.0)


# ---------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("kind", ["linear", "sigmoid", "code"])
def test_thresholds_rise(kind):
    times = torch.linspace(0, 0.99, 50).tolist()
    thresholds = [Annealing(kind, 0.5).threshold(t) for t in times]
    assert thresholds == sorted(thresholds) and thresholds[0] < thresholds[-1] <= 1


def test_beta_is_the_exponent_of_the_threshold():
    assert Annealing("fixed", 0.5, beta=2.0).threshold(0.3) == 0.25


def test_a_schedule_cut_off_early_meets_no_background():
    """300 nominal epochs of which 40 are run: next to nothing is kept; mapped onto the run, half the negatives are."""
    whole, cut_off = Annealing("code", 0.5, sampling=True), Annealing("code", 0.5, sampling=True, nominal_epochs=40)
    assert cut_off.keep(0.99) < 1e-5 < 0.49 < whole.keep(0.99)


# ------------------------------------------------------------------------------------------------------------- rivals


def test_focal_loss_of_lin_et_al():
    """-alpha_t (1 - p_t)^gamma log p_t with alpha on positives, on both faces."""
    p = torch.tensor([0.1, 0.6, 0.9, 0.3], dtype=torch.float64)
    target = torch.tensor([0, 0, 1, 1])
    expected = [-0.75 * 0.1**2 * math.log(0.9), -0.75 * 0.6**2 * math.log(0.4)]
    expected += [-0.25 * 0.1**2 * math.log(0.9), -0.25 * 0.7**2 * math.log(0.3)]
    criterion = Criterion("focal", rival_focal=(0.25, 2.0))
    for found in (
        criterion(of_probability(*p.tolist()), target[None], 0.0)[0],
        criterion(p.logit(), target.double(), 0.0),
    ):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_huber_loss_of_the_error_of_p():
    p, target = torch.tensor([0.1, 0.9, 0.1], dtype=torch.float64), torch.tensor([0, 0, 1])
    expected = torch.tensor([0.1**2 / 2, 0.5 * (0.9 - 0.25), 0.5 * (0.9 - 0.25)], dtype=torch.float64)
    criterion = Criterion("huber", huber_delta=0.5)
    torch.testing.assert_close(criterion(of_probability(*p.tolist()), target[None], 0.0)[0], expected)
    torch.testing.assert_close(criterion(p.logit(), target.double(), 0.0), expected)


@pytest.mark.parametrize("loss", ["ce", "weak", "elr"])
def test_losses_whose_terms_are_those_of_cross_entropy(loss):
    logits, target = problem()
    assert torch.equal(Criterion(loss)(logits, target, 0.5), functional.cross_entropy(logits, target, reduction="none"))


def test_the_constant_weight_is_on_unannotated_terms_alone():
    logits, target = problem()
    plain = functional.cross_entropy(logits, target, reduction="none")
    found = Criterion("constant", weight=0.1)(logits, target, 0.5)
    torch.testing.assert_close(found, torch.where(target > 0, plain, 0.1 * plain))


def test_kept_is_the_share_of_unannotated_terms():
    logits, target = of_probability(0.1, 0.9, 0.9, 0.2, 0.9), torch.tensor([[0, 0, 0, 0, 1]])
    criterion = Criterion("ece", Annealing("fixed", 0.75))
    criterion(logits, target, 0.0)
    assert float(criterion.kept) == 0.5
    criterion(logits, torch.ones_like(target), 0.0)
    assert float(criterion.kept) == 1


def test_a_spec_needs_only_what_its_loss_reads():
    segmentation = plan("ece", "paper")[1].spec
    detection = segmentation.but(task="detection")
    assert criterion_of(detection.but(loss="ce")) == Criterion("ce")
    assert criterion_of(detection.but(loss="huber", huber_delta=0.25)) == Criterion("huber", huber_delta=0.25)
    assert criterion_of(detection.but(loss="constant", weight=0.2)).weight == 0.2
    ece = segmentation.but(schedule="code", rho=0.5, beta=1, sampling=True, nominal_epochs=300, confidence="margin")
    ece = ece.but(loss="ece", focal=True, alpha=0.2, gamma=0.1, head="sigmoid")
    assert criterion_of(ece) == Criterion("ece", CODE, "margin", "sigmoid", (0.2, 0.1))
    assert criterion_of(ece.but(focal=False)).focal_weight == (1.0, 0.0)


# ------------------------------------------------------------------------------------------------------------ windows


def test_windows_lie_within_their_images_and_reach_every_place():
    torch.manual_seed(0)
    windows = [window for _ in range(300) for window in draw([(6, 4), (4, 7)], 4)]
    assert {(w.top, w.left) for w in windows[::2]} == {(top, 0) for top in range(3)}
    assert {(w.top, w.left) for w in windows[1::2]} == {(0, left) for left in range(4)}
    assert {w.flips for w in windows} == {(), (-2,), (-1,), (-2, -1)}


def test_a_crop_larger_than_an_image_is_refused():
    with pytest.raises(ValueError, match="image 1 of the batch has 9 x 5 pixels, less than a crop of 8"):
        draw([(8, 8), (9, 5)], 8)


@pytest.mark.parametrize("flips", [(), (-2,), (-1,), (-2, -1)])
def test_boxes_move_with_the_pixels(flips):
    window = Window(3, 2, 6, flips)
    image = torch.zeros(1, 12, 10)
    image[:, 4:7, 3:8] = 1
    inside = cut(image, window)
    top, left, bottom, right = shift_boxes(torch.tensor([[4.0, 3, 7, 8]]), window)[0].int().tolist()
    assert inside.sum() == 15 and inside[:, top:bottom, left:right].all()
    copy = image.clone()
    paste(copy, window, inside * 2)
    assert torch.equal(copy, image * 2)


def test_boxes_are_clipped_or_dropped_by_their_centre():
    window = Window(10, 10, 20)
    boxes = torch.tensor([[6.0, 12, 16, 18], [5, 12, 14, 18], [25, 25, 34, 34], [26, 26, 36, 36]])
    assert shift_boxes(boxes, window).tolist() == [[0, 2, 6, 8], [15, 15, 20, 20]]
    assert shift_boxes(torch.zeros(0, 4), window).shape == (0, 4)


LOGITS, TARGET = torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"threshold": 75}, ValueError, "threshold is a probability from 0 to 1, got 75; of a percentage, pass 0.75"),
        ({"threshold": -0.1}, ValueError, "threshold is a probability"),
        ({"threshold": float("nan")}, ValueError, "threshold is a probability"),
        ({"keep": 50}, ValueError, "keep is a probability from 0 to 1, got 50; of a percentage, pass 0.5"),
        ({"focal_weight": (-1.0, 0.0)}, ValueError, "focal_weight is .* both 0 or more"),
        ({"focal_weight": (1.0, float("nan"))}, ValueError, "focal_weight"),
        ({"logits": LOGITS.tolist()}, TypeError, "logits must be a torch tensor, got list"),
        (
            {"logits": LOGITS.half()},
            TypeError,
            "logits must be in float32 .* got torch.float16; pass logits.fl",
        ),
        ({"logits": LOGITS * torch.nan}, ValueError, "24 of 24 logits are NaN"),
        ({"target": TARGET.float()}, TypeError, "class numbers in int64, got torch.float32; pass target.long"),
        ({"target": TARGET + 3}, ValueError, "targets run from 3 to 3, where each is a class, 0 to 2"),
        ({"target": TARGET - 1}, ValueError, "targets run from -1 to -1"),
        ({"target": TARGET[:, :3]}, ValueError, "need logits"),
        ({"annotated": TARGET}, TypeError, "annotated must be a bool tensor, got torch.int64; pass annotated.bool"),
        ({"annotated": TARGET[:1] > 0}, ValueError, r"annotated must be \(2, 4\), got \(1, 4\)"),
    ],
)
def test_what_is_no_problem_is_refused(changes, error, says):
    """A threshold of 75 made it cross-entropy, in silence."""
    with pytest.raises(error, match=says):
        exclusive_cross_entropy(**({"logits": LOGITS, "target": TARGET, "threshold": 0.5} | changes))


@pytest.mark.parametrize(("target", "says"), [(2.0, "from 2 to 2, where each is from 0 to 1"), (-1.0, "from -1 to -1")])
def test_targets_of_sigmoids_are_probabilities(target, says):
    with pytest.raises(ValueError, match=says):
        exclusive_binary_cross_entropy(torch.zeros(3), torch.full((3,), target), 0.5)
