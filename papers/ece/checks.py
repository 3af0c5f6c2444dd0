"""Check Equations 2 to 8 and the schedules in float64 on random predictions, slopes against autograd; no training."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch.nn import functional

from papers.ece.criteria import Criterion
from papers.ece.loss import CONFIDENCES, HEADS, Annealing, exclusive_binary_cross_entropy, exclusive_cross_entropy

FOCAL = ((1.0, 0.0), (0.2, 0.1), (0.25, 2.0))
THRESHOLDS = (0.05, 0.5, 0.75)
DEVIATIONS: tuple[str, ...] = ("identity_value", "identity_gradient", "terms", "gradient", "bias", "pace")
DEVIATIONS += ("constant", "bound", "schedules")
# By hand: nominal epoch, thresholds of the paper's three schedules with rho .75 and of the code's with .5, share kept.
SCHEDULED = (
    (0, {"fixed": 0.75, "linear": 0.0, "sigmoid": 0.5, "code": 0.003346425462}, 1.529511e-7),
    (50, {"fixed": 0.75, "linear": 0.125, "sigmoid": 0.531209373373, "code": 0.25}, 2.269894e-5),
    (150, {"fixed": 0.75, "linear": 0.375, "sigmoid": 0.592666599954, "code": 0.499977301067}, 0.25),
    (300, {"fixed": 0.75, "linear": 0.75, "sigmoid": 0.679178699175, "code": 0.499999999993}, 0.4999998470489),
)


def check(seed: int, positions: int = 40) -> dict[str, float]:
    """Return the largest deviations over random predictions; of `positions` about a third are annotated.

    Returns
    -------
    identity_value, identity_gradient : of exclusive cross-entropy with threshold 1, all terms kept and no focal weight,
        from torch's cross-entropy under softmax (2 and 4 classes, both heads) and under sigmoids.
    terms : of both faces, over all switches, from plain Python, one position after another.
    gradient : of the same by autograd, from the derivative of Equation 8 worked out by hand.
    bias : of the loss, less its rightly labelled terms, from Equations 3 and 4, and of its gradient from theirs.
    pace : of the second derivative of Equation 7 with respect to time, by autograd, from Equation 6; see `_pace`.
    constant : of the control "constant" from cross-entropy with class weights.
    bound : of the least term of two classes under head "sigmoid" from log(1 + 1/e) = .3133.
    schedules : of thresholds and shares kept from values worked out by hand, at nominal epochs 0, 50, 150 and 300.
    """
    rng = torch.Generator().manual_seed(seed)
    worst = dict.fromkeys(DEVIATIONS, 0.0)

    def note(name: str, deviation) -> None:
        worst[name] = max(worst[name], float(torch.as_tensor(deviation).detach().abs().max()))

    def compare(ours, plain, logits) -> None:
        note("identity_value", ours - plain)
        of_ours, of_plain = (torch.autograd.grad(terms.mean(), logits)[0] for terms in (ours, plain))
        note("identity_gradient", of_ours - of_plain)

    for classes, head in product((2, 4), HEADS):
        logits = 3 * torch.randn(1, classes, positions, generator=rng, dtype=torch.float64).requires_grad_()
        drawn = torch.randint(1, classes, (1, positions), generator=rng)
        target = torch.where(torch.rand(1, positions, generator=rng) < 0.3, drawn, 0)
        inputs = logits.sigmoid() if head == "sigmoid" else logits
        plain = functional.cross_entropy(inputs, target, reduction="none")
        compare(exclusive_cross_entropy(logits, target, 1.0, head=head), plain, logits)
        for switches in product(THRESHOLDS, FOCAL, CONFIDENCES):
            threshold, weight, confidence = switches
            ours = exclusive_cross_entropy(
                logits, target, threshold, focal_weight=weight, confidence=confidence, head=head
            )
            columns = list(zip(inputs[0].T.tolist(), target[0].tolist(), strict=True))
            note("terms", ours - _float64([_softmax_term(*column, *switches, head) for column in columns]))
            slopes = _float64([_softmax_slope(*column, *switches, head) for column in columns]).T
            note("gradient", torch.autograd.grad(ours.sum(), logits)[0] - slopes)
        weights = torch.tensor([0.1] + [1.0] * (classes - 1), dtype=torch.float64)
        constant = Criterion("constant", head=head, weight=0.1)(logits, target, 0.0)
        note("constant", constant - functional.cross_entropy(inputs, target, weights, reduction="none"))

    logits = 3 * torch.randn(positions, generator=rng, dtype=torch.float64).requires_grad_()
    target = (1.4 * torch.rand(positions, generator=rng, dtype=torch.float64) - 0.9).clamp_min(0)
    plain = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    compare(exclusive_binary_cross_entropy(logits, target, 1.0), plain, logits)
    for switches in product(THRESHOLDS, FOCAL, CONFIDENCES):
        threshold, weight, confidence = switches
        ours = exclusive_binary_cross_entropy(logits, target, threshold, focal_weight=weight, confidence=confidence)
        places = list(zip(logits.tolist(), target.tolist(), strict=True))
        note("terms", ours - _float64([_sigmoid_term(*place, *switches) for place in places]))
        slopes = _float64([_sigmoid_slope(*place, *switches) for place in places])
        note("gradient", torch.autograd.grad(ours.sum(), logits)[0] - slopes)
    note("bias", _bias(logits.detach(), rng))
    for threshold in (*THRESHOLDS, 1.0):
        note("pace", _pace(logits.detach(), target > 0, threshold))

    extreme = torch.tensor([[-1e3, 1e3]], dtype=torch.float64)
    least = exclusive_cross_entropy(extreme, torch.tensor([1]), 1.0, head="sigmoid")
    note("bound", least - math.log1p(math.exp(-1)))
    for epoch, thresholds, kept in SCHEDULED:
        for kind, threshold in thresholds.items():
            annealing = Annealing(kind, 0.5 if kind == "code" else 0.75, sampling=True)
            note("schedules", annealing.threshold(epoch / 300) - threshold)
            note("schedules", annealing.keep(epoch / 300) - kept)
    return worst


def _float64(values: list) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _bias(logits: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Return deviations of what wrong labels add to cross-entropy from Equation 3, and after a round from Equation 4.

    Equation 3 is of the objects that nobody annotated and that are taken for background, Equation 4 of those that
    pseudo-labels have missed, and of background with a pseudo-label. Of the last the paper prints log(1 - p); the term
    of a positive label is -log p, which is taken here.
    """
    logits = logits.clone().requires_grad_()
    p, drawn = logits.sigmoid(), torch.rand(3, len(logits), generator=rng)
    objects, annotated = drawn[0] < 0.5, drawn[1] < 0.5
    pseudo = (drawn[2] < 0.5) & ~(objects & annotated)
    found = []
    for positive in (objects & annotated, objects & annotated | pseudo):
        right = positive == objects
        terms = Criterion("ce")(logits, positive.double(), 0.0)
        of_objects, of_background = (~right & objects), (~right & ~objects)
        bias = -(1 - p[of_objects]).log().sum() - p[of_background].log().sum()
        found.append(terms.sum() - terms[right].sum() - bias)
        slope = torch.where(of_objects, p, torch.where(of_background, p - 1, 0.0))
        found.append(torch.autograd.grad(terms.sum() - terms[right].sum(), logits, retain_graph=True)[0] - slope)
    return torch.cat([deviation.flatten() for deviation in found]).detach()


