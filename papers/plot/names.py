"""Name the methods of this paper: ``plot/<dataset>/<method>/bag<n>/seed<s>``."""

from __future__ import annotations

from shared.config import Spec


def method(spec: Spec) -> str:
    """Return stage one, and after a + what stage two adds: ``dllp``, ``dllp+continued``, ``dllp+sce+hard``.

    A bare word is the paper's own choice; other ones are said: ``llp_vat_exact`` (no floor under the norm of LLP-VAT's
    gradient), ``sce0.1-1`` (its two weights), ``soft0.1`` (epsilon), ``last1``, ``fresh``, ``instances`` (minibatches).
    """
    first = f"{spec.loss}_exact" if spec.loss == "llp_vat" and not spec.vat_floor else spec.loss
    if spec.second == "none":
        return first
    mixup = "+mixup" if spec.mixup else ""
    if spec.second == "continued":
        return f"{first}+continued{mixup}"
    loss, transport = spec.second_loss, "" if spec.transport == "none" else f"+{spec.transport}"
    if loss == "sce" and (spec.sce_alpha, spec.sce_beta) != (1, 1):
        loss += f"{spec.sce_alpha:g}-{spec.sce_beta:g}"
    if spec.transport == "soft" and spec.epsilon != 1:
        transport += f"{spec.epsilon:g}"
    average = "" if spec.average == 5 else f"+last{spec.average}"
    fresh = "+fresh" if spec.student == "fresh" else ""
    batches = "+instances" if spec.second_batches == "instances" else ""
    return f"{first}+{loss}{transport}{mixup}{average}{fresh}{batches}"


def path(spec: Spec, method: str) -> str:
    """Return the part of a run's id between the paper and the seed."""
    return f"{spec.dataset}/{method}/bag{spec.bag_size}"
