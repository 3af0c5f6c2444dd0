"""Transport mass between the instances of ragged bags and the classes, batched, on any device.

M instances in B bags, K classes. A problem is a cost (M, K), offsets (B + 1,) that cut the instances into
bags, and proportions (B, K). Every instance has mass 1 and class k of a bag of n has mass n z_k;
`Transport` holds the answer.

Choosing a solver
-----------------
exact
    The linear program, all bags at once, with a certificate; no parameter to set, float64 on the host. Its value
    has the plan for a gradient. Whole n z give whole rows, others split up to K - 1 rows: a plan is no labelling.
    The answer to prefer, and the reference for the others.
unbalanced_sinkhorn
    Entropic, the class marginal a penalty: for proportions that are noisy or to be traded against the
    predictions. The fastest here; a few dozen iterations settle it unless tau is close to 1.
    ``gradient="none"`` when the loss needs only the plan or the envelope theorem, "unrolled" to
    differentiate the iterations.
sinkhorn
    Entropic, the class marginal a constraint: a smooth plan that meets the proportions. Iterations grow as
    epsilon shrinks against the spread of the costs; look at `violation` before believing the value.
round_to_labels, largest_remainder
    Labels with exact counts from any plan, and the counts from proportions.

Pass ``check=False`` in training loops. On a GPU where triton works, all iterations of an entropic solver are one launch
(`shared.transport.fused`), in which TF32 and autocast have no part. Elsewhere torch makes them, and its code is the
reference: it iterates by matrix products on the CPU only; the unrolled gradient is a matrix product anywhere.
"""

from shared.transport.exact import exact
from shared.transport.ragged import check_problem, pad, unpad
from shared.transport.result import Transport
from shared.transport.rounding import largest_remainder, round_to_labels
from shared.transport.sinkhorn import sinkhorn
from shared.transport.unbalanced import unbalanced_sinkhorn

__all__ = [
    "Transport",
    "check_problem",
    "exact",
    "largest_remainder",
    "pad",
    "round_to_labels",
    "sinkhorn",
    "unbalanced_sinkhorn",
    "unpad",
]
