"""Check Equations 2, 7 and 8 and the schedules in float64 on random predictions; no training."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch.nn import functional

from papers.ece.criteria import Criterion
from papers.ece.loss import CONFIDENCES, HEADS, Annealing, exclusive_binary_cross_entropy, exclusive_cross_entropy

FOCAL = ((1.0, 0.0), (0.2, 0.1), (0.25, 2.0))
THRESHOLDS = (0.05, 0.5, 0.75)
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
    constant : of the control "constant" from cross-entropy with class weights.
    bound : of the least term of two classes under head "sigmoid" from log(1 + 1/e) = .3133.
    schedules : of thresholds and shares kept from values worked out by hand, at nominal epochs 0, 50, 150 and 300.
    """
    rng = torch.Generator().manual_seed(seed)
    worst = dict.fromkeys(("identity_value", "identity_gradient", "terms", "constant", "bound", "schedules"), 0.0)

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
            options = {"focal_weight": weight, "confidence": confidence, "head": head}
            ours = exclusive_cross_entropy(logits, target, threshold, **options)
            columns = zip(inputs[0].T.tolist(), target[0].tolist(), strict=True)
            note(
                "terms",
                ours
                - torch.tensor([_softmax_term(*column, *switches, head) for column in columns], dtype=torch.float64),
            )
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
        places = zip(logits.tolist(), target.tolist(), strict=True)
        note("terms", ours - torch.tensor([_sigmoid_term(*place, *switches) for place in places], dtype=torch.float64))

    extreme = torch.tensor([[-1e3, 1e3]], dtype=torch.float64)
    least = exclusive_cross_entropy(extreme, torch.tensor([1]), 1.0, head="sigmoid")
    note("bound", least - math.log1p(math.exp(-1)))
    for epoch, thresholds, kept in SCHEDULED:
        for kind, threshold in thresholds.items():
            annealing = Annealing(kind, 0.5 if kind == "code" else 0.75, sampling=True)
            note("schedules", annealing.threshold(epoch / 300) - threshold)
            note("schedules", annealing.keep(epoch / 300) - kept)
    return worst


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
