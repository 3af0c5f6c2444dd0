"""Register every method once: what it is called, what it needs, its hyper-parameters, and how it trains.

``course("rot", problem, {"alpha": 0.3})`` is what `papers.benchmark.course.train` trains. Adding a method is adding an
entry to `METHODS`: the benchmark, `papers.benchmark.estimator.BagClassifier` and their tests follow from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from papers.benchmark import builders
from papers.benchmark.builders import NEEDS, over_bags, plain
from papers.benchmark.course import Problem, Stage
from papers.benchmark.loss import NOISE
from papers.mle_llp.loss import count_loss
from papers.rot.loss import avgkl_loss, relax_lp_loss, rot_loss
from papers.vp_dsd.learning.feature_label import LABELS, flm_loss
from papers.vp_dsd.loss import mse_loss, vp_loss
from shared.config.files import likeliest
from shared.methods import kl_loss


@dataclass(frozen=True)
class Parameter:
    """Hold a hyper-parameter: its default, the values to choose among, and where these come from."""

    default: Any
    grid: tuple
    source: str


@dataclass(frozen=True)
class Entry:
    """Hold one method.

    Attributes
    ----------
    title : what tables call it.
    source : the paper and its equation.
    build : of (problem, **hyper-parameters) -> its stages, on one network.
    parameters : hyper-parameters by name.
    needs : what not every problem has, keys of `NEEDS`.
    stages : how many it has, at most.
    renews : whether its targets are made anew before each epoch.
    role : "method", or "floor" and "ceiling", which use less or more than the proportions.
    """

    title: str
    source: str
    build: Callable[..., tuple[Stage, ...]]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    stages: int = 1
    renews: bool = False
    role: str = "method"


WARM_UP = {
    "warm_up": Parameter(
        0.125,
        (0.125, 0.5),
        "Pacheco et al. 2024, Section 3: it starts from KL; an eighth in papers/vp_dsd, and half",
    )
}

METHODS: dict[str, Entry] = {
    "supervised": Entry(
        "supervised",
        "cross-entropy to the class of every instance",
        builders.supervised,
        needs=("labels",),
        role="ceiling",
    ),
    "class_prior": Entry(
        "class prior",
        "the shares of the classes among all instances",
        builders.prior_alone,
        role="floor",
    ),
    "dllp": Entry("KL (DLLP)", "Ardehaly & Culotta 2017; Dulac-Arnold et al. 2019, Section 3.1", plain(kl_loss)),
    "mse": Entry("MSE", "Pacheco et al. 2024, Section 3", plain(mse_loss)),
    "avgkl": Entry("AvgKL", "Dulac-Arnold et al. 2019, Section 4.1", plain(avgkl_loss)),
    "rot": Entry(
        "ROT",
        "Dulac-Arnold et al. 2019, Equation 6",
        plain(rot_loss),
        {
            "alpha": Parameter(0.3, (0.1, 0.3, 0.5, 0.7, 0.9), "Section 4.1 of the paper; .3 is that of papers/rot"),
            "epsilon": Parameter(1.0, (1.0,), "Section 4.1"),
            "iterations": Parameter(75, (75,), "Section 4.1"),
            "gradient": Parameter(
                "envelope",
                ("envelope",),
                "Section 3.4 unrolls; ours is its limit, and from it at most (1 - alpha)^75 of the first error: 4e-4",
            ),
        },
    ),
    "exact_lp": Entry(
        "Equation 5, exact",
        "Dulac-Arnold et al. 2019, Equation 5; VP-CE without its warm-up",
        plain(relax_lp_loss),
    ),
    "vp_ce": Entry("VP-CE", "Pacheco et al. 2024, Equation 1", plain(partial(vp_loss, cost="ce")), WARM_UP, stages=2),
    "vp_l2": Entry("VP-L2", "Pacheco et al. 2024, Equation 1", plain(partial(vp_loss, cost="l2")), WARM_UP, stages=2),
    "mle_llp": Entry(
        "MLE-LLP",
        "Barucic & Kybic 2022, Equations 10 and 11; for K classes over a lattice of counts, beyond the paper",
        builders.mle_llp,
        needs=("counts", "small bags"),
        renews=True,
    ),
    "count_likelihood": Entry(
        "count likelihood",
        "Barucic & Kybic 2022, Equation 6, descended itself: beyond the paper",
        plain(count_loss),
        needs=("counts", "small bags"),
    ),
    "flm": Entry(
        "FLM",
        "Yang, Zhang & Lam 2021, as in papers/vp_dsd",
        plain(flm_loss),
        {
            **WARM_UP,
            "match_weight": Parameter(5e-4, (5e-4, 5e-3, 5e-2), "the authors' code; tens and hundreds of it are ours"),
            "entropy_weight": Parameter(0.01, (0.01,), "the authors' code"),
            "share": Parameter(0.03, (0.03,), "the authors' code"),
            "labels": Parameter("every", LABELS, "the authors' code (every) and abstract (predicted)"),
        },
        stages=2,
    ),
    "pc": Entry(
        "PC",
        "La Rosa & Oliveira 2022, as in papers/vp_dsd",
        builders.pc,
        {
            **WARM_UP,
            "noise": Parameter(0.1, (0.03, 0.1, 0.3), "papers/vp_dsd, of standardised inputs; a third, thrice"),
            "temperature": Parameter(0.1, (0.1,), "Caron et al. 2020"),
            "epsilon": Parameter(0.05, (0.05,), "Caron et al. 2020"),
        },
        needs=("features", "vectors"),
        stages=2,
    ),
    "plot": Entry(
        "PLOT on DLLP",
        "Liu et al. 2021, Algorithm 1",
        builders.plot,
        {
            "first": Parameter(0.5, (0.5,), "papers/plot: as many epochs of stage two as of stage one"),
            "rate_times": Parameter(1.0, (1.0, 0.25), "Section 5.2: one rate; a quarter is papers/plot's at length"),
            "second_loss": Parameter("sce", ("sce", "ce"), "Equation 9 and Table 3"),
            "transport": Parameter("hard", ("hard",), "Section 4.2; soft is Equation 7"),
            "epsilon": Parameter(1.0, (1.0,), "assumed: of soft labels alone; the paper gives none"),
            "average": Parameter(5, (5,), "Section 5.3"),
            "mixup": Parameter(0.0, (0.0,), "Section 5.2: none, as in Table 1"),
            "sce_alpha": Parameter(1.0, (1.0,), "Equation 9"),
            "sce_beta": Parameter(1.0, (1.0,), "Equation 9"),
        },
        stages=2,
        renews=True,
    ),
    "llp_vat": Entry(
        "LLP-VAT",
        "Tsai & Lin 2020",
        builders.llp_vat,
        {
            "weight": Parameter(0.05, (0.05, 0.5), "the authors' code; ten times it is ours"),
            "eps": Parameter(
                0.108, (0.108, 0.3), "the authors' code: 6 for the 3,072 numbers of an image, here for the root of one"
            ),
            "xi": Parameter(0.1, (0.1,), "shared/methods/llp_vat.py: what networks without dropout need"),
            "ramp": Parameter(0.4, (0.4,), "the authors' code"),
        },
    ),
    "llp_gan": Entry(
        "LLP-GAN",
        "Liu et al. 2019",
        builders.llp_gan,
        {
            "weight": Parameter(
                20.0, (1.0, 5.0, 20.0, 80.0), "1 is the authors' code; 20 is papers/plot's on features"
            ),
            "noise": Parameter(32, (32,), "papers/vp_dsd; 100 in the authors' code, for images"),
            "width": Parameter(64, (64,), "papers/plot on features; 128 in the authors' code, for images"),
        },
        needs=("features", "generator"),
    ),
    "easy_llp": Entry(
        "EasyLLP",
        "Busa-Fekete et al. 2023, the debiased loss",
        over_bags(builders.easy_llp),
        {"cost": Parameter("ce", ("ce", "l2"), "any loss in the paper; l2 is bounded below, cross-entropy is not")},
    ),
    "llpfc": Entry(
        "LLPFC",
        "Zhang, Wang & Scott 2022, forward correction",
        builders.llpfc,
        {
            "noise": Parameter("uniform", NOISE, "as we remember the paper, its two priors of the noisy labels"),
            "every": Parameter(20, (20, 1), "the paper: groups are drawn anew every 20 epochs; 1 is ours"),
        },
        needs=("groups",),
        renews=True,
    ),
    "mixbag": Entry(
        "MixBag on DLLP",
        "Asanomi et al. 2023, with the confidence interval loss",
        builders.mixbag,
        {
            "weight": Parameter(1.0, (1.0, 0.3), "assumed: as much as the bags themselves, and less"),
            "confidence": Parameter(0.99, (0.99, 0.9), "assumed: 99 %, as we remember the paper, and less"),
        },
    ),
}


def entry(name: str) -> Entry:
    """Return the entry of a method, or raise a ValueError with the likeliest name."""
    if name not in METHODS:
        raise ValueError(f"there is no method {name!r}; {likeliest(name, METHODS)}")
    return METHODS[name]


def defaults(name: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return all hyper-parameters of a method, those not given by default; an unknown one is refused."""
    known = entry(name).parameters
    for key in parameters or {}:
        if key not in known:
            has = likeliest(key, known) if known else "it has none"
            raise ValueError(f"method {name!r} has no hyper-parameter {key!r}; {has}")
    return {key: parameter.default for key, parameter in known.items()} | dict(parameters or {})


def candidates(name: str) -> list[dict[str, Any]]:
    """Return the tuning grid of a method, one mapping a candidate, those keys alone that have several values."""
    varied = {key: parameter.grid for key, parameter in entry(name).parameters.items() if len(parameter.grid) > 1}
    return [dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())]


def lacking(name: str, problem: Problem) -> str:
    """Return in words what a problem lacks for a method; nothing where it can be trained."""
    found = filter(None, (NEEDS[need](problem) for need in entry(name).needs))
    return next((f"method {name!r} cannot be trained here: {reason}" for reason in found), "")


def course(name: str, problem: Problem, parameters: Mapping[str, Any] | None = None) -> tuple[Stage, ...]:
    """Return the stages of a method for `papers.benchmark.course.train`.

    Raises
    ------
    ValueError
        For an unknown method or hyper-parameter, or a problem that lacks what the method needs.
    """
    settings = defaults(name, parameters)
    if reason := lacking(name, problem):
        raise ValueError(reason)
    return entry(name).build(problem, **settings)
