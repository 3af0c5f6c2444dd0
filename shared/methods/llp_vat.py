"""LLP-VAT joins the proportion loss and virtual adversarial consistency (Tsai & Lin, ACML 2020; Miyato et al. 2018)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.bags.check import check_amounts, check_logs, check_pair
from shared.methods.method import Batch, LossMethod, tracking, untracked
from shared.methods.proportion import kl_loss


def sigmoid_ramp(step: int, ramp_steps: float) -> float:
    """Return ``exp(-5 (1 - t)^2)``, t = step / ramp_steps, and 1 from `ramp_steps` on. Source: Laine & Aila 2017."""
    return math.exp(-5 * (1 - step / ramp_steps) ** 2) if step < ramp_steps else 1.0


def _unit(v: Tensor, floor: float = 0.0) -> Tensor:
    """v / (|v| + floor) for each instance, its norm over all its numbers; zero where v is zero."""
    axes = tuple(range(1, v.ndim))
    # The norm in float64, where the squares of small gradients do not underflow.
    norm = (torch.linalg.vector_norm(v, dim=axes, keepdim=True, dtype=torch.float64) + floor).to(v.dtype)
    return v / torch.where(norm > 0, norm, 1)


def divergence(log_p: Tensor, log_q: Tensor, *, check: bool = True) -> Tensor:
    """Return KL(p || q) of (M, K) log-probabilities: a sum over classes, the mean over instances; a scalar, in nats.

    A BagError or TypeError says what is none; `check` is whether to look at values, too.
    """
    check_pair(log_p, log_q, ("log_p", "log_q"), values=check, rows=True)
    if check:
        for table, name in ((log_p, "log_p"), (log_q, "log_q")):
            check_logs(table, torch.tensor([0, len(table)]), name)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def perturbation(
    network: nn.Module,
    x: Tensor,
    log_p: Tensor,
    eps: float = 6.0,
    xi: float = 1e-6,
    iterations: int = 1,
    floor: float = 0.0,
) -> Tensor:
    """Return the step on which `network` leaves log_p fastest: ``eps d``.

    Here d is the normalised gradient of KL(p || p(x + xi d)) at a random d, in float32 (or float64, if x is) even under
    autocast. Neither the weights' gradients nor running statistics move.
    Source: Miyato et al. 2018, Section 3.3. See `LLPVAT` for the parameters.

    Parameters
    ----------
    x : (M, ...) inputs.
    log_p : (M, K) log-probabilities to leave, without gradient.

    Returns
    -------
    Like x; each instance's has norm `eps`, or is zero where the gradient is.
    """
    check_amounts(eps=eps, xi=xi, floor=floor)
    if xi == 0 or iterations < 1:
        raise ValueError(f"need xi > 0 and iterations >= 1, got {xi} and {iterations}")
    d = _unit(torch.randn_like(x))
    with untracked(network), torch.autocast(x.device.type, enabled=False):
        for _ in range(iterations):
            moved = (x + xi * d).requires_grad_()
            # The release differentiates by d, which is xi times as much: hence floor / xi.
            (gradient,) = torch.autograd.grad(divergence(log_p, network(moved).log_softmax(1), check=False), moved)
            d = _unit(gradient, floor / xi)
    return eps * d


class LLPVAT(LossMethod):
    """Learn by `kl_loss` and, ramped up, KL(p(x) || p(x + r)): no small step r, not even the worst, should change p.

    One `update` is four passes in training mode, each with its own dropout, as in the release: for the proportion loss
    (there the last); for p(x), in float32 and without gradient; for r, in float32, one for each of `iterations`; at
    x + r. The first two move batch normalisation's running statistics, the others do not. (So the release intends;
    under the torch 1.1 that it asks for, all four do, see pytorch#20967.) Where the first draws nothing and there are
    no such statistics, the second would repeat it and is left out. The divergence is a mean over all instances,
    whatever their bags.

    What `xi` finds depends on dropout. Mean cosine between the directions that float32 and float64 find, from the same
    start and with the same masks, for an MLP on images and a CNN-13 of width 16, untrained and after 30 to 210 steps:

    - Without dropout 0.00 to 0.04 at xi 1e-6, 0.8 to 0.97 at 1e-4, 1.00 from 1e-2 on. At 1e-6 the divergence is at its
      minimum but for rounding, and r is a random direction: give such networks 0.01 to 0.1. Copies of the release use
      10.
    - With dropout 1.00 at any xi. The passes for p(x) and r have different masks, so r is the direction in which their
      disagreement grows, whatever the start. Miyato et al. seed the masks of all passes alike.

    At 1e-6 x + xi d is x in half precision, and in TF32, which torch may choose for convolutions on a GPU.

    How long r is depends on `floor`. With 0 its norm is `eps` exactly, as in the paper and in the code of Miyato et al.
    The release adds 1e-8 to the norm by which it divides a gradient by d, of a mean over N instances: xi / N times g,
    the norm by the input for one instance. ``floor=1e-8`` is its rule and leaves g / (g + 1e-8 N / xi) of `eps`. At
    its xi of 1e-6 that is far from all: for CNN-13s of width 12 and 16 with dropout 1 to 5 % untrained, up to 15 %
    after 210 steps and 6 to 11 % after training; without dropout 1e-8. From xi 1 on the two agree to 1 %.

    Parameters
    ----------
    network : module from (M, ...) inputs to (M, K) logits.
    ramp_steps : updates until the consistency has its full weight, see `sigmoid_ramp`; 40 % of all in the release.
    weight : of the consistency; 0 leaves its passes out and is DLLP bit for bit.
    eps : norm of r over all numbers of an instance, in units of x. The release's 6 is of inputs with a standard
        deviation of 1 a number; for others multiply it, and xi, by theirs.
    xi : norm of the step at which the gradient is taken, in units of x.
    iterations : power iterations.
    floor : added to the norm by which a gradient is divided; 1e-8 in the release.
    autocast : bool
        Run the first and the last pass in bfloat16; log-probabilities and losses stay in float32.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        ramp_steps: float,
        weight: float = 0.05,
        eps: float = 6.0,
        xi: float = 1e-6,
        iterations: int = 1,
        floor: float = 0.0,
        autocast: bool = False,
    ):
        super().__init__(network, optimiser, kl_loss, autocast)
        self.ramp_steps, self.weight, self.step = ramp_steps, weight, 0
        self.eps, self.xi, self.iterations, self.floor = eps, xi, iterations, floor

    def _consistency(self, x: Tensor, log_p: Tensor | None = None) -> Tensor:
        if log_p is None:
            with torch.no_grad():
                log_p = self.network(x).log_softmax(1)
        r = perturbation(self.network, x, log_p, self.eps, self.xi, self.iterations, self.floor)
        with untracked(self.network):
            return divergence(log_p, self._log_p(x + r), check=False)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step; `consistency_loss` is before its weight."""
        self._tell(True)
        before = torch.get_rng_state()
        log_p = self._log_p(batch.x)
        proportion = self.loss(log_p, batch.offsets, batch.proportions)
        loss, consistency = proportion, torch.zeros_like(proportion)
        if self.weight:
            drew = not batch.x.is_cpu or not torch.equal(before, torch.get_rng_state())
            repeats = not (drew or self.autocast or tracking(self.network))
            consistency = self._consistency(batch.x, log_p.detach() if repeats else None)
            loss = proportion + self.weight * sigmoid_ramp(self.step, self.ramp_steps) * consistency
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        scalars = {"loss": loss, "proportion_loss": proportion, "consistency_loss": consistency}
        return {name: value.detach() for name, value in scalars.items()}

    def state_dict(self) -> dict:
        return {**super().state_dict(), "step": self.step}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.step = state["step"]
