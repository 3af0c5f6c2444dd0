"""Exclusive cross-entropy takes sparse labels, wherever cross-entropy serves (Panteli et al. 2021, Eq. 7 and 8).

It needs torch and nothing else of this repository. Terms are returned unreduced: ``.mean()`` over all of them, kept or
not, is the reduction of the authors' example.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CONFIDENCES = ("foreground", "margin")
HEADS = ("logit", "sigmoid")
SCHEDULES = ("fixed", "linear", "sigmoid", "code")


def focal(terms: Tensor, alpha: float, gamma: float) -> Tensor:
    """Return ``u = alpha (1 - exp(-term))^gamma term`` of cross-entropy terms (Lin et al. 2017; Equation 8)."""
    if gamma == 0:
        return terms if alpha == 1 else alpha * terms
    # At p = 1 the power has an infinite derivative if gamma < 1; a mask makes it 0 inf = NaN: hence the clamp.
    missed = (-torch.expm1(-terms)).clamp_min(torch.finfo(terms.dtype).eps)
    # Of a power, in a third of its time.
    return alpha * (gamma * missed.log()).exp() * terms


def check_probability(name: str, value: float) -> None:
    """Refuse what is no number from 0 to 1."""
    if not isinstance(value, numbers.Real | Tensor):
        raise TypeError(f"{name} is a probability from 0 to 1, got {value!r}")
    if not 0 <= value <= 1:
        percent = f"; of a percentage, pass {value / 100:g}" if 1 < value <= 100 else ""
        raise ValueError(f"{name} is a probability from 0 to 1, got {value}{percent}")


def check_focal(name: str, weight: tuple[float, float]) -> None:
    """Refuse what is no (alpha, gamma) of `focal`."""
    if not (isinstance(weight, tuple | list) and len(weight) == 2 and all(0 <= w < math.inf for w in weight)):
        raise ValueError(f"{name} is (alpha, gamma), both 0 or more and finite, got {weight}")


def excluded(confidence: Tensor, annotated: Tensor, threshold: float, keep: float = 1.0) -> Tensor:
    """Return (...) bool: the terms that `exclusive` drops; see there, also for what it raises."""
    check_probability("threshold", threshold)
    check_probability("keep", keep)
    _check_annotated(annotated, confidence)
    dropped = confidence.detach() > threshold
    if keep < 1:
        dropped |= torch.rand(dropped.shape, device=dropped.device) > keep
    return dropped & ~annotated


def exclusive(
    terms: Tensor,
    confidence: Tensor,
    annotated: Tensor,
    threshold: float,
    keep: float = 1.0,
    focal_weight: tuple[float, float] = (1.0, 0.0),
) -> Tensor:
    """Drop what is not annotated and predicted with confidence.

    Source: Equation 8; with `focal_weight` (1, 0), Equation 7. The paper keeps ``confidence < threshold``; equality is
    kept here, as in the authors' code, so that a threshold of 1 drops nothing.

    Parameters
    ----------
    terms : (...) cross-entropy terms, in nats.
    confidence : (...) of each prediction; no gradient flows through it. A NaN is not dropped, for it shall be seen.
    annotated : (...) bool; these terms stay as they are.
    threshold : the unannotated terms of a higher confidence become 0.
    keep : the probability with which each of the others stays (background sampling: in the authors' code, not in the
        paper), drawn from torch's global generator of the device; 1 draws nothing.
    focal_weight : (alpha, gamma) of the unannotated terms, see `focal`.

    Raises
    ------
    TypeError, ValueError
        If threshold or keep is no probability, a focal weight is negative, or `annotated` is not bool of that shape.

    Returns
    -------
    (...) terms, 0 where dropped. With threshold 1, keep 1 and focal_weight (1, 0) they are `terms`.
    """
    return weighted(terms, annotated, excluded(confidence, annotated, threshold, keep), focal_weight)


def weighted(terms: Tensor, annotated: Tensor, dropped: Tensor, focal_weight: tuple[float, float]) -> Tensor:
    """Do the second half of `exclusive`: focal weights on unannotated terms, 0 on those `dropped`."""
    check_focal("focal_weight", focal_weight)
    _check_annotated(annotated, terms)
    if focal_weight != (1.0, 0.0):
        terms = torch.where(annotated, terms, focal(terms, *focal_weight))
    return terms.masked_fill(dropped, 0.0)


def entering(logits: Tensor, head: str) -> Tensor:
    """Return what enters the softmax: the network's outputs, or their sigmoids, as in the authors' example.

    Squashed so, two-class probabilities lie in [.269, .731] and the cross-entropy of a term is .3133 or more.
    """
    if head not in HEADS:
        raise ValueError(f"head {head!r} is not one of {', '.join(HEADS)}")
    return logits.sigmoid() if head == "sigmoid" else logits


def foreground(logits: Tensor, head: str = "logit") -> Tensor:
    """Return the (B, ...) probability that a class other than 0 is there, of (B, K, ...) outputs."""
    return entering(logits, head).softmax(1)[:, 1:].sum(1)


def softmax_terms(logits: Tensor, target: Tensor, confidence: str, head: str = "logit") -> tuple[Tensor, Tensor]:
    """Return (terms, confidence), (B, ...) each, of logits (B, K, ...) and a target (B, ...) int64.

    Parameters
    ----------
    confidence : "foreground" is the p of Equation 7, for K > 2 1 - p_0, since the term is ``-log p_0``; "margin" is the
        difference of the two largest inputs as in the authors' code, so that confident background is dropped too. They
        take it of what enters the softmax, which their example has squashed into [0, 1]; under head "logit", where it
        would have no bound, it is that of the probabilities.
    head : see `entering`.

    Raises
    ------
    ValueError
        When shapes do not fit, or an option is none of those named.
    """
    _check_logits(logits, target)
    if target.dtype not in (torch.int64, torch.uint8):
        raise TypeError(f"need a target of class numbers in int64, got {target.dtype}; pass target.long()")
    if logits.dim() < 2 or logits.shape[:1] + logits.shape[2:] != target.shape:
        raise ValueError(
            f"need logits (B, K, ...) and a target (B, ...), got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    if logits.shape[1] < 2:
        raise ValueError("a softmax over one class is 1 whatever the logit; take exclusive_binary_cross_entropy")
    inputs = entering(logits, head)
    log_p = inputs.log_softmax(1)
    terms = functional.nll_loss(log_p, target, reduction="none")
    if _known(confidence) == "foreground":
        return terms, -torch.expm1(log_p.detach()[:, 0])
    scores = (inputs if head == "sigmoid" else log_p.exp()).detach()
    largest = scores if scores.shape[1] == 2 else scores.topk(2, 1).values
    return terms, (largest[:, 0] - largest[:, 1]).abs()


def sigmoid_terms(logits: Tensor, target: Tensor, confidence: str) -> tuple[Tensor, Tensor]:
    """Return (terms, confidence), (...) each, of logits (...) and a target (...), float in [0, 1].

    Parameters
    ----------
    confidence : "foreground" is p = sigmoid(logit) as in Equation 7; "margin" is ``|2 p - 1|``, the difference of the
        two probabilities. The authors' binary class has the raw input in place of either, which is p only if their
        network ends in a sigmoid.

    Raises
    ------
    ValueError
        When shapes differ, or the option is none of those named.
    """
    _check_logits(logits, target)
    if logits.shape != target.shape:
        raise ValueError(f"need logits and a target of one shape, got {tuple(logits.shape)} and {tuple(target.shape)}")
    terms = functional.binary_cross_entropy_with_logits(logits, target.to(logits), reduction="none")
    p = logits.detach().sigmoid()
    return terms, p if _known(confidence) == "foreground" else (2 * p - 1).abs()


def exclusive_cross_entropy(
    logits: Tensor,
    target: Tensor,
    threshold: float,
    *,
    keep: float = 1.0,
    focal_weight: tuple[float, float] = (1.0, 0.0),
    confidence: str = "foreground",
    head: str = "logit",
    annotated: Tensor | None = None,
    check: bool = True,
) -> Tensor:
    """Return exclusive cross-entropy under a softmax: (B, ...) terms.

    Parameters
    ----------
    logits : (B, K, ...) outputs of the network for K classes; class 0 is the background.
    target : (B, ...) int64; 0 is also what is not annotated.
    threshold, keep, focal_weight : see `exclusive`.
    confidence, head : see `softmax_terms`, which also raises, as `exclusive` does.
    annotated : (B, ...) bool, all of ``target > 0`` and what else is known; that alone unless told.
    check : whether to look at values, too: logits that are not numbers, targets that are no class.
    """
    if check:
        _check_values(logits, target, softmax=True)
    known = target > 0 if annotated is None else annotated
    return exclusive(*softmax_terms(logits, target, confidence, head), known, threshold, keep, focal_weight)


def exclusive_binary_cross_entropy(
    logits: Tensor,
    target: Tensor,
    threshold: float,
    *,
    keep: float = 1.0,
    focal_weight: tuple[float, float] = (1.0, 0.0),
    confidence: str = "foreground",
    annotated: Tensor | None = None,
    check: bool = True,
) -> Tensor:
    """Return exclusive cross-entropy under sigmoids, of anchors or one-channel maps: (...) terms.

    Parameters
    ----------
    logits : (...) outputs of the network.
    target : (...) float in [0, 1]; 0 is also what is not annotated.
    threshold, keep, focal_weight : see `exclusive`.
    confidence : see `sigmoid_terms`, which also raises, as `exclusive` does.
    annotated : (...) bool, all of ``target > 0`` and what else is known; that alone unless told.
    check : whether to look at values, too: logits that are not numbers, targets outside [0, 1].
    """
    if check:
        _check_values(logits, target, softmax=False)
    known = target > 0 if annotated is None else annotated
    return exclusive(*sigmoid_terms(logits, target, confidence), known, threshold, keep, focal_weight)


@dataclass(frozen=True)
class Annealing:
    """Set the threshold of exclusivity, and the share of the background to sample, over training time t in [0, 1).

    Parameters
    ----------
    kind : "fixed" rho, "linear" rho t, "sigmoid" ``s(rho t)`` with s the logistic function (Section 4.2; the paper's
        best), or "code", ``rho s((e - 50) / 10)`` at nominal epoch e, as in the authors' code with rho .5.
    rho : .75 in the paper, .5 in the code.
    beta : exponent of the threshold (Equation 7).
    sampling : keep an unannotated term with probability ``.5 s((e - 150) / 10)`` (the authors' code).
    nominal_epochs : e = t nominal_epochs; 300 in the authors' example, whose checkpoints 50 and 150 and temperature 10
        count in epochs. A shorter training so passes the whole schedule: stopped early, it would meet no background.
    """

    kind: str
    rho: float = 0.75
    beta: float = 1.0
    sampling: bool = False
    nominal_epochs: float = 300.0

    def __post_init__(self):
        if self.kind not in SCHEDULES:
            raise ValueError(f"schedule {self.kind!r} is not one of {', '.join(SCHEDULES)}")

    def threshold(self, t: float) -> float:
        rho = {
            "fixed": self.rho,
            "linear": self.rho * t,
            "sigmoid": _logistic(self.rho * t),
            "code": self.rho * _logistic((t * self.nominal_epochs - 50) / 10),
        }[self.kind]
        return rho**self.beta

    def keep(self, t: float) -> float:
        return 0.5 * _logistic((t * self.nominal_epochs - 150) / 10) if self.sampling else 1.0


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _check_logits(logits: Tensor, target: Tensor) -> None:
    for name, value in (("logits", logits), ("target", target)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}")
    if logits.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"logits must be in float32 or float64, got {logits.dtype}; pass logits.float()")


def _check_annotated(annotated: Tensor, confidence: Tensor) -> None:
    if not isinstance(annotated, Tensor) or annotated.dtype != torch.bool:
        kind = annotated.dtype if isinstance(annotated, Tensor) else type(annotated).__name__
        raise TypeError(f"annotated must be a bool tensor, got {kind}; pass annotated.bool()")
    if annotated.shape != confidence.shape:
        raise ValueError(f"annotated must be {tuple(confidence.shape)}, got {tuple(annotated.shape)}")


def _check_values(logits: Tensor, target: Tensor, softmax: bool) -> None:
    _check_logits(logits, target)
    classes = logits.shape[1] if softmax and logits.dim() > 1 else 2
    wrong = ~(logits < math.inf)  # -inf leaves a class out
    if wrong.any():
        raise ValueError(f"{int(wrong.sum())} of {logits.numel()} logits are NaN or infinite")
    low, high = target.aminmax() if target.numel() else (0, 0)
    if not (low >= 0 and high <= classes - 1):
        allowed = f"a class, 0 to {classes - 1}" if softmax else "from 0 to 1"
        raise ValueError(f"targets run from {float(low):g} to {float(high):g}, where each is {allowed}")


def _known(confidence: str) -> str:
    if confidence not in CONFIDENCES:
        raise ValueError(f"confidence {confidence!r} is not one of {', '.join(CONFIDENCES)}")
    return confidence
