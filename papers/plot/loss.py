"""Learn from pseudo-labels by symmetric cross-entropy (Equations 8 and 9) and mixup (Section 4.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from shared.bags import BagError, check_bags
from shared.bags.check import check_amounts, check_proportions, check_table, check_tensor
from shared.bags.segments import one_size
from shared.methods import Batch, LossMethod
from shared.methods.method import Loss

# What log 0 is: the A of Wang et al. 2019, Section 3.2, and the clamp at 1e-4 of their code, in nats.
LOG_ZERO = {"paper": -4.0, "code": math.log(1e-4)}


def symmetric_cross_entropy(
    log_p: Tensor,
    targets: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    log_zero: float = -4.0,
    check: bool = True,
) -> Tensor:
    """Return the mean over instances of ``alpha CE + beta RCE``.

    CE is ``- sum_k q_k log p_k`` and RCE is ``- sum_k p_k log q_k``.

    Source: Wang et al. 2019, Equation 7; with both weights 1 it is Equation 9 of Liu et al. 2021, whose Section 5.2
    refers to Wang et al. for the hyper-parameters (alpha 0.1 and beta 1 on CIFAR-10, 6 and 0.1 on CIFAR-100).

    Parameters
    ----------
    log_p : (M, K) log-probabilities; -inf is allowed, where the target is positive the loss is then infinite.
    targets : (M, K) labels q, one-hot or soft, rows on the simplex.
    log_zero : what log 0 is in RCE, in nats; see `LOG_ZERO` for the two readings. A target counts as no less than
        ``exp(log_zero)``, as the authors' code clamps it; the paper defines log 0 alone, which on one-hot targets is
        the same.
    check : whether to look at values, too; see `shared.bags.check_bags`, for which each instance is a bag.

    Returns
    -------
    Scalar, in nats. With beta = 0 and alpha = 1 it is cross-entropy. The gradient is finite everywhere.

    Raises
    ------
    TypeError, BagError, ValueError
        When shapes differ, a row of targets is none, a weight is negative, or log_zero is not.
    """
    check_table(log_p, "log_p")
    check_bags(log_p, torch.arange(len(log_p) + 1), targets, values=check)
    return _symmetric(log_p, targets, alpha, beta, log_zero)


def _symmetric(log_p: Tensor, targets: Tensor, alpha: float, beta: float, log_zero: float) -> Tensor:
    if not -math.inf < log_zero < 0:
        raise ValueError(f"need a finite log_zero < 0, got {log_zero}")
    check_amounts(alpha=alpha, beta=beta)
    # 0 log 0 is 0, and so is its gradient.
    forward = -(targets * log_p.masked_fill(targets == 0, 0)).sum(1)
    reverse = -(log_p.exp() * targets.clamp_min(math.exp(log_zero)).log()).sum(1)
    return (alpha * forward + beta * reverse).mean()


def sce_loss(
    log_p: Tensor,
    offsets: Tensor,
    proportions: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    log_zero: float = -4.0,
    check: bool = True,
) -> Tensor:
    """Return `symmetric_cross_entropy` over bags of one instance, whose proportions are the pseudo-labels.

    It takes what `kl_loss` takes and equals it when alpha = 1 and beta = 0; a BagError names a bag of another size.
    """
    check_bags(log_p, offsets, proportions, values=check)
    if len(proportions) != len(log_p):
        sizes = offsets.diff()
        b = int((sizes != 1).nonzero()[0])
        raise BagError(f"bag {b} has {int(sizes[b])} instances; pseudo-labels are those of one instance each")
    return _symmetric(log_p, proportions, alpha, beta, log_zero)


def mixup(
    x: Tensor, targets: Tensor, concentration: float, *, share_weight: bool = True, check: bool = True
) -> tuple[Tensor, Tensor]:
    """Replace every row by ``w row + (1 - w) partner``, inputs and targets alike, w from Beta(a, a).

    Source: Zhang et al. 2018, Equation 1; the partner comes from a random permutation of the minibatch, as in the
    authors' code.

    Parameters
    ----------
    x : (M, ...) inputs; M is B, or B n where bags of n instances follow one another: instance j of a bag is then
        mixed with instance j of the partner bag, so that mixed proportions are those of the mixed instances.
    targets : (B, K) labels or proportions.
    concentration : a >= 0; 0 mixes nothing and draws nothing.
    share_weight : one w for the minibatch, as in the authors' code; otherwise one for each row of targets.
    check : whether to look at values of targets, too, whose rows then sum to 1.

    Returns
    -------
    The mixed x and targets. Drawn from torch's global generator of the host, whatever the device of x.

    Raises
    ------
    TypeError, ValueError
        When a is negative, M is no multiple of B, or x or targets are whole numbers or no tensors.
    """
    for value, name in ((x, "x"), (targets, "targets")):
        check_tensor(value, name)
        if not value.is_floating_point():
            raise TypeError(f"{name} must be floating point to be mixed, got {value.dtype}")
    if check:
        check_proportions(targets, (len(targets), targets.shape[-1]))
    rows = len(targets)
    if not 0 <= concentration < math.inf or rows == 0 or len(x) % rows:
        raise ValueError(f"cannot mix {len(x)} inputs by {rows} targets with Beta({concentration}, {concentration})")
    if concentration == 0:
        return x, targets
    size = len(x) // rows
    weight = torch.distributions.Beta(concentration, concentration).sample(() if share_weight else (rows,))
    partner = torch.randperm(rows)
    member = (partner[:, None] * size + torch.arange(size)).flatten()
    return (
        _towards(x, member, 1 - (weight if share_weight else weight.repeat_interleave(size))),
        _towards(targets, partner, 1 - weight),
    )


def _towards(values: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    # A host scalar stays one: no wait for a device.
    by = (
        weight.item() if weight.dim() == 0 else weight.to(values, non_blocking=True).view(-1, *[1] * (values.dim() - 1))
    )
    return values.lerp(values[partner.to(values.device, non_blocking=True)], by)


class Mixup(LossMethod):
    """A network learns by a loss over bags that were mixed with each other.

    On bags of one instance it is the mixup of Section 4.3, with `sce_loss` or `kl_loss`. On larger bags it is the
    control that the paper has not: stage one, by a proportion loss, with the same augmentation.

    Parameters
    ----------
    concentration, share_weight : see `mixup`. The others are those of `LossMethod`.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        loss: Loss,
        concentration: float,
        share_weight: bool = True,
        autocast: bool = False,
    ):
        super().__init__(network, optimiser, loss, autocast)
        self.concentration, self.share_weight = concentration, share_weight

    def mix(self, batch: Batch) -> Batch:
        """Return the batch after `mixup`; a BagError names a bag of another size than the first."""
        if one_size(batch.offsets) is None:
            sizes = batch.offsets.diff()
            b = int((sizes != sizes[0]).nonzero()[0])
            raise BagError(
                f"bag {b} has {int(sizes[b])} instances and bag 0 has {int(sizes[0])}: "
                "bags are mixed instance by instance and must be of one size"
            )
        x, proportions = mixup(
            batch.x, batch.proportions, self.concentration, share_weight=self.share_weight, check=False
        )
        return Batch(x, batch.offsets, proportions)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from one batch, mixed."""
        return super().update(self.mix(batch))
