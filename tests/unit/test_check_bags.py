"""What a public loss beyond those over bags, and each option of one, refuses; all were once answered with a number."""

import math

import pytest
import torch

from papers.ece.criteria import Criterion
from papers.ece.loss import exclusive, exclusive_cross_entropy
from papers.mle_llp.lattice import lattice_posterior
from papers.mle_llp.loss import counts_of
from papers.mle_llp.poisson_binomial import binary_posterior
from papers.plot.labels import relabel
from papers.plot.loss import mixup, symmetric_cross_entropy
from papers.rot.loss import rot_loss
from papers.vp_dsd.learning.feature_label import flm_loss, match
from shared.methods import kl_loss
from shared.methods.llp_gan import adversarial_loss, feature_matching
from shared.methods.llp_vat import divergence, perturbation

GENERATOR = torch.Generator().manual_seed(0)
LOG_P = torch.randn(6, 3, generator=GENERATOR).log_softmax(1)
PAIRS = torch.randn(6, 2, generator=GENERATOR).log_softmax(1)
OFFSETS, SHARES = torch.tensor([0, 2, 6]), torch.tensor([[0.5, 0.5, 0], [0.25, 0.25, 0.5]])
COUNTS, BAGS = torch.tensor([[1, 1, 0], [1, 1, 2]]), (LOG_P, OFFSETS, SHARES)
LABELS = torch.eye(3).repeat(2, 1)
MAPS = torch.randn(2, 3, 4, generator=GENERATOR)
TARGET = torch.zeros(2, 4, dtype=torch.int64)

REFUSED = {
    "one count for two bags": (lambda: binary_posterior(PAIRS, OFFSETS, torch.tensor([1])), r"positives \(1,\)"),
    "counts in a list": (lambda: binary_posterior(PAIRS, OFFSETS, [1, 2]), "positives must be a torch tensor"),
    "an empty bag": (lambda: binary_posterior(PAIRS, torch.tensor([0, 0, 6]), torch.tensor([0, 2])), "bag 0: empty"),
    "short offsets": (lambda: binary_posterior(PAIRS, torch.tensor([0, 2, 5]), torch.tensor([1, 2])), "not at M = 6"),
    "half precision": (lambda: lattice_posterior(LOG_P.half(), OFFSETS, COUNTS), "log_p is in float16"),
    "one row for two bags": (lambda: counts_of(SHARES[:1], OFFSETS), r"proportions must be \(2, 3\), got \(1, 3\)"),
    "labels for proportions": (lambda: counts_of(torch.tensor([0, 1]), OFFSETS), "of one label an instance"),
    "proportions in a list": (lambda: counts_of(SHARES.tolist(), OFFSETS), "proportions must be a torch tensor"),
    "mixed counts": (lambda: mixup(LOG_P, 2 * LABELS, 1.0), "bag 0: proportions sum to 2"),
    "mixed class labels": (lambda: mixup(LOG_P, LABELS.argmax(1), 1.0), "targets must be floating point"),
    "mixed bytes": (lambda: mixup(LOG_P.byte(), LABELS, 1.0), "x must be floating point .* got torch.uint8"),
    "an infinite concentration": (lambda: mixup(LOG_P, LABELS, math.inf), "cannot mix"),
    "a negative weight": (lambda: symmetric_cross_entropy(LOG_P, LABELS, alpha=-1.0), "alpha must be .* got -1"),
    "a weight that is NaN": (lambda: symmetric_cross_entropy(LOG_P, LABELS, beta=math.nan), "beta must be .* got nan"),
    "log 0 itself": (lambda: symmetric_cross_entropy(LOG_P, LABELS, log_zero=-math.inf), "finite log_zero"),
    "a share in percent": (lambda: flm_loss(*BAGS, share=3.0), "share is a part .* got 3"),
    "a match weight below 0": (lambda: flm_loss(*BAGS, match_weight=-1.0), "match_weight must be"),
    "unknown labels": (lambda: match(*BAGS, share=0.03, labels="x"), "labels of FLM must be one of"),
    "infinite epsilon": (lambda: rot_loss(*BAGS, alpha=0.5, epsilon=math.inf), "finite epsilon"),
    "relabelling a list": (lambda: relabel(LOG_P.tolist(), OFFSETS, SHARES), "log_p must be a torch tensor"),
    "fakes of fewer classes": (lambda: adversarial_loss(LOG_P, LOG_P[:, :2]), r"real \(6, 3\) and fake \(6, 2\)"),
    "no real instances": (lambda: adversarial_loss(LOG_P[:0], LOG_P), "real has no instances"),
    "fakes that are NaN": (lambda: adversarial_loss(LOG_P, LOG_P * math.nan), "fake of instance 0, class 0 is nan"),
    "one feature for three": (lambda: feature_matching(LOG_P, LOG_P[:, :1]), "do not fit each other"),
    "features in half": (lambda: feature_matching(LOG_P.half(), LOG_P.half()), "real is in float16"),
    "one row for six": (lambda: divergence(LOG_P, LOG_P[:1]), r"log_p \(6, 3\) and log_q \(1, 3\)"),
    "divergence of logits": (lambda: divergence(LOG_P, LOG_P + 3), "log_q of .*no log-probability"),
    "no power iteration": (lambda: perturbation(torch.nn.Linear(3, 3), LOG_P, LOG_P, iterations=0), "iterations >= 1"),
    "no step": (lambda: perturbation(torch.nn.Linear(3, 3), LOG_P, LOG_P, xi=0.0), "need xi > 0"),
    "a threshold in words": (lambda: exclusive_cross_entropy(MAPS, TARGET, "0.5"), "a probability .* got '0.5'"),
    "an infinite focal weight": (
        lambda: exclusive_cross_entropy(MAPS, TARGET, 0.5, focal_weight=(1.0, math.inf)),
        "focal_weight is",
    ),
    "one focal weight": (lambda: exclusive_cross_entropy(MAPS, TARGET, 0.5, focal_weight=2.0), "focal_weight is"),
    "a softmax over one class": (lambda: exclusive_cross_entropy(MAPS[:, :1], TARGET, 0.5), "over one class"),
    "infinite logits": (lambda: exclusive_cross_entropy(MAPS * math.inf, TARGET, 0.5), "are NaN or infinite"),
    "short targets": (lambda: exclusive_cross_entropy(MAPS, TARGET.int(), 0.5), "pass target.long"),
    "one row of terms for two": (lambda: exclusive(MAPS[:1, 0], MAPS[:, 0], TARGET > 0, 0.5), "annotated must be"),
    "a negative constant": (lambda: Criterion("constant", weight=-1.0), "weight must be"),
    "focal alpha in percent": (lambda: Criterion("focal", rival_focal=(25.0, 2.0)), "pass 0.25"),
    "huber of no width": (lambda: Criterion("huber", huber_delta=0.0), "huber_delta > 0"),
    "a sparse tensor": (lambda: kl_loss(LOG_P, OFFSETS, SHARES.to_sparse()), "sparse; pass proportions.to_dense"),
}


@pytest.mark.parametrize(("call", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_problem_is_refused_in_a_sentence(call, says):
    with pytest.raises((TypeError, ValueError), match=says):
        call()


def test_under_autocast_a_loss_is_told_the_precision():
    """Log-softmax leaves autocast in float32; what stays in bfloat16 is refused, not summed."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = LOG_P @ torch.eye(3)
        with pytest.raises(TypeError, match="log_p is in bfloat16, too coarse"):
            kl_loss(logits, OFFSETS, SHARES)
        assert kl_loss(logits.float().log_softmax(1), OFFSETS, SHARES).dtype == torch.float32
