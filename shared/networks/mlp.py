"""A perceptron with one hidden layer: the head on cached features and on small inputs."""

from __future__ import annotations

from torch import Tensor, nn


class MLP(nn.Module):
    """(N, ...) inputs, flattened to `n_inputs` numbers each -> (N, n_classes) logits."""

    def __init__(self, n_inputs: int, hidden: int, n_classes: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, hidden), nn.ReLU(), nn.Linear(hidden, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
