"""Put the losses that are compared into one criterion for maps (softmax) and anchors (sigmoid)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from papers.ece.loss import (
    Annealing,
    check_focal,
    check_probability,
    entering,
    excluded,
    focal,
    sigmoid_terms,
    softmax_terms,
    weighted,
)
from shared.bags.check import check_amounts
from shared.config import Spec

LOSSES = ("ce", "focal", "huber", "weak", "elr", "ece", "constant")


@dataclass
class Criterion:
    """Compute the terms of a loss over annotated and unannotated positions.

    Parameters
    ----------
    loss : "ce"; "focal" (Lin et al. 2017, on all terms); "huber" (of y - p); "constant", cross-entropy with a weight on
        unannotated terms, a control that the paper has not; "ece"; and "weak" and "elr", whose terms are those of "ce":
        what else they do is up to the method.
    annealing, confidence, focal_weight : of "ece", see `papers.ece.loss`.
    head : "logit" or "sigmoid", of all losses under a softmax; under sigmoids only "logit" is defined.
    weight : of the unannotated terms of "constant".
    huber_delta : where "huber" turns from a square to a line; p and y lie in [0, 1].
    rival_focal : (alpha, gamma) of "focal": alpha weighs positives and 1 - alpha negatives, as in Lin et al.

    Attributes
    ----------
    kept : () tensor, the share of the unannotated terms of the last call that were kept; 1 where there are none.
    """

    loss: str
    annealing: Annealing = field(default_factory=lambda: Annealing("fixed", 1.0))
    confidence: str = "foreground"
    head: str = "logit"
    focal_weight: tuple[float, float] = (1.0, 0.0)
    weight: float = 0.1
    huber_delta: float = 0.5
    rival_focal: tuple[float, float] = (0.25, 2.0)
    kept: Tensor = field(default_factory=lambda: torch.ones(()), init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise ValueError(f"loss {self.loss!r} is not one of {', '.join(LOSSES)}")
        check_focal("focal_weight", self.focal_weight)
        check_focal("rival_focal", self.rival_focal)
        check_probability("the alpha of rival_focal", self.rival_focal[0])
        check_amounts(weight=self.weight)
        if not self.huber_delta > 0:
            raise ValueError(f"need huber_delta > 0, got {self.huber_delta}")

    def __call__(self, logits: Tensor, target: Tensor, t: float, annotated: Tensor | None = None) -> Tensor:
        """Return unreduced terms at training time t in [0, 1).

        Parameters
        ----------
        logits, target : (B, K, ...) and (B, ...) int64 for a softmax, or both (...) with a float target in [0, 1] for
            sigmoids; 0 is background and what is not annotated.
        annotated : bool of the target's shape, see `exclusive_cross_entropy`; ``target > 0`` unless told.
        """
        annotated = target > 0 if annotated is None else annotated
        softmax = not target.is_floating_point()
        if not softmax and self.head != "logit":
            raise ValueError(f"head {self.head!r} squashes the inputs of a softmax; with sigmoids it is 'logit'")
        self.kept = torch.ones((), device=logits.device)
        if self.loss in ("focal", "huber"):
            return (self._softmax_rival if softmax else self._sigmoid_rival)(logits, target)
        if softmax:
            terms, confidence = softmax_terms(logits, target, self.confidence, self.head)
        else:
            terms, confidence = sigmoid_terms(logits, target, self.confidence)
        if self.loss == "ece":
            dropped = excluded(confidence, annotated, self.annealing.threshold(t), self.annealing.keep(t))
            # Dropped terms are all unannotated.
            self.kept = 1 - dropped.sum() / (~annotated).sum().clamp_min(1)
            return weighted(terms, annotated, dropped, self.focal_weight)
        return torch.where(annotated, terms, self.weight * terms) if self.loss == "constant" else terms

    def _softmax_rival(self, logits: Tensor, target: Tensor) -> Tensor:
        inputs = entering(logits, self.head)
        if self.loss == "huber":
            one_hot = functional.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits)
            # The mean over classes, which for two classes is the Huber loss of y - p.
            return functional.huber_loss(inputs.softmax(1), one_hot, reduction="none", delta=self.huber_delta).mean(1)
        alpha, gamma = self.rival_focal
        weight = torch.where(target > 0, alpha, 1 - alpha)
        return weight * focal(functional.cross_entropy(inputs, target, reduction="none"), 1.0, gamma)

    def _sigmoid_rival(self, logits: Tensor, target: Tensor) -> Tensor:
        p, target = logits.sigmoid(), target.to(logits)
        if self.loss == "huber":
            return functional.huber_loss(p, target, reduction="none", delta=self.huber_delta)
        alpha, gamma = self.rival_focal
        terms = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        # Targets may be soft, where 1 - p_t is no function of the term alone.
        missed = p + target - 2 * p * target
        return (1 - alpha + (2 * alpha - 1) * target) * missed**gamma * terms


def criterion_of(spec: Spec) -> Criterion:
    """Return the criterion that a spec names; of the options it has only those that its loss reads."""
    options = {"head": spec.head} if "head" in spec else {}
    if spec.loss == "ece":
        annealing = Annealing(spec.schedule, spec.rho, spec.beta, spec.sampling, spec.nominal_epochs)
        options |= {"annealing": annealing, "confidence": spec.confidence}
        options["focal_weight"] = (spec.alpha, spec.gamma) if spec.focal else (1.0, 0.0)
    elif spec.loss == "focal":
        options["rival_focal"] = spec.focal_alpha, spec.focal_gamma
    elif spec.loss == "huber":
        options["huber_delta"] = spec.huber_delta
    elif spec.loss == "constant":
        options["weight"] = spec.weight
    return Criterion(spec.loss, **options)
