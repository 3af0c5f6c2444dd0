"""Put exclusive cross-entropy over anchors where ultralytics' loss has binary cross-entropy (Equations 7 and 8)."""

from __future__ import annotations

from torch import Tensor, nn

from papers.ece.criteria import Criterion


class AnchorTerms(nn.Module):
    """Offer a `Criterion` as the `bce` module of ultralytics' detection loss.

    Annotated is an anchor with a target score, the overlap with the object it is assigned to; every other anchor is
    unannotated: background, or an object that nobody marked.

    Attributes
    ----------
    t : training time in [0, 1), to be set before each step.
    kept : () tensor, the share of the unannotated terms of the last call that were kept.
    """

    def __init__(self, criterion: Criterion):
        super().__init__()
        self.criterion, self.t = criterion, 0.0

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return (B, A, K) terms of (B, A, K) logits and target scores in [0, 1]."""
        annotated = (targets > 0).any(2, keepdim=True).expand_as(targets)
        return self.criterion(scores, targets, self.t, annotated)

    @property
    def kept(self) -> Tensor:
        return self.criterion.kept
