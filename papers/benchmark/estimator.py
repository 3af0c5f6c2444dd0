"""Learn to classify instances from the class proportions of bags, in scikit-learn's manner, by any method of `METHODS`.

>>> from papers.benchmark.estimator import BagClassifier
>>> model = BagClassifier("rot", {"alpha": 0.3}, epochs=30).fit(X, bags, proportions)
>>> labels = model.predict(X)
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import nn

from papers.benchmark.course import Problem, train
from papers.benchmark.methods import course, entry
from papers.benchmark.targets import is_of_bags, read
from shared.bags import BagError, Bags, split
from shared.methods import Method
from shared.networks import MLP
from shared.training import Inputs, axis_seed, bag_loss, predictions, prepare_device

INSTANCES = 128  # in a batch, on average, unless `bags_per_batch` says otherwise


class BagClassifier(ClassifierMixin, BaseEstimator):
    """Classify instances by a network that learned from bags and their class proportions.

    Parameters
    ----------
    method : a name in `papers.benchmark.methods.METHODS`.
    params : its hyper-parameters; those not given have their defaults. ``candidates(method)`` is a grid of them.
    network : module from inputs to (N, K) logits, of which a copy is trained, from its weights on; or a function of
        (shape of one input, K) that returns one; by default a perceptron with `hidden` units.
    epochs, learning_rate, schedule : of training by Adam; schedules are those of `shared.training.Schedule`.
    bags_per_batch : by default as many as hold 128 instances on average.
    classes : (K,) labels of the classes, in the order of the columns of proportions; 0 to K - 1 by default, or, of
        labels, those found.
    validation_fraction : part of the bags to hold out. Training then ends after `patience` epochs without a lower loss
        of these bags, and the epoch of least loss is kept.
    device : cpu, cuda, cuda:N, or auto, which is CUDA where torch sees it.
    random_state : an int is the seed of a run of this repository; equal ones give equal numbers.
    verbose : 1 prints a line an epoch.

    Attributes
    ----------
    classes_ : (K,) labels of the classes.
    method_ : the trained `shared.methods.Method`.
    history_ : {name: a value for each epoch}.
    n_iter_ : epochs trained.
    n_features_in_ : numbers of an input along its first axis.
    """

    def __init__(
        self,
        method: str = "dllp",
        params: dict[str, Any] | None = None,
        *,
        network: nn.Module | Callable[[tuple[int, ...], int], nn.Module] | None = None,
        hidden: int = 64,
        epochs: int = 50,
        bags_per_batch: int | None = None,
        learning_rate: float = 1e-3,
        schedule: str = "cosine",
        classes: Any = None,
        validation_fraction: float = 0.0,
        patience: int = 10,
        device: str = "auto",
        random_state: Any = 0,
        verbose: int = 0,
    ):
        self.method = method
        self.params = params
        self.network = network
        self.hidden = hidden
        self.epochs = epochs
        self.bags_per_batch = bags_per_batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.classes = classes
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, proportions: Any = None) -> BagClassifier:
        """Train on bags.

        Parameters
        ----------
        X : (M, ...) inputs; images as (M, H, W, C) uint8, which are standardised, anything else as a network reads it.
        y : (M,) ids of the instances' bags, beside `proportions`; or `Bags`, or what `bag_targets` made of both; or
            (M,) class labels, without proportions: every instance is then a bag of its own.
        proportions : (B, K) in the order of sorted ids, (B,) of the second of two classes, or a mapping from id to row.

        Raises
        ------
        ValueError, BagError
            In one sentence, for what is no problem over bags, or none that the method can be trained on.
        """
        X = self._inputs(X, reset=True)
        bags, labels = self._bags(y, proportions, len(X))
        for name in ("epochs", "hidden", "patience", "bags_per_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        device = prepare_device(self.device)
        whole = isinstance(self.random_state, int | np.integer)
        seed = int(self.random_state if whole else check_random_state(self.random_state).randint(2**31 - 1))
        bags, held = split(bags, self.validation_fraction, axis_seed(seed, "validation"))
        self._scale = None
        inputs = self._on(X, device)
        if inputs.images:
            self._scale = inputs.mean.tolist(), inputs.std.tolist()
        problem = Problem(
            network=self._network_of(tuple(inputs.batch(bags.indices[:1]).shape[1:]), bags.n_classes),
            inputs=inputs,
            bags=bags,
            epochs=self.epochs,
            bags_per_batch=self.bags_per_batch or max(1, round(INSTANCES / bags.sizes.mean())),
            learning_rate=self.learning_rate,
            seed=seed,
            labels=labels,
        )
        least, best = np.inf, None

        def evaluate(method: Method) -> dict[str, float]:
            nonlocal least, best
            if not len(held):
                return {}
            loss = bag_loss(method, inputs, held)
            if method is stages[-1].method and loss < least:
                least, best = loss, copy.deepcopy(method.state_dict())
            return {"validation_loss": loss}

        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            stages = course(self.method, problem, self.params)
            fitted = train(
                stages,
                problem,
                evaluate,
                schedule=self.schedule,
                patience=self.patience if len(held) else None,
                session={"report": _progress(time.monotonic())} if self.verbose else {},
            )
        assert fitted is not None, "there is no deadline"
        self.method_, self.history_, _ = fitted
        if best is not None:
            self.method_.load_state_dict(best)
        self.n_iter_ = len(self.history_["epoch"])
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the (N, K) class probabilities of inputs, in float32."""
        check_is_fitted(self, "method_")
        inputs = self._on(self._inputs(X, reset=False), prepare_device(self.device))
        return predictions(self.method_, inputs, np.arange(len(inputs))).cpu().numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Return the (N,) likeliest class of each input."""
        chosen = self.predict_proba(X).argmax(1)
        return self.classes_[chosen]

    def score(self, X: Any, y: Any, proportions: Any = None) -> float:
        """Return the accuracy, of labels, or, of bags, minus the loss of their proportions (`kl_loss`, in nats).

        The second asks for no label of an instance, so that models can be selected by it. Arguments as of `fit`.
        """
        check_is_fitted(self, "method_")
        if proportions is None and not is_of_bags(y):
            return super().score(X, y)
        X = self._inputs(X, reset=False)
        bags = read(y, proportions, len(X))
        if bags.n_classes != len(self.classes_):
            raise BagError(f"proportions are of {bags.n_classes} classes, the model was fitted to {len(self.classes_)}")
        return -bag_loss(self.method_, self._on(X, prepare_device(self.device)), bags)

    def _inputs(self, X: Any, reset: bool) -> np.ndarray:
        """X as an array that the network can read, in float32 unless it is images."""
        if isinstance(X, torch.Tensor):
            X = X.detach().cpu().numpy()
        images = getattr(X, "dtype", None) == np.uint8 and getattr(X, "ndim", 0) == 4
        return validate_data(self, X, reset=reset, dtype=np.uint8 if images else np.float32, allow_nd=True)

    def _on(self, X: np.ndarray, device: torch.device) -> Inputs:
        return Inputs(X, device, self._scale)

    def _bags(self, y: Any, proportions: Any, instances: int) -> tuple[Bags, np.ndarray | None]:
        """The bags of y, and the numbers of the classes where y has them; sets `classes_`."""
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None: it says which bag an instance is in")
        if proportions is not None or is_of_bags(y):
            if entry(self.method).role == "ceiling":
                raise ValueError(f"method {self.method!r} learns from the class of every instance: fit(X, labels)")
            bags = read(y, proportions, instances)
            self.classes_ = np.arange(bags.n_classes) if self.classes is None else np.asarray(self.classes)
            if len(self.classes_) != bags.n_classes:
                raise BagError(f"proportions are of {bags.n_classes} classes, and classes names {len(self.classes_)}")
            return bags, None
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        if len(labels) != instances:
            raise ValueError(f"X has {instances} instances and y has {len(labels)} labels")
        self.classes_ = np.unique(labels) if self.classes is None else np.asarray(self.classes)
        order = np.argsort(self.classes_, kind="stable")
        found = np.searchsorted(self.classes_, labels, sorter=order).clip(max=len(order) - 1)
        numbers = order[found]
        other = np.flatnonzero(self.classes_[numbers] != labels)
        if len(other):
            label, known = labels.tolist()[other[0]], self.classes_.tolist()
            raise ValueError(f"label {label!r} of instance {other[0]} is none of the classes {known}")
        alone = Bags(np.arange(instances), np.arange(instances + 1), np.eye(len(self.classes_))[numbers])
        return alone, numbers

    def _network_of(self, shape: tuple[int, ...], n_classes: int) -> Callable[[], nn.Module]:
        network = self.network
        if isinstance(network, nn.Module):
            return partial(copy.deepcopy, network)
        if network is not None:
            return partial(network, shape, n_classes)
        return lambda: MLP(int(np.prod(shape)), self.hidden, n_classes)


def _progress(began: float) -> Callable[[float, dict], None]:
    """Return a report that prints a line an epoch, with how long it will go on."""

    def report(fraction: float, numbers: dict) -> None:
        if numbers:
            left = (time.monotonic() - began) * (1 - fraction) / fraction
            losses = ", ".join(f"{name} {numbers[name]:.4g}" for name in numbers if name.endswith("loss"))
            print(f"epoch {numbers['epoch']} of {numbers['epochs']}: {losses}, about {left:.0f} s left", flush=True)

    return report