def _pace(logits: torch.Tensor, annotated: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return deviations of the second derivative of Equation 7 in time from Equation 6, p^m (1 - p)^n.

    Every logit z follows the gradient, dz/dt = -dL/dz, as if it were a parameter. Of an unannotated term, -log(1 - p),
    then dL/dt = -p^2 and d^2 L/dt^2 = 2 p^3 (1 - p); of an annotated one the same with 1 - p for p (the two sides of
    Equation 5); of a dropped one both are 0. The derivative that the paper wants small is largest at p = 3/4 and
    vanishes by itself as p tends to 1, where dL/dt, which dropping the term takes away, is largest.
    """
    logits = logits.clone().requires_grad_()
    terms = exclusive_binary_cross_entropy(logits, annotated.double(), threshold)
    (slope,) = torch.autograd.grad(terms.sum(), logits, create_graph=True)
    (faster,) = torch.autograd.grad(-(slope**2).sum(), logits)
    p = logits.detach().sigmoid()
    wrong = torch.where(annotated, 1 - p, p)
    expected = (2 * wrong**3 * (1 - wrong)).masked_fill(~annotated & (p > threshold), 0.0)
    return faster * -slope.detach() - expected


def _softmax_term(inputs: list[float], target: int, threshold, weight, confidence, head) -> float:
    """Return Equation 8 at one position, of what enters the softmax."""
    total = sum(math.exp(x) for x in inputs)
    p = [math.exp(x) / total for x in inputs]
    if target > 0:
        return -math.log(p[target])
    second, first = sorted(inputs if head == "sigmoid" else p)[-2:]
    if (first - second if confidence == "margin" else 1 - p[0]) > threshold:
        return 0.0
    return _reweighted(1 - p[0], weight)


def _sigmoid_term(logit: float, target: float, threshold, weight, confidence) -> float:
    p = 1 / (1 + math.exp(-logit))
    if target > 0:
        return -target * math.log(p) - (1 - target) * math.log(1 - p)
    if (abs(p - (1 - p)) if confidence == "margin" else p) > threshold:
        return 0.0
    return _reweighted(p, weight)


def _reweighted(p: float, weight: tuple[float, float]) -> float:
    alpha, gamma = weight
    return -alpha * p**gamma * math.log(1 - p)


def _softmax_slope(inputs: list[float], target: int, threshold, weight, confidence, head) -> list[float]:
    """Return the derivative of Equation 8 at one position with respect to each output of the network."""
    total = sum(math.exp(x) for x in inputs)
    p = [math.exp(x) / total for x in inputs]
    # Of the term with respect to log p of its class, times that of log p with respect to each input.
    outer = -1.0 if target > 0 else -_slope(1 - p[0], weight)
    if target == 0 and _softmax_term(inputs, target, threshold, weight, confidence, head) == 0.0:
        outer = 0.0
    slopes = [outer * ((k == target) - p[k]) for k in range(len(p))]
    return [s * x * (1 - x) for s, x in zip(slopes, inputs, strict=True)] if head == "sigmoid" else slopes


def _sigmoid_slope(logit: float, target: float, threshold, weight, confidence) -> float:
    p = 1 / (1 + math.exp(-logit))
    if target > 0:
        return p - target
    return _slope(p, weight) * p if _sigmoid_term(logit, target, threshold, weight, confidence) else 0.0


def _slope(p: float, weight: tuple[float, float]) -> float:
    """Return the derivative of `_reweighted` with respect to -log(1 - p)."""
    alpha, gamma = weight
    return alpha * (p**gamma - gamma * p ** (gamma - 1) * (1 - p) * math.log(1 - p))
