"""A perceptron with one hidden layer is the head on cached features and on small inputs."""

from __future__ import annotations

from torch import Tensor, nn


class MLP(nn.Module):
    """Map (N, ...) inputs, flattened to `n_inputs` numbers each, to (N, n_classes) logits.

    `features` are the `hidden` rectified units, `last` takes them to the logits.
    """

    def __init__(self, n_inputs: int, hidden: int, n_classes: int):
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, hidden), nn.ReLU())
        self.last = nn.Linear(hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))
